"""What became of the pods that run a probe: watched together, their logs read as they end, nobody's result lost."""

import time
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec

from conformance.kube.client import Client
from conformance.kube.current_waits import waiting
from conformance.kube.errors import KubeError, Unreachable
from conformance.kube.paths import path
from conformance.kube.timeouts import Timeouts
from conformance.lab.pods import BROKEN_STATES, state_of

__all__ = ["CONTAINER", "MARK", "ProbeResult", "ResultCollector", "job_of", "record_in"]

CONTAINER = "probe"
MARK = "GPU-CONFORMANCE-PROBE"
"""Every probe prints one line that begins with it; JSON follows."""

_AT_ONCE = 8
# Seconds after which the watch pauses to look at the clock.
_SHORTEST_WINDOW, _LONGEST_WINDOW = 1.0, 15.0
_AGAIN = 0.25
_MOST_LOG = 1 << 20
_SHORT_LOG = 400
_ENDED = ("Succeeded", "Failed")
# What the kubelet reports of a pod whose sandbox is there.
_PROGRESS = ("Pulling", "Pulled", "Created", "Started")

# Made before any thread needs it; see kube/client.py.
_RECORDS = msgspec.json.Decoder(dict[str, Any])


class ProbeResult(msgspec.Struct, frozen=True):
    """What a probe said on one node, or why it said nothing; it had asked for ``devices``.

    ``record`` is its JSON. ``failure`` is why there is none, or why the probe itself could not look; empty when all
    is well. ``reason`` and ``exit_code`` are the kubelet's words about the container, or about the pod it refused.
    """

    node: str
    pod: str = ""
    phase: str = ""
    exit_code: int | None = None
    reason: str = ""
    record: dict[str, Any] | None = None
    log: str = ""
    failure: str = ""
    devices: int = 0
    container_id: str = ""

    @property
    def found(self) -> dict[str, Any]:
        """The record of a probe that could look. Raises ValueError when it could not."""
        if self.failure or self.record is None:
            raise ValueError(f"{self.node}: {self.failure or 'no record'}")
        return self.record

    @property
    def placed(self) -> bool:
        """Whether the node got a pod, so that what went wrong there is the node's matter and not the scheduler's."""
        return bool(self.pod)


def record_in(log: str) -> tuple[dict[str, Any] | None, str]:
    """The JSON of the last marked line, and what is wrong with it."""
    marked = [line for line in log.splitlines() if line.startswith(MARK)]
    if not marked:
        said = log.strip()[-_SHORT_LOG:]
        return None, f"the probe printed no result; its log ends: {said}" if said else "the probe printed nothing"
    try:
        record = _RECORDS.decode(marked[-1][len(MARK) :])
    except msgspec.DecodeError as error:
        return None, f"the probe's line is no JSON: {error}"
    return record, str(record.get("error") or "")


