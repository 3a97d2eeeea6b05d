"""Actor ``workloads``: programs in containers. What they print can be read as a log, and they end as they would.

KWOK plays the pods. This part writes what a known program would print into a file, tells KWOK of the file, and then
has KWOK end the pod (annotations EXIT_CODE and RUN_SECONDS). Unknown commands run for ever, as KWOK has it.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from conformance.kube.errors import ApiError, WaitTimeout
from conformance.kube.paths import path
from conformance.kube.waits import wait_for
from conformance.simulator.agents import is_played, phase_of
from conformance.simulator.annotations import EXIT_CODE, PREPARED, RUN_SECONDS, TELLING, annotation
from conformance.simulator.containers import view_of
from conformance.simulator.dra_claims import has_claims
from conformance.simulator.programs import Ended, run
from conformance.simulator.settings import Settings
from conformance.simulator.world import Object, World

_MANAGER = "gpu-conformance-simulator"
_LOG_PATIENCE = (0.3, 0.6, 1.2)
"""Seconds for which KWOK may not know of a log before it is told once more, each time longer."""


class Workloads:
    """The containers of all simulated nodes; its keys are ``namespace/name`` of their pods."""

    name = "workloads"
    watches = ("Pod", "Node")

    def __init__(self, world: World, settings: Settings) -> None:
        self._world = world
        self._logs = settings.logs

    def keys(self, kind: str, obj: Object, deleted: bool) -> Iterable[str]:
        """The pod, once it runs, and when it is gone."""
        metadata = obj["metadata"]
        if kind == "Node":
            return ()
        return (f"{metadata['namespace']}/{metadata['name']}",) if deleted or _is_new(obj) else ()

    def reconcile(self, key: str) -> float | None:
        """Let the programs of a pod run. Raises KubeError, WaitTimeout when KWOK does not serve what they printed."""
        namespace, _, name = key.partition("/")
        pod = self._world.get("Pod", name, namespace)
        if pod is None:
            for file in self._logs.glob(f"{namespace}_{name}_*.log"):
                file.unlink(missing_ok=True)
            return None
        if _is_new(pod) and is_played(self._world, str(pod["spec"].get("nodeName") or "")):
            self._run(pod)
        return None

    def _run(self, pod: Object) -> None:
        seconds = _seconds_since(str(pod["status"].get("startTime") or ""))
        ended: dict[str, Ended] = {}
        for container in pod["spec"]["containers"]:
            command = [*(container.get("command") or ()), *(container.get("args") or ())]
            outcome = run(view_of(self._world, pod, container, seconds), command) if command else None
            if outcome is not None:
                ended[container["name"]] = outcome
        if not ended:
            return
        self._print(pod, ended)
        worst = max(ended.values(), key=lambda each: each.code)
        end = {EXIT_CODE: str(worst.code), RUN_SECONDS: str(int(seconds + worst.after))}
        # The uid keeps a pod that took the name meanwhile from ending with this one's result.
        change = {"metadata": {"uid": pod["metadata"]["uid"], "annotations": end}}
        self._world.client.patch(_path(pod), change)

    def _print(self, pod: Object, ended: Mapping[str, Ended]) -> None:
        metadata = pod["metadata"]
        logs = []
        for container, outcome in ended.items():
            file = self._logs / f"{metadata['namespace']}_{metadata['name']}_{container}.log"
            file.write_text(_as_cri(outcome.text), encoding="utf-8")
            logs.append({"containers": [container], "logsFile": str(file.resolve()), "follow": False})
        self._tell(pod, logs)

    def _tell(self, pod: Object, logs: list[Object]) -> None:
        """Tell KWOK of the files until it knows: whoever sees the pod ended reads its log at once.

        Each telling is a change, see TELLING.
        Raises WaitTimeout. The pod does not end then, and its programs run again when the loop tries again.
        """
        for telling, patience in enumerate(_LOG_PATIENCE, start=1):
            self._world.client.apply(_rule(pod, logs, telling), manager=_MANAGER, force=True)
            try:
                self._wait_readable(pod, logs[0]["containers"][0], patience)
            except WaitTimeout:
                if telling == len(_LOG_PATIENCE):
                    raise
            else:
                return

    def _wait_readable(self, pod: Object, container: str, patience: float) -> None:
        place = path("Pod", namespace=pod["metadata"]["namespace"], name=pod["metadata"]["name"], subresource="log")

        def log() -> bytes:
            try:
                return self._world.client.request("GET", place, query={"container": container, "limitBytes": "64"})
            except ApiError:
                return b""

        wait_for(log, bool, what=f"KWOK knows the log of {place}", timeout=patience)


def _rule(pod: Object, logs: list[Object], telling: int) -> Object:
    """KWOK's rule for the logs of a pod. With the pod it goes."""
    metadata = pod["metadata"]
    owner = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Logs",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "annotations": {TELLING: str(telling)},
            "ownerReferences": [owner],
        },
        "spec": {"logs": logs},
    }


def _is_new(pod: Object) -> bool:
    """Whether a pod runs and its end has not been decided; one with claims waits until they are prepared."""
    if phase_of(pod) != "Running" or pod["metadata"].get("deletionTimestamp") or annotation(pod, EXIT_CODE):
        return False
    return annotation(pod, PREPARED) == "true" or not has_claims(pod)


def _as_cri(text: str) -> str:
    """Lines as a container runtime writes them into a log file."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
    return "".join(f"{now} stdout F {line}\n" for line in text.splitlines() or [""])


def _seconds_since(moment: str) -> float:
    if not moment:
        return 0.0
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())


def _path(pod: Mapping[str, Any]) -> str:
    return path("Pod", namespace=pod["metadata"]["namespace"], name=pod["metadata"]["name"])
