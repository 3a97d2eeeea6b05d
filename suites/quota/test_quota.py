"""Quota: how many GPUs a team may hold, and what no quota counts.

Only one spelling of a limit on GPUs works: `requests.<resource>`. Kubernetes accepts every other one and counts
nothing. A ResourceQuota knows resources by name, so GPUs that are offered under another name (`.shared`, `mig-*`) are
not among those that it counts. And what a quota refuses never becomes a pod, so there is no Pending one to find.
LimitRanges belong to the chapter because they do the opposite of what people write them for: a maximum of GPUs becomes
the default, and every container of the namespace asks for that many.

This chapter reads the quotas that exist and asks each team's own namespace for one GPU too many, as a dry run. The
chapter on counting shows why the rules are what they are.
"""

import pytest

from conformance.catalog import MUST, ON_NO_NODE, OWN_NAMESPACE, SHOULD, requirement
from conformance.facts import Facts, LimitRange, Pod, ResourceQuota
from conformance.gpu.quantities import as_count
from conformance.gpu.resources import quota_key
from conformance.lab import LabQuota, RequirementLab
from conformance.reference.expected import gpu_resources
from conformance.reference.model import Quota, Reference, Team
from conformance.subjects import ObjectReference
from conformance.verdict import Judge, NotApplicable, Unsupported, Waits
from suites._shared.gpu_holders import only_pauses
from suites._shared.gpu_requests import gpu_pods, names_gpus, only_watches_gpus, requests_gpus
from suites._shared.pool_nodes import Members, without_gpus
from suites._shared.quota_coverage import coverage, gpu_coverage, how_to_cover, is_held_by_hami, undecided
from suites._shared.quota_namespace import (
    ADMITTED,
    REFUSED,
    GpuKey,
    declared_gpu_quotas,
    gpu_keys,
    never_starting,
    outcome,
)
from suites.quota.declared_quotas import as_it_is, differing_keys, kind_of, tightened

# --- What the owners declared ------------------------------------------------------------------------------------


@pytest.fixture
def teams(reference: Reference) -> tuple[Team, ...]:
    """The declared teams."""
    if not reference.teams:
        raise NotApplicable(f"{reference} declares no teams")
    return reference.teams


@pytest.fixture
def quotas(teams: tuple[Team, ...]) -> tuple[tuple[Team, Quota], ...]:
    """Every declared quota with its team."""
    declared = tuple((team, quota) for team in teams for quota in team.quotas)
    if not declared:
        raise NotApplicable("no team declares a quota")
    return declared


@pytest.fixture
def gpu_quotas(reference: Reference) -> tuple[tuple[Team, Quota], ...]:
    """Those that limit GPUs."""
    return declared_gpu_quotas(reference)


# --- Quotas and limit ranges of the cluster ----------------------------------------------------------------------


@requirement(
    "QUOTA-01",
    "Declared ResourceQuotas exist with their declared limits and scopes",
    level=MUST,
    sources=["guide-summary", "k8s-quotas"],
    remedy="Apply the declared quota. Running pods stay, also when they use more than the new limit.",
)
def test_declared_quotas_exist_with_their_limits(
    quotas: tuple[tuple[Team, Quota], ...], reference: Reference, facts: Facts, judge: Judge
) -> None:
    for team, declared in quotas:
        live = _quota(facts, team.namespace, declared.name)
        differing = differing_keys(declared, live) if live else []
        mistakes = [each for each in gpu_keys(declared.hard, reference) if not _is_held(each, facts)]
        judge(
            _named(team, declared),
            ok=live is not None and not differing,
            expected={key: declared.hard[key] for key in differing if key in declared.hard} or kind_of(declared),
            actual=(as_it_is(live, differing) or kind_of(declared)) if live else "no such quota",
            cause=_mistake_in(reference, mistakes)
            or (f"{', '.join(differing)} differ from what is declared" if differing else ""),
            remedy=_correct_declaration(mistakes) or _where_it_is_set(live),
            inspect=f"kubectl get quota -n {team.namespace} {declared.name} -o yaml",
        )
    for team in {team.namespace: team for team, _ in quotas}.values():
        _judge_undeclared(team, facts, judge)


