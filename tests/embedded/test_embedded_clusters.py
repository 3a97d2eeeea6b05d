"""Whole embedded clusters: two at once, kept ones, dying ones, and what they leave behind: nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import PATIENCE
from test_embedded_warden import eventually, lives

from conformance.clusters.embedded import (
    ComponentDied,
    EmbeddedError,
    EmbeddedSpec,
    attach,
    cluster_down,
    cluster_list,
    cluster_up,
    start,
)
from conformance.kube.waits import wait_for

pytestmark = pytest.mark.cluster

OWNER = """
import json, sys, time
from pathlib import Path
from conformance.clusters.embedded import EmbeddedSpec, start
cluster = start(EmbeddedSpec(topology="single", state_dir=Path(sys.argv[1])))
while "simulator" not in cluster.processes.pids:  # nobody has waited for it, and its start holds the lock, too
    cluster.check()
print(json.dumps({"pids": cluster.processes.pids, "warden": cluster.processes.warden.pid}), flush=True)
time.sleep(600)
"""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Where state goes in these tests; a kept cluster that a failing test left is taken down."""
    yield tmp_path
    for kept in cluster_list(root=tmp_path):
        cluster_down(str(kept.name), root=tmp_path)


def test_two_clusters_at_once_know_nothing_of_each_other(root: Path) -> None:
    spec = EmbeddedSpec(topology="single", state_dir=root)

    with start(spec) as one, start(spec) as other, one.client() as client, other.client() as stranger:
        client.create("/api/v1/namespaces", {"metadata": {"name": "mine"}})
        assert "mine" not in {each["metadata"]["name"] for each in stranger.list("/api/v1/namespaces")}
        assert one.server != other.server

    assert list(root.iterdir()) == []


def test_a_cluster_leaves_neither_files_nor_processes(root: Path) -> None:
    with start(EmbeddedSpec(topology="single", state_dir=root)) as cluster:
        assert cluster.processes is not None
        while "simulator" not in cluster.processes.pids:  # nobody has waited for it
            cluster.check()
        pids = dict(cluster.processes.pids)
        assert set(pids) == {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "simulator"}

    assert [name for name, pid in pids.items() if lives(pid)] == []
    assert list(root.iterdir()) == []


def test_killing_the_owner_ends_the_cluster(root: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(root)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    told = json.loads(owner.stdout.readline())

    owner.kill()
    owner.wait()
    owner.stdout.close()

    assert eventually(lambda: not any(lives(pid) for pid in told["pids"].values()))
    assert eventually(lambda: list(root.iterdir()) == [])


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_killing_owner_and_warden_ends_the_cluster_and_the_next_start_sweeps(root: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(root)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    told = json.loads(owner.stdout.readline())

    os.kill(told["warden"], signal.SIGKILL)
    owner.kill()
    owner.wait()
    owner.stdout.close()

    assert eventually(lambda: not any(lives(pid) for pid in told["pids"].values()))
    assert len(list(root.iterdir())) == 1
    with start(EmbeddedSpec(topology=None, state_dir=root)) as cluster:
        assert list(root.iterdir()) == [cluster.folder]


def test_a_process_that_dies_is_told_by_check(root: Path) -> None:
    with start(EmbeddedSpec(topology=None, state_dir=root)) as cluster:
        assert cluster.processes is not None
        cluster.check()
        os.kill(cluster.processes.pids["kube-scheduler"], signal.SIGKILL)

        with pytest.raises(ComponentDied, match="kube-scheduler ended \\(killed by SIGKILL\\)"):
            while True:
                cluster.check()
                time.sleep(0.02)


def test_a_flag_that_a_program_does_not_know_is_told_at_once(root: Path) -> None:
    with pytest.raises(ComponentDied, match="unknown flag: --no-such-flag"):
        start(EmbeddedSpec(topology=None, state_dir=root, scheduler_flags={"no-such-flag": "1"}))

    assert list(root.iterdir()) == []


def test_a_kept_cluster_is_found_used_and_taken_down(root: Path) -> None:
    up = cluster_up("demo", EmbeddedSpec(topology="single", state_dir=root))
    assert [each.name for each in cluster_list(root=root)] == ["demo"]
    with pytest.raises(EmbeddedError, match="'demo' is up already"):
        cluster_up("demo", EmbeddedSpec(topology="single", state_dir=root))

    with attach("demo", root=root) as used, used.client() as client:
        assert {each["metadata"]["name"] for each in client.list("/api/v1/nodes")} == {"a100-1", "cpu-1"}
    assert up.kubeconfig.exists()

    cluster_down("demo", root=root)

    assert list(root.iterdir()) == []
    with pytest.raises(EmbeddedError, match="no embedded cluster named 'demo'; none is up"):
        attach("demo", root=root)


def test_a_kept_cluster_outlives_the_command_that_started_it(root: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from conformance.clusters.embedded import cluster_up, EmbeddedSpec; "
        "cluster_up('stays', EmbeddedSpec(topology=None, state_dir=Path(sys.argv[1])))"
    )
    subprocess.run([sys.executable, "-c", code, str(root)], check=True, timeout=120)

    with attach("stays", root=root) as cluster, cluster.client() as client:
        assert client.get("/version")["gitVersion"] == cluster.version


def test_a_scheduler_without_preemption_evicts_nobody(root: Path) -> None:
    plugins = {
        "postFilter": {"disabled": [{"name": "DefaultPreemption"}]},
        "multiPoint": {"disabled": [{"name": "DefaultPreemption"}]},
    }
    config = {"profiles": [{"schedulerName": "default-scheduler", "plugins": plugins}]}
    pods = "/api/v1/namespaces/default/pods"

    def pod(name: str, **spec) -> dict:
        container = {"name": "c", "image": "i", "resources": {"limits": {"nvidia.com/gpu": 8}}}
        return {
            "metadata": {"name": name},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, **spec},
        }

    with (
        start(EmbeddedSpec(topology="single", state_dir=root, scheduler_config=config)) as cluster,
        cluster.client() as client,
    ):
        client.create("/apis/scheduling.k8s.io/v1/priorityclasses", {"metadata": {"name": "high"}, "value": 1000})
        client.create(pods, pod("low"))
        wait_for(
            lambda: client.get(f"{pods}/low"),
            lambda seen: seen["status"]["phase"] == "Running",
            what="low",
            timeout=PATIENCE,
        )

        client.create(pods, pod("high", priorityClassName="high"))

        waiting = wait_for(
            lambda: client.get(f"{pods}/high")["status"].get("conditions", []),
            lambda conditions: any(each.get("reason") == "Unschedulable" for each in conditions),
            what="high is refused",
            timeout=PATIENCE,
        )
        assert waiting
        assert not client.get(f"{pods}/low")["metadata"].get("deletionTimestamp")


def test_mutating_admission_policies_can_be_used(root: Path) -> None:
    with start(EmbeddedSpec(topology=None, state_dir=root)) as cluster, cluster.client() as client:
        served = client.get("/apis/admissionregistration.k8s.io/v1")["resources"]

    assert "mutatingadmissionpolicies" in {each["name"] for each in served}
