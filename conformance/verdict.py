"""Statuses, findings and evidence: the words in which a requirement is judged."""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import Any

import msgspec

from conformance.owners import Owner
from conformance.subjects import HasSubject, ObjectReference, subject_of


class Status(StrEnum):
    """How a requirement ended. Only ``passed`` is good news; see docs/architecture.md for each meaning."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    WAITING = "waiting"
    UNSUPPORTED = "unsupported"
    NOT_APPLICABLE = "not-applicable"
    UNKNOWN = "unknown"
    WAIVED = "waived"
    NOT_RUN = "not-run"


class EvidenceKind(StrEnum):
    """What stood behind a finding. Simulated evidence never makes a cluster conformant."""

    HARDWARE = "hardware"
    CONTAINER = "container"
    SIMULATED = "simulated"
    STATIC = "static"


class Finding(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", gc=False):
    """One judged subject inside a requirement: what was expected of it and what was seen.

    ``owner`` is who carries out its remedy, where that is not for the requirement to say.
    """

    subject: ObjectReference
    ok: bool
    expected: str
    actual: str
    cause: str = ""
    hidden_because: str = ""
    remedy: str = ""
    inspect: str = ""
    owner: Owner = Owner.UNKNOWN


class Unseen(msgspec.Struct, frozen=True, rename="camel"):
    """A subject that could not be looked at, beside others that could, and why."""

    subject: ObjectReference
    why: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.why}"


class NotApplicable(Exception):
    """The reference set-up does not declare what the requirement judges. The text says what is missing."""


class Unsupported(Exception):
    """The cluster lacks an optional feature that the requirement is about."""


class Inconclusive(Exception):
    """The requirement could not be judged: reading was forbidden, a preparation failed, a wait ran out."""


class Waits(Inconclusive):
    """The requirement cannot be judged before something else is in order, which is told once for all that wait.

    The text is the cause: in the same words wherever it is the same, and without the requirement that waits.
    ``requirement`` is the one that judges the cause itself (POOL-01 that a pool has its nodes); empty where none does,
    as with objects that may not be read.
    """

    def __init__(self, cause: str, *, on: str = "") -> None:
        super().__init__(cause)
        self.requirement = on


class UnknownAccelerator(Exception):
    """The accelerator is none that the tables know, so nothing can be said about it."""


class ExpectationFailed(AssertionError):
    """An expectation of a scenario did not hold. Carries the finding that says so."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(f"{finding.subject}: expected {finding.expected}, found {finding.actual}")
        self.finding = finding


JUDGED_NOTHING = "the requirement ended without judging a single subject, which proves nothing"


class _Held(msgspec.Struct, frozen=True, gc=False):
    """What held for a subject, not yet in words: nobody may ever read them."""

    subject: HasSubject
    expected: object
    actual: object

    def finding(self) -> Finding:
        return Finding(subject_of(self.subject), True, format_value(self.expected), format_value(self.actual))


EXAMPLES = 3
"""A report on 5,000 nodes stays readable: what held is counted, and shown by this many examples."""


