"""What ``-m 'not cluster'`` leaves out: tests on clusters, and whole runs of the plugin on recorded ones."""

import pytest

CONFTEST = """
    import pytest
    from whole_runs import mark_whole_runs, needs_a_living_cluster

    @pytest.fixture
    def conform(): ...

    @pytest.fixture
    def audited(conform): ...

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(items):
        mark_whole_runs(items)
        for item in items:
            print(item.name, "starts one:", needs_a_living_cluster(item))
"""
TESTS = """
    import pytest
    from whole_runs import whole_run

    def test_in_memory(): ...
    def test_run(conform): ...
    def test_run_by_a_fixture(audited): ...
    @whole_run
    def test_program(): ...
    @pytest.mark.cluster
    def test_on_a_cluster(conform): ...
"""


@pytest.fixture
def collected(pytester: pytest.Pytester) -> pytest.RunResult:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)
    pytester.makeini("[pytest]\nmarkers =\n  cluster: of one\n  recorded: of a file")
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "--collect-only", "-q", "-s", "-m", "not cluster")


def test_the_first_answer_runs_the_plugin_nowhere(collected: pytest.RunResult) -> None:
    named = [line.rpartition("::")[2] for line in collected.outlines if "::" in line]

    assert named == ["test_in_memory"]


def test_only_tests_on_clusters_start_one(collected: pytest.RunResult) -> None:
    starting = [line.partition(" ")[0] for line in collected.outlines if line.endswith("starts one: True")]

    assert starting == ["test_on_a_cluster"]
