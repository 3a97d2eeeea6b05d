"""What belongs to the platform and is not the owners' to change: its namespaces and its priority classes.

Kubernetes itself, clouds, OpenShift, storage and network systems and node agents bring pods that tolerate every taint,
run privileged and rank above all workloads, because they must. A declared team's namespace is never the platform's,
whatever its name. A set-up adds its own under ``platform``.
"""

from fnmatch import fnmatchcase
from typing import NamedTuple

from conformance.reference.model import Reference


class PlatformPart(NamedTuple):
    """One system: patterns of its namespaces and of its priority classes, and the document that names them."""

    title: str
    namespaces: tuple[str, ...]
    priority_classes: tuple[str, ...] = ()
    source: str = ""


PARTS = (
    PlatformPart(
        "Kubernetes", ("kube-*",), ("system-*",), "kubernetes.io: Guaranteed Scheduling For Critical Add-On Pods"
    ),
    PlatformPart(
        "OpenShift",
        ("openshift-*", "openshift"),
        ("openshift-user-critical",),
        "docs.redhat.com: OpenShift, Including pod priority in pod scheduling decisions",
    ),
    PlatformPart(
        "GKE",
        ("gke-*", "gmp-system", "gmp-public", "config-management-*", "gke-managed-*", "asm-system"),
        ("gmp-critical", "gke-*"),
        "cloud.google.com: GKE, Managed Service for Prometheus (PriorityClass gmp-critical)",
    ),
    PlatformPart(
        "EKS",
        ("amazon-cloudwatch", "amazon-guardduty", "amazon-network-flow-monitor", "aws-observability"),
        (),
        "docs.aws.amazon.com: EKS add-ons",
    ),
    PlatformPart(
        "AKS",
        ("aks-*", "app-routing-system", "gatekeeper-system", "azure-*"),
        (),
        "learn.microsoft.com: AKS add-ons and extensions",
    ),
    PlatformPart("Calico", ("calico-*", "tigera-*"), (), "docs.tigera.io: Calico, namespaces of the operator"),
    PlatformPart("Cilium", ("cilium*",), (), "docs.cilium.io: Installation"),
    PlatformPart("Flannel", ("kube-flannel",), (), "github.com/flannel-io/flannel: Documentation/kube-flannel.yml"),
    PlatformPart("MetalLB", ("metallb-system",), (), "metallb.io: Installation"),
    PlatformPart("Longhorn", ("longhorn-system",), ("longhorn-critical",), "longhorn.io: Priority Class"),
    PlatformPart("Rook", ("rook-ceph*",), (), "rook.io: Quickstart"),
    PlatformPart("OpenEBS", ("openebs",), (), "openebs.io: Installation"),
    PlatformPart("Portworx", ("portworx",), (), "docs.portworx.com: Installation"),
    PlatformPart(
        "Node Problem Detector", ("node-problem-detector",), (), "github.com/kubernetes/node-problem-detector"
    ),
    PlatformPart("NVSentinel", ("nvsentinel",), (), "github.com/NVIDIA/NVSentinel"),
    PlatformPart("Skyhook", ("skyhook",), (), "github.com/NVIDIA/skyhook"),
    PlatformPart("KAI", ("kai-scheduler", "kai-resource-reservation"), (), "github.com/kai-scheduler/KAI-Scheduler"),
)


def platform_of_namespace(namespace: str, reference: Reference) -> str:
    """Whose a namespace is, empty where it is the owners': a declared team's, or one that nobody knows."""
    if reference.team(namespace) is not None:
        return ""
    if any(fnmatchcase(namespace, each) for each in reference.platform.namespaces):
        return f"the platform of {reference}"
    return next((p.title for p in PARTS if any(fnmatchcase(namespace, each) for each in p.namespaces)), "")


def platform_of_class(priority_class: str, reference: Reference) -> str:
    """Whose a priority class is, empty where it is the owners'. A declared class is always theirs."""
    if reference.priority_class(priority_class) is not None:
        return ""
    if any(fnmatchcase(priority_class, each) for each in reference.platform.priority_classes):
        return f"the platform of {reference}"
    return next((p.title for p in PARTS if any(fnmatchcase(priority_class, each) for each in p.priority_classes)), "")
