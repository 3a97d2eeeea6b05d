"""What belongs to the platform and is not the owners' to change: its namespaces and its priority classes.

Kubernetes itself, clouds, OpenShift, storage and network systems and node agents bring pods that tolerate every taint,
run privileged and rank above all workloads, because they must. A declared team's namespace is never the platform's,
whatever its name. A set-up adds its own under ``platform``.
"""

from collections.abc import Iterable
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
        ("openshift-*", "cluster-logging"),
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
        ("azure-critical", "aks-*"),
        "learn.microsoft.com: AKS add-ons and extensions",
    ),
    PlatformPart(
        "Rancher",
        ("cattle-*",),
        ("rancher-critical",),
        "ranchermanager.docs.rancher.com: Helm chart values (priorityClassName)",
    ),
    PlatformPart(
        "IBM Cloud",
        ("ibm-system", "ibm-operators", "ibm-observe", "ibm-cert-store", "ibm-services-system"),
        ("ibm-app-cluster-critical",),
        "cloud.ibm.com: Kubernetes Service, Setting pod priority",
    ),
    PlatformPart(
        "CoreWeave", ("cw-*",), (), "docs.coreweave.com: CKS, Cluster components (namespaces of the control plane)"
    ),
    PlatformPart("Run:ai", ("runai", "runai-backend"), (), "run-ai-docs.nvidia.com: Self-hosted installation"),
    PlatformPart(
        "Gardener",
        ("kube-system",),
        ("gardener-*",),
        "gardener/gardener: docs/development/priority-classes.md (gardener-shoot-system-900: 999999900)",
    ),
    PlatformPart("Nutanix NKP", ("kommander*",), ("dkp-*",), "mesosphere/kommander-applications"),
    PlatformPart("Calico", ("calico-*", "tigera-*"), (), "docs.tigera.io: Calico, namespaces of the operator"),
    PlatformPart("Cilium", ("cilium*",), (), "docs.cilium.io: Installation"),
    PlatformPart("Flannel", ("kube-flannel",), (), "github.com/flannel-io/flannel: Documentation/kube-flannel.yml"),
    PlatformPart("MetalLB", ("metallb-system",), (), "metallb.io: Installation"),
    PlatformPart("Longhorn", ("longhorn-system",), ("longhorn-critical",), "longhorn.io: Priority Class"),
    PlatformPart("Rook", ("rook-ceph*",), ("rook-ceph-default-priority-class",), "rook.io: Quickstart"),
    PlatformPart("OpenEBS", ("openebs",), (), "openebs.io: Installation"),
    PlatformPart("Portworx", ("portworx",), (), "docs.portworx.com: Installation"),
    PlatformPart(
        "Node Problem Detector", ("node-problem-detector",), (), "github.com/kubernetes/node-problem-detector"
    ),
    PlatformPart(
        "NVIDIA Network Operator",
        ("nvidia-network-operator", "network-operator"),
        (),
        "docs.nvidia.com: NVIDIA Network Operator, Deployment Guide; docs.rke2.io: GPU Operators",
    ),
    PlatformPart("NVSentinel", ("nvsentinel",), (), "github.com/NVIDIA/NVSentinel"),
    PlatformPart("Skyhook", ("skyhook",), (), "github.com/NVIDIA/skyhook"),
    PlatformPart("KubeVirt", ("kubevirt",), ("kubevirt-cluster-critical",), "kubevirt.io: Installation"),
    PlatformPart(
        "KAI",
        ("kai-scheduler", "kai-resource-reservation", "runai-reservation"),
        (),
        "github.com/kai-scheduler/KAI-Scheduler",
    ),
)


def part_of_namespace(namespace: str) -> PlatformPart | None:
    """The system to which a namespace belongs by its name, None where no system is known for it."""
    return next((part for part in PARTS if _matches(namespace, part.namespaces)), None)


def part_of_class(priority_class: str) -> PlatformPart | None:
    """The system to which a priority class belongs by its name, None where no system is known for it."""
    return next((part for part in PARTS if _matches(priority_class, part.priority_classes)), None)


def platform_of_namespace(namespace: str, reference: Reference) -> str:
    """Whose a namespace is, empty where it is the owners': a declared team's, or one that nobody knows."""
    if reference.team(namespace) is not None:
        return ""
    if _matches(namespace, reference.platform.namespaces):
        return f"the platform of {reference}"
    part = part_of_namespace(namespace)
    return part.title if part else ""


def platform_of_class(priority_class: str, reference: Reference) -> str:
    """Whose a priority class is, empty where it is the owners'. A declared class is always theirs."""
    if reference.priority_class(priority_class) is not None:
        return ""
    if _matches(priority_class, reference.platform.priority_classes):
        return f"the platform of {reference}"
    part = part_of_class(priority_class)
    return part.title if part else ""


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, each) for each in patterns)
