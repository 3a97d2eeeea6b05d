"""The rights that each mode of a run needs, as a ClusterRole: what it reads, and what it makes and changes."""

from collections.abc import Iterable
from typing import Any

from conformance.doctor.rights import rights_of
from conformance.explaining.seen import READ
from conformance.facts.kinds import KINDS
from conformance.kube.effects import Mode
from conformance.kube.names import MANAGED_BY, MANAGED_BY_US
from conformance.kube.paths import PLACES


def role(mode: Mode) -> dict[str, Any]:
    """The ClusterRole of a mode, with the rights of the modes below it. Of an audit it is ``audit_role``.

    What a mode writes is what the doctor asks for (conformance/doctor/rights.py); it has the same right in every
    namespace, because those of a run have names that nobody knows before.
    """
    verbs: dict[tuple[str, str], list[str]] = {}
    for below in (Mode.VERIFY, Mode.FULL):
        for right in rights_of(below, {}) if below.limit <= mode.limit else ():
            granted = verbs.setdefault((right.group, right.resource), [])
            granted += [right.verb] if right.verb not in granted else []
    made = audit_role()
    made["metadata"]["name"] = f"gpu-conformance-{mode}"
    made["rules"] += [
        {"apiGroups": [group], "resources": [resource], "verbs": granted}
        for (group, resource), granted in verbs.items()
    ]
    return made


def audit_role() -> dict[str, Any]:
    """A ClusterRole that lets an audit read everything it judges, ask who may do what, and nothing else.

    It has no right to read Secrets: no requirement looks into one. ConfigMaps are read in the GPU stack's namespaces
    only, but which these are no role can say; who wants to, takes them out and grants them there.
    """
    rules = _reads(KINDS)
    reviews = {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]}
    return _named(str(Mode.AUDIT), [*rules, reviews])


def explaining_role() -> dict[str, Any]:
    """A ClusterRole with what explain-pod and ``--gpu-explain-pods`` read beyond an audit, and nothing else."""
    return _named("explain-pods", _reads(set(READ) - set(KINDS)))


def _reads(kinds: Iterable[str]) -> list[dict[str, Any]]:
    by_group: dict[str, set[str]] = {}
    for name in kinds:
        place = PLACES[name]
        by_group.setdefault(place.group_version.rpartition("/")[0], set()).add(place.plural)
    return [
        {"apiGroups": [group], "resources": sorted(resources), "verbs": ["get", "list"]}
        for group, resources in sorted(by_group.items())
    ]


def _named(name: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": f"gpu-conformance-{name}", "labels": {MANAGED_BY: MANAGED_BY_US}},
        "rules": rules,
    }
