"""The end of a run on a terminal: the causes of failures, profiles, what needs somebody, and where the reports are.

It fits one screen, whatever failed: what is above it, and the reports, have the rest. ``-v`` leaves nothing out, and
``-q`` keeps to causes and the outcome.
"""

import shutil
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from conformance.catalog import MUST
from conformance.explaining import WaitingPods
from conformance.progress import printable
from conformance.report.comparing.text import since_baseline
from conformance.report.grouping import FindingGroup
from conformance.report.model import Excused, Profile, ProfileResult, Report, Upgrade, Verdict
from conformance.report.story import heading_of_cause, who_waits
from conformance.session.upgrades import KEYS
from conformance.verdict import Status, join_limited

LINES = 24
"""Lines of the smallest screen that the summary fits, with pytest's last line and the next prompt below it."""
_BELOW = 2
_NAMED = 5
_FEW = 4
# How lines are shared where there are too few: at least so many of each part, if it has them.
_LEAST = {"causes": 3, "failures": 3, "unjudged": 2, "capacity": 2, "pods": 1, "profiles": 4, "unknown": 1, "notes": 4}
_GOOD = (ProfileResult.CONFORMANT, ProfileResult.REHEARSED, ProfileResult.AUDITED)
_LEFT, _RUN = "could not be put back: ", ". Run: "
_COLOUR = {ProfileResult.FAILED: "red", ProfileResult.INCOMPLETE: "red", ProfileResult.PARTIAL: "yellow"}


class Line(NamedTuple):
    """One line, and the mark-up of it that pytest's terminal knows."""

    text: str
    marked: Mapping[str, bool] = {}


class Part(NamedTuple):
    """Lines of one kind, the most important first; ``more`` says what is left out after the first so many."""

    name: str
    entries: Sequence[Sequence[Line]]
    more: str


def write(terminal: pytest.TerminalReporter, report: Report, files: Iterable[Path], *, verbosity: int = 0) -> None:
    """Write the summary of ``report``, as long as pytest's ``verbosity`` asks for."""
    terminal.section("GPU conformance", sep="=", bold=True)
    width, height = shutil.get_terminal_size((160, LINES))
    most = None if verbosity > 0 else max(LINES, height) - _BELOW - 1
    for line in lines(report, files, width=width, most=most, brief=verbosity < 0):
        terminal.line(printable(line.text), **line.marked)


def lines(
    report: Report, files: Iterable[Path], *, width: int, most: int | None = None, brief: bool = False
) -> list[Line]:
    """The lines below the heading: ``most`` of them at most, all that there is to say without it."""
    first = _decision(report, width)
    first += [] if brief else _wrapped(_about(report), width, 2)
    first += [line for text in since_baseline(report) for line in _wrapped(text, width, 2, {"bold": True})]
    last = [line for note in report.notes if _tells_what_is_left(note) for line in _on_what_is_left(note, width)]
    last += _wrapped(f"{report.outcome} (exit code {report.exit_code})", width, 2, _outcome(report))
    last += _wrapped(f"report: {', '.join(map(str, files))}", width, 2)
    parts = [_causes(report, width), _failures(report, width), _unjudged(report, width)]
    parts += [_capacity(report, width), _waiting(report, width)]
    if not brief:
        parts += [_profiles(report, width, short=most is not None), _unknown(report, width), _notes(report, width)]
    room = None if most is None else most - len(first) - len(last)
    return [*first, *_shared(parts, room), *last]


def left_behind(left: Iterable[str], command: str) -> str:
    """What a run left on its cluster, and the command that removes it, as every end of a run says it."""
    return f"{_LEFT}{'; '.join(left)}{_RUN}{command}"


def _tells_what_is_left(note: str) -> bool:
    return note.startswith(_LEFT)


def _on_what_is_left(note: str, width: int) -> list[Line]:
    """What is left, perhaps shortened, and in any case the command that removes it, however small the screen."""
    what, _, command = note.rpartition(_RUN)
    marked = {"red": True, "bold": True}
    return [*_wrapped(what, width, 2, marked), Line(f"           Run: {command}", marked)]


def _shared(parts: Sequence[Part], room: int | None) -> list[Line]:
    """The parts one below the other; where they need more than ``room``, each gives up its last entries."""
    if room is None:
        return [line for part in parts for entry in part.entries for line in entry]
    least = [min(_LEAST[part.name], _size(part)) for part in parts]
    spare = max(0, room - sum(least))
    shown: list[Line] = []
    for part, own in zip(parts, least, strict=True):
        granted = min(_size(part), own + spare)
        spare -= granted - own
        shown += _cut(part, granted)
    return shown


def _size(part: Part) -> int:
    return sum(map(len, part.entries))


