"""Dynamic resource allocation: the driver, its ResourceSlices and the DeviceClasses.

Where DRA allocates GPUs, a node advertises no extended resource any more. Its DRA driver publishes each device with
its attributes in a ResourceSlice, and a DeviceClass selects some of them. Failures are silent: a node without
ResourceSlice looks like any other node, and a device plugin that was left on the node allocates the same GPU a second
time. Claims themselves are in the next module, test_dra_claims.py.
"""

from collections.abc import Sequence
from contextlib import suppress

from conformance.catalog import MAY, MUST, requirement
from conformance.facts import Facts, Node
from conformance.reference.model import Reference
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Judge, NotApplicable, Unsupported, Waits, format_value
from suites._shared.formatting import join_limited
from suites._shared.node_gpus import memory_agrees
from suites._shared.node_probes import product_label
from suites._shared.operand_status import why_not_judged
from suites._shared.pool_nodes import GpuPoolNode
from suites._shared.resource_slices import (
    GPU,
    MIG,
    Device,
    Published,
    all_published,
    device_class,
    is_dra_driver_outside,
    without_chosen_devices,
)
from suites.dra.dra_nodes import (
    OLDEST_KUBERNETES,
    declared_devices,
    driver_floor,
    format_devices,
    plugin_failure,
    version,
    why_no_device_yet,
    why_the_devices_differ,
)


@requirement(
    "DRA-01",
    "The API server and the kubelets of DRA nodes have the version that the DRA driver needs",
    level=MUST,
    sources=["dra-driver", "operator-dra"],
    remedy=f"Upgrade to Kubernetes {OLDEST_KUBERNETES} or later, nodes included, before DRA gives out their GPUs.",
)
def test_kubernetes_is_new_enough(dra_nodes: tuple[GpuPoolNode, ...], facts: Facts, judge: Judge) -> None:
    served = facts.serves("ResourceSlice")
    versions = (
        [(ObjectReference.of("APIServer", "kubernetes", text="the API server"), facts.server_version)]
        if facts.server_version
        else []
    )
    versions += [(node.subject, node.kubelet) for _, node, _ in dra_nodes if node.kubelet]
    judge(
        ObjectReference.of("APIGroup", "resource.k8s.io/v1", text="resource.k8s.io/v1"),
        ok=served,
        expected="served by the API server",
        actual="served" if served else "not served",
        cause="the DRA driver has nowhere to publish its devices",
        hidden_because="the driver's pods run; only their log shows what is missing",
        inspect="kubectl api-versions | grep resource.k8s.io",
    )
    for subject, text in versions:
        judge(
            subject,
            ok=version(text) >= version(OLDEST_KUBERNETES),
            expected=f"Kubernetes {OLDEST_KUBERNETES} or later",
            actual=text,
            cause=f"releases before {OLDEST_KUBERNETES} lack what the DRA driver requires",
            hidden_because="claims are allocated; preparing and unpreparing them fails now and then",
            inspect="kubectl get nodes; kubectl version",
        )


@requirement(
    "DRA-02",
    "The kubelet plugin of the DRA driver is Ready on every node of a DRA pool",
    level=MUST,
    sources=["dra-driver", "dra-driver-install"],
    remedy="Fix the cause that the finding names: tolerations, node labels and nvidiaDriverRoot are chart values "
    "(kubeletPlugin.tolerations, kubeletPlugin.nodeSelector).",
)
def test_the_kubelet_plugin_covers_every_dra_node(
    dra_nodes: tuple[GpuPoolNode, ...], reference: Reference, facts: Facts, judge: Judge
) -> None:
    if is_dra_driver_outside(reference.stack, facts):
        raise Unsupported("the DRA driver runs outside Kubernetes: no object of the cluster is its kubelet plugin")
    for _, node, _ in dra_nodes:
        failure = plugin_failure(facts, node)
        not_judged = why_not_judged(failure, node, facts) if failure else ""
        if not_judged:
            judge.pass_over(node, not_judged)
            continue
        judge(
            node,
            ok=failure is None,
            expected="a Ready pod of the DRA driver's kubelet plugin",
            actual="such a pod" if failure is None else "none that is Ready",
            cause=failure.cause if failure else "",
            hidden_because="a DaemonSet desires no pod where nodeSelector or a taint excludes the node, and is ready",
            remedy=failure.remedy if failure else "",
            inspect=f"kubectl get pods -A -o wide --field-selector spec.nodeName={node.name} | grep kubelet-plugin",
        )


