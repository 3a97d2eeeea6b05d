"""What goes with a driver: the operator's release, images for each kernel, modules, vGPU hosts, Fabric Manager, DRA.

Each of them is another program with versions of its own. A driver that does not go with one of them is installed, and
then a container beside it, or a guest without its host, keeps the node from ever being ready. What NVIDIA publishes is
entered with its source in docs/driver-knowledge.md; what is not known there is not judged.
"""

import re
from collections.abc import Iterable, Iterator

from conformance.catalog import MUST, SHOULD, requirement
from conformance.facts import Facts, Node, Pod, Workload
from conformance.gpu.driver_companions import (
    DRA_DOMAINS_FLOOR,
    DRA_DRIVER_FLOOR,
    DRA_OPERATOR_FLOOR,
    OPEN_ONLY_STORAGE,
    Goes,
    guest_goes_with_host,
    precompiled_tag,
    why_no_storage,
    why_not_precompiled,
)
from conformance.gpu.drivers import DriverVersion, Support, lifecycle
from conformance.gpu.labels import MELLANOX_PRESENT, OFED_DRIVER, OFED_UPGRADE_STATE, VGPU_HOST_DRIVER
from conformance.gpu.operator_releases import OperatorRelease, first_with, release_of
from conformance.gpu.operator_stack import DRA_DOMAIN_CONTAINER, DRA_GPU_CONTAINER
from conformance.reference.model import Reference
from conformance.subjects import HasSubject
from conformance.verdict import Judge, NotApplicable, Unsupported, Waits
from suites._shared.operand_versions import Version, dotted, parsed
from suites._shared.operator_resource import OperatorResource, require_operator_resource
from suites._shared.upgrade_states import DONE
from suites.upgrade.driver_settings import architecture_on, modules_asked, setting, system_of
from suites.upgrade.target_nodes import TargetNodes
from suites.upgrade.upgrade_groups import UpgradeGroup
from suites.upgrade.validated_releases import installed_operator

_NVIDIA_REGISTRY = "nvcr.io/nvidia"
_FABRIC_MANAGER = re.compile(r"fabric-?manager", re.IGNORECASE)
_DRIVER_IN_TAG = re.compile(r"(?<![\d.])(\d{3}\.\d{2,3}(?:\.\d{2})?)(?![\d.])")


@requirement(
    "UPG-16",
    "The GPU Operator that is installed is documented for the branch of the driver that is to be installed",
    level=SHOULD,
    sources=["operator-matrix"],
    remedy="Upgrade the operator to a release whose component matrix has the branch first, or take a driver that its "
    "own matrix has.",
)
def test_the_operator_is_documented_for_the_branch(
    facts: Facts, reference: Reference, groups: tuple[UpgradeGroup, ...], target_driver: DriverVersion, judge: Judge
) -> None:
    operator_resource = require_operator_resource(facts, reference)
    version = installed_operator(facts)
    release = release_of(version) if version else None
    if version is None or release is None:
        which = f"v{dotted(version)}" if version else "an operator whose version no image tag or label tells"
        raise Unsupported(f"which drivers {which} is documented for is unknown")
    listed = target_driver.branch in release.branches
    if not listed and lifecycle(target_driver, facts.taken_at.date()).support is Support.ENDED:
        raise Waits(f"NVIDIA does not maintain R{target_driver.branch}, so that no matrix gains it", on="UPG-07")
    if not listed and release.supported:
        raise Unsupported(
            f"the component matrix of {release} has no driver of R{target_driver.branch}; NVIDIA says that it works "
            "with every production driver that is maintained"
        )
    judge(
        operator_resource,
        ok=listed,
        expected=f"an operator whose component matrix has a driver of R{target_driver.branch}",
        actual=f"operator v{dotted(version)}, and its matrix has " + ", ".join(release.drivers),
        cause="" if listed else _why_not_listed(release, target_driver),
        hidden_because="the operator takes any version that it is given; what it was never tried with shows on the "
        "nodes",
        inspect="kubectl get deployments -A -l app=gpu-operator -o wide",
    )


