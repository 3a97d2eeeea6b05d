"""In what a ResourceQuota differs from its declaration: the amounts of its keys, and the pods that it counts."""

from collections.abc import Sequence
from fractions import Fraction

from conformance.facts import ResourceQuota
from conformance.facts.limits import PRIORITY_CLASS_SCOPE
from conformance.gpu.quantities import quantity
from conformance.reference.model import Quota

# How what a quota counts is called among the keys in which it differs.
_SCOPE = "its scope"


def differing_keys(declared: Quota, live: ResourceQuota) -> list[str]:
    """The keys in which a quota differs from its declaration, and its scope where that differs."""
    keys = sorted({*declared.hard, *live.hard})
    differing = [key for key in keys if _amount(declared.hard.get(key)) != _amount(live.hard.get(key))]
    return differing if _has_the_scope(live, declared) else [*differing, _SCOPE]


def _has_the_scope(live: ResourceQuota, declared: Quota) -> bool:
    """Whether a quota counts the pods of the declared classes and no others, or all pods where none is declared.

    A term may name no value and narrow it all the same: Terminating Exists, or PriorityClass Exists.
    """
    terms = live.scope_terms
    if not declared.priority_classes:
        return not terms
    # Of several terms a pod has to meet all.
    (only,) = terms if len(terms) == 1 else (None,)
    return (
        only is not None
        and (only.scope, only.operator) == (PRIORITY_CLASS_SCOPE, "In")
        and set(only.values) == set(declared.priority_classes)
    )


# A quota of this many pods admits none, whatever else it counts.
_PODS = ("pods", "count/pods")


def tightened(undeclared: ResourceQuota, declared: Sequence[Quota]) -> dict[str, str]:
    """What an undeclared quota takes of what the declared ones of its namespace give: by key, its own lower limit.

    Of several quotas each has to admit a pod, so that the lowest limit decides. Quotas with a scope are left alone on
    both sides: they divide what a namespace has among its pods.
    Source: kubernetes staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go, CheckRequest.
    """
    if undeclared.scope_terms:
        return {}
    given = {key: limit for quota in declared if not quota.priority_classes for key, limit in quota.hard.items()}
    lower = {
        key: limit for key, limit in undeclared.hard.items() if key in given and quantity(limit) < quantity(given[key])
    }
    none_at_all = {key: limit for key, limit in undeclared.hard.items() if key in _PODS and quantity(limit) == 0}
    return lower | none_at_all


def as_it_is(live: ResourceQuota, differing: Sequence[str]) -> dict[str, str]:
    """What a quota has where it differs from its declaration."""
    scope = " and ".join(map(str, live.scope_terms)) or "every pod"
    return {key: scope if key == _SCOPE else live.hard.get(key, "absent") for key in differing}


def _amount(text: str | None) -> Fraction | None:
    return None if text is None else quantity(text)


def kind_of(declared: Quota) -> str:
    """A declared quota in words."""
    return (
        f"as declared, for classes {', '.join(declared.priority_classes)}"
        if declared.priority_classes
        else "as declared"
    )
