"""ResourceClaims for devices: the existing ones, and those that a scenario creates on one node of a DRA pool."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from conformance.facts import Facts, Node, Pod, Resource
from conformance.facts.reading import in_served_version
from conformance.gpu.device_selectors import expressions
from conformance.gpu.device_taints import TaintRules
from conformance.gpu.resources import DRA_DRIVER
from conformance.kube.errors import ApiError, NotFound, WaitTimeout
from conformance.kube.paths import path
from conformance.kube.waits import wait_for
from conformance.lab import LabPod, RequirementLab
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, expect
from suites._shared.formatting import join_limited
from suites._shared.resource_slices import (
    Device,
    DeviceClass,
    Held,
    Published,
    all_published,
    are_taint_rules_read,
    classes_asked,
    device_class,
    exactly,
    has_admin_access,
    held_by,
    published,
    requests_of,
    still_free,
    tolerations_of,
)

API = "resource.k8s.io/v1"
DELETION_MAY_TAKE = timedelta(minutes=5)
"""How long the deletion of a claim may take: its pod ends, its devices are unprepared, its finalizer is removed."""

WAITING = timedelta(minutes=10)
"""How long a pod may wait for a claim before that is a failure."""

_SOMETHING_ELSE = "something else keeps the pod off their nodes"
# Slices do not show the taints of a DeviceTaintRule (kubernetes.io: Dynamic Resource Allocation, device taints).
_OR_A_RULE = (
    ", or a DeviceTaintRule taints them: these were not read, and ResourceSlices do not show their taints (kubectl get "
    "devicetaintrules)"
)
OF_TAINTS = (
    "See who tainted the devices, and why (kubectl get devicetaintrules; a driver's own taints are in its "
    "ResourceSlices). Delete a rule that is no longer needed; let the request tolerate the taint where the devices are "
    "meant for it."
)
"""What to do where devices are there, and tainted."""
_NAME_IN_POD = "gpu"


class Claimed(NamedTuple):
    """A claim and the pod that uses it."""

    claim: Resource
    pod: Pod


def gpu_claims(facts: Facts) -> tuple[Resource, ...]:
    """The claims that have or request devices of NVIDIA's driver."""
    ours = {each.name for each in gpu_classes(facts)}
    return tuple(
        each for each in facts.resource_claims if held_by(each.body) or ours.intersection(classes_asked(each.spec))
    )


def gpu_classes(facts: Facts) -> tuple[DeviceClass, ...]:
    """The device classes that select devices of NVIDIA's driver."""
    every = (device_class(each.body) for each in facts.device_classes)
    return tuple(each for each in every if each.driver == DRA_DRIVER)


def reserved_for(claim: Resource) -> list[str]:
    """The pods that a claim is reserved for, by name."""
    reserved = claim.status.get("reservedFor") or ()
    return [str(each.get("name")) for each in reserved if isinstance(each, Mapping) and each.get("resource") == "pods"]


def is_old(moment: datetime | None, now: datetime, age: timedelta) -> bool:
    """Whether a moment lies longer ago than ``age``."""
    return moment is not None and now - moment > age


def why_deletion_is_stuck(claim: Resource, facts: Facts) -> str:
    """Why a claim that is being deleted still exists."""
    users = [facts.pod(claim.namespace, name) for name in reserved_for(claim)]
    there = [pod for pod in users if pod is not None and not pod.finished]
    if there:
        where = f" on {there[0].node}" if there[0].node else ""
        end = "is being deleted and does not end" if there[0].deleting else "still uses it"
        return f"{there[0]}{where} {end}"
    if users:
        return "no pod uses it any more, and the resource claim controller has not taken the reservation away"
    finalizers = ", ".join(claim.finalizers)
    return f"no pod uses it, and its finalizers are not removed ({finalizers})" if finalizers else "no cause is visible"


def waiting_claims(facts: Facts) -> Iterable[Claimed]:
    """The claims for GPUs, and of classes that do not exist, that a pending pod has been waiting for too long."""
    others = {each.name for each in facts.device_classes} - _naming_gpus(facts)
    known = {
        (each.namespace, each.name): each
        for each in facts.resource_claims
        if not others.issuperset(classes_asked(each.spec))
    }
    for pod in facts.pods:
        if pod.node or pod.finished or pod.gated or not is_old(pod.created, facts.taken_at, WAITING):
            continue
        for used in pod.claims:
            found = known.get((pod.namespace, used.claim))
            if found is not None and not found.status.get("allocation"):
                yield Claimed(found, pod)


