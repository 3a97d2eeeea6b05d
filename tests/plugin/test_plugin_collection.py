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
