"""Node selectors, node affinity and label selectors, decided as kube-scheduler and the API machinery decide them.

Terms, expressions and selectors are plain mappings as the API server serves them. A term that Kubernetes could not
parse (unknown operator, values missing or too many, a value that is no label value) matches no node, also where its
operator is NotIn or DoesNotExist: the scheduler skips the whole term (component-helpers, nodeaffinity.go).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

Labels: TypeAlias = Mapping[str, str]
Expression: TypeAlias = Mapping[str, Any]
Term: TypeAlias = Mapping[str, Any]

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"

# Go's strconv.ParseInt(text, 10, 64): unlike int() it takes neither spaces nor underscores nor other digits.
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_INT64 = range(-(2**63), 2**63)
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


class PreferredTerm(msgspec.Struct, frozen=True):
    """One preference of a pod: nodes that ``term`` matches gain ``weight`` (1 to 100)."""

    weight: int
    term: dict[str, Any]


def labels_asked_for(node_affinity: Mapping[str, Any] | None) -> Iterator[str]:
    """``key=value`` of each label that alone meets a required term: one expression with operator In and one value."""
    for term in (node_affinity or {}).get(_REQUIRED, {}).get("nodeSelectorTerms") or ():
        match term:
            case {"matchExpressions": [{"key": str(key), "operator": "In", "values": [str(value)]}]}:
                yield f"{key}={value}"


def node_matches(
    node_labels: Labels,
    node_name: str,
    node_selector: Labels | None = None,
    node_affinity: Mapping[str, Any] | None = None,
) -> bool:
    """Whether a node meets a pod's ``nodeSelector`` and the required part of its ``affinity.nodeAffinity``.

    Required terms are ORed, the expressions of a term ANDed; a required part without usable term matches no node.
    """
    return node_matcher(node_selector, node_affinity)(node_labels, node_name)


def node_matcher(
    node_selector: Labels | None, node_affinity: Mapping[str, Any] | None
) -> Callable[[Labels, str], bool]:
    """``node_matches`` for one pod and many nodes, by their labels and names: what the pod asks is parsed once."""
    wanted = (node_selector or {}).items()
    required = (node_affinity or {}).get(_REQUIRED)
    terms = None if required is None else [each for each in required.get("nodeSelectorTerms") or () if _usable(each)]

    def matches(node_labels: Labels, node_name: str) -> bool:
        if not wanted <= node_labels.items():
            return False
        return terms is None or any(_term_holds(term, node_labels, node_name) for term in terms)

    return matches


def required_terms(node_affinity: Mapping[str, Any] | None) -> tuple[dict[str, Any], ...]:
    """The required terms of a pod's ``affinity.nodeAffinity``, of which a node has to match one; empty when none."""
    required = (node_affinity or {}).get(_REQUIRED) or {}
    return tuple(dict(term) for term in required.get("nodeSelectorTerms") or ())


def preferred_terms(node_affinity: Mapping[str, Any] | None) -> tuple[PreferredTerm, ...]:
    """The preferences of a pod's ``affinity.nodeAffinity`` that can count: weight 0 and empty terms are left out."""
    preferences = (node_affinity or {}).get(_PREFERRED) or ()
    found = (PreferredTerm(int(each.get("weight") or 0), dict(each.get("preference") or {})) for each in preferences)
    return tuple(each for each in found if each.weight and not _is_empty(each.term))


def term_matches(term: Term, node_labels: Labels, node_name: str) -> bool:
    """Whether one node selector term matches a node; an empty term matches none."""
    return _usable(term) and _term_holds(term, node_labels, node_name)


def _usable(term: Term) -> bool:
    """Whether a term is one that Kubernetes could parse, and not empty."""
    expressions: Sequence[Expression] = term.get("matchExpressions") or ()
    fields: Sequence[Expression] = term.get("matchFields") or ()
    return not _is_empty(term) and all(map(_is_valid, expressions)) and all(map(_is_valid_field, fields))


def _term_holds(term: Term, node_labels: Labels, node_name: str) -> bool:
    """Whether a usable term holds for a node."""
    expressions: Sequence[Expression] = term.get("matchExpressions") or ()
    fields: Sequence[Expression] = term.get("matchFields") or ()
    return all(_holds(each, node_labels) for each in expressions) and all(
        _field_holds(each, node_name) for each in fields
    )


