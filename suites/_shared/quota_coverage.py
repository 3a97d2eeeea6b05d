"""What covers the GPUs that a namespace may take: ResourceQuotas with their scopes, and the quotas of other systems.

A ResourceQuota with scopes counts only the pods in its scope; whoever leaves the scope is not limited. So a key is
covered when there is no pod, of all that could be made, that no quota counts. OpenShift's ClusterResourceQuotas count
like ResourceQuotas, over several namespaces. Kueue, KAI, Volcano and YuniKorn limit what they admit and schedule, HAMi
what its scheduler places: they are named as what they are. The limits of Slurm are in no object that is read, nor is in
which of YuniKorn's queues pods are that go by their users: of those nobody can tell here what bounds them.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import product
from typing import NamedTuple

from conformance.facts import Facts, Pod, Resource, ResourceQuota, Workload
from conformance.facts.limits import PRIORITY_CLASS_SCOPE, PodTraits, ScopeTerm
from conformance.facts.podspec import PodSpec
from conformance.gpu.labels import HAMI_QUOTA_KEYS, VOLCANO, YUNIKORN
from conformance.gpu.resources import quota_key
from conformance.gpu.written import mappings
from conformance.kube.paths import PLACES
from conformance.reference.model import Reference
from conformance.reference.stack import RUN_AI, Kai
from conformance.verdict import Inconclusive, join_limited
from suites._shared import kueue, volcano, yunikorn
from suites._shared.claim_quotas import quotas_counting, quotas_kept_by_scopes
from suites._shared.gpu_requests import (
    classes_claimed,
    classes_of_others,
    gpu_pods,
    names_of_gpus,
    requests_gpus,
)
from suites._shared.kai import UNBOUNDED, Queue, divided, queue_of, queues_of, with_ancestors
from suites._shared.resource_slices import DeviceClass, device_class

# Kubernetes: Resource Quotas, quota for DRA device classes.
_BY_CLASS = ".deviceclass.resource.k8s.io/devices"
# SlinkyProject/slurm-bridge: it places pods as jobs of Slurm, under Slurm's limits.
_SLURM = "slurm-bridge-scheduler"
# Others have limits of their own beside these.
_READ_OR_WITHOUT_QUEUES = frozenset(
    {"", "default-scheduler", "hami-scheduler", Kai().scheduler, RUN_AI.scheduler, VOLCANO}
)


class Coverage(NamedTuple):
    """What covers a resource in a namespace; ``gap`` says which pods nothing counts, empty when there are none.

    ``remedy`` is what to do about a gap that is not one of scopes.
    """

    by: tuple[str, ...]
    gap: str
    remedy: str = ""

    def __bool__(self) -> bool:
        return bool(self.by) and not self.gap


def coverage(namespace: str, resources: Collection[str], facts: Facts) -> Coverage:
    """What limits how many devices of one of ``resources`` the pods of a namespace may hold together.

    Other systems are asked only where Kubernetes' own quotas leave a gap: who may read those need not read theirs.
    """
    keys = {quota_key(each) for each in resources}
    own = [quota for quota in facts.quotas_in(namespace) if keys & quota.used.keys()]
    if own and not _gap(own, namespace, facts):
        return Coverage(tuple(map(str, own)), "")
    quotas = [*own, *(quota for quota in _cluster_wide(namespace, facts) if keys & quota.used.keys())]
    others = [*_of_kueue(namespace, resources, facts), *_of_hami(namespace, facts)]
    by = (*map(str, quotas), *others)
    if not by:
        return Coverage((), "no quota counts it")
    gap = "" if others else _gap(quotas, namespace, facts)
    return Coverage(by, gap)


def gpu_coverage(namespace: str, reference: Reference, facts: Facts) -> Coverage:
    """What limits the GPUs of a namespace under any of their names, as device claims, or as parts of GPUs.

    A quota of a device class counts where claims are made, KAI's queues where all GPU pods of the namespace are KAI's.
    """
    asked = names_of_gpus(reference, facts) | {name for node in facts.nodes for name in node.gpu_resources}
    found = coverage(namespace, sorted(asked), facts)
    if found and (gap := _past_kueue(namespace, asked, reference, facts)):
        found = Coverage(found.by, gap, kueue.QUEUE_THEM)
    uncounted = _uncounted_claims(namespace, reference, facts)
    if found and (not uncounted or any((*_of_kueue(namespace, asked, facts), *_of_hami(namespace, facts)))):
        return found
    counting = [*facts.quotas_in(namespace), *_cluster_wide(namespace, facts)]
    by_class = [quota for quota in counting if not quota.scope_terms and _counts_claims_of_gpus(quota, facts)]
    if by_class and not uncounted:
        return Coverage(tuple(map(str, by_class)), "")
    if uncounted and counting:
        found = _without_claims(uncounted, [str(quota) for quota in by_class] or list(found.by), counting, facts)
    queues = (
        _of_kai(namespace, reference, facts)
        or _of_volcano(namespace, reference, facts)
        or _of_yunikorn(namespace, reference, facts)
    )
    return Coverage(queues, "") if queues else found


def _past_kueue(namespace: str, asked: Collection[str], reference: Reference, facts: Facts) -> str:
    """The first GPU pod that runs past Kueue's queues where only these bound a namespace, in words; else empty."""
    queues = list(_of_kueue(namespace, asked, facts))
    keys = {quota_key(each) for each in asked}
    counting = [
        each for each in (*facts.quotas_in(namespace), *_cluster_wide(namespace, facts)) if keys & each.used.keys()
    ]
    if not queues or any(_of_hami(namespace, facts)) or (counting and not _gap(counting, namespace, facts)):
        return ""
    with suppress(Inconclusive):
        for pod in _asking(namespace, reference, facts):
            if kueue.runs_past_the_queues(pod, facts):
                return f"{pod} runs without having been admitted: neither it nor what makes it names a queue of Kueue"
    return ""


