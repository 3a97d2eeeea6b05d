from datetime import date

import pytest

from conformance.catalog import MUST, READS, Requirement
from conformance.report.model import Verdict
from conformance.session.waivers import WaiverError, Waivers
from conformance.verdict import EvidenceKind, Finding, Status

RULE = Requirement("POOL-10", "Nodes are ready", MUST, "pools", READS, ("own",), "Uncordon it.")
TODAY = date(2026, 11, 24)


def failed(*subjects):
    findings = [Finding(subject, False, "Ready", "cordoned") for subject in subjects]
    return Verdict.of(RULE, Status.FAILED, findings, evidence=EvidenceKind.HARDWARE)


def waivers(tmp_path, text):
    path = tmp_path / "waivers.yaml"
    path.write_text(text)
    return Waivers.load(path, TODAY)


ONE = "waivers:\n- {requirement: POOL-10, subject: 'node gpu-*', owner: infra, reason: RMA, expires: 2026-12-01}\n"


def test_a_waiver_in_force_waives_a_failure_and_names_its_owner(tmp_path):
    verdict = waivers(tmp_path, ONE).applied_to(failed("node gpu-1"))

    assert verdict.status is Status.WAIVED
    assert "infra until 2026-12-01: RMA" in verdict.reason


def test_a_waiver_does_not_cover_other_subjects(tmp_path):
    assert waivers(tmp_path, ONE).applied_to(failed("node gpu-1", "node cpu-1")).status is Status.FAILED


def test_an_expired_waiver_waives_nothing_and_says_so(tmp_path):
    expired = waivers(tmp_path, ONE.replace("2026-12-01", "2026-11-23"))

    assert expired.applied_to(failed("node gpu-1")).status is Status.FAILED
    assert "expired on 2026-11-23" in expired.notes()[0]


def test_a_waiver_that_nothing_needed_is_reported_as_stale(tmp_path):
    assert "remove it" in waivers(tmp_path, ONE).notes()[0]


@pytest.mark.parametrize("text", ["waivers: 3", "nothing", "waivers:\n- {requirement: POOL-10}", "waivers: [}"])
def test_a_malformed_waiver_file_says_what_it_must_hold(tmp_path, text):
    with pytest.raises(WaiverError, match="owner, reason"):
        waivers(tmp_path, text)
