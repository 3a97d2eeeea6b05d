import pytest

from conformance.catalog import MUST, READS, Requirement
from conformance.kube.errors import Unreachable
from conformance.lab.pods import state_of
from conformance.session.judging import NotRun, verdict_on
from conformance.subjects import ObjectReference
from conformance.verdict import (
    EXAMPLES,
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
    expect,
    judging,
)

RULE = Requirement("PRIO-03", "Training preempts", MUST, "priorities", READS, ("own",), "Raise it.")
GOOD = Finding(ObjectReference.of("Node", "a"), True, "x", "x")
BAD = Finding(ObjectReference.of("Node", "b"), False, "x", "y")


def ended(findings=(), raised=None):
    judge = Judge()
    for finding in findings:
        judge.record(finding)
    return verdict_on(RULE, judge, raised, evidence=EvidenceKind.SIMULATED, duration=0.1)


@pytest.mark.parametrize(
    ("findings", "raised", "status"),
    [
        ([GOOD], None, Status.PASSED),
        ([GOOD, BAD], None, Status.FAILED),
        ([], ExpectationFailed(BAD), Status.FAILED),
        ([GOOD], NotApplicable("no teams"), Status.NOT_APPLICABLE),
        ([GOOD], Unsupported("no DRA"), Status.UNSUPPORTED),
        ([GOOD], UnknownAccelerator("XPU"), Status.UNKNOWN),
        ([GOOD], Inconclusive("Forbidden"), Status.ERROR),
        ([GOOD], Waits("the pool has no node", on="POOL-01"), Status.WAITING),
        ([BAD], Waits("the pool has no node", on="POOL-01"), Status.FAILED),
        ([GOOD], NotRun("audit"), Status.NOT_RUN),
        ([GOOD], TypeError("a bug"), Status.ERROR),
        ([BAD], Inconclusive("Forbidden"), Status.FAILED),
    ],
)
def test_how_a_requirement_ended_decides_its_status(findings, raised, status):
    assert ended(findings, raised).status is status


class Counted:
    """What was seen of a subject, which counts how often somebody puts it into words."""

    worded = 0

    def __str__(self):
        type(self).worded += 1
        return "as expected"


def test_of_what_held_a_few_examples_are_put_into_words_and_all_are_counted(monkeypatch):
    monkeypatch.setattr(Counted, "worded", 0)
    judge = Judge()
    for number in range(1000):
        judge(ObjectReference.of("Node", f"n{number}"), ok=True, expected="x", actual=Counted())
    judge(ObjectReference.of("Node", "last"), ok=False, expected="x", actual=Counted())

    verdict = verdict_on(RULE, judge, None, evidence=EvidenceKind.SIMULATED, duration=0.1)

    assert (verdict.judged, verdict.broken, Counted.worded) == (1001, 1, EXAMPLES + 1)
    assert [str(each.subject) for each in verdict.findings] == ["node last", "node n0", "node n1", "node n2"]


def test_whoever_asks_gets_every_finding_in_words():
    judge = Judge()
    for number in range(5):
        judge(ObjectReference.of("Node", f"n{number}"), ok=number != 1, expected="x", actual=[number])

    assert [(str(each.subject), each.ok, each.actual) for each in judge.findings] == [
        (f"node n{number}", number != 1, str(number)) for number in range(5)
    ]


def test_a_sentence_is_no_subject_however_many_were_judged_before():
    judge = Judge()
    for _ in range(5):
        judge(ObjectReference.of("Node", "a"), ok=True, expected="x", actual="x")

    with pytest.raises(TypeError, match="names no object"):
        judge("node a", ok=True, expected="x", actual="x")


def test_a_requirement_that_judged_nothing_has_not_passed():
    verdict = ended()

    assert verdict.status is Status.ERROR
    assert "without judging" in verdict.reason


def test_an_unreachable_cluster_is_an_error_not_a_failure():
    assert ended(raised=Unreachable("https://10.0.0.1", "refused")).status is Status.ERROR


def test_a_crash_keeps_its_traceback_as_reason():
    assert "a bug" in ended(raised=TypeError("a bug")).reason


def test_expectations_of_a_scenario_count_as_judged_subjects():
    judge = Judge()
    with judging(judge):
        expect([1, 2], "victims").has_length(2, because="two were asked for")

    assert [finding.ok for finding in judge.findings] == [True]


