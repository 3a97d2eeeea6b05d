"""How a pod looks whose containers cannot start or end at once, put on pods that KWOK would otherwise start.

KWOK knows nothing of ConfigMaps, init containers that fail, or programs that refuse their configuration. The annotation
POD_FAILURE says that such a state is ours, so that what a manifest asks of KWOK itself is never taken away.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from conformance.kube.client import Client
from conformance.kube.errors import NotFound
from conformance.kube.names import DOMAIN
from conformance.kube.paths import path
from conformance.simulator.agents import Agent, phase_of
from conformance.simulator.annotations import EXIT_CODE, WAITING_REASON, annotation
from conformance.simulator.world import Object, World

POD_FAILURE = f"{DOMAIN}/pod-failure"
"""On a pod: JSON of the PodFailure that the simulator has put it into."""

_CRASH_LOOP = "CrashLoopBackOff"


class Kind(StrEnum):
    """What keeps a pod from being ready."""

    MOUNT = "mount"
    """The kubelet waits for a volume; no container starts."""
    INIT = "init"
    """An init container fails; the others never start."""
    CRASH = "crash"
    """The program itself ends with an error, again and again."""
    SIDECAR = "sidecar"
    """A container beside the program ends with an error; the program goes on."""


class PodFailure(msgspec.Struct, frozen=True):
    """Why a pod is not ready. ``container`` is the one that fails, empty for a volume; ``message`` its last word.

    ``held`` is why somebody else had the pod wait before, which it does again once the failure is over.
    """

    kind: Kind
    message: str
    container: str = ""
    held: str = ""


# Why the containers of such a pod wait, as its status says.
_REASONS = {Kind.MOUNT: "ContainerCreating", Kind.INIT: "PodInitializing"}

# Made before any thread needs it; see kube/client.py.
_FAILURES = msgspec.json.Decoder(PodFailure)


def failure_of(pod: Object) -> PodFailure | None:
    """The failure that the simulator has put a pod into."""
    text = annotation(pod, POD_FAILURE)
    return _FAILURES.decode(text) if text else None


def missing_mount(world: World, agent: Agent) -> PodFailure | None:
    """The ConfigMap volume that the kubelet cannot mount, if there is one.

    The cache may be behind the pod, so what it lacks is looked up. Raises KubeError when that fails.
    """
    for volume in agent.pod["spec"].get("volumes") or ():
        source = volume.get("configMap")
        if source is None or source.get("optional"):
            continue
        found = world.get("ConfigMap", source["name"], agent.namespace) or _read(world.client, agent, source["name"])
        problem = _problem(source, found)
        if problem:
            return PodFailure(Kind.MOUNT, f'MountVolume.SetUp failed for volume "{volume["name"]}" : {problem}')
    return None


def _read(client: Client, agent: Agent, name: str) -> Object | None:
    try:
        return client.get(path("ConfigMap", namespace=agent.namespace, name=name))
    except NotFound:
        return None


def _problem(source: Mapping[str, Any], found: Object | None) -> str:
    if found is None:
        return f'configmap "{source["name"]}" not found'
    keys = {*(found.get("data") or {}), *(found.get("binaryData") or {})}
    absent = sorted(item["key"] for item in source.get("items") or () if item["key"] not in keys)
    return f"references non-existent config key: {absent[0]}" if absent else ""


def show_failure(client: Client, agent: Agent, failure: PodFailure | None) -> None:
    """Have a pod show its failure, or none; writes only what differs. Raises KubeError.

    What somebody else has wait comes to its volumes, and to no container: its other failures are still to come.
    """
    before = failure_of(agent.pod)
    held = before.held if before is not None else annotation(agent.pod, WAITING_REASON)
    if failure is not None and failure.kind is not Kind.MOUNT and held:
        failure = None
    if failure is not None:
        failure = msgspec.structs.replace(failure, held=held)
    if failure != before:
        _annotate(client, agent, failure, held)
    if failure is None:
        if before is not None and before.kind is Kind.SIDECAR:
            _patch_status(client, agent, _recovered(agent.pod))
        elif before is None and not held and _was_told_late(agent.pod):
            _patch_status(client, agent, {"phase": "Pending", "containerStatuses": None})
        return
    wanted = _LOOKS[failure.kind](agent.pod, failure)
    if wanted is not None:
        _patch_status(client, agent, wanted)


def _was_told_late(pod: Object) -> bool:
    """Whether a pod that runs says that its containers wait to be started.

    KWOK's stage pod-waiting has come after its stage pod-start then, on a busy machine, and no stage follows: the pod
    would never be ready.
    """
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    reasons = {(each["state"].get("waiting") or {}).get("reason") for each in statuses}
    return phase_of(pod) == "Running" and bool(reasons & set(_REASONS.values()))


def _annotate(client: Client, agent: Agent, failure: PodFailure | None, held: str) -> None:
    wanted = {
        POD_FAILURE: None if failure is None else msgspec.json.encode(failure).decode(),
        WAITING_REASON: (held or None) if failure is None else _REASONS.get(failure.kind),
        EXIT_CODE: "1" if failure is not None and failure.kind is Kind.CRASH else None,
    }
    has = agent.annotations
    changed = {name: value for name, value in wanted.items() if has.get(name) != value}
    client.patch(_path(agent), {"metadata": {"uid": agent.uid, "annotations": changed}})


def _patch_status(client: Client, agent: Agent, status: Mapping[str, Any]) -> None:
    client.patch(_path(agent, "status"), {"metadata": {"uid": agent.uid}, "status": status}, kind="strategic")


def _path(agent: Agent, subresource: str | None = None) -> str:
    name = agent.pod["metadata"]["name"]
    return path("Pod", namespace=agent.namespace, name=name, subresource=subresource)


def _unmounted(pod: Object, failure: PodFailure) -> Mapping[str, Any] | None:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    reasons = {(each["state"].get("waiting") or {}).get("reason") for each in statuses}
    if phase_of(pod) != "Running" and reasons <= {"ContainerCreating"}:
        return None  # the stage pod-waiting says why, or will
    return _not_started(pod, "ContainerCreating")


def _init_fails(pod: Object, failure: PodFailure) -> Mapping[str, Any] | None:
    statuses = (pod.get("status") or {}).get("initContainerStatuses") or ()
    shown = any("waiting" in (each.get("state") or {}) for each in statuses if each["name"] == failure.container)
    if shown and phase_of(pod) == "Pending":
        return None
    first = pod["spec"].get("initContainers") or ()
    failing = next((at for at, each in enumerate(first) if each["name"] == failure.container), len(first))
    states = [_state(pod, each, at, failing, failure) for at, each in enumerate(first)]
    return {**_not_started(pod, "PodInitializing"), "initContainerStatuses": states}


def _state(pod: Object, container: Mapping[str, Any], at: int, failing: int, failure: PodFailure) -> dict[str, Any]:
    status: dict[str, Any] = {**_identity(container), "ready": at < failing, "restartCount": int(at == failing)}
    if at < failing:
        return status | {"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
    if at > failing:
        return status | {"state": {"waiting": {"reason": "PodInitializing"}}}
    ended = {"exitCode": 1, "reason": "Error", "message": failure.message}
    return status | {"state": {"waiting": _back_off(container, pod)}, "lastState": {"terminated": ended}}


def _sidecar_fails(pod: Object, failure: PodFailure) -> Mapping[str, Any] | None:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    mine = next((each for each in statuses if each["name"] == failure.container), None)
    if mine is None or "running" not in (mine.get("state") or {}) or phase_of(pod) != "Running":
        return None
    ended = {"exitCode": 1, "reason": "Error", "message": failure.message}
    failed = {
        **mine,
        "ready": False,
        "started": False,
        "restartCount": mine["restartCount"] + 1,
        "state": {"waiting": _back_off(mine, pod)},
        "lastState": {"terminated": ended},
    }
    return {"containerStatuses": [failed if each is mine else each for each in statuses], "conditions": _unready()}


def _recovered(pod: Object) -> Mapping[str, Any]:
    statuses = pod["status"]["containerStatuses"]
    started: Any = next((each["state"]["running"] for each in statuses if "running" in each["state"]), {})
    running = [each | {"ready": True, "started": True, "state": {"running": started}} for each in statuses]
    conditions = [{"type": kind, "status": "True", "reason": None} for kind in ("ContainersReady", "Ready")]
    return {"containerStatuses": running, "conditions": conditions}


def _not_started(pod: Object, reason: str) -> dict[str, Any]:
    waits = {"ready": False, "started": False, "restartCount": 0, "state": {"waiting": {"reason": reason}}}
    states = [{**_identity(each), **waits} for each in pod["spec"]["containers"]]
    initialized = {"type": "Initialized", "status": "False" if pod["spec"].get("initContainers") else "True"}
    # Without its addresses: the stage pod-start adds new ones, and a pod may have only one of a kind.
    addresses = {"podIP": None, "podIPs": None}
    conditions = [initialized, *_unready()]
    return {"phase": "Pending", "containerStatuses": states, "conditions": conditions, **addresses}


def _unready() -> list[dict[str, Any]]:
    return [{"type": kind, "status": "False", "reason": "ContainersNotReady"} for kind in ("ContainersReady", "Ready")]


def _identity(container: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": container["name"], "image": container["image"], "imageID": ""}


def _back_off(container: Mapping[str, Any], pod: Object) -> dict[str, str]:
    name = pod["metadata"]["name"]
    return {"reason": _CRASH_LOOP, "message": f"back-off restarting failed container={container['name']} pod={name}"}


# A crash is left to KWOK: its stages end the containers and start them again after ever longer pauses.
_LOOKS = {
    Kind.MOUNT: _unmounted,
    Kind.INIT: _init_fails,
    Kind.CRASH: lambda pod, failure: None,
    Kind.SIDECAR: _sidecar_fails,
}
