"""How many nodes may be upgraded at a time, and what an upgrade policy says of it.

Source: NVIDIA/k8s-operator-libs, pkg/upgrade/common_manager.go (GetUpgradesAvailable) and api/upgrade/v1alpha1.
"""

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from conformance.simulator.clusterpolicy import mapping
from conformance.simulator.evacuation import Rules, rules_of


class Step(StrEnum):
    """The values of the label nvidia.com/gpu-driver-upgrade-state, in their order; empty before the first."""

    UNKNOWN = ""
    UPGRADE_REQUIRED = "upgrade-required"
    CORDON_REQUIRED = "cordon-required"
    WAIT_FOR_JOBS_REQUIRED = "wait-for-jobs-required"
    POD_DELETION_REQUIRED = "pod-deletion-required"
    DRAIN_REQUIRED = "drain-required"
    POD_RESTART_REQUIRED = "pod-restart-required"
    VALIDATION_REQUIRED = "validation-required"
    UNCORDON_REQUIRED = "uncordon-required"
    DONE = "upgrade-done"
    FAILED = "upgrade-failed"


NOT_IN_PROGRESS = frozenset((Step.UNKNOWN, Step.DONE, Step.UPGRADE_REQUIRED))
"""A node that failed is in progress: it keeps its slot until somebody sees to it."""


class UpgradePolicy(msgspec.Struct, frozen=True):
    """An upgrade policy with what holds where it is silent.

    ``parallel`` 0 is no limit, ``unavailable`` a number of nodes or a percentage, ``jobs`` the selector of pods whose
    end is waited for, ``job_seconds`` 0 for ever. ``drain`` is None where nodes are not drained.
    """

    parallel: int = 1
    unavailable: int | str = "25%"
    jobs: str = ""
    job_seconds: int = 0
    pods: Rules = Rules()
    drain: Rules | None = None
    drained: str = ""

    def most_unavailable(self, total: int) -> int:
        """How many of ``total`` nodes may be unavailable; a part of a node counts as one."""
        text = str(self.unavailable)
        if text.endswith("%") and text[:-1].isdigit():
            return math.ceil(total * int(text[:-1]) / 100)
        return int(text) if text.isdigit() else total


def policy_of(block: Mapping[str, Any]) -> UpgradePolicy | None:
    """The policy of a block; None where drivers are not upgraded."""
    if block.get("autoUpgrade") is not True:
        return None
    waits, drain = mapping(block.get("waitForCompletion")), mapping(block.get("drain"))
    parallel, unavailable, patience = (
        block.get("maxParallelUpgrades", 1),
        block.get("maxUnavailable"),
        waits.get("timeoutSeconds"),
    )
    return UpgradePolicy(
        parallel=parallel if isinstance(parallel, int) else 1,
        unavailable=unavailable if isinstance(unavailable, int | str) else "25%",
        jobs=str(waits.get("podSelector") or ""),
        job_seconds=patience if isinstance(patience, int) else 0,
        pods=rules_of(mapping(block.get("podDeletion"))),
        drain=rules_of(drain) if drain.get("enable") is True else None,
        drained=str(drain.get("podSelector") or ""),
    )


class UpgradingNode(msgspec.Struct, frozen=True):
    """One node of those that are upgraded together."""

    name: str
    step: str
    unavailable: bool
    """Whether it is cordoned, or not ready."""


def free_slots(policy: UpgradePolicy, nodes: Iterable[UpgradingNode]) -> int:
    """How many more nodes may begin, by what is in progress and what is unavailable already."""
    nodes = list(nodes)
    begun = sum(node.step not in NOT_IN_PROGRESS for node in nodes)
    waiting = sum(node.step == Step.UPGRADE_REQUIRED for node in nodes)
    most = policy.most_unavailable(len(nodes))
    free = min(policy.parallel - begun if policy.parallel else waiting, most)
    # Those that are about to be cordoned are counted beside those that are.
    gone = sum(node.unavailable for node in nodes) + sum(node.step == Step.CORDON_REQUIRED for node in nodes)
    if gone >= most:
        return 0
    return most - gone if most < len(nodes) and gone + free > most else free
