"""Deployments, jobs, daemon sets, stateful sets and what guards their pods."""

from datetime import datetime
from typing import Any

import msgspec

from conformance.facts.pods import Pod
from conformance.facts.podspec import PodTemplate, WireTemplate
from conformance.facts.wire import Condition, Metadata, Wire, statuses
from conformance.gpu.affinity import selector_matches
from conformance.subjects import ObjectReference

OWN_JOB_CONTROLLER = "kubernetes.io/job-controller"
"""What spec.managedBy of a Job is called that Kubernetes' own controller runs (kubernetes.io: Jobs, managedBy)."""


class Workload(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A controller of pods. ``replicas`` is what it wants to run, ``available`` what is ready to serve or work.

    Of a Job ``replicas`` are the pods that may still be needed: no more than completions that are missing.

    ``scheduled`` counts the nodes on which a daemon set has a pod, ``updated`` the pods of the present template.
    ``observed_generation`` is None until the controller has looked at the object. ``failures_left`` is how many pods of
    a Job may still fail before it fails; None for other kinds, and where a policy ignores that a pod is evicted.
    ``refusal`` is what the API server said when it refused the next pod (condition ReplicaFailure of Deployments).
    ``managed_by`` is the controller to which Kubernetes' own leaves a Job (spec.managedBy), empty for its own.
    """

    kind: str
    name: str
    namespace: str = "default"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    template: PodTemplate = PodTemplate()
    selector: dict[str, Any] | None = None
    replicas: int = 0
    available: int = 0
    succeeded: int = 0
    failed: int = 0
    conditions: dict[str, str] = {}
    suspended: bool = False
    owner_kind: str = ""
    owner_name: str = ""
    created: datetime | None = None
    scheduled: int = 0
    updated: int = 0
    update_strategy: str = ""
    generation: int | None = None
    observed_generation: int | None = None
    failures_left: int | None = None
    refusal: str = ""
    managed_by: str = ""

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of(self.kind, self.name, namespace=self.namespace, text=str(self))

    def __str__(self) -> str:
        return f"{self.kind.lower()} {self.namespace}/{self.name}"


class ReplicaSet(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The link between a deployment and its pods, no more."""

    name: str
    namespace: str = "default"
    owner_kind: str = ""
    owner_name: str = ""

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("ReplicaSet", self.name, namespace=self.namespace)

    def __str__(self) -> str:
        return f"replica set {self.namespace}/{self.name}"


class PodDisruptionBudget(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How many pods of a set may be away at once. Counts and percentages are text, empty when not set.

    Of the ``expected`` pods that it counts ``healthy`` are Ready, and ``desired`` have to be.
    """

    name: str
    namespace: str = "default"
    labels: dict[str, str] = {}
    selector: dict[str, Any] | None = None
    min_available: str = ""
    max_unavailable: str = ""
    disruptions_allowed: int = 0
    healthy: int = 0
    desired: int = 0
    expected: int = 0
    unhealthy_eviction: str = ""

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("PodDisruptionBudget", self.name, namespace=self.namespace, text=str(self))

    def __str__(self) -> str:
        return f"disruption budget {self.namespace}/{self.name}"

    def covers(self, pod: Pod) -> bool:
        """Whether the budget counts the pod: same namespace, selected; an empty selector selects all of them."""
        return pod.namespace == self.namespace and selector_matches(self.selector, pod.labels)

    def guards(self, pod: Pod) -> bool:
        """Whether evicting a pod that it counts takes one of the disruptions that it allows.

        A pod that is not Ready goes without where ``unhealthyPodEvictionPolicy`` is AlwaysAllow, or enough others are
        healthy. Source: kubernetes/kubernetes, pkg/registry/core/pod/storage/eviction.go (EvictionREST.Create).
        """
        if passes_budgets(pod):
            return False
        return pod.ready or not (self.unhealthy_eviction == "AlwaysAllow" or self.healthy >= self.desired > 0)


def passes_budgets(pod: Pod) -> bool:
    """Whether a pod is evicted whatever budgets say: Pending, ended, or going (canIgnorePDB in eviction.go)."""
    return pod.phase == "Pending" or pod.finished or pod.deleting


class _Strategy(Wire):
    type: str | None = None


class _Spec(Wire):
    replicas: int | None = None
    parallelism: int | None = None
    completions: int | None = None
    suspend: bool | None = None
    selector: dict[str, Any] | None = None
    backoff_limit: int | None = None
    managed_by: str | None = None
    backoff_limit_per_index: int | None = None
    pod_failure_policy: dict[str, Any] | None = None
    template: WireTemplate | None = None
    strategy: _Strategy | None = None
    update_strategy: _Strategy | None = None


class _Condition(Condition):
    message: str | None = None


class _Status(Wire):
    available_replicas: int | None = None
    desired_number_scheduled: int | None = None
    number_available: int | None = None
    current_number_scheduled: int | None = None
    updated_number_scheduled: int | None = None
    updated_replicas: int | None = None
    observed_generation: int | None = None
    ready: int | None = None
    succeeded: int | None = None
    failed: int | None = None
    conditions: tuple[_Condition, ...] | None = None

    @property
    def refusal(self) -> str:
        failing = (each for each in self.conditions or () if (each.type, each.status) == ("ReplicaFailure", "True"))
        return next((" ".join((each.message or "").split()) for each in failing), "")


class _WireWorkload(Wire):
    metadata: Metadata
    spec: _Spec | None = None
    status: _Status | None = None

    def _fact(self, kind: str, replicas: int, available: int | None) -> Workload:
        spec, status, metadata = self.spec or _Spec(), self.status or _Status(), self.metadata
        owner_kind, owner_name = metadata.owner
        strategy = spec.update_strategy or spec.strategy or _Strategy()
        return Workload(
            kind=kind,
            name=metadata.name,
            namespace=metadata.namespace or "default",
            labels=metadata.labels or {},
            annotations=metadata.kept_annotations,
            template=(spec.template or WireTemplate()).fact(),
            selector=spec.selector,
            replicas=replicas,
            available=available or 0,
            succeeded=status.succeeded or 0,
            failed=status.failed or 0,
            conditions=statuses(status.conditions),
            suspended=bool(spec.suspend),
            owner_kind=owner_kind,
            owner_name=owner_name,
            created=metadata.creation_timestamp,
            scheduled=status.current_number_scheduled or 0,
            updated=status.updated_number_scheduled or status.updated_replicas or 0,
            update_strategy=strategy.type or "",
            generation=metadata.generation,
            observed_generation=status.observed_generation,
            refusal=status.refusal,
        )

    @property
    def _asked_replicas(self) -> int:
        """``spec.replicas``, 1 when absent, as the API server defaults it."""
        replicas = (self.spec or _Spec()).replicas
        return 1 if replicas is None else replicas


class WireDeployment(_WireWorkload):
    """A Deployment in JSON."""

    def fact(self) -> Workload:
        """The deployment as the suites see it."""
        return self._fact("Deployment", self._asked_replicas, (self.status or _Status()).available_replicas)


class WireStatefulSet(_WireWorkload):
    """A StatefulSet in JSON."""

    def fact(self) -> Workload:
        """The stateful set as the suites see it."""
        return self._fact("StatefulSet", self._asked_replicas, (self.status or _Status()).available_replicas)


class WireDaemonSet(_WireWorkload):
    """A DaemonSet in JSON."""

    def fact(self) -> Workload:
        """The daemon set as the suites see it; it wants as many pods as nodes that it can use."""
        status = self.status or _Status()
        return self._fact("DaemonSet", status.desired_number_scheduled or 0, status.number_available)


class WireJob(_WireWorkload):
    """A Job in JSON."""

    def fact(self) -> Workload:
        """The job as the suites see it; its parallelism is 1 when absent, as the API server defaults it.

        A Job without completions makes no new pod once one has succeeded (kubernetes: pkg/controller/job,
        wantActivePods).
        """
        spec, status = self.spec or _Spec(), self.status or _Status()
        succeeded, ready = status.succeeded or 0, status.ready
        wanted = 1 if spec.parallelism is None else spec.parallelism
        if spec.completions is not None:
            wanted = min(wanted, max(0, spec.completions - succeeded))
        elif succeeded:
            wanted = min(wanted, ready or 0)
        manager = spec.managed_by or OWN_JOB_CONTROLLER
        return msgspec.structs.replace(
            self._fact("Job", wanted, ready),
            failures_left=self._failures_left,
            managed_by="" if manager == OWN_JOB_CONTROLLER else manager,
        )

    @property
    def _failures_left(self) -> int | None:
        """How many pods may fail; an evicted pod is one that failed, unless a policy ignores DisruptionTarget.

        Source: kubernetes.io: Jobs, Pod backoff failure policy and Pod failure policy; the default limit is 6.
        """
        spec, status = self.spec or _Spec(), self.status or _Status()
        if spec.backoff_limit_per_index is not None or _ignores_evictions(spec.pod_failure_policy):
            return None
        return max(0, (6 if spec.backoff_limit is None else spec.backoff_limit) - (status.failed or 0))


def _ignores_evictions(policy: dict[str, Any] | None) -> bool:
    """Whether the first rule of a podFailurePolicy that is about evicted pods ignores them."""
    for rule in (policy or {}).get("rules") or ():
        conditions = rule.get("onPodConditions") or ()
        if any(each.get("type") == "DisruptionTarget" and each.get("status", "True") == "True" for each in conditions):
            return bool(rule.get("action") == "Ignore")
    return False


class WireReplicaSet(Wire):
    """A ReplicaSet in JSON, its metadata only."""

    metadata: Metadata

    def fact(self) -> ReplicaSet:
        """The replica set as the suites see it."""
        kind, name = self.metadata.owner
        namespace = self.metadata.namespace or "default"
        return ReplicaSet(name=self.metadata.name, namespace=namespace, owner_kind=kind, owner_name=name)


class _BudgetSpec(Wire):
    selector: dict[str, Any] | None = None
    min_available: str | int | None = None
    max_unavailable: str | int | None = None
    unhealthy_pod_eviction_policy: str | None = None


class _BudgetStatus(Wire):
    disruptions_allowed: int | None = None
    current_healthy: int | None = None
    desired_healthy: int | None = None
    expected_pods: int | None = None


class WireDisruptionBudget(Wire):
    """A PodDisruptionBudget in JSON."""

    metadata: Metadata
    spec: _BudgetSpec | None = None
    status: _BudgetStatus | None = None

    def fact(self) -> PodDisruptionBudget:
        """The budget as the suites see it."""
        spec, status = self.spec or _BudgetSpec(), self.status or _BudgetStatus()
        return PodDisruptionBudget(
            name=self.metadata.name,
            namespace=self.metadata.namespace or "default",
            labels=self.metadata.labels or {},
            selector=spec.selector,
            min_available="" if spec.min_available is None else str(spec.min_available),
            max_unavailable="" if spec.max_unavailable is None else str(spec.max_unavailable),
            disruptions_allowed=status.disruptions_allowed or 0,
            healthy=status.current_healthy or 0,
            desired=status.desired_healthy or 0,
            expected=status.expected_pods or 0,
            unhealthy_eviction=spec.unhealthy_pod_eviction_policy or "",
        )
