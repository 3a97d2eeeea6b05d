"""Why one pod does not run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from conformance.explaining import containers, queues, scheduling
from conformance.explaining.explanation import Explanation, Stage
from conformance.explaining.seen import has_condition

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.explaining.seen import Seen
    from conformance.gpu.placement import Manifest


def explain(seen: Seen, pod: Manifest) -> Explanation:
    """Explain a pod by the first of its stages that it has not left."""
    steps: tuple[Callable[[Seen, Manifest], Explanation | None], ...] = (_ended, _deleting, queues.held_back, _unbound)
    found = next((told for step in steps if (told := step(seen, pod)) is not None), None) or _on_node(pod)
    name, namespace = pod["metadata"]["name"], pod["metadata"].get("namespace")
    return msgspec.structs.replace(
        found,
        subject=f"pod {namespace}/{name}",
        inspect=found.inspect or f"kubectl describe pod {name} -n {namespace}",
        node=str(pod["spec"].get("nodeName") or ""),
    )


def _told(stage: Stage, cause: str, remedy: str = "", inspect: str = "", **more: Any) -> Explanation:
    return Explanation(subject="", stage=stage, cause=cause, remedy=remedy, inspect=inspect, **more)


def _status(pod: Manifest) -> Manifest:
    return pod.get("status") or {}


def _ended(_: Seen, pod: Manifest) -> Explanation | None:
    status = _status(pod)
    phase, reason = status.get("phase"), str(status.get("reason") or "")
    if phase not in ("Succeeded", "Failed"):
        return None
    if phase == "Failed" and reason in containers.REFUSALS:
        return _told(Stage.REFUSED_BY_NODE, *containers.refusal(pod))
    problem = containers.problem_of(pod)
    if phase == "Failed" and problem is not None:
        return _told(Stage.CRASHED, problem.cause, problem.remedy, problem.inspect)
    why = f" ({reason}: {status.get('message') or 'no message'})" if reason else ""
    return _told(Stage.FINISHED, f"it has ended: {phase}{why}")


def _deleting(_: Seen, pod: Manifest) -> Explanation | None:
    if not pod["metadata"].get("deletionTimestamp"):
        return None
    kept = ", ".join(pod["metadata"].get("finalizers") or ())
    waits = f"the finalizer {kept}" if kept else "its containers to end, which its kubelet reports"
    remedy = (
        "A finalizer is removed by whoever set it." if kept else "If its node is gone, the node object has to go first."
    )
    return _told(Stage.DELETING, f"it is being deleted and waits for {waits}", remedy)


def _unbound(seen: Seen, pod: Manifest) -> Explanation | None:
    return None if pod["spec"].get("nodeName") else scheduling.explain(seen, pod)


def _on_node(pod: Manifest) -> Explanation:
    problem = containers.problem_of(pod)
    if problem is not None:
        stage = Stage.CRASHED if problem.ran else Stage.STARTING
        return _told(stage, problem.cause, problem.remedy, problem.inspect)
    node = pod["spec"]["nodeName"]
    if _status(pod).get("phase") == "Running":
        if has_condition(pod, "Ready"):
            return _told(Stage.RUNNING, "it runs and is ready")
        return _told(
            Stage.RUNNING,
            "it runs and is not ready: a readiness probe or a readiness gate does not hold",
            "Its events say what the probe got; a probe that asks before a model is loaded needs a startupProbe.",
        )
    return _told(
        Stage.STARTING,
        f"it is bound to node {node}, whose kubelet has started none of its containers yet",
        f"See whether node {node} is Ready; the pod's events say what its kubelet waits for (image, volume, claim).",
    )
