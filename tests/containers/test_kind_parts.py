"""What kind clusters are made of, without a Docker daemon."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from patience import PATIENCE

from conformance.clusters.docker import kind, kind_config, kind_fleet, kind_network, kind_node_image, usable
from conformance.clusters.docker.errors import ContainerClusterError
from conformance.clusters.embedded.real.file_systems import finds_file_system
from conformance.clusters.embedded.topologies import load
from conformance.clusters.errors import ClusterError
from conformance.clusters.named import as_somebodys, resolve
from conformance.kube.effects import Mode

KUBECONFIG = """
clusters: [{name: c, cluster: {server: "https://127.0.0.1:41234"}}]
users: [{name: u, user: {}}]
contexts: [{name: kind-dev, context: {cluster: c, user: u}}]
current-context: kind-dev
"""


def test_kind_is_a_kind_of_its_own() -> None:
    plain, given = resolve("kind"), resolve("kind:dev")

    assert (plain.kind, plain.given_name, plain.mode) == ("kind", None, Mode.FULL)
    assert (given.kind, given.given_name) == ("kind", "dev")


def test_a_cluster_that_was_there_is_audited_unless_somebody_asks_for_more(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)

    assert as_somebodys(resolve("kind:dev"), tmp_path / "kubeconfig", None).mode == Mode.AUDIT
    assert as_somebodys(resolve("kind:dev"), tmp_path / "kubeconfig", Mode.VERIFY).mode == Mode.VERIFY


def test_a_cluster_that_is_marked_protected_stays_so_under_its_kind_name(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    clusters = tmp_path / "clusters.yaml"
    clusters.write_text("clusters:\n  ours: {context: kind-dev, kubeconfig: kubeconfig, protected: true}\n")

    with pytest.raises(ClusterError, match="protected"):
        as_somebodys(resolve("kind:dev"), tmp_path / "kubeconfig", Mode.FULL, clusters)


def test_the_node_image_is_pinned_by_its_digest_and_its_registry_can_be_another() -> None:
    assert kind.default_image().startswith("docker.io/kindest/node:v1.37.0@sha256:")
    mirrored = kind.default_image("registry.example.com/mirror/")
    assert mirrored.startswith("registry.example.com/mirror/kindest/node:v1.37.0@sha256:")


def test_the_server_is_on_the_loopback_address() -> None:
    config = kind_config.cluster_config("x", "image:1", 2, made_here=False)

    assert config["networking"]["apiServerAddress"] == "127.0.0.1"
    assert [node["role"] for node in config["nodes"]] == ["control-plane", "worker", "worker"]
    assert {node["image"] for node in config["nodes"]} == {"image:1"}
    assert "kubeadmConfigPatches" not in config  # of kind's own image nothing is changed


def test_an_image_of_our_own_is_named_for_what_it_is() -> None:
    config = kind_config.cluster_config("x", "image:1", 0, made_here=True)

    cluster, init = (json.loads(patch) for patch in config["kubeadmConfigPatches"])
    assert cluster["imageRepository"] == kind_config.REPOSITORY
    assert cluster["etcd"]["local"]["imageTag"] == "3.6.10-0"
    assert init["skipPhases"] == ["preflight", "addon/coredns"]


def test_a_fleet_that_no_machine_carries_is_refused() -> None:
    with pytest.raises(ContainerClusterError, match=r"topology guide has 21 nodes.*--gpu-topology single"):
        kind_fleet.workers_of(load("guide"))
    assert kind_fleet.workers_of(load("single")) == 2


class Api:
    """The nodes of a cluster, and the changes that were sent to them."""

    def __init__(self, *nodes: dict) -> None:
        self.nodes, self.sent = list(nodes), []

    def list(self, place: str) -> list[dict]:
        assert place == "/api/v1/nodes"
        return self.nodes

    def get(self, place: str) -> dict:
        return {}

    def patch(self, place: str, change: dict, kind: str = "merge") -> None:
        self.sent.append((place, change, kind))


def node(name: str, *, ready: str = "True", labels: dict | None = None) -> dict:
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def test_workers_get_the_labels_and_gpus_of_the_topology_and_say_that_they_are_simulated() -> None:
    control = node("x-control-plane", labels={"node-role.kubernetes.io/control-plane": ""})
    api = Api(control, node("x-worker2"), node("x-worker"))
    kind_fleet.give_gpus(api, load("single"))  # type: ignore[arg-type]

    changes = {(place.removeprefix("/api/v1/nodes/")): change for place, change, _ in api.sent}
    assert set(changes) == {"x-worker/status", "x-worker", "x-worker2"}
    assert changes["x-worker/status"]["status"]["allocatable"] == {"nvidia.com/gpu": "8"}
    labels = changes["x-worker"]["metadata"]["labels"]
    assert labels["eks.amazonaws.com/nodegroup"] == "a100"
    assert labels["gpu-conformance.io/simulated-gpus"] == "true"
    assert not [key for key in labels if key.startswith("kubernetes.io/")]
    assert "gpu-conformance.io/simulated-gpus" not in changes["x-worker2"]["metadata"]["labels"]


def test_a_cluster_is_waited_for_until_every_node_is_ready() -> None:
    api = Api(node("a"), node("b"), node("c", ready="False"))

    assert usable._missing(api, 3) == "2 of 3 nodes are ready"  # type: ignore[arg-type]
    api.nodes[2] = node("c")
    assert usable._missing(api, 3) == ""  # type: ignore[arg-type]


@pytest.mark.parametrize("file", sorted(kind_node_image._FILES.iterdir()), ids=lambda path: path.name)
def test_every_file_of_the_node_is_put_into_it(file: Path) -> None:
    source = Path(kind_node_image.__file__).read_text()
    assert f'"{file.name}"' in source


def test_the_node_refuses_what_is_not_translated_before_anything_else() -> None:
    lines = (kind_node_image._FILES / "entrypoint").read_text().splitlines()
    refusing = next(place for place, line in enumerate(lines) if "--jump REJECT" in line)

    assert not [line for line in lines[:refusing] if line.startswith(("exec", "mount", "mkdir", "systemd"))]


@pytest.mark.parametrize(
    ("bounding", "restricted"), [("000001ffffffffff", False), ("000001fffeffffff", True), ("00000000a80425fb", True)]
)
def test_scores_are_left_as_they_are_only_where_root_may_not_lower_them(
    tmp_path: Path, bounding: str, restricted: bool
) -> None:
    (tmp_path / "status").write_text(f"Name:\tbash\nCapPrm:\t0000000000000000\nCapBnd:\t{bounding}\n")
    runtime = (kind_node_image._FILES / "containerd.toml").read_text()
    (tmp_path / "containerd.toml").write_text(runtime)

    files = [tmp_path / "status", tmp_path / "containerd.toml", tmp_path]
    subprocess.run([kind_node_image._FILES / "oom-scores", *files], check=True)

    before = {"restrict_oom_score_adj = false", "restrict_oom_score_adj = true"} & set(runtime.splitlines())
    now = (tmp_path / "containerd.toml").read_text()
    assert before == {"restrict_oom_score_adj = false"}
    assert ("restrict_oom_score_adj = true" in now) is restricted
    assert (now == runtime) is not restricted
    assert [file.name for file in tmp_path.glob("*.conf")] == (["20-oom-scores.conf"] if restricted else [])


def mounts(tmp_path: Path, *lines: str) -> Path:
    """A table of mounts with these after the usual fields of a folder's own file systems."""
    number = tmp_path.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    table = tmp_path / "mountinfo"
    table.write_text("".join(f"{line.format(device=device, place=tmp_path)}\n" for line in lines))
    return table


