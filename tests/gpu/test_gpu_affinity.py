"""Node affinity and label selectors, compared with a reading of the rules that shares nothing with ours."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conformance.gpu.affinity import (
    PreferredTerm,
    node_matches,
    preferred_terms,
    required_terms,
    selector_matches,
    term_matches,
    unmet,
)

KEYS = ["gpu-type", "gpu-memory", "example.com/pool", "bad key!"]
VALUES = ["a100", "h100", "80", "+7", "-5", "007", "9" * 19, "9" * 20, "1_0", "", "bad value!"]
OPERATORS = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Near"]
NODES = ["gpu-1", "gpu-2"]

labels = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=4)
expression = st.fixed_dictionaries(
    {"key": st.sampled_from(KEYS), "operator": st.sampled_from(OPERATORS)},
    optional={"values": st.none() | st.lists(st.sampled_from(VALUES), max_size=2)},
)
field = st.fixed_dictionaries(
    {"key": st.sampled_from(["metadata.name", "metadata.uid"]), "operator": st.sampled_from(["In", "NotIn", "Exists"])},
    optional={"values": st.lists(st.sampled_from(NODES), max_size=2)},
)
term = st.fixed_dictionaries(
    {},
    optional={
        "matchExpressions": st.none() | st.lists(expression, max_size=3),
        "matchFields": st.none() | st.lists(field, max_size=2),
    },
)


class UnparsableError(Exception):
    """What the scheduler answers a term with that it cannot read: the term counts as not there."""


def go_integer(text: str) -> int:
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits or any(letter not in "0123456789" for letter in digits):
        raise UnparsableError
    number = int(digits) * (-1 if text[0] == "-" else 1)
    if not -(2**63) <= number <= 2**63 - 1:
        raise UnparsableError
    return number


def refuse_unless(valid: bool) -> None:
    if not valid:
        raise UnparsableError


def label_holds(each: dict[str, Any], node: dict[str, str]) -> bool:
    key, values = each["key"], list(each.get("values") or [])
    refuse_unless(key != "bad key!" and not {"bad value!", "+7", "-5"} & set(values))
    match each["operator"]:
        case "In":
            refuse_unless(len(values) != 0)
            return key in node and any(node[key] == value for value in values)
        case "NotIn":
            refuse_unless(len(values) != 0)
            return key not in node or all(node[key] != value for value in values)
        case "Exists":
            refuse_unless(values == [])
            return key in node
        case "DoesNotExist":
            refuse_unless(values == [])
            return key not in node
        case "Gt" | "Lt":
            refuse_unless(len(values) == 1)
            bound = go_integer(values[0])
            try:
                found = go_integer(node[key])
            except (KeyError, UnparsableError):
                return False
            return found > bound if each["operator"] == "Gt" else found < bound
    raise UnparsableError


def field_holds(each: dict[str, Any], name: str) -> bool:
    values = each.get("values") or []
    refuse_unless(len(values) == 1 and each["operator"] != "Exists")
    same = {"metadata.name": name}.get(each["key"]) == values[0]
    return same if each["operator"] == "In" else not same


def brute_force(term: dict[str, Any], node: dict[str, str], name: str) -> bool:
    answers = []
    try:
        for each in term.get("matchExpressions") or []:
            answers.append(label_holds(each, node))
        for each in term.get("matchFields") or []:
            answers.append(field_holds(each, name))
    except UnparsableError:
        return False
    return answers != [] and False not in answers


@given(term, labels, st.sampled_from(NODES))
def test_a_term_matches_as_the_rules_say(one: dict[str, Any], node: dict[str, str], name: str) -> None:
    assert term_matches(one, node, name) is brute_force(one, node, name)


@given(st.lists(term, max_size=3), labels, labels, st.sampled_from(NODES))
@example([], {}, {}, "gpu-1")
def test_a_node_needs_the_whole_selector_and_one_term(
    terms: list[dict[str, Any]], selector: dict[str, str], node: dict[str, str], name: str
) -> None:
    affinity = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    selected = all(item in node.items() for item in selector.items())
    fits = any(brute_force(one, node, name) for one in terms)

    assert node_matches(node, name, selector, affinity) is (selected and fits)
    assert node_matches(node, name, selector, None) is selected
    assert node_matches(node, name, selector, {}) is selected


@given(term, labels, st.sampled_from(NODES))
def test_a_term_matches_exactly_when_nothing_of_it_is_unmet(
    one: dict[str, Any], node: dict[str, str], name: str
) -> None:
    empty = not one.get("matchExpressions") and not one.get("matchFields")

    assert term_matches(one, node, name) is (not empty and unmet(one, node, name) == ())


@given(
    st.none()
    | st.fixed_dictionaries(
        {}, optional={"matchLabels": st.none() | labels, "matchExpressions": st.lists(expression, max_size=3)}
    ),
    labels,
)
def test_a_label_selector_selects_as_the_rules_say(selector: dict[str, Any] | None, actual: dict[str, str]) -> None:
    if selector is None:
        assert not selector_matches(selector, actual)
        return
    expressions = selector.get("matchExpressions") or []
    try:
        refuse_unless(not {"Gt", "Lt"} & {each["operator"] for each in expressions})
        holds = [label_holds(each, actual) for each in expressions]
        holds += [(key, value) in actual.items() for key, value in (selector.get("matchLabels") or {}).items()]
    except UnparsableError:
        holds = [False]

    assert selector_matches(selector, actual) is (False not in holds)


@pytest.mark.parametrize("operator", ["NotIn", "DoesNotExist"])
def test_a_missing_label_meets_the_negative_operators(operator: str) -> None:
    values = ["t4"] if operator == "NotIn" else []

    assert term_matches({"matchExpressions": [{"key": "gpu-type", "operator": operator, "values": values}]}, {}, "n")


def test_a_required_part_without_terms_matches_no_node() -> None:
    assert not node_matches({}, "gpu-1", {}, {"requiredDuringSchedulingIgnoredDuringExecution": {}})


@pytest.mark.parametrize(
    ("actual", "operator", "bound", "matches"),
    [
        ("80", "Gt", "79", True),
        ("80", "Gt", "80", False),
        ("80", "Lt", "80", False),
        ("80", "Lt", "81", True),
        ("9", "Lt", "10", True),
        ("007", "Lt", "8", True),
        ("80Gi", "Gt", "1", False),
        ("9223372036854775807", "Gt", "1", True),
        ("9223372036854775808", "Gt", "1", False),
        ("1", "Lt", "9223372036854775808", False),
    ],
)
def test_greater_and_less_compare_whole_numbers_of_64_bits(
    actual: str, operator: str, bound: str, matches: bool
) -> None:
    wanted = {"matchExpressions": [{"key": "gpu-memory", "operator": operator, "values": [bound]}]}

    assert term_matches(wanted, {"gpu-memory": actual}, "gpu-1") is matches


def test_a_term_with_a_key_that_is_no_label_key_matches_nothing_even_when_it_negates() -> None:
    for key in ("bad key!", "Example.com/pool", "/pool", "a/b/c", ""):
        assert not term_matches({"matchExpressions": [{"key": key, "operator": "DoesNotExist"}]}, {}, "gpu-1")


def test_a_label_selector_knows_no_greater_and_less() -> None:
    above = {"matchExpressions": [{"key": "rank", "operator": "Gt", "values": ["1"]}]}

    assert term_matches(above, {"rank": "3"}, "gpu-1")
    assert not selector_matches(above, {"rank": "3"})


def test_a_negative_bound_cannot_be_parsed_because_it_is_no_label_value() -> None:
    below = {"matchExpressions": [{"key": "rank", "operator": "Gt", "values": ["-5"]}]}

    assert not term_matches(below, {"rank": "3"}, "gpu-1")


def test_preferences_without_weight_or_expressions_do_not_count() -> None:
    a100 = {"matchExpressions": [{"key": "gpu-type", "operator": "In", "values": ["a100"]}]}
    affinity = {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 50, "preference": a100},
            {"weight": 0, "preference": a100},
            {"weight": 10, "preference": {}},
        ]
    }

    assert preferred_terms(affinity) == (PreferredTerm(50, a100),)
    assert required_terms(affinity) == ()


def test_unmet_expressions_are_told_in_words() -> None:
    wanted = {
        "matchExpressions": [
            {"key": "gpu-type", "operator": "In", "values": ["a100", "h100"]},
            {"key": "zone", "operator": "Exists"},
            {"key": "spot", "operator": "DoesNotExist"},
        ]
    }

    assert unmet(wanted, {"gpu-type": "t4"}, "n") == ("gpu-type In (a100, h100)", "zone Exists")
