"""What is left when a run is killed with SIGKILL at a random moment: nothing that `clean` does not put right."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from kubeconfigs import context_of
from patience import PATIENCE

from conformance.clusters.embedded import EmbeddedSpec, attach, cluster_down, cluster_up
from conformance.kube.client import Client
from conformance.kube.errors import NotFound
from conformance.kube.paths import path
from conformance.kube.waits import wait_for
from conformance.simulator.annotations import MIG_GEOMETRY
from conformance.simulator.mig import CHANGE

pytestmark = pytest.mark.cluster

CUT_OF_THE_GPUS = (MIG_GEOMETRY, CHANGE)

# Kinds whose objects a run may create or change, compared before and after. Events and heartbeats come and go.
KINDS = (
    "Namespace",
    "Node",
    "Pod",
    "ConfigMap",
    "ServiceAccount",
    "ResourceQuota",
    "LimitRange",
    "DaemonSet",
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
    "CustomResourceDefinition",
    "DeviceClass",
    "ResourceSlice",
    "RuntimeClass",
)
# A cross-section of what a run does to a cluster: deploys, borrows and patches nodes, preempts, makes quotas.
REQUIREMENTS = ("POOL-04", "SCHED-01", "SCHED-08", "PRIO-03", "QUOTA-05")


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
    """What a run may change of a node, as one text.

    Left out is what outlasts a GPU stack (docs/deploying-the-stack.md): how the machine's GPUs are cut, and amounts of
    0, which a kubelet goes on listing.
    """
    taints = sorted(map(str, node["spec"].get("taints", [])))
    annotations = {
        key: value for key, value in node["metadata"].get("annotations", {}).items() if key not in CUT_OF_THE_GPUS
    }
    amounts = [
        {name: amount for name, amount in node["status"][field].items() if amount != "0"}
        for field in ("capacity", "allocatable")
    ]
    return json.dumps([node["metadata"]["labels"], annotations, taints, *amounts], sort_keys=True)


def different(before, after):
    """What is in one of two object sets alone; of nodes, which say much, the first of each only."""
    words = [" ".join(each[:3]) + f": {each[3][:2000]}" for each in sorted(before ^ after)]
    return "\n".join(words[:10])


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


class Target(NamedTuple):
    """A cluster that outlives the runs on it, and the options by which a run and ``clean`` find it."""

    client: Client
    run: list[str]
    clean: list[str]

    @property
    def arguments(self):
        """The options of a run on it."""
        chosen = [argument for requirement in REQUIREMENTS for argument in ("--gpu-requirement", requirement)]
        return [*self.run, "--gpu-mode", "full", "--gpu-timeout", "lease=1", "--gpu-timeout", "hold=1", *chosen]


@pytest.fixture
def living(cluster):
    """The shared cluster, on which GPUs come with the machines: a run deploys all but the stack."""
    context, kubeconfig = context_of(cluster.kubeconfig), str(cluster.kubeconfig)
    wait_until_controllers_have_seen_all_nodes(cluster.client)
    return Target(
        cluster.client,
        ["--cluster", context, "--gpu-kubeconfig", kubeconfig, "--gpu-deploy"],
        ["--cluster", context, "--kubeconfig", kubeconfig],
    )


@pytest.fixture
def bare():
    """A kept cluster of bare machines, on which a run deploys the GPU stack as well."""
    name = f"killed-{os.getpid()}"
    cluster_up(name, EmbeddedSpec(topology="guide"))
    try:
        with attach(name) as kept, kept.client() as client:
            wait_until_controllers_have_seen_all_nodes(client)
            yield Target(client, ["--cluster", f"embedded:{name}"], ["--cluster", f"embedded:{name}"])
    finally:
        cluster_down(name)


def clean(target):
    """Clean as somebody would: again, when it says that the run may still be alive.

    A run that was killed before it had a Lease counts as starting, and so as alive, for a minute.
    """
    command = [sys.executable, "-m", "conformance.cli", "clean", *target.clean]
    deadline = time.monotonic() + 90
    while True:
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
        if "is going on" not in ended.stdout or time.monotonic() > deadline:
            return ended
        time.sleep(0.3)


def part_of_all_kills(percent, group):
    """How many of the session's kills the test makes, and with which others it takes turns (tests/side_by_side.py)."""
    return pytest.mark.parametrize("percent", [pytest.param(percent, id=f"{percent} percent of the kills@{group}")])