def unmet(term: Term, node_labels: Labels, node_name: str) -> tuple[str, ...]:
    """The expressions of a term that a node does not meet, in words, such as ``gpu-type In (a100)``."""
    expressions: Sequence[Expression] = term.get("matchExpressions") or ()
    fields: Sequence[Expression] = term.get("matchFields") or ()
    broken = [each for each in expressions if not (_is_valid(each) and _holds(each, node_labels))]
    broken += [each for each in fields if not (_is_valid_field(each) and _field_holds(each, node_name))]
    return tuple(_format(each) for each in broken)


def selector_matches(label_selector: Mapping[str, Any] | None, labels: Labels) -> bool:
    """Whether a label selector (``matchLabels``, ``matchExpressions``) selects an object with these labels.

    None selects nothing, an empty selector everything. Gt and Lt do not exist here, and a selector that Kubernetes
    could not parse selects nothing.
    """
    if label_selector is None:
        return False
    expressions: Sequence[Expression] = label_selector.get("matchExpressions") or ()
    if not all(each.get("operator") in _SELECTING and _is_valid(each) for each in expressions):
        return False
    wanted: Labels = label_selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _holds(each, labels) for each in expressions
    )


def _is_empty(term: Term) -> bool:
    return not term.get("matchExpressions") and not term.get("matchFields")


def _holds(expression: Expression, labels: Labels) -> bool:
    """Whether a valid expression holds for the labels."""
    key = expression["key"]
    return _OPERATORS[expression["operator"]](labels.get(key), expression.get("values") or ())


def _is_valid(expression: Expression) -> bool:
    """Whether labels.NewRequirement of the API machinery would accept the expression."""
    values: Sequence[str] = expression.get("values") or ()
    key, operator = expression.get("key"), expression.get("operator")
    if not _is_label_key(key) or not all(_is_label_value(value) for value in values):
        return False
    if operator in ("In", "NotIn"):
        return len(values) > 0
    if operator in ("Exists", "DoesNotExist"):
        return len(values) == 0
    return operator in ("Gt", "Lt") and len(values) == 1 and _integer(values[0]) is not None


def _is_valid_field(expression: Expression) -> bool:
    """Whether a field expression can be parsed: In or NotIn with exactly one value."""
    return expression.get("operator") in ("In", "NotIn") and len(expression.get("values") or ()) == 1


def _field_holds(expression: Expression, node_name: str) -> bool:
    """Whether a valid field expression holds; metadata.name is the only field that a node has, others are empty."""
    actual = node_name if expression.get("key") == "metadata.name" else ""
    wanted: str = expression["values"][0]
    return actual == wanted if expression["operator"] == "In" else actual != wanted


def _is_label_key(key: object) -> bool:
    if not isinstance(key, str):
        return False
    prefix, slash, name = key.rpartition("/")
    if slash and not (len(prefix) <= 253 and _DOMAIN.fullmatch(prefix)):
        return False
    return _NAME.fullmatch(name) is not None


def _is_label_value(value: object) -> bool:
    return isinstance(value, str) and (value == "" or _NAME.fullmatch(value) is not None)


def _integer(text: str | None) -> int | None:
    if text is None or _INTEGER.fullmatch(text) is None:
        return None
    number = int(text)
    return number if number in _INT64 else None


def greater(actual: str | None, bound: str) -> bool:
    """Whether a value is a whole number of 64 bits above ``bound``, which has to be one as well."""
    number, limit = _integer(actual), _integer(bound)
    return number is not None and limit is not None and number > limit


def less(actual: str | None, bound: str) -> bool:
    """Whether a value is a whole number of 64 bits below ``bound``, which has to be one as well."""
    number, limit = _integer(actual), _integer(bound)
    return number is not None and limit is not None and number < limit


# A label that is missing (None) meets NotIn and DoesNotExist, and none of the others.
_OPERATORS: dict[str, Callable[[str | None, Sequence[str]], bool]] = {
    "In": lambda actual, values: actual in values,
    "NotIn": lambda actual, values: actual not in values,
    "Exists": lambda actual, values: actual is not None,
    "DoesNotExist": lambda actual, values: actual is None,
    "Gt": lambda actual, values: greater(actual, values[0]),
    "Lt": lambda actual, values: less(actual, values[0]),
}
_SELECTING = frozenset({"In", "NotIn", "Exists", "DoesNotExist"})


def _format(expression: Expression) -> str:
    values = ", ".join(str(value) for value in expression.get("values") or ())
    words = f"{expression.get('key')} {expression.get('operator')}"
    return f"{words} ({values})" if values else words
