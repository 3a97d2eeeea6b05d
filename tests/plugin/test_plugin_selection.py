"""A part of the catalogue, or of the session's files, never speaks for the whole."""

import pytest

from conformance.facts.snapshot import Snapshot, save

OWN = """
from conformance.catalog import MUST, Source, requirement
from conformance.subjects import ObjectReference

OWN = Source("own", "Our own rules", "https://example.com/rules")

def own(id):
    return requirement(id, f"Own rule {id}", level=MUST, sources=[OWN], remedy="Fix it.")

@own("TEN-90")
def test_one_team(judge):
    judge(ObjectReference.of("Team", "one"), ok=True, expected="quiet", actual="quiet")

@own("TEN-91")
def test_other_team(judge):
    judge(ObjectReference.of("Team", "other"), ok=True, expected="quiet", actual="quiet")
"""
BY_SELECTION = "left out by the selection"


@pytest.fixture
def audit(conform, tmp_path):
    """Run own requirements on a snapshot of nothing."""
    save(Snapshot.of(()), tmp_path / "nothing.json.gz")
    (tmp_path / "test_own.py").write_text(OWN)
    return lambda *arguments: conform("--cluster", "snapshot:nothing.json.gz", "test_own.py", *arguments)


def results(outcome):
    return {each["name"]: each["result"] for each in outcome.report["profiles"]}


@pytest.mark.parametrize(
    "selection",
    [["--gpu-requirement", "TEN-90"], ["-k", "one_team"], ["--deselect", "test_own.py::test_other_team"]],
)
def test_a_selected_requirement_makes_its_profile_partial(audit, selection):
    outcome = audit(*selection)

    assert results(outcome) == {"tenancy": "partial"}, outcome.output
    assert outcome.ids("passed") == {"TEN-90"}
    assert outcome.verdict("TEN-01")["reason"] == BY_SELECTION
    assert outcome.exit_code == 0


def test_commas_name_several(audit):
    outcome = audit("--gpu-requirement", "TEN-91,TEN-90")

    assert outcome.ids("passed") == {"TEN-90", "TEN-91"}, outcome.output


def test_an_id_that_no_requirement_has_is_told_with_the_nearest(audit):
    outcome = audit("--gpu-requirement=ten-90")

    assert outcome.exit_code == 4
    assert "no requirement ten-90 is collected (did you mean TEN-90?)" in outcome.output


def test_a_selection_under_xdist_makes_its_profile_partial_too(audit):
    outcome = audit("-n", "2", "-k", "one_team")

    assert results(outcome) == {"tenancy": "partial"}, outcome.output
    assert outcome.ids("passed") == {"TEN-90"}
    assert outcome.verdict("TEN-01")["reason"].startswith(BY_SELECTION)
    assert outcome.exit_code == 0


def test_what_the_session_ended_before_is_told_from_what_was_not_selected(audit, tmp_path):
    (tmp_path / "test_own.py").write_text(OWN.replace("ok=True", "ok=False"))

    outcome = audit("-x")

    assert outcome.statuses["TEN-90"] == "failed", outcome.output
    assert outcome.verdict("TEN-91")["reason"] == "the session ended before its turn"
    assert outcome.verdict("TEN-01")["reason"] == BY_SELECTION


@pytest.mark.parametrize("workers", [[], ["-n", "2"]])
def test_a_file_that_cannot_be_collected_keeps_a_run_from_being_green(audit, tmp_path, workers):
    (tmp_path / "test_broken.py").write_text("import no_such_module\n")

    outcome = audit("test_broken.py", "--continue-on-collection-errors", *workers)

    assert outcome.ids("passed") == {"TEN-90", "TEN-91"}, outcome.output
    assert outcome.exit_code == 1
    assert "something else did" in outcome.output
