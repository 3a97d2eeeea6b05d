"""Quotas, limit ranges and priority classes: what bounds pods and ranks them."""

from datetime import datetime

import msgspec

from conformance.facts.wire import Metadata, Quantities, Wire, texts
from conformance.gpu.affinity import selector_matches
from conformance.subjects import ObjectReference

PREEMPTS = "PreemptLowerPriority"
"""The preemptionPolicy of a class that names none."""

PRIORITY_CLASS_SCOPE = "PriorityClass"


class PodTraits(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What of a pod decides under which scopes of a quota it falls.

    ``priority_class`` is empty for a pod without one, ``terminating`` says that it has activeDeadlineSeconds,
    ``best_effort`` that no container requests or limits CPU or memory, ``crosses_namespaces`` that a term of its pod
    (anti-)affinity names other namespaces.
    """

    priority_class: str = ""
    terminating: bool = False
    best_effort: bool = False
    crosses_namespaces: bool = False

    def __str__(self) -> str:
        told = [f"priority class {self.priority_class}" if self.priority_class else "no priority class"]
        told += ["activeDeadlineSeconds"] if self.terminating else []
        told += ["no requests of CPU and memory"] if self.best_effort else []
        told += ["affinity to pods of other namespaces"] if self.crosses_namespaces else []
        return f"a pod with {' and '.join(told)}"


class ScopeTerm(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One expression of a quota's scope, such as PriorityClass In (training-normal)."""

    scope: str
    operator: str = "Exists"
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"{self.scope} {self.operator} ({', '.join(self.values)})"
            if self.values
            else f"{self.scope} {self.operator}"
        )


