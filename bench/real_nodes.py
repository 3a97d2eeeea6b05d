"""What a node with real containers costs: the start beside a simulated fleet alone, a probe pod, memory.

    python bench/real_nodes.py [--rounds 3] [--topology single]

Both starts are in this process, in turn, so that a busy moment hits both; the minimum of each counts. The probe pod is
from its creation to its result, read from its log, and like those of the suites without a token. Memory is what the
node's processes have for themselves (PSS), without those of its pods. Beside it stands how long a plain loop takes, by
which seconds of one machine are told from those of another. Ends with 1 when a start takes more than three times the
other, or a probe more than two seconds.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformance.kube.client import Client

MOST_TIMES, MOST_SECONDS = 3.0, 2.0
PODS = "/api/v1/namespaces/default/pods"
NODE = "real-1"


def started(topology: str, real_nodes: int, *, look: bool = False) -> tuple[float, list[float], dict[str, int]]:
    """Seconds of a start; with ``look`` also those of three probe pods, and MiB by program of the node."""
    from conformance.clusters.embedded import EmbeddedSpec, start

    began = time.monotonic()
    with start(EmbeddedSpec(topology=topology, real_nodes=real_nodes)) as cluster, cluster.client() as client:
        seconds = time.monotonic() - began
        if not look:
            return seconds, [], {}
        return seconds, [probed(client, f"probe-{number}") for number in range(3)], memory()


def probed(client: Client, name: str) -> float:
    """Seconds from the creation of a pod to what it printed."""
    container = {
        "name": "main",
        "image": "localhost/gpu-conformance/python:1",
        "command": ["python3", "-c", "print('result')"],
    }
    spec = {
        "nodeName": NODE,
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "tolerations": [{"operator": "Exists"}],
    }
    began = time.monotonic()
    client.create(PODS, {"metadata": {"name": name}, "spec": {**spec, "containers": [container]}})
    while not ended(client.get(f"{PODS}/{name}")["status"]):
        time.sleep(0.02)
    if b"result" not in client.request("GET", f"{PODS}/{name}/log"):
        raise RuntimeError(f"pod {name} printed no result")
    return time.monotonic() - began


def ended(status: dict[str, Any]) -> bool:
    """Whether a probe's result counts, as the lab has it (conformance/lab/probe_results.py)."""
    states = [each["state"] for each in status.get("containerStatuses") or ()]
    return status["phase"] in ("Succeeded", "Failed") or any("terminated" in each for each in states)


def loop() -> float:
    """Seconds of the fastest of five loops of ten million additions."""
    took = []
    for _ in range(5):
        began, total = time.perf_counter(), 0
        for number in range(10_000_000):
            total += number
        took.append(time.perf_counter() - began)
    return min(took)


def memory() -> dict[str, int]:
    """MiB of each program of real nodes on this machine, proportional where pages are shared."""
    found: dict[str, int] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, StopIteration):
            command = (process / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            if "/real-nodes/" in command or "/run/gpu-conformance/" in command:
                lines = (process / "smaps_rollup").read_text().splitlines()
                kib = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
                name = (process / "comm").read_text().strip()
                found[name] = found.get(name, 0) + kib // 1024
    return found


def main() -> int:
    """Measure and print; the exit code says whether the targets were met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--topology", default="single")
    chosen = parser.parse_args()
    started(chosen.topology, 1)  # the seed and the images are made, and everything is imported
    alone = min(started(chosen.topology, 0)[0] for _ in range(chosen.rounds))
    rounds = [started(chosen.topology, 1, look=True) for _ in range(chosen.rounds)]
    beside = min(seconds for seconds, _, _ in rounds)
    probe = sorted(each for _, probes, _ in rounds for each in probes)[len(rounds) * 3 // 2]
    used = rounds[-1][2]
    print(f"ten million additions             {loop():6.2f} s")
    print(f"start with simulated nodes alone  {alone:6.2f} s")
    print(f"start with one real node          {beside:6.2f} s  {beside / alone:.2f} times (at most {MOST_TIMES})")
    print(f"probe pod, created to result      {probe:6.2f} s  median (at most {MOST_SECONDS})")
    print(f"memory of the node                {sum(used.values()):6d} MiB  {used}")
    return int(beside > MOST_TIMES * alone or probe > MOST_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
