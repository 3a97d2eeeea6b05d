"""The GPUs of a group of nodes: which, how many, how shared, divided and given out, as most of the nodes say."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from conformance.drafting.accelerators import number_of, offered
from conformance.drafting.grouping import product_of
from conformance.drafting.node_groups import EVERY_MACHINE_IS, INSTANCE_TYPE
from conformance.drafting.notes import Guess, Part
from conformance.facts import Facts, Node
from conformance.gpu.drivers import DriverVersion, labelled_driver
from conformance.gpu.labels import (
    GPU_COUNT,
    GPU_MEMORY,
    GPU_PRESENT,
    GPU_PRODUCT,
    MIG_CONFIG,
    PCI_PRESENT,
    PLATFORM_COUNTS,
    PLATFORM_PRODUCTS,
)
from conformance.gpu.mig import Unknown, model_of
from conformance.gpu.quantities import quantity
from conformance.gpu.resources import ALIBABA_GPUS, ALIBABA_MEMORY, GPU, MIG_PREFIX, SHARED_GPU
from conformance.gpu.sharing import SHARED_SUFFIX
from conformance.verdict import Inconclusive

_PRESENT = (GPU_PRESENT, *PCI_PRESENT)
# karpenter.sh: well-known labels; EKS Auto Mode: the same under its own prefix.
_MANUFACTURERS = ("karpenter.k8s.aws/instance-gpu-manufacturer", "eks.amazonaws.com/instance-gpu-manufacturer")
_NVIDIA = "nvidia"
# GKE: "Share GPUs with multiple workloads using GPU time-sharing", node labels.
_GKE_CLIENTS, _GKE_STRATEGY = (
    "cloud.google.com/gke-max-shared-clients-per-gpu",
    "cloud.google.com/gke-gpu-sharing-strategy",
)
# HAMi's device plugin writes here which GPUs it parts, and into how many replicas each, for its scheduler to read.
# Project-HAMi/HAMi: docs/develop/protocol.md (one text for each GPU), and a JSON list in later versions.
_HAMI_REGISTER = "hami.io/node-nvidia-register"
_STRATEGIES = {"time-slicing": "time-slicing", "time-sharing": "time-slicing", "mps": "mps"}
# Labels that name the accelerators of a node where GPU Feature Discovery does not.
_ACCELERATOR_LABELS = (*PLATFORM_PRODUCTS, "cloud.google.com/gke-tpu-accelerator", "amd.com/gpu.product-name")
_DRA_DRIVER = "gpu.nvidia.com"
_NOT_COUNTED = "no node tells how many GPUs it has: neither capacity nor a label of GPU Feature Discovery"
_NOT_OFFERED = "no node offers a GPU: how many there are is what labels of the platform say"
_REPLICAS_OF_WHAT = (
    "count, the GPUs of a node, and replicas, as how many each is offered, as their product is what is offered; and by "
    "what (shared_by): nothing tells"
)
_VENDOR_WORDS = ("nvidia", "tesla", "geforce", "quadro", "amd", "instinct")
# A GeForce or RTX of this name is another model than without.
_VARIANTS = ("ti", "super", "ada")
_SERIES = ("rtx", "gtx")
_MIB = 1024 * 1024


class DraDevices(NamedTuple):
    """What NVIDIA's DRA driver publishes of one node: GPUs, their product, memory in MiB, driver version."""

    gpus: int = 0
    product: str = ""
    memory_mib: int = 0
    driver: str = ""


class Hardware:
    """What the facts tell of the GPUs of each node."""

    def __init__(self, facts: Facts) -> None:
        self._published = _published(facts)

    def has_gpus(self, node: Node) -> bool:
        """Whether a node has accelerators by its capacity, GPU or Node Feature Discovery, its platform, or a slice.

        The platform names the GPUs of a machine also where no driver or plugin works, which is not to be drafted as a
        pool without GPUs.
        """
        present = any(node.labels.get(label) == "true" for label in _PRESENT)
        named = any(node.labels.get(label) for label in PLATFORM_PRODUCTS) and not _of_other_maker(node)
        return present or named or bool(offered(node)) or node.name in self._published

    def dra(self, node: Node) -> DraDevices | None:
        """What the DRA driver publishes of a node; None when it publishes nothing."""
        return self._published.get(node.name)

    def driver(self, node: Node) -> str:
        """The driver version of a node, as GPU Feature Discovery or the DRA driver tells; empty when nobody does."""
        return labelled_driver(node.labels) or _as_nvidia_writes(self._published.get(node.name))


def _of_other_maker(node: Node) -> bool:
    return any(node.labels.get(label, _NVIDIA) != _NVIDIA for label in _MANUFACTURERS)


