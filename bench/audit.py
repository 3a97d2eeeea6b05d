"""What an audit costs beside reading: `pytest --cluster CONTEXT`, and a bare LIST of the same resources, by turns.

    python bench/audit.py [--nodes 50,500,5000] [--rounds 2]

For each size a cluster of its own: the guide's set-up is deployed once on a small fleet, and nodes with the pods that
DaemonSets run on them are copied from it until there are so many nodes with four pods each, where nothing runs but etcd
and the API server. An audit is a process of its own, from its start to its end, reports included; the LIST reads page
after page of 500 (as kubectl does) and kind after kind, decodes nothing, and its clock starts with its first request.
Rounds alternate, and the minimum of each counts, because the machines that run this are shared. Ends with 1 when the
largest audit takes more than 1.3 times its LIST or 400 MiB, or when a node costs an audit of the largest fleet more
than 1.5 times what it costs one of the middle.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

RATIO = 1.3
MIB = 400
GROWTH = 1.5
PODS_EACH = 4
_HOME = Path(__file__).resolve().parent.parent
_REPORT = "BENCH_AUDIT_REPORT"
_GIVE_UP = 1800.0
_WRITERS = 16

# Whoever would collect, replace, finish or move what has been written, and the admission that taints every new node.
_CHANGING = ("kube-scheduler", "kube-controller-manager", "kwok")
_TAINTING = "TaintNodesByCondition"
# What others need comes first; quotas last, so that they refuse nothing.
_FIRST = (
    "CustomResourceDefinition",
    "Namespace",
    "PriorityClass",
    "RuntimeClass",
    "ServiceAccount",
    "ConfigMap",
    "Node",
)
_LAST = ("Pod", "LimitRange", "ResourceQuota")
_WITH_ITS_STATUS = ("CustomResourceDefinition", "Namespace", "Node")
_BY_SERVER = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields")

Object = dict[str, Any]


class Taken(NamedTuple):
    """One process: seconds in all and of its parts, CPU seconds, MiB at its peak, requests."""

    seconds: float
    parts: dict[str, float]
    cpu: float
    mib: int
    requests: int


class Size(NamedTuple):
    """What was measured of one fleet: the best audit and the best LIST."""

    nodes: int
    audit: Taken
    bare: Taken

    @property
    def ratio(self) -> float:
        """How many times the LIST the audit takes."""
        return self.audit.seconds / self.bare.seconds


# --- Filling a cluster ---------------------------------------------------------------------------------------------


def deployed() -> list[Object]:
    """The objects of a small fleet on which the guide's set-up stands."""
    from conformance.clusters.embedded import EmbeddedSpec, start
    from conformance.clusters.embedded.simulated_installer import SimulatedInstaller
    from conformance.deploy import deploy
    from conformance.facts import snapshot
    from conformance.kube.paths import path
    from conformance.kube.timeouts import EMBEDDED
    from conformance.reference import load
    from conformance.shipped import shipped

    with start(EmbeddedSpec(topology="guide")) as cluster, cluster.client() as client:
        deploy(client, load(shipped("fixtures/reference")), timeouts=EMBEDDED, installer=SimulatedInstaller())
        # Of definitions a snapshot has less than an API server wants.
        definitions = client.list(path("CustomResourceDefinition"))
        read = snapshot.take(client).plain_objects()
        return [*definitions, *(obj for obj in read if obj["kind"] != "CustomResourceDefinition")]


