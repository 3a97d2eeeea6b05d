"""What keeps requirements from being judged: each cause once, with all that wait for it.

A requirement that waits may wait for one that waits itself; told is the cause at the end of the chain, for all of them.
"""

from collections.abc import Iterable, Mapping

import msgspec

from conformance.report.model import Cause, Verdict
from conformance.verdict import Status


def causes_of(verdicts: Iterable[Verdict]) -> tuple[Cause, ...]:
    """Each cause, the one that most requirements wait for first."""
    by_id = {verdict.requirement: verdict for verdict in verdicts}
    waiting: dict[tuple[str, str], list[str]] = {}
    for verdict in by_id.values():
        if verdict.status is Status.WAITING:
            root = _root(verdict, by_id)
            waiting.setdefault((root.waits_for, root.reason), []).append(verdict.requirement)
    found = [Cause(on, _status(on, by_id), text, tuple(ids)) for (on, text), ids in waiting.items()]
    return tuple(sorted(found, key=lambda cause: (-len(cause.waiting), cause.requirement, cause.cause)))


def with_waived_causes(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """The verdicts, where those that wait for a waived requirement are waived with it."""
    every = list(verdicts)
    by_id = {verdict.requirement: verdict for verdict in every}
    return [_waived_with_cause(verdict, by_id) for verdict in every]


def _waived_with_cause(verdict: Verdict, by_id: Mapping[str, Verdict]) -> Verdict:
    if verdict.status is not Status.WAITING:
        return verdict
    root = _root(verdict, by_id)
    judge = by_id.get(root.waits_for)
    if judge is None or judge.status is not Status.WAIVED:
        return verdict
    reason = f"waits for {root.waits_for} ({root.reason}), which is {judge.reason}"
    return msgspec.structs.replace(verdict, status=Status.WAIVED, reason=reason, waits_for=root.waits_for)


def _root(verdict: Verdict, by_id: Mapping[str, Verdict]) -> Verdict:
    """The last of those that wait for one another; where they wait in a circle, the last before it closes."""
    met = {verdict.requirement}
    while (judge := by_id.get(verdict.waits_for)) and judge.status is Status.WAITING and judge.requirement not in met:
        met.add(judge.requirement)
        verdict = judge
    return verdict


def _status(requirement: str, by_id: Mapping[str, Verdict]) -> str:
    if not requirement:
        return ""
    return str(by_id[requirement].status if requirement in by_id else Status.NOT_RUN)
