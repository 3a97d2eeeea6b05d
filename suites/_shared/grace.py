"""What time will settle: nodes that joined just now, driver upgrades and changes of MIG under way.

One definition for every requirement.

A label says that something is under way only where somebody is there to do it: the operator writes the state of a
driver upgrade and removes it, so that on a node whose driver it does not manage the label is left over from an earlier
life, and excuses nothing (NVIDIA/gpu-operator issue 626).
Sources: NVIDIA/k8s-operator-libs, pkg/upgrade; NVIDIA/mig-parted, pkg/mig/reconfigure; NVIDIA/gpu-operator v26.7.0,
controllers/upgrade_controller.go (labels are removed where autoUpgrade is off, and left where the driver is).
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache

from conformance.facts import Facts, Node, Pod
from conformance.facts.programs import runs_program
from conformance.gpu.labels import DEPLOY, MIG_CONFIG_STATE
from conformance.gpu.stack_programs import MIG_MANAGER as MIG_MANAGER_PROGRAM
from conformance.gpu.taints import CORDON
from conformance.reference.model import Reference
from conformance.verdict import Inconclusive
from suites._shared.operands import DRIVER, MIG_MANAGER, PRE_INSTALLED
from suites._shared.operator_resource import find_operator_resource
from suites._shared.pod_status import DRIVER_MANAGER
from suites._shared.pool_nodes import is_for_containers
from suites._shared.upgrade_states import DONE, UNDER_WAY, state_of

STARTING = timedelta(minutes=15)
"""How long a pod or a new node may take: NVIDIA's own end-to-end tests give the operands this long to be Ready."""

_MIG_UNDER_WAY = ("pending", "rebooting")
_SYSTEM_UPDATE_TAKES = timedelta(hours=1)

# Who updates the operating system of a node, the annotation by which it says so, and its values; any without values.
# Sources: openshift/machine-config-operator, pkg/daemon/constants/constants.go; flatcar/flatcar-linux-update-operator,
# pkg/constants/constants.go; kubereboot/kured, cmd/kured/main.go (--annotate-nodes).
_SYSTEM_UPDATES = (
    ("the Machine Config Operator", "machineconfiguration.openshift.io/state", ("Working", "Rebooting")),
    ("Flatcar's update operator", "flatcar-linux-update.v1.flatcar-linux.net/reboot-in-progress", ("true",)),
    ("kured", "weave.works/kured-reboot-in-progress", ()),
)


def is_recent(when: datetime | None, now: datetime) -> bool:
    """Whether something is so new that it may still be starting; without a date it is not."""
    return when is not None and now - when < STARTING


def joined_just_now(node: Node, facts: Facts) -> bool:
    """Whether a node is so new that what makes it a GPU node may still be starting there."""
    return is_recent(node.created, facts.taken_at)


def is_changing(node: Node, facts: Facts) -> str:
    """The change of a node during which components are missing, as text; empty without one."""
    if is_upgrading(node, facts):
        return f"a driver upgrade is under way ({state_of(node)})"
    if node.labels.get(MIG_CONFIG_STATE) in _MIG_UNDER_WAY and _has_mig_manager(node, facts):
        return f"its MIG layout is being changed ({MIG_CONFIG_STATE}={node.labels[MIG_CONFIG_STATE]})"
    if updated_by := system_updated_by(node, facts):
        return f"{updated_by} is updating its system"
    replacing = driver_being_replaced(node, facts)
    if replacing is not None and is_recent(replacing.created, facts.taken_at):
        return f"{replacing} is about to load the driver anew"
    return ""


def system_updated_by(node: Node, facts: Facts) -> str:
    """Who is updating the operating system of a cordoned node, by its annotations; empty where nobody says so.

    So for an hour from the cordon on, in which machines with many GPUs drain and start: the annotation stays where an
    update hangs.
    """
    cordoned = node.tainted.get(CORDON.key)
    if not node.unschedulable or cordoned is None or facts.taken_at - cordoned > _SYSTEM_UPDATE_TAKES:
        return ""
    for who, key, values in _SYSTEM_UPDATES:
        if key in node.annotations and (not values or node.annotations[key] in values):
            return who
    return ""


def driver_being_replaced(node: Node, facts: Facts) -> Pod | None:
    """The driver pod of a node whose driver manager has not ended; None without one, or where pods could not be read.

    It does its work whenever a driver pod starts, with an upgrade or without one: it sets the labels of operands to
    paused-for-driver-upgrade, cordons the node, unloads the driver, and undoes the rest when it ends, also with an
    error. Source: NVIDIA/k8s-driver-manager, cmd/driver-manager/main.go (uninstallDriver, cleanupOnFailure).
    """
    return _drivers_being_replaced(facts).get(node.name)


# Asked for each node of thousands; a run has one set of facts.
@lru_cache(maxsize=1)
def _drivers_being_replaced(facts: Facts) -> Mapping[str, Pod]:
    pods = () if "pods" in facts.unreadable else facts.pods
    at_work = (
        pod
        for pod in reversed(pods)
        for each in pod.statuses
        if each.init and each.name == DRIVER_MANAGER and each.exit_code != 0
    )
    return {pod.node: pod for pod in at_work if not pod.finished and not pod.deleting}


def is_upgrading(node: Node, facts: Facts) -> bool:
    """Whether the operator is upgrading the driver of a node."""
    return state_of(node) in UNDER_WAY and has_managed_driver(node, facts)


def is_left_behind(node: Node, facts: Facts) -> bool:
    """Whether a node's label speaks of a driver upgrade, and nobody manages its driver who would end that upgrade."""
    return state_of(node) not in ("", DONE) and not has_managed_driver(node, facts)


def why_unavailable(node: Node, facts: Facts) -> str:
    """Why components may be missing on a node for a while: it is not Ready, or is being changed; else empty."""
    return "the node is not Ready" if not node.ready else is_changing(node, facts)


def has_managed_driver(node: Node, facts: Facts) -> bool:
    """Whether the operator manages the driver of a node; so, too, where the operator's resource could not be read."""
    return node.labels.get(f"{DEPLOY}{DRIVER.deploy}") != PRE_INSTALLED and _manages_drivers(facts)


def every_driver_is_pre_installed(facts: Facts, reference: Reference) -> bool:
    """Whether all nodes of NVIDIA GPU pools bring a driver, which the operator found there and leaves alone."""
    nodes = [
        node for pool in reference.gpu_pools if is_for_containers(pool) for node in facts.nodes_with(pool.selector)
    ]
    return bool(nodes) and all(node.labels.get(f"{DEPLOY}{DRIVER.deploy}") == PRE_INSTALLED for node in nodes)


# Asked for each node of thousands; a run has one set of facts.
@lru_cache(maxsize=1)
def _manages_drivers(facts: Facts) -> bool:
    try:
        resource = find_operator_resource(facts)
        return resource is not None and DRIVER.is_wanted(resource, len(facts.nvidia_drivers))
    except Inconclusive:
        return True


def _has_mig_manager(node: Node, facts: Facts) -> bool:
    """Whether somebody is there who changes the MIG layout of a node: the operator's MIG manager, or one by itself."""
    return _manages_mig(facts) or any(
        MIG_MANAGER in pod.owner_name or runs_program(pod, MIG_MANAGER_PROGRAM) for pod in facts.pods_on(node.name)
    )


@lru_cache(maxsize=1)
def _manages_mig(facts: Facts) -> bool:
    try:
        resource = find_operator_resource(facts)
        return resource is None or resource.enabled("migManager")
    except Inconclusive:
        return True
