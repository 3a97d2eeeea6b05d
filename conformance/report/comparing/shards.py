"""Shards of one run as one report: each judged a part of the requirements, on one cluster and with the same options."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from conformance.report.causes import causes_of, with_waived_causes
from conformance.report.comparing.objects import broken_in
from conformance.report.comparing.runs import unlike
from conformance.report.model import EXIT_INCOMPLETE, Excused, Report, Verdict, exit_code, summarise
from conformance.report.reading import ReportError
from conformance.verdict import Status

# What may differ from shard to shard: which part each judges, and when it did.
_MAY_DIFFER = ("order", "nodes", "nodes with GPUs", "cluster", "setting profile", "setting requirement")
_SELECTION = ("profile", "requirement", "report", "report_formats", "baseline")


class Shard(NamedTuple):
    """A report, and the file that it is told by."""

    file: str
    report: Report


def merged(shards: Sequence[Shard]) -> Report:
    """One report of all. Raises ReportError naming both files where they are of two runs or contradict each other."""
    if len(shards) == 1:
        return shards[0].report
    for other in shards[1:]:
        _require_one_run(shards[0], other)
    verdicts = _verdicts(shards)
    newest = max((shard.report for shard in shards), key=lambda report: report.run.finished)
    code, outcome = _outcome(shards, verdicts)
    return Report(
        replace(
            newest.run,
            id="+".join(shard.report.run.id for shard in shards),
            started=min(shard.report.run.started for shard in shards),
            settings={name: value for name, value in newest.run.settings.items() if name not in _SELECTION},
        ),
        replace(newest.cluster, unreadable=_unreadable(shards)),
        newest.reference,
        outcome,
        code,
        causes_of(verdicts),
        summarise(verdicts),
        tuple(verdicts),
        _notes(shards),
        _excused(shards),
        newest.fleet,
        waiting_pods=newest.waiting_pods,
    )


def _require_one_run(one: Shard, other: Shard) -> None:
    for each in unlike(one.report, other.report):
        if each.what not in _MAY_DIFFER:
            raise ReportError(
                f"{one.file} and {other.file} are no shards of one run: {each.what} is {each.old} in the one and "
                f"{each.new} in the other; gpu-conformance report diff compares two runs"
            )


def _verdicts(shards: Sequence[Shard]) -> list[Verdict]:
    by_id: dict[str, list[tuple[str, Verdict]]] = {}
    for shard in shards:
        for verdict in shard.report.requirements:
            by_id.setdefault(verdict.requirement, []).append((shard.file, verdict))
    return with_waived_causes(_the_one_of(told) for _, told in sorted(by_id.items()))


def _the_one_of(told: Sequence[tuple[str, Verdict]]) -> Verdict:
    """The verdict of the shard that judged the requirement; of those that left it out the first."""
    ran = [each for each in told if each[1].status is not Status.NOT_RUN]
    if not ran:
        return told[0][1]
    file, verdict = ran[0]
    for other_file, other in ran[1:]:
        if _says(verdict) != _says(other):
            raise ReportError(
                f"{verdict.requirement} was judged twice, and not alike: {_ended_as(verdict)} in {file}, "
                f"{_ended_as(other)} in {other_file}; these are no shards of one run, "
                "gpu-conformance report diff compares two runs"
            )
    return verdict


def _says(verdict: Verdict) -> tuple[object, ...]:
    broken = sorted((each.name, each.cause) for each in broken_in(verdict))
    return verdict.status, verdict.evidence, verdict.unseen, broken


def _ended_as(verdict: Verdict) -> str:
    return f"{verdict.status} with {verdict.broken} broken" if verdict.broken else str(verdict.status)


def _outcome(shards: Sequence[Shard], verdicts: Sequence[Verdict]) -> tuple[int, str]:
    """What the verdicts come to, and no better than what a shard said beside them: a killed one is not green."""
    worse = [shard for shard in shards if shard.report.exit_code != _by_verdicts(shard.report)]
    code, outcome = exit_code(verdicts, other_failures=any(shard.report.exit_code == 1 for shard in worse))
    if code == 0 and worse:
        return EXIT_INCOMPLETE, f"nothing failed, but of {worse[0].file}: {worse[0].report.outcome}"
    return code, outcome


def _by_verdicts(report: Report) -> int:
    return exit_code(report.requirements, other_failures=False)[0]


def _unreadable(shards: Iterable[Shard]) -> dict[str, str]:
    return {kind: why for shard in shards for kind, why in shard.report.cluster.unreadable.items()}


def _notes(shards: Sequence[Shard]) -> tuple[str, ...]:
    runs = ", ".join(shard.report.run.id for shard in shards)
    told = dict.fromkeys(note for shard in shards for note in shard.report.notes)
    return (f"merged of {len(shards)} reports, of the runs {runs}", *told)


def _excused(shards: Iterable[Shard]) -> tuple[Excused, ...]:
    """What was left out in any of them, with the largest number of pods that one of them saw."""
    found: dict[str, Excused] = {}
    for shard in shards:
        for each in shard.report.excused:
            known = found.get(each.platform, each)
            found[each.platform] = Excused(
                each.platform,
                tuple(dict.fromkeys((*known.namespaces, *each.namespaces))),
                max(known.pods, each.pods),
                tuple(dict.fromkeys((*known.priority_classes, *each.priority_classes))),
            )
    return tuple(found.values())
