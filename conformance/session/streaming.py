"""What a run's stream tells beside verdicts: what was selected, what has begun, what has ended with its cleaning up.

A run that is killed leaves nothing but its stream; without these nobody could tell what is missing from it.
"""

import pytest

from conformance.catalog import Requirement, requirement_of
from conformance.session.reporting import Reporting

_VERDICT = "gpu_verdict"


class StreamHooks:
    """Writes to the stream of the run as pytest goes. Under xdist only workers know what is selected and begins."""

    def __init__(self, reporting: Reporting) -> None:
        self._reporting = reporting
        self._judged: dict[str, str] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Say what will be judged."""
        rules = [rule for item in session.items if (rule := requirement_of(getattr(item, "function", None)))]
        if rules:
            self._reporting.say("requirements-selected", requirements=[self._in_short(rule) for rule in rules])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Say what begins."""
        rule = requirement_of(getattr(item, "function", None))
        if rule is not None:
            self._reporting.say("requirement-started", requirement=rule.id)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note which requirement a test is the test of."""
        told = getattr(report, _VERDICT, None)
        if told is not None:
            self._judged[report.nodeid] = told["requirement"]

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Say of what was judged that nothing of it is under way any more."""
        if nodeid in self._judged:
            self._reporting.say("requirement-closed", requirement=self._judged.pop(nodeid))

    @staticmethod
    def _in_short(rule: Requirement) -> dict[str, str]:
        return {
            "requirement": rule.id, "title": rule.title, "level": str(rule.level), "profile": rule.profile,
            "feature": rule.feature, "effect": rule.effect.label,
        }  # fmt: skip
