"""The kinds that are read: where each one lives among the facts, how it is decoded, what right reading it takes."""

from collections.abc import Mapping
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
from conformance.kube.paths import PLACES

Fact: TypeAlias = (
    LimitRange
    | Namespace
    | Node
    | Pod
    | PodDisruptionBudget
    | PriorityClass
    | ReplicaSet
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
    """One kind of object. ``words`` names its objects in a message, such as ``service accounts``."""

    name: str
    wire: type[Readable]
    words: str

    @property
    def plural(self) -> str:
        """The name of the resource in paths and rights, such as ``serviceaccounts``."""
        return PLACES[self.name].plural

    @property
    def path(self) -> str:
        """The path under which the objects of all namespaces are listed."""
        return PLACES[self.name].path()

    @property
    def grant(self) -> str:
        """The right that reading takes, in words that an administrator can act on."""
        place = PLACES[self.name]
        group, slash, _ = place.group_version.rpartition("/")
        return f"list on {place.plural}" + (f" of API group {group}" if slash else "")


def _table(*rows: tuple[str, type[Readable], str]) -> Mapping[str, Kind]:
    return {name: Kind(name, wire, words) for name, wire, words in rows}


KINDS = _table(
    # The longest lists come first, so that they start first when kinds are read side by side.
    ("Pod", WirePod, "pods"),
    ("Node", WireNode, "nodes"),
    ("ReplicaSet", WireReplicaSet, "replica sets"),
    ("Deployment", WireDeployment, "deployments"),
    ("Job", WireJob, "jobs"),
    ("StatefulSet", WireStatefulSet, "stateful sets"),
    ("DaemonSet", WireDaemonSet, "daemon sets"),
    ("Namespace", WireNamespace, "namespaces"),
    ("ServiceAccount", WireServiceAccount, "service accounts"),
    ("Role", WireRole, "roles"),
    ("RoleBinding", WireRoleBinding, "role bindings"),
    ("ClusterRole", WireClusterRole, "cluster roles"),
    ("ClusterRoleBinding", WireClusterRoleBinding, "cluster role bindings"),
    ("ResourceQuota", WireResourceQuota, "resource quotas"),
    ("LimitRange", WireLimitRange, "limit ranges"),
    ("PriorityClass", WirePriorityClass, "priority classes"),
    ("PodDisruptionBudget", WireDisruptionBudget, "disruption budgets"),
)


def by_plural(reasons: Mapping[str, str]) -> dict[str, str]:
    """Reasons by kind (``Pod``) or plural (``pods``) as reasons by plural. Raises ValueError for what is neither."""
    plurals = {kind.plural: kind.plural for kind in KINDS.values()} | {n: kind.plural for n, kind in KINDS.items()}
    unknown = [name for name in reasons if name not in plurals]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: not among the kinds that are read, {', '.join(KINDS)}")
    return {plurals[name]: reason for name, reason in reasons.items()}
