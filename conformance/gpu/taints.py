"""Taints and tolerations, decided as kube-scheduler's TaintToleration plugin decides them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from conformance.gpu.affinity import greater, less

SCHEDULING_EFFECTS = ("NoSchedule", "NoExecute")
"""The effects that keep a new pod away; PreferNoSchedule only lowers a node's score."""

# NVIDIA/NVSentinel: docs, fault quarantine; it takes the taint away when the node is healthy again.
QUARANTINE = "AggregatedNodeHealth"
UNDER_MAINTENANCE = ("medik8s.io/drain", "kubevirt.io/drain")
"""The taint of medik8s' node maintenance operator, and that of its predecessor of KubeVirt."""
REPAIRED_BY_AKS = ("remediator.aks.microsoft.com/unschedulable", "remediator.kubernetes.azure.com/unschedulable")
"""The taint of AKS' node auto-repair and auto-drain; the second name is the newer one."""
SKYHOOK = "skyhook.nvidia.com"
"""The taint that Skyhook takes off when the packages of a new node are installed."""
HYPERPOD_HEALTH = "sagemaker.amazonaws.com/node-health-status"
"""Label and taint of SageMaker HyperPod; the taint keeps pods away while the label is not ``Schedulable``."""
# aws/aws-node-termination-handler: docs, TAINT_NODE (spot-itn, scheduled-maintenance, rebalance-recommendation).
# kubernetes-sigs/node-readiness-controller: until a NodeReadinessRule is met.
# kubernetes/autoscaler: FAQ, startup taints.
LIFECYCLE_PREFIXES = (
    "node.kubernetes.io/",
    "node.cloudprovider.kubernetes.io/",
    "aws-node-termination-handler/",
    "readiness.k8s.io/",
    "startup-taint.cluster-autoscaler.kubernetes.io/",
    "status-taint.cluster-autoscaler.kubernetes.io/",
    "ignore-taint.cluster-autoscaler.kubernetes.io/",
)
# Until the agent of a node is ready: node.cilium.io, and ebs, efs, fsx and s3.csi.aws.com (the README of each).
LIFECYCLE_SUFFIXES = ("/agent-not-ready",)
LIFECYCLE_KEYS = (
    QUARANTINE,
    "ToBeDeletedByClusterAutoscaler",
    "DeletionCandidateOfClusterAutoscaler",
    # kubernetes-sigs/karpenter: pkg/apis/v1/taints.go, and v1beta1 for disruption.
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
    "karpenter.sh/rebooting",
    "karpenter.sh/unregistered",
    # GoogleCloudPlatform/k8s-node-termination-handler: README; GKE puts it before it takes a host into maintenance.
    "cloud.google.com/impending-node-termination",
    # kubernetes-sigs/cluster-api: api/core/v1beta2/common_types.go; owners may use other keys of this prefix.
    "node.cluster.x-k8s.io/uninitialized",
    "node.cluster.x-k8s.io/outdated-revision",
    # gardener/gardener: docs/usage/advanced/node-readiness.md.
    "node.gardener.cloud/critical-components-not-ready",
    # medik8s/node-maintenance-operator: controllers/taint.go.
    *UNDER_MAINTENANCE,
    # Azure/AKS: CHANGELOG.md.
    *REPAIRED_BY_AKS,
    # docs.aws.amazon.com: SageMaker HyperPod, resilience-related Kubernetes labels; what it means stands in the label.
    HYPERPOD_HEALTH,
    # NVIDIA/skyhook: chart, runtimeRequiredTaint.
    SKYHOOK,
)

SHUTDOWN = "node.cloudprovider.kubernetes.io/shutdown"
"""The cloud controller found the machine of the node shut down (kubernetes.io: Cloud Controller Manager)."""

# On the way out: whoever put one of them removes the node soon. Sources: as above.
_REMOVAL_PREFIXES = ("aws-node-termination-handler/",)
_REMOVAL_KEYS = (
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
    "cloud.google.com/impending-node-termination",
)


class Taint(msgspec.Struct, frozen=True, gc=False):
    """One taint of a node."""

    key: str
    value: str = ""
    effect: str = ""

    def __str__(self) -> str:
        pair = f"{self.key}={self.value}" if self.value else self.key
        return f"{pair}:{self.effect}"

    @property
    def is_lifecycle(self) -> bool:
        """Whether Kubernetes or what looks after nodes put it for a while (cordon, not ready, pressure, removal).

        Such a taint says how the node is today; it is no sign that its owners reserved it.
        """
        by_name = self.key.startswith(LIFECYCLE_PREFIXES) or self.key.endswith(LIFECYCLE_SUFFIXES)
        return by_name or self.key in LIFECYCLE_KEYS

    @property
    def announces_removal(self) -> bool:
        """Whether whoever put it is about to remove the node: an autoscaler, or a cloud that takes its machine back."""
        return self.key in _REMOVAL_KEYS or self.key.startswith(_REMOVAL_PREFIXES)


