"""Borrowing an idle node: fenced off, changed for a while, and given back as it was.

The fence is a label and a NoSchedule taint of the lab's own. It goes up first and comes down last, so that nobody
else's pod meets a node in a state that its owners never declared.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

from conformance.gpu.taints import Taint, Toleration, taint_from, toleration_from, untolerated
from conformance.kube.client import Client
from conformance.kube.errors import NotFound, WaitTimeout
from conformance.kube.names import DOMAIN, RUN_LABEL
from conformance.kube.nodechange import NodeChange, plan, restore, store
from conformance.kube.paths import path
from conformance.kube.timeouts import Timeouts
from conformance.kube.waits import wait_for
from conformance.lab.advice import clean_command
from conformance.lab.journal import Journal
from conformance.lab.namespaces import delete_pods
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Waits, join_limited

__all__ = ["FENCE", "BorrowedNode", "delete_pods_on", "fence", "idle_nodes", "live_taints", "occupants"]

FENCE = f"{DOMAIN}/lab"
# A pod that the scheduler had already given to the node when the fence went up is bound within this time (seconds).
BINDING_SECONDS = 0.2


def fence(run_id: str) -> Taint:
    """The taint that keeps everybody but the lab off a borrowed node."""
    return Taint(FENCE, run_id, "NoSchedule")


class BorrowedNode:
    """One node that the lab has to itself until it is given back. A context manager."""

    def __init__(
        self, client: Client, journal: Journal, timeouts: Timeouts, name: str, run_id: str, *, may_evict: bool
    ) -> None:
        self.name = name
        self._client = client
        self._journal = journal
        self._timeouts = timeouts
        self._run_id = run_id
        self._may_evict = may_evict
        self._changes: list[NodeChange] = []
        self.before_giving_back: Callable[[], None] = lambda: None
        self.noted: Callable[[str, str], None] = lambda _did, _detail: None
        self.given_back = False

    def __enter__(self) -> "BorrowedNode":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("Node", self.name)

    def __str__(self) -> str:
        return f"node {self.name}"

    @property
    def taints(self) -> tuple[Taint, ...]:
        """Its taints now, without the fence."""
        return tuple(taint for taint in live_taints(self.read()) if taint.key != FENCE)

    @property
    def labels(self) -> dict[str, str]:
        """Its labels now, the fence's included."""
        return dict(self.read()["metadata"].get("labels") or {})

    def read(self) -> dict[str, Any]:
        """The node object as it is now."""
        return self._client.get(path("Node", name=self.name))

    def put_up_fence(self) -> None:
        """Fence the node and make sure that it is idle.

        Raises Inconclusive, with the fence down again, when pods are on it that no DaemonSet and no kubelet
        file put there, and when it is fenced already.
        """
        node = self.read()
        foreign = [taint for taint in live_taints(node) if taint.key == FENCE]
        if foreign:
            raise Inconclusive(
                f"node {self.name} is borrowed by run {foreign[0].value}: wait, or if that run is dead "
                f"run {clean_command(foreign[0].value)}"
            )
        own = fence(self._run_id)
        self._change(lambda read: plan(read, labels={FENCE: self._run_id}, add_taints=[own]), node)
        busy = occupants(self._client, self.name)
        if not busy:
            time.sleep(BINDING_SECONDS)
            busy = occupants(self._client, self.name)
        if busy:
            self.give_back()
            raise Inconclusive(f"node {self.name} is not idle: {', '.join(busy)}")
        self.noted("borrowed", f"fenced by {own}")

    def set_taints(self, taints: Iterable[Taint]) -> None:
        """Make these its only taints besides the fence and those of the node lifecycle.

        Raises Inconclusive when a NoExecute taint would evict a DaemonSet's pod and the requirement may not.
        """
        wanted = tuple(taints)
        self._refuse_evicting(wanted)

        def planned(node: dict[str, Any]) -> NodeChange:
            surplus = [
                taint
                for taint in live_taints(node)
                if taint not in wanted and taint.key != FENCE and not taint.is_lifecycle
            ]
            return plan(node, add_taints=wanted, remove_taints=surplus)

        self._change(planned)
        self.noted("tainted", ", ".join(map(str, wanted)) or "no taint but the fence")

    def label(self, **labels: str | None) -> None:
        """Set labels, or remove those given as None. Keys with characters beyond names: ``label(**{"a/b": "c"})``."""
        self._change(lambda node: plan(node, labels=labels))

    def add_resource(self, name: str, count: int) -> None:
        """Give the node ``count`` of an extended resource that it does not have, and wait until it can be used.

        Raises ValueError for a resource that it has, Inconclusive when allocatable does not follow.
        """
        self._change(lambda node: plan(node, resources={name: count}))
        try:
            wait_for(
                lambda: str((self.read()["status"].get("allocatable") or {}).get(name, "nothing")),
                lambda amount: amount == str(count),
                what=f"node {self.name} offers {count} {name}",
                timeout=self._timeouts.allocatable,
            )
        except WaitTimeout as error:
            raise Inconclusive(str(error)) from error
        self.noted("offers", f"{count} {name}")

    def give_back(self) -> None:
        """Remove the lab's pods from the node and undo every change, the fence last. Safe to repeat."""
        if self.given_back:
            return
        if self._changes:
            self.before_giving_back()
            delete_pods_on(self._client, self.name, self._run_id, self._timeouts)
        while self._changes:
            change = self._changes[-1]
            restore(self._client, change)
            self._journal.took_back(change)
            self._changes.pop()
        self.given_back = True
        self.noted("given back", "")

    def _change(self, planned: Callable[[dict[str, Any]], NodeChange], node: dict[str, Any] | None = None) -> None:
        change = planned(node or self.read())
        if not change:
            return
        # Recorded, then remembered, then made: wherever an interruption falls, the change will be undone.
        self._journal.will_change_node(change)
        self._changes.append(change)
        store(self._client, change)

    def _refuse_evicting(self, taints: Sequence[Taint]) -> None:
        evicting = [taint for taint in taints if taint.effect == "NoExecute"]
        if not evicting or self._may_evict:
            return
        for pod in _pods_on(self._client, self.name):
            bothered = untolerated(_tolerations(pod), evicting, effects=("NoExecute",))
            if bothered and not _is_ours(pod, self._run_id):
                raise Inconclusive(f"taint {bothered[0]} on node {self.name} would evict {_full_name(pod)}")


