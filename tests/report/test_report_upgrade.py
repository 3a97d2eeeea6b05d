"""What is said of an upgrade stands in every format, and hostile text in it changes nothing but text."""

import json
from html.parser import HTMLParser
from xml.etree import ElementTree

import msgspec
import pytest
from made_reports import HOSTILE, made_report

from conformance.report.formats import FORMATS, junit
from conformance.report.model import Decision, Report, Upgrade
from conformance.upgrading.forecast import Away, Capacity, Displaced, Fate, Stopped

WAITS = Displaced(owner="StatefulSet ml/lab", pods=1, priority=0, fate=Fate.WAITS)
CAPACITY = Capacity(
    at_once=1,
    pods=3,
    moves=2,
    waits=1,
    away=(Away(nodes=("gpu-1",), pods=3, displaced=(WAITS,)),),
    stopped=(Stopped(owner="Job ml/train", pods=2, fails="its backoffLimit leaves 0"),),
)


def upgraded(decision: Decision, text: str = "") -> Report:
    upgrade = Upgrade(
        "driver 595.91.07", decision, ("UPG-04",), ("UPG-09",), ("UPG-06",), f"out/upgrade-baseline.json{text}",
        CAPACITY, (f"OWN-01 node gpu-1 had 400 GB/s, and has 200 (-50%){text}",),
    )  # fmt: skip
    return msgspec.structs.replace(made_report(text=text), upgrade=upgrade, outcome=f"{upgrade}: so it ended")


def rendered(name: str, report: Report) -> str:
    return junit.render(report) if name == "junit" else FORMATS[name].render(report)


PARTS = ("NO-GO", "UPG-04", "UPG-09", "UPG-06", "400 GB/s", "upgrade-baseline.json", "Jobs that start over")


@pytest.mark.parametrize("name", ["html", "markdown"])
def test_readers_have_all_of_it(name: str) -> None:
    text = rendered(name, upgraded(Decision.NO_GO)).replace("\\", "")

    for part in (*PARTS, "Job ml/train (2 pods) fails", "StatefulSet ml/lab"):
        assert part in text, part


@pytest.mark.parametrize("name", ["ctrf", "sarif"])
def test_programs_have_it_as_members(name: str) -> None:
    told = json.loads(rendered(name, upgraded(Decision.NO_GO)))
    holder = told["results"]["summary"]["extra"] if name == "ctrf" else told["runs"][0]["properties"]

    assert holder["upgrade"]["decision"] == "no-go"
    assert holder["upgrade"]["failed"] == ["UPG-04"]
    assert "Jobs that start over" in holder["upgrade"]["capacity"]


@pytest.mark.parametrize(
    ("decision", "tag"),
    [
        (Decision.GO, None),
        (Decision.DONE, None),
        (Decision.NO_GO, "failure"),
        (Decision.NOT_DONE, "failure"),
        (Decision.UNDECIDED, "error"),
    ],
)
def test_in_junit_the_answer_is_a_case(decision: Decision, tag: str | None) -> None:
    root = ElementTree.fromstring(rendered("junit", upgraded(decision)))

    (case,) = [each for each in root.iter("testcase") if each.get("classname") == "gpu-conformance.upgrade.decision"]

    assert [each.tag for each in case if each.tag in ("failure", "error", "skipped")] == ([tag] if tag else [])


def test_sarif_notifies_of_a_no_go_as_an_error_and_of_a_go_as_a_note() -> None:
    for decision, level in ((Decision.NO_GO, "error"), (Decision.UNDECIDED, "error"), (Decision.GO, "note")):
        (run,) = json.loads(rendered("sarif", upgraded(decision)))["runs"]
        told = run["invocations"][0]["toolExecutionNotifications"]
        assert [each["level"] for each in told if "for driver 595.91.07" in each["message"]["text"]] == [level]


def test_metrics_count_pods_by_their_fate() -> None:
    text = rendered("openmetrics", upgraded(Decision.NO_GO))

    assert 'upgrade_pods{cluster="prod-gpu",fate="waits"} 1' in text
    assert 'upgrade_jobs_stopped{cluster="prod-gpu"} 1' in text
    assert 'decision="no-go"} 1' in text


@pytest.mark.parametrize("decision", list(Decision))
def test_badge_and_line_say_the_answer(decision: Decision) -> None:
    report = upgraded(decision)

    assert f"upgrade: {report.upgrade.word}" in rendered("badge", report)
    assert report.upgrade.word in rendered("line", report)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


def _tags(report: Report) -> list[str]:
    parser = _Tags()
    parser.feed(rendered("html", report))
    return parser.tags


def test_hostile_text_adds_no_tag() -> None:
    assert _tags(upgraded(Decision.NO_GO, HOSTILE)) == _tags(upgraded(Decision.NO_GO, " harmless"))


@pytest.mark.parametrize("name", ["html", "markdown", "ctrf", "sarif", "junit", "openmetrics", "badge"])
def test_a_run_that_was_not_asked_says_nothing(name: str) -> None:
    assert "595.91.07" not in rendered(name, made_report())
    assert "pgrade to" not in rendered(name, made_report())


def test_an_operator_that_nobody_knows_is_not_told_as_none_that_is_installed() -> None:
    unknown = Upgrade("GPU Operator v31.1.0", Decision.UNDECIDED, (), (), ("UPG-22",), "")
    none = Upgrade("GPU Operator v31.1.0", Decision.UNDECIDED, (), (), (), "")

    assert "whether a way leads there is not known" in str(unknown)
    assert "nothing tells that it is installed" in str(none)
