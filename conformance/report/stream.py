"""Reading the stream of a run: what it has said, as far as it came."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from conformance.report import older
from conformance.report.emitters import STREAM_NAME
from conformance.report.model import API_VERSION, SEVERITY, Verdict
from conformance.report.reading import ReportError
from conformance.verdict import Status

# A stream says its version in its first event; the first ones said none.
_READ = ("", API_VERSION)

Event = Mapping[str, Any]


class Stream(msgspec.Struct, frozen=True):
    """The events of a run. ``cut`` says whether the last line was cut off, and is left out."""

    file: Path
    events: tuple[Event, ...]
    cut: bool

    def of(self, kind: str) -> list[Event]:
        """The events of a kind."""
        return [event for event in self.events if event["event"] == kind]

    def first(self, kind: str) -> Event:
        """The first event of a kind; empty where there is none."""
        return next(iter(self.of(kind)), {})

    @property
    def ended(self) -> bool:
        """Whether the run came to its end."""
        return bool(self.of("run-finished"))

    @property
    def says_what_is_closed(self) -> bool:
        """Whether the stream tells when nothing of a requirement is under way any more; the first versions did not."""
        return "apiVersion" in self.first("run-started")

    def verdicts(self) -> dict[str, Verdict]:
        """The verdict on each requirement, as the run kept it. Raises ReportError for one that is damaged."""
        kept: dict[str, Verdict] = {}
        for event in self.of("requirement-finished"):
            verdict = self._verdict(event)
            kept[verdict.requirement] = _kept(kept.get(verdict.requirement), verdict)
        return kept

    def _verdict(self, event: Event) -> Verdict:
        try:
            told = event["verdict"]
            return msgspec.convert(older.verdict_as_of_today(told) if older.is_of_first(told) else told, Verdict)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ReportError(f"{self.file} has a verdict that is damaged: {error}") from None


def _kept(earlier: Verdict | None, verdict: Verdict) -> Verdict:
    """The worse of two; what waited is waived at the end with its cause."""
    if earlier is None or (earlier.status is Status.WAITING and verdict.status is Status.WAIVED):
        return verdict
    return min(earlier, verdict, key=lambda each: SEVERITY.index(each.status))


def read_stream(path: Path) -> Stream:
    """The stream in a file, or in the folder of a run.

    Raises ReportError where there is none, where it is no stream of ours or of a newer version, and for a damaged line
    that is not the last: a run that is killed cuts off only that.
    """
    file = path / STREAM_NAME if path.is_dir() else path
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise ReportError(f"{file} does not exist: name the {STREAM_NAME} of a run") from None
    except OSError as error:
        raise ReportError(f"{file} cannot be read: {error.strerror}") from None
    lines = [line for line in content.rstrip(b"\0").split(b"\n") if line.strip()]
    events = list(_events(file, lines))
    cut = len(events) < len(lines)
    if not lines:
        raise ReportError(f"{file} is empty: its run ended before it had begun")
    _check(file, events)
    return Stream(file, tuple(events), cut)


def _events(file: Path, lines: list[bytes]) -> Iterator[Event]:
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
        except ValueError:
            if number == len(lines):
                return
            raise ReportError(f"{file} is damaged: line {number} is no JSON, and it is not the last one") from None
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            raise ReportError(f"{file} is no event stream of gpu-conformance: line {number} is no event")
        yield event


def _check(file: Path, events: list[Event]) -> None:
    started = events[0] if events else {}
    if started.get("event") != "run-started" or not all(
        isinstance(started.get(name), str) for name in ("run", "cluster", "mode", "time")
    ):
        raise ReportError(f"{file} is no event stream of gpu-conformance: it does not begin with the start of a run")
    version = started.get("apiVersion", "")
    if version not in _READ:
        raise ReportError(
            f"{file} is of version {version}; this gpu-conformance reads {API_VERSION}: use the version that wrote it"
        )
