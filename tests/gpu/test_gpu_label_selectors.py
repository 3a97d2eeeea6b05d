"""Label selectors as text, by the rules of the API machinery."""

import pytest

from conformance.gpu.label_selectors import text_selects

LABELS = {"app": "train", "tier": "gold"}


@pytest.mark.parametrize(
    ("selector", "selects"),
    [
        ("", True),
        ("app=train", True),
        ("app==train", True),
        ("app=serve", False),
        ("app!=serve", True),
        ("other!=serve", True),
        ("app", True),
        ("other", False),
        ("!other", True),
        ("! app", False),
        ("app=train,tier=gold", True),
        ("app=train,tier=lead", False),
        ("tier in (lead, gold)", True),
        ("tier in (lead,silver),app=train", False),
        ("tier notin (lead, silver), app=train", True),
        ("other notin (lead)", True),
    ],
)
def test_a_text_selects_by_all_of_its_terms(selector: str, selects: bool) -> None:
    assert text_selects(selector, LABELS) is selects


@pytest.mark.parametrize("selector", ["app in", "app in (a", "a=b=c", "=b"])
def test_what_is_no_selector_is_refused_by_its_term(selector: str) -> None:
    with pytest.raises(ValueError, match="is no label selector"):
        text_selects(selector, LABELS)