@requirement(
    "DRA-03",
    "ResourceSlices of every node of a DRA pool publish its declared devices",
    level=MUST,
    sources=["dra-driver-attributes", "k8s-dra"],
    remedy="Fix the cause that the finding names; the log of the plugin's container gpus lists the devices.",
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
        not_judged = why_no_device_yet(facts, node, there)
        if not_judged:
            judge.pass_over(node, not_judged)
            continue
        wanted = declared_devices(reference, pool)
        published = [each for each in there.devices if each.kind in (GPU, MIG)]
        unhealthy = [each for each in published if each.unhealthy]
        devices = [each for each in published if not each.on_demand] if set(wanted) <= {GPU} else published
        mig_only = _published_as_mig_only(published) if devices is not published else set()
        other = [
            each
            for each in published
            if (gpu.product and product_label(each.product) != gpu.product)
            or (each.kind == GPU and not memory_agrees(each.memory_mib, gpu.memory_mib))
        ]
        sound = not (other or there.missing or unhealthy)
        if mig_only and sound and len(devices) + len(mig_only) == wanted.get(GPU):
            judge.pass_over(node, f"{len(mig_only)} of its GPUs are published as MIG devices on demand only")
            continue
        right = format_devices(wanted) == Published(tuple(devices)).described
        judge(
            node,
            ok=right and sound,
            expected=f"{format_devices(wanted)}, {gpu.product or 'of any product'}, as {pool} declares",
            actual=_described(other[0])
            if other
            else there.described + (f", {len(unhealthy)} of them tainted" if unhealthy else ""),
            cause=why_the_devices_differ(facts, node, there, right=right, other=other) or _tainted(unhealthy),
            hidden_because="the node is Ready, and kubectl describe node does not show devices of DRA",
            remedy=_how_to_have_it_publish(node, there, facts),
            inspect=f"kubectl get resourceslices --field-selector spec.nodeName={node.name} -o yaml",
        )


def _how_to_have_it_publish(node: Node, there: Published, facts: Facts) -> str:
    """What to do about a plugin that keeps a node from publishing anything; empty for the usual remedy."""
    failure = None if there.devices else plugin_failure(facts, node)
    return failure.remedy if failure else ""


@requirement(
    "DRA-04",
    "Every DRA node has an NVIDIA driver version that the DRA driver supports",
    level=MUST,
    sources=["dra-driver", "operator-dra"],
    remedy="Upgrade the GPU driver of the node, then restart the kubelet plugin there.",
)
def test_the_gpu_driver_is_new_enough(
    dra_nodes: tuple[GpuPoolNode, ...], slices: dict[str, Published], facts: Facts, judge: Judge
) -> None:
    for _, node, _ in dra_nodes:
        found = {each.driver for each in slices.get(node.name, Published()).devices if each.driver}
        floor, why = driver_floor(facts, node)
        if not found:
            judge.pass_over(node, Waits("it publishes no device with its driver's version", on="DRA-03"))
        else:
            judge(
                node,
                ok=all(version(each) >= version(floor) for each in found),
                expected=f"driver {floor} or later, {why}",
                actual=found,
                cause=f"the kubelet plugin uses a driver that is older than {floor}",
                hidden_because="the devices are published and allocated; only preparing them fails",
                inspect=f"kubectl get resourceslices --field-selector spec.nodeName={node.name} -o yaml",
            )


@requirement(
    "DRA-05",
    "No GPU is offered twice, by a ResourceSlice and a device plugin or by two published devices",
    level=MUST,
    sources=["operator-dra", "operator-notes-26.7.0", "aicr-1327"],
    remedy="One allocator for each node: keep the operator's operands off (label "
    "nvidia.com/gpu.deploy.operands=false) or the DRA driver's kubelet plugin (kubeletPlugin.nodeSelector).",
)
def test_no_gpu_is_offered_twice(reference: Reference, facts: Facts, judge: Judge) -> None:
    published = _published_anywhere(reference, facts)
    for name, there in sorted(published.items()):
        node = facts.node(name)
        counted = [f"{node.gpus(each)} {each}" for each in node.gpu_resources if node.gpus(each)] if node else []
        twice = _published_twice(there.devices)
        devices = [each for each in there.devices if each.kind in (GPU, MIG)]
        judge(
            ObjectReference.of("Node", name),
            ok=not (counted and devices) and not twice,
            expected="each GPU once: in a ResourceSlice, or advertised by a device plugin",
            actual=[*counted, there.described] if counted else join_limited(twice) or there.described,
            cause=f"a device plugin offers {format_value(counted)} of the GPUs that DRA publishes"
            if counted
            else f"the driver publishes {join_limited(twice)} of the same GPU",
            hidden_because="neither allocator knows of the other; the pods start, and two of them get the same GPU",
            inspect=f"kubectl get node {name} -o jsonpath='{{.status.allocatable}}'",
        )
    judge.without_subjects(without_chosen_devices(published))


@requirement(
    "DRA-06",
    "The DeviceClasses gpu.nvidia.com and mig.nvidia.com exist and select devices of their type",
    level=MUST,
    sources=["dra-driver", "k8s-dra"],
    remedy="Let the chart or the operator create the DeviceClasses again; put own selectors into other DeviceClasses.",
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
            expected=f"selects devices of driver gpu.nvidia.com and of type {kind}",
            actual="does not exist" if found is None else found.expressions or "selects every device of every driver",
            cause=f"claims of class {name} get devices of another driver or type"
            if found
            else f"every claim that names {name} stays pending",
            hidden_because=(
                "the API server accepts claims of a class that does not exist or that selects other devices"
            ),
            inspect=f"kubectl get deviceclass {name} -o yaml",
        )


@requirement(
    "DRA-07",
    "Every extendedResourceName belongs to one DeviceClass only",
    level=MAY,
    feature="extended-resource",
    sources=["kep-5004", "operator-dra"],
    remedy="Leave the extended resource to one class. The operator's classes have none: for requests by count create "
    "a DeviceClass, or use deviceclass.resource.kubernetes.io/<class>.",
)
def test_a_resource_stands_for_one_class(
    slices: dict[str, Published], reference: Reference, facts: Facts, judge: Judge
) -> None:
    every = [device_class(each.body) for each in facts.device_classes]
    resources = sorted({each.resource for each in every if each.resource})
    if not resources:
        raise Unsupported(
            f"no device class has extendedResourceName: pods that request {reference.gpu_resource} get no device of DRA"
        )
    for resource in resources:
        serving = [each for each in every if each.resource == resource]
        judge(
            ObjectReference.of("ExtendedResource", resource, text=resource),
            ok=len(serving) == 1,
            expected="one device class that serves it on nodes without a device plugin for it",
            actual=[str(each) for each in serving],
            cause="the newest of the classes serves it, whatever the others select",
            hidden_because="requests are served as long as the classes select the same devices",
            inspect="kubectl get deviceclasses -o custom-columns=NAME:.metadata.name,FOR:.spec.extendedResourceName",
        )


# --- Formatting and helpers --------------------------------------------------------------------------------------


def _described(device: Device) -> str:
    return f"{device}: {device.product or 'no product'} with {device.memory_mib} MiB"


def _tainted(devices: Sequence[Device]) -> str:
    """That the DRA driver has tainted devices, so that no claim gets them, and by which taints."""
    keys = sorted({key for each in devices for key in each.unhealthy})
    which = join_limited([str(each) for each in devices])
    return f"the driver has tainted {which} with {format_value(keys)}: no claim gets it" if devices else ""


def _published_as_mig_only(devices: Sequence[Device]) -> set[str]:
    """The GPUs that are available as MIG devices only: with MIG on, an Ampere GPU is not published as a whole."""
    return {each.gpu for each in devices if each.on_demand} - {each.uuid for each in devices if each.kind == GPU}


def _published_anywhere(reference: Reference, facts: Facts) -> dict[str, Published]:
    """What NVIDIA's driver publishes, by node, also where no DRA is declared: somebody may have installed it beside.

    Raises NotApplicable where none is declared and nothing is published or may be read.
    """
    if any(pool.gpu and pool.gpu.allocated_by == "dra" for pool in reference.gpu_pools):
        return all_published(facts)
    with suppress(Inconclusive):
        if found := all_published(facts):
            return found
    raise NotApplicable(f"no pool of {reference} has its GPUs allocated by DRA, and no ResourceSlice was read")


def _published_twice(devices: tuple[Device, ...]) -> list[str]:
    """Devices of a GPU that is published as a whole, too; partitions share counters with it and are left out."""
    whole = {each.uuid for each in devices if each.kind == GPU and not each.partition}
    names = [f"{each} beside its GPU" for each in devices if each.kind == MIG and each.parent in whole]
    return names + [f"{each} beside its GPU" for each in devices if each.kind not in (GPU, MIG) and each.uuid in whole]
