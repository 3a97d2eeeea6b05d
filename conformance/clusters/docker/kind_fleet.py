"""The workers of a kind cluster as the nodes of a topology: labels, taints, and GPUs that are there by name only."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from conformance.clusters.embedded.topologies import Topology, nodes
from conformance.kube.errors import KubeError
from conformance.kube.names import SIMULATED_GPUS

from .errors import ContainerClusterError

if TYPE_CHECKING:
    from conformance.kube.client import Client
    from conformance.progress import Progress

MOST_WORKERS = 8
_NODES = "/api/v1/nodes"
_CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
# What a kubelet says of itself: a topology cannot know it better.
_KUBELETS = ("cpu", "memory", "pods", "ephemeral-storage")
_KUBELETS_LABELS = ("kubernetes.io/", "beta.kubernetes.io/")
_LOOK_EVERY = 0.3  # seconds


def workers_of(topology: Topology) -> int:
    """How many workers a topology needs. Raises ContainerClusterError for more than a machine should carry."""
    if topology.size > MOST_WORKERS:
        raise ContainerClusterError(
            f"topology {topology.name} has {topology.size} nodes, and each would be a container with a kubelet: choose "
            f"one of at most {MOST_WORKERS} for --cluster kind, such as --gpu-topology single"
        )
    return topology.size


def wait_usable(client: Client, workers: int, progress: Progress, *, timeout: float) -> None:
    """Wait until all nodes are ready and pods can be created. ContainerClusterError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while missing := _missing(client, workers):
        progress.step(f"Waiting for the kind cluster: {missing}")
        if time.monotonic() > deadline:
            raise ContainerClusterError(f"the kind cluster was not ready within {timeout:.0f} s: {missing}")
        time.sleep(_LOOK_EVERY)


def give_gpus(client: Client, topology: Topology, *, by_plugin: bool = False) -> None:
    """Make each worker the node of a topology: its labels and taints, and its extended resources as a number.

    Nothing hands those out, and pods get none. With ``by_plugin`` they are left to a device plugin.
    """
    workers = [node for node in client.list(_NODES) if _CONTROL_PLANE not in node["metadata"]["labels"]]
    for worker, wanted in zip(sorted(workers, key=_name), nodes(topology), strict=True):
        place = f"{_NODES}/{_name(worker)}"
        labels = {key: value for key, value in wanted["metadata"]["labels"].items() if _is_free(key)}
        resources = {
            name: amount for name, amount in wanted["status"].get("capacity", {}).items() if name not in _KUBELETS
        }
        if resources and not by_plugin:
            labels[SIMULATED_GPUS] = "true"
            change = {"status": {"capacity": resources, "allocatable": resources}}
            client.patch(f"{place}/status", change, kind="strategic")
        change = {"metadata": {"labels": labels}}
        if taints := wanted["spec"].get("taints"):
            change["spec"] = {"taints": taints}
        client.patch(place, change)


def _missing(client: Client, workers: int) -> str:
    try:
        found = list(client.list(_NODES))
        ready = [node for node in found if _is_ready(node)]
        if len(ready) <= workers:
            return f"{len(ready)} of {workers + 1} nodes are ready"
        client.get("/api/v1/namespaces/default/serviceaccounts/default")
    except KubeError as error:
        return str(error)
    return ""


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = node["status"].get("conditions", ())
    taints = node["spec"].get("taints", ())
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and not any(taint["key"] == "node.kubernetes.io/not-ready" for taint in taints)


def _is_free(label: str) -> bool:
    return not label.startswith(_KUBELETS_LABELS)


def _name(node: dict[str, Any]) -> str:
    return str(node["metadata"]["name"])
