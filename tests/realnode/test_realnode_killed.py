"""Real nodes end with whoever started them, however that ends: no process, mount, cable, group or socket stays."""

import contextlib
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conformance.clusters.embedded import state
from conformance.realnode import cgroups
from conformance.realnode.orders import API_SOCKET, INSIDE

pytestmark = pytest.mark.cluster

OWNER = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from conformance.clusters.embedded import EmbeddedSpec, start
from conformance.clusters.embedded.real import nodes
nodes.secrets = SimpleNamespace(token_hex=lambda _: sys.argv[2])
spec = EmbeddedSpec(topology=None, real_nodes=2, simulator=False, state_dir=Path(sys.argv[1]))
with start(spec) as cluster, cluster.client() as client:
    for name in ("real-1", "real-2"):
        for number in (1, 2):
            client.create("/api/v1/namespaces/default/pods", {"metadata": {"name": f"{name}-{number}"}, "spec": {
                "nodeName": name, "tolerations": [{"operator": "Exists"}], "terminationGracePeriodSeconds": 30,
                "containers": [{"name": "main", "image": "localhost/gpu-conformance/pause:1"}]}})
    while any(pod["status"]["phase"] != "Running" for pod in client.list("/api/v1/namespaces/default/pods")):
        time.sleep(0.05)
    keepers = [cluster.processes.pids[name] for name in ("real-1", "real-2")]
    print(cluster.processes.warden.pid, *keepers, cluster.folder, flush=True)
    time.sleep(600)
"""


OF_OTHERS = ("veth", "br-", "docker", "gpucd")
"""How interfaces are named that tests/containers makes beside these: those of a node's cables and bridges are not."""
CABLE = "gpc"


@dataclass(frozen=True)
class Ours:
    """What tells a test's own nodes from those of others on the machine: the mark in their names, and their folder."""

    mark: str
    root: Path

    def start(self, **options: Any) -> subprocess.Popen[str]:
        """A process that has a cluster with two real nodes, of these."""
        command = [sys.executable, "-c", OWNER, str(self.root), self.mark]
        return subprocess.Popen(command, text=True, **options)

    def things(self) -> list[str]:
        """What the machine has of these nodes, or of no one that is known: counted before a cluster, and after it."""
        found, docker_has_containers, of_others = [], False, set()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                docker_has_containers |= "containerd-shim" in command and "-namespace moby " in command
                if self._is_of_a_node(process, command):
                    found.append(f"process {process.name} {command[:120]}")
                else:
                    of_others |= _sockets(process)
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        found += [f"mount {line}" for line in mounts if "/real-nodes/" in line or f" {INSIDE}" in line]
        interfaces = (path.name for path in Path("/sys/class/net").iterdir())
        theirs = tuple(name for name in interfaces if not name.startswith(OF_OTHERS))
        cables = f"{CABLE}{self.mark}"
        found += [f"network {name}" for name in theirs if name.startswith(cables) or not name.startswith(CABLE)]
        # Number, references, protocol, flags, type, state, inode, and the path of those that have one.
        sockets = (line.split(maxsplit=7) for line in Path("/proc/net/unix").read_text().splitlines()[1:])
        named = (socket[6:] for socket in sockets if len(socket) == 8 and socket[6] not in of_others)
        found += [f"socket {inode} {path}" for inode, path in named if API_SOCKET in path or str(INSIDE) in path]
        groups = (path for root in cgroups.hierarchies() for path in root.glob(f"gpu-conformance-{self.mark}-*"))
        found += [f"control group {path}" for path in groups]
        fixed = [INSIDE, *Path("/var/lib/kubelet/device-plugins").glob("*.sock"), *Path("/run/netns").glob("cni-*")]
        if (
            not docker_has_containers
        ):  # those of tests/containers, which run beside these, have their sockets there, too
            fixed += Path("/run/containerd").glob("s/*")
        return found + [f"file {path}" for path in fixed if path.exists()]

    def _is_of_a_node(self, process: Path, command: str) -> bool:
        """Programs of a node name its folder, or have it as their home; containers have its control group."""
        homes = [f"{name}={self.root}/".encode() for name in ("HOME", "TMPDIR")]
        variables = (process / "environ").read_bytes().split(b"\0")
        at_home = any(each.startswith(tuple(homes)) and b"/real-nodes/" in each for each in variables)
        inside = f"/gpu-conformance-{self.mark}-" in (process / "cgroup").read_text()
        return inside or at_home or (f"{self.root}/" in command and "/real-nodes/" in command)


