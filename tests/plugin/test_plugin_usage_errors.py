import pytest

USAGE = 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cluster", "no-such-cluster"], "No cluster named 'no-such-cluster'"),
        (["--cluster", "snapshot:nowhere.json.gz"], "nowhere.json.gz"),
        (["--cluster", "embedded:nobody"], "nobody"),
        (["--cluster", "embedded", "--gpu-profile", "nonsense"], "no profile named nonsense; there are: pools"),
        (["--cluster", "embedded", "--gpu-profile", "pools,quotas"], "no profile named quotas (did you mean quota?)"),
        (["--cluster", "embedded", "--gpu-timeout", "hodl=3"], "hodl"),
        (
            ["--cluster", "embedded", "--gpu-report-formats", "html,pdf"],
            "there is no report format pdf; there are junit, html",
        ),
        (["--cluster", "embedded", "--gpu-waivers", "nowhere.yaml"], "nowhere.yaml"),
        (["--cluster", "embedded", "--gpu-kubernetes", "1.12"], "1.12"),
        (["--cluster", "embedded", "--gpu-real-nodes", "two"], "--gpu-real-nodes is 'two': give a number"),
        (["--cluster", "embedded", "--gpu-real-nodes", "-1"], "--gpu-real-nodes is '-1': give a number"),
        (["--cluster", "embedded:dev", "--gpu-real-nodes", "1"], "cluster up dev --real-nodes 1"),
        (["--cluster", "container", "--gpu-real-nodes", "1"], "--gpu-real-nodes is for --cluster embedded"),
        (["--cluster", "k3s:mine", "--gpu-real-nodes", "1"], "--gpu-real-nodes is for --cluster embedded"),
        (["--cluster", "container", "--gpu-cluster-port", "66000"], "--gpu-cluster-port is '66000'"),
    ],
)
def test_what_a_user_can_mend_is_one_message_and_exit_code_4(conform, arguments, said):
    outcome = conform(*arguments)

    assert outcome.exit_code == USAGE
    assert said in outcome.output
    assert "Traceback" not in outcome.output


MACHINES = {
    "no root": (
        "import os\nos.geteuid = lambda: 1000\n",
        ["--cluster", "embedded", "--gpu-real-nodes", "1"],
        "you are user 1000, not root: run the same command with sudo",
    ),
    "no containerd": (
        "from conformance.clusters.embedded.real import preflight\n"
        "find = preflight._find\n"
        "preflight._find = lambda name, assets: None if name == 'containerd' else find(name, assets)\n",
        ["--cluster", "embedded", "--gpu-real-nodes", "1"],
        "no program containerd: apt-get install -y --no-install-recommends containerd",
    ),
    "disk full": (
        "import errno, os\n"
        "from conformance.clusters.embedded import binaries, state\n"
        "binaries.resolve = lambda *_, **__: {}\n"
        "def make(**_): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), '/dev/shm/gpu-conformance')\n"
        "state.make = make\n"
        "from conformance.clusters.embedded import seeds\n"
        "seeds.obtain = lambda *_, **__: None\n",
        ["--cluster", "embedded"],
        "the disk is full (/dev/shm/gpu-conformance): free some space",
    ),
}
"""What a machine lacks: how it is made to lack it, what is asked of it, and what is said."""


@pytest.mark.parametrize("lacking", MACHINES)
def test_what_a_machine_lacks_is_one_message_and_exit_code_4_and_leaves_nothing(conform, tmp_path, lacking):
    made, arguments, said = MACHINES[lacking]
    (tmp_path / "conftest.py").write_text(made)

    outcome = conform(*arguments)

    assert outcome.exit_code == USAGE, outcome.output
    assert said in outcome.output
    assert "Traceback" not in outcome.output
    assert not {each.name for each in tmp_path.iterdir()} - {"conftest.py", "__pycache__"}


@pytest.mark.parametrize("cluster", ["container", "kind", "kind:dev", "k3s"])
def test_a_daemon_that_does_not_answer_is_one_message_and_exit_code_4(conform, tmp_path, cluster):
    (tmp_path / "conftest.py").write_text(f"import os\nos.environ['DOCKER_HOST'] = 'unix://{tmp_path}/docker.sock'\n")

    outcome = conform("--cluster", cluster)

    assert outcome.exit_code == USAGE
    assert f"no Docker daemon answers at unix://{tmp_path}/docker.sock" in outcome.output
    assert "Start Docker, or set DOCKER_HOST" in outcome.output
    assert "Traceback" not in outcome.output


def test_an_old_kind_is_one_message_and_exit_code_4_where_no_newer_one_can_be_had(conform, tmp_path):
    (tmp_path / "kind").write_text("#!/bin/sh\necho 'kind v0.20.0 go1.20 linux/amd64'\n")
    (tmp_path / "kind").chmod(0o755)
    (tmp_path / "conftest.py").write_text(
        "import contextlib, os\n"
        f"os.environ['PATH'] = {str(tmp_path)!r} + os.pathsep + os.environ['PATH']\n"
        "from conformance.clusters.docker import kind\n"
        "from conformance.clusters.embedded import binaries\n"
        "from conformance.clusters.embedded.binaries.failures import BinariesUnavailable\n"
        "kind.reached = lambda: contextlib.nullcontext()\n"
        "def resolve(*_, **__): raise BinariesUnavailable('kind', ['kind 0.33.0'], [], ['install it'])\n"
        "binaries.resolve = resolve\n"
    )

    outcome = conform("--cluster", "kind")

    assert outcome.exit_code == USAGE, outcome.output
    assert "no program kind that is new enough is on PATH (" in outcome.output
    assert "kind says v0.20.0 as its version, and kind 0.31 or newer is needed" in outcome.output
    assert "Traceback" not in outcome.output


def test_an_unknown_mode_is_refused_with_those_that_exist(conform):
    outcome = conform("--cluster", "embedded", "--gpu-mode", "brutal")

    assert outcome.exit_code == USAGE
    assert "audit" in outcome.output
