"""One small writer for each format. Each takes the report model and nothing else."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import msgspec

from conformance.report.model import Cause, Report, Verdict
from conformance.report.story import heading_of_cause, headline, story, who_waits, why_not_judged
from conformance.verdict import Status

JSON_NAME = "report.json"
JUNIT_NAME = "junit.xml"
STREAM_NAME = "events.ndjson"


class EventStream:
    """Writes each event as one JSON line the moment it happens, so that a killed run keeps its results."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = path.open("w", encoding="utf-8")

    def write(self, event: str, **content: Any) -> None:
        """Append ``event`` with its time (UTC, RFC 3339) and content, and flush it to the file.

        The words are those of report.json: camelCase, as in Kubernetes.
        """
        line = {"event": event, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **content}
        self._file.write(msgspec.json.encode(line).decode() + "\n")
        self._file.flush()

    def close(self) -> None:
        """End the stream."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def write_json(report: Report, folder: Path) -> Path:
    """Write ``report.json``; its schema is reports/report.schema.json."""
    path = folder / JSON_NAME
    pretty = msgspec.json.format(msgspec.json.encode(report), indent=2).decode()
    path.write_text(_subjects_on_one_line(pretty) + "\n", encoding="utf-8")
    return path


# As deep as the members of a subject in the report: requirements, findings, subjects, one of them.
_MEMBER = " " * 14


def _subjects_on_one_line(pretty: str) -> str:
    """Indented JSON with each subject on a line of its own, so that thousands of them stay readable and small."""
    lines: list[str] = []
    inside = False
    for line in pretty.split("\n"):
        if line.startswith(_MEMBER):
            lines[-1] += ("" if lines[-1].endswith("{") else " ") + line.strip()
            inside = True
        elif inside:
            lines[-1] += line.strip()
            inside = False
        else:
            lines.append(line)
    return "\n".join(lines)


def write_junit(report: Report, folder: Path) -> Path:
    """Write ``junit.xml``: one suite for each profile, the whole story in the element's text.

    GitLab ignores properties and message attributes, so the id is in name and classname and the evidence file is
    an ``[[ATTACHMENT|path]]`` line in system-out, which GitLab and Jenkins both read. What waits is skipped: the alarm
    is its cause, which is the failure of a requirement or else an error in a suite of its own.
    """
    from junit_xml import TestSuite, to_xml_report_string

    consequences: dict[str, str] = {}
    for cause in report.causes:
        told = f"  {cause.cause}: {who_waits(cause, most=len(cause.waiting))}\n"
        consequences[cause.requirement] = consequences.get(cause.requirement, "") + told
    of_profile = {each.name: [v for v in report.requirements if v.profile == each.name] for each in report.profiles}
    suites = [
        TestSuite(
            f"{report.cluster.name} {profile.name}",
            [_case(v, folder, consequences.get(v.requirement, "")) for v in of_profile[profile.name]],
            hostname=report.cluster.name,
            timestamp=report.run.started,
            properties={"result": str(profile.result), "evidence": str(report.cluster.evidence), "run": report.run.id},
        )
        for profile in report.profiles
    ]
    if untold := [cause for cause in report.causes if not cause.told_by_its_requirement]:
        suites.insert(0, _suite_of_causes(untold, report))
    path = folder / JUNIT_NAME
    path.write_text(to_xml_report_string(suites), encoding="utf-8")
    return path


def _case(verdict: Verdict, folder: Path, consequences: str) -> Any:
    from junit_xml import TestCase

    told = f"{story(verdict)}\n{consequences}".rstrip()
    case = TestCase(
        f"{verdict.requirement} {verdict.title}",
        classname=f"gpu-conformance.{verdict.profile}.{verdict.requirement}",
        elapsed_sec=verdict.duration,
        stdout=f"{told}\n[[ATTACHMENT|{(folder / JSON_NAME).resolve()}]]",
    )
    if verdict.status is Status.FAILED:
        case.add_failure_info(headline(verdict), told, failure_type=str(verdict.level))
    elif verdict.status in (Status.ERROR, Status.UNKNOWN):
        case.add_error_info(headline(verdict), told, error_type=str(verdict.status))
    elif verdict.status is not Status.PASSED:
        case.add_skipped_info(why_not_judged(verdict), told)
    return case


def _suite_of_causes(causes: Sequence[Cause], report: Report) -> Any:
    """What requirements wait for and no requirement tells as a failure: nobody may read it as merely skipped."""
    from junit_xml import TestSuite

    name = f"{report.cluster.name} causes"
    return TestSuite(
        name, [_case_of_cause(each) for each in causes], hostname=report.cluster.name, timestamp=report.run.started
    )


def _case_of_cause(cause: Cause) -> Any:
    from junit_xml import TestCase

    case = TestCase(heading_of_cause(cause), classname="gpu-conformance.causes")
    case.add_error_info(heading_of_cause(cause), who_waits(cause, most=len(cause.waiting)), error_type="cause")
    return case