@requirement(
    "UPG-17",
    "Where precompiled drivers are asked for, NVIDIA builds the target's branch for the kernel of every node",
    level=MUST,
    sources=["operator-precompiled", "operator-platforms"],
    remedy="Take a branch that is built for these kernels, turn usePrecompiled off, or build the image for the kernel "
    "and set driver.repository to your own registry.",
)
def test_precompiled_images_are_built_for_every_kernel(
    facts: Facts, reference: Reference, groups: tuple[UpgradeGroup, ...], target_driver: DriverVersion, judge: Judge
) -> None:
    judge.without_subjects(NotApplicable("no driver is asked for as a precompiled one"))
    operator_resource = require_operator_resource(facts, reference)
    for node in _nodes(groups):
        if setting("usePrecompiled", node, operator_resource, facts) is not True:
            continue
        system, kernel = system_of(node), node.kernel
        tag = precompiled_tag(target_driver, kernel, system)
        if tag in _tags_on(node, facts):
            judge(node, ok=True, expected=f"image tag {tag}", actual="a driver pod of the node runs that image")
            continue
        repository = str(setting("repository", node, operator_resource, facts) or _NVIDIA_REGISTRY)
        if not system or repository != _NVIDIA_REGISTRY:
            judge.pass_over(node, _why_images_are_unknown(repository, system, tag))
            continue
        obstacle = _no_precompiled_modules(node, operator_resource, facts)
        obstacle = obstacle or why_not_precompiled(target_driver, kernel, system)
        judge(
            node,
            ok=not obstacle,
            expected=f"a driver image with the tag {tag}",
            actual=obstacle or f"NVIDIA builds R{target_driver.branch} for such kernels",
            cause=obstacle,
            hidden_because="the image is only pulled when the node is upgraded, already cordoned and without its pods",
            inspect=f"kubectl get node {node.name} -o wide",
        )
        if not obstacle:
            judge.pass_over(node.subject.only("image"), f"whether the registry has {repository}/driver:{tag}")


@requirement(
    "UPG-18",
    "The driver that is to be installed works on the vGPU host of every node that is a virtual machine with a vGPU",
    level=MUST,
    sources=["vgpu-compatibility"],
    remedy="Upgrade the vGPU Manager of the hosts first, or take a guest driver of the branch that they have.",
)
def test_vgpu_guests_go_with_their_hosts(
    groups: tuple[UpgradeGroup, ...], target_driver: DriverVersion, judge: Judge
) -> None:
    judge.without_subjects(NotApplicable("no node is a virtual machine with a vGPU"))
    for node in _nodes(groups):
        told = node.labels.get(VGPU_HOST_DRIVER, "")
        if not told:
            continue
        try:
            goes, reason = guest_goes_with_host(target_driver, DriverVersion.parse(told))
        except ValueError:
            goes, reason = Goes.UNKNOWN, f"{VGPU_HOST_DRIVER}={told} is no version of a driver"
        if goes is Goes.UNKNOWN:
            judge.pass_over(node, reason)
            continue
        judge(
            node,
            ok=goes is Goes.YES,
            expected=f"a vGPU host that takes a guest with driver {target_driver}",
            actual=f"host driver {told}: {reason}",
            cause=reason,
            hidden_because="the image is pulled and the modules are built; only the vGPU does not come up",
            inspect=f"kubectl get node {node.name} -L {VGPU_HOST_DRIVER}",
        )


@requirement(
    "UPG-19",
    "GPUDirect Storage and RDMA have the kernel modules that they need beside the driver that is to be installed",
    level=MUST,
    sources=["operator-rdma", "operator-validator", "operator-assets"],
    remedy="For storage set kernelModuleType to open where the GPUs have open modules. For RDMA let the Network "
    "Operator bring the network driver to the node first, or set rdma.useHostMofed where the host has it.",
)
def test_modules_beside_the_driver_can_load(
    facts: Facts, reference: Reference, groups: tuple[UpgradeGroup, ...], target_driver: DriverVersion, judge: Judge
) -> None:
    judge.without_subjects(NotApplicable("neither GPUDirect Storage nor GPUDirect RDMA is enabled"))
    operator_resource = require_operator_resource(facts, reference)
    for node in _nodes(groups):
        if setting("gds.enabled", node, operator_resource, facts) is True:
            _judge_storage(node, operator_resource, facts, target_driver, judge)
        if setting("rdma.enabled", node, operator_resource, facts) is True:
            _judge_network_driver(node, operator_resource, facts, judge)