def _sockets(process: Path) -> set[str]:
    """The inodes of a process's sockets."""
    found = set()
    for descriptor in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            kind, _, inode = str(descriptor.readlink()).partition(":")
            if kind == "socket":
                found.add(inode.strip("[]"))
    return found


@dataclass
class Running:
    """A cluster of another process: who owns it, its warden, the keepers of its nodes, its state folder."""

    owner: subprocess.Popen
    warden: int
    keepers: list[int]
    folder: Path


@pytest.fixture
def ours(machine: None, tmp_path: Path) -> Ours:
    return Ours(secrets.token_hex(4), tmp_path)


@pytest.fixture
def before(ours: Ours) -> list[str]:
    return ours.things()


@pytest.fixture
def running(ours: Ours, before: list[str]) -> Iterator[Running]:
    owner = ours.start(stdout=subprocess.PIPE)
    assert owner.stdout is not None
    warden, *keepers, folder = owner.stdout.readline().split()
    yield Running(owner, int(warden), [int(keeper) for keeper in keepers], Path(folder))
    owner.kill()
    owner.wait()
    owner.stdout.close()


def eventually(claim: Callable[[], bool], seconds: float = 90.0) -> bool:
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def new(ours: Ours, before: list[str]) -> list[str]:
    """What is there that was not there before."""
    return sorted(set(ours.things()) - set(before))


def test_a_running_node_is_seen_by_what_is_counted(ours: Ours, before: list[str], running: Running) -> None:
    """The count would be worth nothing if it did not see a node that runs."""
    found = [each.partition(" ")[0] for each in new(ours, before)]

    # Of each of two nodes: keeper, unshare, first process, containerd, kubelet, and two pods with a shim, a pause
    # container and their own one.
    assert found.count("process") >= 2 * (5 + 2 * 3)
    assert found.count("network") == 2
    assert found.count("socket") >= 2
    assert found.count("control") == 2 * len(cgroups.hierarchies())
    # Mounts and files in fixed places are the node's own from the beginning.
    assert not {"mount", "file"} & set(found)


@pytest.mark.parametrize(
    "victims",
    [("owner",), ("warden",), ("keepers",), ("owner", "warden"), ("warden", "keepers")],
    ids="-and-".join,
)
def test_nothing_is_left_when_one_of_them_is_killed(
    ours: Ours, before: list[str], running: Running, victims: tuple[str, ...]
) -> None:
    pids = {"owner": [running.owner.pid], "warden": [running.warden], "keepers": running.keepers}

    for victim in victims:
        for pid in pids[victim]:
            os.kill(pid, signal.SIGKILL)
    running.owner.kill()  # without warden or nodes it would notice only when it uses them
    running.owner.wait()

    def gone() -> bool:
        # A state folder whose owner and warden were killed goes at the next start, which looks like this.
        state.remove_abandoned(running.folder.parent)
        return not running.folder.exists() and not new(ours, before)

    assert eventually(gone), new(ours, before)


def descendants(of: int) -> list[int]:
    """The processes that a process has started, and that these have started."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    found = [of]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


@pytest.mark.kills_in(10)
def test_nothing_is_left_when_some_are_killed_at_any_moment(
    ours: Ours, before: list[str], kill: int, chance: random.Random
) -> None:
    """While the cluster starts, while its pods run, while it ends: the owner alone, or with some of its processes."""
    moment, ends, share = chance.uniform(0.2, 9.0), chance.random() < 0.3, chance.choice([0.0, 0.0, 0.3, 1.0])
    owner = ours.start(stdout=subprocess.DEVNULL)
    time.sleep(moment)
    if ends:
        owner.send_signal(signal.SIGINT)
        time.sleep(chance.uniform(0.0, 1.5))
    others = [pid for pid in descendants(owner.pid) if chance.random() < share]
    owner.kill()
    for pid in others:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    owner.wait()

    def gone() -> bool:
        state.remove_abandoned(ours.root)
        folders = [path for path in ours.root.glob("gpu-conformance-*") if "-new-" not in path.name]
        return not folders and not new(ours, before)

    assert eventually(gone), (moment, ends, share, new(ours, before))
