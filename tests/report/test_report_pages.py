"""The pages of comparisons are valid HTML that loads nothing and runs nothing, whatever the names in them are."""

import base64
import hashlib
import re
from collections.abc import Callable

import html5lib
import pytest
from made_reports import HOSTILE, hostile_report, made_report
from msgspec.structs import replace
from runs import Night, broken, node, verdict

from conformance.report.comparing.clusters import fleet_of
from conformance.report.comparing.difference import compare
from conformance.report.comparing.pages import SUBJECTS, difference_page, fleet_page, trend_page
from conformance.report.comparing.trend import trend_of
from conformance.report.model import Report
from conformance.verdict import EvidenceKind

PAGES: dict[str, Callable[[Report, Report], str]] = {
    "difference": lambda old, new: difference_page(compare([old], new)),
    "fleet": lambda old, new: fleet_page(fleet_of([old, new])),
    "trend": lambda old, new: trend_page(trend_of([old, new], ["a\x1b[2J<b>.json is empty"])),
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_page_is_valid_and_hostile_names_stay_text(page: Callable[[Report, Report], str]) -> None:
    text = page(made_report(broken_nodes=3, run="older"), hostile_report())

    tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)

    assert list(tree.iter("script")) == []
    assert "\x1b" not in text
    assert HOSTILE not in text
    assert not any(name.startswith("on") for element in tree.iter() for name in element.keys())  # noqa: SIM118
    assert not any(element.get("src") for element in tree.iter())


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_page_allows_its_own_style_and_nothing_else(page: Callable[[Report, Report], str]) -> None:
    text = page(made_report(), made_report(broken_nodes=2))

    style = re.search("<style>(.*)</style>", text, re.DOTALL)
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]*)"', text)

    assert style
    assert policy
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    wanted = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert policy[1].replace("&#39;", "'") == wanted


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_simulated_evidence_is_said_on_every_page(page: Callable[[Report, Report], str]) -> None:
    assert "SIMULATED EVIDENCE" in page(made_report(evidence=EvidenceKind.SIMULATED), made_report())
    assert "SIMULATED EVIDENCE" not in page(made_report(), made_report())


def test_a_page_of_a_difference_has_what_is_new_with_its_remedy_and_not_more_than_it_can_hold() -> None:
    many = [node(f"gpu-{number}") for number in range(5000)]
    text = difference_page(compare([Night(1)(verdict("POOL-02"))], Night(2)(verdict("POOL-02", broken(*many)))))

    assert "mend gpu-0" in text
    assert "and 4,999 more" in text
    assert f"the first {SUBJECTS} here, all in the JSON" in text
    assert len(text) < 100_000


def test_a_page_of_two_clusters_says_so_before_anything_else() -> None:
    new = replace(made_report(), cluster=replace(made_report().cluster, name="staging", uid=None))
    text = difference_page(compare([made_report()], new))

    assert text.index("Another cluster:") < text.index("Verdicts that changed") if "Verdicts" in text else True
    assert "may come from that alone" in text
