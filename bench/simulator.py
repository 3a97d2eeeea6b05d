"""Whether the simulator holds a large fleet: a GPU stack on every node of two fleets, and pods that want its GPUs.

    python bench/simulator.py [--stack plugin|operator] [--nodes 5000] [--beside 500] [--pods 500]

On bare machines, one after the other on a cluster of its own for each size: from the installation of NVIDIA's device
plugin (one pod for each node) or of the GPU Operator (nine pods for each node, driver and feature discovery among them)
until every node offers its GPUs, then from the creation of pods with one GPU each until all of them run. The control
plane does most of that work, and its share grows with the fleet as well; what counts is that a node costs no more in a
large fleet than in a small one. Ends with 1 when the ratio is above the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

LIMIT = 2.0
GPUS = 4
_GIVE_UP = 3600.0
_PODS = "/api/v1/namespaces/default/pods"


class Taken(NamedTuple):
    """What a fleet took: seconds, and MiB of the simulator's memory afterwards."""

    started: float
    offered: float
    running: float
    memory: int


def topology(nodes: int) -> dict[str, Any]:
    """Bare machines with four GPUs each, labelled as feature discovery would, which the plugin's chart looks for."""
    gpu = {
        "product": "NVIDIA-A100-SXM4-40GB", "name": "NVIDIA A100-SXM4-40GB", "family": "ampere", "compute": "8.0",
        "count": GPUS, "memory_mib": 40960, "driver": "580.95.05", "brought_by": "stack", "mig_capable": True,
    }  # fmt: skip
    pool = {"name": "gpu", "count": nodes, "cpu": "64", "memory": "512Gi", "gpu": gpu}
    labelled = {**pool, "labels": {"nvidia.com/gpu.present": "true"}}
    return {"name": "bench", "description": f"{nodes} bare machines", "pools": [labelled]}


def measure(nodes: int, pods: int, stack: str) -> Taken:
    """Start a fleet, install a stack, run pods."""
    from conformance.clusters.embedded import EmbeddedSpec, start
    from conformance.clusters.embedded.simulated_installer import SimulatedInstaller
    from conformance.deploy.helm.releases import OPERATOR, PLUGIN, Release
    from conformance.kube.timeouts import EMBEDDED

    release = {
        "plugin": Release("nvdp", PLUGIN, "", "0.20.0", PLUGIN, {"gfd": {"enabled": False}}),
        "operator": Release("gpu-operator", OPERATOR, "", "v26.7.0", "gpu-operator"),
    }[stack]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(topology(nodes), file)
        file.flush()
        began = time.monotonic()
        with start(EmbeddedSpec(topology=file.name)) as cluster, cluster.client() as client:
            started = time.monotonic()
            SimulatedInstaller().install(client, release, EMBEDDED)
            _wait(lambda: _offering(client), nodes, "nodes offer GPUs")
            offered = time.monotonic()
            for number in range(pods):
                client.create(_PODS, _pod(number))
            _wait(lambda: _running(client), pods, "pods run")
            running = time.monotonic()
            if cluster.processes is None:
                raise SystemExit("the cluster has no processes of its own")
            cluster.processes.check()  # takes in what the warden said meanwhile, such as process ids
            memory = _resident(cluster.processes.pids["simulator"])
            return Taken(started - began, offered - started, running - offered, memory)


def _pod(number: int) -> dict[str, Any]:
    container = {"name": "main", "image": "registry.k8s.io/pause:3.10", "resources": {"limits": {"nvidia.com/gpu": 1}}}
    return {"metadata": {"name": f"pod-{number}"}, "spec": {"containers": [container]}}


def _offering(client: Any) -> int:
    found = client.list("/api/v1/nodes")
    return sum(node["status"]["allocatable"].get("nvidia.com/gpu") == str(GPUS) for node in found)


def _running(client: Any) -> int:
    return sum(pod["status"].get("phase") == "Running" for pod in client.list(_PODS))


def _wait(count: Any, wanted: int, what: str) -> None:
    deadline, rest = time.monotonic() + _GIVE_UP, 0.5
    while (found := count()) < wanted:
        if time.monotonic() > deadline:
            raise SystemExit(f"after {_GIVE_UP:.0f} s {found} of {wanted} {what}")
        time.sleep(rest)
        # A look at thousands of nodes takes its share of the machine.
        rest = min(rest * 1.2, 10.0)


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def main() -> int:
    """Measure both fleets and print what they took; the exit code says whether the limit was kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stack", choices=("plugin", "operator"), default="plugin")
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--beside", type=int, default=500, help="nodes of the small fleet")
    parser.add_argument("--pods", type=int, default=500)
    chosen = parser.parse_args()
    os.environ.setdefault("GPU_CONFORMANCE_START_TIMEOUT", "900")
    each = []
    for nodes in (chosen.beside, chosen.nodes):
        taken = measure(nodes, chosen.pods, chosen.stack)
        each.append(taken.offered / nodes)
        print(
            f"{nodes} nodes: up in {taken.started:.0f} s, all offer GPUs after {taken.offered:.0f} s "
            f"({1000 * each[-1]:.0f} ms a node), {chosen.pods} pods run after {taken.running:.0f} s; "
            f"simulator {taken.memory} MiB",
            flush=True,
        )
    ratio = each[1] / each[0]
    print(f"a node of the large fleet takes {ratio:.2f} times as long as one of the small (limit {LIMIT})")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    sys.exit(main())