def why_not_allocated(claim: Resource, facts: Facts) -> str:
    """Why a claim gets no devices, by device classes, ResourceSlices and other claims."""
    classes = {each.name: device_class(each.body) for each in facts.device_classes}
    asked = classes_asked(claim.spec)
    missing = [name for name in asked if name not in classes]
    if missing:
        return f"there is no device class {missing[0]}"
    for name, driver in _needed_beside_gpus(claim, classes):
        if driver not in _publishing(facts):
            return f"no node publishes a device of driver {driver}, of which device class {name} is"
    fitting, free = _fitting(claim, facts), _fitting(claim, facts, free=True)
    if not fitting:
        return f"no node publishes a device of {' or '.join(asked)}"
    tainted = join_limited([_with_its_taints(device) for device in fitting if device.taints])
    if _wants_all(claim) and not _without_taints(fitting):
        return f"it wants all devices of a node (allocationMode All), and no node has them without taint: {tainted}"
    most, wanted = _most_on_a_node(device for device in fitting if not device.taints), _least_wanted(claim, facts)
    if wanted > most:
        but = f" without taint: {tainted}" if tainted else ""
        return f"no node has {wanted} devices of {' or '.join(asked)} for it, {most} at most{but}"
    if not free:
        return f"all {len(fitting)} devices of {' or '.join(asked)} are allocated to other claims or tainted"
    chosen = [text for each in requests_of(claim.spec) for text in _selectors(each)]
    something = _SOMETHING_ELSE + ("" if are_taint_rules_read(facts) else _OR_A_RULE)
    selects = f"its selectors ({'; '.join(chosen)}) match none of them" if chosen else something
    return f"{len(free)} of {len(fitting)} devices of {' or '.join(asked)} are free: {selects}"


def is_kept_by_taints(claim: Resource, facts: Facts) -> bool:
    """Whether a claim would get devices of a node, now or when others give them back, if these were not tainted."""
    fitting = _fitting(claim, facts)
    if _wants_all(claim):
        return bool(fitting) and not _without_taints(fitting)
    untainted = _most_on_a_node(each for each in fitting if not each.taints)
    return untainted < _least_wanted(claim, facts) <= _most_on_a_node(fitting)


def is_queued(waiting: Claimed, facts: Facts) -> bool:
    """Whether a claim waits for devices of other claims: the nodes its pod may run on have enough, and not free."""
    chosen = {node.name for node in waiting.pod.selected(facts.nodes)}
    there = [each for each in _fitting(waiting.claim, facts) if each.node in chosen and not each.taints]
    free = [each for each in _fitting(waiting.claim, facts, free=True) if each.node in chosen]
    if _wants_all(waiting.claim):
        whole = _without_taints([each for each in _fitting(waiting.claim, facts) if each.node in chosen])
        return bool(whole) and not any(set(devices) <= set(free) for devices in whole)
    return _most_on_a_node(free) < _least_wanted(waiting.claim, facts) <= _most_on_a_node(there)


def is_untried(claim: Resource, facts: Facts) -> bool:
    """Whether classes and selectors of a claim might match no device: no claim with the same ones has devices."""
    return not any(
        _classes_and_selectors(other) == _classes_and_selectors(claim)
        for other in facts.resource_claims
        if held_by(other.body)
    )


def _fitting(claim: Resource, facts: Facts, *, free: bool = False) -> list[Device]:
    """The devices that fit a claim by driver and type, with the taints that no request of it tolerates.

    None where a class that it names does not exist.
    """
    classes = {each.name: device_class(each.body) for each in facts.device_classes}
    asked = classes_asked(claim.spec)
    if not classes.keys() >= set(asked):
        return []
    tolerations = tolerations_of(claim.spec)
    every = [
        device._replace(taints=tuple(taint for taint in device.taints if not taint.is_tolerated(tolerations)))
        for each in all_published(facts).values()
        for device in each.devices
    ]
    if free:
        every = list(still_free(every, {each for other in facts.resource_claims for each in held_by(other.body)}))
    return [device for device in every if any(classes[name].may_choose(device) for name in asked)]


def _with_its_taints(device: Device) -> str:
    return f"{device} ({', '.join(map(str, device.taints))})"


def _naming_gpus(facts: Facts) -> set[str]:
    """The device classes whose expressions contain NVIDIA's driver, also in an attribute only."""
    every = [device_class(each.body) for each in facts.device_classes]
    return {each.name for each in every if DRA_DRIVER in " ".join(each.expressions)}


def _most_on_a_node(devices: Iterable[Device]) -> int:
    return max(Counter(device.node for device in devices).values(), default=0)