def _as_nvidia_writes(published: DraDevices | None) -> str:
    """The driver version of a ResourceSlice, 580.95.5 there, as everybody else knows it: 580.95.05."""
    told = published.driver if published is not None else ""
    try:
        return str(DriverVersion.parse(told))
    except ValueError:
        return told


def gpu_part(nodes: Sequence[Node], hardware: Hardware, layout: Mapping[int, Mapping[str, int]] | None) -> Part:
    """The declaration of the GPUs of a pool. ``layout`` has the MIG devices of each GPU where the pool is divided."""
    published = [devices for node in nodes if (devices := hardware.dra(node))]
    if published and not any(offered(node) for node in nodes):
        return _by_dra(nodes, published)
    return _by_device_plugin(nodes, layout)


def _by_dra(nodes: Sequence[Node], published: Sequence[DraDevices]) -> Part:
    count, product = _most(each.gpus for each in published), _most(each.product for each in published)
    value = _described(nodes, product, count or 1, _most(each.memory_mib for each in published), GPU)
    derived = f"ResourceSlices of {_DRA_DRIVER}: {count} GPUs on each node, and no node offers a count"
    return Part({**value, "allocated_by": "dra"}, Guess(derived))


def _by_device_plugin(nodes: Sequence[Node], layout: Mapping[int, Mapping[str, int]] | None) -> Part:
    resource, most = _usual_offer(nodes)
    replicas, shared_by, says = _sharing(nodes)
    if layout is None and resource.startswith(MIG_PREFIX):
        return _by_profile(nodes, resource, most, replicas, shared_by)
    count, counted_by = _physical(nodes, most, replicas, layout)
    decide = ""
    if resource.endswith(SHARED_SUFFIX) and replicas == 1 and count > 1:
        # The name says that these are replicas, and no label tells of how many GPUs.
        count, replicas, shared_by, decide = 1, count, "other", _REPLICAS_OF_WHAT
    if not count:
        # That there are GPUs is known, and a pool without any would hide that none of them works.
        told = [
            int(text) for node in nodes for label in PLATFORM_COUNTS if (text := node.labels.get(label, "")).isdigit()
        ]
        value = _described(nodes, _most(map(product_of, nodes)), _most(told or [0]) or 1, 0, GPU)
        decide = "" if told else "how many GPUs a node has"
        return Part(value, Guess(contradicted=(_NOT_OFFERED if told else _NOT_COUNTED,), decide=decide))
    divided = layout is not None
    value = _described(
        nodes, _most(map(product_of, nodes)), count, 0 if divided else _memory(nodes), GPU if divided else resource
    )
    if replicas > 1 and shared_by:
        value |= {"replicas": replicas, "shared_by": shared_by}
    contradicted = [*_unlabelled(nodes), *([] if divided else _differing(nodes, {resource: count * replicas}))]
    return Part(value, Guess(f"{counted_by}{says}", tuple(contradicted), decide))


