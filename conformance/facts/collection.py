"""Facts: everything that was read from a cluster at one time, immutable and indexed."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from typing import Any

from conformance.facts.admission import S, as_its_pods_are, changes_pods, is_added, with_added
from conformance.facts.decoding import Harvest
from conformance.facts.found import Found
from conformance.facts.indexes import ByNamespace, BySelector, grouped
from conformance.facts.kinds import KINDS, kind_of, undefined
from conformance.facts.limits import LimitRange, PriorityClass, ResourceQuota
from conformance.facts.nodes import Node
from conformance.facts.owners import Ownership
from conformance.facts.pod_mutators import ANY, PodMutator, of_policies, of_webhooks
from conformance.facts.pods import Pod
from conformance.facts.podspec import PodTemplate
from conformance.facts.resources import Resource
from conformance.facts.stack import namespaces_of, stack_of
from conformance.facts.tenancy import Namespace, Role, RoleBinding, ServiceAccount
from conformance.facts.workloads import PodDisruptionBudget, ReplicaSet, Workload
from conformance.gpu.labels import HAMI_NODE
from conformance.gpu.operator_stack import Detection
from conformance.gpu.resources import GPU
from conformance.kube.names import SIMULATED_GPUS
from conformance.verdict import Inconclusive, Waits


class Facts(Found):
    """What was read, once, and how the objects belong together."""

    @classmethod
    def from_objects(
        cls,
        objects: Iterable[Mapping[str, Any]],
        unreadable: Mapping[str, str] | None = None,
        *,
        server_version: str = "",
        taken_at: datetime | None = None,
    ) -> "Facts":
        """Facts from plain Kubernetes objects, lists of them included. Kinds that are never read are passed over.

        ``unreadable`` maps kinds (``Pod`` or ``pods``) to the reason for which they could not be read, such as
        ``Forbidden: ...``. Custom kinds that the objects neither are of nor define count as not served.
        """
        harvests = {name: Harvest(kind) for name, kind in KINDS.items()}
        plain = tuple(_unpacked(objects))
        for obj in plain:
            kind = kind_of(obj)
            if kind is not None:
                harvests[kind.name].add_object(obj)
        return cls.from_harvests(
            harvests.values(),
            unreadable=unreadable,
            unserved=undefined(plain),
            server_version=server_version,
            taken_at=taken_at,
        )

    @classmethod
    def from_harvests(
        cls,
        harvests: Iterable[Harvest],
        *,
        unreadable: Mapping[str, str] | None = None,
        unserved: Iterable[str] = (),
        config_namespaces: Iterable[str] | None = None,
        server_version: str = "",
        taken_at: datetime | None = None,
    ) -> "Facts":
        """Facts from what was gathered kind by kind."""
        gathered = list(harvests)
        return cls(
            {harvest.kind.name: harvest.facts for harvest in gathered},
            unreadable=unreadable,
            unserved=unserved,
            config_namespaces=config_namespaces,
            odd=[odd for harvest in gathered for odd in harvest.odd],
            server_version=server_version,
            taken_at=taken_at,
        )

    @cached_property
    def simulated(self) -> bool:
        """Whether any node is played rather than real, so that nothing seen here is evidence of hardware."""
        return any(node.simulated for node in self.nodes)

    @cached_property
    def simulated_gpus(self) -> bool:
        """Whether a node, or what gives GPUs to pods, says that GPUs are simulated, whatever runs the containers."""
        plugins = () if "daemonsets" in self.unreadable else self._workloads("DaemonSet")
        labels = [*(node.labels for node in self.nodes), *(plugin.labels for plugin in plugins)]
        return any(each.get(SIMULATED_GPUS) == "true" for each in labels)

    @cached_property
    def real_beside_simulated(self) -> frozenset[str]:
        """The names of the nodes whose containers really run, where others are played; empty anywhere else.

        Empty, too, where nodes could not be read: nobody is held to it.
        """
        if "nodes" in self.unreadable:
            return frozenset()
        return frozenset(node.name for node in self.nodes if not node.simulated) if self.simulated else frozenset()

    def node(self, name: str) -> Node | None:
        """The node of this name, None when there is none."""
        return self._nodes_by_name.get(name)

    def nodes_with(self, labels: Mapping[str, str]) -> tuple[Node, ...]:
        """The nodes that carry all of these labels, in the order in which they were read."""
        wanted = tuple(sorted(labels.items()))
        if wanted not in self._nodes_by_labels:
            asked = labels.items()
            found = tuple([node for node in self.nodes if asked <= node.labels.items()])
            self._nodes_by_labels[wanted] = found
        return self._nodes_by_labels[wanted]

    def pod(self, namespace: str, name: str) -> Pod | None:
        """One pod, None when there is none."""
        return self._pods.named(namespace, name)

    def pods_on(self, node_name: str) -> tuple[Pod, ...]:
        """The pods bound to a node, finished ones included."""
        return self._pods_by_node.get(node_name, ())

    def pods_in(self, namespace: str) -> tuple[Pod, ...]:
        """The pods of a namespace, finished ones included."""
        return self._pods.within(namespace)

    def pods_of(self, workload: Workload) -> tuple[Pod, ...]:
        """The pods that a workload owns, a deployment through its replica sets."""
        if workload.kind != "Deployment":
            return self._pods_by_owner.get((workload.namespace, workload.kind, workload.name), ())
        owners = {("ReplicaSet", name) for name in self._replica_sets_of(workload)}
        return tuple(pod for pod in self.pods_in(workload.namespace) if (pod.owner_kind, pod.owner_name) in owners)

    def pods_below(self, kind: str, namespace: str, name: str) -> tuple[Pod, ...]:
        """The pods that an object of any kind makes, itself or through others, finished ones included."""
        return self.ownership.pods_below(kind, namespace, name)

    @cached_property
    def ownership(self) -> Ownership:
        """Whose pods are whose. Raises Inconclusive where workloads could not be read; pod groups may be missing."""
        try:
            groups = self.pod_groups
        except Inconclusive:
            groups = ()
        return Ownership(self.pods, (*self.replica_sets, *self.workloads), groups)

    def as_admitted(self, spec: S) -> S:
        """A pod template with the tolerations that admission adds to its pods in this cluster."""
        return with_added(spec) if self._admission_adds_tolerations else spec

    def template_of(self, workload: Workload) -> PodTemplate:
        """The pod template of a workload with what admission adds to its pods, as far as pods show it."""
        return self.as_admitted(self.template_of_its_pods(workload))

    def template_of_its_pods(self, workload: Workload) -> PodTemplate:
        """The pod template of a workload with what policies and webhooks add to its pods, as far as these show it."""
        members = self._changed_by_admission(workload)
        if not members:
            return workload.template
        return as_its_pods_are(workload, self.pods_of(workload), self.default_priority_class, members)

    def free_gpus(self, node: Node, resource: str = GPU) -> int:
        """Devices of ``resource`` that the scheduler may still give away on a node; negative when overcommitted."""
        return node.gpus(resource) - sum(pod.gpus(resource) for pod in self.pods_on(node.name) if not pod.finished)

    def namespace(self, name: str) -> Namespace | None:
        """The namespace of this name, None when there is none."""
        return next((each for each in self.namespaces if each.name == name), None)

    def service_account(self, namespace: str, name: str) -> ServiceAccount | None:
        """One service account, None when there is none."""
        return self._service_accounts.named(namespace, name)

    def service_accounts_in(self, namespace: str) -> tuple[ServiceAccount, ...]:
        """The service accounts of a namespace."""
        return self._service_accounts.within(namespace)

    def quotas_in(self, namespace: str) -> tuple[ResourceQuota, ...]:
        """The quotas of a namespace."""
        return self._quotas.within(namespace)

    def limit_ranges_in(self, namespace: str) -> tuple[LimitRange, ...]:
        """The limit ranges of a namespace."""
        return self._limit_ranges.within(namespace)

    def roles_in(self, namespace: str) -> tuple[Role, ...]:
        """The roles of a namespace."""
        return self._roles.within(namespace)

    def role_bindings_in(self, namespace: str) -> tuple[RoleBinding, ...]:
        """The role bindings of a namespace."""
        return self._role_bindings.within(namespace)

    def workloads_in(self, namespace: str) -> tuple[Workload, ...]:
        """The deployments, jobs, stateful sets and daemon sets of a namespace."""
        return self._workloads_by_namespace.within(namespace)

    def workload(self, kind: str, namespace: str, name: str) -> Workload | None:
        """One workload, None when there is none. Its kind must be one of WORKLOAD_KINDS, and only that one readable."""
        members = self._workloads(kind)
        return next((each for each in members if (each.namespace, each.name) == (namespace, name)), None)

    def disruption_budgets_of(self, pod: Pod) -> tuple[PodDisruptionBudget, ...]:
        """The disruption budgets that count a pod."""
        candidates = self._disruption_budgets.candidates(pod.namespace, pod.labels)
        return tuple(budget for budget in candidates if budget.covers(pod))

    def priority_class(self, name: str) -> PriorityClass | None:
        """The priority class of this name, None when there is none."""
        return next((each for each in self.priority_classes if each.name == name), None)

    @property
    def default_priority_class(self) -> PriorityClass | None:
        """The class that admission gives pods that name none: of several global defaults the one of lowest value."""
        defaults = [each for each in self.priority_classes if each.global_default]
        return min(defaults, key=lambda each: each.value, default=None)

    def bindings_of(self, account: ServiceAccount) -> tuple[RoleBinding, ...]:
        """The role bindings and cluster role bindings that name a service account or one of its groups."""
        return tuple(binding for binding in self.role_bindings + self.cluster_role_bindings if binding.binds(account))

    def role_of(self, binding: RoleBinding) -> Role | None:
        """The role that a binding gives, None when it does not exist, so that the binding gives nothing."""
        if binding.role_ref.kind == "ClusterRole":
            return next((role for role in self.cluster_roles if role.name == binding.role_ref.name), None)
        return self._roles.named(binding.namespace, binding.role_ref.name)

    @cached_property
    def stack(self) -> Detection:
        """What offers GPUs to pods here; kinds that could not be read are ``unread``."""
        return stack_of(self._of)

    def unread_stack(self) -> Waits:
        """Why the stack is not known where some of its kinds are ``unread``, to be raised."""
        return self._unread(self.stack.unread[0])

    @cached_property
    def hami_manages_devices(self) -> bool:
        """Whether a node says that HAMi manages its devices."""
        return any(name.startswith(HAMI_NODE) for node in self.nodes for name in node.annotations)

    @cached_property
    def stack_namespaces(self) -> tuple[str, ...]:
        """The namespaces of the stack's operators, device plugins and DRA drivers, in this order."""
        return namespaces_of(self.stack)

    @cached_property
    def followed_policy(self) -> Resource | None:
        """The ClusterPolicy that the operator follows; None without one."""
        return next((each for each in self.cluster_policies if each.name == self.stack.policy), None)

    def config_map(self, namespace: str, name: str) -> Resource | None:
        """One config map, None when there is none. Raises Inconclusive for a namespace whose config maps were not read.

        Those of the stack's namespaces are, and those of the namespaces that whoever read the facts named.
        """
        found = self._config_maps.named(namespace, name)
        if found is None and self.config_namespaces is not None and namespace not in self.config_namespaces:
            were = ", ".join(self.config_namespaces) or "none"
            raise Inconclusive(
                f"config map {namespace}/{name} was not read: only those of the GPU stack's namespaces are ({were})"
            )
        return found

    def config_map_or_namesake(self, namespace: str, name: str) -> Resource | None:
        """The config map of that name in that namespace, else one of that name in another. Raises as ``config_map``."""
        if not name:
            return None
        here = self.config_map(namespace, name)
        return here or next((each for each in self.config_maps if each.name == name), None)

    def _replica_sets_of(self, deployment: Workload) -> list[str]:
        owner = ("Deployment", deployment.name)
        members = self._replica_sets.within(deployment.namespace)
        return [each.name for each in members if (each.owner_kind, each.owner_name) == owner]

    # --- indexes, each made when it is first asked -----------------------------------------------------------------

    @cached_property
    def _nodes_by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _admission_adds_tolerations(self) -> bool:
        asking = (each for each in self.workloads if each.template.gpu_requests())
        return is_added(self.nodes, ((each, self.pods_of(each)) for each in asking))

    @cached_property
    def _admission_changes_pods(self) -> bool:
        nodes: tuple[Node, ...] = ()
        namespaces: tuple[str, ...] = ()
        crds: tuple[str, ...] = ()
        with suppress(Inconclusive):
            nodes = self.nodes
        with suppress(Inconclusive):
            namespaces = tuple(each.name for each in self.namespaces)
        with suppress(Inconclusive):
            crds = tuple(each.name for each in self.crds)
        return changes_pods(nodes, namespaces, crds)

    @cached_property
    def _pod_mutators(self) -> tuple[PodMutator, ...]:
        """What is configured to change pods; where that could not be read, nothing is taken to be."""
        found: list[PodMutator] = []
        with suppress(Inconclusive):
            found += of_webhooks(self.mutating_webhooks)
        with suppress(Inconclusive):
            found += of_policies(self.mutating_policies, self.mutating_policy_bindings)
        return tuple(found)

    def _changed_by_admission(self, workload: Workload) -> frozenset[str]:
        """The members in which pods of a workload may differ from its template, for something changes them."""
        if self._admission_changes_pods:
            return ANY
        if not self._pod_mutators:
            return frozenset()
        labels: Mapping[str, str] = {}
        with suppress(Inconclusive):
            namespace = self.namespace(workload.namespace)
            labels = namespace.labels if namespace else {}
        own = workload.template.labels
        covering = [each for each in self._pod_mutators if each.covers(workload.namespace, labels, own)]
        return frozenset(member for each in covering for member in each.members)

    @cached_property
    def _nodes_by_labels(self) -> dict[tuple[tuple[str, str], ...], tuple[Node, ...]]:
        return {}

    @cached_property
    def _pods_by_node(self) -> Mapping[str, tuple[Pod, ...]]:
        return grouped((pod.node, pod) for pod in self.pods if pod.node)

    @cached_property
    def _pods_by_owner(self) -> Mapping[tuple[str, str, str], tuple[Pod, ...]]:
        return grouped(((pod.namespace, pod.owner_kind, pod.owner_name), pod) for pod in self.pods)

    @cached_property
    def _pods(self) -> ByNamespace[Pod]:
        return ByNamespace(self.pods)

    @cached_property
    def _workloads_by_namespace(self) -> ByNamespace[Workload]:
        return ByNamespace(self.workloads)

    @cached_property
    def _replica_sets(self) -> ByNamespace[ReplicaSet]:
        return ByNamespace(self.replica_sets)

    @cached_property
    def _disruption_budgets(self) -> BySelector[PodDisruptionBudget]:
        return BySelector((each, each.selector) for each in self.disruption_budgets)

    @cached_property
    def _service_accounts(self) -> ByNamespace[ServiceAccount]:
        return ByNamespace(self.service_accounts)

    @cached_property
    def _quotas(self) -> ByNamespace[ResourceQuota]:
        return ByNamespace(self.quotas)

    @cached_property
    def _limit_ranges(self) -> ByNamespace[LimitRange]:
        return ByNamespace(self.limit_ranges)

    @cached_property
    def _roles(self) -> ByNamespace[Role]:
        return ByNamespace(self.roles)

    @property
    def cluster_uid(self) -> str | None:
        """The UID of the namespace kube-system, which is taken for that of the cluster; None if it is not known."""
        if "namespaces" in self.unreadable:
            return None
        return next((each.uid for each in self.namespaces if each.name == "kube-system" and each.uid), None)

    @cached_property
    def _role_bindings(self) -> ByNamespace[RoleBinding]:
        return ByNamespace(self.role_bindings)

    @cached_property
    def _config_maps(self) -> ByNamespace[Resource]:
        return ByNamespace(self.config_maps)


def _unpacked(objects: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """The objects, those inside lists included; a list says the kind for items that leave it out."""
    for obj in objects:
        kind = str(obj.get("kind") or "")
        if kind.endswith("List") and "items" in obj:
            for item in obj["items"] or ():
                yield item if item.get("kind") else {**item, "kind": kind.removesuffix("List")}
        else:
            yield obj