def _cut(part: Part, room: int) -> list[Line]:
    """The first entries that fit into ``room`` lines, and how many do not; of the first one a line always."""
    if _size(part) <= room:
        return [line for entry in part.entries for line in entry]
    kept: list[Line] = []
    for number, entry in enumerate(part.entries):
        if len(kept) + len(entry) > room - 1:
            # A cause without its advice is still the cause.
            kept += [] if kept else entry[: max(1, room - 1)]
            left = len(part.entries) - max(number, 1)
            return [*kept, *([Line(f"  and {left} {part.more}")] if left else [])][:room]
        kept += entry
    return kept


def _about(report: Report) -> str:
    cluster = report.cluster
    return (
        f"{cluster.name}: Kubernetes {cluster.server_version or 'unknown'}, {cluster.nodes} nodes, "
        f"{cluster.gpu_nodes} with GPUs; reference {report.reference}; mode {report.run.mode}; "
        f"evidence {cluster.evidence}"
    )


def _decision(report: Report, width: int) -> list[Line]:
    """Whether an upgrade may begin, where the run was asked about one."""
    if not isinstance(report.upgrade, Upgrade):
        return []
    go = report.upgrade.decision.good
    return _wrapped(str(report.upgrade), width, _FEW, {"bold": True, "green": go, "red": not go})


def _outcome(report: Report) -> dict[str, bool]:
    return {"bold": True, "green": report.exit_code == 0, "red": report.exit_code != 0}


def _causes(report: Report, width: int) -> Part:
    """What keeps requirements from being judged: the causes with most consequences first."""
    entries = [
        [
            *_wrapped(f"  {heading_of_cause(cause)}", width, _FEW, {"red": True}),
            Line(_on_one_line(f"           {who_waits(cause, most=_NAMED)}", width)),
        ]
        for cause in report.causes
    ]
    return Part("causes", entries, "other causes for which requirements wait")


def _failures(report: Report, width: int) -> Part:
    """The failures that most must be done about: those of MUST requirements first, and those of many subjects."""
    broken = [(each, group) for each in report.requirements if each.status is Status.FAILED for group in each.causes]
    broken.sort(key=lambda each: (each[0].level is not MUST, -each[1].count))
    broken.sort(key=lambda each: not each[1].new)
    told = [f"  {verdict.requirement:<8} {_new(group)}{_cause(group)}" for verdict, group in broken]
    return Part("failures", [[Line(_on_one_line(text, width))] for text in told], "other causes of failures")


def _unjudged(report: Report, width: int) -> Part:
    """Why an upgrade is not decided, where the run was asked about one: of each requirement the first reason."""
    asked = isinstance(report.upgrade, Upgrade)
    unjudged = report.upgrade.unjudged if isinstance(report.upgrade, Upgrade) else ()
    # What waits is told under its cause. Without the key's verdict nobody knows whether there is an upgrade at all.
    told = [
        f"  {each.requirement:<8} not judged: {_first_reason(each)}"
        for each in report.requirements
        if asked and _keeps_undecided(each, unjudged)
    ]
    return Part("unjudged", [[Line(_on_one_line(text, width))] for text in told], "others that could not be judged")


def _keeps_undecided(verdict: Verdict, unjudged: Collection[str]) -> bool:
    if verdict.requirement in KEYS.values():
        return verdict.status in (Status.ERROR, Status.UNSUPPORTED, Status.NOT_APPLICABLE)
    return verdict.requirement in unjudged and verdict.status is not Status.WAITING


def _first_reason(verdict: Verdict) -> str:
    unseen = next(iter(verdict.unseen_examples), None)
    return f"{unseen.why} ({unseen.subject})" if unseen is not None else verdict.reason


def _capacity(report: Report, width: int) -> Part:
    """What becomes of pods with GPUs while nodes are away, where the run was asked about an upgrade."""
    capacity = report.upgrade.capacity if isinstance(report.upgrade, Upgrade) else None
    if capacity is None:
        return Part("capacity", [], "")
    entries = [_wrapped(str(capacity), width, _FEW)]
    entries += [[Line(_on_one_line(f"  {each}", width))] for each in capacity.stopped if each.fails]
    for each in capacity.away:
        names = join_limited(each.nodes)
        entries += [[Line(_on_one_line(f"  {names} away: {one}", width))] for one in each.displaced]
    entries += [[Line(_on_one_line(f"  {each}", width))] for each in capacity.stopped if not each.fails]
    return Part("capacity", entries, "others that do not just find room, in report.json")


def _waiting(report: Report, width: int) -> Part:
    """Why pods that ask for GPUs wait or fail, where the run was asked for that."""
    groups = report.waiting_pods.groups if isinstance(report.waiting_pods, WaitingPods) else ()
    told = [f"  {each.owner}, {each.pods} {each.stage}: {each.cause}" for each in groups]
    return Part("pods", [[Line(_on_one_line(text, width))] for text in told], "other groups of pods that wait or fail")


