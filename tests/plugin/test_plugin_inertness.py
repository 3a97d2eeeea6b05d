import subprocess
import sys

from whole_runs import whole_run

HEAVY = ("kubernetes", "msgspec", "yaml", "rich", "cryptography", "urllib3", "conformance.session", "conformance.kube")


def test_importing_the_plugin_loads_nothing_heavy():
    code = f"import sys, conformance.plugin; print([m for m in {HEAVY!r} if m in sys.modules])"

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stdout.strip() == "[]"


@whole_run
def test_without_a_cluster_a_session_has_no_trace_of_the_plugin(pytester):
    pytester.makepyfile("""
        import sys

        def test_nothing_of_ours_is_there(request):
            assert not request.config.pluginmanager.has_plugin("gpu-conformance-run")
            assert "conformance.session.hooks" not in sys.modules
    """)

    ended = pytester.runpytest_subprocess("-q")

    ended.assert_outcomes(passed=1)
    assert "gpu-conformance" not in ended.stdout.str()


@whole_run
def test_the_plugin_can_be_switched_off(pytester):
    pytester.makepyfile("def test_ordinary(): pass")

    pytester.runpytest_subprocess("-p", "no:gpu-conformance", "-q").assert_outcomes(passed=1)


@whole_run
def test_names_that_suites_use_are_free_for_others_without_a_cluster(pytester):
    pytester.makepyfile("""
        import pytest

        @pytest.fixture
        def lab():
            return "mine"

        def test_mine(lab):
            assert lab == "mine"
    """)

    pytester.runpytest_subprocess("-q").assert_outcomes(passed=1)