def _judge_undeclared(team: Team, facts: Facts, judge: Judge) -> None:
    """Judge the quotas of a team's namespace that nobody declared and that take from what the declared ones give."""
    declared = {quota.name for quota in team.quotas}
    for live in facts.quotas_in(team.namespace):
        taken = tightened(live, team.quotas) if live.name not in declared else {}
        if not taken:
            continue
        judge(
            live,
            ok=False,
            expected="no quota that admits less than the declared ones",
            actual=taken,
            cause=f"{live} is not declared, and all quotas have to admit a pod: the lowest limit decides",
            hidden_because="the declared quota looks right, and what is refused never becomes a pod",
            remedy="Delete the quota if nobody needs it, or declare its limits.",
            inspect=f"kubectl describe quota -n {team.namespace}",
        )


@requirement(
    "QUOTA-02",
    "Every GPU key of a ResourceQuota is spelled requests.<resource> and counted in status.used",
    level=MUST,
    sources=["k8s-code-quota-pods", "device-plugin-211"],
    remedy="Write requests.<resource>, such as requests.nvidia.com/gpu. A limits. key is not needed: GPU requests and "
    "limits are always equal.",
)
def test_every_limit_on_gpus_is_spelled_so_that_it_counts(reference: Reference, facts: Facts, judge: Judge) -> None:
    limits = [(quota, key) for quota in facts.quotas for key in gpu_keys(quota.hard, reference)]
    if not limits:
        raise NotApplicable("no quota of the cluster names GPUs")
    for quota, key in limits:
        if is_held_by_hami(key.key, facts):
            judge(quota.subject.only(key.key), ok=True, expected="a key that is counted", actual="held by HAMi")
            continue
        judge(
            quota.subject.only(key.key),
            ok=key.counts and key.key in quota.used,
            expected=f"{quota_key(key.resource)}, counted in status.used",
            actual=f"{key.key}, {'counted' if key.key in quota.used else 'absent from status.used'}",
            cause="" if key.counts else f"Kubernetes counts no key of the name {key.key}",
            hidden_because="" if key.counts else "the API server accepts the key and kubectl describe lists it",
            remedy=f"Rename the key to {quota_key(key.resource)}." if not key.counts else "",
            inspect=f"kubectl get quota -n {quota.namespace} {quota.name} -o jsonpath='{{.status}}'",
        )


@requirement(
    "QUOTA-03",
    "Every GPU resource that nodes advertise is counted by a ResourceQuota of each team",
    level=MUST,
    sources=["k8s-code-quota-pods", "device-plugin-sharing"],
    remedy="Add a key requests.<resource> for each GPU resource that nodes advertise, 0 for those the team must not "
    "use.",
)
def test_every_advertised_gpu_resource_is_covered(
    gpu_quotas: tuple[tuple[Team, Quota], ...], reference: Reference, facts: Facts, members: Members, judge: Judge
) -> None:
    names = gpu_resources(reference)
    advertised = {
        name: node for node in reversed(facts.nodes) for name in names | {*node.gpu_resources} if node.gpus(name)
    }
    allocators = {pool.gpu.allocated_by for pool in reference.gpu_pools if pool.gpu}
    if not advertised and allocators == {"dra"}:
        raise NotApplicable("DRA allocates all declared GPUs, and no node advertises any; quotas count device classes")
    if not advertised and not any(pool.nodes for pool in reference.gpu_pools):
        raise NotApplicable("every GPU pool is declared with 0 nodes, and no node advertises a GPU")
    if not advertised:
        raise without_gpus(reference, members)
    for team in dict.fromkeys(team.namespace for team, _ in gpu_quotas):
        for resource, node in sorted(advertised.items()):
            found = coverage(team, [resource], facts)
            by_name = f"{node} offers {resource}, and a quota counts GPUs by name only"
            judge(
                ObjectReference.of("Namespace", team).only(resource),
                ok=bool(found),
                expected=f"{quota_key(resource)} of every pod counted by a quota",
                actual=found.by or "no quota counts it",
                cause=found.gap if found.by else by_name,
                hidden_because="the quota looks effective as long as one looks at it alone",
                remedy=_WITHOUT_SCOPE if found.by else "",
                inspect=f"kubectl describe quota -n {team}",
            )


