"""The reference set-up as types: pools, teams, priority classes and workloads, as their owners declare them.

Expectations come from here, never from the cluster that is being judged. Field names are the keys of the YAML.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta

from conformance.gpu.labels import MIG_CONFIG
from conformance.gpu.resources import GPU
from conformance.reference.base import Declared
from conformance.reference.stack import Kai, Stack
from conformance.reference.value_types import (
    Amount,
    ApiVersion,
    Count,
    Kind,
    LabelKey,
    LabelValue,
    NamespaceName,
    ObjectName,
    PriorityValue,
    RbacName,
    ResourceName,
    SetupName,
)
from conformance.subjects import ObjectReference

CLUSTER_WIDE = "*"
BUILT_IN_KINDS = ("Deployment", "Job", "StatefulSet", "DaemonSet")
"""The kinds of workloads whose objects are read; of all others the pods are."""


class PoolTaint(Declared, frozen=True):
    """A taint that every node of a pool carries."""

    key: LabelKey
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
    value: LabelValue = ""

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


class Gpu(Declared, frozen=True):
    """The accelerators of one node of a pool."""

    model: Annotated[LabelValue, Meta(description="the owners' short name of the model, such as t4")]
    count: Annotated[Count, Meta(description="devices in one node")]
    product: Annotated[
        LabelValue,
        Meta(description="value of nvidia.com/gpu.product that GPU Feature Discovery gives, such as Tesla-T4"),
    ] = ""
    memory_mib: Annotated[int, Meta(ge=0, description="memory of one device in MiB; 0 when not declared")] = 0
    resource: Annotated[
        ResourceName,
        Meta(
            description="the extended resource that a node advertises; as gpu_resource when absent. MIG devices of "
            "the strategy mixed and devices that DRA allocates have other names and are not meant"
        ),
    ] = GPU
    replicas: Annotated[Count, Meta(description="as how many devices each one is offered; 1 when it is not shared")] = 1
    shared_by: Annotated[
        Literal["time-slicing", "mps", "other"] | None,
        Meta(
            description="how several pods share one device; other is something that is not judged, such as HAMi: what "
            "nodes offer is, how they come to it is not"
        ),
    ] = None
    allocated_by: Annotated[
        Literal["device-plugin", "dra"], Meta(description="who gives devices to pods; one of them for each node")
    ] = "device-plugin"
    driver: Annotated[str, Meta(description="the driver version of this pool where it differs from the stack's")] = ""


class Pool(Declared, frozen=True):
    """Nodes of one kind."""

    name: ObjectName
    selector: Annotated[
        dict[LabelKey, LabelValue],
        Meta(
            min_length=1, description="labels by which whoever makes the nodes (a cloud, an installer) marks this pool"
        ),
    ]
    nodes: Annotated[int, Meta(ge=0, description="how many nodes the pool has at least")] = 0
    labels: Annotated[dict[LabelKey, LabelValue], Meta(description="labels that the owners put on every node")] = {}
    taints: tuple[PoolTaint, ...] = ()
    gpu: Annotated[Gpu | None, Meta(description="absent for a pool without GPUs")] = None

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("Pool", self.name, declared=True)

    def __str__(self) -> str:
        return f"pool {self.name}"

    def __hash__(self) -> int:
        """By name, so that what follows from a pool can be computed once: its labels are mappings without a hash."""
        return hash(self.name)

    def holds(self, node_labels: dict[str, str]) -> bool:
        """Whether a node with these labels belongs to the pool."""
        return self.selector.items() <= node_labels.items()

    @property
    def mig_layout(self) -> str:
        """The MIG layout that the owners' labels ask for; empty when they ask for none."""
        return self.labels.get(MIG_CONFIG, "")

    @property
    def selector_text(self) -> str:
        """The selector as ``kubectl get nodes -l`` takes it."""
        return ",".join(f"{key}={value}" for key, value in sorted(self.selector.items()))


class Access(Declared, frozen=True):
    """One thing that a service account asks to do."""

    verb: Annotated[str, Meta(min_length=1)]
    resource: Annotated[str, Meta(min_length=1, description="the plural, such as pods")]
    group: Annotated[str, Meta(description="API group; empty for the core group")] = ""
    name: Annotated[str, Meta(description="one object; empty for all of them")] = ""
    subresource: str = ""
    namespace: Annotated[
        str, Meta(description="where; the service account's own namespace when absent, '*' for cluster-wide")
    ] = ""

    def __str__(self) -> str:
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        target = "/".join(part for part in (resource, self.subresource, self.name) if part)
        where = {"": "", CLUSTER_WIDE: " cluster-wide"}.get(self.namespace, f" in {self.namespace}")
        return f"{self.verb} {target}{where}"

    def review_namespace(self, own: str) -> str:
        """The namespace that a SubjectAccessReview names: empty for cluster-wide, as the API has it."""
        return "" if self.namespace == CLUSTER_WIDE else self.namespace or own


