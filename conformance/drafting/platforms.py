"""What in a cluster belongs to its platform rather than to its owners, and where that is written.

A draft declares none of it: who did not make an object cannot be asked to change it. Namespaces and priority classes of
platforms are those of reference/platform.py, so that what a draft leaves out is not held against the owners later.
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


# Beside those of reference/platform.py: what nobody declares as a team, though it is no platform's.
NAMESPACES = (
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
    Owned("this project", "docs/leftovers.md", prefixes=("gpu-conformance-",)),
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