def grown(objects: list[Object], nodes: int) -> list[Object]:
    """The objects, and copies of nodes with what belongs to them, until there are so many nodes and four pods each.

    Nodes with GPUs bring many pods and others few: which of them is copied next decides about the number of pods.
    """
    own = defaultdict(list)
    for obj in objects:
        owners = obj["metadata"].get("ownerReferences") or ()
        if obj["kind"] == "ResourceSlice" or any(each["kind"] == "DaemonSet" for each in owners):
            own[obj["spec"].get("nodeName")].append(obj)
    found = [obj for obj in objects if obj["kind"] == "Node"]
    pods_of = {name: sum(obj["kind"] == "Pod" for obj in members) for name, members in own.items()}
    by_pods = sorted(found, key=lambda node: pods_of.get(node["metadata"]["name"], 0))
    few, many = by_pods[: len(found) // 4], by_pods[len(found) // 4 :]
    sources = {False: itertools.cycle(few), True: itertools.cycle(many)}
    made = list(objects)
    pods = sum(obj["kind"] == "Pod" for obj in objects)
    for number in range(len(found), nodes):
        node = next(sources[pods < PODS_EACH * number])
        name = node["metadata"]["name"]
        made += [_copied(obj, name, number) for obj in (node, *own[name])]
        pods += pods_of.get(name, 0)
    return made


def _copied(obj: Object, node: str, number: int) -> Object:
    made: Object = json.loads(json.dumps(obj).replace(f'"{node}"', f'"{node}-{number}"'))
    if made["kind"] != "Node":
        made["metadata"]["name"] += f"-{number}"
    return made


def fill(client: Any, objects: list[Object]) -> None:
    """Write the objects kind by kind, with their status where the server keeps it apart."""
    by_kind = defaultdict(list)
    for obj in objects:
        by_kind[obj["kind"]].append(obj)
    middle = [kind for kind in by_kind if kind not in (*_FIRST, *_LAST)]
    with ThreadPoolExecutor(_WRITERS) as writers:
        for kind in (*_FIRST, *middle, *_LAST):
            list(writers.map(lambda obj: _write(client, obj), by_kind[kind]))


def _write(client: Any, obj: Object) -> None:
    from conformance.kube.errors import AlreadyExists

    path = client.path_of(obj)
    body = {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key not in _BY_SERVER}}
    if obj["kind"] == "Job":
        # It has the selector that the server made for its former uid.
        body["spec"] = {**obj["spec"], "manualSelector": True}
    try:
        client.create(path.rpartition("/")[0], body)
    except AlreadyExists:
        return
    if obj.get("status") and obj["kind"] not in _WITH_ITS_STATUS:
        client.patch(f"{path}/status", {"status": obj["status"]})


def _running(client: Any) -> int:
    selector = "status.phase=Running"
    return sum(page.count(b'"nodeName"') for page in client.pages("/api/v1/pods", field_selector=selector))


# --- Measuring -----------------------------------------------------------------------------------------------------


def audit(kubeconfig: Path) -> Taken:
    """One audit of the cluster of a kubeconfig, as a user starts it."""
    context = json.loads(kubeconfig.read_text(encoding="utf-8"))["current-context"]
    with tempfile.TemporaryDirectory(prefix="bench-audit-") as name:
        folder = Path(name)
        # Who develops this project has Hypothesis, whose plugin takes a third of a second; who only uses it has not.
        plugins = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "bench.audit"]
        command = ["-m", "pytest", "--cluster", context, "--gpu-reference", "corrected-guide", "-q", *plugins]
        began = time.time()
        taken = _process(command, kubeconfig, folder, codes=(0, 1, 10))
        stream = (folder / "gpu-conformance-report" / "events.ndjson").read_text(encoding="utf-8")
        return taken._replace(parts=_parts([json.loads(line) for line in stream.splitlines()], began, taken.seconds))


def _parts(events: list[Object], began: float, seconds: float) -> dict[str, float]:
    """How long each part took, by the times of the events."""
    times = {event["event"]: datetime.fromisoformat(event["time"]).timestamp() for event in events}
    ends = [times["run-started"], times["facts-read"], times["requirement-finished"], began + seconds]
    names = ("start", "reading", "judging", "reports")
    return {name: end - start for name, start, end in zip(names, [began, *ends], ends, strict=False)}


def bare(kubeconfig: Path) -> Taken:
    """One LIST of what an audit reads, page after page, kind after kind."""
    with tempfile.TemporaryDirectory(prefix="bench-list-") as folder:
        code = "import sys; from bench import audit; audit.list_everything(sys.argv[1])"
        return _process(["-c", code, str(kubeconfig)], kubeconfig, Path(folder))


def list_everything(kubeconfig: str) -> None:
    """List what an audit reads and decode nothing, as a process of its own."""
    from conformance.facts.kinds import EVERYWHERE, KINDS
    from conformance.kube.client import Client
    from conformance.kube.effects import Effect
    from conformance.kube.errors import NotFound
    from conformance.kube.guard import Guard
    from conformance.kube.kubeconfig import connect

    report = counted()
    with connect(kubeconfig) as connection:
        client = Client(connection, Guard(Effect.READS, None))
        began = time.monotonic()
        size = 0
        for kind in EVERYWHERE:
            try:
                size += sum(map(len, client.pages(KINDS[kind].path, restarted=lambda: None)))
            except NotFound:
                continue
        seconds = time.monotonic() - began
    report(seconds=seconds, read=size / 2**20)


def counted() -> Callable[..., None]:
    """Count the requests of this process from now on; the result tells whoever started it of them, and of the rest."""
    from conformance.kube.sending import Request, Sender

    sent: list[str] = []
    exchange = Sender._exchange

    def counting(self: Sender, request: Request, *others: Any) -> Any:
        sent.append(request.method)
        return exchange(self, request, *others)

    def report(**more: float) -> None:
        told = {"requests": len(sent), "mib": _peak(), **more}
        Path(os.environ[_REPORT]).write_text(json.dumps(told), encoding="utf-8")

    Sender._exchange = counting  # type: ignore[method-assign]
    return report