class ServiceAccount(Declared, frozen=True):
    """An identity of a team's workloads."""

    name: ObjectName
    automount_token: Annotated[
        bool | None, Meta(description="the field automountServiceAccountToken; absent leaves the API's default, true")
    ] = None
    annotations: dict[LabelKey, str] = {}
    may: Annotated[tuple[Access, ...], Meta(description="accesses that its work needs")] = ()
    may_not: Annotated[tuple[Access, ...], Meta(description="accesses that must be refused")] = ()


class Rule(Declared, frozen=True):
    """One rule of a Role, as RBAC has it."""

    verbs: Annotated[tuple[str, ...], Meta(min_length=1)]
    resources: Annotated[tuple[str, ...], Meta(min_length=1)]
    api_groups: Annotated[tuple[str, ...], Meta(description="the core group is the empty text")] = ("",)
    resource_names: tuple[str, ...] = ()


class Role(Declared, frozen=True):
    """A Role in a team's namespace."""

    name: RbacName
    rules: tuple[Rule, ...]


class Binding(Declared, frozen=True):
    """A RoleBinding in a team's namespace."""

    name: RbacName
    role: RbacName
    role_kind: Literal["Role", "ClusterRole"] = "Role"
    service_accounts: Annotated[tuple[ObjectName, ...], Meta(description="of the same namespace")] = ()
    groups: tuple[str, ...] = ()
    users: tuple[str, ...] = ()


class Quota(Declared, frozen=True):
    """A ResourceQuota in a team's namespace."""

    name: ObjectName
    hard: Annotated[dict[str, Amount], Meta(min_length=1, description="only requests.<resource> counts GPUs")]
    priority_classes: Annotated[
        tuple[ObjectName, ...], Meta(description="count only pods of these classes; all pods when absent")
    ] = ()


class LimitRange(Declared, frozen=True):
    """A LimitRange in a team's namespace."""

    name: ObjectName
    items: Annotated[tuple[dict[str, Any], ...], Meta(min_length=1, description="spec.limits, as Kubernetes has it")]


class Team(Declared, frozen=True):
    """One namespace and what its owners are given there."""

    namespace: NamespaceName
    labels: dict[LabelKey, LabelValue] = {}
    service_accounts: tuple[ServiceAccount, ...] = ()
    roles: tuple[Role, ...] = ()
    bindings: tuple[Binding, ...] = ()
    quotas: tuple[Quota, ...] = ()
    limit_ranges: tuple[LimitRange, ...] = ()

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("Team", self.namespace, namespace=self.namespace, text=str(self), declared=True)

    def __str__(self) -> str:
        return f"namespace {self.namespace}"

    def service_account(self, name: str) -> ServiceAccount | None:
        """The declared service account of that name."""
        return next((account for account in self.service_accounts if account.name == name), None)


class PriorityClass(Declared, frozen=True):
    """A PriorityClass and whom its owners expect it to evict."""

    name: ObjectName
    value: PriorityValue
    global_default: bool = False
    preemption_policy: Literal["PreemptLowerPriority", "Never"] = "PreemptLowerPriority"
    description: str = ""
    preempts: Annotated[
        tuple[ObjectName, ...], Meta(description="classes whose pods its owners expect it to evict")
    ] = ()

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("PriorityClass", self.name, declared=True)

    def __str__(self) -> str:
        return f"priority class {self.name}"


class Workload(Declared, frozen=True):
    """A workload that belongs to the set-up, and where and as whom it must run."""

    role: Annotated[str, Meta(min_length=1, description="what it is for, such as inference or training")]
    kind: Annotated[Kind, Meta(description="of any API; other kinds than Kubernetes' own are judged by their pods")]
    namespace: NamespaceName
    name: ObjectName
    api_version: Annotated[
        ApiVersion, Meta(description="of a kind that Kubernetes does not have itself, such as kubeflow.org/v1")
    ] = ""
    selector: Annotated[
        dict[LabelKey, LabelValue],
        Meta(description="labels of its pods, where no chain of owners leads from them to it; not for built-in kinds"),
    ] = {}
    pools: Annotated[tuple[ObjectName, ...], Meta(description="the pools on which its pods may land")] = ()
    priority_class: Annotated[ObjectName | None, Meta(description="the class that its pods must carry")] = None
    service_account: Annotated[ObjectName | None, Meta(description="the identity that its pods must run as")] = None
    manifest: Annotated[
        dict[str, Any] | None,
        Meta(description="the Kubernetes object, or the path of a file that holds it; absent when others deploy it"),
    ] = None

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of(
            self.kind,
            self.name,
            namespace=self.namespace,
            text=str(self),
            api_version="" if self.built_in else self.api_version,
            declared=True,
        )

    def __str__(self) -> str:
        return f"{self.kind.lower()} {self.namespace}/{self.name}"

    @property
    def built_in(self) -> bool:
        """Whether it is of a kind of Kubernetes that is read with its pod template and its replicas."""
        return self.kind in BUILT_IN_KINDS and self.api_version.partition("/")[0] in ("", "apps", "batch")

    @property
    def resource(self) -> str:
        """The kind as kubectl takes it: ``deployment``, ``pytorchjob.v1.kubeflow.org``."""
        group, _, version = self.api_version.rpartition("/")
        return self.kind.lower() if self.built_in or not group else f"{self.kind.lower()}.{version}.{group}"