@part_of_all_kills(50, "kills on a living cluster")
def test_clean_restores_the_exact_object_set_after_a_kill_at_any_moment(living, tmp_path, kills, chance, percent):
    restores_all(living, tmp_path, math.ceil(kills * percent / 100), chance)


@part_of_all_kills(30, "kills of runs with a stack")
def test_clean_takes_the_stack_of_a_killed_run_away(bare, tmp_path, kills, chance, percent):
    restores_all(bare, tmp_path, math.ceil(kills * percent / 100), chance)


def restores_all(target, folder, kills, chance):
    """Run once to the end, then kill runs at moments all over that time; each time nothing may be left."""
    before = object_set(target.client)
    started = time.monotonic()
    whole = pytest_process(folder, *target.arguments)
    assert whole.wait(timeout=300) == 0, (folder / "output.txt").read_text()
    lasted = time.monotonic() - started
    left = different(object_set(target.client), before)
    assert not left, f"even a run that ended by itself left\n{left}"

    for number in range(kills):
        # Evenly over the whole run, with a random place in each part.
        moment = lasted * (number + chance.random()) / kills
        run = pytest_process(folder, *target.arguments)
        time.sleep(moment)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        cleaned = clean(target)

        left = different(object_set(target.client), before)
        assert not left, f"kill {number} after {moment:.2f} s left\n{left}\n{cleaned.stdout}{cleaned.stderr}"
        assert cleaned.returncode == 0, cleaned.stdout + cleaned.stderr


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_puts_everything_back_and_reports_what_it_judged(living, tmp_path, sign):
    before = object_set(living.client)
    folder = tmp_path / "gpu-conformance-report"
    run = pytest_process(tmp_path, *living.arguments)
    stream = folder / "events.ndjson"
    wait_for(
        lambda: stream.read_text() if stream.exists() else "",
        lambda text: "requirement-finished" in text,
        what="the first requirement is judged",
        timeout=90,
    )

    run.send_signal(sign)

    assert run.wait(timeout=120) == 2, (tmp_path / "output.txt").read_text()
    left = different(object_set(living.client), before)
    assert not left, left
    told = json.loads((folder / "report.json").read_text())
    others = {each["requirement"] for each in told["requirements"] if each["reason"] == "left out by the selection"}
    statuses = {each["requirement"]: each["status"] for each in told["requirements"]}
    assert set(statuses) - others == set(REQUIREMENTS)
    assert {statuses[each] for each in others} == {"not-run"}
    assert "not-run" in {statuses[each] for each in REQUIREMENTS}


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


@part_of_all_kills(20, "kills of runs with a cluster of their own")
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks at processes through /proc")
def test_a_killed_run_takes_its_embedded_cluster_with_it(tmp_path, monkeypatch, kills, chance, percent):
    before = abandoned_folders()
    kills_here = math.ceil(kills * percent / 100)

    for number in range(kills_here):
        mark = f"KILLED_RUN={tmp_path.name}-{number}"
        monkeypatch.setenv(*mark.split("=", 1))
        run = pytest_process(tmp_path, "--cluster", "embedded", "--gpu-requirement", "POOL-01")
        moment = 1 + 7 * (number + chance.random()) / kills_here
        time.sleep(moment)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()

        deadline = time.monotonic() + PATIENCE
        while processes_with(mark) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not processes_with(mark), f"kill {number} after {moment:.2f} s left processes"
        left = abandoned_folders() - before
        while left and time.monotonic() < deadline:
            # Clusters that start or end beside this test have a folder without processes for a moment.
            time.sleep(0.05)
            left &= abandoned_folders()
        assert not left, f"kill {number} after {moment:.2f} s left {left}"
