"""The Kubernetes objects that a reference set-up stands for."""

import copy
from collections.abc import Iterator
from typing import Any

from conformance.reference.model import (
    Binding,
    LimitRange,
    PriorityClass,
    Quota,
    Reference,
    Role,
    Rule,
    ServiceAccount,
    Team,
)

Object = dict[str, Any]

_RBAC = "rbac.authorization.k8s.io"
# An object may stand only on objects of earlier kinds. Bindings come after roles, because granting a role that does
# not exist yet is refused; workloads come last, so that their first pods meet the limits and quotas.
ORDER = (
    "Namespace",
    "PriorityClass",
    "ConfigMap",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "LimitRange",
    "ResourceQuota",
    "Deployment",
    "Job",
    "StatefulSet",
    "DaemonSet",
)
WORKLOADS = ("Deployment", "Job", "StatefulSet", "DaemonSet")
STAGES = (
    ("Namespace", "PriorityClass", "DeviceClass", "ClusterRole"),
    ("ConfigMap", "ServiceAccount", "Role", "LimitRange", "ResourceQuota"),
    ("RoleBinding", "ClusterRoleBinding"),
    WORKLOADS,
)
"""Kinds whose objects may be written side by side, stage after stage."""


def objects(reference: Reference) -> list[Object]:
    """All objects of the set-up in an order in which they can be created, without our own labels.

    Workloads without a manifest are deployed by others and are left out.
    """
    found = [_priority_class(declared) for declared in reference.priority_classes]
    for team in reference.teams:
        found += _of_team(team)
    found += [copy.deepcopy(workload.manifest) for workload in reference.workloads if workload.manifest is not None]
    return sorted(found, key=lambda made: ORDER.index(made["kind"]))


def name_of(made: Object) -> str:
    """An object in words: ``Deployment ml-serving/llm-inference-server``, ``Namespace ml-serving``."""
    metadata = made.get("metadata") or {}
    place = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{made.get('kind')} {place}{metadata.get('name')}"


def _of_team(team: Team) -> Iterator[Object]:
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": _metadata(team.namespace, labels=team.labels)}
    for account in team.service_accounts:
        yield _service_account(account, team.namespace)
    for role in team.roles:
        yield _role(role, team.namespace)
    for binding in team.bindings:
        yield _binding(binding, team.namespace)
    for limits in team.limit_ranges:
        yield _limit_range(limits, team.namespace)
    for quota in team.quotas:
        yield _quota(quota, team.namespace)


def _metadata(name: str, namespace: str = "", **more: dict[str, str]) -> Object:
    place = {"namespace": namespace} if namespace else {}
    return {"name": name, **place, **{key: dict(value) for key, value in more.items() if value}}


def _priority_class(declared: PriorityClass) -> Object:
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": _metadata(declared.name),
        "value": declared.value,
        "globalDefault": declared.global_default,
        "preemptionPolicy": declared.preemption_policy,
        "description": declared.description,
    }


def _service_account(account: ServiceAccount, namespace: str) -> Object:
    made: Object = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(account.name, namespace, annotations=account.annotations),
    }
    if account.automount_token is not None:
        made["automountServiceAccountToken"] = account.automount_token
    return made


def _role(role: Role, namespace: str) -> Object:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "Role",
        "metadata": _metadata(role.name, namespace),
        "rules": [_rule(rule) for rule in role.rules],
    }


def _rule(rule: Rule) -> Object:
    made: Object = {
        "apiGroups": list(rule.api_groups),
        "resources": list(rule.resources),
        "verbs": list(rule.verbs),
    }
    if rule.resource_names:
        made["resourceNames"] = list(rule.resource_names)
    return made


def _binding(binding: Binding, namespace: str) -> Object:
    subjects: list[Object] = [
        {"kind": "ServiceAccount", "name": name, "namespace": namespace} for name in binding.service_accounts
    ]
    subjects += [{"kind": "Group", "apiGroup": _RBAC, "name": name} for name in binding.groups]
    subjects += [{"kind": "User", "apiGroup": _RBAC, "name": name} for name in binding.users]
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": _metadata(binding.name, namespace),
        "subjects": subjects,
        "roleRef": {"apiGroup": _RBAC, "kind": binding.role_kind, "name": binding.role},
    }


def _limit_range(limits: LimitRange, namespace: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": _metadata(limits.name, namespace),
        "spec": {"limits": copy.deepcopy(list(limits.items))},
    }


def _quota(quota: Quota, namespace: str) -> Object:
    spec: Object = {"hard": dict(quota.hard)}
    if quota.priority_classes:
        scope = {"scopeName": "PriorityClass", "operator": "In", "values": list(quota.priority_classes)}
        spec["scopeSelector"] = {"matchExpressions": [scope]}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": _metadata(quota.name, namespace), "spec": spec}
