"""What a run before an upgrade costs on a fleet without room: every GPU taken, by pods of five priorities.

Usage: python bench/pre_upgrade.py [nodes]      Exit code 1 when 1,000 nodes took more than 15 s of CPU after the lists:
more than a run that reads the same snapshot and judges one requirement on nodes.
Each node that is away makes eight pods look for room everywhere; most of them evict others, which look for room then.
Every GPU pod is of a service with four pods and a budget that lets one go, and four nodes may be away at once: so all
budgets of each node are evaluated jointly, over the nodes that share them, too.
"""

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from snapshots import fleet

from conformance.facts import snapshot

NODES, LIMIT_SECONDS, TARGET = 1000, 15.0, "580.95.05"
_PRIORITIES = 5
_PODS_OF_SERVICE = 4
_GPUS = 8
_POLICY = {
    "apiVersion": "nvidia.com/v1",
    "kind": "ClusterPolicy",
    "metadata": {"name": "cluster-policy"},
    "spec": {"driver": {"version": "570.172.08", "upgradePolicy": {"autoUpgrade": True, "maxParallelUpgrades": 4}}},
}


_REFERENCE = """
name: crowded
stack: {{kind: gpu-operator, version: v26.7.0}}
pools:
  - name: h100
    selector: {{nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3}}
    nodes: {nodes}
    gpu: {{model: h100, product: NVIDIA-H100-80GB-HBM3, count: 8, memory_mib: 81559}}
"""


def crowded(nodes: int) -> Iterator[dict[str, Any]]:
    """The fleet of bench/snapshots.py with pods of several priorities, each GPU pod of a service with a budget."""
    services = nodes * _GPUS // _PODS_OF_SERVICE
    yield _POLICY
    at = 0
    for each in fleet(nodes):
        if each["kind"] == "Pod" and each["spec"].get("nodeName"):
            each["spec"]["priority"] = 100 * (at % _PRIORITIES)
            each["metadata"]["ownerReferences"][0] |= {"controller": True, "kind": "StatefulSet"}
            each["metadata"]["namespace"] = "ml"
            each["metadata"]["labels"] = {"service": f"s{at % services}"}
            at += 1
        yield each
    for service in range(services):
        yield {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": f"s{service}", "namespace": "ml"},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"service": f"s{service}"}}},
            "status": {"disruptionsAllowed": 1, "currentHealthy": 6, "desiredHealthy": 5, "expectedPods": 6},
        }


def main() -> int:
    """Print what the run took and foretold."""
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else NODES
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "fleet.json.gz"
        snapshot.save(snapshot.Snapshot.of(crowded(nodes)), file)
        reference = Path(name) / "crowded.yaml"
        reference.write_text(_REFERENCE.format(nodes=nodes))
        chosen = ["--cluster", f"snapshot:{file}", "--gpu-reference", str(reference), "--gpu-report", name]
        reading, _ = _run(*chosen, "--gpu-requirement", "POOL-03")
        report = Path(name) / "report.json"
        report.unlink(missing_ok=True)
        seconds, said = _run(*chosen, "--gpu-pre-upgrade", TARGET)
        if not report.exists():
            sys.exit(f"the run wrote no report:\n{said}")
        told = json.loads(report.read_text())
        capacity = told["upgrade"]["capacity"]
        [budgets] = [each for each in told["requirements"] if each["requirement"] == "UPG-04"]
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    foretold = ", ".join(f"{capacity[each]} {each}" for each in ("pods", "moves", "preempts", "waits", "evicted"))
    print(f"UPG-04: {budgets['judged']} nodes judged, {budgets['broken']} with pods that budgets keep")
    print(f"{nodes} nodes: {foretold}; {memory:.0f} MiB")
    after = seconds - reading
    print(f"{seconds:.1f} s of CPU, {after:.1f} after the lists (limit {LIMIT_SECONDS:.0f} for {NODES} nodes)")
    return int(nodes == NODES and after > LIMIT_SECONDS)


def _run(*options: str) -> tuple[float, str]:
    """The seconds of CPU that a run took, and the last that it said."""
    before = _used()
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options], capture_output=True, text=True
    )
    return _used() - before, f"{ran.stdout[-1500:]}{ran.stderr[-1500:]}"


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
