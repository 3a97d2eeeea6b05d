"""One small writer for each format. Each takes the report model and nothing else."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import msgspec

from conformance.report.formats import Format, junit
from conformance.report.model import Report

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
    return write_report(report, folder / JSON_NAME)


def write_report(report: Report, path: Path) -> Path:
    """Write a report as JSON to a file, making the folders that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_text(report), encoding="utf-8")
    return path


def as_text(report: Report) -> str:
    """A report as report.json holds it."""
    pretty = msgspec.json.format(msgspec.json.encode(report), indent=2).decode()
    return _subjects_on_one_line(pretty) + "\n"


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
    """Write ``junit.xml``, which names report.json as the attachment of every case."""
    path = folder / JUNIT_NAME
    path.write_text(junit.render(report, attachment=str((folder / JSON_NAME).resolve())), encoding="utf-8")
    return path


def write_formats(report: Report, folder: Path, chosen: Iterable[Format]) -> list[Path]:
    """Write the report in further formats, each under its usual name, beside those that every run writes.

    Those that refuse the report are left out; ``refusals`` tells of them.
    """
    wanted = [each for each in chosen if each.file_name != JUNIT_NAME and not each.refuses(report)]
    return [path for each in wanted for path in each.write(report, folder / each.file_name)]


def refusals(report: Report, chosen: Iterable[Format]) -> list[str]:
    """What is not written, and why: one note for each format that refuses the report."""
    return [f"{each.file_name} was not written: {why}" for each in chosen if (why := each.refuses(report))]