@requirement(
    "QUOTA-04",
    "Every namespace with GPU workloads has a ResourceQuota that counts GPUs",
    level=MUST,
    sources=["guide-summary", "k8s-code-quota-pods"],
    remedy="Give the namespace a ResourceQuota with a key requests.<resource> for the GPUs that it uses.",
)
def test_every_namespace_with_gpu_workloads_has_a_gpu_quota(reference: Reference, facts: Facts, judge: Judge) -> None:
    holding = _gpu_workloads(reference, facts)
    if not holding:
        raise NotApplicable("no namespace has or declares workloads that request GPUs")
    alone = len(holding.keys() | {team.namespace for team in reference.teams}) == 1
    wanted = any(gpu_keys(quota.hard, reference) for team in reference.teams for quota in team.quotas)
    not_told: list[tuple[ObjectReference, str]] = []
    for namespace, workload in sorted(holding.items()):
        found = gpu_coverage(namespace, reference, facts)
        if alone and not wanted and not found.by:
            raise NotApplicable(f"namespace {namespace} alone has or declares GPUs: there is nobody to keep any for")
        if not found and (why := undecided(namespace, reference, facts)):
            not_told.append((ObjectReference.of("Namespace", namespace), why))
            continue
        judge(
            ObjectReference.of("Namespace", namespace),
            ok=bool(found),
            expected="a quota that counts the GPUs of every pod",
            actual=found.by or "none, so it may use every GPU of the cluster",
            cause=found.gap if found.by else f"{workload} requests GPUs, and no quota counts them",
            hidden_because="nothing shows it until another team finds no free GPU",
            remedy=found.remedy or (_WITHOUT_SCOPE if found.by else how_to_cover(namespace, reference, facts)),
            inspect=f"kubectl describe quota -n {namespace}",
        )
    if not judge.judged:
        raise Unsupported("; ".join(f"{each}: {why}" for each, why in not_told))
    for each, why in not_told:
        judge.pass_over(each, why)


@requirement(
    "QUOTA-11",
    "No LimitRange gives GPUs to containers that request none",
    level=MUST,
    sources=["k8s-code-limit-defaults", "kubeflow-bundle-599"],
    remedy="Take GPUs out of the LimitRange and limit them with a ResourceQuota. An item of type Pod does not help: "
    "its max refuses every pod without GPUs (QUOTA-12).",
)
def test_no_limit_range_gives_gpus_to_everybody(
    teams: tuple[Team, ...], reference: Reference, facts: Facts, judge: Judge
) -> None:
    there = {team.namespace for team in teams if facts.namespace(team.namespace)}
    if not there:
        raise Waits("none of the declared namespaces exists", on="TEN-01")
    for namespace in sorted(there | {each.namespace for each in facts.limit_ranges}):
        giving = {str(each): gpus for each in facts.limit_ranges_in(namespace) if (gpus := _gives(each, reference))}
        first = next(iter(giving), "")
        judge(
            ObjectReference.of("Namespace", namespace),
            ok=not giving,
            expected="no limit range with GPUs for every container",
            actual=[f"{each} gives {amount}" for each, amount in giving.items()] or "none",
            cause=f"{first}: a maximum without default becomes the default and the default request" if first else "",
            hidden_because="manifests show no GPU; the API server adds it to every new container" if first else "",
            inspect=f"kubectl get limitrange -n {namespace} -o yaml",
        )


@requirement(
    "QUOTA-13",
    "Namespaces with GPUs whose ResourceQuota counts CPU or memory have LimitRange defaults for them",
    level=SHOULD,
    sources=["k8s-code-quota-pods", "k8s-limit-ranges"],
    remedy="Add a LimitRange of type Container with default and defaultRequest for what the quota counts.",
)
def test_where_a_quota_counts_cpu_or_memory_a_limit_range_supplies_them(
    reference: Reference, facts: Facts, judge: Judge
) -> None:
    if not facts.quotas:
        raise NotApplicable("the cluster has no quotas")
    concerned = _namespaces_with_gpus(reference, facts)
    quotas = [quota for quota in facts.quotas if quota.namespace in concerned]
    if not quotas:
        raise NotApplicable("no namespace that has or declares GPUs has a quota")
    for quota in quotas:
        counted = sorted(set(quota.hard) & set(_REQUIRED_IN_CONTAINERS))
        supplied = _supplied(facts.limit_ranges_in(quota.namespace))
        missing = [key for key in counted if _REQUIRED_IN_CONTAINERS[key] not in supplied]
        part, resource = _REQUIRED_IN_CONTAINERS[missing[0]] if missing else ("", "")
        judge(
            quota,
            ok=not missing,
            expected=f"defaults for {', '.join(counted)}" if counted else "no defaults needed",
            actual=f"no default for {', '.join(missing)}"
            if missing
            else "all have defaults"
            if counted
            else "counts neither",
            cause=f"a container without {part}.{resource} is refused" if missing else "",
            hidden_because=_REFUSAL_HIDDEN_BECAUSE if missing else "",
            inspect=f"kubectl get quota,limitrange -n {quota.namespace} -o yaml",
        )


