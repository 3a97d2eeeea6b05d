"""The report of a run that was killed, made from its stream. What the run had not finished has passed nowhere."""

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from conformance.catalog import PROFILES, Level, Requirement
from conformance.kube.effects import Effect
from conformance.lab.advice import clean_command
from conformance.report.causes import causes_of, with_waived_causes
from conformance.report.model import (
    EXIT_INCOMPLETE,
    ClusterFacts,
    PoolFacts,
    Report,
    RunFacts,
    Verdict,
    exit_code,
    summarise,
)
from conformance.report.reading import ReportError
from conformance.report.stream import Stream
from conformance.verdict import EvidenceKind, Status

UNKNOWN = "unknown"

_UNDER_WAY = "the run was killed while this requirement was judged, or before what it had made was put back"
_BEFORE_ITS_TURN = "the run was killed before its turn"
_NOBODY_KNOWS = f"{_BEFORE_ITS_TURN}, or its selection left it out: the stream does not say which"
_LEFT_OUT = "left out by the selection"


def recovered(stream: Stream, catalogue: Callable[[], Iterable[Requirement]]) -> Report:
    """The report. ``catalogue`` gives the requirements that this version knows, for those that have no verdict.

    Raises ReportError for a stream that is damaged.
    """
    rules = {rule.id: rule for rule in catalogue()}
    try:
        return _recovered(stream, rules)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, ReportError):
            raise
        raise ReportError(f"{stream.file} is damaged: {error}") from None


def _recovered(stream: Stream, rules: Mapping[str, Requirement]) -> Report:
    started, read = stream.events[0], stream.first("facts-read")
    found = stream.verdicts()
    cluster = _cluster(stream, found)
    if not stream.ended:
        found = {id: _as_far_as_it_came(verdict, stream) for id, verdict in found.items()}
    missing = [] if stream.ended else list(_missing(stream, found, rules, cluster.evidence))
    every = sorted(with_waived_causes([*found.values(), *missing]), key=lambda verdict: verdict.requirement)
    code, outcome = _outcome(stream, every)
    deployed = stream.first("reference-deployed").get("reference", UNKNOWN)
    return Report(
        RunFacts(
            started["run"], started.get("version", UNKNOWN), started["mode"], _seconds(started["time"]),
            _seconds(stream.events[-1]["time"]), started.get("settings", {}),
        ),
        cluster,
        started.get("reference", deployed),
        outcome,
        code,
        causes_of(every),
        summarise(every),
        tuple(every),
        tuple(_notes(stream, every)),
        (),
        msgspec.convert(read.get("fleet", ()), tuple[PoolFacts, ...]),
    )  # fmt: skip


def _cluster(stream: Stream, verdicts: Mapping[str, Verdict]) -> ClusterFacts:
    """The cluster, as far as the stream had come; the first versions said its name and how many nodes it has."""
    read = stream.first("facts-read")
    if "cluster" in read:
        return msgspec.convert(read["cluster"], ClusterFacts)
    evidence = next((verdict.evidence for verdict in verdicts.values()), EvidenceKind.STATIC)
    return ClusterFacts(stream.events[0]["cluster"], UNKNOWN, "", evidence, read.get("nodes", 0), 0, {})


def _as_far_as_it_came(verdict: Verdict, stream: Stream) -> Verdict:
    """The verdict, unless it is good news of something that was still under way."""
    if verdict.status is not Status.PASSED or not _under_way(verdict, stream):
        return verdict
    return replace(verdict, status=Status.ERROR, reason=_UNDER_WAY)


def _under_way(verdict: Verdict, stream: Stream) -> bool:
    if stream.says_what_is_closed:
        return all(event.get("requirement") != verdict.requirement for event in stream.of("requirement-closed"))
    last: Any = stream.events[-1].get("verdict", {})
    return bool(last.get("requirement") == verdict.requirement)


