"""What roles and bindings grant, compared with what was declared."""

from collections.abc import Iterable
from itertools import product
from typing import Protocol

from conformance.facts import Facts, RoleBinding
from conformance.facts import ServiceAccount as LiveAccount
from conformance.reference.model import Team
from conformance.subjects import ObjectReference
from conformance.verdict import Judge
from suites.tenancy.roles_for_everybody import is_for_everybody, is_public


class Grants(Protocol):
    """A rule, declared or live."""

    @property
    def api_groups(self) -> tuple[str, ...]:
        """The API groups of its resources; the core group is the empty string."""

    @property
    def resources(self) -> tuple[str, ...]:
        """The plurals of its resources."""

    @property
    def verbs(self) -> tuple[str, ...]:
        """Its verbs."""

    @property
    def resource_names(self) -> tuple[str, ...]:
        """The names to which it is restricted; empty for all."""


def judge_roles(team: Team, facts: Facts, judge: Judge) -> None:
    """Judge that each declared role exists and grants the declared permissions, however its rules are written."""
    live = {role.name: role for role in facts.roles_in(team.namespace)}
    for declared in team.roles:
        role = live.get(declared.name)
        wanted = _permissions(declared.rules)
        granted = _permissions(role.rules) if role else set()
        judge(
            ObjectReference.of("Role", declared.name, namespace=team.namespace),
            ok=role is not None and granted == wanted,
            expected=sorted(wanted),
            actual=sorted(granted) if role else "no such role",
            cause=_difference(granted, wanted) if role else "",
            inspect=f"kubectl get role -n {team.namespace} {declared.name} -o yaml",
        )


def judge_bindings(team: Team, facts: Facts, judge: Judge) -> None:
    """Judge that each declared binding exists and gives the declared role to the declared subjects."""
    live = {binding.name: binding for binding in facts.role_bindings_in(team.namespace)}
    for declared in team.bindings:
        binding = live.get(declared.name)
        wanted = {
            *(f"service account {team.namespace}/{name}" for name in declared.service_accounts),
            *(f"group {name}" for name in declared.groups),
            *(f"user {name}" for name in declared.users),
        }
        role = f"{'cluster role' if declared.role_kind == 'ClusterRole' else 'role'} {declared.role}"
        bound = {str(subject) for subject in binding.subjects} if binding else set()
        other_role = f"it gives {binding.role_ref}" if binding and str(binding.role_ref) != role else ""
        judge(
            ObjectReference.of("RoleBinding", declared.name, namespace=team.namespace),
            ok=binding is not None and bound == wanted and not other_role,
            expected=f"{role} to {listed(wanted, 'nobody')}",
            actual=f"{binding.role_ref} to {listed(bound, 'nobody')}" if binding else "no such binding",
            cause=other_role or (_difference(bound, wanted) if binding else ""),
            inspect=f"kubectl get rolebinding -n {team.namespace} {declared.name} -o yaml",
        )


def bindings_naming(account: LiveAccount, facts: Facts) -> tuple[RoleBinding, ...]:
    """The role bindings of all namespaces that name the account itself, not just a group that it is in."""
    return tuple(
        binding
        for binding in facts.role_bindings
        if any(subject.kind != "Group" and subject.includes(account) for subject in binding.subjects)
    )


def bindings_of_its_groups(account: LiveAccount, teams: Iterable[Team], facts: Facts) -> tuple[RoleBinding, ...]:
    """The role bindings in namespaces of teams that nobody declared and that reach the account by a group it is in."""
    return tuple(
        binding
        for team in teams
        for binding in facts.role_bindings_in(team.namespace)
        if binding.name not in {declared.name for declared in team.bindings}
        and any(subject.kind == "Group" and subject.includes(account) for subject in binding.subjects)
        and not is_harmless(binding, facts)
    )


def is_harmless(binding: RoleBinding, facts: Facts) -> bool:
    """Whether its role only allows to read public information and to review one's own access, or is a platform's.

    So do system:discovery, system:basic-user, system:public-info-viewer, system:service-account-issuer-discovery and
    system:cluster-trust-bundle-discovery (with the feature ClusterTrustBundle, on from 1.37), which Kubernetes gives
    to every user or service account (plugin/pkg/auth/authorizer/rbac/bootstrappolicy). A binding to a role that does
    not exist gives nothing.
    """
    role = facts.role_of(binding)
    return role is None or all(map(is_public, role.rules)) or is_for_everybody(binding, role)


def through(binding: RoleBinding, account: LiveAccount) -> str:
    """The subject by which a binding reaches an account."""
    return next((str(subject) for subject in binding.subjects if subject.includes(account)), "it")


def listed(names: Iterable[str], none: str) -> str:
    """Sorted names, or ``none`` without any."""
    return ", ".join(sorted(names)) or none


def _permissions(rules: Iterable[Grants]) -> set[str]:
    """Every single permission of some rules, so that two ways of writing the same rules compare equal."""
    return {
        " ".join((verb, ".".join(filter(None, (resource, group))), name)).rstrip()
        for rule in rules
        for verb, resource, group, name in product(
            rule.verbs, rule.resources, rule.api_groups, rule.resource_names or ("",)
        )
    }


def _difference(there: set[str], wanted: set[str]) -> str:
    surplus, missing = sorted(there - wanted), sorted(wanted - there)
    parts = [
        f"not declared: {', '.join(surplus)}" if surplus else "",
        f"missing: {', '.join(missing)}" if missing else "",
    ]
    return "; ".join(part for part in parts if part)
