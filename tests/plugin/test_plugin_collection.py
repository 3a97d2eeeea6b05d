from conformance.facts.snapshot import Snapshot, save


def test_collecting_contacts_no_cluster_and_finds_the_shipped_suites_from_anywhere(conform):
    outcome = conform("--cluster", "embedded", "--co", "-q")

    assert outcome.exit_code == 0
    for profile in ("pools", "scheduling", "tenancy", "priorities", "quota"):
        assert f"test_{profile}.py::" in outcome.output
    assert not outcome.report


def test_a_selection_by_requirement_leaves_only_it(conform):
    outcome = conform("--cluster", "embedded", "--co", "-q", "--gpu-requirement", "PRIO-03")

    assert outcome.output.count("test_preemption.py::") == 1
    assert "test_pools.py::" not in outcome.output


def test_a_selection_that_names_no_requirement_is_a_usage_error(conform):
    outcome = conform("--cluster", "embedded", "--co", "-q", "--gpu-requirement", "PRIO-99")

    assert outcome.exit_code == 4
    assert "PRIO-99" in outcome.output


def test_no_traceback_is_drawn_for_what_a_verdict_tells(conform, tmp_path):
    save(Snapshot.of(()), tmp_path / "nothing.json.gz")
    (tmp_path / "conftest.py").write_text(
        "import pytest\n"
        "def never(*arguments): raise RuntimeError('a traceback was drawn')\n"
        "pytest.Function.repr_failure = never\n"
    )
    (tmp_path / "test_own.py").write_text(
        "from conformance.catalog import MUST, requirement\n"
        "from conformance.verdict import NotApplicable\n"
        "@requirement('TEN-90', 'Own rule', level=MUST, sources=['guide-5'], remedy='Fix it.')\n"
        "def test_own(): raise NotApplicable('no team is declared')\n"
    )

    outcome = conform("--cluster", "snapshot:nothing.json.gz", "test_own.py")

    assert outcome.verdict("TEN-90")["reason"] == "no team is declared", outcome.output
    assert "traceback was drawn" not in outcome.output
