"""The workers of a kind cluster as the nodes of a topology: labels, taints, and GPUs that are there by name only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conformance.clusters.embedded.topologies import Topology, nodes
from conformance.kube.names import SIMULATED_GPUS

from .errors import ContainerClusterError

if TYPE_CHECKING:
    from conformance.kube.client import Client

MOST_WORKERS = 8
_NODES = "/api/v1/nodes"
_CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
# What a kubelet says of itself: a topology cannot know it better.
_KUBELETS = ("cpu", "memory", "pods", "ephemeral-storage")
_KUBELETS_LABELS = ("kubernetes.io/", "beta.kubernetes.io/")


def workers_of(topology: Topology) -> int:
    """How many workers a topology needs. Raises ContainerClusterError for more than a machine should carry."""
    if topology.size > MOST_WORKERS:
        raise ContainerClusterError(
            f"topology {topology.name} has {topology.size} nodes, and each would be a container with a kubelet: choose "
            f"one of at most {MOST_WORKERS} for --cluster kind, such as --gpu-topology single"
        )
    return topology.size


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


def _is_free(label: str) -> bool:
    return not label.startswith(_KUBELETS_LABELS)


def _name(node: dict[str, Any]) -> str:
    return str(node["metadata"]["name"])
