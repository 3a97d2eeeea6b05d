import pytest

from conformance.catalog import MUST, READS, Requirement
from conformance.report.model import EXIT_INCOMPLETE, ProfileResult, Verdict, exit_code, summarise
from conformance.report.story import story
from conformance.subjects import ObjectReference
from conformance.verdict import EvidenceKind, Finding, Status, Unseen

RULE = Requirement("POOL-01", "Pools are there", MUST, "pools", READS, ("own",), "Add nodes.")


def verdict(status, evidence=EvidenceKind.HARDWARE, findings=()):
    return Verdict.of(RULE, status, findings, evidence=evidence)


@pytest.mark.parametrize(
    ("statuses", "evidence", "result"),
    [
        ([Status.PASSED], EvidenceKind.HARDWARE, ProfileResult.CONFORMANT),
        ([Status.PASSED], EvidenceKind.SIMULATED, ProfileResult.REHEARSED),
        ([Status.PASSED], EvidenceKind.STATIC, ProfileResult.AUDITED),
        ([Status.PASSED, Status.NOT_APPLICABLE], EvidenceKind.HARDWARE, ProfileResult.CONFORMANT),
        ([Status.PASSED, Status.NOT_RUN], EvidenceKind.HARDWARE, ProfileResult.PARTIAL),
        ([Status.PASSED, Status.WAIVED], EvidenceKind.HARDWARE, ProfileResult.PARTIAL),
        ([Status.PASSED, Status.ERROR], EvidenceKind.HARDWARE, ProfileResult.INCOMPLETE),
        ([Status.PASSED, Status.UNKNOWN], EvidenceKind.HARDWARE, ProfileResult.INCOMPLETE),
        ([Status.PASSED, Status.ERROR, Status.FAILED], EvidenceKind.SIMULATED, ProfileResult.FAILED),
        ([Status.NOT_APPLICABLE], EvidenceKind.HARDWARE, ProfileResult.NOT_APPLICABLE),
        ([Status.NOT_RUN], EvidenceKind.HARDWARE, ProfileResult.PARTIAL),
        ([Status.UNSUPPORTED], EvidenceKind.HARDWARE, ProfileResult.PARTIAL),
    ],
)
def test_a_profile_comes_to_what_its_worst_verdict_allows(statuses, evidence, result):
    (profile,) = summarise([verdict(status, evidence) for status in statuses])

    assert profile.result is result


def test_a_profile_whose_nodes_were_not_all_looked_at_is_partial_and_names_the_requirement():
    unseen = [Unseen(ObjectReference.of("Node", f"{number}"), "busy") for number in range(1000)]
    whole = verdict(Status.PASSED)
    partly = Verdict.of(RULE, Status.PASSED, (), evidence=EvidenceKind.HARDWARE, unseen=unseen)

    (profile,) = summarise([whole, partly])

    assert (profile.result, profile.partly) == (ProfileResult.PARTIAL, ("POOL-01",))
    assert (partly.unseen, len(partly.unseen_examples)) == (1000, 20)
    assert "0 judged, 1000 not looked at" in story(partly)


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([Status.PASSED], 0),
        ([Status.PASSED, Status.NOT_RUN, Status.NOT_APPLICABLE], 0),
        ([Status.PASSED, Status.FAILED, Status.ERROR], 1),
        ([Status.PASSED, Status.ERROR], EXIT_INCOMPLETE),
        ([Status.PASSED, Status.UNKNOWN], EXIT_INCOMPLETE),
        ([Status.NOT_APPLICABLE, Status.NOT_RUN], EXIT_INCOMPLETE),
        ([], EXIT_INCOMPLETE),
    ],
)
def test_the_exit_code_is_green_only_when_something_was_evaluated_and_nothing_is_open(statuses, code):
    assert exit_code([verdict(status) for status in statuses], other_failures=False)[0] == code


def test_a_failed_test_that_is_no_requirement_fails_the_run():
    assert exit_code([verdict(Status.PASSED)], other_failures=True)[0] == 1


def test_a_verdict_keeps_every_broken_finding_and_only_examples_of_the_others():
    findings = [Finding(ObjectReference.of("Node", f"{n}"), n >= 5000, "a taint", "nothing") for n in range(10_000)]

    kept = verdict(Status.FAILED, findings=findings)

    assert (kept.judged, kept.broken) == (10_000, 5000)
    assert [finding.ok for finding in kept.findings].count(True) == 3
    assert len(kept.findings) == 5003
