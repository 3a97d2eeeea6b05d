"""The rights that an audit needs, as a ClusterRole made from the kinds that it reads."""

from typing import Any

from conformance.facts.kinds import KINDS
from conformance.kube.names import MANAGED_BY, MANAGED_BY_US
from conformance.kube.paths import PLACES

NAME = "gpu-conformance-audit"


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
        "metadata": {"name": NAME, "labels": {MANAGED_BY: MANAGED_BY_US}},
        "rules": [*rules, reviews],
    }
