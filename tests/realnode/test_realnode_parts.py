"""The parts of real nodes, without starting one: preflight, addresses, images, relay, control groups, options."""

import errno
import hashlib
import io
import json
import os
import socket
import tarfile
import tomllib
from pathlib import Path

import pytest

from conformance.clusters import inotify
from conformance.clusters.embedded import EmbeddedSpec
from conformance.clusters.embedded.real import (
    RealNodesUnavailable,
    images,
    interpreter,
    joining,
    network,
    nodes,
    placing,
    preflight,
    settings,
)
from conformance.realnode import cgroups, relay, size
from conformance.realnode.orders import Orders

# As /proc/net/route writes it: 0.0.0.0/0, 198.18.0.0/16 and 10.200.0.0/13.
ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth1\t000012C6\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
eth1\t0000C80A\t00000000\t0001\t0\t0\t0\t0000F8FF\t0\t0\t0
"""
EVERYTHING = "Iface\tDestination\n" + "e\t000012C6\t0\t1\t0\t0\t0\t0000FEFF\t0\t0\t0\n"


def test_addresses_are_not_taken_where_a_route_of_the_machine_leads(tmp_path: Path) -> None:
    (tmp_path / "route").write_text(ROUTES)
    cables: list[network.Cable] = []

    for _ in range(60):
        cables.append(network.free_cable(cables, tmp_path / "route"))

    assert all(cable.host.startswith("198.19.") and cable.node.startswith("198.19.") for cable in cables)
    assert not [cable for cable in cables if 200 <= int(cable.pods.split(".")[1]) < 208]
    assert len({cable.host for cable in cables}) == len({cable.pods for cable in cables}) == len(cables)


def test_a_machine_that_routes_the_whole_range_is_told(tmp_path: Path) -> None:
    (tmp_path / "route").write_text(EVERYTHING)

    with pytest.raises(network.NoAddress, match=r"198\.18\.0\.0/15.*ip route"):
        network.free_cable((), tmp_path / "route")


def test_a_machine_without_anything_is_told_everything_and_the_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(preflight, "_find", lambda name, assets: None)
    monkeypatch.setattr(preflight, "_cni_folder", lambda assets: None)

    with pytest.raises(RealNodesUnavailable) as refused:
        preflight.required()

    text = str(refused.value)
    assert "you are user 1000, not root: run the same command with sudo" in text
    for name in (*preflight.PROGRAMS, *preflight.CNI_PLUGINS):
        assert name in text
    assert "apt-get install -y --no-install-recommends containerd containernetworking-plugins iproute2" in text
    assert "Without --gpu-real-nodes" in text


def test_a_container_without_privilege_is_told_so(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nCapEff:\t00000000a80425fb\n")  # Docker's default capabilities

    assert not preflight.has_capability(preflight.SYS_ADMIN, status)


@pytest.mark.parametrize(
    ("version", "have", "said"),
    [
        (0, set(), "no control groups are mounted"),
        (1, {"cpu", "cpuacct", "cpuset", "devices", "freezer", "pids"}, "control groups of version 1 lack memory"),
        (2, {"cpu", "memory", "pids", "io"}, "control groups of version 2 lack cpuset"),
        (2, {"cpu", "cpuset", "memory", "pids"}, ""),
    ],
)
def test_what_control_groups_lack_is_named(version: int, have: set[str], said: str) -> None:
    assert [what for what, _ in preflight.cgroup_lacks(version, have)] == ([said] if said else [])


def test_inotify_instances_that_run_out_are_counted_and_told() -> None:
    left = 5

    def instance() -> int:
        nonlocal left
        if not left:
            raise OSError(errno.EMFILE, "inotify_init1")
        left -= 1
        return os.open(os.devnull, os.O_RDONLY)

    assert inotify.shortage(5, instance) == ""
    left = 5
    assert inotify.shortage(6, instance).startswith("5 inotify instances are left to you, 6 are needed (fs.inotify.max")


def test_a_kernel_that_knows_no_inotify_instances_is_not_blamed_for_too_few() -> None:
    def refused() -> int:
        raise OSError(errno.ENOSYS, "inotify_init1")

    assert inotify.shortage(6, refused) == ""


def test_programs_and_plugins_of_an_assets_folder_come_first(tmp_path: Path) -> None:
    (tmp_path / "cni").mkdir()
    for name in ("containerd", *(f"cni/{plugin}" for plugin in preflight.CNI_PLUGINS)):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)

    assert preflight._find("containerd", tmp_path) == tmp_path / "containerd"
    assert preflight._cni_folder(tmp_path) == tmp_path / "cni"


@pytest.mark.parametrize(
    ("said", "version", "cdi"),
    [
        ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u2", "1.6.20", False),
        ("containerd github.com/containerd/containerd v1.7.27 05044ec0a9a75232cad458027ca8", "1.7.27", True),
        ("containerd github.com/containerd/containerd/v2 2.2.9 ", "2.2.9", True),
    ],
)
def test_whether_containerd_gives_devices_by_cdi_is_what_it_says_of_itself(
    tmp_path: Path, said: str, version: str, cdi: bool
) -> None:
    program = tmp_path / "containerd"
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)

    tools = preflight.Tools({}, tmp_path, preflight.containerd_version(program))

    assert (tools.containerd, tools.cdi) == (version, cdi)


def test_a_containerd_that_does_not_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "containerd").write_text("#!/bin/sh\necho 'no such library' >&2; exit 127\n")
    (tmp_path / "containerd").chmod(0o755)

    with pytest.raises(RealNodesUnavailable, match=r"--version says no version \(no such library\): apt-get install"):
        preflight.containerd_version(tmp_path / "containerd")


@pytest.mark.parametrize(("capabilities", "restricted"), [("000001fffeffffff", True), ("000001ffffffffff", False)])
def test_scores_are_left_alone_only_where_root_may_not_lower_them(
    tmp_path: Path, capabilities: str, restricted: bool
) -> None:
    (tmp_path / "status").write_text(f"CapEff:\t{capabilities}\n")
    may = preflight.has_capability(preflight.SYS_RESOURCE, tmp_path / "status")

    written = tomllib.loads(settings.containerd(tmp_path, images.PAUSE, lowers_scores=may))

    assert written["plugins"]["io.containerd.grpc.v1.cri"]["restrict_oom_score_adj"] is restricted


@pytest.mark.parametrize("finds", [True, False])
def test_a_kubelet_measures_its_storage_unless_it_cannot_find_it(finds: bool) -> None:
    written = json.loads(settings.kubelet("group", "198.18.0.2", [], finds_storage=finds))

    assert written.get("localStorageCapacityIsolation", True) is finds


def test_what_the_kernel_refuses_is_named_with_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_tried", lambda command: "Unknown device type" if "bridge" in command else "")

    assert list(preflight._kernel_lacks()) == [
        *preflight.cgroup_lacks(cgroups.version(), preflight._controllers()),
        ("the kernel refuses network bridges (Unknown device type)", "try: modprobe bridge"),
    ]


@pytest.mark.parametrize("cdi", [False, True])
def test_the_device_plugin_names_devices_where_containerd_knows_them(tmp_path: Path, cdi: bool) -> None:
    tools = preflight.Tools({}, tmp_path, "2.2.9" if cdi else "1.6.20")
    place = placing.Place("gpu-1", node={"metadata": {"name": "gpu-1"}})

    command = nodes._agents(place, nodes.Parts(tools, tmp_path / "kubelet", tmp_path / "images.tar"))["device-plugin"]

    assert (f"--cdi={settings.CDI}" in command) is cdi
    assert f"--claims={settings.CDI}" in command


def test_the_archive_is_an_oci_layout_whose_digests_are_right(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text("print('hello')\n")
    names = {images.PAUSE: ("registry.example.com/pause@sha256:" + "0" * 64,)}

    images.write(tmp_path / "images.tar", {"usr/local/bin/hello.py": tmp_path / "hello.py"}, names)

    with tarfile.open(tmp_path / "images.tar") as tar:
        read = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    blobs = {name.rpartition("/")[2]: content for name, content in read.items() if name.startswith("blobs/")}
    assert all(hashlib.sha256(content).hexdigest() == digest for digest, content in blobs.items())
    entries = json.loads(read["index.json"])["manifests"]
    named = {entry["annotations"]["io.containerd.image.name"]: entry["digest"] for entry in entries}
    assert set(named) == {images.PAUSE, images.PROBE, images.STAND_IN, *names[images.PAUSE]}
    assert named[images.PAUSE] == named[names[images.PAUSE][0]] != named[images.PROBE]
    manifest = json.loads(blobs[named[images.PAUSE].partition(":")[2]])
    layer = blobs[manifest["layers"][0]["digest"].partition(":")[2]]
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        assert {"tmp", "usr/local/bin", "usr/local/bin/hello.py"} <= set(tar.getnames())
        assert tar.getmember("tmp").mode == 0o1777


def test_an_archive_is_made_once_and_again_when_a_file_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_text("one")
    monkeypatch.setattr(interpreter, "files", lambda: {"program": program})

    first = images.archive(tmp_path / "cache", {})
    made = first.stat().st_ino
    assert images.archive(tmp_path / "cache", {}).stat().st_ino == made
    program.write_text("another")

    assert images.archive(tmp_path / "cache", {}) != first
    assert not list((tmp_path / "cache").glob(".making-*"))


def test_the_names_of_the_labs_images_have_a_digest_and_no_tag() -> None:
    for names in joining.lab_names().values():
        for name in names:
            repository, _, digest = name.partition("@")
            assert digest.startswith("sha256:")
            assert ":" not in repository


def test_a_relay_carries_both_ways_until_one_side_ends(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as far, relay.unix_listener(str(tmp_path / "sock")) as near:
        relay.serve(near, relay.to_port("127.0.0.1", far.getsockname()[1]))
        with relay.to_unix(str(tmp_path / "sock"))() as one, far.accept()[0] as other:
            one.sendall(b"there")
            assert other.recv(16) == b"there"
            other.sendall(b"back")
            assert one.recv(16) == b"back"
            one.shutdown(socket.SHUT_WR)
            assert other.recv(16) == b""


def test_a_relay_without_a_far_end_closes_the_near_one(tmp_path: Path) -> None:
    with relay.unix_listener(str(tmp_path / "sock")) as near:
        relay.serve(near, relay.to_unix(str(tmp_path / "nobody")))
        with relay.to_unix(str(tmp_path / "sock"))() as one:
            assert one.recv(16) == b""


def test_the_version_of_control_groups_is_that_which_has_the_controllers(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n")
    assert (cgroups.version(mounts), len(cgroups.hierarchies(mounts))) == (1, 2)
    mounts.write_text("proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n")
    assert (cgroups.version(mounts), cgroups.hierarchies(mounts)) == (2, [Path("/sys/fs/cgroup")])
    mounts.write_text("proc /proc proc rw 0 0\n")
    assert cgroups.version(mounts) == 0


def test_a_node_counts_for_more_than_one_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Containers that ask for next to nothing start in its group: on a busy machine it would get next to nothing."""
    monkeypatch.setattr(cgroups, "hierarchies", lambda: [tmp_path])
    monkeypatch.setattr(cgroups, "version", lambda: 1)
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "cpu.shares").write_text("1024")

    cgroups.make("node")

    assert (tmp_path / "node" / "cpu.shares").read_text() == "10240"
    assert not (tmp_path / "node" / "cpu.weight").exists()


