"""What a run before an upgrade costs on a fleet without room: every GPU taken, by pods of five priorities.

Usage: python bench/pre_upgrade.py [nodes]      Exit code 1 when 1,000 nodes took more than 15 s of CPU.
Each node that is away makes eight pods look for room everywhere; most of them evict others, which look for room then.
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
_POLICY = {
    "apiVersion": "nvidia.com/v1",
    "kind": "ClusterPolicy",
    "metadata": {"name": "cluster-policy"},
    "spec": {"driver": {"version": "570.172.08", "upgradePolicy": {"autoUpgrade": True, "maxParallelUpgrades": 1}}},
}


def crowded(nodes: int) -> Iterator[dict[str, Any]]:
    """The fleet of bench/snapshots.py with pods of several priorities, nodes upgraded one after the other."""
    yield _POLICY
    for at, each in enumerate(fleet(nodes)):
        if each["spec"].get("nodeName"):
            each["spec"]["priority"] = 100 * (at % _PRIORITIES)
            each["metadata"]["ownerReferences"][0]["controller"] = True
        yield each


def main() -> int:
    """Print what the run took and foretold."""
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else NODES
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "fleet.json.gz"
        snapshot.save(snapshot.Snapshot.of(crowded(nodes)), file)
        chosen = ["--cluster", f"snapshot:{file}", "--gpu-pre-upgrade", TARGET, "--gpu-report", name]
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen], capture_output=True, text=True
        )
        report = Path(name) / "report.json"
        if not report.exists():
            sys.exit(f"the run wrote no report:\n{ran.stdout[-1500:]}{ran.stderr[-1500:]}")
        capacity = json.loads(report.read_text())["upgrade"]["capacity"]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime
    foretold = ", ".join(f"{capacity[each]} {each}" for each in ("pods", "moves", "preempts", "waits", "evicted"))
    print(f"{nodes} nodes: {foretold}; {used.ru_maxrss / 1024:.0f} MiB")
    print(f"{seconds:.1f} s of CPU, reading included (limit {LIMIT_SECONDS:.0f} for {NODES} nodes)")
    return int(nodes == NODES and seconds > LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