def pytest_configure(config: Any) -> None:
    """As a plugin of an audit: have it tell of its requests and its memory."""
    config.add_cleanup(counted())


def _peak() -> int:
    """The most memory in MiB that this process has had; what waiting for it tells has the starting process in it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def _process(arguments: list[str], kubeconfig: Path, folder: Path, codes: tuple[int, ...] = (0,)) -> Taken:
    """Run Python in a folder and hear what it reports of itself; without a time of its own it took all of it."""
    report, output = folder / "bench.json", folder / "bench.out"
    path = os.pathsep.join(filter(None, (str(_HOME), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONPATH": path, _REPORT: str(report)}
    # An installed package is compiled once.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, *arguments]
    before, began = os.times(), time.monotonic()
    with output.open("w", encoding="utf-8") as file:
        ended = subprocess.run(command, cwd=folder, env=environment, stdout=file, stderr=file, timeout=_GIVE_UP)
    seconds, after = time.monotonic() - began, os.times()
    if ended.returncode not in codes:
        raise SystemExit(f"{' '.join(arguments)}: {ended.returncode}\n{output.read_text(encoding='utf-8')[-3000:]}")
    told = json.loads(report.read_text(encoding="utf-8"))
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    parts = {"MiB read": told["read"]} if "read" in told else {}
    return Taken(told.get("seconds", seconds), parts, cpu, told["mib"], told["requests"])


def measure(objects: list[Object], nodes: int, rounds: int) -> Size:
    """Fill a cluster and audit and list it by turns."""
    from conformance.clusters.embedded import EmbeddedSpec, start

    audits, lists = [], []
    flags = {"disable-admission-plugins": _TAINTING}
    with start(EmbeddedSpec(topology=None, simulator=False, apiserver_flags=flags)) as cluster:
        for name in _CHANGING if cluster.processes is not None else ():
            cluster.processes.stop(name)
        began = time.monotonic()
        written = grown(objects, nodes)
        with cluster.client() as client:
            fill(client, written)
        pods = sum(obj["kind"] == "Pod" for obj in written)
        print(f"{nodes} nodes, {pods} pods: filled in {time.monotonic() - began:.0f} s", flush=True)
        for number in range(1, rounds + 1):
            audits.append(audit(cluster.kubeconfig))
            lists.append(bare(cluster.kubeconfig))
            print(f"  round {number}: audit {_told(audits[-1])}", flush=True)
            print(f"  round {number}: LIST  {_told(lists[-1])}", flush=True)
    size = Size(nodes, min(audits, key=_seconds), min(lists, key=_seconds))
    print(f"  audit {size.audit.seconds:.1f} s, LIST {size.bare.seconds:.1f} s, ratio {size.ratio:.2f}", flush=True)
    return size


def _seconds(taken: Taken) -> float:
    return taken.seconds


def _told(taken: Taken) -> str:
    parts = ", ".join(f"{name} {value:.1f}" for name, value in taken.parts.items())
    return f"{taken.seconds:.1f} s ({parts}), CPU {taken.cpu:.1f} s, {taken.mib} MiB, {taken.requests} requests"


def _growth(sizes: list[Size]) -> float:
    """What a further node costs in the largest fleet, as a ratio of the same in the middle one; 1 with fewer sizes."""
    if len(sizes) < 3:
        return 1.0
    small, middle, large = (each.audit.seconds for each in sizes[-3:])
    by_node = [
        (middle - small) / (sizes[-2].nodes - sizes[-3].nodes),
        (large - middle) / (sizes[-1].nodes - sizes[-2].nodes),
    ]
    return by_node[1] / by_node[0]


def main() -> int:
    """Measure every size and print what it took; the exit code says whether the limits were kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", default="50,500,5000", help="sizes, separated by commas")
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args()
    os.environ.setdefault("GPU_CONFORMANCE_START_TIMEOUT", "900")
    objects = deployed()
    sizes = [measure(objects, nodes, chosen.rounds) for nodes in sorted(map(int, chosen.nodes.split(",")))]
    largest, growth = sizes[-1], _growth(sizes)
    kept = largest.ratio <= RATIO and largest.audit.mib <= MIB and growth <= GROWTH
    print(
        f"{'within' if kept else 'beyond'} the limits: an audit of {largest.nodes} nodes takes {largest.ratio:.2f} "
        f"times its LIST (limit {RATIO}), {largest.audit.requests} requests and {largest.audit.mib} MiB (limit {MIB}); "
        f"a node costs {growth:.2f} times what it costs in the middle fleet (limit {GROWTH})"
    )
    return int(not kept)


if __name__ == "__main__":
    sys.path.insert(0, str(_HOME))
    sys.exit(main())
