"""The commands ``gpu-conformance report diff|merge|trend``: their options and what they do."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conformance.report.model import Report

OK, DIFFERENT = 0, 1


def add_to(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the actions. Each sets ``command``, a function that returns the exit code."""
    diff = actions.add_parser("diff", help="say what changed between two runs: new, fixed, not judged any more")
    diff.add_argument(
        "old", type=Path, nargs="+", metavar="OLD", help="reports, or folders of reports, the oldest first"
    )
    diff.add_argument("new", type=Path, metavar="NEW", help="the report that is compared with the last of them")
    diff.add_argument(
        "--fail-on",
        action="append",
        default=[],
        metavar="KIND,...",
        help="exit with 1 on such differences; docs/reports.md has them, a wrong one lists them",
    )
    _written(diff, "text, json, markdown, html")
    diff.set_defaults(command=_diff)

    merge = actions.add_parser("merge", help="shards of a run as one report, reports of several clusters as one fleet")
    merge.add_argument("reports", type=Path, nargs="+", metavar="REPORT", help="reports, or folders of runs")
    _written(merge, "text, json, of a fleet markdown and html as well")
    merge.set_defaults(command=_merge)

    trend = actions.add_parser("trend", help="how the runs of a cluster went over time, what flaps first")
    trend.add_argument("folder", type=Path, metavar="FOLDER", help="the folder below which their reports are")
    trend.add_argument("--cluster", metavar="NAME", help="its name or UID, where the folder has reports of several")
    trend.add_argument("--last", type=int, metavar="N", help="only the last N runs (default: all)")
    _written(trend, "text, json, markdown, html")
    trend.set_defaults(command=_trend)


def _written(parser: argparse.ArgumentParser, formats: str) -> None:
    parser.add_argument("--to", default="text", metavar="FORMAT", help=f"{formats} (default: text)")
    parser.add_argument("--json", dest="to", action="store_const", const="json", help="the same as --to json")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: printed")


def _diff(given: argparse.Namespace) -> int:
    from conformance.report.comparing import failing
    from conformance.report.comparing.difference import compare
    from conformance.report.comparing.formats import DIFFERENCE, chosen
    from conformance.report.reading import read

    render, kinds = chosen(DIFFERENCE, given.to), failing.named(given.fail_on)
    new = read(given.new)
    difference = compare(_older(given.old, new), new)
    write(render(difference), given.output)
    reasons = failing.reasons(difference, kinds)
    tell(reasons)
    return DIFFERENT if reasons else OK


def _merge(given: argparse.Namespace) -> int:
    from conformance.report.comparing.clusters import by_cluster, fleet_of
    from conformance.report.comparing.formats import FLEET, ONE_CLUSTER, chosen
    from conformance.report.comparing.shards import Shard
    from conformance.report.folders import is_of_many
    from conformance.report.reading import ReportError, read

    for path in given.reports:
        if is_of_many(path):
            raise ReportError(f"{path} is no folder of one run: name each report, {path}/*/report.json for example")
    reports = by_cluster(Shard(str(path), read(path)) for path in given.reports)
    if len(reports) == 1:
        write(chosen(ONE_CLUSTER, given.to)(reports[0]), given.output)
    else:
        write(chosen(FLEET, given.to)(fleet_of(reports)), given.output)
    return OK


def _trend(given: argparse.Namespace) -> int:
    from conformance.report.comparing.formats import TREND, chosen
    from conformance.report.comparing.trend import of_cluster, trend_of
    from conformance.report.folders import read_many

    if given.last is not None and given.last < 1:
        raise ValueError(f"--last={given.last}: give a number of runs, such as 30")
    render = chosen(TREND, given.to)
    found = read_many(given.folder)
    reports = of_cluster(found.reports, given.cluster)
    write(render(trend_of(reports[-given.last :] if given.last else reports, found.refused)), given.output)
    tell(f"not read: {refused}" for refused in found.refused)
    return DIFFERENT if found.refused else OK


def _older(paths: Sequence[Path], new: "Report") -> "list[Report]":
    """The older reports that the paths name. Of a folder those count that are of the same cluster and from before."""
    from conformance.report.folders import is_of_many
    from conformance.report.reading import read

    return [report for path in paths for report in (_before(path, new) if is_of_many(path) else [read(path)])]


def _before(folder: Path, new: "Report") -> "list[Report]":
    from conformance.report.comparing.runs import other_cluster
    from conformance.report.folders import read_many
    from conformance.report.reading import ReportError

    found = read_many(folder)
    tell(f"not read: {refused}" for refused in found.refused)
    earlier = [
        report for report in found.reports if report.run.id != new.run.id and report.run.started <= new.run.started
    ]
    kept = [report for report in earlier if not other_cluster(report, new)]
    if not kept:
        others = sorted({report.cluster.name for report in found.reports})
        raise ReportError(
            f"{folder} has no report of {new.cluster.name} from before {new.run.started}; "
            f"it has reports of {', '.join(others)}"
        )
    return kept


def write(content: str, output: Path | None) -> None:
    """Print what a command says, or write it to the file and print its name."""
    if output is None or str(output) == "-":
        print(content, end="")
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(content, encoding="utf-8")
    print(output)


def tell(lines: Iterable[str]) -> None:
    """Say something beside the output, so that a program which reads that is not disturbed."""
    from conformance.report.visible import one_line

    for line in lines:
        print(f"gpu-conformance: {one_line(line)}", file=sys.stderr)
