"""Which budgets count a pod is found by an index, and is what looking through all of them finds."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from conformance.facts import Facts

KEYS, VALUES = ("app", "team", "tier"), ("a", "b")
LABELS = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
EXPRESSIONS = st.lists(
    st.builds(
        lambda key, operator: {"key": key, "operator": operator},
        st.sampled_from(KEYS),
        st.sampled_from(("Exists", "DoesNotExist")),
    ),
    max_size=1,
)
SELECTORS = st.none() | st.builds(
    lambda labels, expressions: {"matchLabels": labels, "matchExpressions": expressions}, LABELS, EXPRESSIONS
)


def budget(number: int, selector: dict[str, Any] | None) -> dict[str, Any]:
    namespace = "one" if number % 3 else "other"
    spec = {} if selector is None else {"selector": selector}
    return {
        "kind": "PodDisruptionBudget",
        "metadata": {"name": f"b{number}", "namespace": namespace},
        "spec": {"maxUnavailable": 1, **spec},
    }


@given(st.lists(SELECTORS, max_size=12), LABELS)
def test_the_index_finds_what_looking_at_each_finds(selectors: list[Any], labels: dict[str, str]) -> None:
    pod = {"kind": "Pod", "metadata": {"name": "p", "namespace": "one", "labels": labels}, "spec": {"containers": []}}
    facts = Facts.from_objects([*(budget(number, each) for number, each in enumerate(selectors)), pod])
    [read] = facts.pods

    assert facts.disruption_budgets_of(read) == tuple(each for each in facts.disruption_budgets if each.covers(read))