class Toleration(msgspec.Struct, frozen=True, gc=False):
    """One toleration of a pod. An empty operator means Equal, an empty effect every effect."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None

    def __str__(self) -> str:
        if not self.key:
            what = "every key" if self.operator == "Exists" else f"every key with value {self.value!r}"
        elif self.operator in ("", "Equal"):
            what = f"{self.key}={self.value}"
        else:
            what = f"{self.key} {self.operator} {self.value}".rstrip()
        limit = "" if self.toleration_seconds is None else f" for {self.toleration_seconds} s"
        return f"{what}:{self.effect or 'every effect'}{limit}"

    def tolerates(self, taint: Taint) -> bool:
        """Whether this one toleration covers ``taint`` (Kubernetes: api/core/v1/toleration.go, ToleratesTaint).

        Lt and Gt compare whole numbers, and tolerate a taint whose value is less or greater than theirs. The API server
        takes them only while the gate TaintTolerationComparisonOperators is on (KEP-5471). Any other operator than
        these, Exists and Equal tolerates nothing.
        """
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        if self.operator == "Exists":
            return True
        if self.operator in _COMPARED:
            return _COMPARED[self.operator](taint.value, self.value)
        return self.operator in ("", "Equal") and self.value == taint.value


_COMPARED = {"Lt": less, "Gt": greater}


ORDINARY_POD = (
    Toleration("node.kubernetes.io/not-ready", "Exists", effect="NoExecute", toleration_seconds=300),
    Toleration("node.kubernetes.io/unreachable", "Exists", effect="NoExecute", toleration_seconds=300),
)
"""What a pod tolerates that asks for nothing: admission (DefaultTolerationSeconds) gives it these two."""

CORDON = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")
"""What ``spec.unschedulable`` stands for: the NodeUnschedulable plugin admits only pods that tolerate it."""


def tolerates(tolerations: Iterable[Toleration], taint: Taint) -> bool:
    """Whether at least one toleration covers the taint."""
    return any(toleration.tolerates(taint) for toleration in tolerations)


def untolerated(
    tolerations: Sequence[Toleration], taints: Iterable[Taint], effects: Sequence[str] = SCHEDULING_EFFECTS
) -> tuple[Taint, ...]:
    """The taints with one of ``effects`` that no toleration covers, in their order; empty when the pod may come."""
    return tuple(taint for taint in taints if taint.effect in effects and not tolerates(tolerations, taint))


def seconds_tolerated(tolerations: Iterable[Toleration], taint: Taint) -> int | None:
    """After how many seconds a NoExecute taint evicts a pod that tolerates it; None where it never does.

    The first toleration that covers the taint decides, also where a later one has no tolerationSeconds
    (kubernetes: component-helpers/scheduling/corev1/helpers.go, GetMatchingTolerations, which the taint eviction
    controller asks). 0 where no toleration covers it.
    """
    if taint.effect != "NoExecute":
        return None
    deciding = next((each for each in tolerations if each.tolerates(taint)), None)
    return 0 if deciding is None else deciding.toleration_seconds


def repelling(tolerations: Sequence[Toleration], taints: Iterable[Taint]) -> tuple[Taint, ...]:
    """The taints that do not let a pod come and stay: those not tolerated, and those tolerated for a while only.

    For what has to run on a node for good, ``tolerationSeconds`` is no toleration: the pod is evicted when they are
    over, and its DaemonSet or ReplicaSet sends the next one into the same.
    """
    return tuple(
        taint
        for taint in taints
        if untolerated(tolerations, [taint]) or seconds_tolerated(tolerations, taint) is not None
    )


def why_repelled(tolerations: Iterable[Toleration], taint: Taint) -> str:
    """What keeps a taint of ``repelling`` from being tolerated, to be read behind its name."""
    seconds = seconds_tolerated(tolerations, taint)
    return f"is tolerated for {seconds} s only" if seconds else "is not tolerated"


def taint_from(mapping: Mapping[str, Any]) -> Taint:
    """A taint as a Node object holds it (``key``, ``value``, ``effect``). Raises KeyError when the key is missing."""
    return Taint(str(mapping["key"]), _text(mapping.get("value")), _text(mapping.get("effect")))


def toleration_from(mapping: Mapping[str, Any]) -> Toleration:
    """A toleration as a pod spec holds it; absent and null members become empty."""
    seconds = mapping.get("tolerationSeconds")
    return Toleration(
        _text(mapping.get("key")),
        _text(mapping.get("operator")),
        _text(mapping.get("value")),
        _text(mapping.get("effect")),
        None if seconds is None else int(seconds),
    )


def _text(value: object) -> str:
    return "" if value is None else str(value)
