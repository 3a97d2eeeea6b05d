"""Nodes of DRA pools: the devices they have to publish by the declaration, and why they publish others.

Sources: kubernetes-sigs/dra-driver-nvidia-gpu, prerequisites; NVIDIA GPU Operator, DRA driver.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

from conformance.facts import Facts, Node, Workload
from conformance.gpu.driver_companions import DRA_DOMAINS_FLOOR, DRA_DRIVER_FLOOR, DRA_OPERATOR_FLOOR
from conformance.gpu.operator_stack import DRA_DOMAIN_CONTAINER, DRA_GPU_CONTAINER
from conformance.reference.expected import gpus_of
from conformance.reference.model import Pool, Reference
from conformance.verdict import Inconclusive
from suites._shared.grace import joined_just_now, why_unavailable
from suites._shared.operand_status import ComponentFailure, failure_on, pods_of, why_not_judged
from suites._shared.operands import DRA_DRIVER, ExpectedComponent
from suites._shared.operator_resource import find_operator_resource
from suites._shared.resource_slices import GPU, MIG, Device, Published, devices_on, is_dra_driver_outside

OLDEST_KUBERNETES = "1.34.2"
_ROOT_VARIABLE = "NVIDIA_DRIVER_ROOT"
_HOST, _OPERATOR = "/", "/run/nvidia/driver"
_NUMBERS = re.compile(r"[0-9]+")


@lru_cache(maxsize=256)
def version(text: str) -> tuple[int, ...]:
    """The first three numbers of a version, in any format: v1.36.3-gke.100 and 580.95.05."""
    numbers = [int(each) for each in _NUMBERS.findall(text)[:3]]
    return tuple([*numbers, 0, 0, 0][:3])


def driver_floor(facts: Facts, node: Node) -> tuple[str, str]:
    """The oldest GPU driver for the DRA driver of a node, and what requires it."""
    operator_resource = find_operator_resource(facts)
    if operator_resource is not None and operator_resource.kind == "GPUCluster":
        return DRA_OPERATOR_FLOOR, "which the GPUCluster requires"
    plugins = [each for each in dra_plugins(facts) if pods_of([each], node, facts)]
    names = {container.name for each in plugins for container in each.template.containers}
    if DRA_DOMAIN_CONTAINER in names:
        return DRA_DOMAINS_FLOOR, "which compute domains require"
    return DRA_DRIVER_FLOOR, "which CDI devices of DRA require"


# Asked for each node of thousands; a run has one set of facts.
@lru_cache(maxsize=1)
def dra_plugins(facts: Facts) -> tuple[Workload, ...]:
    """The DaemonSets of the DRA driver's kubelet plugin. Raises Waits where DaemonSets could not be read."""
    if "DaemonSet" in facts.stack.unread:
        facts.serves("DaemonSet")
    split = (place.partition("/") for place in facts.stack.dra_drivers)
    found = (facts.workload("DaemonSet", namespace, name) for namespace, _, name in split)
    return tuple(each for each in found if each is not None)


def plugin_failure(facts: Facts, node: Node) -> ComponentFailure | None:
    """Why the kubelet plugin does not work on a node; None where its pod is Ready, or the node runs it by itself."""
    plugins = dra_plugins(facts)
    if not plugins and is_dra_driver_outside(None, facts):
        if devices_on(node, facts):
            return None
        return ComponentFailure(
            str(DRA_DRIVER),
            "the cluster has no DaemonSet of the DRA driver: what publishes devices of other nodes runs outside "
            "Kubernetes, and has published none of this one",
            "Read the journal of the node for the driver that its image runs, or replace the node; where the driver "
            "was to be installed by its chart, install it.",
            joined_just_now(node, facts),
        )
    if not plugins:
        cause = "the cluster has no DaemonSet of the DRA driver with a container for GPUs"
        remedy = "Install the chart with resources.gpus.enabled and gpuResourcesEnabledOverride, or a GPUCluster."
        return ComponentFailure(str(DRA_DRIVER), cause, remedy)
    failure = failure_on(ExpectedComponent(DRA_DRIVER, plugins), node, facts)
    wrong = _wrong_driver_root(facts, node, plugins)
    if failure is not None and wrong and pods_of(plugins, node, facts):
        return failure._replace(
            cause=f"{failure.cause}; {wrong}", remedy="Correct nvidiaDriverRoot in the chart's values."
        )
    return failure


def declared_devices(reference: Reference, pool: Pool) -> Mapping[str, int]:
    """The devices that a node of a pool must publish, by type, MIG devices by profile.

    Raises Inconclusive when the MIG layout of the pool is unknown.
    """
    gpus = gpus_of(reference, pool)
    if gpus is None or None in gpus.mig:
        raise Inconclusive(f"{pool}: the layout {pool.mig_layout} is unknown; declare it under stack.mig_layouts")
    counted: Counter[str] = Counter()
    for layout in gpus.mig:
        counted.update({f"{MIG} {profile}": count for profile, count in (layout or {}).items()})
    return {**({GPU: gpus.whole} if gpus.whole else {}), **counted}


def format_devices(devices: Mapping[str, int]) -> str:
    """Devices in the format of ``Published.described``."""
    return ", ".join(f"{count} {what}" for what, count in sorted(devices.items())) or "no device"


def why_no_device_yet(facts: Facts, node: Node, there: Published) -> str:
    """Why a node may have published no device yet; empty where that is a failure, and where it has."""
    if there.devices or there.missing:
        return ""
    failure = plugin_failure(facts, node)
    return why_not_judged(failure, node, facts) if failure else why_unavailable(node, facts)


def why_the_devices_differ(facts: Facts, node: Node, there: Published, *, right: bool, other: Sequence[Device]) -> str:
    """Why the ResourceSlices of a node differ from its declared GPUs."""
    failure = plugin_failure(facts, node)
    if not there.devices:
        return failure.cause if failure else "the kubelet plugin's pod is Ready and has published nothing: see its log"
    if there.missing:
        return f"{there.missing} slices of the pool's newest generation are missing: the scheduler uses none of them"
    if not right:
        return f"the driver of the node lists {there.described}" + (f"; {failure.cause}" if failure else "")
    return f"{other[0]} is another product or has another memory than declared" if other else ""


def _wrong_driver_root(facts: Facts, node: Node, plugins: Sequence[Workload]) -> str:
    """That the kubelet plugin looks for the driver where another kind of installation has it; empty elsewhere.

    Any other root is where a platform keeps the driver, such as /home/kubernetes/bin/nvidia on GKE.
    """
    roots = {
        container.env[_ROOT_VARIABLE]
        for plugin in plugins
        for container in plugin.template.containers
        if container.name == DRA_GPU_CONTAINER and _ROOT_VARIABLE in container.env
    }
    brought = any(_brings_driver(pod.labels, pod.owner_name) for pod in facts.pods_on(node.name) if not pod.finished)
    where, whose = (_OPERATOR, "a driver pod of the operator") if brought else (_HOST, "the host itself")
    wrong = sorted((roots & {_HOST, _OPERATOR}) - {where})
    return f"its {_ROOT_VARIABLE} is {wrong[0]}, and {whose} has the driver at {where}" if wrong else ""


def _brings_driver(labels: Mapping[str, str], owner: str) -> bool:
    return labels.get("app.kubernetes.io/component") == "nvidia-driver" or owner.startswith("nvidia-driver-daemonset")