ROOT = "20 1 0:4095 / / rw,relatime - overlay overlay rw"
BTRFS = "21 20 0:4094 /@/volume {place} rw,relatime shared:7 - btrfs /dev/not-there rw"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([ROOT, "21 20 {device} /volume /var rw - ext4 /dev/vda rw"], True),
        ([ROOT, "21 20 0:4094 /volume /var rw - ext4 /dev/vda rw"], False),
        ([ROOT, BTRFS], False),
        ([ROOT, BTRFS.replace("0:4094", "{device}")], True),
    ],
    ids=["its-device-is-mounted", "another-device", "btrfs-without-its-device", "btrfs-that-is-told-right"],
)
def test_storage_is_measured_unless_the_kubelet_cannot_find_it(tmp_path: Path, lines: list[str], found: bool) -> None:
    """The node's script and the real nodes' module decide alike."""
    table = mounts(tmp_path, *lines)
    subprocess.run([kind_node_image._FILES / "local-storage", table, tmp_path, tmp_path], check=True)
    written = {file.name: file.read_text() for file in tmp_path.glob("*.conf")}

    assert finds_file_system(tmp_path, table) is found
    assert set(written) == (set() if found else {"30-local-storage.conf"})
    assert found or yaml.safe_load(written["30-local-storage.conf"])["localStorageCapacityIsolation"] is False