def test_the_first_wrong_expectation_ends_the_scenario_and_says_why():
    judge = Judge()
    with (
        judging(judge),
        pytest.raises(ExpectationFailed, match=r"victims: expected exactly 3 \(three were asked for\), found 1, 2"),
    ):
        expect([1, 2], "victims").has_length(3, because="three were asked for")


def test_where_all_were_passed_over_what_kept_them_from_being_judged_is_the_reason():
    judge = Judge()
    for number in range(6):
        judge.pass_over(ObjectReference.of("Node", f"gpu-{number}"), "it is full")
    judge.pass_over(ObjectReference.of("Node", "new"), "it joined just now")
    judge.without_subjects(NotApplicable("nobody is there"))

    verdict = verdict_on(RULE, judge, None, evidence=EvidenceKind.HARDWARE, duration=0)

    assert verdict.status is Status.ERROR
    assert verdict.reason == (
        "no subject could be judged; node gpu-0, node gpu-1, node gpu-2, node gpu-3, 2 more: it is full; "
        "node new: it joined just now"
    )


def test_where_nobody_is_there_the_requirement_says_what_that_means():
    judge = Judge()
    judge.without_subjects(NotApplicable("no pod asks for GPUs"))

    verdict = verdict_on(RULE, judge, None, evidence=EvidenceKind.HARDWARE, duration=0)

    assert (verdict.status, verdict.reason) == (Status.NOT_APPLICABLE, "no pod asks for GPUs")


def test_a_requirement_that_waits_says_for_which_one_and_why():
    verdict = ended([GOOD], Waits("pool a has no node", on="POOL-01"))

    assert (verdict.waits_for, verdict.reason) == ("POOL-01", "pool a has no node")
    assert ended([BAD], Waits("pool a has no node", on="POOL-01")).waits_for == ""


def test_where_another_requirement_judges_what_kept_all_from_being_judged_it_waits_for_that_one():
    judge = Judge()
    for number in range(2):
        judge.pass_over(ObjectReference.of("Node", f"gpu-{number}"), Waits("it gets no configuration", on="TS-02"))

    verdict = verdict_on(RULE, judge, None, evidence=EvidenceKind.HARDWARE, duration=0)

    assert (verdict.status, verdict.waits_for) == (Status.WAITING, "TS-02")
    assert verdict.reason == "node gpu-0, node gpu-1: it gets no configuration"
    assert verdict.unseen_examples[0].why == "it gets no configuration (TS-02)"


def test_a_cause_that_stands_on_its_own_is_told_as_all_others_that_wait_for_it_tell_it():
    judge = Judge()
    for number in range(2):
        judge.pass_over(ObjectReference.of("Pod", f"test-{number}"), Waits("pool a has no node", on="POOL-01"))

    verdict = verdict_on(RULE, judge, None, evidence=EvidenceKind.HARDWARE, duration=0)

    assert (verdict.waits_for, verdict.reason) == ("POOL-01", "pool a has no node")


def test_where_something_else_keeps_one_from_being_judged_it_is_an_error():
    judge = Judge()
    judge.pass_over(ObjectReference.of("Node", "gpu-0"), Waits("it gets no configuration", on="TS-02"))
    judge.pass_over(ObjectReference.of("Node", "gpu-1"), "it joined just now")

    assert verdict_on(RULE, judge, None, evidence=EvidenceKind.HARDWARE, duration=0).status is Status.ERROR


@pytest.mark.parametrize(
    ("ids", "evidence"),
    [
        ([], EvidenceKind.SIMULATED),
        (["containerd://1", "containerd://2"], EvidenceKind.CONTAINER),
        (["containerd://1", "simulated://uid/main/0"], EvidenceKind.SIMULATED),
    ],
)
def test_evidence_is_that_of_containers_where_all_that_ran_were_real(ids, evidence):
    judge = Judge()
    judge.record(GOOD)
    with judging(judge):
        for each in ids:
            status = {"containerStatuses": [{"containerID": each, "state": {}}]}
            state_of({"metadata": {}, "spec": {}, "status": status})

    verdict = verdict_on(RULE, judge, None, evidence=EvidenceKind.SIMULATED, duration=0.0)

    assert verdict.evidence is evidence