class ResultCollector:
    """Collects one result for each node of ``names``, from as many pods in ``namespace``: those of ``jobs``.

    ``selector`` selects their pods, and perhaps more. With ``held`` a pod counts as soon as its line is in its log;
    without, when its program has ended. What has not come in after nothing has moved for the time ``scheduled`` (no pod
    on the node) or ``running`` is given up.
    """

    def __init__(
        self,
        client: Client,
        timeouts: Timeouts,
        namespace: str,
        selector: str,
        *,
        jobs: Collection[str],
        names: Collection[str],
        held: bool,
    ) -> None:
        self.results: dict[str, ProbeResult] = {}
        self.waiting: dict[str, dict[str, Any]] = {}
        """The pods without a node, by name."""
        self._client = client
        self._timeouts = timeouts
        self._namespace = namespace
        self._selector = selector
        self._jobs = jobs
        self._expected = len(names)
        self._missing = set(names)
        self._held = held
        self._came: set[str] = set()
        self._placed: dict[str, set[str]] = {}
        self._bound: dict[str, dict[str, Any]] = {}
        self._reading: dict[str, Future[ProbeResult]] = {}
        self._moved = time.monotonic()

    def run(self) -> None:
        """Watch until every result is there or nothing moves any more.

        Raises KubeError when watching fails; ``results`` then has what came in before.
        """
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="probe-logs") as self._pool:
            try:
                with waiting(f"probes have answered (nodes: {len(self._missing)})", self._timeouts.running):
                    self._watch()
            finally:
                self.results |= {node: pending.result() for node, pending in self._reading.items()}
        for node in (self._missing & set(self._bound)) - set(self.results):
            self.results[node] = self._stuck(node, self._bound[node])

    def placed(self, job: str) -> int:
        """How many pods of a Job have got a node.

        When all have, a node of it without a pod gets none any more: one that ends before its siblings are placed
        makes room on its node for one of them. The scheduler does not hold ended pods against others, whatever their
        anti-affinity says.
        """
        return len(self._placed.get(job, ()))

    @property
    def _is_complete(self) -> bool:
        return len(self._came) >= self._expected or not self._missing - set(self._reading)

    def _watch(self) -> None:
        version: str | None = None
        while not self._is_complete and (left := self._patience_left) > 0:
            try:
                for event in self._client.watch(
                    path("Pod", namespace=self._namespace),
                    label_selector=self._selector,
                    resource_version=version,
                    timeout=min(max(left, _SHORTEST_WINDOW), _LONGEST_WINDOW),
                ):
                    version = str(event.object["metadata"]["resourceVersion"])
                    self._take(event.object, gone=event.type == "DELETED")
                    if self._is_complete:
                        return
            except Unreachable:
                # A server that is slow for a moment must not cost the results of a thousand nodes.
                if self._patience_left <= 0:
                    raise
                time.sleep(_AGAIN)

    @property
    def _patience_left(self) -> float:
        """Seconds for which it is still worth waiting that something moves."""
        started = (set(self._bound) & self._missing) - set(self._reading)
        patience = self._timeouts.running if started else self._timeouts.scheduled
        return self._moved + patience - time.monotonic()

    def _take(self, pod: dict[str, Any], *, gone: bool) -> None:
        if job_of(pod) not in self._jobs:
            return
        name, node = str(pod["metadata"]["name"]), str(pod["spec"].get("nodeName") or "")
        if not node:
            self.waiting.pop(name, None) if gone else self.waiting.update({name: pod})
            return
        self.waiting.pop(name, None)
        self._placed.setdefault(job_of(pod), set()).add(name)
        state, phase = state_of(pod), (pod.get("status") or {}).get("phase")
        # A kubelet takes a second more until it says that the pod has succeeded, and never does beside a container
        # that somebody else put into the pod. Of one that failed the pod may have more to tell.
        ended = phase in _ENDED or _terminated(pod).get("exitCode") == 0
        removed, broken = gone or state.removed, state.waiting in BROKEN_STATES
        stays = self._held and phase == "Running"
        if removed or ended or broken or stays:
            self._came.add(name)
        if node not in self._missing or node in self._reading:
            return
        if self._bound.get(node, {}).get("status") != pod.get("status"):
            self._moved = time.monotonic()
        self._bound[node] = pod
        if removed:
            self._done(node, _result(node, pod, failure=_removed(pod)))
        elif ended:
            self._reading[node] = self._pool.submit(self._ended, node, pod)
        elif broken:
            self._done(node, _result(node, pod, failure=_cannot_start(pod)))
        elif stays:
            self._reading[node] = self._pool.submit(self._said, node, pod)

    def _done(self, node: str, result: ProbeResult) -> None:
        self.results[node] = result
        self._missing.discard(node)

    def _ended(self, node: str, pod: dict[str, Any]) -> ProbeResult:
        """The result of a pod that has ended; its kubelet may have refused it before any container ran."""
        if not _terminated(pod):
            status = pod.get("status") or {}
            words = f"{status.get('reason') or 'Failed'}: {status.get('message') or 'its kubelet gives no reason'}"
            return _result(node, pod, failure=f"the kubelet did not run it, {words}")
        log, failure = self._log(pod)
        return _with_log(node, pod, log, failure)

    def _said(self, node: str, pod: dict[str, Any]) -> ProbeResult:
        """The result of a pod that stays: waits until its line is there.

        A container that has just started may have no log yet, which its kubelet answers with an error.
        """
        began = time.monotonic()
        while True:
            log, failure = self._log(pod)
            patience = self._timeouts.retry if failure else self._timeouts.running
            if MARK in log or time.monotonic() > began + patience:
                return _with_log(node, pod, log, failure)
            time.sleep(_AGAIN)

    def _log(self, pod: Mapping[str, Any]) -> tuple[str, str]:
        """The log of the probe, and why it could not be read."""
        target = path("Pod", namespace=self._namespace, name=str(pod["metadata"]["name"]), subresource="log")
        query = {"container": CONTAINER, "limitBytes": str(_MOST_LOG)}
        try:
            return self._client.request("GET", target, query=query).decode("utf-8", "replace"), ""
        except KubeError as error:
            return "", f"its log could not be read: {error}"

    def _stuck(self, node: str, pod: Mapping[str, Any]) -> ProbeResult:
        """The result of a pod that has not ended. Its line counts: a program that hangs in the driver cannot end."""
        if (pod.get("status") or {}).get("phase") == "Running":
            log, _ = self._log(pod)
            if MARK in log:
                return _with_log(node, pod, log, "")
        reason, words = last_warning(self._client, self._namespace, str(pod["metadata"]["name"]))
        said = f"; the last warning about it: {reason}: {words}" if words else ""
        result = _result(node, pod, failure=f"it did not end in time and is {state_of(pod)}{said}")
        return msgspec.structs.replace(result, reason=reason or result.reason)