class TestPod(Declared, frozen=True):
    """A pod by which the owners try whether GPUs work. It is never deployed: suites try it, or say where it fits."""

    # pytest would take a class of this name for tests.
    __test__ = False

    name: ObjectName
    manifest: Annotated[dict[str, Any], Meta(description="the Pod, or the path of a file that holds it")]
    pools: Annotated[tuple[ObjectName, ...], Meta(description="the pools on which it must be able to run")] = ()

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("TestPod", self.name, declared=True)

    def __str__(self) -> str:
        return f"test pod {self.name}"


class Platform(Declared, frozen=True):
    """What belongs to whoever runs the cluster, beyond what is known by itself (docs/platform.md)."""

    namespaces: Annotated[
        tuple[str, ...], Meta(description="names of namespaces, * for any characters, such as corp-monitoring-*")
    ] = ()
    priority_classes: Annotated[
        tuple[str, ...], Meta(description="names of priority classes, * for any characters")
    ] = ()
    healthy_conditions: Annotated[
        dict[str, Literal["True", "False"]],
        Meta(
            description="the status that a condition of a health agent has on a node that is well, by type, such as "
            "GPUPassiveHealthCheck; what it names is judged by that alone"
        ),
    ] = {}


class Reference(Declared, frozen=True):
    """A whole reference set-up."""

    name: SetupName
    description: str = ""
    gpu_resource: Annotated[ResourceName, Meta(description="the resource by which GPUs are asked for")] = GPU
    stack: Annotated[Stack | None, Meta(description="what makes GPUs reach pods; absent when not to be judged")] = None
    kai: Annotated[Kai | None, Meta(description="the KAI scheduler and its queues; absent where nobody uses it")] = None
    pools: tuple[Pool, ...] = ()
    teams: tuple[Team, ...] = ()
    priority_classes: tuple[PriorityClass, ...] = ()
    workloads: tuple[Workload, ...] = ()
    test_pods: tuple[TestPod, ...] = ()
    platform: Annotated[Platform, Meta(description="whose pods and classes are not the owners' to change")] = Platform()

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("ReferenceSetUp", self.name, text=str(self), declared=True)

    def __str__(self) -> str:
        return f"reference set-up {self.name}"

    def __hash__(self) -> int:
        """By name, as that of a pool."""
        return hash(self.name)

    def pool(self, name: str) -> Pool | None:
        """The pool of that name."""
        return next((pool for pool in self.pools if pool.name == name), None)

    def pool_of(self, node_labels: dict[str, str]) -> Pool | None:
        """The pool to which a node with these labels belongs."""
        return next((pool for pool in self.pools if pool.holds(node_labels)), None)

    @property
    def gpu_pools(self) -> tuple[Pool, ...]:
        """The pools whose nodes have GPUs."""
        return tuple(pool for pool in self.pools if pool.gpu is not None)

    @property
    def is_foreign(self) -> bool:
        """Whether it describes another cluster than the one at hand."""
        return False

    @property
    def offered_resources(self) -> frozenset[str]:
        """The names of resources by which pools offer their devices, and the usual one."""
        return frozenset({self.gpu_resource, *(pool.gpu.resource for pool in self.pools if pool.gpu)})

    def team(self, namespace: str) -> Team | None:
        """The team that owns a namespace."""
        return next((team for team in self.teams if team.namespace == namespace), None)

    def priority_class(self, name: str) -> PriorityClass | None:
        """The priority class of that name."""
        return next((known for known in self.priority_classes if known.name == name), None)

    @property
    def default_priority_class(self) -> PriorityClass | None:
        """The class that pods without one get, None when no class is the default."""
        return next((known for known in self.priority_classes if known.global_default), None)

    def workloads_in(self, namespace: str) -> tuple[Workload, ...]:
        """The declared workloads of a namespace."""
        return tuple(workload for workload in self.workloads if workload.namespace == namespace)

    def workloads_for(self, role: str) -> tuple[Workload, ...]:
        """The declared workloads of a role, such as inference."""
        return tuple(workload for workload in self.workloads if workload.role == role)
