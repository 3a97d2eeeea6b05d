"""Where the nodes stand in a driver upgrade, as the operator's labels say, and what the upgrade may do.

Sources: NVIDIA/k8s-operator-libs, pkg/upgrade (consts.go, common_manager.go, upgrade_inplace.go, pod_manager.go);
NVIDIA/mig-parted, pkg/mig/reconfigure.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from conformance.facts import Facts, Node
from conformance.gpu.affinity import node_matches
from conformance.gpu.labels import DRIVER_OWNER, MIG_CONFIG_STATE, UPGRADE_STATE
from suites._shared.operator_resource import Root

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
"""The steps after a node was emptied: what they wait for takes minutes."""

_EMPTIED_BY = {DELETING_PODS: "podDeletion", DRAINING: "drain"}
"""The steps that take pods off a node, and the blocks of the upgrade policy that rule them."""

_MIG_UNDER_WAY = ("pending", "rebooting")


class WayToEmpty(NamedTuple):
    """One way to take GPU pods off a node, and the block of the upgrade policy that rules it."""

    block: str
    force: bool
    delete_empty_dir: bool

    @classmethod
    def said(cls, block: str, settings: Mapping[str, Any]) -> "WayToEmpty":
        """The way that a block of the policy describes; what it leaves out is off."""
        return cls(block, settings.get("force") is True, settings.get("deleteEmptyDir") is True)


class UpgradePolicy(NamedTuple):
    """How the operator upgrades drivers: ``spec.driver.upgradePolicy`` or that of an NVIDIADriver."""

    said_by: str
    settings: Mapping[str, Any]

    @property
    def automatic(self) -> bool:
        """Whether the operator upgrades nodes by itself."""
        return self.settings.get("autoUpgrade") is True

    @property
    def parallel(self) -> int:
        """How many nodes may be upgraded at once; 0 for any number."""
        said = self.settings.get("maxParallelUpgrades", 1)
        return said if isinstance(said, int) else 1

    @property
    def waits_for(self) -> str:
        """The label selector of the pods for whose end an upgrade waits; empty for none."""
        return str(self._block("waitForCompletion").get("podSelector") or "")

    @property
    def waits_forever(self) -> bool:
        """Whether that wait has no end."""
        return bool(self.waits_for) and not self._block("waitForCompletion").get("timeoutSeconds")

    def endless(self, step: str) -> str:
        """The block that lets a step wait without end for pods to go; empty where the step ends.

        Its timeoutSeconds is 0, which means infinite; what is left out is 300 (api/upgrade/v1alpha1/upgrade_spec.go).
        """
        block = _EMPTIED_BY.get(step, "")
        return block if self._block(block).get("timeoutSeconds") == 0 else ""

    @property
    def drains_some(self) -> bool:
        """Whether a drain takes only the pods of a label selector."""
        return bool(self._block("drain").get("podSelector"))

    @property
    def ways_to_empty(self) -> tuple["WayToEmpty", ...]:
        """By what rules GPU pods are taken off a node: they are deleted; where that is refused, drained if enabled."""
        drain = self._block("drain")
        way = WayToEmpty.said("podDeletion", self._block("podDeletion"))
        return (way, WayToEmpty.said("drain", drain)) if drain.get("enable") is True else (way,)

    def unavailable(self, nodes: int) -> int:
        """How many of ``nodes`` may be cordoned or not Ready before no further upgrade starts; percentages round up."""
        said = str(self.settings.get("maxUnavailable", "25%"))
        if said.endswith("%") and said[:-1].isdigit():
            return math.ceil(nodes * int(said[:-1]) / 100)
        return int(said) if said.isdigit() else nodes

    def _block(self, name: str) -> Mapping[str, Any]:
        found = self.settings.get(name)
        return found if isinstance(found, dict) else {}


def state_of(node: Node) -> str:
    """The step of a driver upgrade at which a node stands; empty where it has never been upgraded."""
    return node.labels.get(UPGRADE_STATE, "")


def is_changing(node: Node) -> str:
    """What takes components off a node for a while, in words; empty when nothing does."""
    if state_of(node) in UNDER_WAY:
        return f"a driver upgrade is under way ({state_of(node)})"
    if node.labels.get(MIG_CONFIG_STATE) in _MIG_UNDER_WAY:
        return f"its MIG layout is being changed ({MIG_CONFIG_STATE}={node.labels[MIG_CONFIG_STATE]})"
    return ""


def unavailable(nodes: Iterable[Node]) -> list[Node]:
    """The nodes that count as unavailable: cordoned or not Ready."""
    return [node for node in nodes if node.unschedulable or not node.ready]


def policy_for(node: Node, root: Root, facts: Facts) -> UpgradePolicy:
    """What is said about upgrading the driver of a node: by its NVIDIADriver, else by the operator's object."""
    if root.leaves_drivers_to_objects:
        owner = node.labels.get(DRIVER_OWNER, "")
        drivers = [each for each in facts.nvidia_drivers if each.name == owner] or [
            each for each in facts.nvidia_drivers if node_matches(node.labels, node.name, _selector(each.spec), None)
        ]
        for driver in drivers:
            if isinstance(driver.spec.get("upgradePolicy"), dict):
                return UpgradePolicy(str(driver), driver.spec["upgradePolicy"])
    said = root.at("driver.upgradePolicy")
    return UpgradePolicy(str(root), said if isinstance(said, dict) else {})


def _selector(spec: Mapping[str, Any]) -> dict[str, str]:
    found = spec.get("nodeSelector")
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}
