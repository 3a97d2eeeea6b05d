"""The kinds that are read: where each one lives among the facts, how it is decoded, what right reading it takes."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias

import msgspec

from conformance.facts.limits import (
    LimitRange,
    PriorityClass,
    ResourceQuota,
    WireLimitRange,
    WirePriorityClass,
    WireResourceQuota,
)
from conformance.facts.nodes import Node, WireNode
from conformance.facts.pods import Pod, WirePod
from conformance.facts.resources import DEFINITION, WORDS, Resource, definition, reader
from conformance.facts.tenancy import (
    Namespace,
    Role,
    RoleBinding,
    ServiceAccount,
    WireClusterRole,
    WireClusterRoleBinding,
    WireNamespace,
    WireRole,
    WireRoleBinding,
    WireServiceAccount,
)
from conformance.facts.workloads import (
    PodDisruptionBudget,
    ReplicaSet,
    WireDaemonSet,
    WireDeployment,
    WireDisruptionBudget,
    WireJob,
    WireReplicaSet,
    WireStatefulSet,
    Workload,
)
from conformance.kube.paths import PLACES, name_in_places, resource_of

Fact: TypeAlias = (
    LimitRange
    | Namespace
    | Node
    | Pod
    | PodDisruptionBudget
    | PriorityClass
    | ReplicaSet
    | Resource
    | ResourceQuota
    | Role
    | RoleBinding
    | ServiceAccount
    | Workload
)


class Readable(Protocol):
    """What is decoded from JSON and gives the fact that suites see."""

    def fact(self) -> Any:
        """The object as the suites see it."""


class Kind(msgspec.Struct, frozen=True):
    """One kind of object. ``words`` names its objects in a message, such as ``service accounts``.

    ``wire`` is what is decoded from JSON, ``fact`` makes of it what the suites see.
    """

    name: str
    wire: Any
    fact: Callable[[Any], Fact]
    words: str

    @property
    def plural(self) -> str:
        """The name of the resource in paths and rights, such as ``serviceaccounts``."""
        return PLACES[self.name].plural

    @property
    def resource(self) -> str:
        """The plural, with the group where another kind has the same one: ``queues.scheduling.volcano.sh``."""
        return resource_of(self.name)

    @property
    def group(self) -> str:
        """The API group, empty for the core group."""
        return PLACES[self.name].group_version.rpartition("/")[0]

    @property
    def path(self) -> str:
        """The path under which the objects of all namespaces are listed."""
        return PLACES[self.name].path()

    @property
    def paths(self) -> tuple[str, ...]:
        """That path, and those of the other versions in which the kind may be served instead, in the order to try."""
        return paths_of(self.name)

    @property
    def grant(self) -> str:
        """The right that reading takes, in words that an administrator can act on."""
        return f"list on {self.plural}" + (f" of API group {self.group}" if self.group else "")

    @property
    def optional(self) -> bool:
        """Whether an API server without the kind is an ordinary one."""
        return self.custom or self.group == _DRA_GROUP or self.name in _MUTATING_POLICIES

    @property
    def custom(self) -> bool:
        """Whether the kind is there only where a CustomResourceDefinition of a GPU stack defines it."""
        return self.group in _CUSTOM_GROUPS


# Kueue v0.15 serves both and says that v1beta1 goes; what is looked at is the same in both.
_OF_KUEUE = ("ClusterQueue", "LocalQueue", "Workload", "Cohort", "ResourceFlavor")
# kubernetes.io: Mutating Admission Policy; alpha since 1.32, beta since 1.34, both off by default, stable since 1.36.
_MUTATING_POLICIES = ("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding")
_OTHER_VERSIONS = {
    **dict.fromkeys(_OF_KUEUE, ("v1beta2",)),
    **dict.fromkeys(_MUTATING_POLICIES, ("v1beta1", "v1alpha1")),
    "MPIJob": ("v1",),
    # kubernetes/kubernetes, staging/src/k8s.io/api/resource: v1 since 1.37; v1beta2 since 1.36 and v1alpha3 since 1.33
    # where they are switched on (runtime-config).
    "DeviceTaintRule": ("v1beta2", "v1alpha3"),
}
_CUSTOM_GROUPS = (
    "nvidia.com",
    "resource.nvidia.com",
    "nfd.k8s-sigs.io",
    "scheduling.run.ai",
    "kueue.x-k8s.io",
    "quota.openshift.io",
    "scheduling.volcano.sh",
)
_DRA_GROUP = "resource.k8s.io"


def paths_of(name: str) -> tuple[str, ...]:
    """The path of a kind's list in all namespaces, and those of the other versions of its API group."""
    place = PLACES[name]
    group = place.group_version.rpartition("/")[0]
    others = (f"{group}/{version}" for version in _OTHER_VERSIONS.get(name, ()))
    return (place.path(), *(msgspec.structs.replace(place, group_version=other).path() for other in others))


def _typed(name: str, wire: type[Readable], words: str) -> Kind:
    return Kind(name, wire, wire.fact, words)