@requirement(
    "UPG-20",
    "A Fabric Manager that runs outside of the driver's own pod is of the version that is to be installed",
    level=MUST,
    sources=["fabric-manager"],
    remedy="Change its image to the target's version together with the driver, or remove it: the operator's driver pod "
    "starts a Fabric Manager of its own version.",
)
def test_fabric_manager_has_the_version_of_the_driver(
    facts: Facts, meant: TargetNodes, target_driver: DriverVersion, judge: Judge
) -> None:
    judge.without_subjects(NotApplicable("no Fabric Manager runs beside the driver pods, which start their own"))
    for pod, image in _fabric_managers(meant.nodes, facts):
        found = _DRIVER_IN_TAG.search(image.rpartition("/")[2].partition(":")[2])
        if found is None:
            judge.pass_over(pod.of_owner, f"the image {image} does not tell the version of its Fabric Manager")
            continue
        judge(
            pod.of_owner,
            ok=DriverVersion.parse(found[1]) == target_driver,
            expected=f"Fabric Manager {target_driver}",
            actual=f"image {image}",
            cause=f"Fabric Manager {found[1]} does not start beside driver {target_driver}",
            hidden_because="it runs until the driver is replaced; then CUDA on the GPUs behind NVSwitches fails with "
            "error 802",
            inspect=f"kubectl get pod -n {pod.namespace} {pod.name} -o yaml",
        )


@requirement(
    "UPG-21",
    "The driver that is to be installed is not older than the DRA driver of its nodes requires",
    level=MUST,
    sources=["operator-dra", "dra-driver-install"],
    remedy="Take a driver at or above the floor.",
)
def test_the_target_is_new_enough_for_dra(
    facts: Facts, meant: TargetNodes, target_driver: DriverVersion, judge: Judge
) -> None:
    judge.without_subjects(NotApplicable("no DRA driver of NVIDIA runs on the nodes that the driver is meant for"))
    for subject, floor, by in _dra_floors(meant, facts):
        judge(
            subject,
            ok=target_driver >= DriverVersion.parse(floor if "." in floor else f"{floor}.0"),
            expected=f"driver {floor} or newer, {by}",
            actual=f"driver {target_driver}",
            cause=f"driver {target_driver} of R{target_driver.branch} is older than {floor}, {by}",
            hidden_because="the driver itself works; the DRA driver's pod fails on every node afterwards",
        )


def _nodes(groups: tuple[UpgradeGroup, ...]) -> Iterator[Node]:
    return (node for group in groups for node in group.nodes)


def _why_not_listed(release: OperatorRelease, driver: DriverVersion) -> str:
    first = first_with(driver.branch)
    if first is not None and first.release > release.release:
        return (
            f"{first} is the first release with a driver of R{driver.branch}, and NVIDIA no longer maintains {release}"
        )
    return f"no driver of R{driver.branch} is in the matrix of {release}, which NVIDIA no longer maintains"


def _tags_on(node: Node, facts: Facts) -> frozenset[str]:
    return frozenset(
        container.image.rpartition(":")[2]
        for pod in facts.pods_on(node.name)
        if pod.namespace in facts.stack_namespaces and pod.ready
        for container in pod.containers
    )


def _why_images_are_unknown(repository: str, system: str, tag: str) -> str:
    if repository != _NVIDIA_REGISTRY:
        return f"its driver comes from {repository}, and whether that has the tag {tag} is not known"
    return "neither a label of Node Feature Discovery nor its kubelet tells which operating system it has"


def _no_precompiled_modules(node: Node, operator_resource: OperatorResource, facts: Facts) -> str:
    if VGPU_HOST_DRIVER in node.labels:
        return "precompiled drivers have no vGPU, and the node is a virtual machine with one"
    if setting("gds.enabled", node, operator_resource, facts) is True:
        return "precompiled drivers have no GPUDirect Storage, and gds.enabled is true"
    return ""


