"""What requirements wait for: each cause once, the one with most consequences first, and what a waiver of it does."""

import xml.etree.ElementTree as ElementTree

import pytest

from conformance.catalog import MUST, READS, Requirement
from conformance.report.causes import causes_of, with_waived_causes
from conformance.report.emitters import write_junit
from conformance.report.model import (
    EXIT_INCOMPLETE,
    ClusterFacts,
    ProfileResult,
    Report,
    RunFacts,
    Verdict,
    exit_code,
    summarise,
)
from conformance.report.story import details, heading_of_cause, who_waits, why_not_judged
from conformance.sources import SOURCES
from conformance.subjects import ObjectReference
from conformance.verdict import EvidenceKind, Finding, Status

NO_NODE = "pool h100-dra has no node"
BROKEN = Finding(ObjectReference.of("Pool", "h100-dra", declared=True), False, "2 nodes", "none")


def verdict(id, status, reason="", waits_for="", findings=()):
    rule = Requirement(id, f"Title of {id}", MUST, "pools", READS, (SOURCES["guide-1"],), "Mend it.")
    return Verdict.of(rule, status, findings, evidence=EvidenceKind.HARDWARE, reason=reason, waits_for=waits_for)


def waiting(id, cause, on=""):
    return verdict(id, Status.WAITING, cause, on)


FAILED = verdict("POOL-01", Status.FAILED, findings=[BROKEN])


def test_the_cause_that_most_requirements_wait_for_comes_first():
    unread = "pods could not be read: Forbidden"

    causes = causes_of(
        [
            FAILED,
            waiting("ISO-06", unread),
            waiting("DRA-02", NO_NODE, "POOL-01"),
            waiting("DRA-03", NO_NODE, "POOL-01"),
        ]
    )

    assert [(cause.requirement, cause.status, cause.cause, cause.waiting) for cause in causes] == [
        ("POOL-01", "failed", NO_NODE, ("DRA-02", "DRA-03")),
        ("", "", unread, ("ISO-06",)),
    ]
    assert [heading_of_cause(cause) for cause in causes] == [f"POOL-01: {NO_NODE}", unread]
    assert who_waits(causes[0], most=1) == "2 requirements wait for it: DRA-02, 1 more"


def test_one_that_waits_for_a_waiting_one_is_told_under_the_cause_of_both():
    (cause,) = causes_of([waiting("DRA-10", "no device is published", "DRA-03"), waiting("DRA-03", NO_NODE, "POOL-01")])

    assert (cause.requirement, cause.cause, cause.waiting) == ("POOL-01", NO_NODE, ("DRA-10", "DRA-03"))


def test_requirements_that_wait_for_each_other_are_told_all_the_same():
    causes = causes_of([waiting("DRA-03", "b", "DRA-06"), waiting("DRA-06", "a", "DRA-03")])

    assert sorted(id for cause in causes for id in cause.waiting) == ["DRA-03", "DRA-06"]


@pytest.mark.parametrize(
    ("judge", "told"), [((), "not-run"), ((verdict("POOL-01", Status.PASSED),), "passed")], ids=["left out", "passed"]
)
def test_what_waits_has_not_passed_where_nobody_tells_of_its_cause(judge, told):
    verdicts = [waiting("DRA-02", NO_NODE, "POOL-01"), *judge]

    (cause,) = causes_of(verdicts)

    assert (cause.status, cause.told_by_its_requirement) == (told, False)
    assert heading_of_cause(cause) == f"POOL-01 ({told}): {NO_NODE}"
    assert exit_code(verdicts, other_failures=False)[0] == EXIT_INCOMPLETE


def test_a_run_in_which_something_waits_for_a_failure_fails_by_the_failure():
    verdicts = [FAILED, waiting("DRA-02", NO_NODE, "POOL-01")]

    assert exit_code(verdicts, other_failures=False) == (1, "1 requirement failed, and 1 wait for a cause")


def test_a_profile_with_something_that_waits_is_incomplete_and_names_it():
    (profile,) = summarise([verdict("POOL-02", Status.PASSED), waiting("POOL-03", NO_NODE, "POOL-01")])

    assert (profile.result, profile.waiting, profile.unjudged) == (ProfileResult.INCOMPLETE, ("POOL-03",), ())


def test_what_waits_for_a_waived_requirement_is_waived_with_it():
    waived = verdict("POOL-01", Status.WAIVED, "waived by infra until 2027-01-01: RMA", findings=[BROKEN])
    unread = waiting("ISO-06", "pods could not be read")

    told = with_waived_causes(
        [waived, waiting("DRA-03", NO_NODE, "POOL-01"), waiting("DRA-10", "no device", "DRA-03"), unread]
    )

    assert [each.status for each in told] == [Status.WAIVED] * 3 + [Status.WAITING]
    assert told[2].reason == f"waits for POOL-01 ({NO_NODE}), which is waived by infra until 2027-01-01: RMA"
    assert [cause.cause for cause in causes_of(told)] == ["pods could not be read"]


def test_what_waits_for_a_failure_that_no_waiver_covers_goes_on_waiting():
    verdicts = [FAILED, waiting("DRA-03", NO_NODE, "POOL-01")]

    assert with_waived_causes(verdicts) == verdicts


def test_a_waiting_verdict_says_for_what_and_gives_no_remedy_of_its_own():
    told = waiting("DRA-03", NO_NODE, "POOL-01")

    assert why_not_judged(told) == f"waits for POOL-01: {NO_NODE}"
    assert f"POOL-01: {NO_NODE}" in details(told)
    assert "Mend it." not in details(told)


def junit(tmp_path, *verdicts):
    report = Report(
        RunFacts("abcdefgh", "0.1.0", "audit", "2026-11-24T06:00:00+00:00", "2026-11-24T06:01:00+00:00", {}),
        ClusterFacts("prod", "context", "v1.36.3", EvidenceKind.HARDWARE, 13, 10, {}),
        "own", "", 1, causes_of(verdicts), summarise(verdicts), verdicts,
    )  # fmt: skip
    return ElementTree.parse(write_junit(report, tmp_path)).getroot()


def test_in_junit_what_waits_is_skipped_and_the_failure_is_the_only_alarm(tmp_path):
    root = junit(tmp_path, FAILED, waiting("DRA-02", NO_NODE, "POOL-01"), waiting("DRA-03", NO_NODE, "POOL-01"))

    assert (root.get("failures"), root.get("errors")) == ("1", "0")
    skipped = [each.get("message") for each in root.iter("skipped")]
    assert skipped == [f"waits for POOL-01: {NO_NODE}"] * 2
    assert "2 requirements wait for it: DRA-02, DRA-03" in root.find(".//failure").text


def test_in_junit_a_cause_that_no_requirement_tells_is_one_error_with_all_that_wait(tmp_path):
    unread = "pods could not be read: Forbidden"
    root = junit(tmp_path, waiting("POOL-09", unread), waiting("POOL-10", unread))

    (error,) = root.iter("error")
    assert (root.get("failures"), root.get("errors")) == ("0", "1")
    assert error.get("message") == unread
    assert "POOL-09, POOL-10" in error.text
