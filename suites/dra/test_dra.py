"""Dynamic resource allocation: what claims of GPUs stand on.

Where DRA gives GPUs to pods, a node advertises no count any more. Its driver publishes each device with its
attributes in a ResourceSlice, and a DeviceClass says which of them it stands for. All of that is silent: a node without
slice looks like any other node, and a device plugin that was forgotten on the node gives the same GPU away a second
time. What becomes of claims is the next chapter, test_dra_claims.py.
"""

from collections.abc import Sequence

from conformance.catalog import MAY, MUST, requirement
from conformance.facts import Facts
from conformance.reference.model import Reference
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Judge, Unsupported, format_value
from suites._shared.formatting import join_limited
from suites._shared.node_probes import memory_agrees, product_label
from suites._shared.operand_status import excuse_for
from suites._shared.pool_nodes import GpuPoolNode
from suites._shared.resource_slices import GPU, MIG, Device, Published, device_class
from suites.dra.dra_nodes import (
    OLDEST_KUBERNETES,
    declared_devices,
    driver_floor,
    format_devices,
    plugin_trouble,
    version,
    why_no_device_yet,
    why_the_devices_differ,
)

DRA = "kubernetes.io: Dynamic Resource Allocation"
DRIVER = "kubernetes-sigs/dra-driver-nvidia-gpu: documentation"
ATTRIBUTES = "kubernetes-sigs/dra-driver-nvidia-gpu: ResourceSlice device attributes"
OPERATOR = "NVIDIA GPU Operator: DRA Driver for NVIDIA GPUs"
EXTENDED = "KEP-5004: extended resources by DRA"


@requirement(
    "DRA-01",
    "Kubernetes and the kubelets of DRA nodes are new enough for the DRA driver",
    level=MUST,
    sources=[DRIVER, OPERATOR],
    remedy=f"Upgrade to Kubernetes {OLDEST_KUBERNETES} or later, nodes included, before DRA gives out their GPUs.",
)
def test_kubernetes_is_new_enough(dra_nodes: tuple[GpuPoolNode, ...], facts: Facts, judge: Judge) -> None:
    served = facts.serves("ResourceSlice")
    told = (
        [(ObjectReference.of("APIServer", "kubernetes", text="the API server"), facts.server_version)]
        if facts.server_version
        else []
    )
    told += [(node.subject, node.kubelet) for _, node, _ in dra_nodes if node.kubelet]
    judge(
        ObjectReference.of("APIGroup", "resource.k8s.io/v1", text="resource.k8s.io/v1"),
        ok=served,
        expected="served by the API server",
        actual="served" if served else "not served",
        cause="the DRA driver has nowhere to publish its devices",
        hidden_because="the driver's pods run; only their log says what they cannot find",
        inspect="kubectl api-versions | grep resource.k8s.io",
    )
    for subject, text in told:
        judge(
            subject,
            ok=version(text) >= version(OLDEST_KUBERNETES),
            expected=f"Kubernetes {OLDEST_KUBERNETES} or later",
            actual=text,
            cause=f"releases before {OLDEST_KUBERNETES} lack what the driver needs",
            hidden_because="claims are allocated; it is preparing and releasing them that goes wrong now and then",
            inspect="kubectl get nodes; kubectl version",
        )


@requirement(
    "DRA-02",
    "The kubelet plugin of the DRA driver is Ready on every node of a DRA pool",
    level=MUST,
    sources=[DRIVER, "kubernetes-sigs/dra-driver-nvidia-gpu: installation"],
    remedy="Follow the cause: tolerations, node labels and nvidiaDriverRoot are values of the chart "
    "(kubeletPlugin.tolerations, kubeletPlugin.nodeSelector).",
)
def test_the_kubelet_plugin_covers_every_dra_node(
    dra_nodes: tuple[GpuPoolNode, ...], facts: Facts, judge: Judge
) -> None:
    for _, node, _ in dra_nodes:
        trouble = plugin_trouble(facts, node)
        excuse = excuse_for(trouble, node) if trouble else ""
        if excuse:
            judge.pass_over(node, excuse)
            continue
        judge(
            node,
            ok=trouble is None,
            expected="a Ready pod of the DRA driver's kubelet plugin",
            actual="such a pod" if trouble is None else "none that is Ready",
            cause=trouble.link if trouble else "",
            hidden_because="a DaemonSet wants no pod where labels or taints keep it off, and calls itself complete",
            remedy=trouble.remedy if trouble else "",
            inspect=f"kubectl get pods -A -o wide --field-selector spec.nodeName={node.name} | grep kubelet-plugin",
        )


