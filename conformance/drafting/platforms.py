"""What in a cluster belongs to its platform rather than to its owners, and where that is written.

A draft declares none of it: who did not make an object cannot be asked to change it.
"""

from typing import NamedTuple


class Owned(NamedTuple):
    """Names that belong to a platform: exact ones, or all with a prefix."""

    platform: str
    source: str
    names: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()

    def holds(self, name: str) -> bool:
        """Whether a name is one of them."""
        return name in self.names or name.startswith(self.prefixes or ("\0",))


NAMESPACES = (
    Owned("Kubernetes", "kubernetes.io: Namespaces", prefixes=("kube-",)),
    Owned("OpenShift", "OpenShift: Working with projects", ("openshift",), ("openshift-",)),
    Owned("GKE", "GKE: cluster architecture", ("gmp-system", "gmp-public"), ("gke-", "config-management-")),
    Owned("AKS", "AKS: Azure Policy, Gatekeeper", ("gatekeeper-system", "calico-system", "tigera-operator")),
    Owned("EKS", "Amazon EKS: add-ons", ("amazon-cloudwatch", "amazon-guardduty")),
    Owned(
        "the GPU stack",
        "NVIDIA charts",
        (
            "gpu-operator",
            "nvidia-gpu-operator",
            "nvidia-device-plugin",
            "nvidia-dra-driver-gpu",
            "nvidia-network-operator",
        ),
    ),
    Owned(
        "KAI",
        "kai-scheduler/KAI-Scheduler: pkg/binder, reservation pods",
        ("kai-scheduler", "kai-resource-reservation", "runai-reservation"),
    ),
    Owned("this project", "docs/leftovers.md", prefixes=("gpu-conformance-",)),
)

PRIORITY_CLASSES = (
    Owned("Kubernetes", "kubernetes.io: Pod Priority and Preemption", prefixes=("system-",)),
    Owned("OpenShift", "OpenShift: Pod priority", ("openshift-user-critical", "cluster-logging"), ("openshift-",)),
    Owned("GKE", "GKE: managed Prometheus", ("gmp-critical",), ("gke-",)),
    Owned("AKS", "AKS: add-ons", ("azure-critical",), ("aks-",)),
    Owned(
        "storage systems", "rook, longhorn, portworx charts", ("longhorn-critical", "rook-ceph-default-priority-class")
    ),
    Owned("KubeVirt", "kubevirt.io", ("kubevirt-cluster-critical",)),
    Owned("node autoscaling", "cluster-autoscaler chart", ("cluster-overprovisioner", "overprovisioning")),
)

# openshift-controller-manager makes them in every project; kube-controller-manager makes the account `default`.
SERVICE_ACCOUNTS = (Owned("OpenShift", "OpenShift: Default service accounts", ("builder", "deployer", "pipeline")),)
BINDINGS = (
    Owned("OpenShift", "OpenShift: Default cluster roles", prefixes=("system:image-", "system:deployers")),
    Owned("OpenShift Pipelines", "OpenShift Pipelines", ("openshift-pipelines-edit", "pipelines-scc-rolebinding")),
)

# By these a program keeps pods off a node that it holds to be broken; no owner reserved the node.
TAINTS = (
    Owned("NVSentinel", "NVIDIA/NVSentinel: fault-quarantine, rules", ("AggregatedNodeHealth",), ("nvsentinel.",)),
    Owned("Node Problem Detector", "kubernetes/node-problem-detector: taints", prefixes=("node-problem-detector/",)),
)

NAMESPACE_LABELS = (
    Owned("Kubernetes", "kubernetes.io: Well-known labels", ("kubernetes.io/metadata.name",)),
    Owned("Pod Security", "kubernetes.io: Pod Security Admission", prefixes=("pod-security.kubernetes.io/",)),
    Owned("OpenShift", "OpenShift: projects", prefixes=("openshift.io/", "security.openshift.io/", "olm.operator")),
    Owned(
        "deploying tools",
        "Helm, Argo CD, Flux",
        ("app.kubernetes.io/managed-by", "app.kubernetes.io/instance", "argocd.argoproj.io/instance"),
        ("kustomize.toolkit.fluxcd.io/", "helm.toolkit.fluxcd.io/", "gpu-conformance.io/", "field.cattle.io/"),
    ),
)


def owner_of(name: str, table: tuple[Owned, ...]) -> Owned | None:
    """The platform to which a name of a kind belongs, None for the owners' own."""
    return next((owned for owned in table if owned.holds(name)), None)
