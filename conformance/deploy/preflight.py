"""What keeps a declared GPU stack off a cluster: another allocator of GPUs, and what a chart would take over."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from conformance.deploy.helm.releases import Release
from conformance.gpu.operator_stack import Detection, detect
from conformance.gpu.resources import is_gpu_resource
from conformance.kube.client import Client
from conformance.kube.errors import NotFound
from conformance.kube.paths import path

__all__ = ["Present", "discovery_masters", "in_the_way", "listed", "taken_over"]

# What a stack is known by, see gpu/operator_stack.py.
_TELLING = ("ClusterPolicy", "GPUCluster", "NVIDIADriver", "CustomResourceDefinition", "Deployment", "DaemonSet")
# The operator writes and deletes RuntimeClasses by these names, whoever made them (NVIDIA/gpu-operator v26.7.0:
# controllers/object_controls.go, transformRuntimeClass and clearRuntimeClasses).
_RUNTIME_CLASSES = ("nvidia", "nvidia-cdi", "nvidia-legacy")
_MASTER = "nfd-master"
_DISCOVERY = "node-feature-discovery"


class Present(NamedTuple):
    """Something that is on the cluster: of which kind, in which namespace (empty for none), and in words."""

    kind: str
    namespace: str
    words: str

    @classmethod
    def at(cls, kind: str, address: str) -> "Present":
        """The object of a kind at ``namespace/name``, or with a name alone."""
        called = kind.lower() if "/" in address else kind
        return cls(kind, address.rpartition("/")[0], f"{called} {address}")

    def __str__(self) -> str:
        return self.words


def in_the_way(client: Client, *, up: bool = False) -> tuple[Present, ...]:
    """What on the cluster gives GPUs to pods, or is about to.

    A plugin that a node image runs outside Kubernetes leaves no object; it is known by what its nodes offer. With
    ``up`` nodes that are not ready do not count: nobody there removes what the node once offered.
    """
    found = _detected(client)
    named = (
        ("ClusterPolicy", (found.policy, *found.ignored_policies) if found.policy else ()),
        ("GPUCluster", found.gpu_clusters),
        ("NVIDIADriver", found.drivers),
        ("Deployment", found.operators),
        ("DaemonSet", (*found.device_plugins, *found.dra_drivers)),
    )
    named_objects = tuple(Present.at(kind, address) for kind, addresses in named for address in addresses)
    return named_objects or _offered_by_nodes(client, up=up)


def taken_over(client: Client, wanted: Sequence[Release]) -> tuple[str, ...]:
    """What is there that the charts would make their own, and take away with them when they go: in words.

    Two masters of Node Feature Discovery remove each other's labels, and the operator deletes RuntimeClasses by name.
    """
    return (*_discovery_in_use(client, wanted), *_classes_in_use(client, wanted))


def discovery_masters(client: Client) -> tuple[Present, ...]:
    """The masters of Node Feature Discovery, whoever brought them."""
    return tuple(
        Present.at(kind, f"{each['metadata']['namespace']}/{each['metadata']['name']}")
        for kind in ("Deployment", "DaemonSet")
        for each in listed(client, path(kind))
        if _is_master(each)
    )


def listed(client: Client, collection: str) -> list[dict[str, Any]]:
    """The objects of a collection, none where the server lacks the kind."""
    try:
        return client.list(collection)
    except NotFound:
        return []


def _discovery_in_use(client: Client, wanted: Sequence[Release]) -> Iterator[str]:
    if not any(release.brings_discovery for release in wanted):
        return
    found = [str(each) for each in discovery_masters(client)]
    if not found and (features := listed(client, path("NodeFeature"))):
        found = [f"{len(features)} NodeFeature objects"]
    if found:
        yield f"Node Feature Discovery ({', '.join(found)}; nfd.enabled: false in stack.values makes use of it)"


def _classes_in_use(client: Client, wanted: Sequence[Release]) -> Iterator[str]:
    names = {name for release in wanted for name in _classes_of(release)}
    if not names:
        return
    for each in listed(client, path("RuntimeClass")):
        if each["metadata"]["name"] in names:
            yield f"RuntimeClass {each['metadata']['name']}"


def _classes_of(release: Release) -> tuple[str, ...]:
    if not release.is_operator:
        return ()
    own = (release.values.get("operator") or {}).get("runtimeClass")
    return (*_RUNTIME_CLASSES, *([str(own)] if own else []))


def _is_master(workload: Mapping[str, Any]) -> bool:
    """Whether a workload is a master of Node Feature Discovery.

    Sources: kubernetes-sigs/node-feature-discovery v0.19.0, deployment/helm and deployment/base (labels app and role,
    and the command), and its operator, which names it nfd-master.
    """
    labels = workload["metadata"].get("labels") or {}
    if _MASTER in (workload["metadata"]["name"], labels.get("app")):
        return True
    if labels.get("app.kubernetes.io/name") == _DISCOVERY and labels.get("role") == "master":
        return True
    pod = ((workload.get("spec") or {}).get("template") or {}).get("spec") or {}
    return any(_runs_master(container) for container in pod.get("containers") or ())


def _runs_master(container: Mapping[str, Any]) -> bool:
    command = container.get("command") or ()
    return container.get("name") == _MASTER or any(str(word).rpartition("/")[2] == _MASTER for word in command[:1])


def _offered_by_nodes(client: Client, *, up: bool) -> tuple[Present, ...]:
    nodes = [
        str(node["metadata"]["name"])
        for node in client.list(path("Node"))
        if _offers_gpus(node) and not (up and _is_down(node))
    ]
    more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
    return (Present("Node", "", f"a device plugin of the image of node {nodes[0]}{more}"),) if nodes else ()


def _offers_gpus(node: Mapping[str, Any]) -> bool:
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    return any(is_gpu_resource(name) and str(count) != "0" for name, count in allocatable.items())


def _is_down(node: Mapping[str, Any]) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] != "True" for each in conditions)


def _detected(client: Client) -> Detection:
    return detect(obj for kind in _TELLING for obj in listed(client, path(kind)))
