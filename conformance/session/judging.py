"""From how a test function ended to the verdict on its requirement."""

import traceback
from collections.abc import Callable

from conformance.catalog import Requirement
from conformance.kube.errors import EffectRefused, KubeError
from conformance.report.model import Verdict
from conformance.report.owners import with_owners
from conformance.verdict import (
    EvidenceKind,
    ExpectationFailed,
    Finding,
    Inconclusive,
    Judge,
    NotApplicable,
    Status,
    UnknownAccelerator,
    Unsupported,
    Waits,
)


class NotRun(Exception):
    """The requirement was left out on purpose: by the mode, or because the source cannot answer it."""


_STATUS_OF: tuple[tuple[type[BaseException], Status], ...] = (
    (NotRun, Status.NOT_RUN),
    (NotApplicable, Status.NOT_APPLICABLE),
    (Unsupported, Status.UNSUPPORTED),
    (UnknownAccelerator, Status.UNKNOWN),
    (Waits, Status.WAITING),
    (Inconclusive, Status.ERROR),
    (KubeError, Status.ERROR),
)


def _of_nobody(_namespace: str) -> bool:
    return False


def verdict_on(
    rule: Requirement,
    judge: Judge,
    raised: BaseException | None,
    *,
    evidence: EvidenceKind,
    duration: float,
    is_of_the_platform: Callable[[str], bool] = _of_nobody,
) -> Verdict:
    """The verdict on ``rule`` after its test function returned or ``raised``.

    A broken finding weighs more than whatever ended the function afterwards: what was seen broken is broken.
    ``is_of_the_platform`` tells whose a namespace is, where pods in it are broken.
    """
    if evidence is EvidenceKind.SIMULATED and judge.containers == {True}:
        evidence = EvidenceKind.CONTAINER
    broken = judge.broken
    unmet = [raised.finding] if isinstance(raised, ExpectationFailed) else []
    ended = raised or judge.nothing_judged()
    status, reason = _status([*broken, *unmet], ended)
    verdict = Verdict.of(
        rule, status, (*broken, *unmet, *judge.examples), judged=judge.judged + len(unmet), evidence=evidence,
        reason=reason, duration=duration, unseen=judge.unseen,
        waits_for=ended.requirement if isinstance(ended, Waits) and status is Status.WAITING else "",
    )  # fmt: skip
    return with_owners(verdict, rule.owner, is_of_the_platform)


def _status(broken: list[Finding], raised: BaseException | None) -> tuple[Status, str]:
    if broken:
        return Status.FAILED, "" if raised is None or isinstance(
            raised, ExpectationFailed
        ) else f"it then ended with: {raised}"
    if raised is None:
        return Status.PASSED, ""
    for kind, status in _STATUS_OF:
        if isinstance(raised, kind):
            return status, _explanation(raised)
    return Status.ERROR, "".join(traceback.format_exception(raised)).rstrip()


def _explanation(raised: BaseException) -> str:
    if isinstance(raised, EffectRefused):
        return f"{raised} (the requirement does more than it declares, or the run's mode forbids it)"
    return str(raised)