def undecided(namespace: str, reference: Reference, facts: Facts) -> str:
    """Why it cannot be told whether a namespace that nothing covers is bounded; empty where it can.

    What a queue of Volcano deserves bounds it where the scheduler takes the rest back, which no object says; what Slurm
    allows its accounts no object of the API says, nor in which of YuniKorn's queues pods are that go by their users.
    """
    schedulers = {pod.scheduler for pod in _asking(namespace, reference, facts)}
    if schedulers and schedulers <= {YUNIKORN, _SLURM}:
        places = _places_in_yunikorn(namespace, reference, facts)
        if any(not place.bound and not place.open for place in places):
            return ""
        why = next((each.open for each in places if each.open), "")
        if why:
            why = f"YuniKorn places its pods within limits that are not known here: {why}"
        elif _SLURM in schedulers:
            why = "Slurm places its pods within limits that are in no object of the API"
        return f"{why}; a ResourceQuota bounds anyway" if why else ""
    bounds = _volcano_bounds(namespace, reference, facts)
    if not bounds or not all(bounds) or all(bound.sure for bound in bounds if bound):
        return ""
    told = join_limited(sorted({bound.words for bound in bounds if bound and not bound.sure}))
    return (
        f"{told}, beyond which Volcano takes back only where its scheduler is configured so (plugin capacity, action "
        "reclaim), which is not read; a capability bounds in any case"
    )


def _uncounted_claims(namespace: str, reference: Reference, facts: Facts) -> list[DeviceClass]:
    """The classes of accelerators whose devices the pods of a namespace claim, and whose claims no quota counts."""
    with suppress(Inconclusive):
        others = classes_of_others(facts)
        asked = {
            name
            for pod in _asking(namespace, reference, facts)
            for name in classes_claimed(pod, namespace, facts)
            if name not in others
        }
        if not asked:
            return []
        quotas = [*facts.quotas_in(namespace), *_cluster_wide(namespace, facts)]
        every = [device_class(each.body) for each in facts.device_classes]
        return [each for each in every if each.name in asked and not quotas_counting(each, quotas, facts)]
    return []


def _without_claims(uncounted: list[DeviceClass], by: list[str], quotas: list[ResourceQuota], facts: Facts) -> Coverage:
    """What covers a namespace but for the claims of a class."""
    first = uncounted[0]
    scoped = quotas_kept_by_scopes(first, quotas, facts)
    why = f"{scoped[0]} has scopes, and claims have none" if scoped else f"no quota has {first.quota_key}"
    return Coverage(
        tuple(by or map(str, scoped)),
        f"its pods claim devices of {first}, and no quota counts claims: {why}",
        f"Add {first.quota_key} to a ResourceQuota of the namespace that has no scopes and no scopeSelector.",
    )


