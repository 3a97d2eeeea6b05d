"""Exceptions that an owner granted: which requirement, for whom, by whom, why, and until when."""

import fnmatch
from datetime import date
from pathlib import Path

import msgspec

from conformance.report.model import Verdict
from conformance.verdict import Status


class WaiverError(ValueError):
    """The waiver file cannot be used. The text says what is wrong, where, and what is allowed."""


class Waiver(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One exception. ``subject`` is a glob over findings' subjects; ``expires`` is the last day it holds."""

    requirement: str
    owner: str
    reason: str
    expires: date
    subject: str = "*"

    def covers(self, verdict: Verdict) -> bool:
        """Whether every broken subject of ``verdict`` falls under this waiver."""
        broken = [finding for finding in verdict.findings if not finding.ok]
        return verdict.requirement == self.requirement and all(
            fnmatch.fnmatchcase(finding.subject, self.subject) for finding in broken
        )


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    waivers: tuple[Waiver, ...]


class Waivers:
    """The waivers of a run. An expired one waives nothing; one that nothing needed is reported as stale."""

    def __init__(self, waivers: tuple[Waiver, ...], today: date) -> None:
        self._waivers = waivers
        self._today = today
        self._used: set[Waiver] = set()

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
                "expires (YYYY-MM-DD) and optionally subject"
            ) from error

    def applied_to(self, verdict: Verdict) -> Verdict:
        """``verdict`` itself, or ``waived`` where it failed and a waiver in force covers all that is broken."""
        if verdict.status is not Status.FAILED:
            return verdict
        for waiver in self._waivers:
            if waiver.expires >= self._today and waiver.covers(verdict):
                self._used.add(waiver)
                reason = f"waived by {waiver.owner} until {waiver.expires}: {waiver.reason}"
                return msgspec.structs.replace(verdict, status=Status.WAIVED, reason=reason)
        return verdict

    def notes(self) -> list[str]:
        """A sentence for each waiver that has expired or that no failure needed."""
        said = []
        for waiver in self._waivers:
            if waiver.expires < self._today:
                said.append(f"the waiver of {waiver.owner} on {waiver.requirement} expired on {waiver.expires}")
            elif waiver not in self._used:
                said.append(f"no failure needed the waiver of {waiver.owner} on {waiver.requirement}: remove it")
        return said