def test_a_control_group_goes_with_all_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "hierarchies", lambda: [tmp_path / "cpu", tmp_path / "memory"])
    for root in ("cpu", "memory"):
        (tmp_path / root / "ours" / "kubepods" / "pod1").mkdir(parents=True)
        (tmp_path / root / "others").mkdir()

    assert cgroups.remove("ours") == []

    assert {path.name for path in tmp_path.glob("*/*")} == {"others"}


def test_real_nodes_with_gpus_are_the_last_of_each_pool() -> None:
    def named(topology: str, count: int) -> list[str]:
        return [
            place.name for place in placing.places(EmbeddedSpec(topology=topology, real_nodes=count, real_gpus=True))
        ]

    assert named("guide", 3) == ["t4-inference-3", "a100-training-3", "h100-training-2"]
    assert "t4-inference-2" in named("guide", 10)
    assert named("single", 0) == []
    with pytest.raises(placing.NoPlace, match="topology single has 1 nodes with GPUs"):
        named("single", 2)


def test_a_place_keeps_what_the_pool_says_and_nobody_plays_it() -> None:
    (place,) = placing.places(EmbeddedSpec(topology="guide", real_nodes=1, real_gpus=True))

    assert place.node is not None
    assert place.node["metadata"]["labels"]["eks.amazonaws.com/nodegroup"] == "t4-inference"
    assert list(place.node["metadata"]["annotations"]) == ["gpu-conformance.io/hardware"]
    assert "providerID" not in place.node["spec"]
    assert (place.processors, place.memory_kib, place.pods) == (48, 192 << 20, 110)


