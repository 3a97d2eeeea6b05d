"""Exceptions that an owner granted: which requirement, for whom, by whom, why, and until when."""

import fnmatch
from datetime import date
from pathlib import Path

import msgspec

from conformance.report.model import Verdict
from conformance.subjects import ObjectReference
from conformance.verdict import Status


class WaiverError(ValueError):
    """The waiver file cannot be used. The text says what is wrong, where, and what is allowed."""


class WaivedObject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which objects, by globs over the members of a subject's reference."""

    kind: str = "*"
    namespace: str = "*"
    name: str = "*"
    node: str = "*"

    def matches(self, subject: ObjectReference) -> bool:
        """Whether the reference falls under every glob."""
        members = ("kind", "namespace", "name", "node")
        return all(fnmatch.fnmatchcase(getattr(subject, each), getattr(self, each)) for each in members)


class Waiver(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One exception. ``subject`` is a glob over subjects' texts, ``object`` globs over their references.

    Both have to hold; ``expires`` is the last day of the exception.
    """

    requirement: str
    owner: str
    reason: str
    expires: date
    subject: str = "*"
    object: WaivedObject = WaivedObject()

    def covers(self, subject: ObjectReference) -> bool:
        """Whether ``subject`` falls under this waiver."""
        return fnmatch.fnmatchcase(subject.text, self.subject) and self.object.matches(subject)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    waivers: tuple[Waiver, ...]


class Waivers:
    """The waivers of a run. An expired one waives nothing; one that nothing needed is reported as stale."""

    def __init__(self, waivers: tuple[Waiver, ...], today: date) -> None:
        self._waivers = waivers
        self._today = today
        self._used: set[Waiver] = set()
        self._met: set[str] = set()
        self._evaluated: set[str] = set()

    @classmethod
    def load(cls, path: Path, today: date) -> "Waivers":
        """Read a waiver file. Raises WaiverError."""
        import yaml

        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            return cls(msgspec.convert(content, _File, strict=False).waivers, today)
        except OSError as error:
            raise WaiverError(
                f"waiver file {path}: {error.strerror}; give an existing file to --gpu-waivers"
            ) from error
        except (yaml.YAMLError, msgspec.ValidationError) as error:
            raise WaiverError(
                f"waiver file {path}: {error}; it is `waivers:` with a list of requirement, owner, reason, "
                "expires (YYYY-MM-DD) and optionally subject and object (kind, namespace, name, node)"
            ) from error

    def applied_to(self, verdict: Verdict) -> Verdict:
        """``verdict`` itself, or ``waived`` where it failed and waivers in force together cover all that is broken."""
        self._met.add(verdict.requirement)
        if verdict.status in (Status.PASSED, Status.FAILED) and not verdict.unseen:
            self._evaluated.add(verdict.requirement)
        if verdict.status is not Status.FAILED:
            return verdict
        # A failure without a finding has no subject; only a waiver of everything covers it.
        broken = [finding.subject for finding in verdict.findings if not finding.ok] or [ObjectReference("")]
        needed = [waiver for waiver in self._in_force(verdict.requirement) if any(map(waiver.covers, broken))]
        self._used.update(needed)
        if not needed or not all(any(waiver.covers(subject) for waiver in needed) for subject in broken):
            return verdict
        reason = "; ".join(f"waived by {each.owner} until {each.expires}: {each.reason}" for each in needed)
        return msgspec.structs.replace(verdict, status=Status.WAIVED, reason=reason)

    def _in_force(self, requirement: str) -> list[Waiver]:
        return [each for each in self._waivers if each.requirement == requirement and each.expires >= self._today]

    def notes(self) -> list[str]:
        """A sentence for each waiver that has expired, met no requirement of its id, or that no failure needed.

        Where a subject was not looked at, nobody knows whether its waiver is needed.
        """
        said = []
        for waiver in self._waivers:
            if waiver.expires < self._today:
                said.append(f"the waiver of {waiver.owner} on {waiver.requirement} expired on {waiver.expires}")
            elif waiver.requirement not in self._met:
                said.append(f"the waiver of {waiver.owner} on {waiver.requirement} met no such requirement in this run")
            elif waiver.requirement in self._evaluated and waiver not in self._used:
                said.append(f"no failure needed the waiver of {waiver.owner} on {waiver.requirement}: remove it")
        return said
