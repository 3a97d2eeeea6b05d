"""Pods of a scenario: what they are doing, and expectations of what becomes of them."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from conformance.kube.client import Client
from conformance.kube.errors import NotFound, WaitTimeout
from conformance.kube.paths import path
from conformance.kube.timeouts import Timeouts
from conformance.kube.waits import holds, wait_for
from conformance.lab.explaining import Explanation, explain
from conformance.lab.pod_states import PREEMPTED, TAINTED, PodState, state_of
from conformance.lab.watching import Watch
from conformance.subjects import ObjectReference
from conformance.verdict import Finding, Inconclusive, require_ok

__all__ = ["BROKEN_STATES", "PREEMPTED", "TAINTED", "LabPod", "LabPods", "PodState", "at_once", "state_of"]

# Container states that no waiting heals; they come from the image or the kubelet, never from the requirement.
_BROKEN_IMAGE = {"ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName"}
# What the kubelet says between two attempts: an image that is late may come with the next one.
_PULL_FAILED = "ErrImagePull"
_BROKEN_CONTAINER = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
BROKEN_STATES = _BROKEN_IMAGE | _BROKEN_CONTAINER
KILLED = 128 + 9  # the exit code of a container that SIGKILL ended
# Seconds between two computations of why a pod is not placed; each reads all nodes and pods.
_THINK_AGAIN = 2.0
_AT_ONCE = 8
_T = TypeVar("_T")
_R = TypeVar("_R")


class LabPod:
    """One pod that the lab created. It is only ever the pod with this uid, not a later one of the same name."""

    def __init__(
        self, client: Client, timeouts: Timeouts, created: Mapping[str, Any], watch: Watch | None = None
    ) -> None:
        metadata = created["metadata"]
        self.name = str(metadata["name"])
        self.namespace = str(metadata["namespace"])
        self.uid = str(metadata["uid"])
        self.created: dict[str, Any] = dict(created)
        self._client = client
        self._timeouts = timeouts
        self._watch = watch
        self._deleted_by_us = False
        self._explained_at = 0.0

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("Pod", self.name, namespace=self.namespace)

    def __str__(self) -> str:
        return f"pod {self.namespace}/{self.name}"

    def read(self) -> dict[str, Any] | None:
        """The pod as it is now; None when it is gone."""
        try:
            found = self._client.get(self._path)
        except NotFound:
            return None
        return found if found["metadata"]["uid"] == self.uid else None

    @property
    def state(self) -> PodState:
        """What it is doing now."""
        found = state_of(self.read())
        if self._watch is not None:
            self._watch.saw(self.uid, self.subject, found, ours=self._deleted_by_us)
        return found

    @property
    def node(self) -> str | None:
        """The name of the node to which it is bound now."""
        return self.state.node

    @property
    def nominated_node(self) -> str | None:
        """The node whose pods are being evicted for it. Kubernetes clears this once the pod is bound."""
        return self.state.nominated_node

    @property
    def phase(self) -> str:
        """Pending, Running, Succeeded, Failed; empty when it is gone."""
        return self.state.phase

    @property
    def priority(self) -> int | None:
        """The number that admission gave it."""
        value = self.created["spec"].get("priority")
        return None if value is None else int(value)

    @property
    def evicted(self) -> bool:
        """Whether somebody else than the lab removed it or is removing it.

        Raises Inconclusive when that had nothing to do with priorities or taints.
        """
        state = self.state
        if self._deleted_by_us or not state.removed:
            return False
        self._is_removed_by(state, PREEMPTED, TAINTED)
        return True

    def wait_until_scheduled(self, *, because: str = "") -> "LabPod":
        """Expect that it gets a node."""
        return self._awaits("to get a node", lambda state: state.node is not None, self._timeouts.scheduled, because)

    def wait_until_running(self, *, because: str = "") -> "LabPod":
        """Expect that it runs."""
        return self._awaits("to run", lambda state: state.running, self._timeouts.running, because)

    def wait_until_nominated(self, *, because: str = "") -> "LabPod":
        """Expect that a node is being cleared for it, or that it got there.

        The nomination is seen for sure only while the victims use up a grace period: one that has ended makes room
        although it is still held.
        """

        def promised(state: PodState) -> bool:
            return bool(state.nominated_node or state.node)

        return self._awaits("to be nominated for a node", promised, self._timeouts.scheduled, because)

    def wait_until_evicted(self, *, by: str = PREEMPTED, because: str = "") -> "LabPod":
        """Expect that the control plane removes it: the scheduler, or ``by`` TAINTED the taint manager.

        Raises Inconclusive when it was removed for another reason.
        """
        try:
            state = wait_for(
                lambda: self.state,
                lambda state: state.removed,
                what=f"{self} is evicted",
                timeout=self._timeouts.evicted,
            )
        except WaitTimeout:
            state = self.state
        ok = state.removed and not self._deleted_by_us
        if ok:
            self._is_removed_by(state, by)
        link = "" if ok else f"nothing evicted it: it has priority {self.priority} and is {state}"
        self._expect(ok, "to be evicted", because, state, link)
        return self

    def ends_by_itself(self, *, because: str = "") -> "LabPod":
        """Expect that its container ends once it is told to (SIGTERM), and is not killed before its grace is over.

        For a pod that was created with ``stop_seconds`` and is held. Raises Inconclusive where nobody saw its end.
        """
        grace = int(self.created["spec"].get("terminationGracePeriodSeconds") or 0)
        try:
            state = wait_for(
                lambda: self.state,
                lambda state: state.gone or state.exit_code is not None,
                what=f"the container of {self} has ended",
                timeout=self._timeouts.evicted + grace,
            )
        except WaitTimeout as error:
            raise Inconclusive(f"{error}. Does its node report the status of pods?") from error
        if state.exit_code is None:
            raise Inconclusive(f"{self} was removed before its node said how its container had ended")
        self._expect(
            state.exit_code != KILLED,
            f"to end by itself on SIGTERM, within its grace period of {grace} s",
            because,
            f"exit code {state.exit_code}",
            "SIGTERM did not reach its program, or its node did not wait for the program's end",
            "Find what wraps or replaces the command of pods and hands no signal on, such as an admission policy; else "
            "look at what kubelet and container runtime of the node say.",
        )
        return self

    def wait_until_gone(self, *, because: str = "") -> "LabPod":
        """Expect that nothing is left of it."""
        try:
            self._wait_gone(self._timeouts.deleted)
        except WaitTimeout:
            self._expect(False, "to be gone", because, self.state, "its node has not confirmed that it ended")
        self._expect(True, "to be gone", because, PodState(gone=True))
        return self

    def stays_pending(self, *, because: str = "") -> "LabPod":
        """Expect that it gets no node: the scheduler has tried, and for the time ``hold`` it is not placed.

        Raises Inconclusive when no scheduler looked at it within the time ``scheduled``.
        """
        LabPods([self]).stay_pending(because=[because])
        return self

    def _once_tried(self) -> PodState:
        """What it is doing when a scheduler has looked at it; raises Inconclusive when none does."""
        try:
            return wait_for(
                lambda: self.state,
                lambda state: bool(state.unscheduled or state.node or state.removed),
                what=f"a scheduler looks at {self}",
                timeout=self._timeouts.scheduled,
            )
        except WaitTimeout as error:
            raise Inconclusive(f"{error}. Is a scheduler running for it?") from error

    def _expect_pending(self, state: PodState, because: str) -> None:
        self._expect(_is_pending(state), "to stay Pending", because, state)

    def keeps_running(self, *, because: str = "") -> "LabPod":
        """Expect that it runs and is left alone for the time ``hold``.

        Raises Inconclusive when it was removed for a reason that no scenario is about.
        """
        violation = holds(
            lambda: self.state, lambda state: state.running, window=self._timeouts.hold, what=f"{self} keeps running"
        )
        if violation is not None:
            self._is_removed_by(violation, PREEMPTED, TAINTED)
        self._expect(violation is None, "to keep running", because, violation or self.state)
        return self

    def _is_removed_by(self, state: PodState, *meant: str) -> None:
        """Raise Inconclusive where its condition names another reason; it may name none any more when it is gone."""
        if state.disrupted and state.disrupted not in meant:
            raise Inconclusive(
                f"{self} was removed for another reason than the trial gave, {state.disrupted}. Something else takes "
                "pods or nodes away here, such as a drain or an autoscaler"
            )

    def require_running(self) -> "LabPod":
        """Wait until it runs, as a preparation: raises Inconclusive, with the computed reason, when it does not.

        A program that takes time to end (``stop_seconds``) gets the time ``running`` to ask for the signal, too; one
        that has not by then is what ``ends_by_itself`` judges.
        """
        try:
            self._wait(lambda state: state.running, f"{self} runs", self._timeouts.running)
        except WaitTimeout as error:
            raise Inconclusive(f"{error}. {self.explain()}") from error
        if "readinessProbe" in self.created["spec"]["containers"][0]:
            with suppress(WaitTimeout):
                self._wait(lambda state: state.ready or not state.running, f"{self} is ready", self._timeouts.running)
        return self

    def explain(self) -> Explanation:
        """Why it is not placed, computed from all nodes and pods as they are now."""
        pod = self.read()
        if pod is None:
            return Explanation("it is gone", True)
        if pod["spec"].get("nodeName"):
            return Explanation(f"it is bound to node {pod['spec']['nodeName']} and is {state_of(pod)}", False)
        return explain(pod, self._client.list(path("Node")), self._client.list(path("Pod")))

    def delete(self, *, wait: bool = False) -> None:
        """Delete it, at once where it never got a node, else as soon as its node says that it ended.

        A bound pod gets one second instead of none: with none the API server forgets the pod while the node still
        runs it, and the device that it holds would seem free.
        """
        self._deleted_by_us = True
        self.release()
        bound = self.node is not None
        self._client.delete(self._path, grace_seconds=1 if bound else 0, uid=self.uid)
        if wait:
            self.wait_gone()

    def wait_gone(self) -> None:
        """Wait until nothing is left of it, and remove it by force when its node does not answer."""
        try:
            self._wait_gone(self._timeouts.deleted)
        except WaitTimeout:
            self._client.delete(self._path, grace_seconds=0, uid=self.uid)
            self._wait_gone(self._timeouts.deleted)

    def release(self) -> None:
        """Let an evicted pod go that was created with ``held=True``."""
        pod = self.read()
        if pod and pod["metadata"].get("finalizers"):
            self._client.patch(self._path, {"metadata": {"uid": self.uid, "finalizers": None}})

    @property
    def _path(self) -> str:
        return path("Pod", namespace=self.namespace, name=self.name)

    def _wait_gone(self, timeout: float) -> None:
        wait_for(lambda: self.state, lambda state: state.gone, what=f"{self} is gone", timeout=timeout)

    def _wait(self, until: Callable[[PodState], bool], what: str, timeout: float) -> PodState:
        try:
            return wait_for(lambda: self.state, until, what=what, timeout=timeout, give_up=self._hopeless)
        except WaitTimeout:
            state = self.state
            if state.waiting == _PULL_FAILED:
                raise self._without_image(state) from None
            raise

    def _awaits(self, expected: str, until: Callable[[PodState], bool], timeout: float, because: str) -> "LabPod":
        try:
            state = self._wait(until, f"{self}: {expected}", timeout)
        except WaitTimeout as error:
            self._expect(False, expected, because, error.last_observation, str(self.explain()))
            raise AssertionError("an expectation that does not hold raises") from error
        self._expect(True, expected, because, state)
        return self

    def _expect(self, ok: bool, expected: str, because: str, actual: object, cause: str = "", remedy: str = "") -> None:
        reason = f"{expected} ({because})" if because else expected
        require_ok(Finding(self.subject, ok, reason, str(actual), cause=cause, remedy=remedy))

    def _hopeless(self, state: PodState) -> str | None:
        """Why waiting for it to run is in vain; raises Inconclusive for what says nothing about scheduling."""
        if state.removed:
            return "it was removed"
        if state.waiting in _BROKEN_IMAGE:
            raise self._without_image(state)
        if state.waiting in _BROKEN_CONTAINER:
            raise Inconclusive(f"{self} cannot start on node {state.node}: {state.waiting}")
        if state.phase in ("Failed", "Succeeded"):
            return f"it has ended as {state.phase}"
        return self._unplaceable(state)

    def _without_image(self, state: PodState) -> Inconclusive:
        image = self.created["spec"]["containers"][0]["image"]
        return Inconclusive(
            f"{self} cannot start on node {state.node}: {state.waiting} for image {image}. "
            "Name a registry that the node can reach (registry and pull secret of the cluster)"
        )

    def _unplaceable(self, state: PodState) -> str | None:
        if state.unscheduled != "Unschedulable" or time.monotonic() < self._explained_at + _THINK_AGAIN:
            return None
        first = self._explained_at == 0.0
        self._explained_at = time.monotonic()
        if first:
            # The first look comes only after a pause: a node may just be losing a taint or gaining a device.
            return None
        return "no node can ever take it" if self.explain().hopeless else None


class LabPods(list[LabPod]):
    """Several pods, asked together."""

    def evicted(self) -> "LabPods":
        """Those that somebody else than the lab removed or is removing."""
        return LabPods(pod for pod, gone in zip(self, at_once(lambda pod: pod.evicted, self), strict=True) if gone)

    def running(self) -> "LabPods":
        """Those that run."""
        return LabPods(
            pod for pod, runs in zip(self, at_once(lambda pod: pod.state.running, self), strict=True) if runs
        )

    def stay_pending(self, *, because: Sequence[str]) -> "LabPods":
        """Expect of each what LabPod.stays_pending does, ``because`` of its own reason, of all for the same time."""
        if not self:
            return self
        tried = [pod._once_tried() for pod in self]
        told = f"{self[0]} stays Pending" if len(self) == 1 else f"{len(self)} pods stay Pending, {self[0]} the first"
        window = self[0]._timeouts.hold
        broken = holds(
            lambda: at_once(_state, self), lambda seen: all(map(_is_pending, seen)), window=window, what=told
        )
        # Those that did not hold come first: nothing is said of the others, whose time was cut short.
        last = sorted(zip(broken or tried, range(len(self)), strict=True), key=lambda each: _is_pending(each[0]))
        for state, number in last:
            self[number]._expect_pending(state, because[number])
        return self

    def require_running(self) -> "LabPods":
        """Wait until all run; raises Inconclusive as LabPod.require_running does."""
        at_once(lambda pod: pod.require_running(), self)
        return self

    def release(self) -> None:
        """Let all go that were created with ``held=True``."""
        at_once(lambda pod: pod.release(), self)

    def delete(self, *, wait: bool = True) -> None:
        """Delete all, by default until nothing is left of them."""
        at_once(lambda pod: pod.delete(wait=wait), self)


def _state(pod: LabPod) -> PodState:
    return pod.state


def _is_pending(state: PodState) -> bool:
    return state.phase == "Pending" and state.node is None and not state.removed


def at_once(act: Callable[[_T], _R], members: "list[_T] | tuple[_T, ...]") -> list[_R]:
    """Do the same for all members at the same time and return the results in their order.

    Raises the first error, after all have been tried.
    """
    if len(members) <= 1:
        return [act(member) for member in members]
    with ThreadPoolExecutor(min(_AT_ONCE, len(members)), thread_name_prefix="lab") as pool:
        futures = [pool.submit(act, member) for member in members]
    return [future.result() for future in futures]