# --- Whether quotas are enforced ---------------------------------------------------------------------------------


@requirement(
    "QUOTA-14",
    "Each team's ResourceQuota admits GPUs up to the declared limit and refuses one more",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    sources=["guide-summary", "k8s-quotas"],
    remedy="Compare the quota with its declaration (QUOTA-01), its spelling (QUOTA-02) and its scope, and keep the "
    "ResourceQuota admission plugin on.",
)
def test_each_teams_quota_refuses_one_gpu_too_many(
    gpu_quotas: tuple[tuple[Team, Quota], ...], reference: Reference, facts: Facts, lab: RequirementLab, judge: Judge
) -> None:
    for team, declared in gpu_quotas:
        if _quota(facts, team.namespace, declared.name) is None:
            raise Waits(f"there is no quota {team.namespace}/{declared.name}", on="QUOTA-01")
        used = LabQuota(lab.client, lab.timeouts, team.namespace, declared.name).used
        for key in gpu_keys(declared.hard, reference):
            free = max(as_count(declared.hard[key.key]) - as_count(used.get(key.key, "0")), 0)
            subject = _named(team, declared).only(key.key)
            if is_held_by_hami(key.key, facts):
                judge.pass_over(subject, "HAMi holds it when it places a pod, and no dry run shows that")
                continue
            without = _asked_in(team, declared, {}, lab)
            if without != ADMITTED:
                judge.pass_over(subject, f"a pod without GPUs is {without}")
                continue
            within = _asked_in(team, declared, {key.resource: free}, lab) if free else without
            beyond = _asked_in(team, declared, {key.resource: free + 1}, lab)
            judge(
                subject,
                ok=(within, beyond) == (ADMITTED, REFUSED),
                expected=f"{free} more {ADMITTED}, {free + 1} more {REFUSED}",
                actual=f"{free} more {within}, {free + 1} more {beyond}",
                cause=_why_not(key, used) if beyond == ADMITTED else "",
                inspect=f"kubectl describe quota -n {team.namespace} {declared.name}",
            )


# --- Helpers -----------------------------------------------------------------------------------------------------


def _named(team: Team, quota: Quota) -> ObjectReference:
    """A declared quota as the object that it stands for."""
    text = f"quota {team.namespace}/{quota.name}"
    return ObjectReference.of("ResourceQuota", quota.name, namespace=team.namespace, text=text)


# What a container has to set where a quota counts it: requests or limits, and the resource.
# GPUs have no such rule (kubernetes: pkg/quota/v1/evaluator/core/pods.go, Constraints).
_REQUIRED_IN_CONTAINERS = {
    "cpu": ("requests", "cpu"),
    "memory": ("requests", "memory"),
    "requests.cpu": ("requests", "cpu"),
    "requests.memory": ("requests", "memory"),
    "limits.cpu": ("limits", "cpu"),
    "limits.memory": ("limits", "memory"),
}

_REFUSAL_HIDDEN_BECAUSE = (
    "GPU pods often request nothing but GPUs, and a refusal shows in a condition of the ReplicaSet or Job only"
)


_OF_RANCHER = "resourcequota.management.cattle.io/default-resource-quota"
_WITHOUT_SCOPE = (
    "Add a quota without scopes and scopeSelector for the sum, or scoped quotas for the pods that none counts."
)


def _quota(facts: Facts, namespace: str, name: str) -> ResourceQuota | None:
    return next((quota for quota in facts.quotas_in(namespace) if quota.name == name), None)


