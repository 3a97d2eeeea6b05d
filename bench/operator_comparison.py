"""Whether the simulator makes of a ClusterPolicy and a fleet what NVIDIA's operator makes of them, object by object.

    python bench/operator_comparison.py PROGRAM [SET-UP ...]

PROGRAM is a gpu-operator program that you have, such as the file /usr/bin/gpu-operator of your operator's image. It
looks for its manifests under /opt/gpu-operator, where its image has them, too. For each set-up
(operator_setups.py) there are two embedded clusters (operator_clusters.py). On one of them the program runs in the
place of the simulator's parts operator and upgrade, with the CRDs from /opt/gpu-operator; on the other the simulator
plays everything. Both get what the chart would create, and then the changes of the set-up. Whenever both have come to
rest, their objects are compared (operator_views.py). Ends with 1 when something differs, and prints it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import operator_setups
import operator_views
from operator_clusters import MANIFESTS, NAMESPACE, Clusters, Side, objects

from conformance.clusters.embedded import EmbeddedError
from conformance.deploy import node_marks
from conformance.deploy.helm.values import gpu_operator_values
from conformance.kube.errors import Conflict, Forbidden, KubeError, NotFound
from conformance.kube.nodechange import store
from conformance.kube.paths import path
from conformance.kube.waits import until_accepted
from conformance.reference.loading import load
from conformance.reference.stack_objects import stack_objects
from conformance.simulator import chart

if TYPE_CHECKING:
    from collections.abc import Iterator

    from operator_setups import Setup, Step

    from conformance.kube.client import Client

Object = dict[str, Any]

QUIET = 3.0
"""Seconds without a change after which equal clusters count as being at rest."""
AT_MOST = 400.0
"""Seconds after which clusters that never rest are compared as they are. A set-up says how long a difference lasts."""


def compared(setup: Setup, program: Path, log: Path, clusters: Clusters) -> dict[str, list[str]]:
    """What differs, by object; where a step differs, the following ones are left out."""
    sides = clusters.sides(setup)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda side: _prepare(side, setup), sides))
        list(pool.map(lambda side: _deploy(side, setup), sides))
    with _program(program, sides[0], _environment(setup), log):
        found = _compared(setup, sides, log)
        clusters.check()
        clusters.withdraw()
    return found


def _compared(setup: Setup, sides: list[Side], log: Path) -> dict[str, list[str]]:
    if setup.together:
        for step in setup.then:
            for side in sides:
                _take(side.client, step)
        return _at_rest(sides, setup, log)
    found = _at_rest(sides, setup, log)
    for number, step in enumerate(setup.then, start=1):
        if found:
            break
        for side in sides:
            _take(side.client, step)
        found = {f"after step {number}: {name}": lines for name, lines in _at_rest(sides, setup, log).items()}
    return found


def _prepare(side: Side, setup: Setup) -> None:
    """Change the nodes and create what the chart finds."""
    for step in setup.before:
        _take(side.client, step)
    if setup.reference:
        reference = load(setup.reference)
        for change in node_marks.planned(reference, side.client.list(path("Node"))):
            store(side.client, change)
        _apply(side.client, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        for obj in stack_objects(reference):
            _apply(side.client, obj)


def _rendered(setup: Setup) -> list[Object]:
    values = gpu_operator_values(load(setup.reference)) if setup.reference else setup.values
    return chart.gpu_operator(values)


def _deploy(side: Side, setup: Setup) -> None:
    """Create what the chart creates, the definitions first."""
    own = {each["metadata"]["name"]: each for each in side.definitions}
    objects = _rendered(setup)
    definitions = [each for each in objects if each["kind"] == "CustomResourceDefinition"]
    for each in definitions:
        _apply(side.client, own.get(each["metadata"]["name"], each))
    for each in objects:
        if each not in definitions:
            _apply(side.client, each)


def _apply(client: Client, obj: Object) -> None:
    """Apply an object, again while its kind or its namespace is not known everywhere."""
    until_accepted(
        lambda: client.apply(obj, manager="helm", force=True),
        lambda error: isinstance(error, (NotFound, Forbidden, Conflict)),
        timeout=60,
    )


def _take(client: Client, step: Step) -> None:
    if step.merge is not None:
        client.patch(step.path, step.merge)
    if step.create is not None:
        client.create(step.path, step.create)


def _environment(setup: Setup) -> dict[str, str]:
    """What the chart tells the program by its environment."""
    operator = next(each for each in _rendered(setup) if each["kind"] == "Deployment" and _is_operator(each))
    variables = operator["spec"]["template"]["spec"]["containers"][0]["env"]
    given = {each["name"]: each["value"] for each in variables if "value" in each}
    return {**given, "OPERATOR_NAMESPACE": NAMESPACE}


def _is_operator(deployment: Object) -> bool:
    return bool(deployment["metadata"]["name"] == "gpu-operator")


@contextmanager
def _program(program: Path, side: Side, environment: dict[str, str], log: Path) -> Iterator[None]:
    """The program at work on a cluster, until it is no longer needed."""
    command = [str(program), "--metrics-bind-address=0", "--health-probe-bind-address=0"]
    with log.open("w") as output:
        running = subprocess.Popen(
            command,
            env={**os.environ, **environment, "KUBECONFIG": str(side.kubeconfig)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield
            if running.poll() is not None:
                raise SystemExit(f"{program} ended with status {running.returncode}; see {log}")
        finally:
            running.kill()
            running.wait()


def _at_rest(sides: list[Side], setup: Setup, log: Path) -> dict[str, list[str]]:
    """What differs once nothing changes any more."""
    began = changed = time.monotonic()
    last: list[operator_views.View] = []
    while True:
        views = [operator_views.view(objects(side.client)) for side in sides]
        now = time.monotonic()
        if views != last:
            last, changed = views, now
        found = operator_views.differences(*views)
        quiet = now - changed
        told = all(_told(each) for each in views)
        if (not found and told and quiet >= QUIET) or quiet >= setup.patience or now - began > AT_MOST:
            if not told:
                found |= {"the operators": [f"one of them has said nothing of what it was asked for; see {log}"]}
            return found
        time.sleep(0.5)


def _told(view: operator_views.View) -> bool:
    """Whether the operator has been there: it says how each set-up's ClusterPolicy or GPUCluster stands."""
    return any(view.get(name, {}).get("state") for name in ("ClusterPolicy cluster-policy", "GPUCluster gpu-cluster"))


