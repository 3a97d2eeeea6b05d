"""Which failed tests get a second attempt, and that every other failure stands."""

from pathlib import Path

import pytest
from whole_runs import whole_run

PLUGINS = ("-p", "chance", "-p", "second_attempt", "-p", "no:cacheprovider")
MARKED = """
    import pytest

    def test_passes(): ...

    @pytest.mark.cluster
    @pytest.mark.parametrize("number", range({clusters}))
    def test_of_a_cluster(number): assert number < 0

    @pytest.mark.cluster
    @pytest.mark.recorded
    @pytest.mark.skipif({recorded} == 0, reason="not wanted")
    def test_of_a_file(): assert False

    @pytest.mark.skipif({others} == 0, reason="not wanted")
    def test_of_none(): assert False
"""


def attempt(
    pytester: pytest.Pytester, *options: str, clusters: int = 0, others: int = 0, recorded: int = 0
) -> list[str] | None:
    """Run tests that fail; the arguments for a second attempt, None without one."""
    pytester.makepyfile(MARKED.format(clusters=clusters, others=others, recorded=recorded))
    pytester.makeini("[pytest]\nmarkers =\n  cluster: needs one\n  recorded: of a file")
    file = Path(pytester.path) / "again"
    file.write_text("of an earlier session")
    pytester.inline_run(*PLUGINS, f"--second-attempt-of={file}", *options)
    return file.read_text().splitlines() if file.exists() else None


def test_failed_tests_of_clusters_are_named_with_what_was_drawn(pytester: pytest.Pytester) -> None:
    assert attempt(pytester, "--seed=7", clusters=2) == [
        "--seed=7",
        "--kills=12",
        "test_failed_tests_of_clusters_are_named_with_what_was_drawn.py::test_of_a_cluster[0]",
        "test_failed_tests_of_clusters_are_named_with_what_was_drawn.py::test_of_a_cluster[1]",
    ]


def test_a_failure_without_a_cluster_allows_none(pytester: pytest.Pytester) -> None:
    assert attempt(pytester, clusters=1, others=1) is None


def test_a_failure_on_a_recorded_cluster_allows_none(pytester: pytest.Pytester) -> None:
    assert attempt(pytester, clusters=1, recorded=1) is None


def test_six_failures_allow_none(pytester: pytest.Pytester) -> None:
    assert attempt(pytester, clusters=5) is not None
    assert attempt(pytester, clusters=6) is None


def test_a_green_session_removes_what_an_earlier_one_wrote(pytester: pytest.Pytester) -> None:
    assert attempt(pytester) is None


def test_a_session_that_was_stopped_allows_none(pytester: pytest.Pytester) -> None:
    assert attempt(pytester, "-x", clusters=2) is None


def test_a_file_that_cannot_be_collected_allows_none(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_broken="import nothing_of_that_name")
    assert attempt(pytester, "--continue-on-collection-errors", clusters=1) is None


@whole_run
def test_a_process_that_dies_allows_none(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    # What else is installed costs each of the processes more than the tests themselves.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        test_dies="""
        import os
        import pytest

        @pytest.mark.cluster
        def test_it(): os._exit(3)
        """
    )
    assert attempt(pytester, "-p", "xdist", "-n1", "--max-worker-restart=0", clusters=1) is None