def _least_wanted(claim: Resource, facts: Facts) -> int:
    """How many GPUs a claim needs at least: requests for devices of other drivers and alternatives are not counted."""
    ours = _naming_gpus(facts)
    exact = map(exactly, requests_of(claim.spec))
    return max(1, sum(int(each.get("count") or 1) for each in exact if each.get("deviceClassName") in ours))


def _needed_beside_gpus(claim: Resource, classes: Mapping[str, DeviceClass]) -> list[tuple[str, str]]:
    """The classes of other drivers of which a claim needs a device in any case, each with its driver."""
    exact = [str(exactly(each).get("deviceClassName") or "") for each in requests_of(claim.spec)]
    found = [classes[name] for name in exact if name]
    return [(each.name, each.driver) for each in found if each.driver not in ("", DRA_DRIVER)]


def _publishing(facts: Facts) -> set[str]:
    """The drivers that publish devices."""
    return {str(each.spec.get("driver")) for each in facts.resource_slices if each.spec.get("devices")}


def _wants_all(claim: Resource) -> bool:
    """Whether a claim wants every device of a node that it selects, so that one which is taken keeps it waiting."""
    requests = requests_of(claim.spec)
    return any(exactly(each).get("allocationMode") == "All" and not has_admin_access(each) for each in requests)


def _without_taints(devices: Iterable[Device]) -> list[list[Device]]:
    """The devices of each node on which none is tainted."""
    by_node: dict[str, list[Device]] = {}
    for device in devices:
        by_node.setdefault(device.node, []).append(device)
    return [each for each in by_node.values() if not any(device.taints for device in each)]


def _classes_and_selectors(claim: Resource) -> tuple[list[str], list[str]]:
    """The classes and the selectors of a claim, those of alternatives included."""
    parts = [part for each in requests_of(claim.spec) for part in (each, *(each.get("firstAvailable") or ()))]
    return classes_asked(claim.spec), [text for each in parts for text in _selectors(each)]


def _selectors(request: Mapping[str, Any]) -> tuple[str, ...]:
    return expressions(exactly(request).get("selectors") or ())


# --- Claims of a scenario ----------------------------------------------------------------------------------------


class ClaimingNode:
    """A node whose devices are allocated by DRA, for a scenario that claims some of them."""

    def __init__(self, lab: RequirementLab, node: Node, chosen: DeviceClass, free: tuple[Device, ...]) -> None:
        self._lab = lab
        self.node = node
        self.device_class = chosen
        self.free = free
        self._made = 0

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return self.node.subject

    def __str__(self) -> str:
        return str(self.node)

    def template(self, expression: str = "") -> str:
        """A ResourceClaimTemplate for one device, of those for which the CEL expression holds; returns its name."""
        name = self._numbered("template")
        self._lab.apply(claim_template(name, self.device_class.name, expression))
        return name

    def claim(self, expression: str = "") -> str:
        """A ResourceClaim for one device; returns its name."""
        name = self._numbered("claim")
        self._lab.apply(claim_object(name, self.device_class.name, expression))
        return name

    def pod(self, *, template: str = "", claim: str = "", priority: str | None = None) -> LabPod:
        """A pod that may run on this node only, with the claim or with one created from the template."""
        return self._lab.pod(
            claims=claims_of(template=template, claim=claim), on=self.node, tolerates=self.node, priority=priority
        )

    def devices_of(self, pod: LabPod) -> tuple[Device, ...]:
        """The devices that are allocated to the claims of a pod."""
        slices = _published_now(self._lab)
        known = {Held(each.pool, each.name): each for one in slices.values() for each in one.devices}
        held = [
            each for name in claim_names(pod.read() or {}) for each in held_by(self._read(pod.namespace, name) or {})
        ]
        return tuple(known.get(each) or Device(each.pool, each.pool, each.name) for each in held)

    def is_evicted(self, pod: LabPod) -> bool:
        """Whether a pod is evicted within the time that an eviction may take."""
        try:
            wait_for(lambda: pod.evicted, bool, what=f"{pod} is evicted", timeout=self._lab.timeouts.evicted)
        except WaitTimeout:
            return False
        return True

    def advice(self, pod: LabPod) -> str:
        """What to do about a pod without devices, where its spec shows the cause."""
        if claim_names(pod.read() or {}):
            return ""
        return "The pod has no claim any more: look for a policy or webhook that rewrites pods."

    def wait_until_released(self, namespace: str, name: str) -> None:
        """Expect that a claim is deleted, now that its pod is."""
        gone = ObjectReference.of("ResourceClaim", name, namespace=namespace)
        try:
            wait_for(
                lambda: self._read(namespace, name),
                lambda found: found is None,
                what=f"resource claim {namespace}/{name} is deleted",
                timeout=self._lab.timeouts.deleted,
                format_seen=lambda found: str((found or {}).get("status")),
            )
        except WaitTimeout as error:
            actual = str(error)
        else:
            actual = "deleted"
        expect(actual, gone).equals("deleted", because="its pod is deleted")

    def _read(self, namespace: str, name: str) -> dict[str, Any] | None:
        try:
            return self._lab.client.get(path("ResourceClaim", namespace=namespace, name=name))
        except NotFound:
            return None

    def _numbered(self, hint: str) -> str:
        self._made += 1
        return f"{hint}-{self._made}"


