"""Teams from namespaces in which GPUs are asked for or limited: labels, accounts, roles, bindings, quotas."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from conformance.drafting.accelerators import is_accelerator
from conformance.drafting.notes import Guess, Item, LeftOut, Part
from conformance.drafting.platforms import (
    BINDINGS,
    NAMESPACE_LABELS,
    NAMESPACES,
    SERVICE_ACCOUNTS,
    owner_of,
)
from conformance.drafting.requests import GpuRequests
from conformance.facts import Facts, LimitRange, ResourceQuota, RoleBinding, Rule, ServiceAccount
from conformance.facts.limits import LimitRangeItem
from conformance.gpu.labels import HAMI_QUOTA_KEYS, VOLCANO, YUNIKORN
from conformance.gpu.resources import quota_key
from conformance.reference.platform import part_of_namespace
from conformance.reference.stack import RUN_AI, Kai
from conformance.verdict import Inconclusive

_DEFAULT_ACCOUNT = "default"
_NO_QUOTA = "no ResourceQuota of the namespace counts GPUs"
_WITH_QUEUES = {Kai().scheduler: "KAI", RUN_AI.scheduler: "Run:ai", VOLCANO: "Volcano", YUNIKORN: "YuniKorn"}
"""Schedulers whose queues QUOTA-04 reads, by the schedulerName of their pods."""
_TOKEN_ANNOTATION = "automountServiceAccountToken"  # noqa: S105
_PRIORITY_SCOPE = "PriorityClass"
_CLASS_QUOTA = ".deviceclass.resource.k8s.io/devices"
_REQUESTS, _LIMITS = "requests.", "limits."
_LIMIT_FIELDS = {
    "max": "max",
    "min": "min",
    "default": "default",
    "default_request": "defaultRequest",
    "max_limit_request_ratio": "maxLimitRequestRatio",
}


def drafted_teams(facts: Facts, classes: Sequence[str]) -> list[Item]:
    """Every team; ``classes`` are the priority classes that the draft declares."""
    asking = GpuRequests(facts)
    reasons = _reasons(facts, asking)
    teams: list[Item] = []
    owners = {namespace: _owner(namespace, facts) for namespace in reasons}
    alone = list(owners.values()).count("") == 1
    for namespace in sorted(reasons):
        if of := owners[namespace]:
            teams.append(LeftOut(f"namespace {namespace}", f"{reasons[namespace]}, and it belongs to {of}"))
        else:
            about = _guess(facts, asking, namespace, reasons[namespace], alone)
            teams.append(_team(facts, namespace, about, classes))
    return teams


def _owner(namespace: str, facts: Facts) -> str:
    """Whose a namespace is, empty where it may be a team's."""
    if part := part_of_namespace(namespace):
        return part.title
    owned = owner_of(namespace, NAMESPACES)
    if owned is not None:
        return owned.platform
    return "the GPU stack" if namespace in facts.stack_namespaces else ""


def _reasons(facts: Facts, asking: GpuRequests) -> dict[str, str]:
    """Why each namespace is taken for a team's: what asks for GPUs there, or limits them."""
    pods = [(pod.namespace, pod) for pod in facts.pods if not pod.finished and asking.asks(pod, pod.namespace)]
    workloads = [(each.namespace, each) for each in facts.workloads if asking.asks(each.template, each.namespace)]
    quotas = [(quota.namespace, quota) for quota in facts.quotas if any(_gpu_resource(key) for key in quota.hard)]
    reasons = {namespace: f"{quota} limits GPUs" for namespace, quota in quotas}
    # What owns pods is the better reason: it is there tomorrow.
    for namespace, asker in (*pods, *workloads):
        reasons[namespace] = f"{asker} asks for GPUs"
    return reasons


def _team(facts: Facts, namespace: str, about: Guess, classes: Sequence[str]) -> Part:
    live = facts.namespace(namespace)
    labels = {key: text for key, text in (live.labels if live else {}).items() if not owner_of(key, NAMESPACE_LABELS)}
    value: dict[str, Any] = {"namespace": namespace, **({"labels": dict(sorted(labels.items()))} if labels else {})}
    guesses: dict[str, Guess] = {}
    if labels:
        guesses["labels"] = Guess("the namespace", decide="which of them policies select by; take the others out")
    bindings, unsaid = _bindings(facts, namespace)
    accounts = _accounts(facts, namespace, unsaid)
    sections: dict[str, list[Item]] = {
        "service_accounts": accounts,
        "roles": _roles(facts, namespace),
        "bindings": bindings,
        "quotas": _quotas(facts, namespace, classes),
        "limit_ranges": [_limit_range(each) for each in facts.limit_ranges_in(namespace)],
    }
    value |= {key: items for key, items in sections.items() if items}
    return Part(value, about, guesses)