def occupants(client: Client, node: str) -> list[str]:
    """The pods that make a node busy, by namespace and name: all but those of DaemonSets and static ones."""
    return [_full_name(pod) for pod in _pods_on(client, node) if not _belongs_to_node(pod)]


def idle_nodes(client: Client, names: Iterable[str], wanted: int, run_id: str) -> tuple[str, ...]:
    """The first ``wanted`` of these nodes that are idle, ready, schedulable and not borrowed.

    Raises Waits when there are too few, in the same words for all that may take the same nodes.
    """
    found: list[str] = []
    reasons: list[str] = []
    for name in names:
        reason = _unfit(client, name, run_id)
        if reason:
            reasons.append(f"{name} {reason}")
        else:
            found.append(name)
        if len(found) == wanted:
            return tuple(found)
    told = join_limited(sorted(reasons), apart="; ")
    raise Waits(f"too few nodes are idle for scenarios{f': {told}' if told else ''}")


def delete_pods_on(client: Client, node: str, run_id: str, timeouts: Timeouts) -> None:
    """Delete the run's pods on a node and wait until they are gone; raises WaitTimeout when they do not go."""
    delete_pods(
        client,
        path("Pod"),
        timeouts,
        what=f"pods of this run on node {node}",
        selector=f"{RUN_LABEL}={run_id}",
        field_selector=f"spec.nodeName={node}",
    )


def live_taints(node: Mapping[str, Any]) -> tuple[Taint, ...]:
    """The taints of a node object."""
    return tuple(taint_from(raw) for raw in node["spec"].get("taints") or ())


def _unfit(client: Client, name: str, run_id: str) -> str:
    try:
        node = client.get(path("Node", name=name))
    except NotFound:
        return "is gone"
    conditions = {each["type"]: each["status"] for each in (node.get("status") or {}).get("conditions") or ()}
    if conditions.get("Ready") != "True":
        return "is not ready"
    if node["spec"].get("unschedulable"):
        return "is cordoned"
    for taint in live_taints(node):
        if taint.key == FENCE:
            return "is borrowed already" if taint.value == run_id else f"is borrowed by run {taint.value}"
        if taint.is_lifecycle:
            return f"has the taint {taint}"
    busy = occupants(client, name)
    return f"has {', '.join(busy[:3])}{' and more' if len(busy) > 3 else ''}" if busy else ""


def _pods_on(client: Client, node: str) -> list[dict[str, Any]]:
    pods = client.list(path("Pod"), field_selector=f"spec.nodeName={node}")
    return [pod for pod in pods if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")]


def _belongs_to_node(pod: Mapping[str, Any]) -> bool:
    owners = {owner.get("kind") for owner in pod["metadata"].get("ownerReferences") or ()}
    # A static pod is owned by its Node and carries the mirror annotation of its kubelet.
    return bool(owners & {"DaemonSet", "Node"}) or "kubernetes.io/config.mirror" in (
        pod["metadata"].get("annotations") or {}
    )


def _is_ours(pod: Mapping[str, Any], run_id: str) -> bool:
    return (pod["metadata"].get("labels") or {}).get(RUN_LABEL) == run_id


def _tolerations(pod: Mapping[str, Any]) -> list[Toleration]:
    return [toleration_from(raw) for raw in pod["spec"].get("tolerations") or ()]


def _full_name(pod: Mapping[str, Any]) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