class ResourceQuota(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One quota. ``used`` has only the keys that the quota controller counts: a key that it lacks limits nothing."""

    name: str
    namespace: str = "default"
    labels: dict[str, str] = {}
    hard: dict[str, str] = {}
    used: dict[str, str] = {}
    scopes: tuple[str, ...] = ()
    scope_selector: tuple[ScopeTerm, ...] = ()

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("ResourceQuota", self.name, namespace=self.namespace, text=str(self))

    def __str__(self) -> str:
        return f"quota {self.namespace}/{self.name}"

    @property
    def ignored_keys(self) -> tuple[str, ...]:
        """The keys of ``hard`` that the quota controller does not count, sorted."""
        return tuple(sorted(key for key in self.hard if key not in self.used))

    @property
    def scope_terms(self) -> tuple[ScopeTerm, ...]:
        """The terms of ``scopes`` and ``scopeSelector``; a pod falls under the quota only when it meets all of them."""
        return (*(ScopeTerm(scope=scope) for scope in self.scopes), *self.scope_selector)

    def counts(self, pod: PodTraits) -> bool:
        """Whether such pods fall under the quota.

        Source: kubernetes pkg/quota/v1/evaluator/core/pods.go, podMatchesScopeFunc: Exists is the only operator of
        every scope but PriorityClass. A scope that nobody knows matches no pod.
        """
        return all(_matches(term, pod) for term in self.scope_terms)

    def counts_class(self, priority_class: str) -> bool:
        """Whether pods of this priority class (empty: of none) fall under the quota as far as classes decide it."""
        pod = PodTraits(priority_class=priority_class)
        return all(_matches(term, pod) for term in self.scope_terms if term.scope == PRIORITY_CLASS_SCOPE)


def _matches(term: ScopeTerm, pod: PodTraits) -> bool:
    """Whether a pod meets one term; NotIn and DoesNotExist also hold for a pod without a class."""
    if term.scope == PRIORITY_CLASS_SCOPE:
        labels = {PRIORITY_CLASS_SCOPE: pod.priority_class} if pod.priority_class else {}
        wanted = {"key": term.scope, "operator": term.operator, "values": term.values}
        return selector_matches({"matchExpressions": [wanted]}, labels)
    return {
        "Terminating": pod.terminating,
        "NotTerminating": not pod.terminating,
        "BestEffort": pod.best_effort,
        "NotBestEffort": not pod.best_effort,
        "CrossNamespacePodAffinity": pod.crosses_namespaces,
    }.get(term.scope, False)


class LimitRangeItem(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One item of a limit range, for objects of one type (Container, Pod, PersistentVolumeClaim)."""

    type: str = ""
    max: dict[str, str] = {}
    min: dict[str, str] = {}
    default: dict[str, str] = {}
    default_request: dict[str, str] = {}
    max_limit_request_ratio: dict[str, str] = {}


class LimitRange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One limit range."""

    name: str
    namespace: str = "default"
    labels: dict[str, str] = {}
    items: tuple[LimitRangeItem, ...] = ()

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("LimitRange", self.name, namespace=self.namespace)

    def __str__(self) -> str:
        return f"limit range {self.namespace}/{self.name}"

    @property
    def container_defaults(self) -> dict[str, str]:
        """The limits that containers without any get, by resource, from the items of type Container."""
        return {key: amount for item in self.items if item.type == "Container" for key, amount in item.default.items()}


class PriorityClass(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One priority class."""

    name: str
    value: int = 0
    global_default: bool = False
    preemption_policy: str = PREEMPTS
    description: str = ""
    labels: dict[str, str] = {}
    created: datetime | None = None

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("PriorityClass", self.name)

    def __str__(self) -> str:
        return f"priority class {self.name}"

    @property
    def is_system(self) -> bool:
        """Whether it is one of the two that Kubernetes itself makes; only they may begin with ``system-``."""
        return self.name.startswith("system-")

    @property
    def may_preempt(self) -> bool:
        """Whether its pods may evict pods of lower priority."""
        return self.preemption_policy == PREEMPTS

    def preempts(self, other: "PriorityClass") -> bool:
        """Whether its pods may evict those of ``other`` when room is short."""
        return self.may_preempt and self.value > other.value


class _ScopeTerm(Wire):
    scope_name: str | None = None
    operator: str | None = None
    values: tuple[str, ...] | None = None

    def fact(self) -> ScopeTerm:
        return ScopeTerm(scope=self.scope_name or "", operator=self.operator or "Exists", values=self.values or ())


class _ScopeSelector(Wire):
    match_expressions: tuple[_ScopeTerm, ...] | None = None


class _QuotaSpec(Wire):
    hard: Quantities | None = None
    scopes: tuple[str, ...] | None = None
    scope_selector: _ScopeSelector | None = None


class _QuotaStatus(Wire):
    used: Quantities | None = None


class WireResourceQuota(Wire):
    """A ResourceQuota in JSON."""

    metadata: Metadata
    spec: _QuotaSpec | None = None
    status: _QuotaStatus | None = None

    def fact(self) -> ResourceQuota:
        """The quota as the suites see it."""
        spec, status = self.spec or _QuotaSpec(), self.status or _QuotaStatus()
        terms = (spec.scope_selector or _ScopeSelector()).match_expressions or ()
        return ResourceQuota(
            name=self.metadata.name,
            namespace=self.metadata.namespace or "default",
            labels=self.metadata.labels or {},
            hard=texts(spec.hard),
            used=texts(status.used),
            scopes=spec.scopes or (),
            scope_selector=tuple(term.fact() for term in terms),
        )


class _Item(Wire):
    type: str | None = None
    max: Quantities | None = None
    min: Quantities | None = None
    default: Quantities | None = None
    default_request: Quantities | None = None
    max_limit_request_ratio: Quantities | None = None

    def fact(self) -> LimitRangeItem:
        return LimitRangeItem(
            type=self.type or "",
            max=texts(self.max),
            min=texts(self.min),
            default=texts(self.default),
            default_request=texts(self.default_request),
            max_limit_request_ratio=texts(self.max_limit_request_ratio),
        )


class _LimitSpec(Wire):
    limits: tuple[_Item, ...] | None = None


class WireLimitRange(Wire):
    """A LimitRange in JSON."""

    metadata: Metadata
    spec: _LimitSpec | None = None

    def fact(self) -> LimitRange:
        """The limit range as the suites see it."""
        return LimitRange(
            name=self.metadata.name,
            namespace=self.metadata.namespace or "default",
            labels=self.metadata.labels or {},
            items=tuple(item.fact() for item in (self.spec or _LimitSpec()).limits or ()),
        )


class WirePriorityClass(Wire):
    """A PriorityClass in JSON."""

    metadata: Metadata
    value: int | None = None
    global_default: bool | None = None
    preemption_policy: str | None = None
    description: str | None = None

    def fact(self) -> PriorityClass:
        """The priority class as the suites see it."""
        return PriorityClass(
            name=self.metadata.name,
            value=self.value or 0,
            global_default=bool(self.global_default),
            preemption_policy=self.preemption_policy or PREEMPTS,
            description=self.description or "",
            labels=self.metadata.labels or {},
            created=self.metadata.creation_timestamp,
        )
