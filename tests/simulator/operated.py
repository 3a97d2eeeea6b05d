"""A cluster of bare GPU machines with NVIDIA's GPU Operator deployed on it, for the tests of the simulated operator."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from patience import PATIENCE

from conformance.clusters.embedded import EmbeddedSpec, start
from conformance.kube.client import Client
from conformance.kube.errors import NotFound
from conformance.kube.waits import wait_for
from conformance.simulator.chart import gpu_operator
from conformance.simulator.hardware import HARDWARE, machine_of

Object = dict[str, Any]
NAMESPACE = "gpu-operator"
POLICIES = "/apis/nvidia.com/v1/clusterpolicies"
POLICY = f"{POLICIES}/cluster-policy"
NODES = "/api/v1/nodes"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
DAEMON_SETS = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets"
DEPLOY = "nvidia.com/gpu.deploy."
GPU_TAINT = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}

FLEET = """
name: bare
description: machines that nothing was installed on
pools:
  - name: a100
    count: {gpu_nodes}
    cpu: "96"
    memory: 1152Gi
    gpu: {{product: NVIDIA-A100-SXM4-40GB, compute: "8.0", count: 2, memory_mib: 40960, mig_capable: true,
          brought_by: stack}}
  - {{name: cpu, count: 1, cpu: "16", memory: 64Gi}}
"""


class Operated:
    """The cluster, in the words of the tests."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.asked_at = ""

    def deploy(self, values: Object) -> None:
        """Create what ``helm install`` of the chart creates."""
        objects = gpu_operator(values)
        for obj in objects:
            if obj["kind"] == "CustomResourceDefinition":
                self.client.apply(obj)
        for kind in (POLICIES, "/apis/nvidia.com/v1alpha1/gpuclusters", "/apis/nvidia.com/v1alpha1/nvidiadrivers"):
            wait_for(lambda kind=kind: self._is_served(kind), bool, what=f"{kind} is served", timeout=PATIENCE)
        for obj in objects:
            if obj["kind"] != "CustomResourceDefinition":
                self.client.apply(obj)

    def _is_served(self, collection: str) -> bool:
        try:
            self.client.list(collection)
        except NotFound:
            return False
        return True

    def ask(self, **spec: Any) -> None:
        """Change the ClusterPolicy; ``asked_at`` is the version of the cluster's state that the change made."""
        self.asked_at = self.client.patch(POLICY, {"spec": spec})["metadata"]["resourceVersion"]

    def status(self, path: str = POLICY) -> tuple[str, str]:
        """State, and the reason of the condition that is true."""
        status = self.client.get(path).get("status") or {}
        reasons = [each["reason"] for each in status.get("conditions") or () if each["status"] == "True"]
        return status.get("state", ""), reasons[0] if reasons else ""

    def says(self, state: str, reason: str, path: str = POLICY, timeout: float = 180) -> None:
        wait_for(
            lambda: self.status(path),
            lambda found: found == (state, reason),
            what=f"{path} is {state}",
            timeout=timeout,
        )

    def node(self, name: str) -> Object:
        return self.client.get(f"{NODES}/{name}")

    def labels(self, node: str) -> dict[str, str]:
        return self.node(node)["metadata"]["labels"]

    def label(self, node: str, **labels: str | None) -> None:
        """Set labels of a node; ``__`` stands for a slash, ``_`` for a dot or, after ``deploy_``, a dash."""
        self.client.patch(f"{NODES}/{node}", {"metadata": {"labels": labels}})

    def daemon_set(self, name: str) -> Object | None:
        with contextlib.suppress(NotFound):
            return self.client.get(f"{DAEMON_SETS}/{name}")
        return None

    def desired(self) -> dict[str, int]:
        """How many pods each operand wants."""
        found = self.client.list(DAEMON_SETS)
        return {
            each["metadata"]["name"]: each["status"].get("desiredNumberScheduled", 0)
            for each in found
            if each["metadata"].get("ownerReferences")
        }

    def pods(self, app: str, node: str = "") -> list[Object]:
        """The pods of an operand, on one node or on all, without those that are going."""
        found = self.client.list(PODS, label_selector=f"app={app}")
        return [
            pod
            for pod in found
            if not pod["metadata"].get("deletionTimestamp") and node in ("", pod["spec"].get("nodeName"))
        ]

    def pod(self, app: str, node: str, until: Callable[[Object], bool], what: str, timeout: float = 180) -> Object:
        return self._one_pod(lambda: self.pods(app, node), until, f"{app} on {node} {what}", timeout)

    def _one_pod(
        self, look: Callable[[], list[Object]], until: Callable[[Object], bool], what: str, timeout: float
    ) -> Object:
        found = wait_for(
            look,
            lambda pods: len(pods) == 1 and until(pods[0]),
            what=what,
            timeout=timeout,
            format_seen=lambda pods: str([pod["status"] for pod in pods]),
        )
        return found[0]

    def gone(self, app: str, node: str) -> None:
        wait_for(lambda: self.pods(app, node), lambda pods: not pods, what=f"no {app} on {node}", timeout=PATIENCE)

    def hardware(self, node: str, **changes: Any) -> None:
        """Change what the machine behind a node is."""
        machine = machine_of(self.node(node))
        assert machine is not None
        text = msgspec.json.encode(msgspec.structs.replace(machine, **changes)).decode()
        self.client.patch(f"{NODES}/{node}", {"metadata": {"annotations": {HARDWARE: text}}})

    def restart(self, app: str, node: str) -> None:
        for pod in self.pods(app, node):
            self.client.delete(f"{PODS}/{pod['metadata']['name']}", grace_seconds=0)

    def restarts_into(self, app: str, node: str, until: Callable[[Object], bool], what: str) -> Object:
        """Restart an operand on a node whose hardware has changed, until it comes up as the hardware demands.

        The simulator hears of nodes and of pods in two streams: a pod may start on the machine as it was before.
        """
        self.restart(app, node)

        def once_more() -> list[Object]:
            pods = self.pods(app, node)
            if pods and is_ready(pods[0]) and not until(pods[0]):
                self.restart(app, node)
            return pods

        return self._one_pod(once_more, until, f"{app} on {node} {what}", timeout=180)


@contextlib.contextmanager
def operated(folder: Path, gpu_nodes: int, without_parts: tuple[str, ...] = (), **values: Any) -> Iterator[Operated]:
    """A new cluster with the operator deployed by Helm values."""
    fleet = folder / "bare.yaml"
    fleet.write_text(FLEET.format(gpu_nodes=gpu_nodes))
    with start(EmbeddedSpec(topology=fleet, without_parts=without_parts)) as running, running.client() as client:
        cluster = Operated(client)
        cluster.deploy(values)
        try:
            yield cluster
        except BaseException:
            print((running.folder / "simulator.log").read_text())
            raise


def is_ready(pod: Object) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions") or ())


def stuck_in(container: str, reason: str = "") -> Callable[[Object], bool]:
    """Whether a pod is held at a container: one that waits for ``reason``, or an init container that runs."""

    def is_stuck(pod: Object) -> bool:
        status = pod["status"]
        statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
        state = next((each["state"] for each in statuses if each["name"] == container), {})
        return not is_ready(pod) and (
            state.get("waiting", {}).get("reason") == reason if reason else "running" in state
        )

    return is_stuck


def tolerations(daemon_set: Object) -> str:
    return json.dumps(daemon_set["spec"]["template"]["spec"].get("tolerations"), sort_keys=True)
