"""The upgrade policy of drivers: how many nodes at once, what is waited for, how pods are removed from a node.

Source: NVIDIA/k8s-operator-libs, pkg/upgrade (common_manager.go, upgrade_inplace.go, pod_manager.go);
NVIDIA/gpu-operator v26.7.0, controllers/upgrade_controller.go.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from conformance.facts import Facts, Node, Resource
from conformance.gpu.affinity import node_matches
from conformance.gpu.label_selectors import text_selects
from conformance.gpu.labels import DRIVER_OWNER, GPU_PRESENT

DELETING_PODS, DRAINING = "pod-deletion-required", "drain-required"

_EVICTION_LABEL = "NODE_LABEL_FOR_GPU_POD_EVICTION"
_BLOCK_OF_STATE = {DELETING_PODS: "podDeletion", DRAINING: "drain"}
"""The states in which pods are removed from a node, and their blocks of the upgrade policy."""


class PodRemoval(NamedTuple):
    """One way to remove GPU pods from a node, and its block of the upgrade policy."""

    block: str
    force: bool
    delete_empty_dir: bool

    @classmethod
    def from_block(cls, block: str, settings: Mapping[str, Any]) -> "PodRemoval":
        """The removal that a block of the policy describes; absent fields are false."""
        return cls(block, settings.get("force") is True, settings.get("deleteEmptyDir") is True)


class UpgradePolicy(NamedTuple):
    """How the operator upgrades drivers: ``spec.driver.upgradePolicy`` or that of an NVIDIADriver."""

    source: str
    settings: Mapping[str, Any]

    @property
    def automatic(self) -> bool:
        """Whether the operator upgrades nodes by itself."""
        return self.settings.get("autoUpgrade") is True

    @property
    def parallel(self) -> int:
        """How many nodes may be upgraded at once; 0 for any number."""
        value = self.settings.get("maxParallelUpgrades", 1)
        return value if isinstance(value, int) else 1

    @property
    def waits_for(self) -> str:
        """The label selector of the pods for whose completion an upgrade waits; empty for none."""
        return str(_block(self.settings, "waitForCompletion").get("podSelector") or "")

    def waits_for_pod(self, labels: Mapping[str, str]) -> bool:
        """Whether an upgrade waits for pods with these labels. Raises ValueError for a podSelector that is none."""
        return bool(self.waits_for) and text_selects(self.waits_for, labels)

    @property
    def waits_without_timeout(self) -> bool:
        """Whether that wait has no timeout."""
        return bool(self.waits_for) and not _block(self.settings, "waitForCompletion").get("timeoutSeconds")

    def block_without_timeout(self, state: str) -> str:
        """The block that lets a state wait without timeout for pods to end; empty where there is a timeout.

        Its timeoutSeconds is 0, which means infinite; the default is 300 (api/upgrade/v1alpha1/upgrade_spec.go).
        """
        block = _BLOCK_OF_STATE.get(state, "")
        return block if _block(self.settings, block).get("timeoutSeconds") == 0 else ""

    def timeout_of(self, block: str) -> int:
        """The seconds that podDeletion or drain may take on a node, 300 where the policy is silent; 0 for any time."""
        value = _block(self.settings, block).get("timeoutSeconds", 300)
        return value if isinstance(value, int) else 300

    def drains(self, labels: Mapping[str, str]) -> bool:
        """Whether a drain takes pods with these labels. Raises ValueError where its podSelector is no selector."""
        return text_selects(str(_block(self.settings, "drain").get("podSelector") or ""), labels)

    @property
    def drains_selected_pods(self) -> bool:
        """Whether a drain evicts only the pods of a label selector."""
        return bool(_block(self.settings, "drain").get("podSelector"))

    @property
    def pod_removals(self) -> tuple["PodRemoval", ...]:
        """How GPU pods are removed from a node: they are deleted; where that is refused, drained if enabled."""
        drain = _block(self.settings, "drain")
        deletion = PodRemoval.from_block("podDeletion", _block(self.settings, "podDeletion"))
        return (deletion, PodRemoval.from_block("drain", drain)) if drain.get("enable") is True else (deletion,)

    def at_once(self, nodes: int) -> int:
        """How many of ``nodes`` may be away at the same time."""
        most = self.unavailable(nodes)
        return min(most, self.parallel) if self.parallel else most

    def unavailable(self, nodes: int) -> int:
        """How many of ``nodes`` may be cordoned or not Ready before no further upgrade starts; percentages round up."""
        value = str(self.settings.get("maxUnavailable", "25%"))
        if value.endswith("%") and value[:-1].isdigit():
            return math.ceil(nodes * int(value[:-1]) / 100)
        return int(value) if value.isdigit() else nodes


def policy_for(node: Node, facts: Facts) -> UpgradePolicy:
    """The policy for the driver of a node: of its NVIDIADriver, else of the operator's resource, else of nobody."""
    told = _told_of_driver(node, facts)
    if told is None:
        return UpgradePolicy("", {})
    return UpgradePolicy(told[0], _block(told[1], "upgradePolicy"))


def eviction_label_of(node: Node, facts: Facts) -> str:
    """The node label by which the driver manager takes pods off a node beside the operands; empty where it knows none.

    Its variable NODE_LABEL_FOR_GPU_POD_EVICTION (NVIDIA/k8s-driver-manager, cmd/driver-manager/main.go).
    """
    told = _told_of_driver(node, facts)
    variables = _block(told[1], "manager").get("env") if told is not None else None
    for each in variables if isinstance(variables, list) else ():
        if isinstance(each, dict) and each.get("name") == _EVICTION_LABEL:
            return str(each.get("value") or "")
    return ""


def _told_of_driver(node: Node, facts: Facts) -> tuple[str, Mapping[str, Any]] | None:
    """What says how the driver of a node is brought, and what it says; None where nothing does."""
    operator = facts.followed_policy or next(iter(facts.gpu_clusters), None)
    if operator is None:
        return None
    settings = _block(operator.spec, "driver")
    if operator.kind == "GPUCluster" or settings.get("useNvidiaDriverCRD") is True:
        driver = driver_object_of(node, facts)
        if driver is not None and isinstance(driver.spec.get("upgradePolicy"), dict):
            return str(driver), driver.spec
    return str(operator), settings


def driver_objects_selecting(node: Node, facts: Facts) -> tuple[Resource, ...]:
    """The NVIDIADrivers that select a GPU node; the default one only where no other does."""
    if node.labels.get(GPU_PRESENT) != "true":
        return ()
    found = tuple(each for each in facts.nvidia_drivers if node_matches(node.labels, node.name, _selector(each), None))
    return tuple(each for each in found if each.spec.get("default") is not True) or found


def driver_object_of(node: Node, facts: Facts) -> Resource | None:
    """The NVIDIADriver that defines the driver of a node: by the operator's label, else by its selector."""
    owner = node.labels.get(DRIVER_OWNER, "")
    owning = [each for each in facts.nvidia_drivers if each.name == owner]
    return next(iter(owning or driver_objects_selecting(node, facts)), None)


def _selector(driver: Resource) -> dict[str, str]:
    return {str(key): str(value) for key, value in _block(driver.spec, "nodeSelector").items()}


def _block(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = settings.get(name)
    return found if isinstance(found, dict) else {}
