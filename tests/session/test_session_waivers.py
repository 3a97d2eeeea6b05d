from datetime import date

import pytest

from conformance.catalog import MUST, READS, Requirement
from conformance.report.model import Verdict
from conformance.session.waivers import WaiverError, Waivers
from conformance.subjects import ObjectReference
from conformance.verdict import EvidenceKind, Finding, Status, Unseen

RULE = Requirement("POOL-10", "Nodes are ready", MUST, "pools", READS, ("own",), "Uncordon it.")
TODAY = date(2026, 11, 24)


def node(name):
    return ObjectReference.of("Node", name)


def failed(*subjects):
    findings = [Finding(node(name), False, "Ready", "cordoned") for name in subjects]
    return Verdict.of(RULE, Status.FAILED, findings, evidence=EvidenceKind.HARDWARE)


def waivers(tmp_path, text):
    path = tmp_path / "waivers.yaml"
    path.write_text(text)
    return Waivers.load(path, TODAY)


ONE = "waivers:\n- {requirement: POOL-10, subject: 'node gpu-*', owner: infra, reason: RMA, expires: 2026-12-01}\n"


def test_a_waiver_in_force_waives_a_failure_and_names_its_owner(tmp_path):
    verdict = waivers(tmp_path, ONE).applied_to(failed("gpu-1"))

    assert verdict.status is Status.WAIVED
    assert "infra until 2026-12-01: RMA" in verdict.reason


def test_a_waiver_does_not_cover_other_subjects(tmp_path):
    assert waivers(tmp_path, ONE).applied_to(failed("gpu-1", "cpu-1")).status is Status.FAILED


def test_an_expired_waiver_waives_nothing_and_says_so(tmp_path):
    expired = waivers(tmp_path, ONE.replace("2026-12-01", "2026-11-23"))

    assert expired.applied_to(failed("gpu-1")).status is Status.FAILED
    assert "expired on 2026-11-23" in expired.notes()[0]


def test_a_waiver_that_nothing_needed_is_reported_as_stale(tmp_path):
    one = waivers(tmp_path, ONE)
    one.applied_to(Verdict.of(RULE, Status.PASSED, (), evidence=EvidenceKind.HARDWARE))

    assert one.notes() == ["no failure needed the waiver of infra on POOL-10: remove it"]


@pytest.mark.parametrize("text", ["waivers: 3", "nothing", "waivers:\n- {requirement: POOL-10}", "waivers: [}"])
def test_a_malformed_waiver_file_says_what_it_must_hold(tmp_path, text):
    with pytest.raises(WaiverError, match="owner, reason"):
        waivers(tmp_path, text)


ONE_OF_EACH = (
    "waivers:\n"
    "- {requirement: POOL-10, subject: 'node a', owner: ann, reason: RMA, expires: 2026-12-01}\n"
    "- {requirement: POOL-10, subject: 'node b', owner: bob, reason: firmware, expires: 2026-12-24}\n"
)


def test_waivers_of_one_requirement_add_up_and_all_owners_are_named(tmp_path):
    both = waivers(tmp_path, ONE_OF_EACH)
    verdict = both.applied_to(failed("a", "b"))

    assert verdict.status is Status.WAIVED
    assert verdict.reason == "waived by ann until 2026-12-01: RMA; waived by bob until 2026-12-24: firmware"
    assert both.notes() == []


def test_a_waiver_that_covers_part_of_what_is_broken_is_not_stale(tmp_path):
    both = waivers(tmp_path, ONE_OF_EACH)

    assert both.applied_to(failed("a", "c")).status is Status.FAILED
    assert both.notes() == ["no failure needed the waiver of bob on POOL-10: remove it"]


def test_an_expired_waiver_adds_nothing_to_one_in_force(tmp_path):
    half = waivers(tmp_path, ONE_OF_EACH.replace("2026-12-24", "2026-11-23"))

    assert half.applied_to(failed("a", "b")).status is Status.FAILED


@pytest.mark.parametrize("status", [Status.NOT_RUN, Status.ERROR, Status.NOT_APPLICABLE])
def test_a_waiver_of_what_was_not_judged_is_not_stale(tmp_path, status):
    one = waivers(tmp_path, ONE)
    one.applied_to(Verdict.of(RULE, status, (), evidence=EvidenceKind.HARDWARE))

    assert one.notes() == []


def test_a_waiver_is_not_stale_where_a_subject_was_not_looked_at(tmp_path):
    one = waivers(tmp_path, ONE)
    unseen = [Unseen(ObjectReference.of("Node", "gpu-1"), "it is full")]
    one.applied_to(Verdict.of(RULE, Status.PASSED, (), evidence=EvidenceKind.HARDWARE, unseen=unseen))

    assert one.notes() == []


def test_a_waiver_of_an_id_that_no_requirement_has_is_told(tmp_path):
    misspelt = waivers(tmp_path, ONE.replace("POOL-10", "POOL-1O"))
    misspelt.applied_to(failed("gpu-1"))

    assert misspelt.notes() == ["the waiver of infra on POOL-1O met no such requirement in this run"]


def test_a_failure_without_a_subject_needs_a_waiver_of_everything(tmp_path):
    assert waivers(tmp_path, ONE).applied_to(failed()).status is Status.FAILED
    assert waivers(tmp_path, ONE.replace("node gpu-*", "*")).applied_to(failed()).status is Status.WAIVED


def test_a_waiver_can_name_the_object_instead_of_what_it_is_called(tmp_path):
    by_object = ONE.replace("subject: 'node gpu-*'", "object: {kind: Node, name: gpu-*}")

    assert waivers(tmp_path, by_object).applied_to(failed("gpu-1", "gpu-2")).status is Status.WAIVED
    assert waivers(tmp_path, by_object).applied_to(failed("gpu-1", "cpu-1")).status is Status.FAILED
    assert waivers(tmp_path, by_object.replace("Node", "Pod")).applied_to(failed("gpu-1")).status is Status.FAILED