def free_devices(lab: RequirementLab, node: Node, chosen: DeviceClass) -> tuple[Device, ...]:
    """The devices of a class on a node that are allocated to no claim.

    A MIG device that is created on demand has no UUID before, so that a scenario cannot select or recognize it.
    """
    slices = _published_now(lab).get(node.name)
    taken = {each for claim in lab.client.list(path("ResourceClaim")) for each in held_by(claim)}
    free = still_free(slices.devices, taken) if slices else ()
    return tuple(each for each in free if chosen.may_choose(each) and each.uuid)


def _published_now(lab: RequirementLab) -> dict[str, Published]:
    """What the driver publishes at this moment, with the taints of DeviceTaintRules where these may be read."""
    rules: list[dict[str, Any]] = []
    with suppress(ApiError):
        rules = in_served_version("DeviceTaintRule", lab.client.list)
    # What a rule of Kubernetes 1.34 selects by class.
    classes = lab.client.list(path("DeviceClass")) if rules else ()
    return published(lab.client.list(path("ResourceSlice")), TaintRules(rules, classes))


def claiming_node(lab: RequirementLab, nodes: Iterable[Node], chosen: DeviceClass, devices: int) -> ClaimingNode:
    """The node of these with the most free devices, which no other requirement of the run gets until this one ends.

    Raises Inconclusive when none has ``devices`` of them.
    """
    free: dict[str, tuple[Device, ...]] = {}

    def most(unused: Sequence[Node]) -> Node:
        found = [(node, free_devices(lab, node, chosen)) for node in unused if node.ready and not node.unschedulable]
        free.update((node.name, devices) for node, devices in found)
        node, there = max(found, key=lambda each: len(each[1]), default=(None, ()))
        if node is None or len(there) < devices:
            raise Inconclusive(
                f"{devices} free devices of {chosen} on one node are needed; "
                + (
                    "; ".join(f"{each} has {len(idle)}" for each, idle in found)
                    or "no node of a DRA pool is Ready and schedulable"
                )
            )
        return node

    node = lab.pick(nodes, most)
    return ClaimingNode(lab, node, chosen, free[node.name])


def claims_of(*, template: str = "", claim: str = "") -> dict[str, dict[str, str]]:
    """The resourceClaims entry of a pod: created from a template, or an existing claim."""
    source = {"resourceClaimTemplateName": template} if template else {"resourceClaimName": claim}
    return {_NAME_IN_POD: source}


def claim_names(pod: Mapping[str, Any]) -> list[str]:
    """The claims of a pod as the API server has it, those of extended resources included."""
    status = pod.get("status") or {}
    named = [each.get("resourceClaimName") for each in (pod.get("spec") or {}).get("resourceClaims") or ()]
    made = [each.get("resourceClaimName") for each in status.get("resourceClaimStatuses") or ()]
    extended = (status.get("extendedResourceClaimStatus") or {}).get("resourceClaimName")
    return [str(name) for name in (*named, *made, extended) if name]


def claim_object(name: str, class_name: str, expression: str = "", count: int = 1) -> dict[str, Any]:
    """A ResourceClaim for devices of a class."""
    return {
        "apiVersion": API,
        "kind": "ResourceClaim",
        "metadata": {"name": name},
        "spec": _spec(class_name, expression, count),
    }


def claim_template(name: str, class_name: str, expression: str = "") -> dict[str, Any]:
    """A ResourceClaimTemplate for one device of a class."""
    spec = {"spec": _spec(class_name, expression, 1)}
    return {"apiVersion": API, "kind": "ResourceClaimTemplate", "metadata": {"name": name}, "spec": spec}


def _spec(class_name: str, expression: str, count: int) -> dict[str, Any]:
    exactly: dict[str, Any] = {"deviceClassName": class_name, "allocationMode": "ExactCount", "count": count}
    if expression:
        exactly["selectors"] = [{"cel": {"expression": expression}}]
    return {"devices": {"requests": [{"name": _NAME_IN_POD, "exactly": exactly}]}}