def _guess(facts: Facts, asking: GpuRequests, namespace: str, reason: str, alone: bool) -> Guess:
    """What is said of a team; ``alone`` where no other one has GPUs, so that there is nobody to keep any for."""
    decide = [_account_to_decide(facts, asking, namespace)]
    if _counting(facts, namespace):
        return Guess(reason, decide=decide[0])
    if other := _other_system(facts, asking, namespace):
        decide.append(f"whether {other} bounds its GPUs as you want it, which QUOTA-04 reads")
    elif alone:
        decide.append(f"a quota before another team comes: {_NO_QUOTA}")
    else:
        return Guess(reason, (f"{_NO_QUOTA} (QUOTA-04)",), decide[0])
    return Guess(reason, decide="; ".join(filter(None, decide)))


def _counting(facts: Facts, namespace: str) -> bool:
    keys = (key for quota in facts.quotas_in(namespace) for key in quota.hard)
    return any(_gpu_resource(key) and _is_held(key, facts) for key in keys)


def _is_held(key: str, facts: Facts) -> bool:
    """Whether Kubernetes counts under a key of a quota, or HAMi's scheduler does where HAMi manages devices."""
    return _counts(key) or (key in HAMI_QUOTA_KEYS and facts.hami_manages_devices)


def _other_system(facts: Facts, asking: GpuRequests, namespace: str) -> str:
    """Whose queues or quotas may bound the GPUs of a namespace; QUOTA-04 looks whether they do. Empty without any."""
    with suppress(Inconclusive):
        if any(each.namespace == namespace for each in facts.local_queues):
            return "Kueue"
    with suppress(Inconclusive):
        selected = [part for each in facts.cluster_resource_quotas for part in each.status.get("namespaces") or ()]
        if any(isinstance(part, dict) and part.get("namespace") == namespace for part in selected):
            return "a ClusterResourceQuota"
    asked = [pod for pod in facts.pods_in(namespace) if not pod.finished and asking.asks(pod, namespace)]
    schedulers = {pod.scheduler for pod in asked}
    return next((name for scheduler, name in _WITH_QUEUES.items() if schedulers == {scheduler}), "")


def _account_to_decide(facts: Facts, asking: GpuRequests, namespace: str) -> str:
    workloads = [(each, each.template) for each in facts.workloads_in(namespace)]
    pods = [(pod, pod) for pod in facts.pods_in(namespace) if not pod.finished]
    # What owns pods comes first: its name is the same tomorrow.
    for asker, spec in (*workloads, *pods):
        if asking.asks(spec, namespace) and spec.service_account in ("", _DEFAULT_ACCOUNT):
            return f"which account {asker} shall have: it runs as {_DEFAULT_ACCOUNT}"
    return ""


def _accounts(facts: Facts, namespace: str, unsaid: Sequence[RoleBinding]) -> list[Item]:
    """The accounts of a namespace; one that a binding names which the draft cannot hold is left out with it."""
    items: list[Item] = []
    for account in facts.service_accounts_in(namespace):
        if account.name == _DEFAULT_ACCOUNT or owner_of(account.name, SERVICE_ACCOUNTS):
            continue
        by = next((binding for binding in unsaid if binding.binds(account)), None)
        if by is not None:
            items.append(LeftOut(str(account), f"{by} names it, which cannot be declared here"))
        else:
            items.append(_account(facts, account))
    return items


def _account(facts: Facts, account: ServiceAccount) -> Part:
    value: dict[str, Any] = {"name": account.name}
    if account.automounts_token is not None:
        value["automount_token"] = account.automounts_token
    if _TOKEN_ANNOTATION in account.annotations:
        value["annotations"] = {_TOKEN_ANNOTATION: account.annotations[_TOKEN_ANNOTATION]}
    wide = [binding for binding in facts.cluster_role_bindings if _names(binding, account)]
    elsewhere = [each for each in facts.role_bindings if each.namespace != account.namespace and _names(each, account)]
    odd = [f"{each} gives it {each.role_ref} in every namespace (TEN-09)" for each in wide]
    odd += [f"{each} gives it {each.role_ref} outside its namespace (TEN-02)" for each in elsewhere]
    return Part(value, Guess(contradicted=tuple(odd)))


def _names(binding: RoleBinding, account: ServiceAccount) -> bool:
    """Whether a binding names the account itself; groups reach everybody."""
    return any(subject.kind != "Group" and subject.includes(account) for subject in binding.subjects)


def _roles(facts: Facts, namespace: str) -> list[Item]:
    roles = [role for role in facts.roles_in(namespace) if not owner_of(role.name, BINDINGS)]
    return [Part({"name": role.name, "rules": [_rule(rule) for rule in role.rules]}) for role in roles]


def _rule(rule: Rule) -> dict[str, Any]:
    value: dict[str, Any] = {"resources": list(rule.resources)}
    if rule.api_groups != ("",):
        value["api_groups"] = list(rule.api_groups)
    if rule.resource_names:
        value["resource_names"] = list(rule.resource_names)
    return {**value, "verbs": list(rule.verbs)}


