"""What the DRA driver publishes: the devices of nodes by their ResourceSlices, the classes that choose among them.

Sources: kubernetes.io: Dynamic Resource Allocation (pools, generations); kubernetes-sigs/dra-driver-nvidia-gpu, page on
the attributes of ResourceSlices, cmd/gpu-kubelet-plugin (driver.go and partitions.go: what the gate DynamicMIG
publishes; device_health.go: the taints of devices).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from conformance.facts import Facts, Node
from conformance.gpu.device_selectors import expressions
from conformance.gpu.device_taints import DeviceTaint, TaintRules
from conformance.gpu.quantities import quantity
from conformance.gpu.resources import DRA_DRIVER
from conformance.reference.stack import Stack
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Waits

GPU, MIG, VFIO = "gpu", "mig", "vfio"
NO_RULES = TaintRules()
QUOTA_SUFFIX = ".deviceclass.resource.k8s.io/devices"

_MIB = 1024 * 1024
_ATTRIBUTES = ("type", "uuid", "parentUUID", "productName", "profile", "driverVersion")
_QUALIFIED = {name: f"{DRA_DRIVER}/{name}" for name in (*_ATTRIBUTES, "memory")}
_TYPE = re.compile(r"""\.type\s*==\s*["'](\w+)["']""")
_PRODUCT = re.compile(r"""\.productName\s*==\s*["']([^"']+)["']""")
_DRIVER = re.compile(r"""device\.driver\s*==\s*["']([\w.-]+)["']""")


class Device(NamedTuple):
    """One device of NVIDIA's DRA driver. ``memory_mib`` is 0 and texts are empty where they are not published.

    ``taints`` are those that prevent allocation, of its ResourceSlice and of DeviceTaintRules; effect None only
    informs. ``partition``: the device shares counters with others of the same GPU, and the scheduler allocates one of
    them at the cost of others.
    """

    node: str
    pool: str
    name: str
    kind: str = ""
    uuid: str = ""
    parent: str = ""
    product: str = ""
    profile: str = ""
    driver: str = ""
    memory_mib: int = 0
    taints: tuple[DeviceTaint, ...] = ()
    partition: bool = False

    def __str__(self) -> str:
        return f"{self.kind or 'device'} {self.pool}/{self.name}"

    @property
    def unhealthy(self) -> tuple[str, ...]:
        """The keys by which the driver itself marks the device as unhealthy; other keys are those of the owners."""
        return tuple(each.key for each in self.taints if each.key.startswith(f"{DRA_DRIVER}/"))

    @property
    def gpu(self) -> str:
        """The UUID of the GPU that the device is, or is a part of."""
        return self.parent or self.uuid

    @property
    def on_demand(self) -> bool:
        """Whether this is a MIG device that the driver would create for a claim, beside others on the same memory."""
        return self.kind == MIG and self.partition


class Published(NamedTuple):
    """The devices of a pool's newest generation. ``missing`` is the number of its slices that do not exist."""

    devices: tuple[Device, ...] = ()
    missing: int = 0

    @property
    def described(self) -> str:
        """The devices by kind and profile, such as ``8 gpu``."""
        return _described(tuple([(each.kind, each.profile) for each in self.devices]))


# Most nodes of a pool publish the same.
@lru_cache(maxsize=1024)
def _described(kinds: tuple[tuple[str, str], ...]) -> str:
    counted = Counter(f"{kind} {profile}".strip() for kind, profile in kinds)
    return ", ".join(f"{count} {what}" for what, count in sorted(counted.items())) or "no device"


def devices_on(node: Node, facts: Facts) -> tuple[Device, ...]:
    """The devices that NVIDIA's DRA driver publishes of a node; none where slices are not served or readable."""
    try:
        return all_published(facts).get(node.name, Published()).devices
    except Inconclusive:
        return ()


@lru_cache(maxsize=1)
def all_published(facts: Facts) -> dict[str, Published]:
    """What NVIDIA's driver publishes on a cluster, by node. Raises Inconclusive when slices could not be read."""
    return published((each.body for each in facts.resource_slices), _taint_rules(facts))


def is_dra_driver_outside(stack: Stack | None, facts: Facts) -> bool:
    """Whether devices are published and no object of the cluster is NVIDIA's DRA driver: the nodes run it themselves.

    So EKS Auto Mode has it from Kubernetes 1.36 on. A DaemonSet that was deleted leaves no slices for long: the kubelet
    deletes those of a plugin that is gone. Where an installation of one's own is declared (an operator, ``stack.dra``,
    a version), its objects have to be there.
    Sources: https://docs.aws.amazon.com/eks/latest/userguide/device-management-nvidia-dra-device-plugin.html;
    kubernetes/kubernetes, pkg/kubelet/cm/dra/plugin (wipeResourceSlices).
    """
    if stack is not None and (stack.kind == "gpu-operator" or stack.dra is not None or stack.version):
        return False
    return not facts.stack.dra_drivers and "DaemonSet" not in facts.stack.unread and bool(_all_nodes(facts))


def _all_nodes(facts: Facts) -> dict[str, Published]:
    try:
        return all_published(facts)
    except Inconclusive:
        return {}


def _taint_rules(facts: Facts) -> TaintRules:
    """The DeviceTaintRules, none where they could not be read: few clusters serve them, and DRA goes on without."""
    if not are_taint_rules_read(facts):
        return TaintRules()
    classes = () if "deviceclasses" in facts.unreadable else facts.device_classes
    return TaintRules([each.body for each in facts.device_taint_rules], [each.body for each in classes])


def are_taint_rules_read(facts: Facts) -> bool:
    """Whether the DeviceTaintRules are known, those of an API that is not served included: they are none."""
    return "devicetaintrules" not in facts.unreadable


def published(slices: Iterable[Mapping[str, Any]], rules: TaintRules = NO_RULES) -> dict[str, Published]:
    """What NVIDIA's driver publishes by node, from the bodies of ResourceSlices and the rules that taint devices.

    Slices of an older generation than the newest of their pool are left out: the scheduler ignores them.
    """
    pools: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for each in slices:
        spec = each.get("spec") or {}
        if spec.get("driver") == DRA_DRIVER:
            pools[str((spec.get("pool") or {}).get("name"))].append(spec)
    found: dict[str, Published] = {}
    for pool, members in pools.items():
        newest = max(_generation(spec) for spec in members)
        current = [spec for spec in members if _generation(spec) == newest]
        wanted = max(int((spec.get("pool") or {}).get("resourceSliceCount") or 1) for spec in current)
        devices = tuple(device for spec in current for device in _devices(spec, pool, rules))
        node = next((str(spec["nodeName"]) for spec in current if spec.get("nodeName")), pool)
        before = found.get(node, Published())
        missing = max(0, wanted - len(current)) + before.missing
        found[node] = Published((*before.devices, *devices), missing)
    return found


def _generation(spec: Mapping[str, Any]) -> int:
    return int((spec.get("pool") or {}).get("generation") or 0)


def _devices(spec: Mapping[str, Any], pool: str, rules: TaintRules) -> list[Device]:
    node = str(spec.get("nodeName") or pool)
    return [_device(each, node, pool, rules.taints_of(DRA_DRIVER, pool, each)) for each in spec.get("devices") or ()]


def _device(raw: Mapping[str, Any], node: str, pool: str, taints: tuple[DeviceTaint, ...]) -> Device:
    # resource.k8s.io/v1beta1, which is what Kubernetes 1.32 serves, has one level more.
    body = raw.get("basic") or raw
    attributes, capacity = body.get("attributes") or {}, body.get("capacity") or {}
    memory = str((_named(capacity, "memory") or {}).get("value") or "0")
    return Device(
        node=node,
        pool=pool,
        name=str(raw.get("name")),
        kind=_attribute(attributes, "type"),
        uuid=_attribute(attributes, "uuid"),
        parent=_attribute(attributes, "parentUUID"),
        product=_attribute(attributes, "productName"),
        profile=_attribute(attributes, "profile"),
        driver=_attribute(attributes, "driverVersion"),
        memory_mib=_mib(memory),
        taints=taints,
        partition=bool(body.get("consumesCounters")),
    )


def _attribute(attributes: Mapping[str, Any], name: str) -> str:
    """An attribute as text, whichever type it has."""
    values = _named(attributes, name)
    return str(next(iter(values.values()))) if values else ""


def _named(members: Mapping[str, Any], name: str) -> Any:
    """An attribute or a capacity of the driver, which may leave its own domain out of the name."""
    found = members.get(name)
    return members.get(_QUALIFIED[name]) if found is None else found


@lru_cache(maxsize=256)
def _mib(memory: str) -> int:
    return int(quantity(memory) / _MIB)


class DeviceClass(NamedTuple):
    """A DeviceClass by its body: driver, type and product of device in its selectors, and its extendedResourceName.

    ``driver``, ``kind`` and ``product`` are empty where the selectors do not compare them with a literal.
    """

    name: str
    driver: str
    kind: str
    resource: str
    expressions: tuple[str, ...]
    product: str = ""

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("DeviceClass", self.name)

    def __str__(self) -> str:
        return f"device class {self.name}"

    @property
    def quota_key(self) -> str:
        """The key by which a quota counts the devices of the class."""
        return f"{self.name}{QUOTA_SUFFIX}"

    def may_choose(self, device: Device) -> bool:
        """Whether a device of NVIDIA's driver may be selected by the class, by its driver, type and product."""
        right_product = not self.product or not device.product or self.product == device.product
        return self.driver in ("", DRA_DRIVER) and self.kind in ("", device.kind) and right_product


def device_class(body: Mapping[str, Any]) -> DeviceClass:
    """A class from its body."""
    spec = body.get("spec") or {}
    stated = expressions(spec.get("selectors") or ())
    text = " && ".join(stated)
    # Literals decide only where all of them have to hold.
    strict = "||" not in text and "!" not in text.replace("!=", "")
    kind, driver = _TYPE.search(text), _DRIVER.search(text)
    product = _PRODUCT.search(text) if strict else None
    return DeviceClass(
        str(body["metadata"]["name"]),
        driver[1] if driver else "",
        kind[1] if kind else "",
        str(spec.get("extendedResourceName") or ""),
        stated,
        product[1] if product else "",
    )


class Held(NamedTuple):
    """A device that a claim holds, by pool and name."""

    pool: str
    name: str


def held_by(claim: Mapping[str, Any]) -> list[Held]:
    """The devices of NVIDIA's driver that are allocated to a claim; adminAccess allocates nothing."""
    allocation = (claim.get("status") or {}).get("allocation") or {}
    results = (allocation.get("devices") or {}).get("results") or ()
    return [
        Held(str(each["pool"]), str(each["device"]))
        for each in results
        if each.get("driver") == DRA_DRIVER and not each.get("adminAccess")
    ]


def still_free(devices: Iterable[Device], held: Collection[Held]) -> tuple[Device, ...]:
    """The devices that a claim can surely get: not allocated, not tainted, with none of their counters consumed."""
    every = tuple(devices)
    allocated = [each for each in every if each.gpu and Held(each.pool, each.name) in held]
    touched, cut = {each.gpu for each in allocated}, {each.gpu for each in allocated if each.partition}
    return tuple(
        each
        for each in every
        if not each.taints
        and Held(each.pool, each.name) not in held
        and each.gpu not in (touched if each.partition else cut)
    )


def without_chosen_devices(published: Mapping[str, Published]) -> Waits:
    """Why no device class chooses a device, to be raised: none is published, or the classes are wrong."""
    if not any(each.devices for each in published.values()):
        return Waits("no node publishes devices of NVIDIA's DRA driver", on="DRA-03")
    return Waits("no device class selects a device that a node publishes", on="DRA-06")


def classes_asked(claim_spec: Mapping[str, Any]) -> list[str]:
    """The device classes that the requests of a claim name, alternatives included."""
    named = [
        part.get("deviceClassName")
        for each in requests_of(claim_spec)
        for part in (exactly(each), *(each.get("firstAvailable") or ()))
    ]
    return list(dict.fromkeys(str(name) for name in named if name))


def requests_of(claim_spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The requests of a claim, or of what a template makes."""
    return list((claim_spec.get("devices") or {}).get("requests") or ())


def tolerations_of(claim_spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The tolerations of all requests of a claim and of their alternatives: DeviceClasses have none."""
    parts = (part for each in requests_of(claim_spec) for part in (exactly(each), *(each.get("firstAvailable") or ())))
    return [toleration for part in parts for toleration in part.get("tolerations") or ()]


def exactly(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a request asks for beside alternatives; before v1beta2 that stood in the request itself."""
    return request.get("exactly") or request


def has_admin_access(request: Mapping[str, Any]) -> bool:
    """Whether a request is for devices that others have, too, and keep."""
    return bool(exactly(request).get("adminAccess"))
