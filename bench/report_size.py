"""How large the reports of a big cluster with one fault everywhere are: GPU nodes without labels and taints, in use.

Usage: python bench/report_size.py [nodes] [pods]      Exit code 1 when a report is beyond the limit.
"""

import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.facts.snapshot import Snapshot, save
from conformance.report.formats import html
from conformance.report.reading import read

LIMIT = 4_000_000
# Of the page that people open: bytes, and seconds to write it.
PAGE_LIMIT, PAGE_SECONDS = 3_000_000, 3.0
POOL_SELECTOR = {"eks.amazonaws.com/nodegroup": "t4-inference"}


def unlabelled_cluster(nodes: int, pods: int) -> Iterator[dict[str, Any]]:
    """GPU nodes with nothing but the cloud's label for their pool, and pods spread over them."""
    for number in range(nodes):
        yield node(f"gpu-node-{number:05}")
    for number in range(pods):
        yield pod(f"worker-{number:05}", f"team-{number % 40:02}", f"gpu-node-{number % nodes:05}")


def node(name: str) -> dict[str, Any]:
    """A ready node of the guide's pool of T4s."""
    amounts = {"cpu": "48", "memory": "192Gi", "pods": "110", "nvidia.com/gpu": "4"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": dict(POOL_SELECTOR)},
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"kubeletVersion": "v1.35.1"},
        },
    }


def pod(name: str, namespace: str, on: str) -> dict[str, Any]:
    """A running pod without a request for GPUs."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": on, "containers": [{"name": "main", "image": "registry.example/app:1"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def audit(objects: Iterator[dict[str, Any]], folder: Path) -> str:
    """Audit a snapshot of the objects in this process, its reports in ``folder``; what pytest printed."""
    file = folder / "snapshot.json.gz"
    save(Snapshot.of(objects), file)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        chosen = ["--cluster", f"snapshot:{file}", "--gpu-reference", "corrected-guide", "--gpu-report", str(folder)]
        pytest.main(["-p", "no:cacheprovider", *chosen])
    return said.getvalue()


def broken_subjects(report: Path) -> int:
    """How many broken subjects the report names."""
    verdicts = json.loads(report.read_text())["requirements"]
    return sum(len(group["subjects"]) for each in verdicts for group in each["findings"] if not group["ok"])


def page(folder: Path) -> tuple[int, float]:
    """The size of the HTML page of the report in the folder, in bytes, and the seconds that writing it took."""
    report = read(folder)
    before = time.monotonic()
    text = html.render(report)
    took = time.monotonic() - before
    (folder / "report.html").write_text(text, encoding="utf-8")
    return len(text.encode()), took


def main() -> int:
    """Audit, print the sizes; 1 when one is beyond the limit or a broken subject is not in the report."""
    nodes, pods = (int(each) for each in sys.argv[1:3]) if len(sys.argv) > 2 else (5000, 20_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        printed = audit(unlabelled_cluster(nodes, pods), folder)
        sizes = {each: (folder / each).stat().st_size for each in ("report.json", "events.ndjson", "junit.xml")}
        page_size, page_seconds = page(folder)
        named = broken_subjects(folder / "report.json")
        counted = sum(each["broken"] for each in json.loads((folder / "report.json").read_text())["requirements"])
    print(printed[-1500:])
    for each, size in sizes.items():
        print(f"{each}: {size / 1e6:.2f} MB")
    print(f"report.html: {page_size / 1e6:.2f} MB, written in {page_seconds:.2f} s")
    print(f"terminal: {len(printed) / 1e3:.0f} kB")
    print(f"{named} of {counted} broken subjects are named, {sizes['report.json'] / named:.0f} bytes each")
    too_large = max(sizes["report.json"], sizes["events.ndjson"]) > LIMIT or page_size > PAGE_LIMIT
    return int(named != counted or too_large or page_seconds > PAGE_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
