"""Deployments and Jobs of a scenario, as their users run them, and expectations about what becomes of them."""

from collections.abc import Callable, Mapping
from typing import Any

from conformance.gpu.placement import explain_refusal
from conformance.kube.client import Client
from conformance.kube.errors import NotFound, WaitTimeout
from conformance.kube.names import DOMAIN
from conformance.kube.paths import path
from conformance.kube.timeouts import Timeouts
from conformance.kube.waits import holds, wait_for
from conformance.lab.pods import LabPod, LabPods
from conformance.lab.watching import Watch
from conformance.subjects import ObjectReference
from conformance.verdict import Finding, require_ok

__all__ = ["OBJECT_LABEL", "LabDeployment", "LabJob", "workload_object"]

OBJECT_LABEL = f"{DOMAIN}/object"


def workload_object(
    kind: str, namespace: str, name: str, template: Mapping[str, Any], labels: Mapping[str, str], **spec: Any
) -> dict[str, Any]:
    """A Deployment or Job whose pods carry ``labels`` and the label by which the lab finds them."""
    own = {**labels, OBJECT_LABEL: name}
    wanted = template.get("metadata") or {}
    metadata = {**wanted, "labels": {**own, **wanted.get("labels", {})}}
    body: dict[str, Any] = {**spec, "template": {"metadata": metadata, "spec": dict(template["spec"])}}
    if kind == "Deployment":
        body["selector"] = {"matchLabels": {OBJECT_LABEL: name}}
    return {
        "apiVersion": "apps/v1" if kind == "Deployment" else "batch/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "labels": own},
        "spec": body,
    }


class _Workload:
    """What Deployments and Jobs have in common."""

    kind = ""

    def __init__(
        self, client: Client, timeouts: Timeouts, created: Mapping[str, Any], watch: Watch | None = None
    ) -> None:
        self.name = str(created["metadata"]["name"])
        self.namespace = str(created["metadata"]["namespace"])
        self.created: dict[str, Any] = dict(created)
        self._client = client
        self._timeouts = timeouts
        self._watch = watch

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of(self.kind, self.name, namespace=self.namespace, text=str(self))

    def __str__(self) -> str:
        return f"{self.kind.lower()} {self.namespace}/{self.name}"

    def read(self) -> dict[str, Any] | None:
        """The object as it is now; None when it is gone."""
        try:
            return self._client.get(self._path)
        except NotFound:
            return None

    def pods(self) -> LabPods:
        """Its pods now, terminating ones included."""
        target = path("Pod", namespace=self.namespace)
        found = self._client.list(target, label_selector=f"{OBJECT_LABEL}={self.name}")
        return LabPods(LabPod(self._client, self._timeouts, pod, self._watch) for pod in found)

    def delete(self) -> None:
        """Delete it; its pods are deleted after it."""
        self._client.delete(self._path)

    def condition(self, name: str) -> str:
        """The status of one of its conditions, empty when it has none of that type."""
        return next((str(each["status"]) for each in self._conditions() if each["type"] == name), "")

    def explain(self) -> str:
        """Why it has too few running pods: a quota without room, else why its first waiting pod is not placed."""
        quotas = self._client.list(path("ResourceQuota", namespace=self.namespace))
        refusal = explain_refusal(self.created["spec"]["template"], self.namespace, quotas)
        waiting = [pod for pod in self.pods() if not pod.state.running]
        if waiting:
            return f"{waiting[0]}: {waiting[0].explain()}"
        return refusal

    @property
    def _path(self) -> str:
        return path(self.kind, namespace=self.namespace, name=self.name)

    def _conditions(self) -> list[dict[str, Any]]:
        return list(self._status().get("conditions") or ())

    def _status(self) -> dict[str, Any]:
        return dict((self.read() or {}).get("status") or {})

    def _awaits(
        self, expected: str, seen: Callable[[], str], until: Callable[[], bool], timeout: float, because: str
    ) -> None:
        try:
            wait_for(until, bool, what=f"{self}: {expected}", timeout=timeout)
            ok = True
        except WaitTimeout:
            ok = False
        reason = f"{expected} ({because})" if because else expected
        require_ok(Finding(self.subject, ok, reason, seen(), cause="" if ok else self.explain()))


class LabDeployment(_Workload):
    """One Deployment that the lab created."""

    kind = "Deployment"

    def wait_until_available(self, replicas: int | None = None, *, because: str = "") -> "LabDeployment":
        """Expect that so many replicas (all, by default) become available."""
        wanted = int(self.created["spec"].get("replicas", 1)) if replicas is None else replicas
        self._awaits(
            f"to have {wanted} available replicas",
            lambda: f"{self._count('availableReplicas')} available",
            lambda: self._count("availableReplicas") >= wanted,
            self._timeouts.running,
            because,
        )
        return self

    def wait_until_refused(self, *, because: str = "") -> "LabDeployment":
        """Expect that the API server refuses its pods: condition ReplicaFailure, with fewer pods than replicas."""
        self._awaits(
            "to have pods refused",
            lambda: f"{self._count('replicas')} pods, ReplicaFailure is {self.condition('ReplicaFailure') or 'absent'}",
            lambda: self.condition("ReplicaFailure") == "True",
            self._timeouts.condition,
            because,
        )
        return self

    def scale(self, replicas: int) -> None:
        """Ask for another number of replicas."""
        self._client.patch(self._path, {"spec": {"replicas": replicas}})
        self.created["spec"]["replicas"] = replicas

    def _count(self, field: str) -> int:
        return int(self._status().get(field) or 0)


class LabJob(_Workload):
    """One Job that the lab created."""

    kind = "Job"

    def wait_until_running(self, pods: int | None = None, *, because: str = "") -> "LabJob":
        """Expect that so many of its pods (its parallelism, by default) run."""
        wanted = int(self.created["spec"].get("parallelism", 1)) if pods is None else pods
        self._awaits(
            f"to have {wanted} running pods",
            lambda: f"{len(self.pods().running())} running",
            lambda: len(self.pods().running()) >= wanted,
            self._timeouts.running,
            because,
        )
        return self

    def wait_until_complete(self, *, because: str = "") -> "LabJob":
        """Expect that it completes."""
        self._awaits(
            "to complete",
            lambda: (
                f"Complete is {self.condition('Complete') or 'absent'}, Failed {self.condition('Failed') or 'absent'}"
            ),
            lambda: self.condition("Complete") == "True",
            self._timeouts.running,
            because,
        )
        return self

    def stays_without_pods(self, *, because: str = "") -> "LabJob":
        """Expect that no pod of it comes to be within the time ``hold``, as when every one is refused."""
        violation = holds(
            lambda: len(self.pods()), lambda count: count == 0, window=self._timeouts.hold, what=f"{self} has no pods"
        )
        expected = "to get no pod" + (f" ({because})" if because else "")
        require_ok(Finding(self.subject, violation is None, expected, f"{violation or 0} pods"))
        return self