def _counts_claims_of_gpus(quota: ResourceQuota, facts: Facts) -> bool:
    """Whether a quota counts claims of a device class that is not known to choose something else than GPUs."""
    classes = {key.removesuffix(_BY_CLASS) for key in quota.used if key.endswith(_BY_CLASS)}
    if not classes:
        return False
    with suppress(Inconclusive):
        classes -= classes_of_others(facts)
    return bool(classes)


def how_to_cover(namespace: str, reference: Reference, facts: Facts) -> str:
    """What to do about a namespace without quota where others than Kubernetes count or schedule; empty elsewhere."""
    places = _places_in_yunikorn(namespace, reference, facts)
    if unbounded := sorted({each.queue for each in places if each.queue and not each.bound}):
        return (
            f"Give the queue {join_limited(unbounded)} of YuniKorn, or one above it but root, a resources.max with the "
            "GPUs that it may have; or give the namespace a ResourceQuota with a key requests.<resource>."
        )
    others = sorted({pod.scheduler for pod in _asking(namespace, reference, facts)} - _READ_OR_WITHOUT_QUEUES)
    if others:
        return (
            "Give the namespace a ResourceQuota with a key requests.<resource> for the GPUs that it uses. Limits of "
            f"{join_limited(others)}, which places its pods, are not read: where they cover the namespace, waive it."
        )
    with suppress(Inconclusive):
        if any(bound is None for bound in _volcano_bounds(namespace, reference, facts)):
            return (
                "Give the Volcano queue of its pods a capability with the GPUs that it may have, or the namespace a "
                "ResourceQuota with a key requests.<resource> for the GPUs that it uses."
            )
        if queues := _without_bound(namespace, reference, facts):
            return (
                f"Give {join_limited(queues)} of KAI, or a queue above, a GPU limit, or a quota beyond which KAI takes "
                "GPUs back for other queues; or give the namespace a ResourceQuota with a key requests.<resource>."
            )
        if _is_defined("ClusterResourceQuota", facts):
            return (
                "Give the namespace a ResourceQuota with a key requests.<resource> for the GPUs that it uses, or have "
                "a ClusterResourceQuota with that key select it by a label or annotation of the project."
            )
    return ""


def is_held_by_hami(key: str, facts: Facts) -> bool:
    """Whether HAMi's scheduler holds a key of a quota: where a node says that HAMi manages its devices."""
    return key in HAMI_QUOTA_KEYS and facts.hami_manages_devices


def _cluster_wide(namespace: str, facts: Facts) -> Iterator[ResourceQuota]:
    """The ClusterResourceQuotas that select a namespace, in the form of ResourceQuotas."""
    for each in _of_kind("ClusterResourceQuota", facts, lambda: facts.cluster_resource_quotas):
        if any(part.get("namespace") == namespace for part in mappings(each.status.get("namespaces"))):
            yield _as_quota(each)


def _gap(quotas: list[ResourceQuota], namespace: str, facts: Facts) -> str:
    """The first kind of pod that none of the quotas counts, in words; empty when every pod is counted."""
    if any(not quota.scope_terms for quota in quotas):
        return ""
    missed = next(
        (pod for pod in _possible(quotas, namespace, facts) if not any(quota.counts(pod) for quota in quotas)), None
    )
    if missed is None:
        return ""
    scopes = "; ".join(f"{quota} counts {' and '.join(map(str, quota.scope_terms))}" for quota in quotas)
    return f"{missed} is counted by none: {scopes}"


def _possible(quotas: Iterable[ResourceQuota], namespace: str, facts: Facts) -> Iterator[PodTraits]:
    """The pods of a namespace that differ in what the scopes of these quotas ask for, the most ordinary first."""
    scopes = {term.scope for quota in quotas for term in quota.scope_terms}
    either = (False, True)
    best_effort = (False,) if _has_default_amounts(namespace, facts) else either
    for traits in product(
        _classes(facts) if PRIORITY_CLASS_SCOPE in scopes else ("",),
        either if scopes & {"Terminating", "NotTerminating"} else (False,),
        best_effort if scopes & {"BestEffort", "NotBestEffort"} else (False,),
        either if "CrossNamespacePodAffinity" in scopes else (False,),
    ):
        yield PodTraits(
            priority_class=traits[0], terminating=traits[1], best_effort=traits[2], crosses_namespaces=traits[3]
        )


