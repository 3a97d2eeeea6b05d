"""Why one pod does not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from conformance.explaining import containers, queues, scheduling
from conformance.explaining.explanation import Explanation, Stage
from conformance.explaining.on_node import container_failure, deleting, on_node
from conformance.explaining.seen import condition

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.explaining.seen import Seen
    from conformance.gpu.placement import Manifest


def explain(seen: Seen, pod: Manifest) -> Explanation:
    """Explain a pod by the first of its stages that it has not left."""
    steps: tuple[Callable[[Seen, Manifest], Explanation | None], ...] = (deleting, _ended, queues.held_back, _unbound)
    found = next((told for step in steps if (told := step(seen, pod)) is not None), None) or on_node(seen, pod)
    name, namespace = pod["metadata"]["name"], pod["metadata"].get("namespace")
    return msgspec.structs.replace(
        found,
        subject=f"pod {namespace}/{name}",
        inspect=found.inspect or f"kubectl describe pod {name} -n {namespace}",
        node=str(pod["spec"].get("nodeName") or ""),
    )


def _told(stage: Stage, cause: str, remedy: str = "", inspect: str = "") -> Explanation:
    return Explanation(subject="", stage=stage, cause=cause, remedy=remedy, inspect=inspect)


def _ended(seen: Seen, pod: Manifest) -> Explanation | None:
    status = pod.get("status") or {}
    phase, reason = status.get("phase"), str(status.get("reason") or "")
    if phase not in ("Succeeded", "Failed"):
        return None
    if phase == "Failed" and containers.is_refusal(reason):
        return _told(Stage.REFUSED_BY_NODE, *containers.refusal(pod))
    if phase == "Failed" and reason == "Evicted":
        return _told(Stage.FINISHED, *_evicted(pod))
    if phase == "Failed" and reason == "DeadlineExceeded":
        return _told(Stage.FINISHED, *_over_its_deadline(pod))
    gone = condition(pod, "DisruptionTarget")
    if phase == "Failed" and gone.get("status") == "True":
        return _told(
            Stage.FINISHED,
            f"it was ended by others ({gone.get('reason')}): {gone.get('message') or 'no message'}",
            "Its owner makes another one. If that must not happen, see its priority, the taints of its node, and "
            "disruption budgets.",
        )
    problem = containers.problem_of(pod)
    if phase == "Failed" and problem is not None:
        return container_failure(seen, pod, problem)
    why = f" ({reason}: {status.get('message') or 'no message'})" if reason else ""
    return _told(Stage.FINISHED, f"it has ended: {phase}{why}")


def _evicted(pod: Manifest) -> tuple[str, str]:
    node, words = pod["spec"].get("nodeName"), (pod.get("status") or {}).get("message") or "it does not say why"
    return f"the kubelet of node {node} evicted it (Evicted): {words}", (
        "State what it uses as its requests (memory, ephemeral-storage), and let an emptyDir in memory have a "
        "sizeLimit that its memory limit covers. Its owner makes another one."
    )


def _over_its_deadline(pod: Manifest) -> tuple[str, str]:
    seconds = pod["spec"].get("activeDeadlineSeconds")
    stated = f"its activeDeadlineSeconds{f' of {seconds} s' if seconds else ''}"
    return f"it ran longer than {stated} and was ended (DeadlineExceeded)", (
        "Give it more time (activeDeadlineSeconds of the pod or of its Job), or find out why it took so long."
    )


def _unbound(seen: Seen, pod: Manifest) -> Explanation | None:
    return None if pod["spec"].get("nodeName") else scheduling.explain(seen, pod)
