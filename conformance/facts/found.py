"""What was found in a cluster, kind by kind, and what could not be read."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Self, cast

from conformance.facts.decoding import OddObject
from conformance.facts.kinds import KINDS, Fact, by_plural
from conformance.facts.limits import LimitRange, PriorityClass, ResourceQuota
from conformance.facts.nodes import Node
from conformance.facts.pods import Pod
from conformance.facts.resources import Resource
from conformance.facts.tenancy import Namespace, Role, RoleBinding, ServiceAccount
from conformance.facts.workloads import PodDisruptionBudget, ReplicaSet, Workload
from conformance.verdict import Inconclusive, Waits

WORKLOAD_KINDS = ("Deployment", "Job", "StatefulSet", "DaemonSet")


class Found:
    """The objects of each kind. Asking for a kind that could not be read raises Waits: why, and what to grant.

    ``odd`` holds the objects that could not be understood, ``unreadable`` the reasons of what could not be read, by
    plural (``pods``), ``unserved`` the kinds that the API server does not know, ``server_version`` its gitVersion
    (empty when unknown), ``taken_at`` the time in UTC. ``config_namespaces`` are those whose ConfigMaps were read,
    None when no namespace was left out.
    """

    def __init__(
        self,
        found: Mapping[str, Sequence[Fact]],
        *,
        unreadable: Mapping[str, str] | None = None,
        unserved: Iterable[str] = (),
        config_namespaces: Iterable[str] | None = None,
        odd: Iterable[OddObject] = (),
        server_version: str = "",
        taken_at: datetime | None = None,
    ) -> None:
        self._found = {kind: tuple(facts) for kind, facts in found.items()}
        self.unreadable = by_plural(unreadable or {})
        self.unserved = frozenset(unserved)
        self.config_namespaces = None if config_namespaces is None else tuple(config_namespaces)
        self.odd = tuple(odd)
        self.server_version = server_version
        self.taken_at = taken_at or datetime.now(UTC)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes."""
        return cast("tuple[Node, ...]", self._of("Node"))

    @property
    def pods(self) -> tuple[Pod, ...]:
        """All pods, finished ones included."""
        return cast("tuple[Pod, ...]", self._of("Pod"))

    @property
    def namespaces(self) -> tuple[Namespace, ...]:
        """All namespaces."""
        return cast("tuple[Namespace, ...]", self._of("Namespace"))

    @property
    def service_accounts(self) -> tuple[ServiceAccount, ...]:
        """All service accounts."""
        return cast("tuple[ServiceAccount, ...]", self._of("ServiceAccount"))

    @property
    def roles(self) -> tuple[Role, ...]:
        """All roles of namespaces."""
        return cast("tuple[Role, ...]", self._of("Role"))

    @property
    def cluster_roles(self) -> tuple[Role, ...]:
        """All cluster roles."""
        return cast("tuple[Role, ...]", self._of("ClusterRole"))

    @property
    def role_bindings(self) -> tuple[RoleBinding, ...]:
        """All role bindings of namespaces."""
        return cast("tuple[RoleBinding, ...]", self._of("RoleBinding"))

    @property
    def cluster_role_bindings(self) -> tuple[RoleBinding, ...]:
        """All cluster role bindings."""
        return cast("tuple[RoleBinding, ...]", self._of("ClusterRoleBinding"))

    @property
    def quotas(self) -> tuple[ResourceQuota, ...]:
        """All resource quotas."""
        return cast("tuple[ResourceQuota, ...]", self._of("ResourceQuota"))

    @property
    def limit_ranges(self) -> tuple[LimitRange, ...]:
        """All limit ranges."""
        return cast("tuple[LimitRange, ...]", self._of("LimitRange"))

    @property
    def priority_classes(self) -> tuple[PriorityClass, ...]:
        """All priority classes, the two of Kubernetes itself included."""
        return cast("tuple[PriorityClass, ...]", self._of("PriorityClass"))

    @property
    def disruption_budgets(self) -> tuple[PodDisruptionBudget, ...]:
        """All pod disruption budgets."""
        return cast("tuple[PodDisruptionBudget, ...]", self._of("PodDisruptionBudget"))

    @property
    def replica_sets(self) -> tuple[ReplicaSet, ...]:
        """All replica sets."""
        return cast("tuple[ReplicaSet, ...]", self._of("ReplicaSet"))

    @property
    def workloads(self) -> tuple[Workload, ...]:
        """All deployments, jobs, stateful sets and daemon sets."""
        return tuple(workload for kind in WORKLOAD_KINDS for workload in self._workloads(kind))

    @property
    def cluster_policies(self) -> tuple[Resource, ...]:
        """All ClusterPolicies of the GPU Operator."""
        return cast("tuple[Resource, ...]", self._of("ClusterPolicy"))

    @property
    def gpu_clusters(self) -> tuple[Resource, ...]:
        """All GPUClusters of the GPU Operator."""
        return cast("tuple[Resource, ...]", self._of("GPUCluster"))

    @property
    def nvidia_drivers(self) -> tuple[Resource, ...]:
        """All NVIDIADrivers of the GPU Operator."""
        return cast("tuple[Resource, ...]", self._of("NVIDIADriver"))

    @property
    def compute_domains(self) -> tuple[Resource, ...]:
        """All ComputeDomains of NVIDIA's DRA driver."""
        return cast("tuple[Resource, ...]", self._of("ComputeDomain"))

    @property
    def crds(self) -> tuple[Resource, ...]:
        """All CustomResourceDefinitions, without their schemas."""
        return cast("tuple[Resource, ...]", self._of("CustomResourceDefinition"))

    @property
    def runtime_classes(self) -> tuple[Resource, ...]:
        """All runtime classes."""
        return cast("tuple[Resource, ...]", self._of("RuntimeClass"))

    @property
    def config_maps(self) -> tuple[Resource, ...]:
        """The config maps of the stack's namespaces, and of no other."""
        return cast("tuple[Resource, ...]", self._of("ConfigMap"))

    @property
    def resource_slices(self) -> tuple[Resource, ...]:
        """All resource slices."""
        return cast("tuple[Resource, ...]", self._of("ResourceSlice"))

    @property
    def device_classes(self) -> tuple[Resource, ...]:
        """All device classes."""
        return cast("tuple[Resource, ...]", self._of("DeviceClass"))

    @property
    def resource_claims(self) -> tuple[Resource, ...]:
        """All resource claims."""
        return cast("tuple[Resource, ...]", self._of("ResourceClaim"))

    @property
    def resource_claim_templates(self) -> tuple[Resource, ...]:
        """All resource claim templates."""
        return cast("tuple[Resource, ...]", self._of("ResourceClaimTemplate"))

    @property
    def device_taint_rules(self) -> tuple[Resource, ...]:
        """All device taint rules, by which owners taint devices beside their drivers."""
        return cast("tuple[Resource, ...]", self._of("DeviceTaintRule"))

    @property
    def queues(self) -> tuple[Resource, ...]:
        """All queues of KAI."""
        return cast("tuple[Resource, ...]", self._of("Queue"))

    @property
    def pod_groups(self) -> tuple[Resource, ...]:
        """All pod groups of KAI."""
        return cast("tuple[Resource, ...]", self._of("PodGroup"))

    @property
    def volcano_queues(self) -> tuple[Resource, ...]:
        """All queues of Volcano."""
        return cast("tuple[Resource, ...]", self._of("VolcanoQueue"))

    @property
    def volcano_pod_groups(self) -> tuple[Resource, ...]:
        """All pod groups of Volcano."""
        return cast("tuple[Resource, ...]", self._of("VolcanoPodGroup"))

    @property
    def cluster_queues(self) -> tuple[Resource, ...]:
        """All ClusterQueues of Kueue."""
        return cast("tuple[Resource, ...]", self._of("ClusterQueue"))

    @property
    def local_queues(self) -> tuple[Resource, ...]:
        """All LocalQueues of Kueue."""
        return cast("tuple[Resource, ...]", self._of("LocalQueue"))

    @property
    def cluster_resource_quotas(self) -> tuple[Resource, ...]:
        """All ClusterResourceQuotas of OpenShift."""
        return cast("tuple[Resource, ...]", self._of("ClusterResourceQuota"))

    @property
    def mutating_webhooks(self) -> tuple[Resource, ...]:
        """All MutatingWebhookConfigurations."""
        return cast("tuple[Resource, ...]", self._of("MutatingWebhookConfiguration"))

    @property
    def mutating_policies(self) -> tuple[Resource, ...]:
        """All MutatingAdmissionPolicies."""
        return cast("tuple[Resource, ...]", self._of("MutatingAdmissionPolicy"))

    @property
    def mutating_policy_bindings(self) -> tuple[Resource, ...]:
        """All MutatingAdmissionPolicyBindings."""
        return cast("tuple[Resource, ...]", self._of("MutatingAdmissionPolicyBinding"))

    def serves(self, kind: str) -> bool:
        """Whether the API server knows a kind; the objects of one that it does not know are none.

        Raises Waits when the kind could not be read, because then that is not known, and KeyError for a kind that is
        never read.
        """
        self._of(kind)
        return kind not in self.unserved

    def every(self) -> Iterator[Fact]:
        """All objects that could be read, kind after kind."""
        return itertools.chain.from_iterable(self._found.values())

    def told_as(self, kept: Callable[[Fact], Fact | None]) -> Self:
        """The same facts with each object as ``kept`` returns it; where that is None, without the object."""
        found = {kind: [told for fact in facts if (told := kept(fact))] for kind, facts in self._found.items()}
        return type(self)(
            found,
            unreadable=self.unreadable,
            unserved=self.unserved,
            config_namespaces=self.config_namespaces,
            odd=self.odd,
            server_version=self.server_version,
            taken_at=self.taken_at,
        )

    def _of(self, kind: str) -> tuple[Fact, ...]:
        if KINDS[kind].resource in self.unreadable:
            raise self._unread(kind)
        return self._found.get(kind, ())

    def _unread(self, kind: str) -> Waits:
        known = KINDS[kind]
        reason = self.unreadable[known.resource]
        advice = f"; grant {known.grant}" if reason.startswith("Forbidden") else ""
        return Waits(f"{known.words} could not be read: {reason}{advice}")

    def _workloads(self, kind: str) -> tuple[Workload, ...]:
        if kind not in WORKLOAD_KINDS:
            raise Inconclusive(f"objects of kind {kind!r} are not read, only {', '.join(WORKLOAD_KINDS)}")
        return cast("tuple[Workload, ...]", self._of(kind))
