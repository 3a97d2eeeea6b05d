"""After an upgrade, what passed before and fails now keeps it from being done; what failed before does not."""

from datetime import UTC, datetime

from conformance.catalog import MUST, READS, Requirement
from conformance.report.model import Decision, Verdict
from conformance.session.upgrades import Asked, decided
from conformance.upgrading.baseline import Baseline
from conformance.verdict import EvidenceKind, Status


def verdict(requirement: str, profile: str, status: Status) -> Verdict:
    rule = Requirement(requirement, f"Title of {requirement}", MUST, profile, READS, (), "Mend it.")
    return Verdict.of(rule, status, (), evidence=EvidenceKind.HARDWARE)


def after(probes: dict[str, str]) -> Asked:
    return Asked(baseline=Baseline("prod", "driver 595.91.07", datetime(2026, 1, 1, tzinfo=UTC), (), probes))


BACK = verdict("UPG-11", "upgrade", Status.PASSED)


def test_a_probe_that_passed_before_and_fails_now_keeps_the_upgrade_from_being_done() -> None:
    upgrade = decided(after({"WORK-09": "passed"}), [BACK, verdict("WORK-09", "workloads", Status.FAILED)])

    assert upgrade.decision is Decision.NOT_DONE
    assert upgrade.failed == ("WORK-09",)


def test_a_probe_that_failed_before_is_no_matter_of_the_upgrade() -> None:
    upgrade = decided(after({"WORK-09": "failed"}), [BACK, verdict("WORK-09", "workloads", Status.FAILED)])

    assert upgrade.decision is Decision.DONE


def test_a_probe_that_is_not_judged_again_leaves_the_answer_as_it_is() -> None:
    upgrade = decided(after({"WORK-09": "passed"}), [BACK, verdict("WORK-09", "workloads", Status.NOT_RUN)])

    assert upgrade.decision is Decision.DONE