def _gpu_workloads(reference: Reference, facts: Facts) -> dict[str, str]:
    """For each namespace that has or declares GPU workloads, one of them; what only watches GPUs is left out.

    Pods that keep nodes warm and that everybody evicts take GPUs from nobody (kubernetes/autoscaler: FAQ, How can I
    configure overprovisioning with Cluster Autoscaler; its pods pause with a negative priority).
    """
    living = (pod for pod in gpu_pods(facts, reference) if not pod.finished)
    running = {
        pod.namespace: str(pod)
        for pod in living
        if not _yields_to_everybody(pod) and not only_watches_gpus(pod, pod.namespace, reference, facts)
    }
    manifests = [workload.manifest for workload in reference.workloads if workload.manifest]
    declared = {
        workload.namespace: str(workload)
        for workload in Facts.from_objects(manifests).workloads
        if requests_gpus(workload.template, workload.namespace, reference, facts)
    }
    return running | declared


def _yields_to_everybody(pod: Pod) -> bool:
    return only_pauses(pod) and (pod.priority or 0) < 0


def _namespaces_with_gpus(reference: Reference, facts: Facts) -> set[str]:
    """The namespaces of teams, those with GPU workloads, and those of which a quota names GPUs.

    Quotas of CPU and memory are nobody's business here where no pod asks for a GPU.
    """
    named = {quota.namespace for quota in facts.quotas if gpu_keys(quota.hard, reference)}
    return named | {team.namespace for team in reference.teams} | _gpu_workloads(reference, facts).keys()


def _gives(limits: LimitRange, reference: Reference) -> str:
    """The GPUs that a limit range gives to every container, as text; empty when it gives none."""
    given = {
        name: amount
        for item in limits.items
        if item.type == "Container"
        for amounts in (item.max, item.default_request, item.default)
        for name, amount in amounts.items()
        if names_gpus(name, reference) and as_count(amount)
    }
    return ", ".join(f"{amount} {name}" for name, amount in given.items())


def _supplied(limit_ranges: tuple[LimitRange, ...]) -> set[tuple[str, str]]:
    """The defaults of limit ranges: requests or limits, and resource; a default limit is also the default request."""
    containers = [item for limits in limit_ranges for item in limits.items if item.type == "Container"]
    limits = {("limits", name) for item in containers for name in (*item.default, *item.max)}
    requests = {("requests", name) for item in containers for name in (*item.default_request, *item.default, *item.max)}
    return limits | requests


def _asked_in(team: Team, declared: Quota, amounts: dict[str, int], lab: RequirementLab) -> str:
    """Whether such a pod is admitted in the team's own namespace; a dry run."""
    priority = next(iter(declared.priority_classes), None)
    pod = never_starting(amounts, image=lab.pause_image, namespace=team.namespace, priority=priority)
    return outcome(lab.dry_run(pod))


def _is_held(key: GpuKey, facts: Facts) -> bool:
    """Whether Kubernetes counts what a key limits, or HAMi does."""
    return key.counts or is_held_by_hami(key.key, facts)


def _mistake_in(reference: Reference, mistakes: list[GpuKey]) -> str:
    """What is wrong with the keys that a set-up declares and nobody counts; empty without any."""
    named = ", ".join(each.key for each in mistakes)
    return f"a mistake of {reference} itself: Kubernetes counts nothing under {named}" if mistakes else ""


def _correct_declaration(mistakes: list[GpuKey]) -> str:
    keys = ", ".join(f"{quota_key(each.resource)} instead of {each.key}" for each in mistakes)
    return f"Declare {keys}; do not apply it as it is: it would limit nothing." if mistakes else ""


def _where_it_is_set(quota: ResourceQuota | None) -> str:
    """What to do about a quota that a platform writes from what is set elsewhere; empty for the usual remedy.

    Source: rancher/rancher, pkg/controllers/managementuser/resourcequota (label of the quota that Rancher makes for
    each namespace of a project), rancher/webhook (which refuses changes of it).
    """
    if quota is None or quota.labels.get(_OF_RANCHER) != "true":
        return ""
    return (
        "Set the limits in Rancher, for the project and the namespace: Rancher writes this object, and changes of it "
        "are refused or undone. Limits that Rancher cannot set go into another ResourceQuota, declared by its name."
    )


def _why_not(key: GpuKey, used: dict[str, str]) -> str:
    if not key.counts or key.key not in used:
        return f"Kubernetes does not count {key.key}"
    return "the quota of the cluster is larger than declared, or is not enforced"