class Judge:
    """Collects the findings of one requirement. Suites call it once for each subject.

    Most subjects are as expected, and a report shows few of them: those after the first ``EXAMPLES`` are put into words
    only for somebody who asks for all findings. Of a cluster of 5,000 nodes that spares 60,000 of them.
    """

    def __init__(self) -> None:
        self.unseen: list[Unseen] = []
        self.containers: set[bool] = set()
        """Of containers that ran for the requirement: whether they were real ones, not played."""
        self._judged: list[Finding | _Held] = []
        self._broken: list[Finding] = []
        self._examples: list[Finding] = []
        self._awaited: set[str] = set()
        self._without_subjects: Exception | None = None

    def __call__(
        self,
        subject: HasSubject,
        *,
        ok: bool,
        expected: object,
        actual: object,
        cause: str = "",
        hidden_because: str = "",
        remedy: str = "",
        inspect: str = "",
        owner: Owner = Owner.UNKNOWN,
    ) -> bool:
        """Judge one subject and go on; a subject that is not ``ok`` fails the requirement when it ends.

        Subjects are facts, entries of the reference set-up and objects of the lab; ``subject.only(field)`` names a
        part of one. A sentence is none: TypeError.

        ``remedy`` replaces the requirement's own remedy where the subject needs a more exact one;
        ``inspect`` is a command that shows the fault; ``owner`` is who carries out this remedy, where the requirement
        leaves that open. Returns ``ok``.
        """
        if ok and len(self._examples) == EXAMPLES and hasattr(type(subject), "subject"):
            self._judged.append(_Held(subject, expected, actual))
            return True
        advice = () if ok else (cause, hidden_because, remedy, inspect, owner)
        self.record(Finding(subject_of(subject), ok, format_value(expected), format_value(actual), *advice))
        return ok

    def pass_over(self, subject: HasSubject, why: str | Waits) -> None:
        """Note a subject that could not be looked at: a requirement that passes holds for the others only.

        ``why`` is a Waits where another requirement judges the reason.
        """
        judged_by = why.requirement if isinstance(why, Waits) else ""
        self._awaited.add(judged_by)
        self.unseen.append(Unseen(subject_of(subject), f"{why} ({judged_by})" if judged_by else str(why)))

    def without_subjects(self, reason: Exception) -> None:
        """Say what it means where there is nobody to judge at all: NotApplicable, Unsupported, Waits or Inconclusive.

        The first reason stands.
        """
        self._without_subjects = self._without_subjects or reason

    def nothing_judged(self) -> Exception | None:
        """Why not a single subject was judged; None where one was.

        Somebody who could not be looked at shows that there was somebody, and what kept them from it is the reason.
        """
        if self._judged:
            return None
        if self.unseen:
            return self._nobody_was_seen()
        return self._without_subjects or Inconclusive(JUDGED_NOTHING)

    def _nobody_was_seen(self) -> Inconclusive:
        """Why nobody could be looked at: it waits for one requirement where this one judges every reason."""
        if len(self._awaited) == 1 and all(self._awaited):
            (judged_by,) = self._awaited
            plain = [Unseen(each.subject, each.why.removesuffix(f" ({judged_by})")) for each in self.unseen]
            alike = {each.why for each in plain}
            # A cause that stands on its own is told in the words of all others that wait for it.
            alone = len(alike) == 1 and not plain[0].why.startswith(_ABOUT_THE_SUBJECT)
            return Waits(plain[0].why if alone else _told_by_reason(plain), on=judged_by)
        return Inconclusive(f"no subject could be judged; {_told_by_reason(self.unseen)}")

    def record(self, finding: Finding) -> None:
        """Keep a finding that somebody else worded."""
        self._judged.append(finding)
        if not finding.ok:
            self._broken.append(finding)
        elif len(self._examples) < EXAMPLES:
            self._examples.append(finding)

    @property
    def judged(self) -> int:
        """How many subjects were judged."""
        return len(self._judged)

    @property
    def findings(self) -> list[Finding]:
        """What was found of every subject, in the order in which they were judged."""
        return [each.finding() if isinstance(each, _Held) else each for each in self._judged]

    @property
    def broken(self) -> list[Finding]:
        """The findings that are not ok."""
        return list(self._broken)

    @property
    def examples(self) -> list[Finding]:
        """The first few findings that are ok."""
        return list(self._examples)


_ABOUT_THE_SUBJECT = ("it ", "its ")


def _told_by_reason(unseen: Sequence[Unseen]) -> str:
    """Each reason once, with the first subjects that it keeps from being judged."""
    by_reason: dict[str, list[str]] = {}
    for each in unseen:
        by_reason.setdefault(each.why, []).append(str(each.subject))
    told = [f"{join_limited(subjects)}: {why}" for why, subjects in by_reason.items()]
    return join_limited(told, apart="; ")


# As the stages of a simulated node write it (clusters/embedded/stages).
_PLAYED = "simulated://"
_judge: ContextVar[Judge | None] = ContextVar("judge", default=None)
_containers: ContextVar[set[bool] | None] = ContextVar("containers", default=None)


@contextmanager
def judging(judge: Judge) -> Iterator[Judge]:
    """Let ``expect``, ``require_ok`` and ``note_container`` inside the block record with ``judge``."""
    token = _judge.set(judge)
    try:
        with noting_containers(judge):
            yield judge
    finally:
        _judge.reset(token)


