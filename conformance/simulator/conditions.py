"""The status that the operator writes on its objects: a state and the conditions Ready and Error.

Source: NVIDIA/gpu-operator v26.7.0, internal/conditions.
"""

from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from conformance.kube.paths import path
from conformance.simulator.world import Object, World


class State(StrEnum):
    """What ``status.state`` may say."""

    READY = "ready"
    NOT_READY = "notReady"
    DISABLED = "disabled"


class Reason(StrEnum):
    """Why, in a condition."""

    RECONCILED = "Reconciled"
    RECONCILE_FAILED = "ReconcileFailed"
    NFD_LABELS_MISSING = "NFDLabelsMissing"
    NO_GPU_NODES = "NoGPUNodes"
    OPERAND_NOT_READY = "OperandNotReady"
    DRIVER_NOT_READY = "DriverNotReady"
    PREREQUISITE_NOT_MET = "PrerequisiteNotMet"
    CONFLICTING_NODE_SELECTOR = "ConflictingNodeSelector"


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of an object: its state, the reason and message of its condition."""

    state: State
    reason: Reason | None = None
    message: str = ""


def write(world: World, kind: str, obj: Object, verdict: Verdict, namespace: str) -> None:
    """Write a verdict into the status of an object of a kind, if it does not stand there. Raises KubeError.

    An empty ``namespace`` is not written: an NVIDIADriver does not say where the operator is.
    """
    before = obj.get("status") or {}
    after: Object = {"state": str(verdict.state), **({"namespace": namespace} if namespace else {})}
    if verdict.reason is not None:
        after["conditions"] = _conditions(before.get("conditions") or [], verdict)
    if any(before.get(key) != value for key, value in after.items()):
        world.client.patch(path(kind, name=obj["metadata"]["name"], subresource="status"), {"status": after})


def _conditions(before: list[Object], verdict: Verdict) -> list[Object]:
    reason, message = str(verdict.reason), verdict.message
    good = verdict.state is State.READY
    ready = ("Ready", "True", reason, message) if good else ("Ready", "False", "Error", "")
    error = ("Error", "False", "Ready", "") if good else ("Error", "True", reason, message)
    return [_condition(before, *each) for each in (ready, error)]


def _condition(before: list[Object], kind: str, status: str, reason: str, message: str) -> Object:
    known = next((each for each in before if each.get("type") == kind), {})
    since = known.get("lastTransitionTime") if known.get("status") == status else None
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since or now}