def job_of(pod: Mapping[str, Any]) -> str:
    """The name of the Job that made a pod."""
    return next((str(owner["name"]) for owner in pod["metadata"].get("ownerReferences") or ()), "")


def last_warning(client: Client, namespace: str, name: str) -> tuple[str, str]:
    """Reason and words of the newest warning about a pod or Job; empty without one, or without the right to look.

    Warnings about a pod that came before its image was pulled or its container started have been overcome.
    """
    try:
        events = client.list(path("Event", namespace=namespace), field_selector=f"involvedObject.name={name}")
    except KubeError:
        return "", ""
    overcome = max((_moment(event) for event in events if event.get("reason") in _PROGRESS), default="")
    warnings = [event for event in events if event.get("type") == "Warning" and _moment(event) >= overcome]
    newest = max(warnings, key=_moment, default={})
    return str(newest.get("reason") or ""), str(newest.get("message") or "")[:_SHORT_LOG]


def _moment(event: Mapping[str, Any]) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _with_log(node: str, pod: Mapping[str, Any], log: str, failure: str) -> ProbeResult:
    record, wrong = record_in(log) if not failure else (None, failure)
    ended = _terminated(pod)
    if record is None and ended and ended.get("exitCode"):
        why = ": ".join(str(ended[key]) for key in ("reason", "message") if ended.get(key))
        wrong = f"{wrong} (it ended with {ended['exitCode']}{f', {why}' if why else ''})"
    return msgspec.structs.replace(_result(node, pod, failure=wrong), record=record, log=log)


def _result(node: str, pod: Mapping[str, Any], *, failure: str) -> ProbeResult:
    status, ended = pod.get("status") or {}, _terminated(pod)
    return ProbeResult(
        node=node,
        pod=f"{pod['metadata']['namespace']}/{pod['metadata']['name']}",
        phase=str(status.get("phase") or ""),
        exit_code=ended.get("exitCode"),
        reason=str(status.get("reason") or ended.get("reason") or state_of(pod).waiting),
        failure=failure,
        container_id=_container_id(status),
    )


def _container_id(status: Mapping[str, Any]) -> str:
    statuses = status.get("containerStatuses") or ()
    return next((str(each.get("containerID") or "") for each in statuses if each.get("name") == CONTAINER), "")


def _terminated(pod: Mapping[str, Any]) -> dict[str, Any]:
    """How the probe's container ended; empty while it has not, and when it never ran."""
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        if status.get("name") == CONTAINER:
            return dict((status.get("state") or {}).get("terminated") or {})
    return {}


def _removed(pod: Mapping[str, Any]) -> str:
    why = state_of(pod).disrupted
    return f"it was removed before it had ended{f' ({why})' if why else ''}: a pod of the lab may be pushed out"


def _cannot_start(pod: Mapping[str, Any]) -> str:
    image = pod["spec"]["containers"][0]["image"]
    states = [(each.get("state") or {}).get("waiting") for each in pod["status"].get("containerStatuses") or ()]
    waiting: dict[str, Any] = next((state for state in states if state), {})
    words = f"its container cannot start, {waiting.get('reason')}: {waiting.get('message') or f'image {image}'}"
    if "Image" in str(waiting.get("reason")):
        return f"{words}. Name a registry that the node can reach (registry and pull secret of the cluster)"
    return words