@contextmanager
def noting_containers(judge: Judge) -> Iterator[None]:
    """Let ``note_container`` inside the block record with ``judge``: what prepares a requirement runs pods, too."""
    token = _containers.set(judge.containers)
    try:
        yield
    finally:
        _containers.reset(token)


def require_ok(finding: Finding) -> None:
    """Record an expectation of a scenario; raise ExpectationFailed when it does not hold: what follows stands on it."""
    judge = _judge.get()
    if not finding.ok:
        raise ExpectationFailed(finding)
    if judge is not None:
        judge.record(finding)


def note_container(container_id: str) -> None:
    """Take note of a container that ran for the requirement that is being judged, by its id in the pod's status."""
    found = _containers.get()
    if found is not None and container_id:
        found.add(not container_id.startswith(_PLAYED))


class Expectation:
    """What ``expect`` returns: expectations about one value, each recorded, the first wrong one ending the scenario."""

    def __init__(self, actual: Any, subject: ObjectReference) -> None:
        self._actual = actual
        self._subject = subject

    def equals(self, wanted: object, *, because: str, remedy: str = "", inspect: str = "") -> None:
        """Expect that the value is ``wanted``."""
        self._require(self._actual == wanted, format_value(wanted), because, remedy, inspect)

    def has_length(self, wanted: int, *, because: str, remedy: str = "", inspect: str = "") -> None:
        """Expect that the value holds exactly ``wanted`` members."""
        ok = isinstance(self._actual, Sized) and len(self._actual) == wanted
        self._require(ok, f"exactly {wanted}", because, remedy, inspect)

    def contains(self, wanted: object, *, because: str, remedy: str = "", inspect: str = "") -> None:
        """Expect that ``wanted`` is a member of the value."""
        self._require(wanted in self._actual, f"{format_value(wanted)} among them", because, remedy, inspect)

    def is_among(self, wanted: Iterable[object], *, because: str, remedy: str = "", inspect: str = "") -> None:
        """Expect that the value is one of ``wanted``."""
        choices = list(wanted)
        self._require(self._actual in choices, f"one of {format_value(choices)}", because, remedy, inspect)

    def is_empty(self, *, because: str, remedy: str = "", inspect: str = "") -> None:
        """Expect that the value holds nothing."""
        self._require(not self._actual, "nothing", because, remedy, inspect)

    def satisfies(
        self, test: Callable[[Any], bool], wanted: str, *, because: str, remedy: str = "", inspect: str = ""
    ) -> None:
        """Expect that ``test`` holds for the value; ``wanted`` says in words what it tests."""
        self._require(test(self._actual), wanted, because, remedy, inspect)

    def _require(self, ok: bool, wanted: str, because: str, remedy: str, inspect: str) -> None:
        expected = f"{wanted} ({because})"
        require_ok(Finding(self._subject, ok, expected, format_value(self._actual), remedy=remedy, inspect=inspect))


def expect(actual: object, subject: HasSubject | str = "the scenario") -> Expectation:
    """Begin an expectation about ``actual``; ``subject`` is the object (a pod), or in words what of the scenario."""
    return Expectation(actual, ObjectReference.scenario(subject) if isinstance(subject, str) else subject_of(subject))


def format_value(value: object) -> str:
    """A value as a report shows it: lists joined, nothing named as such, objects by their own ``str``."""
    if type(value) is str:  # most of what is worded
        return value or "nothing"
    if value is None or value == "" or (isinstance(value, Sized) and len(value) == 0):
        return "nothing"
    if isinstance(value, dict):
        return ", ".join(f"{key}={format_value(member)}" for key, member in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        members = [format_value(member) for member in value]
        return ", ".join(sorted(members) if isinstance(value, (set, frozenset)) else members)
    return str(value)


def join_limited(members: Sequence[str], *, apart: str = ", ", most: int = 4) -> str:
    """The first few members and how many more there are; empty without members."""
    more = f"{apart}{len(members) - most} more" if len(members) > most else ""
    return apart.join(members[:most]) + more