def test_a_place_offers_no_gpus_before_a_plugin_has_come_to_its_kubelet() -> None:
    """A kubelet starts pods that ask for a resource that it finds in its object and knows no plugin of, without any."""
    (place,) = placing.places(EmbeddedSpec(topology="single", real_nodes=1, real_gpus=True))

    assert place.node is not None
    assert place.offers == "nvidia.com/gpu"
    assert place.offers not in {**place.node["status"]["capacity"], **place.node["status"]["allocatable"]}
    assert place.node["status"]["allocatable"]["cpu"] == "96"


def test_the_other_nodes_of_a_pool_say_the_kernel_that_its_real_node_has() -> None:
    found = placing.instead(EmbeddedSpec(topology="guide", real_nodes=1, real_gpus=True))

    assert set(found) == {"t4-inference-1", "t4-inference-2", "t4-inference-3"}
    assert found["t4-inference-1"]["status"]["nodeInfo"]["kernelVersion"] == os.uname().release
    assert placing.instead(EmbeddedSpec(topology="guide")) == {}


def test_a_node_is_shown_as_many_processors_as_it_shall_have(tmp_path: Path) -> None:
    shown = dict(size.made(tmp_path / "size", 6, 1 << 20))

    assert "MemTotal: 1048576 kB" in shown[Path("/proc/meminfo")].read_text()
    cores = list(shown[Path("/sys/devices/system/node")].glob("node0/cpu*[0-9]"))
    assert len(cores) == 6
    # What the kubelet reads from the names are processors of this machine.
    assert {int(core.name.removeprefix("cpu")) for core in cores} <= os.sched_getaffinity(0)
    assert len({(core / "topology" / "core_id").read_text() for core in cores}) == 6


def test_orders_are_read_as_they_were_written(tmp_path: Path) -> None:
    orders = Orders(
        name="real-1", folder=str(tmp_path), link="gpc1", host_address="198.18.0.1/30", node_address="198.18.0.2/30",
        pods="10.192.1.0/24", bridge="cni0", service_address="10.96.0.1", service_port=443, api_port=6443,
        cgroup="gpu-conformance-1", covered=["/run"], kept=[], tunables={"kernel/panic": "10"},
        containerd=["containerd"], containerd_socket="/run/c.sock", import_images=["ctr"], kubelet=["kubelet"],
    )  # fmt: skip

    orders.write()

    assert Orders.read(tmp_path) == orders
