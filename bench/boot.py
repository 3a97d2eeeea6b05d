"""How fast the embedded cluster starts, beside ``kwokctl create cluster --runtime binary --wait``, same binaries.

    python bench/boot.py [BINARIES_FOLDER] [--rounds 5] [--kwokctl PATH] [--topology single]

Ours: from the start of a fresh Python process to the first pod that the scheduler has bound to a simulated node.
Theirs: from the start of kwokctl to its return; it has neither node nor pod then. Rounds alternate, so that a busy
moment hits both, and the minimum of each counts. The seed is made before the clock starts, as kwokctl's downloads are.
Ends with 1 when the ratio is above the target.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TARGET = 0.6
_GIVE_UP = 300.0


def first_pod(assets: str, topology: str, began: float) -> dict[str, Any]:
    """Start a cluster, wait for its first bound pod: seconds since ``began`` (time.time), MiB of memory by process."""
    from conformance.clusters.embedded import EmbeddedSpec, start

    pods = "/api/v1/namespaces/default/pods"
    container = {"name": "main", "image": "registry.k8s.io/pause:3.10"}
    with start(EmbeddedSpec(topology=topology, assets=Path(assets))) as cluster, cluster.client() as client:
        started = time.time() - began
        client.create(pods, {"metadata": {"name": "first"}, "spec": {"containers": [container]}})
        while not client.get(f"{pods}/first")["spec"].get("nodeName"):
            time.sleep(0.005)
        bound = time.time() - began
        pids = cluster.processes.pids if cluster.processes else {}
        return {"started": started, "bound": bound, "memory": {name: _resident(pid) for name, pid in pids.items()}}


def report_first_pod(assets: str, topology: str, began: str) -> None:
    """Print what first_pod() measured, for the process that started this one."""
    print(json.dumps(first_pod(assets, topology, float(began))))


def _resident(pid: int) -> int:
    """Resident memory in MiB (Linux), else 0."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def ours(assets: str, topology: str) -> dict[str, Any]:
    """One start in a process of its own."""
    code = "import sys; from bench import boot; boot.report_first_pod(*sys.argv[1:])"
    command = [sys.executable, "-c", code, assets, topology, str(time.time())]
    home = Path(__file__).resolve().parent.parent
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_GIVE_UP, cwd=home)
    result: dict[str, Any] = json.loads(ran.stdout)
    return result


def theirs(assets: str, kwokctl: str) -> float:
    """Seconds that kwokctl takes to create a cluster and to see it ready."""
    with tempfile.TemporaryDirectory(prefix="bench-kwokctl-") as folder:
        environment = {**os.environ, "KWOK_WORKDIR": folder, "HOME": folder, "KUBECONFIG": f"{folder}/kubeconfig"}
        binaries = [
            f"--{flag}-binary={assets}/{name}"
            for flag, name in (
                ("etcd", "etcd"),
                ("kube-apiserver", "kube-apiserver"),
                ("kube-controller-manager", "kube-controller-manager"),
                ("kube-scheduler", "kube-scheduler"),
                ("kwok-controller", "kwok"),
            )
        ]
        create = [kwokctl, "create", "cluster", "--name", "bench", "--runtime", "binary", "--wait", "120s", *binaries]
        began = time.time()
        try:
            subprocess.run(create, check=True, capture_output=True, env=environment, timeout=_GIVE_UP)
            return time.time() - began
        finally:
            delete = [kwokctl, "delete", "cluster", "--name", "bench"]
            subprocess.run(delete, check=False, capture_output=True, env=environment, timeout=_GIVE_UP)


def main() -> int:
    """Measure and print; the exit code says whether the target was met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", nargs="?", help="folder with etcd, kube-apiserver, ..., kwok (default: our cache)")
    parser.add_argument("--kwokctl", help="default: the one in that folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--topology", default="single")
    chosen = parser.parse_args()
    if chosen.assets:
        return measure(chosen, str(Path(chosen.assets).absolute()))
    with tempfile.TemporaryDirectory(prefix="bench-assets-") as folder:
        gather(Path(folder))
        return measure(chosen, folder)


def gather(folder: Path) -> None:
    """Link the binaries that an embedded cluster uses, and kwokctl, into one folder."""
    from conformance.clusters.embedded.binaries import CONTROL_PLANE, resolve

    for name, binary in resolve("1.36", [*CONTROL_PLANE, "kwokctl"]).items():
        (folder / name).symlink_to(binary)


def measure(chosen: argparse.Namespace, assets: str) -> int:
    """Run the rounds and print what they took."""
    kwokctl = chosen.kwokctl or f"{assets}/kwokctl"

    ours(assets, chosen.topology)  # makes the seed and warms the page cache
    rounds = []
    for number in range(1, chosen.rounds + 1):
        mine, other = ours(assets, chosen.topology), theirs(assets, kwokctl)
        rounds.append((mine, other))
        told = f"started {mine['started']:.2f} s, first pod bound {mine['bound']:.2f} s"
        print(f"round {number}: ours {told}; kwokctl {other:.2f} s", flush=True)
    bound, waited = min(mine["bound"] for mine, _ in rounds), min(other for _, other in rounds)
    memory = rounds[-1][0]["memory"]
    each = ", ".join(f"{name} {mib}" for name, mib in memory.items())
    print(f"memory of ours in MiB: {each}; {sum(memory.values())} in all")
    print(f"minimum: ours {bound:.2f} s, kwokctl {waited:.2f} s, ratio {bound / waited:.2f} (target {TARGET})")
    return 0 if bound <= TARGET * waited else 1


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    sys.exit(main())
