"""A rehearsal of a driver upgrade: the question before, the upgrade by the simulator, the question after, in one go.

On an embedded cluster of its own: the set-up is deployed as its owners would have it, the driver version of the
ClusterPolicy is changed whatever the answer was, and the simulated operator upgrades the nodes.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml

from conformance.clusters.embedded import EmbeddedSpec, start
from conformance.clusters.embedded.simulated_installer import SimulatedInstaller
from conformance.deploy import deploy
from conformance.gpu.drivers import DriverVersion, labelled_driver
from conformance.gpu.labels import DEPLOY_DRIVER, UPGRADE_STATE
from conformance.kube.client import Client
from conformance.kube.errors import WaitTimeout
from conformance.kube.timeouts import EMBEDDED
from conformance.kube.waits import wait_for
from conformance.progress import Progress
from conformance.reference import Reference, load
from conformance.report.model import Decision
from conformance.upgrading.baseline import FILE as BASELINE

BEFORE, AFTER = "before", "after"
"""The folders of the two reports."""

_POLICY = "/apis/nvidia.com/v1/clusterpolicies/cluster-policy"
_DONE = "upgrade-done"


class Request(NamedTuple):
    """What is to be rehearsed. ``patience`` is how long the simulated upgrade may take, in seconds."""

    version: str
    reference: Path
    topology: str
    folder: Path
    patience: float


class Answer(NamedTuple):
    """What one of the two runs said: its decision, and the line that tells it."""

    decision: str
    line: str


class Rehearsal(NamedTuple):
    """What was said before, what happened, and what was said after; ``stuck`` names nodes that were not upgraded."""

    before: Answer
    nodes: int
    stuck: tuple[str, ...]
    after: Answer

    @property
    def good(self) -> bool:
        """Whether it was a go, and all was well afterwards."""
        return self.before.decision == Decision.GO and self.after.decision == Decision.DONE

    def lines(self) -> Iterator[str]:
        """The rehearsal as text."""
        yield f"before    {self.before.line}"
        if self.stuck:
            yield f"upgrade   stood still: {len(self.stuck)} of {self.nodes} nodes are not done"
            yield from (f"          {each}" for each in self.stuck)
        else:
            yield f"upgrade   all {self.nodes} nodes have the new driver"
        yield f"after     {self.after.line}"


def rehearse(asked: Request, progress: Progress) -> Rehearsal:
    """Rehearse an upgrade. Raises ValueError for what is no driver version, and for a set-up without such drivers."""
    DriverVersion.parse(asked.version)
    reference = load(asked.reference)
    if reference.stack is None or reference.stack.kind != "gpu-operator":
        raise ValueError(f"{asked.reference} declares no GPU Operator, and only that upgrades drivers by itself")
    with start(EmbeddedSpec(topology=asked.topology), progress) as running, running.client() as client:
        _deploy(client, reference, progress)
        cluster = _Asking(running.kubeconfig, asked)
        progress.step(f"Asking whether driver {asked.version} may be installed")
        before = cluster.said(BEFORE, f"--gpu-pre-upgrade={asked.version}")
        progress.step(f"The simulated operator upgrades the drivers to {asked.version}")
        nodes, stuck = _upgraded(client, asked)
        progress.step("Asking whether all is there again")
        after = cluster.said(AFTER, f"--gpu-post-upgrade={asked.folder / BEFORE / BASELINE}")
    return Rehearsal(before, nodes, stuck, after)


class _Asking(NamedTuple):
    kubeconfig: Path
    asked: Request

    def said(self, folder: str, question: str) -> Answer:
        """Run pytest with a question in a process of its own. Raises ValueError where it did not come to an answer."""
        report = self.asked.folder / folder
        context = yaml.safe_load(self.kubeconfig.read_text())["current-context"]
        run = subprocess.run(
            [
                sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--cluster", context,
                "--gpu-kubeconfig", str(self.kubeconfig), "--gpu-reference", str(self.asked.reference),
                "--gpu-report", str(report), question,
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        try:
            told = msgspec.json.decode((report / "report.json").read_bytes())
        except FileNotFoundError:
            said = f"{run.stdout[-2000:]}{run.stderr[-2000:]}"
            raise ValueError(f"the run with {question} wrote no report: {said}") from None
        return Answer(told["upgrade"]["decision"], told["outcome"])


def _deploy(client: Client, reference: Reference, progress: Progress) -> None:
    progress.step(f"Deploying {reference}")
    done = deploy(client, reference, timeouts=EMBEDDED, installer=SimulatedInstaller())
    if done.not_ready:
        raise ValueError(f"the set-up does not run on the embedded cluster: {', '.join(map(str, done.not_ready))}")


def _upgraded(client: Client, asked: Request) -> tuple[int, tuple[str, ...]]:
    """Have the drivers upgraded: how many nodes that concerns, and those that are not done in the time there is."""
    client.patch(_POLICY, {"spec": {"driver": {"version": asked.version}}})
    with suppress(WaitTimeout):
        wait_for(
            lambda: _not_done(client, asked.version),
            lambda left: not left,
            what="every driver is the new one",
            timeout=asked.patience,
        )
    return len(_managed(client)), tuple(_not_done(client, asked.version))


def _managed(client: Client) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = client.list("/api/v1/nodes")
    return [each for each in nodes if each["metadata"]["labels"].get(DEPLOY_DRIVER) == "true"]


def _not_done(client: Client, version: str) -> list[str]:
    """The nodes that are not upgraded, and how far each is."""
    found = []
    for node in _managed(client):
        labels = node["metadata"]["labels"]
        state, has = labels.get(UPGRADE_STATE, ""), labelled_driver(labels)
        if state != _DONE or has != version or node["spec"].get("unschedulable"):
            found.append(f"node {node['metadata']['name']}: {state or 'no state'}, driver {has or 'not told'}")
    return found