@requirement(
    "DRA-03",
    "Every node of a DRA pool publishes its declared devices",
    level=MUST,
    sources=[ATTRIBUTES, DRA],
    remedy="Follow the cause; the log of the plugin's container gpus says what it found.",
)
def test_every_dra_node_publishes_its_devices(
    dra_nodes: tuple[GpuPoolNode, ...],
    slices: dict[str, Published],
    reference: Reference,
    facts: Facts,
    judge: Judge,
) -> None:
    for pool, node, gpu in dra_nodes:
        there = slices.get(node.name, Published())
        excuse = why_no_device_yet(facts, node, there)
        if excuse:
            judge.pass_over(node, excuse)
            continue
        wanted = declared_devices(reference, pool)
        published = [each for each in there.devices if each.kind in (GPU, MIG)]
        ill = [each for each in published if each.ill]
        devices = [each for each in published if not each.on_demand] if set(wanted) <= {GPU} else published
        in_parts = _only_in_parts(published) if devices is not published else set()
        other = [
            each
            for each in published
            if (gpu.product and product_label(each.product) != gpu.product)
            or (each.kind == GPU and not memory_agrees(each.memory_mib, gpu.memory_mib))
        ]
        sound = not (other or there.missing or ill)
        if in_parts and sound and len(devices) + len(in_parts) == wanted.get(GPU):
            judge.pass_over(node, f"{len(in_parts)} of its GPUs are published as MIG devices on demand alone")
            continue
        right = format_devices(wanted) == Published(tuple(devices)).described
        judge(
            node,
            ok=right and sound,
            expected=f"{format_devices(wanted)}, {gpu.product or 'of any product'}, as {pool} declares",
            actual=_described(other[0])
            if other
            else there.described + (f", {len(ill)} of them tainted" if ill else ""),
            cause=why_the_devices_differ(facts, node, there, right=right, other=other) or _tainted(ill),
            hidden_because="the node is Ready, and DRA devices are in no count of kubectl describe node",
            inspect=f"kubectl get resourceslices --field-selector spec.nodeName={node.name} -o yaml",
        )


@requirement(
    "DRA-04",
    "The driver of every DRA node is one that the DRA driver can use",
    level=MUST,
    sources=[DRIVER, OPERATOR],
    remedy="Upgrade the GPU driver of the node, then restart the kubelet plugin there.",
)
def test_the_gpu_driver_is_new_enough(
    dra_nodes: tuple[GpuPoolNode, ...], slices: dict[str, Published], facts: Facts, judge: Judge
) -> None:
    for _, node, _ in dra_nodes:
        found = {each.driver for each in slices.get(node.name, Published()).devices if each.driver}
        floor, why = driver_floor(facts, node)
        if not found:
            judge.pass_over(node, "it publishes no device with its driver's version (DRA-03)")
        else:
            judge(
                node,
                ok=all(version(each) >= version(floor) for each in found),
                expected=f"driver {floor} or later, {why}",
                actual=found,
                cause=f"the kubelet plugin works with a driver that is older than {floor}",
                hidden_because="the devices are published and claimed; preparing them is what fails",
                inspect=f"kubectl get resourceslices --field-selector spec.nodeName={node.name} -o yaml",
            )


@requirement(
    "DRA-05",
    "No GPU is offered twice",
    level=MUST,
    sources=[OPERATOR, "NVIDIA GPU Operator: release notes of v26.7.0", "NVIDIA/aicr issue 1327"],
    remedy="One allocator for each node: keep the operator's operands off (label nvidia.com/gpu.deploy.operands=false) "
    "or the DRA driver's kubelet plugin (kubeletPlugin.nodeSelector).",
)
def test_no_gpu_is_offered_twice(slices: dict[str, Published], facts: Facts, judge: Judge) -> None:
    for name, there in sorted(slices.items()):
        node = facts.node(name)
        counted = [f"{node.gpus(each)} {each}" for each in node.gpu_resources if node.gpus(each)] if node else []
        twice = _published_twice(there.devices)
        devices = [each for each in there.devices if each.kind in (GPU, MIG)]
        judge(
            ObjectReference.of("Node", name),
            ok=not (counted and devices) and not twice,
            expected="each GPU once: in a slice of DRA, or counted by a device plugin",
            actual=[*counted, there.described] if counted else join_limited(twice) or there.described,
            cause=f"a device plugin offers {format_value(counted)} of the GPUs that DRA publishes"
            if counted
            else f"the driver publishes {join_limited(twice)} of the same GPU",
            hidden_because="neither allocator knows of the other; the pods start, and two of them share a GPU",
            inspect=f"kubectl get node {name} -o jsonpath='{{.status.allocatable}}'",
        )
    judge.without_subjects(Inconclusive("no node publishes devices of NVIDIA's DRA driver (DRA-03)"))