def _has_default_amounts(namespace: str, facts: Facts) -> bool:
    """Whether every container of a namespace gets CPU or memory, so that none of its pods is BestEffort.

    Without a default of its own, an item's maximum becomes the default (kubernetes: pkg/apis/core/v1/defaults.go,
    SetDefaults_LimitRangeItem; the API server has filled it in by then).
    """
    items = [item for each in facts.limit_ranges_in(namespace) for item in each.items if item.type == "Container"]
    return any({*item.default, *item.default_request} & {"cpu", "memory"} for item in items)


def _classes(facts: Facts) -> tuple[str, ...]:
    """The classes that a pod may have, empty for none; the two of Kubernetes itself are not for the pods of teams."""
    classes = [each for each in facts.priority_classes if not each.is_system]
    without = () if any(each.global_default for each in classes) else ("",)
    return (*without, *(each.name for each in classes))


def _as_quota(resource: Resource) -> ResourceQuota:
    """A ClusterResourceQuota in the form of a ResourceQuota (openshift/api, quota/v1: spec.quota, status.total)."""
    spec, total = resource.spec.get("quota") or {}, resource.status.get("total") or {}
    terms = (spec.get("scopeSelector") or {}).get("matchExpressions")
    return _ClusterWide(
        name=resource.name,
        namespace="",
        hard={key: str(amount) for key, amount in (spec.get("hard") or {}).items()},
        used={key: str(amount) for key, amount in (total.get("used") or {}).items()},
        scopes=tuple(spec.get("scopes") or ()),
        scope_selector=tuple(
            ScopeTerm(
                scope=str(term.get("scopeName")),
                operator=str(term.get("operator") or "Exists"),
                values=tuple(term.get("values") or ()),
            )
            for term in mappings(terms)
        ),
    )


class _ClusterWide(ResourceQuota, frozen=True, kw_only=True, gc=False):
    """A quota over several namespaces."""

    def __str__(self) -> str:
        return f"cluster resource quota {self.name}"


def _of_kind(kind: str, facts: Facts, read: Callable[[], tuple[Resource, ...]]) -> tuple[Resource, ...]:
    """The objects of a kind of another system: none where the cluster has no definition of it.

    An account that may not list a kind is refused also where the kind does not exist, and an older snapshot has none
    of it; only with its definition there is it not known whether there are objects.
    """
    try:
        return read()
    except Inconclusive:
        if _is_defined(kind, facts):
            raise
        return ()


def _is_defined(kind: str, facts: Facts) -> bool:
    """Whether the cluster has a definition of a kind of another system. Raises Waits where none could be read."""
    place = PLACES[kind]
    return f"{place.plural}.{place.group_version.partition('/')[0]}" in {each.name for each in facts.crds}


def _of_kueue(namespace: str, resources: Collection[str], facts: Facts) -> Iterator[str]:
    """The ClusterQueues that admit the work of a namespace and count one of the resources."""
    queues = {each.name: each for each in _of_kind("ClusterQueue", facts, lambda: facts.cluster_queues)}
    for local in _of_kind("LocalQueue", facts, lambda: facts.local_queues):
        queue = queues.get(str(local.spec.get("clusterQueue")))
        if local.namespace != namespace or queue is None:
            continue
        groups = mappings(queue.spec.get("resourceGroups"))
        if any(set(resources) & set(group.get("coveredResources") or ()) for group in groups):
            yield f"{queue} of Kueue, through {local}"


def _of_kai(namespace: str, reference: Reference, facts: Facts) -> tuple[str, ...]:
    """What bounds KAI's queues where all GPU pods of a namespace are in queues that are bounded; empty elsewhere."""
    pods = _asking(namespace, reference, facts)
    if not pods or not facts.serves("Queue"):
        return ()
    queues = queues_of(facts)
    bounds: dict[str, None] = {}
    for pod in pods:
        kai = _kai_of(pod, reference)
        bound = _bound_of_kai([queues[name] for name in with_ancestors(queue_of(pod, kai, facts), queues)], queues)
        if pod.scheduler != kai.scheduler or not bound:
            return ()
        bounds[bound] = None
    return tuple(bounds)


def _kai_of(pod: Pod, reference: Reference) -> Kai:
    return reference.kai or (RUN_AI if pod.scheduler == RUN_AI.scheduler else Kai())


