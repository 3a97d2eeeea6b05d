"""``gpu-conformance report ...``: what can be done with the report of a run that is over."""

import argparse
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.report.comparing import commands as comparing
from conformance.report.model import Report

if TYPE_CHECKING:
    from conformance.catalog import Requirement

    Catalogue = Callable[[], Iterable[Requirement]]


def add_to(parser: argparse.ArgumentParser, catalogue: "Catalogue") -> None:
    """Add the actions of the command ``report``. Each sets ``command``, a function that returns the exit code.

    ``catalogue`` gives the requirements that there are, and is called only where they are needed.
    """
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    show = actions.add_parser("show", help="say what a report says: causes, failures with remedies, profiles")
    _takes_a_report(show)
    show.set_defaults(command=_show)

    convert = actions.add_parser("convert", help="turn a report into another format")
    _takes_a_report(convert)
    convert.add_argument("--to", required=True, metavar="FORMAT", help="see docs/reports.md; a wrong one lists them")
    convert.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="default: the format's usual name, beside the report; - prints",
    )
    redacts(convert)
    convert.set_defaults(command=_convert)

    comparing.add_to(actions)

    recover = actions.add_parser("recover", help="make the report of a run that was killed from its events.ndjson")
    recover.add_argument("stream", type=Path, metavar="EVENTS", help="an events.ndjson, or the folder of a run")
    recover.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: report.json beside it, if there is none"
    )
    recover.set_defaults(command=partial(_recover, catalogue))


def redacts(parser: argparse.ArgumentParser) -> None:
    """Let the user ask for a file that can be shown to others."""
    parser.add_argument(
        "--redact",
        action="store_true",
        help="replace host names, UUIDs, serial numbers, addresses and the names of cluster and registries",
    )
    parser.add_argument(
        "--redact-key", type=Path, metavar="FILE", help="the key of the replacements (default: a new one each time)"
    )


def _takes_a_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("report", type=Path, help="a report.json, or the folder of a run")


def _show(chosen: argparse.Namespace) -> int:
    from conformance.report.formats import line
    from conformance.report.reading import read
    from conformance.report.story import heading_of_cause, story, who_waits
    from conformance.report.visible import visible
    from conformance.verdict import Status

    report = read(chosen.report)
    print(line.render(report), end="")
    for cause in report.causes:
        print(visible(f"\n{heading_of_cause(cause)}\n  {who_waits(cause, most=len(cause.waiting))}"))
    for verdict in report.requirements:
        if verdict.status in (Status.FAILED, Status.ERROR, Status.UNKNOWN):
            print(visible(f"\n{story(verdict)}"))
    return 0


def _convert(chosen: argparse.Namespace) -> int:
    from conformance.report.formats import FORMATS
    from conformance.report.reading import ReportError, read

    if chosen.to not in FORMATS:
        raise ReportError(f"--to={chosen.to}: there is no such format; there are {', '.join(FORMATS)}")
    wanted, report = FORMATS[chosen.to], read(chosen.report)
    if chosen.redact:
        report = _redacted(report, chosen.redact_key)
    if str(chosen.output) == "-":
        return _print(wanted.render(report), chosen.to)
    path = chosen.output or (chosen.report if chosen.report.is_dir() else chosen.report.parent) / wanted.file_name
    for written in wanted.write(report, path):
        print(written)
    return 0


def _redacted(report: Report, key: Path | None) -> Report:
    from conformance.redaction import Redactor, key_from
    from conformance.report.redacted import learn_from, redacted

    redactor = Redactor(key_from(key))
    learn_from(report, redactor)
    return redacted(report, redactor)


def _print(rendered: str | Mapping[str, str], name: str) -> int:
    from conformance.report.reading import ReportError

    if not isinstance(rendered, str):
        raise ReportError(f"--to={name} is a folder of {', '.join(rendered)}: name the folder with -o")
    print(rendered, end="")
    return 0


def _recover(catalogue: "Catalogue", chosen: argparse.Namespace) -> int:
    from conformance.report.emitters import JSON_NAME, write_report
    from conformance.report.formats import line
    from conformance.report.reading import ReportError
    from conformance.report.recovery import recovered
    from conformance.report.stream import read_stream
    from conformance.report.visible import one_line

    stream = read_stream(chosen.stream)
    path = chosen.output or stream.file.parent / JSON_NAME
    if chosen.output is None and path.exists():
        raise ReportError(f"{path} is there already: the run wrote it, or somebody recovered it; give another with -o")
    report = recovered(stream, catalogue)
    write_report(report, path)
    print(path)
    print(line.render(report), end="")
    for note in report.notes:
        print(f"note: {one_line(note)}")
    return 0