def _whole(name: str) -> Kind:
    words = WORDS[name]
    plural = f"{words}es" if words.endswith("s") else f"{words[:-1]}ies" if words.endswith("y") else f"{words}s"
    return Kind(name, msgspec.Raw, definition if name == DEFINITION else reader(name), plural)


def _table(*kinds: Kind) -> Mapping[str, Kind]:
    return {kind.name: kind for kind in kinds}


KINDS = _table(
    # The longest lists come first, so that they start first when kinds are read side by side.
    _typed("Pod", WirePod, "pods"),
    _typed("Node", WireNode, "nodes"),
    _whole("ResourceSlice"),
    _whole("ResourceClaim"),
    _whole("PodGroup"),
    _whole("CustomResourceDefinition"),
    _typed("ReplicaSet", WireReplicaSet, "replica sets"),
    _typed("Deployment", WireDeployment, "deployments"),
    _typed("Job", WireJob, "jobs"),
    _typed("StatefulSet", WireStatefulSet, "stateful sets"),
    _typed("DaemonSet", WireDaemonSet, "daemon sets"),
    _typed("Namespace", WireNamespace, "namespaces"),
    _typed("ServiceAccount", WireServiceAccount, "service accounts"),
    _typed("Role", WireRole, "roles"),
    _typed("RoleBinding", WireRoleBinding, "role bindings"),
    _typed("ClusterRole", WireClusterRole, "cluster roles"),
    _typed("ClusterRoleBinding", WireClusterRoleBinding, "cluster role bindings"),
    _typed("ResourceQuota", WireResourceQuota, "resource quotas"),
    _typed("LimitRange", WireLimitRange, "limit ranges"),
    _typed("PriorityClass", WirePriorityClass, "priority classes"),
    _typed("PodDisruptionBudget", WireDisruptionBudget, "disruption budgets"),
    _whole("ClusterPolicy"),
    _whole("GPUCluster"),
    _whole("NVIDIADriver"),
    _whole("ComputeDomain"),
    _whole("RuntimeClass"),
    _whole("DeviceClass"),
    _whole("ResourceClaimTemplate"),
    _whole("DeviceTaintRule"),
    _whole("Queue"),
    _whole("ClusterQueue"),
    _whole("LocalQueue"),
    _whole("ClusterResourceQuota"),
    _whole("VolcanoQueue"),
    _whole("VolcanoPodGroup"),
    _whole("MutatingWebhookConfiguration"),
    _whole("MutatingAdmissionPolicy"),
    _whole("MutatingAdmissionPolicyBinding"),
    _whole("ConfigMap"),
)


BESIDES = (
    "PersistentVolumeClaim", "PersistentVolume", "StorageClass", "CSINode", "Event", "Workload", "Cohort",
    "ResourceFlavor", "JobSet", "LeaderWorkerSet", "MPIJob", "PyTorchJob", "TrainJob", "RayCluster", "RayJob",
    "RayService", "VolcanoJob", "CronJob", "NodePool", "NodeClaim",
)  # fmt: skip
"""Kinds that no requirement looks at and `explain-pod` does: snapshots hold them where they may be read.

Of events only those that EVENTS selects. Workloads, Cohorts and ResourceFlavors are Kueue's, the jobs those of other
controllers, NodePools and NodeClaims Karpenter's.
"""

WARNINGS = "type=Warning"
NOT_SCALED_UP = "NotTriggerScaleUp"
EVENTS = (WARNINGS, f"reason={NOT_SCALED_UP}")
"""Field selectors of the events that say why something does not happen: autoscalers say so in a normal one."""

EVERYWHERE = tuple(name for name in KINDS if name != "ConfigMap")
"""The kinds that are read in all namespaces. ConfigMaps are not: other people keep things in theirs."""


def by_plural(reasons: Mapping[str, str]) -> dict[str, str]:
    """Reasons by kind (``Pod``) or plural (``pods``) as reasons by plural. Raises ValueError for what is neither."""
    plurals = {each.resource: each.resource for each in KINDS.values()} | {
        n: each.resource for n, each in KINDS.items()
    }
    unknown = [name for name in reasons if name not in plurals]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: not among the kinds that are read, {', '.join(KINDS)}")
    return {plurals[name]: reason for name, reason in reasons.items()}


def kind_of(obj: Mapping[str, Any]) -> Kind | None:
    """The kind of a plain object, None for one that is not read."""
    version = str(obj.get("apiVersion") or "")
    kind = KINDS.get(name_in_places(version, str(obj.get("kind"))))
    group, slash, _ = version.rpartition("/")
    return None if kind is None or (slash and group != kind.group) else kind


def undefined(objects: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The custom kinds of which plain objects have neither an object nor a CustomResourceDefinition."""
    there: set[str] = set()
    defined: set[str] = set()
    for obj in objects:
        kind = kind_of(obj)
        if kind is not None:
            there.add(kind.name)
            if kind.name == DEFINITION:
                defined.add(str((obj.get("metadata") or {}).get("name")))
    return tuple(
        name
        for name, kind in KINDS.items()
        if kind.custom and name not in there and f"{kind.plural}.{kind.group}" not in defined
    )