def _bound_of_kai(chain: list[Queue], queues: Mapping[str, Queue]) -> str:
    """The limit of a queue or of one above it, else the quota beyond which KAI takes back; empty without either."""
    limited = next((queue for queue in chain if queue.limit != UNBOUNDED), None)
    if limited is not None:
        return f"{limited} of KAI, limit {limited.limit:g}"
    by_quota = divided(chain, queues)
    return f"{by_quota} of KAI, quota {by_quota.quota:g}, beyond which it takes back" if by_quota is not None else ""


def _without_bound(namespace: str, reference: Reference, facts: Facts) -> list[str]:
    """The queues of KAI that bound nothing and whose pods a namespace has."""
    if not facts.serves("Queue"):
        return []
    queues, found = queues_of(facts), set[str]()
    for pod in _asking(namespace, reference, facts):
        kai = _kai_of(pod, reference)
        name = queue_of(pod, kai, facts)
        chain = [queues[each] for each in with_ancestors(name, queues)]
        if pod.scheduler == kai.scheduler and chain and not _bound_of_kai(chain, queues):
            found.add(name)
    return sorted(found)


def _of_volcano(namespace: str, reference: Reference, facts: Facts) -> tuple[str, ...]:
    """What bounds Volcano's queues where all GPU pods of a namespace are in bounded queues; empty elsewhere."""
    bounds = _volcano_bounds(namespace, reference, facts)
    if not all(bound is not None and bound.sure for bound in bounds):
        return ()
    return tuple(dict.fromkeys(bound.words for bound in bounds if bound is not None))


def _of_yunikorn(namespace: str, reference: Reference, facts: Facts) -> tuple[str, ...]:
    """What bounds YuniKorn's queues where all GPU pods of a namespace are in bounded queues; empty elsewhere."""
    places = _places_in_yunikorn(namespace, reference, facts)
    if len(places) < len(_asking(namespace, reference, facts)) or not all(place.bound for place in places):
        return ()
    return tuple(dict.fromkeys(place.bound for place in places))


def _places_in_yunikorn(namespace: str, reference: Reference, facts: Facts) -> list[yunikorn.Place]:
    """Where YuniKorn places those GPU pods of a namespace that are its own."""
    pods = [pod for pod in _asking(namespace, reference, facts) if pod.scheduler == YUNIKORN]
    queues = yunikorn.queues_of(facts) if pods else None
    names = names_of_gpus(reference, facts)
    return [yunikorn.place_of(pod, pod.gpu_requests(names), queues, facts) for pod in pods]


def _volcano_bounds(namespace: str, reference: Reference, facts: Facts) -> list[volcano.Bound | None]:
    """What bounds each GPU pod of a namespace by its queue; empty unless all are Volcano's, and it has queues."""
    pods = _asking(namespace, reference, facts)
    if any(pod.scheduler != VOLCANO for pod in pods):
        return []
    queues = {each.name: each for each in _of_kind("VolcanoQueue", facts, lambda: facts.volcano_queues)}
    names = names_of_gpus(reference, facts)
    return [volcano.bound_of(volcano.queue_of(pod, facts), pod.gpu_requests(names), queues) for pod in pods if queues]


def _asking(namespace: str, reference: Reference, facts: Facts) -> list[Pod]:
    """The GPU pods of a namespace that have not ended; where there are none, those that its workloads would make."""
    living = [pod for pod in gpu_pods(facts, reference) if pod.namespace == namespace and not pod.finished]
    if living:
        return living
    manifests = [each.manifest for each in reference.workloads if each.manifest]
    declared = Facts.from_objects(manifests).workloads if manifests else ()
    return [
        _of_template(each)
        for each in declared
        if each.namespace == namespace and requests_gpus(each.template, namespace, reference, facts)
    ]


def _of_template(workload: Workload) -> Pod:
    """The pod that a workload would make; KAI and Volcano read its own labels and annotations as well."""
    members = {name: getattr(workload.template, name) for name in PodSpec.__struct_fields__}
    members["labels"] = {**workload.labels, **workload.template.labels}
    members["annotations"] = {**workload.annotations, **workload.template.annotations}
    return Pod(name=workload.name, namespace=workload.namespace, **members)


def _of_hami(namespace: str, facts: Facts) -> Iterator[str]:
    """The quotas whose keys HAMi holds."""
    for quota in facts.quotas_in(namespace):
        if held := [key for key in quota.hard if is_held_by_hami(key, facts)]:
            yield f"{quota} with {', '.join(held)}, which HAMi holds"
