"""The report of an earlier run, by which a run marks what is new in it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec.structs import replace

from conformance.report.comparing.changes import Change, Turn
from conformance.report.comparing.difference import compare, of_requirement
from conformance.report.comparing.objects import Met
from conformance.report.comparing.runs import nodes_of
from conformance.report.comparing.verdicts import by_id, turned
from conformance.report.model import Report, Verdict
from conformance.report.reading import ReportError, read
from conformance.verdict import join_limited

_NEW = (Change.NEW, Change.OTHER_CAUSE)
_TOLD = {
    Turn.NEWLY_FAILED: "newly failed",
    Turn.HOLDS_AGAIN: "holds again",
    Turn.NEWLY_JUDGED: "newly judged",
    Turn.NO_LONGER_JUDGED: "no longer judged",
    Turn.WAIVER: "its waiver changed",
    Turn.WEAKER: "its evidence is weaker",
    Turn.STRONGER: "its evidence is stronger",
}
_COUNTED = {
    Change.NEW: "new",
    Change.OTHER_CAUSE: "for another cause",
    Change.KNOWN: "known",
    Change.FIXED: "fixed",
    Change.GONE: "gone",
    Change.UNJUDGED: "not looked at now",
}
_NAMED = (Change.FIXED, Change.GONE, Change.UNJUDGED)


class Baseline:
    """The earlier report, which says of each verdict what is new in it."""

    def __init__(self, report: Report, file: Path) -> None:
        self.report = report
        self.file = file
        self._before = by_id(report)

    @classmethod
    def load(cls, file: Path) -> "Baseline":
        """Read it. Raises ReportError where it is missing, damaged, no report, or of a newer version."""
        try:
            return cls(read(file), file)
        except ReportError as error:
            raise ReportError(f"--gpu-baseline: {error}") from None

    def require_cluster(self, name: str) -> None:
        """Raise ReportError where the earlier run was on a cluster of another name."""
        if self.report.cluster.name != name:
            raise self._refused(name)

    def require_nodes(self, name: str, nodes: Iterable[str]) -> None:
        """Raise ReportError where a snapshot, whose file may have any name, has no node of the earlier run."""
        before = nodes_of(self.report)
        if self.report.cluster.name != name and before and not before & set(nodes):
            raise self._refused(name)

    def _refused(self, name: str) -> ReportError:
        return ReportError(
            f"--gpu-baseline: {self.file} is of the cluster {self.report.cluster.name}, and this run is on {name}; "
            "give a report of an earlier run on the same cluster"
        )

    def marked(self, verdict: Verdict) -> Verdict:
        """The verdict, with what is new in it."""
        met = of_requirement(self._before.get(verdict.requirement), verdict)
        new = {id(each.broken.subject) for each in met if each.change in _NEW}
        groups = tuple(
            replace(
                group,
                subjects=tuple(replace(each, new=id(each) in new) for each in group.subjects),
                new=sum(id(each) in new for each in group.subjects),
            )
            if not group.ok
            else group
            for group in verdict.groups
        )
        return replace(verdict, groups=groups, since=self._since(verdict, met))

    def _since(self, verdict: Verdict, met: Sequence[Met]) -> str:
        turns = [_TOLD[each.turn] for each in turned(self._before.get(verdict.requirement), verdict)]
        counts = [_counted(change, met) for change in _COUNTED]
        return "; ".join(filter(None, (", ".join(turns), ", ".join(filter(None, counts)))))

    def compared(self, report: Report) -> Report:
        """The report, with what it differs in from the earlier one."""
        return replace(report, baseline=compare([self.report], report))


def _counted(change: Change, met: Sequence[Met]) -> str:
    names = [each.broken.name for each in met if each.change is change]
    if not names:
        return ""
    return f"{len(names)} {_COUNTED[change]}" + (f" ({join_limited(names)})" if change in _NAMED else "")
