"""The states of nodes in a driver upgrade, by the operator's labels, and the upgrade policy.

Source: NVIDIA/k8s-operator-libs, pkg/upgrade (consts.go, common_manager.go, upgrade_inplace.go, pod_manager.go).
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from conformance.facts import Facts, Node
from conformance.gpu.label_selectors import text_selects
from conformance.gpu.labels import UPGRADE_STATE
from suites._shared.driver_objects import driver_object_of
from suites._shared.operator_resource import OperatorResource

REQUIRED, DONE, FAILED, WAITING_FOR_JOBS, DELETING_PODS, DRAINING = (
    "upgrade-required",
    "upgrade-done",
    "upgrade-failed",
    "wait-for-jobs-required",
    "pod-deletion-required",
    "drain-required",
)
UNDER_WAY = (
    "cordon-required",
    WAITING_FOR_JOBS,
    DELETING_PODS,
    DRAINING,
    "node-maintenance-required",
    "post-maintenance-required",
    "pod-restart-required",
    "validation-required",
    "uncordon-required",
)
AT_THE_DRIVER = ("pod-restart-required", "validation-required", "uncordon-required")
"""The states after the pods of a node were removed: what they wait for takes minutes."""

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
        return str(self._block("waitForCompletion").get("podSelector") or "")

    def waits_for_pod(self, labels: Mapping[str, str]) -> bool:
        """Whether an upgrade waits for pods with these labels. Raises ValueError for a podSelector that is none."""
        return bool(self.waits_for) and text_selects(self.waits_for, labels)

    @property
    def waits_without_timeout(self) -> bool:
        """Whether that wait has no timeout."""
        return bool(self.waits_for) and not self._block("waitForCompletion").get("timeoutSeconds")

    def block_without_timeout(self, state: str) -> str:
        """The block that lets a state wait without timeout for pods to end; empty where there is a timeout.

        Its timeoutSeconds is 0, which means infinite; the default is 300 (api/upgrade/v1alpha1/upgrade_spec.go).
        """
        block = _BLOCK_OF_STATE.get(state, "")
        return block if self._block(block).get("timeoutSeconds") == 0 else ""

    def timeout_of(self, block: str) -> int:
        """The seconds that podDeletion or drain may take on a node, 300 where the policy is silent; 0 for any time."""
        value = self._block(block).get("timeoutSeconds", 300)
        return value if isinstance(value, int) else 300

    def drains(self, labels: Mapping[str, str]) -> bool:
        """Whether a drain takes pods with these labels. Raises ValueError where its podSelector is no selector."""
        return text_selects(str(self._block("drain").get("podSelector") or ""), labels)

    @property
    def drains_selected_pods(self) -> bool:
        """Whether a drain evicts only the pods of a label selector."""
        return bool(self._block("drain").get("podSelector"))

    @property
    def pod_removals(self) -> tuple["PodRemoval", ...]:
        """How GPU pods are removed from a node: they are deleted; where that is refused, drained if enabled."""
        drain = self._block("drain")
        deletion = PodRemoval.from_block("podDeletion", self._block("podDeletion"))
        return (deletion, PodRemoval.from_block("drain", drain)) if drain.get("enable") is True else (deletion,)

    def unavailable(self, nodes: int) -> int:
        """How many of ``nodes`` may be cordoned or not Ready before no further upgrade starts; percentages round up."""
        value = str(self.settings.get("maxUnavailable", "25%"))
        if value.endswith("%") and value[:-1].isdigit():
            return math.ceil(nodes * int(value[:-1]) / 100)
        return int(value) if value.isdigit() else nodes

    def _block(self, name: str) -> Mapping[str, Any]:
        found = self.settings.get(name)
        return found if isinstance(found, dict) else {}


def state_of(node: Node) -> str:
    """The driver upgrade state of a node; empty where it has never been upgraded."""
    return node.labels.get(UPGRADE_STATE, "")


def unavailable(nodes: Iterable[Node]) -> list[Node]:
    """The nodes that count as unavailable: cordoned or not Ready."""
    return [node for node in nodes if node.unschedulable or not node.ready]


def policy_for(node: Node, operator_resource: OperatorResource, facts: Facts) -> UpgradePolicy:
    """The upgrade policy for the driver of a node: of its NVIDIADriver, else of the operator resource."""
    if operator_resource.uses_nvidia_driver_objects:
        driver = driver_object_of(node, facts)
        if driver is not None and isinstance(driver.spec.get("upgradePolicy"), dict):
            return UpgradePolicy(str(driver), driver.spec["upgradePolicy"])
    settings = operator_resource.at("driver.upgradePolicy")
    return UpgradePolicy(str(operator_resource), settings if isinstance(settings, dict) else {})