def _judge_storage(
    node: Node, operator_resource: OperatorResource, facts: Facts, driver: DriverVersion, judge: Judge
) -> None:
    architecture, version = architecture_on(node), _storage_version(node, operator_resource, facts)
    if architecture is None or version is None:
        lacking = "architecture of its GPUs" if architecture is None else "version of nvidia-fs"
        judge.pass_over(node, f"the {lacking} is not known")
        return
    modules = modules_asked(node, operator_resource, facts)
    obstacle = why_no_storage(modules, driver, architecture) if version >= OPEN_ONLY_STORAGE else ""
    judge(
        node,
        ok=not obstacle,
        expected=f"open kernel modules of driver {driver} for nvidia-fs {dotted(version)}",
        actual=obstacle or f"kernelModuleType {modules} on {architecture.name}",
        cause=obstacle,
        hidden_because="the driver itself loads; the container nvidia-fs-ctr of its pod never gets ready, and the "
        "upgrade waits for the pod",
        inspect=operator_resource.inspect,
    )


def _storage_version(node: Node, operator_resource: OperatorResource, facts: Facts) -> Version | None:
    return parsed(str(setting("gds.version", node, operator_resource, facts) or ""))


def _judge_network_driver(node: Node, operator_resource: OperatorResource, facts: Facts, judge: Judge) -> None:
    if node.labels.get(MELLANOX_PRESENT) != "true":
        return
    if setting("rdma.useHostMofed", node, operator_resource, facts) is True:
        judge.pass_over(node, "rdma.useHostMofed says that its host has the network driver, which no object shows")
        return
    pods = [each for each in facts.pods_on(node.name) if OFED_DRIVER in each.labels and not each.finished]
    state = node.labels.get(OFED_UPGRADE_STATE, "")
    cause = "" if any(each.ready for each in pods) else "no pod on the node brings the network driver"
    if pods and cause:
        cause = f"{pods[0]}, which brings the network driver, is not Ready"
    if state not in ("", DONE):
        cause = f"the Network Operator is upgrading the network driver: {OFED_UPGRADE_STATE}={state}"
    judge(
        node,
        ok=not cause,
        expected=f"a pod with label {OFED_DRIVER} that is Ready, and no upgrade of the network driver under way",
        actual=cause or f"{pods[0]} is Ready",
        cause=cause,
        hidden_because="rdma.enabled lets the driver pod wait for the network driver, without an error and without end",
        inspect=f"kubectl get pods -A -l {OFED_DRIVER} -o wide --field-selector spec.nodeName={node.name}",
    )


def _fabric_managers(nodes: Iterable[Node], facts: Facts) -> Iterator[tuple[Pod, str]]:
    """One pod of each owner and image that runs a Fabric Manager on one of the nodes."""
    seen = set()
    for pod in (pod for node in nodes for pod in facts.pods_on(node.name)):
        for container in pod.containers:
            name = container.image.partition("@")[0].rpartition("/")[2].partition(":")[0]
            key = (str(pod.of_owner), container.image)
            if _FABRIC_MANAGER.search(name) and not pod.finished and key not in seen:
                seen.add(key)
                yield pod, container.image


def _dra_floors(meant: TargetNodes, facts: Facts) -> Iterator[tuple[HasSubject, str, str]]:
    """What needs which driver at least, and by what."""
    operator_resource = meant.operator_resource
    if operator_resource is not None and operator_resource.kind == "GPUCluster":
        yield operator_resource, DRA_OPERATOR_FLOOR, "which a GPUCluster requires"
    nodes = {node.name for node in meant.nodes}
    for plugin in _dra_plugins(facts):
        if any(pod.node in nodes for pod in facts.pods_of(plugin)):
            names = {container.name for container in plugin.template.containers}
            domains = DRA_DOMAIN_CONTAINER in names
            by = "which compute domains require" if domains else "which CDI devices of DRA require"
            yield plugin, DRA_DOMAINS_FLOOR if domains else DRA_DRIVER_FLOOR, by


def _dra_plugins(facts: Facts) -> Iterator[Workload]:
    for each in facts.workloads:
        names = {container.name for container in each.template.containers}
        if each.kind == "DaemonSet" and "dra-driver" in each.name and names & {DRA_DOMAIN_CONTAINER, DRA_GPU_CONTAINER}:
            yield each