def test_a_btrfs_is_found_by_its_block_device(tmp_path: Path) -> None:
    if not (devices := [path for path in Path("/dev").iterdir() if path.is_block_device()]):
        pytest.skip("this machine shows no block device")
    table = mounts(tmp_path, ROOT, BTRFS.replace("/dev/not-there", str(devices[0])))
    subprocess.run([kind_node_image._FILES / "local-storage", table, tmp_path, tmp_path], check=True)

    assert finds_file_system(tmp_path, table)
    assert list(tmp_path.glob("*.conf")) == []


def test_a_node_measures_its_storage_unless_told_otherwise() -> None:
    ours = yaml.safe_load((kind_node_image._FILES / "kubelet.yaml").read_text())
    assert "localStorageCapacityIsolation" not in ours


def test_a_cluster_that_could_not_be_made_names_inotify_where_its_instances_run_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = ContainerClusterError("kind create cluster: exit code 1")
    monkeypatch.setattr(kind.inotify, "shortage", lambda wanted: f"{wanted - 1} are left")
    assert "\n59 are left. If Docker runs on this machine: sysctl -w fs.inotify" in str(kind._with_shortage(error, 3))

    monkeypatch.setattr(kind.inotify, "shortage", lambda wanted: "")
    assert kind._with_shortage(error, 3) is error


class Networks:
    """Docker's networks, one of which is in use for a while. Names are found by a part of them, as Docker does it."""

    def __init__(self, *names: str, busy: int = 0) -> None:
        self.networks, self.names, self.busy = self, list(names), busy

    def list(self, names: list[str]) -> list[Any]:
        found = [each for each in self.names if names[0] in each]
        return [SimpleNamespace(name=each, remove=lambda each=each: self._remove(each)) for each in found]

    def _remove(self, name: str) -> None:
        from docker.errors import APIError

        self.busy -= 1
        if self.busy >= 0:
            raise APIError(f"network {name} has active endpoints")
        self.names.remove(name)


def test_the_network_of_a_cluster_goes_when_its_containers_have_gone_and_no_other_one_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kind_network, "_LOOK_EVERY", 0.0)
    docker = Networks("kind", "gpu-conformance-1", "gpu-conformance-12", busy=2)

    kind_network.remove_network(docker, "gpu-conformance-1")

    assert docker.names == ["kind", "gpu-conformance-12"]


def test_a_network_that_stays_is_named_with_the_command_that_removes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind_network, "_GONE_WITHIN", 0.0)
    with pytest.raises(ContainerClusterError, match="docker network rm gpu-conformance-1"):
        kind_network.remove_network(Networks("gpu-conformance-1", busy=1000), "gpu-conformance-1")


def test_a_network_that_the_user_has_chosen_is_used_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(kind_network.VARIABLE, raising=False)
    own = kind_network.own_network()
    assert own.startswith("gpu-conformance-")
    assert kind_network.removal(own, ["kind", "delete"])[-3:] == [own, "kind", "delete"]
    assert kind_network.own_network() != own
    monkeypatch.setenv(kind_network.VARIABLE, "ours")
    assert kind_network.own_network() == ""
    assert kind_network.removal("", ["kind", "delete"]) == ["kind", "delete"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has namespaces of its own")
def test_a_step_of_the_node_image_that_takes_too_long_leaves_nothing(tmp_path: Path) -> None:
    """As debootstrap does, it mounts something, and what it has started goes on writing."""
    place = tmp_path / "root"
    place.mkdir()
    goes_on = f"while sleep 0.02; do mkdir -p {place}/$(date +%N); done"
    busy = f"mount -t tmpfs tmpfs {place} && {{ {goes_on} & }} && sleep 600"
    with pytest.raises(ContainerClusterError, match=r"took longer than 2 s: sh -c mount .*Run it again"):
        kind_node_image._run([*kind_node_image._APART, "sh", "-c", busy], timeout=2)

    deadline = time.monotonic() + PATIENCE
    while _running(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _running(tmp_path) == []
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


def _running(folder: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found.append((process / "cmdline").read_bytes().decode(errors="replace"))
    return [each for each in found if str(folder) in each]


def test_a_folder_goes_although_somebody_still_writes_into_it(tmp_path: Path) -> None:
    writes = "import pathlib, sys, time\nfor number in range(50):\n  p = pathlib.Path(sys.argv[1], str(number))\n"
    writes += "  p.parent.exists() and p.mkdir()\n  time.sleep(0.01)\n"
    with kind_node_image._scratch(tmp_path) as scratch:
        writer = subprocess.Popen([sys.executable, "-c", writes, str(scratch)], stderr=subprocess.DEVNULL)
        while not list(scratch.iterdir()):
            assert writer.poll() is None

    writer.wait(PATIENCE)
    assert list(tmp_path.iterdir()) == []
