"""What a scenario's pods did, as it is seen whenever somebody looks at them, for the timeline of the report."""

import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from conformance.lab.pod_states import PREEMPTED, TAINTED, PodState, state_of
from conformance.subjects import ObjectReference
from conformance.timeline import Step, Timeline

__all__ = ["Watch"]

EVICTED = "evicted"


class _Seen:
    """A pod as it was seen last, the nodes that it was on or nominated for, and the looks at which things were seen.

    Looks are counted over all pods of the scenario, so that their numbers say what was seen before what.
    """

    def __init__(self, about: ObjectReference, state: PodState, look: int) -> None:
        self.about = about
        self.last = state
        self.nodes: set[str] = set()
        self.created = look
        self.present = look
        self.running = _NEVER
        self.removed = _NEVER

    def take_in(self, state: PodState, look: int) -> None:
        """Take in what was seen at a look."""
        self.last = msgspec.structs.replace(self.last, gone=True) if state.gone else state
        self.nodes |= {node for node in (state.node, state.nominated_node) if node}
        if state.removed:
            self.removed = min(self.removed, look)
        else:
            self.present = look
        if state.running:
            self.running = min(self.running, look)

    def may_have_preempted(self, victim: "_Seen", node: str) -> bool:
        """Whether it came after the victim, is above it, got its node or was promised it, and had waited for that."""
        above = (self.last.priority or 0) > (victim.last.priority or 0)
        in_time = victim.created < self.created < victim.removed < self.removed
        return above and in_time and node in self.nodes and self.running > victim.present


_NEVER = sys.maxsize


class Watch:
    """Notes what becomes of the pods of one scenario. May be used by several threads."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self._lock = threading.Lock()
        self._pods: dict[str, _Seen] = {}
        self._looks = 0

    def created(self, obj: Mapping[str, Any]) -> None:
        """Note an object that the scenario made."""
        metadata = obj["metadata"]
        namespace = str(metadata.get("namespace") or "")
        about = ObjectReference.of(str(obj["kind"]), str(metadata["name"]), namespace=namespace)
        self.timeline.add("created", about, detail=_described(obj))
        if about.kind == "Pod":
            with self._lock:
                self._looks += 1
                self._pods[str(metadata["uid"])] = _Seen(about, state_of(obj), self._looks)

    def saw(self, uid: str, about: ObjectReference, state: PodState, *, ours: bool) -> None:
        """Note what changed since the pod was seen last; ``ours`` says that the scenario deleted it itself."""
        with self._lock:
            self._looks += 1
            seen = self._pods.setdefault(uid, _Seen(about, PodState(), self._looks))
            before, was_removed = seen.last, seen.removed != _NEVER
            seen.take_in(state, self._looks)
        node = state.node or before.node or ""
        if state.removed and not was_removed:
            self.timeline.add("deleted" if ours else EVICTED, about, node=node, detail=state.disrupted)
        elif state.running and not before.running:
            self.timeline.add("running", about, node=node)
        elif state.nominated_node and not before.nominated_node:
            self.timeline.add("nominated", about, node=state.nominated_node)
        elif state.unscheduled and not before.unscheduled:
            self.timeline.add("pending", about, detail=state.unscheduled)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The timeline, where each eviction says who brought it about as far as that was seen."""
        steps = self.timeline.steps
        return tuple(
            msgspec.structs.replace(step, by=self._author(step, steps[:at])) if step.did == EVICTED else step
            for at, step in enumerate(steps)
        )

    def _author(self, eviction: Step, before: Sequence[Step]) -> str:
        if eviction.detail not in ("", PREEMPTED, TAINTED):
            return ""
        preempting = self._preempting(eviction) if eviction.detail != TAINTED else ""
        if preempting or eviction.detail == PREEMPTED:
            return preempting or "the scheduler"
        taints = [step.detail for step in before if step.did == "tainted" and step.name == eviction.node]
        return "the NoExecute taint" if eviction.detail == TAINTED or "NoExecute" in "".join(taints[-1:]) else ""

    def _preempting(self, eviction: Step) -> str:
        with self._lock:
            pods = list(self._pods.values())
        named = (eviction.namespace, eviction.name)
        victims = [each for each in pods if (each.about.namespace, each.about.name) == named]
        found = [each for each in pods if victims and each.may_have_preempted(victims[-1], eviction.node)]
        return ", ".join(str(each.about) for each in found)


def _described(obj: Mapping[str, Any]) -> str:
    """What matters of a pod in a scenario: its class, and which devices it requests."""
    if obj["kind"] != "Pod":
        replicas = obj.get("spec", {}).get("replicas") or obj.get("spec", {}).get("parallelism")
        return f"{replicas} pods" if replicas else ""
    spec = obj["spec"]
    amounts: dict[str, int] = {}
    for container in spec.get("containers") or ():
        for name, amount in ((container.get("resources") or {}).get("limits") or {}).items():
            if "/" in name:
                amounts[name] = amounts.get(name, 0) + int(amount)
    asked = [f"{amount} {name}" for name, amount in amounts.items()]
    priority = [f"priority {spec['priority']}"] if spec.get("priority") else []
    return ", ".join([*asked, *priority])