def _new(group: FindingGroup) -> str:
    """A mark on what the baseline does not have."""
    if not group.new:
        return ""
    return "NEW " if group.new == group.count else f"{group.new} NEW "


def _cause(group: FindingGroup) -> str:
    """The first subject, how many share its cause, and the cause, or what was found where none is known."""
    finding = group.first
    more = f" and {group.count - 1} more" if group.count > 1 else ""
    return f"{finding.subject}{more}: {finding.cause or f'found {finding.actual}'}"


def _profiles(report: Report, width: int, *, short: bool) -> Part:
    """Each profile with what needs somebody; on a screen those with the same result, and nothing to add, together."""
    column = max((len(profile.name) for profile in report.profiles), default=0)
    if not short:
        return Part("profiles", [_profile(each, column) for each in report.profiles], "other profiles")
    alike: dict[ProfileResult, list[Profile]] = {}
    for profile in report.profiles:
        alike.setdefault(profile.result, []).append(profile)
    told = [(result, ", ".join(map(_named, alike[result]))) for result in sorted(alike, key=_rank)]
    return Part(
        "profiles",
        [_wrapped(f"  {result:<14} {names}", width, 3, _marks(result)) for result, names in told],
        "other results of profiles",
    )


def _rank(result: ProfileResult) -> int:
    return list(_COLOUR).index(result) if result in _COLOUR else len(_COLOUR)


def _named(profile: Profile) -> str:
    """A profile, with the requirements that need somebody and are not told of above."""
    incomplete = profile.result is ProfileResult.INCOMPLETE
    groups = (("not judged", profile.unjudged if incomplete else ()), ("not everywhere", profile.partly))
    told = [f"{label}: {join_limited(ids, most=_NAMED)}" for label, ids in groups if ids]
    return f"{profile.name} ({'; '.join(told)})" if told else profile.name


def _profile(profile: Profile, column: int) -> list[Line]:
    counts = ", ".join(f"{count} {status}" for status, count in profile.counts.items())
    told = (("failed", profile.failed), ("not judged", profile.unjudged), ("not everywhere", profile.partly))
    return [
        Line(f"  {profile.name:<{column}}  {profile.result:<14}  {counts}", _marks(profile.result)),
        *(Line(f"  {'':<{column}}  {label}: {' '.join(ids)}") for label, ids in told if ids),
    ]


def _marks(result: ProfileResult) -> dict[str, bool]:
    return {"green" if result in _GOOD else _COLOUR.get(result, "white"): True}


def _unknown(report: Report, width: int) -> Part:
    """Why requirements are unsupported here, each reason once, those first that concern most of them."""
    by_reason: dict[str, list[str]] = {}
    for verdict in report.requirements:
        if verdict.status is Status.UNSUPPORTED:
            by_reason.setdefault(verdict.reason, []).append(verdict.requirement)
    reasons = sorted(by_reason.items(), key=lambda each: -len(each[1]))
    return Part(
        "unknown",
        [_wrapped(f"  unsupported: {' '.join(ids)}: {why}", width, _FEW) for why, ids in reasons],
        "other reasons why something is unsupported",
    )


def _notes(report: Report, width: int) -> Part:
    kinds: dict[str, list[str]] = {}
    for kind, why in report.cluster.unreadable.items():
        kinds.setdefault(why, []).append(kind)
    told = [f"could not read {', '.join(names)}: {why}" for why, names in kinds.items()]
    told += [f"note: {note}" for note in report.notes if not _tells_what_is_left(note)]
    entries: list[list[Line]] = [_wrapped(text, width, _FEW, {"yellow": True}) for text in told]
    if report.excused:
        text = f"not the owners' to change (excused in report.json): {', '.join(map(_excused, report.excused))}"
        entries.append([Line(_on_one_line(text, width))])
    return Part("notes", entries, "other notes")


def _excused(each: Excused) -> str:
    """What of one platform was left out, in numbers."""
    pods = [f"{each.pods} pod{'s' if each.pods > 1 else ''}"] if each.pods else []
    count = len(each.priority_classes)
    classes = [f"{count} priority class{'es' if count > 1 else ''}"] if count else []
    return f"{each.platform} {' and '.join(pods + classes)}"


def _wrapped(text: str, width: int, most: int, marked: Mapping[str, bool] | None = None) -> list[Line]:
    """A text with what to do about it: the advice stands at its end, and must not be cut off where there is room."""
    wrapped = textwrap.wrap(
        text, width, subsequent_indent=" " * 11, max_lines=most, placeholder=" ...", break_on_hyphens=False
    )
    return [Line(each, marked or {}) for each in wrapped]


def _on_one_line(text: str, width: int) -> str:
    first = text.partition("\n")[0]
    return first if len(first) <= width else f"{first[: width - 3]}..."
