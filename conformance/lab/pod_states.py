"""What a pod of a scenario is doing, as its object says."""

from collections.abc import Mapping
from typing import Any

import msgspec

from conformance.verdict import note_container

__all__ = ["PREEMPTED", "TAINTED", "PodState", "state_of"]

# Reasons of the condition DisruptionTarget by which scenarios mean a pod to go (kubernetes.io: Disruptions, Pod
# disruption conditions). A drain, an autoscaler that takes the node, a full disk have others.
PREEMPTED, TAINTED = "PreemptionByScheduler", "DeletionByTaintManager"


class PodState(msgspec.Struct, frozen=True):
    """What a pod was doing when it was looked at."""

    gone: bool = False
    phase: str = ""
    node: str | None = None
    nominated_node: str | None = None
    priority: int | None = None
    deleting: bool = False
    disrupted: str = ""
    """The reason of its DisruptionTarget condition, such as PreemptionByScheduler."""
    unscheduled: str = ""
    """The reason of its PodScheduled condition while that is False: Unschedulable, SchedulingGated."""
    waiting: str = ""
    """Why its first waiting container waits, such as ImagePullBackOff."""
    exit_code: int | None = None
    """That of its first container that has ended."""
    ready: bool = False

    @property
    def removed(self) -> bool:
        """Whether it is gone, on its way out, or ended by a disruption."""
        return self.gone or self.deleting or (self.phase == "Failed" and bool(self.disrupted))

    @property
    def running(self) -> bool:
        """Whether it runs and stays."""
        return self.phase == "Running" and not self.removed

    def __str__(self) -> str:
        if self.gone:
            return "gone"
        words = f"{self.phase or 'without phase'} {f'on node {self.node}' if self.node else 'without node'}"
        if self.nominated_node and not self.node:
            words += f", nominated for node {self.nominated_node}"
        reasons = [reason for reason in (self.waiting, self.unscheduled, self.disrupted) if reason]
        if self.deleting:
            reasons.insert(0, "being deleted")
        return f"{words} ({', '.join(reasons)})" if reasons else words


def state_of(pod: Mapping[str, Any] | None) -> PodState:
    """What a pod object says that the pod is doing; None stands for one that is gone."""
    if pod is None:
        return PodState(gone=True)
    status = pod.get("status") or {}
    for each in status.get("containerStatuses") or ():
        note_container(str(each.get("containerID") or ""))
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    scheduled, disrupted = conditions.get("PodScheduled", {}), conditions.get("DisruptionTarget", {})
    waiting = [
        each["state"]["waiting"].get("reason", "")
        for each in status.get("containerStatuses") or ()
        if _has(each, "waiting")
    ]
    ended = [each["state"]["terminated"] for each in status.get("containerStatuses") or () if _has(each, "terminated")]
    return PodState(
        phase=str(status.get("phase") or ""),
        node=pod["spec"].get("nodeName"),
        nominated_node=status.get("nominatedNodeName"),
        priority=pod["spec"].get("priority"),
        deleting=bool(pod["metadata"].get("deletionTimestamp")),
        disrupted=str(disrupted.get("reason") or "DisruptionTarget") if disrupted.get("status") == "True" else "",
        unscheduled=str(scheduled.get("reason") or "") if scheduled.get("status") == "False" else "",
        waiting=waiting[0] if waiting else "",
        exit_code=int(ended[0].get("exitCode", 0)) if ended else None,
        ready=conditions.get("Ready", {}).get("status") == "True",
    )


def _has(container: Mapping[str, Any], state: str) -> bool:
    return bool((container.get("state") or {}).get(state))