def main() -> int:
    """Compare set-up by set-up; the exit code says whether anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path, help="the gpu-operator program")
    parser.add_argument("setups", nargs="*", help="names of set-ups; without any all are compared")
    parser.add_argument("--logs", type=Path, default=Path(tempfile.gettempdir()), help="folder for the program's logs")
    chosen = parser.parse_intermixed_args()
    every = {each.name: each for each in operator_setups.every()}
    if unknown := sorted(set(chosen.setups) - every.keys()):
        parser.error(f"there is no set-up {', '.join(unknown)}; there are: {', '.join(every)}")
    if not os.access(chosen.program, os.X_OK):
        parser.error(f"{chosen.program} is no program")
    if not any(MANIFESTS.glob("state-driver/*")):
        parser.error(
            f"{MANIFESTS} has no manifests: copy that folder from the program's image, it is not looked for elsewhere"
        )
    names = chosen.setups or list(every)
    with Clusters() as clusters:
        different = [name for name in names if not _same(every[name], chosen.program.resolve(), chosen.logs, clusters)]
    print(
        f"{len(names) - len(different)} of {len(names)} set-ups are the same"
        + "".join(f"\n  not {each}" for each in different)
    )
    return int(bool(different))


def _same(setup: Setup, program: Path, logs: Path, clusters: Clusters) -> bool:
    began = time.monotonic()
    try:
        found = compared(setup, program, logs / f"gpu-operator-{setup.name}.log", clusters)
    except (KubeError, EmbeddedError) as error:
        found = {"not compared": [str(error)]}
    if found:
        clusters.stop()
    else:
        clusters.restore()
    seconds = time.monotonic() - began
    print(f"{'DIFFERENT' if found else 'same':9} {setup.name} ({seconds:.0f} s)", flush=True)
    for name, lines in found.items():
        print("".join([f"  {name}", *(f"\n    {line}" for line in lines)]), flush=True)
    return not found


if __name__ == "__main__":
    sys.exit(main())
