"""Results of tests in the shapes that the programme's bot parses: JUnit, events of ``go test -json``, and a log."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from conformance.report.formats import junit
from conformance.report.model import Report, Verdict
from conformance.report.story import details

JUNIT, RESULTS, LOG = FILES = ("junit.xml", "results.json", "e2e.log")
_PACKAGE = "gpu-conformance"


def written(shown: Sequence[Verdict], report: Report) -> Mapping[str, str]:
    """The files by name; a test is called as its requirement is. All of ``shown`` have passed."""
    return {JUNIT: _junit(shown, report), RESULTS: _results(shown), LOG: _log(shown)}


def _junit(shown: Iterable[Verdict], report: Report) -> str:
    from junit_xml import TestCase, TestSuite, to_xml_report_string

    cases = [
        TestCase(
            each.requirement,
            classname=f"{_PACKAGE}.{each.profile}",
            elapsed_sec=each.duration,
            stdout="\n".join(_told(each)),
        )
        for each in shown
    ]
    suite = TestSuite(_PACKAGE, cases, timestamp=report.run.started, properties={"run": report.run.id})
    return str(to_xml_report_string([suite]))


def _results(shown: Iterable[Verdict]) -> str:
    events = [event for each in shown for event in _events(each)]
    return "".join(
        f"{msgspec.json.encode(event).decode()}\n" for event in [*events, {"Action": "pass", "Package": _PACKAGE}]
    )


def _events(verdict: Verdict) -> Iterator[dict[str, Any]]:
    about = {"Package": _PACKAGE, "Test": verdict.requirement}
    yield {"Action": "run", **about}
    for line in _told(verdict):
        yield {"Action": "output", **about, "Output": f"{line}\n"}
    yield {"Action": "pass", **about, "Elapsed": verdict.duration}


def _log(shown: Iterable[Verdict]) -> str:
    """The bot takes every line that begins with three dashes for a result: the lines of stories have a bar before."""
    lines: list[str] = []
    for each in shown:
        lines += [f"=== RUN   {each.requirement}", *(f"    | {line}" for line in _told(each))]
        lines.append(f"--- PASS: {each.requirement} ({each.duration:.2f}s)")
    return "\n".join([*lines, "PASS", ""])


def _told(verdict: Verdict) -> list[str]:
    """The requirement and what was found of its subjects, line by line."""
    held = [f"{each.subject}: {each.actual}" for group in verdict.groups if group.ok for each in group.findings()]
    told = "\n".join((f"{verdict.requirement} {verdict.level} {verdict.title}", details(verdict), *held))
    return junit.text(told).split("\n")