def _bindings(facts: Facts, namespace: str) -> tuple[list[Item], list[RoleBinding]]:
    """The bindings of a namespace, and those that the form of a set-up cannot hold."""
    items: list[Item] = []
    unsaid: list[RoleBinding] = []
    for binding in facts.role_bindings_in(namespace):
        if owner_of(binding.name, BINDINGS):
            continue
        why = _why_not_declared(facts, binding)
        if why is None:
            items.append(_binding(binding))
        else:
            items.append(LeftOut(str(binding), why, is_fault="does not exist" in why))
            unsaid += [binding] if "does not exist" not in why else []
    return items, unsaid


def _why_not_declared(facts: Facts, binding: RoleBinding) -> str | None:
    accounts = [each for each in binding.subjects if each.kind == "ServiceAccount"]
    foreign = [each for each in accounts if each.namespace not in ("", binding.namespace)]
    there = {each.name for each in facts.service_accounts_in(binding.namespace)} | {_DEFAULT_ACCOUNT}
    missing = [each for each in accounts if each not in foreign and each.name not in there]
    if foreign:
        return f"it names {foreign[0]} of another namespace, and a set-up binds accounts of the same one"
    if missing:
        return f"it names {missing[0]}, which does not exist"
    if binding.role_ref.kind == "Role" and facts.role_of(binding) is None:
        return f"its {binding.role_ref} does not exist, so it gives nothing"
    return None


def _binding(binding: RoleBinding) -> Part:
    value: dict[str, Any] = {"name": binding.name, "role": binding.role_ref.name}
    if binding.role_ref.kind == "ClusterRole":
        value["role_kind"] = "ClusterRole"
    for key, kind in (("service_accounts", "ServiceAccount"), ("groups", "Group"), ("users", "User")):
        names = [subject.name for subject in binding.subjects if subject.kind == kind]
        if names:
            value[key] = names
    return Part(value)


def _quotas(facts: Facts, namespace: str, classes: Sequence[str]) -> list[Item]:
    items: list[Item] = []
    for quota in facts.quotas_in(namespace):
        idle = [key for key in quota.hard if _gpu_resource(key) and not _is_held(key, facts)]
        why, is_fault = _why_no_quota(quota, classes), False
        if idle:
            resource = _gpu_resource(idle[0])
            why, is_fault = f"Kubernetes counts nothing under {idle[0]} (QUOTA-02); say {quota_key(resource)}", True
        if why:
            items.append(LeftOut(str(quota), why, is_fault=is_fault))
            continue
        value: dict[str, Any] = {"name": quota.name, "hard": dict(quota.hard)}
        scoped = [name for term in quota.scope_selector for name in term.values]
        if scoped:
            value["priority_classes"] = scoped
        items.append(Part(value))
    return items


def _why_no_quota(quota: ResourceQuota, classes: Sequence[str]) -> str:
    terms = quota.scope_selector
    if not quota.hard:
        return "it limits nothing"
    if quota.scopes or len(terms) > 1 or any(term.scope != _PRIORITY_SCOPE or term.operator != "In" for term in terms):
        scopes = ", ".join((*quota.scopes, *map(str, terms)))
        return f"a set-up holds no quota of the scope {scopes}; pods outside that scope are not counted"
    unknown = [name for term in terms for name in term.values if name not in classes]
    return f"it counts pods of class {unknown[0]}, which the draft does not declare" if unknown else ""


def _gpu_resource(key: str) -> str:
    """The accelerator that a key of a quota means, however it is spelled; empty for all others."""
    if key.endswith(_CLASS_QUOTA):
        return key
    bare = key.removeprefix(_REQUESTS).removeprefix(_LIMITS)
    return bare if is_accelerator(bare) else ""


def _counts(key: str) -> bool:
    """Whether Kubernetes counts accelerators under a key (kubernetes: pkg/quota/v1/evaluator/core/pods.go)."""
    return key.startswith(_REQUESTS) or key.endswith(_CLASS_QUOTA)


def _limit_range(limits: LimitRange) -> Part:
    return Part({"name": limits.name, "items": [_limit_item(item) for item in limits.items]})


def _limit_item(item: LimitRangeItem) -> dict[str, Any]:
    fields = {name: dict(getattr(item, field)) for field, name in _LIMIT_FIELDS.items()}
    return {"type": item.type, **{name: amounts for name, amounts in fields.items() if amounts}}


def team_names(teams: Sequence[Item]) -> Iterator[str]:
    """The namespaces that a draft declares."""
    return (str(each.value["namespace"]) for each in teams if isinstance(each, Part))


def account_names(teams: Sequence[Item], namespace: str) -> set[str]:
    """The accounts that a draft declares of a namespace, and the one that every namespace has."""
    found = {_DEFAULT_ACCOUNT}
    for team in teams:
        if isinstance(team, Part) and team.value["namespace"] == namespace:
            found |= {
                str(each.value["name"]) for each in team.value.get("service_accounts", ()) if isinstance(each, Part)
            }
    return found