def _missing(
    stream: Stream, found: Mapping[str, Verdict], rules: Mapping[str, Requirement], evidence: EvidenceKind
) -> Iterator[Verdict]:
    """A verdict for each requirement that has none, which says why."""
    begun = {event["requirement"] for event in stream.of("requirement-started")}
    selected = {each["requirement"]: _rule(each, rules) for each in stream.first("requirements-selected").get(
        "requirements", ())}  # fmt: skip
    profiles = {rule.profile for rule in selected.values()}
    for rule in {**selected, **rules}.values():
        if rule.id in found:
            continue
        if rule.id in begun:
            yield Verdict.of(rule, Status.ERROR, (), evidence=evidence, reason=_UNDER_WAY)
        elif rule.id in selected:
            yield Verdict.of(rule, Status.NOT_RUN, (), evidence=evidence, reason=_BEFORE_ITS_TURN)
        elif not selected:
            yield Verdict.of(rule, Status.NOT_RUN, (), evidence=evidence, reason=_NOBODY_KNOWS)
        elif rule.profile in profiles:
            yield Verdict.of(rule, Status.NOT_RUN, (), evidence=evidence, reason=_LEFT_OUT)


def _rule(told: Mapping[str, str], rules: Mapping[str, Requirement]) -> Requirement:
    """The requirement of the catalogue, or what the stream tells of one that others declared."""
    if told["requirement"] in rules:
        return rules[told["requirement"]]
    effect = {each.label: each for each in Effect}[told["effect"]]
    profile = told.get("profile") or PROFILES[told["requirement"].partition("-")[0]]
    return Requirement(
        told["requirement"], told["title"], Level(told["level"]), profile, effect, (), "", told["feature"]
    )


def _outcome(stream: Stream, verdicts: Iterable[Verdict]) -> tuple[int, str]:
    """A run that did not come to its end is never green."""
    every = list(verdicts)
    if stream.ended:
        finished = stream.of("run-finished")[-1]
        return int(finished.get("exitCode", finished.get("exit_code", EXIT_INCOMPLETE))), str(finished["outcome"])
    code, outcome = exit_code(every, other_failures=False)
    if code == 0:
        return EXIT_INCOMPLETE, "the run was killed: nothing failed until then, and not everything was judged"
    return code, f"the run was killed: until then {outcome}"


def _notes(stream: Stream, verdicts: Iterable[Verdict]) -> Iterator[str]:
    """What a reader has to know of a report that its run did not write."""
    if stream.ended:
        yield "recovered from the stream of the run, which came to its end: what was excused is not in it"
        return
    every = list(verdicts)
    waiting = [each for each in every if each.reason in (_BEFORE_ITS_TURN, _NOBODY_KNOWS)]
    broken_off = [each.requirement for each in every if each.reason == _UNDER_WAY]
    judged = len(every) - len(waiting) - len(broken_off) - sum(each.reason == _LEFT_OUT for each in every)
    unknown = any(each.reason == _NOBODY_KNOWS for each in waiting)
    left = " or were not selected, which its stream does not say" if unknown else ""
    told = [f"{judged} requirements have a verdict", f"{len(waiting)} had not begun{left}"]
    told += [f"under way {'was' if len(broken_off) == 1 else 'were'} {', '.join(broken_off)}"] if broken_off else []
    cut = "; the last line of its stream was cut off" if stream.cut else ""
    yield f"the run was killed after {_seconds(stream.events[-1]['time'])}: {'; '.join(told)}{cut}"
    started = stream.events[0]
    if started["mode"] != "audit":
        command = clean_command(shlex.quote(started["run"]), shlex.quote(started["cluster"]))
        yield f"what it made may still be on the cluster; remove it: {command}"


def _seconds(stamp: str) -> str:
    """A time of the stream as report.json has it: without fractions of a second."""
    whole, point, rest = stamp.partition(".")
    return whole + rest.lstrip("0123456789") if point else stamp
