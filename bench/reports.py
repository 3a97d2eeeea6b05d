"""How long each format of the report of a big cluster takes to write, and how much memory: 5,000 nodes with faults.

Usage: python bench/reports.py [nodes] [pods]
Exit code 1 when all formats together take more than 3 s of CPU or more than 300 MB, or the page more than 3 MB.
"""

import sys
import tempfile
import time
from pathlib import Path

import msgspec
from report_size import audit, unlabelled_cluster

from conformance.report.formats import FORMATS
from conformance.report.model import Report
from conformance.report.reading import read
from conformance.verdict import EvidenceKind

# Seconds of CPU and bytes for all formats, and bytes of the page that people open.
SECONDS, MEMORY, PAGE = 3.0, 300_000_000, 3_000_000


def peak() -> int:
    """The most memory that this process has had since it was last reset, in bytes (VmHWM of proc_pid_status(5))."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel tells no peak of memory: /proc/self/status has no VmHWM")


def reset_peak() -> None:
    """Let the peak begin at what the process has now (proc_pid_clear_refs(5))."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def on_hardware(report: Report) -> Report:
    """The report as if its evidence were of hardware, for the format that takes no other."""
    cluster = msgspec.structs.replace(report.cluster, evidence=EvidenceKind.HARDWARE, server_version="v1.36.0")
    return msgspec.structs.replace(report, cluster=cluster)


def written(name: str, report: Report) -> tuple[int, float, int]:
    """The bytes of a format, the seconds of CPU that it took, and the peak of memory meanwhile, in bytes."""
    reset_peak()
    before = time.process_time()
    rendered = FORMATS[name].render(report)
    took = time.process_time() - before
    texts = [rendered] if isinstance(rendered, str) else list(rendered.values())
    return sum(len(text.encode()) for text in texts), took, peak()


def main() -> int:
    """Audit, write every format, print what it took; 1 when a limit is passed."""
    nodes, pods = (int(each) for each in sys.argv[1:3]) if len(sys.argv) > 2 else (5000, 20_000)
    with tempfile.TemporaryDirectory() as name:
        printed = audit(unlabelled_cluster(nodes, pods), Path(name))
        file = Path(name) / "report.json"
        if not file.exists():
            sys.exit(f"the audit wrote no report:\n{printed[-1500:]}")
        size = file.stat().st_size
        report = read(file)
    print(f"{nodes} nodes, {pods} pods, report.json {size / 1e6:.2f} MB; memory is that of the whole process")
    total, most, page = 0.0, 0, 0
    for each in FORMATS:
        length, took, memory = written(each, on_hardware(report) if each == "cncf" else report)
        print(f"{each:12} {length / 1e6:7.3f} MB {took:6.2f} s of CPU {memory / 1e6:6.0f} MB of memory")
        total, most, page = total + took, max(most, memory), length if each == "html" else page
    print(f"{'all':12} {total:17.2f} s of CPU {most / 1e6:6.0f} MB of memory")
    return int(total > SECONDS or most > MEMORY or page > PAGE)


if __name__ == "__main__":
    sys.exit(main())
