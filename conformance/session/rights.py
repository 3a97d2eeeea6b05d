"""The rights that each mode of a run needs, as a ClusterRole: what it reads, and what it makes and changes."""

from typing import Any

from conformance.doctor.rights import rights_of
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
    by_group: dict[str, set[str]] = {}
    for name in KINDS:
        place = PLACES[name]
        by_group.setdefault(place.group_version.rpartition("/")[0], set()).add(place.plural)
    rules: list[dict[str, Any]] = [
        {"apiGroups": [group], "resources": sorted(resources), "verbs": ["get", "list"]}
        for group, resources in sorted(by_group.items())
    ]
    reviews = {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": f"gpu-conformance-{Mode.AUDIT}", "labels": {MANAGED_BY: MANAGED_BY_US}},
        "rules": [*rules, reviews],
    }
