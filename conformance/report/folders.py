"""Folders of reports: a nightly job keeps one for each run, below one folder."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from conformance.report.emitters import JSON_NAME
from conformance.report.model import Report
from conformance.report.reading import ReportError, read


class Found(msgspec.Struct, frozen=True):
    """The reports of a folder, the oldest first, and what could not be read, a sentence for each file."""

    reports: tuple[Report, ...]
    refused: tuple[str, ...]


def is_of_many(path: Path) -> bool:
    """Whether a path is a folder of several runs, not that of one."""
    return path.is_dir() and not (path / JSON_NAME).exists()


def read_many(folder: Path) -> Found:
    """Every report below a folder. A file that cannot be read hides no other one.

    Raises ReportError where the folder does not exist, and where there is no report in it.
    """
    if not folder.is_dir():
        raise ReportError(f"{folder} is no folder: name the one below which the reports are")
    files = sorted({*folder.rglob(JSON_NAME), *folder.glob("*.json")})
    if not files:
        raise ReportError(f"{folder} has no {JSON_NAME} in it or below it, and no other .json")
    reports, refused = [], []
    for file in files:
        try:
            reports.append(read(file))
        except ReportError as error:
            refused.append(str(error))
    if not reports:
        raise ReportError(f"{folder} has no report that can be read: {'; '.join(refused[:3])}")
    return Found(_each_once(reports), tuple(refused))


def _each_once(reports: Iterable[Report]) -> tuple[Report, ...]:
    """One report for each run, as somebody may have copied one; in the order of the runs."""
    by_run = {report.run.id: report for report in reports}
    return tuple(sorted(by_run.values(), key=lambda report: (report.run.started, report.run.id)))
