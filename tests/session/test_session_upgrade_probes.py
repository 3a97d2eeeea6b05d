"""After an upgrade, what passed before and fails now keeps it from being done; what failed before does not."""

from datetime import UTC, datetime

from conformance.catalog import MUST, READS, Requirement
from conformance.report.model import Decision, Verdict
from conformance.session.upgrade_figures import figures_of
from conformance.session.upgrades import Asked, decided
from conformance.subjects import ObjectReference
from conformance.upgrading.baseline import Baseline
from conformance.verdict import EvidenceKind, Finding, Status


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


def measured(*actual: str) -> Verdict:
    """A requirement of the owners' own that tells what it measured on each node."""
    rule = Requirement("OWN-01", "NCCL has its bandwidth", MUST, "own", READS, (), "Mend it.")
    findings = [Finding(ObjectReference.of("Node", f"gpu-{at}"), True, "fast", each) for at, each in enumerate(actual)]
    return Verdict.of(rule, Status.PASSED, tuple(findings), evidence=EvidenceKind.HARDWARE)


def compared(before: str, now: str, tolerance: float = 0.1) -> tuple[Decision, tuple[str, ...]]:
    figures = figures_of([measured("461 GB/s", before)])
    baseline = Baseline(
        "prod", "driver 595.91.07", datetime(2026, 1, 1, tzinfo=UTC), (), figures=figures, tolerance=tolerance
    )
    upgrade = decided(Asked(baseline=baseline), [BACK, measured("460 GB/s", now)])
    return upgrade.decision, upgrade.slower


def test_a_figure_that_is_lower_than_tolerated_is_named() -> None:
    decision, slower = compared("busbw 480.5 GB/s", "busbw 240 GB/s")

    assert decision is Decision.NOT_DONE
    assert slower == ("OWN-01 node gpu-1 had 480.5 GB/s, and has 240 (-50%)",)


def test_what_is_tolerated_is_no_difference_and_the_baseline_says_what_that_is() -> None:
    assert compared("480 GB/s", "440 GB/s") == (Decision.DONE, ())
    assert compared("480 GB/s", "440 GB/s", tolerance=0.05)[0] is Decision.NOT_DONE
    assert compared("480 GB/s", "900 GB/s") == (Decision.DONE, ())


def test_a_figure_that_was_not_measured_again_is_none_that_was_lost() -> None:
    assert compared("480 GB/s", "no figure") == (Decision.DONE, ())


def test_only_rates_are_figures() -> None:
    text = "Ready after 31 s, 2 of 8 GPUs, driver 595.91.07, 81920 MiB, image a/b:1.0/sha, 12.5 GiB/s, 1,024 tokens/s"

    assert figures_of([measured(text)]) == {"OWN-01 node gpu-0 GiB/s": 12.5}, "1,024 may be one number or two"
