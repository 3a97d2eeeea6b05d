"""What is left when a run is killed with SIGKILL at a random moment: nothing that `clean` does not put right."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from kubeconfigs import context_of

from conformance.kube.errors import NotFound
from conformance.kube.paths import path
from conformance.kube.waits import wait_for

pytestmark = pytest.mark.cluster

KILLS_ON_A_LIVING_CLUSTER = 30
KILLS_OF_AN_OWN_CLUSTER = 8

# Kinds whose objects a run may create or change, compared before and after. Events and heartbeats come and go.
KINDS = (
    "Namespace",
    "Node",
    "Pod",
    "ConfigMap",
    "ServiceAccount",
    "ResourceQuota",
    "LimitRange",
    "Deployment",
    "ReplicaSet",
    "Job",
    "PriorityClass",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "PodDisruptionBudget",
    "Lease",
)
# A cross-section of what a run does to a cluster: deploys, borrows and patches nodes, preempts, makes quotas.
REQUIREMENTS = ("POOL-01", "SCHED-01", "SCHED-08", "PRIO-03", "QUOTA-05")


def object_set(client):
    """Every object by kind, namespace and name, with what a run may change on it."""
    objects = set()
    for kind in KINDS:
        try:
            listed = client.list(path(kind))
        except NotFound:
            continue
        for obj in listed:
            meta = obj["metadata"]
            changed = node_state(obj) if kind == "Node" else meta["uid"]
            objects.add((kind, meta.get("namespace", ""), meta["name"], changed))
    return objects


def node_state(node):
    """What a run may change of a node, as one text."""
    taints = sorted(map(str, node["spec"].get("taints", [])))
    annotations = node["metadata"].get("annotations", {})
    state = [node["metadata"]["labels"], annotations, taints, node["status"]["capacity"], node["status"]["allocatable"]]
    return json.dumps(state, sort_keys=True)


def wait_until_controllers_have_seen_all_nodes(client):
    """Controllers add labels and an annotation to new nodes in their own time; nobody else's doing."""

    def unseen(nodes):
        return [
            node["metadata"]["name"] for node in nodes
            if "node.alpha.kubernetes.io/ttl" not in node["metadata"].get("annotations", {})
            or "beta.kubernetes.io/os" not in node["metadata"]["labels"]
        ]  # fmt: skip

    wait_for(lambda: unseen(client.list(path("Node"))), lambda names: not names, what="nodes are seen", timeout=60)


def pytest_process(folder, *arguments):
    with (folder / "output.txt").open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def living_arguments(cluster):
    chosen = [argument for requirement in REQUIREMENTS for argument in ("--gpu-requirement", requirement)]
    return [
        "--cluster", context_of(cluster.kubeconfig), "--gpu-kubeconfig", str(cluster.kubeconfig),
        "--gpu-mode", "full", "--gpu-deploy", "--gpu-timeout", "lease=1", "--gpu-timeout", "hold=1", *chosen,
    ]  # fmt: skip


def clean(cluster):
    """Clean as somebody would: again, when it says that the run may still be alive.

    A run that was killed before it had a Lease counts as starting, and so as alive, for a minute.
    """
    command = [
        sys.executable, "-m", "conformance.cli", "clean",
        "--cluster", context_of(cluster.kubeconfig), "--kubeconfig", str(cluster.kubeconfig),
    ]  # fmt: skip
    deadline = time.monotonic() + 90
    while True:
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
        if "is going on" not in ended.stdout or time.monotonic() > deadline:
            return ended
        time.sleep(0.3)


def test_clean_restores_the_exact_object_set_after_a_kill_at_any_moment(cluster, tmp_path):
    wait_until_controllers_have_seen_all_nodes(cluster.client)
    before = object_set(cluster.client)
    started = time.monotonic()
    whole = pytest_process(tmp_path, *living_arguments(cluster))
    assert whole.wait(timeout=180) == 0, (tmp_path / "output.txt").read_text()
    lasted = time.monotonic() - started
    left = object_set(cluster.client) ^ before
    assert not left, f"even a run that ended by itself left {sorted(left)}"
    moments = random.Random(20261124)

    for number in range(KILLS_ON_A_LIVING_CLUSTER):
        # Evenly over the whole run, with a random place in each part.
        moment = lasted * (number + moments.random()) / KILLS_ON_A_LIVING_CLUSTER
        run = pytest_process(tmp_path, *living_arguments(cluster))
        time.sleep(moment)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        cleaned = clean(cluster)

        left = object_set(cluster.client) ^ before
        assert not left, f"kill {number} after {moment:.2f} s left {sorted(left)}\n{cleaned.stdout}{cleaned.stderr}"
        assert cleaned.returncode == 0, cleaned.stdout + cleaned.stderr


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_puts_everything_back_and_reports_what_it_judged(cluster, tmp_path, sign):
    wait_until_controllers_have_seen_all_nodes(cluster.client)
    before = object_set(cluster.client)
    folder = tmp_path / "gpu-conformance-report"
    run = pytest_process(tmp_path, *living_arguments(cluster))
    stream = folder / "events.ndjson"
    wait_for(
        lambda: stream.read_text() if stream.exists() else "",
        lambda text: "requirement-finished" in text,
        what="the first requirement is judged",
        timeout=90,
    )

    run.send_signal(sign)

    assert run.wait(timeout=120) == 2, (tmp_path / "output.txt").read_text()
    left = object_set(cluster.client) ^ before
    assert not left, sorted(left)
    told = json.loads((folder / "report.json").read_text())
    statuses = {verdict["requirement"]: verdict["status"] for verdict in told["requirements"]}
    assert set(statuses) == set(REQUIREMENTS)
    assert "not-run" in statuses.values()


def texts_of_processes(name):
    """What /proc has under ``name`` for each other process, by id."""
    texts = {}
    for process in Path("/proc").glob("[0-9]*"):
        if process.name != str(os.getpid()):
            with suppress(OSError):
                texts[int(process.name)] = (process / name).read_bytes()
    return texts


def processes_with(variable):
    """The processes whose environment holds ``variable``, by id."""
    return [process for process, text in texts_of_processes("environ").items() if variable.encode() in text]


def abandoned_folders():
    """The state folders of embedded clusters of this user that no process works in."""
    commands = list(texts_of_processes("cmdline").values())
    folders = Path("/dev/shm").glob(f"gpu-conformance-{os.getuid()}-*")
    return {folder for folder in folders if not any(bytes(folder) in command for command in commands)}


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks at processes through /proc")
def test_a_killed_run_takes_its_embedded_cluster_with_it(tmp_path, monkeypatch):
    before = abandoned_folders()
    moments = random.Random(42)

    for number in range(KILLS_OF_AN_OWN_CLUSTER):
        mark = f"KILLED_RUN={tmp_path.name}-{number}"
        monkeypatch.setenv(*mark.split("=", 1))
        run = pytest_process(tmp_path, "--cluster", "embedded", "--gpu-requirement", "POOL-01")
        moment = 1 + 7 * (number + moments.random()) / KILLS_OF_AN_OWN_CLUSTER
        time.sleep(moment)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()

        deadline = time.monotonic() + 10
        while processes_with(mark) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not processes_with(mark), f"kill {number} after {moment:.2f} s left processes"
        left = abandoned_folders() - before
        assert not left, f"kill {number} after {moment:.2f} s left {left}"