@requirement(
    "DRA-06",
    "The device classes exist and choose the devices that they are named for",
    level=MUST,
    sources=[DRIVER, DRA],
    remedy="Let the chart or the operator create the classes again; put filters of your own into classes of your own.",
)
def test_device_classes_choose_their_devices(
    dra_nodes: tuple[GpuPoolNode, ...], slices: dict[str, Published], facts: Facts, judge: Judge
) -> None:
    existing = {each.name: device_class(each.body) for each in facts.device_classes}
    kinds = [
        GPU,
        *([MIG] if any(pool.mig_layout for pool, _, _ in dra_nodes) or f"{MIG}.nvidia.com" in existing else []),
    ]
    for kind in kinds:
        name = f"{kind}.nvidia.com"
        found = existing.get(name)
        judge(
            ObjectReference.of("DeviceClass", name),
            ok=found is not None and (found.driver, found.kind) == ("gpu.nvidia.com", kind),
            expected=f"chooses devices of driver gpu.nvidia.com and of type {kind}",
            actual="does not exist" if found is None else found.expressions or "chooses every device of every driver",
            cause=f"claims of class {name} get other devices than their name says"
            if found
            else f"every claim that names {name} waits for ever",
            hidden_because=(
                "the API server accepts claims of a class that does not exist or that chooses something else"
            ),
            inspect=f"kubectl get deviceclass {name} -o yaml",
        )


@requirement(
    "DRA-07",
    "A resource that a device class stands for is served by that class alone",
    level=MAY,
    feature="extended-resource",
    sources=[EXTENDED, OPERATOR],
    remedy="Leave the extended resource to one class. The operator's classes stand for none: for "
    "requests by count make a class of your own, or use deviceclass.resource.kubernetes.io/<class>.",
)
def test_a_resource_stands_for_one_class(
    slices: dict[str, Published], reference: Reference, facts: Facts, judge: Judge
) -> None:
    every = [device_class(each.body) for each in facts.device_classes]
    resources = sorted({each.resource for each in every if each.resource})
    if not resources:
        raise Unsupported(
            f"no device class has extendedResourceName: pods that ask for {reference.gpu_resource} get no device of DRA"
        )
    for resource in resources:
        standing = [each for each in every if each.resource == resource]
        judge(
            ObjectReference.of("ExtendedResource", resource, text=resource),
            ok=len(standing) == 1,
            expected="one device class that serves it on nodes without a device plugin for it",
            actual=[str(each) for each in standing],
            cause="the newest of the classes serves it, whatever the others choose",
            hidden_because="requests are served as long as the classes choose the same devices",
            inspect="kubectl get deviceclasses -o custom-columns=NAME:.metadata.name,FOR:.spec.extendedResourceName",
        )


# --- How the chapter looks ---------------------------------------------------------------------------------------


def _described(device: Device) -> str:
    return f"{device}: {device.product or 'no product'} with {device.memory_mib} MiB"


def _tainted(devices: Sequence[Device]) -> str:
    """That the driver gives devices to no claim any more, and by which taint it says so."""
    said = sorted({key for each in devices for key in each.ill})
    which = join_limited([str(each) for each in devices])
    return f"the driver has tainted {which} with {format_value(said)}: no claim gets it" if devices else ""


def _only_in_parts(devices: Sequence[Device]) -> set[str]:
    """The GPUs that can be had in parts alone: with MIG on, an Ampere GPU is not published as a whole."""
    return {each.gpu for each in devices if each.on_demand} - {each.uuid for each in devices if each.kind == GPU}


def _published_twice(devices: tuple[Device, ...]) -> list[str]:
    """Devices of a GPU that is published as a whole, too; partitions share counters with it and are told apart."""
    whole = {each.uuid for each in devices if each.kind == GPU and not each.partition}
    names = [f"{each} beside its GPU" for each in devices if each.kind == MIG and each.parent in whole]
    return names + [f"{each} beside its GPU" for each in devices if each.kind not in (GPU, MIG) and each.uuid in whole]
