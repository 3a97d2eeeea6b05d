"""How the pod of an operand looks that cannot get on: which of its containers waits, and what for.

A held pod has the annotation that keeps KWOK from starting it. Its status is written here only when it stays held, so
that one which merely waits for its turn costs nothing.
"""

from datetime import UTC, datetime

import msgspec

from conformance.kube.paths import path
from conformance.simulator.agents import phase_of
from conformance.simulator.annotations import HELD, annotation
from conformance.simulator.world import Object, World

CRASH_LOOP, CREATING, INITIALIZING = "CrashLoopBackOff", "ContainerCreating", "PodInitializing"

RESTARTS = 11
"""How often a container has ended that ends again and again: time runs fast here, and an upgrade of a driver gives up
after more than ten (k8s-operator-libs, pkg/upgrade/common_manager.go)."""


class Stop(msgspec.Struct, frozen=True):
    """Where a pod has stopped.

    ``container`` is the one that does not end or does not start, empty when the pod has no sandbox. ``exit_code`` is
    how it ends again and again; None while it runs and waits for something.
    """

    container: str = ""
    exit_code: int | None = None


def is_held(pod: Object) -> bool:
    """Whether KWOK is kept from starting a pod."""
    return bool(annotation(pod, HELD))


def release(world: World, pod: Object) -> None:
    """Let a held pod start. Raises KubeError."""
    if phase_of(pod) == "Running":  # a crash that is over
        world.client.patch(_path(pod, "status"), {"status": {"phase": "Pending", "containerStatuses": None}})
    world.client.patch(_path(pod), {"metadata": {"annotations": {HELD: None}}})


def show(world: World, pod: Object, stop: Stop) -> None:
    """Have a held pod say where it has stopped, if it does not. Raises KubeError."""
    wanted = _status(pod, stop)
    if not _says(pod, wanted):
        world.client.patch(_path(pod, "status"), {"status": wanted}, kind="strategic")


def _path(pod: Object, subresource: str | None = None) -> str:
    return path("Pod", namespace=pod["metadata"]["namespace"], name=pod["metadata"]["name"], subresource=subresource)


def _status(pod: Object, stop: Stop) -> Object:
    first, main = pod["spec"].get("initContainers") or [], pod["spec"]["containers"]
    names = [each["name"] for each in first]
    crashed = stop.container not in names and stop.exit_code is not None
    reached = names.index(stop.container) if stop.container in names else (len(names) if crashed else -1)
    status: Object = {"phase": "Running" if crashed else "Pending", "conditions": _conditions(initialized=crashed)}
    if reached >= 0 and first:
        status["initContainerStatuses"] = [_initial(each, at, reached, stop) for at, each in enumerate(first)]
    waiting = {"reason": CREATING if reached < 0 else INITIALIZING}
    status["containerStatuses"] = [
        _crashing(each, stop) if crashed else _one(each, {"waiting": waiting}) for each in main
    ]
    return status


def _initial(container: Object, at: int, reached: int, stop: Stop) -> Object:
    if at < reached:
        return _one(container, {"terminated": {"exitCode": 0, "reason": "Completed"}}) | {"ready": True}
    if at > reached:
        return _one(container, {"waiting": {"reason": INITIALIZING}})
    if stop.exit_code is None:
        return _one(container, {"running": {"startedAt": _now()}}) | {"started": True}
    return _crashing(container, stop)


def _crashing(container: Object, stop: Stop) -> Object:
    ended = {"terminated": {"exitCode": stop.exit_code, "reason": "Error"}}
    return _one(container, {"waiting": {"reason": CRASH_LOOP}}) | {"restartCount": RESTARTS, "lastState": ended}


def _one(container: Object, state: Object) -> Object:
    identity = {"name": container["name"], "image": container["image"], "imageID": ""}
    return {**identity, "ready": False, "started": False, "restartCount": 0, "state": state}


def _conditions(*, initialized: bool) -> list[Object]:
    now = _now()
    states = {"Initialized": initialized, "ContainersReady": False, "Ready": False}
    return [
        {
            "type": kind,
            "status": "True" if state else "False",
            "reason": None
            if state
            else ("ContainersNotInitialized" if kind == "Initialized" else "ContainersNotReady"),
            "lastTransitionTime": now,
        }
        for kind, state in states.items()
    ]


def _says(pod: Object, wanted: Object) -> bool:
    """Whether a pod's status says so already; times and counts aside."""
    status = pod.get("status") or {}
    if status.get("phase") != wanted["phase"]:
        return False
    return all(
        _gist(status.get(field) or []) == _gist(wanted.get(field) or [])
        for field in ("initContainerStatuses", "containerStatuses")
    )


def _gist(statuses: list[Object]) -> dict[str, tuple[str, str]]:
    found = {}
    for each in statuses:
        kind, details = next(iter((each.get("state") or {"none": {}}).items()))
        found[each["name"]] = (kind, str(details.get("reason") or ""))
    return found


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
