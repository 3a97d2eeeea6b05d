"""The states of nodes in a driver upgrade, by the operator's labels.

Source: NVIDIA/k8s-operator-libs, pkg/upgrade (consts.go, common_manager.go).
"""

from collections.abc import Iterable

from conformance.facts import Node
from conformance.gpu.labels import UPGRADE_STATE
from conformance.upgrading.policy import DELETING_PODS, DRAINING

REQUIRED, DONE, FAILED, WAITING_FOR_JOBS = (
    "upgrade-required",
    "upgrade-done",
    "upgrade-failed",
    "wait-for-jobs-required",
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


def state_of(node: Node) -> str:
    """The driver upgrade state of a node; empty where it has never been upgraded."""
    return node.labels.get(UPGRADE_STATE, "")


def unavailable(nodes: Iterable[Node]) -> list[Node]:
    """The nodes that count as unavailable: cordoned or not Ready."""
    return [node for node in nodes if node.unschedulable or not node.ready]