def _by_profile(nodes: Sequence[Node], resource: str, most: int, replicas: int, shared_by: str) -> Part:
    """GPUs that somebody divided without a label that names the layout: their MIG devices, under the name they have.

    So it is where a node pool's settings divide them (AKS, GKE: the profile of the node pool), or nvidia-smi.
    """
    value = _described(nodes, _most(map(product_of, nodes)), most // replicas or most, 0, resource)
    if replicas > 1 and shared_by:
        value |= {"replicas": replicas, "shared_by": shared_by}
    others = sorted({name for node in nodes for name in offered(node)} - {resource})
    several = [f"the nodes offer {', '.join(others)} as well, and a pool declares one resource"] if others else []
    derived = f"capacity of the nodes: {resource}, and no label {MIG_CONFIG} names a layout"
    return Part(value, Guess(derived, (*_unlabelled(nodes), *(several or _differing(nodes, {resource: most})))))


def _described(nodes: Sequence[Node], product: str, count: int, memory: int, resource: str) -> dict[str, Any]:
    value: dict[str, Any] = {"model": _model(nodes, product), "count": count}
    if product:
        value["product"] = product
    if memory:
        value["memory_mib"] = memory
    if resource != GPU:
        value["resource"] = resource
    return value


def _usual_offer(nodes: Sequence[Node]) -> tuple[str, int]:
    """The resource that most nodes offer, whole GPUs and replicas before MIG devices, and how many most have."""
    counts: dict[str, list[int]] = defaultdict(list)
    for node in nodes:
        for name, count in offered(node).items():
            counts[name].append(count)
    if not counts:
        return GPU, 0
    usual = (GPU, SHARED_GPU)
    resource = max(counts, key=lambda name: (name in usual, not name.startswith(MIG_PREFIX), len(counts[name]), name))
    return resource, _most(counts[resource])


def _sharing(nodes: Sequence[Node]) -> tuple[int, str, str]:
    """As how many each device is offered, by what, and who says so, as most of the nodes have it."""
    found = Counter(_sharing_of(node) for node in nodes)
    return max(found, key=lambda each: (found[each], each))


def _sharing_of(node: Node) -> tuple[int, str, str]:
    if _HAMI_REGISTER in node.annotations:
        return (
            _replicas_of_hami(node.annotations[_HAMI_REGISTER]),
            "other",
            f"; shared by HAMi, as {_HAMI_REGISTER} says",
        )
    gpus = number_of(node.capacity.get(ALIBABA_GPUS, "0"))
    if gpus and (memory := number_of(node.capacity.get(ALIBABA_MEMORY, "0"))):
        return memory // gpus, "other", f"; their memory is given out in parts, {ALIBABA_GPUS} counts the GPUs"
    clients = node.labels.get(_GKE_CLIENTS, "")
    if clients.isdigit() and int(clients) > 1:
        by = _STRATEGIES.get(node.labels.get(_GKE_STRATEGY, "time-sharing"), "time-slicing")
        return int(clients), by, f"; shared as {_GKE_CLIENTS} says"
    found = [_sharing_under(resource, node) for resource in (GPU, *_mig_resources(node))]
    return max(found, key=lambda each: each[0])


def _replicas_of_hami(registered: str) -> int:
    """Into how many replicas HAMi parts each GPU of a node; 1 where its annotation cannot be read."""
    try:
        devices = json.loads(registered)
        found = [str(each.get("count", "")) for each in devices]
    except (ValueError, AttributeError, TypeError):
        # GPU-0055...,10,32768,100,NVIDIA-Tesla V100-PCIE-32GB,0,true:GPU-0fc3...
        found = [text for each in registered.split(":") for text in each.split(",")[1:2]]
    return int(_most(int(text) for text in found if text.isdigit())) or 1


def _sharing_under(resource: str, node: Node) -> tuple[int, str, str]:
    """The same of the devices under one name: whole GPUs, or MIG devices of one profile."""
    keys = f"{resource}.replicas", f"{resource}.sharing-strategy"
    replicas, by = node.labels.get(keys[0], ""), _STRATEGIES.get(node.labels.get(keys[1], ""), "")
    if by and replicas.isdigit() and int(replicas) > 1:
        return int(replicas), by, f"; shared as {keys[0]} and {keys[1]} say"
    return 1, "", ""


def _mig_resources(node: Node) -> list[str]:
    """The names of MIG devices that GPU Feature Discovery describes on a node, with the strategy mixed."""
    described = [key for key in node.labels if key.startswith(MIG_PREFIX) and key.endswith(".replicas")]
    return sorted(key.removesuffix(".replicas") for key in described)


def _physical(
    nodes: Sequence[Node], most: int, replicas: int, layout: Mapping[int, Mapping[str, int]] | None
) -> tuple[int, str]:
    """How many GPUs one node has, and who says so.

    Under MIG with the strategy single the label counts MIG devices, so that the layout has to tell how many GPUs they
    come from.
    """
    labelled = [int(text) for node in nodes if (text := node.labels.get(GPU_COUNT, "")).isdigit() and int(text)]
    per_gpu = sum(layout[0].values()) if layout and layout.get(0) else 0
    under_single = per_gpu and any("-MIG-" in node.labels.get(GPU_PRODUCT, "") for node in nodes)
    if labelled:
        count = _most(labelled)
        return (
            (count // per_gpu, f"label {GPU_COUNT}, {per_gpu} MIG devices on each")
            if under_single
            else (
                count,
                f"label {GPU_COUNT}",
            )
        )
    if under_single:
        return most // per_gpu, f"capacity, {per_gpu} MIG devices on each"
    return (
        (most // replicas or most, "capacity of the nodes, which GPU Feature Discovery does not label")
        if most
        else (0, "")
    )


def _differing(nodes: Sequence[Node], expected: Mapping[str, int]) -> list[str]:
    """The nodes that offer something else, at most a few of them by name."""
    odd = [
        f"{node.name} offers {_amounts(there)}"
        for node in nodes
        if (there := {name: number_of(node.allocatable.get(name, "0")) for name in {**offered(node), **expected}})
        != expected
    ]
    return [*odd[:3], *([f"{len(odd) - 3} more nodes"] if len(odd) > 3 else [])]


def _unlabelled(nodes: Sequence[Node]) -> list[str]:
    """The nodes without labels of GPU Feature Discovery where others of the pool have them."""
    without = [node.name for node in nodes if not product_of(node)]
    if not without or len(without) == len(nodes):
        return []
    return [f"GPU Feature Discovery does not label {', '.join(without[:3])}, as it does the others"]


def _amounts(amounts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(amounts.items())) or "nothing"


def _memory(nodes: Sequence[Node]) -> int:
    return int(_most(int(text) for node in nodes if (text := node.labels.get(GPU_MEMORY, "")).isdigit()))


def _model(nodes: Sequence[Node], product: str) -> str:
    """The owners' short name of the model: the first word with a digit in it, without the vendor's words."""
    named = product or next(
        (node.labels[key] for key in _ACCELERATOR_LABELS for node in nodes if key in node.labels), ""
    )
    words = [word for word in re.split(r"[-_\s]+", named.lower()) if word and word not in _VENDOR_WORDS]
    telling = next((word for word in words if any(each.isdigit() for each in word)), "-".join(words))
    if telling in words:
        at = words.index(telling)
        # RTX PRO 6000 and RTX 6000 are two models, as are 2080 and 2080 Ti.
        series = words[:at] if words[0] in _SERIES else []
        telling = "-".join([*series, telling, *(word for word in words[at + 1 : at + 2] if word in _VARIANTS)])
    types = (node.labels.get(INSTANCE_TYPE, "") for node in nodes)
    instance = _most(each for each in types if each not in EVERY_MACHINE_IS) or ""
    return re.sub(r"[^a-z0-9.-]", "-", telling or instance.lower()).strip("-.") or "unknown"


def model_known(part: Part) -> bool:
    """Whether the MIG profiles of a drafted GPU are known, so that a layout can be checked against it."""
    value = part.value
    return not isinstance(model_of(value.get("product", ""), value.get("memory_mib") or None), Unknown)


def _most(values: Iterable[Any]) -> Any:
    """The most frequent of the values that say something, the greatest among equals; 0 or empty when none does."""
    found = list(values)
    counted = Counter(value for value in found if value)
    if not counted:
        return type(found[0])() if found else 0
    return max(counted, key=lambda value: (counted[value], value))


def most(values: Iterable[Any]) -> Any:
    """The same for whoever else has to choose what most nodes say."""
    return _most(values)


def _published(facts: Facts) -> dict[str, DraDevices]:
    """What NVIDIA's DRA driver publishes, by node; nothing where slices are not served or may not be read."""
    try:
        slices = facts.resource_slices
    except Inconclusive:
        return {}
    newest: dict[str, int] = defaultdict(int)
    specs = [each.spec for each in slices if each.spec.get("driver") == _DRA_DRIVER and each.spec.get("nodeName")]
    for spec in specs:
        pool = spec.get("pool") or {}
        newest[str(pool.get("name"))] = max(newest[str(pool.get("name"))], int(pool.get("generation") or 0))
    devices: dict[str, list[Any]] = defaultdict(list)
    for spec in specs:
        pool = spec.get("pool") or {}
        if int(pool.get("generation") or 0) == newest[str(pool.get("name"))]:
            devices[str(spec["nodeName"])] += spec.get("devices") or ()
    return {node: _summed(found) for node, found in devices.items() if found}


def _summed(devices: Sequence[Mapping[str, Any]]) -> DraDevices:
    said = _attribute("type")
    whole = [each for each in devices if said(each) == "gpu"]
    # With MIG devices beside or instead of whole GPUs, a GPU is known by its UUID.
    parents = {_attribute("parentUUID")(each) for each in devices if said(each) == "mig"}
    others = parents - {_attribute("uuid")(each) for each in whole} - {""}
    return DraDevices(
        len(whole) + len(others),
        _most(re.sub(r"\s+", "-", _attribute("productName")(each)) for each in whole),
        _most(int(quantity(str((_held(each).get("memory") or {}).get("value") or "0")) / _MIB) for each in whole),
        _most(_attribute("driverVersion")(each) for each in devices),
    )


def _attribute(name: str) -> Callable[[Mapping[str, Any]], str]:
    """What reads an attribute of a device as text, whichever type it has, with or without the driver's prefix."""

    def of(device: Mapping[str, Any]) -> str:
        attributes = device.get("attributes") or {}
        value = attributes.get(name) or attributes.get(f"{_DRA_DRIVER}/{name}") or {}
        return str(next(iter(value.values()), ""))

    return of


def _held(device: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(f"{_DRA_DRIVER}/"): value for key, value in (device.get("capacity") or {}).items()}
