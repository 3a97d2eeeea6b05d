"""Runs of the plugin in processes of their own: what they get, and how they ended."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.options import OPTIONS


@dataclass(frozen=True)
class Outcome:
    """How a run of the plugin in its own process ended."""

    exit_code: int
    output: str
    report: dict[str, Any]

    @classmethod
    def of(cls, exit_code: int, output: str, folder: Path) -> "Outcome":
        """What a run that has ended left in its report folder."""
        report = folder / "report.json"
        return cls(exit_code, output, json.loads(report.read_text()) if report.exists() else {})

    @property
    def statuses(self) -> dict[str, str]:
        """Requirement id to status."""
        return {verdict["requirement"]: verdict["status"] for verdict in self.report.get("requirements", [])}

    def ids(self, status: str) -> set[str]:
        """The requirements that ended with ``status``."""
        return {requirement for requirement, ended in self.statuses.items() if ended == status}

    def verdict(self, requirement: str) -> dict[str, Any]:
        """The verdict on ``requirement``."""
        return next(v for v in self.report["requirements"] if v["requirement"] == requirement)

    def told(self, requirement: str) -> str:
        """All that the verdict on ``requirement`` says, with each subject's own texts filled in."""
        verdict = self.verdict(requirement)
        return "\n".join([json.dumps(verdict), *(_filled(group) for group in verdict["findings"])])

    def not_advised(self, wanted: dict[str, str]) -> dict[str, list[str]]:
        """What requirements advise that do not advise in the wanted words: each finding's remedy, or their own."""
        advised = {requirement: self._remedies(requirement) for requirement in wanted}
        return {
            requirement: remedies
            for requirement, remedies in advised.items()
            if not any(wanted[requirement].lower() in each.lower() for each in remedies)
        }

    def _remedies(self, requirement: str) -> list[str]:
        verdict = self.verdict(requirement)
        return [group.get("remedy") or verdict["remedy"] for group in verdict["findings"] if not group["ok"]]


_TEXTS = ("subject", "expected", "actual", "cause", "hiddenBecause", "remedy", "inspect")


def _filled(group: dict[str, Any]) -> str:
    """The texts of a group for each of its subjects, as a reader of the report fills them in."""
    told = json.dumps({text: group[text] for text in _TEXTS if text in group})
    return "\n".join(_filled_for(each, told) for each in group["subjects"])


def _filled_for(subject: dict[str, str], told: str) -> str:
    for member in ("name", "namespace", "node", "container", "field"):
        told = told.replace(f"{{{member}}}", json.dumps(subject.get(member, ""))[1:-1])
    return told


def environment() -> dict[str, str]:
    """What a process of a test gets: where binaries are cached, but no setting of whoever runs the tests."""
    settings = {option.variable for option in OPTIONS}
    return {n: v for n, v in os.environ.items() if n not in settings and not n.startswith("PYTEST_")}
