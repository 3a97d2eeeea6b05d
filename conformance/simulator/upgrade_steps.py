"""The steps of one node's driver upgrade: what is done in each, and where it leads.

Source: NVIDIA/k8s-operator-libs, pkg/upgrade/common_manager.go, pod_manager.go, validation_manager.go.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from conformance.kube.names import DOMAIN
from conformance.kube.paths import path
from conformance.simulator.agents import environment, phase_of
from conformance.simulator.annotations import annotation
from conformance.simulator.evacuation import Rules, drained_pods, gpu_pods, selected, send_away, undeletable
from conformance.simulator.manifests import DIGEST
from conformance.simulator.nodelabels import UPGRADE_STATE
from conformance.simulator.upgrade_slots import Step, UpgradePolicy
from conformance.simulator.world import Object, World

INITIALLY_CORDONED = "nvidia.com/gpu-driver-upgrade.node-initial-state.unschedulable"
"""On a node that was cordoned before its upgrade began: it stays so."""

REQUESTED = "nvidia.com/gpu-driver-upgrade-requested"
"""On a node: ``true`` asks for an upgrade although its driver's pod is up to date."""

VALIDATION_SECONDS = f"{DOMAIN}/validation-seconds"
"""On a ClusterPolicy: how long the validator may take after an upgrade. Real ones wait for 600 seconds, a constant."""

_JOBS_SINCE = "nvidia.com/gpu-driver-upgrade-wait-for-pod-completion-start-time"
_VALIDATION_SINCE = "nvidia.com/gpu-driver-upgrade-validation-start-time"
_VALIDATION_TIMEOUT = 600.0
_VALIDATOR = "nvidia-operator-validator"
_HASH = "controller-revision-hash"
_MANY_RESTARTS = 10
_AGAIN = 0.5


class Case(msgspec.Struct, frozen=True):
    """A node, the step it is in, the driver's pod on it, and the policy by which it is upgraded.

    ``replaces_orphans`` where a driver's pod that nobody owns any more is to make room for that of an NVIDIADriver.
    """

    node: Object
    step: str
    driver: Object
    policy: UpgradePolicy
    validation_seconds: float | None = None
    replaces_orphans: bool = False

    @property
    def name(self) -> str:
        """The name of the node."""
        return str(self.node["metadata"]["name"])

    @property
    def was_cordoned(self) -> bool:
        """Whether the node was cordoned when its upgrade began."""
        return bool(annotation(self.node, INITIALLY_CORDONED))


class Moves:
    """Takes nodes from step to step. Knows what it has written before the watch tells of it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._newer: dict[str, Object] = {}
        self._entered: dict[str, float] = {}
        self._began: dict[tuple[str, str], float] = {}
        self._hashes: dict[tuple[str, int], str] = {}
        self._steps: Mapping[str, Callable[[Case], float | None]] = {
            Step.UNKNOWN: self._settled,
            Step.DONE: self._settled,
            Step.CORDON_REQUIRED: self._cordon,
            Step.WAIT_FOR_JOBS_REQUIRED: self._wait_for_jobs,
            Step.POD_DELETION_REQUIRED: self._delete_pods,
            Step.DRAIN_REQUIRED: self._drain,
            Step.POD_RESTART_REQUIRED: self._restart,
            Step.VALIDATION_REQUIRED: self._validate,
            Step.UNCORDON_REQUIRED: self._uncordon,
            Step.FAILED: self._recover,
        }

    def node(self, name: str) -> Object | None:
        """A node as it was last heard of, or as it was last written here if that is newer."""
        heard, written = self._world.get("Node", name), self._newer.get(name)
        if heard is None or written is None:
            return heard
        if int(written["metadata"]["resourceVersion"]) > int(heard["metadata"]["resourceVersion"]):
            return written
        self._newer.pop(name, None)
        return heard

    def since(self, name: str) -> float:
        """When (monotonic clock) a node has come into its step, as far as that was done here."""
        return self._entered.get(name, 0.0)

    def change(self, name: str, metadata: Object, spec: Object | None = None) -> None:
        """Patch a node's metadata and spec at once. Raises KubeError."""
        body: Object = {"metadata": metadata} | ({"spec": spec} if spec else {})
        self._newer[name] = self._world.client.patch(path("Node", name=name), body)
        if UPGRADE_STATE in (metadata.get("labels") or {}):
            self._entered[name] = time.monotonic()

    def advance(self, case: Case) -> float | None:
        """Do what a node's step asks for; in how many seconds to look again, None for when something changes."""
        step = self._steps.get(case.step)
        return step(case) if step else None

    def _go(self, case: Case, step: Step) -> float:
        self._began.pop((case.name, case.step), None)
        self.change(case.name, {"labels": {UPGRADE_STATE: str(step)}})
        return 0.0

    def _settled(self, case: Case) -> float | None:
        if case.replaces_orphans and not _owner(case.driver) and phase_of(case.driver) == "Running":
            # Whoever labels nodes asks for it (controllers/nodelabeling_controller.go), and notes no cordon.
            return self._go(case, Step.UPGRADE_REQUIRED)
        synced = self._is_synced(case.driver)
        outdated = synced is False and _owner(case.driver) is not None
        if outdated or annotation(case.node, REQUESTED) == "true":
            if case.node["spec"].get("unschedulable"):
                self.change(case.name, {"annotations": {INITIALLY_CORDONED: "true"}})
            return self._go(case, Step.UPGRADE_REQUIRED)
        if case.step == Step.UNKNOWN and synced is not None:
            return self._go(case, Step.DONE)
        return None

    def _cordon(self, case: Case) -> float:
        self.change(case.name, {"labels": {UPGRADE_STATE: str(Step.WAIT_FOR_JOBS_REQUIRED)}}, {"unschedulable": True})
        return 0.0

    def _wait_for_jobs(self, case: Case) -> float | None:
        jobs = case.policy.jobs
        running = [
            pod
            for pod in self._world.pods_on(case.name)
            if jobs and selected(pod, jobs) and phase_of(pod) in ("Running", "Pending")
        ]
        if running and not self._is_over(case, _JOBS_SINCE, float(case.policy.job_seconds)):
            return _AGAIN if case.policy.job_seconds else None
        self._forget(case, _JOBS_SINCE)
        return self._go(case, Step.POD_DELETION_REQUIRED)

    def _delete_pods(self, case: Case) -> float:
        pods = gpu_pods(self._world, case.name)
        if not pods:
            return self._go(case, Step.POD_RESTART_REQUIRED)
        if self._goes_away(case, pods, case.policy.pods):
            return _AGAIN
        return self._go(case, Step.DRAIN_REQUIRED if case.policy.drain is not None else Step.FAILED)

    def _drain(self, case: Case) -> float:
        pods = drained_pods(self._world, case.name, case.policy.drained) if case.policy.drain is not None else []
        if not pods or case.policy.drain is None:
            return self._go(case, Step.POD_RESTART_REQUIRED)
        if self._goes_away(case, pods, case.policy.drain):
            return _AGAIN
        return self._go(case, Step.FAILED)

    def _goes_away(self, case: Case, pods: list[Object], rules: Rules) -> bool:
        """Send pods away; False when that is refused for good, or takes too long (0: it may take for ever)."""
        began = self._began.setdefault((case.name, case.step), time.monotonic())
        if undeletable(pods, rules) or (rules.seconds and time.monotonic() - began > rules.seconds):
            return False
        return send_away(self._world, pods)

    def _restart(self, case: Case) -> float | None:
        synced = self._is_synced(case.driver)
        if synced is None:
            return None
        if not synced:
            self._delete(case.driver)
            return None
        if _all_ready(case.driver):
            return self._go(case, Step.VALIDATION_REQUIRED)
        return self._go(case, Step.FAILED) if _fails(case.driver) else None

    def _delete(self, driver: Object) -> None:
        metadata = driver["metadata"]
        if not metadata.get("deletionTimestamp"):
            where = path("Pod", namespace=metadata["namespace"], name=metadata["name"])
            self._world.client.delete(where, uid=metadata["uid"])

    def _validate(self, case: Case) -> float | None:
        validators = [
            pod
            for pod in self._world.pods_on(case.name)
            if (pod["metadata"].get("labels") or {}).get("app") == _VALIDATOR
        ]
        if not validators:
            return None
        if all(_all_ready(pod) for pod in validators):
            self._forget(case, _VALIDATION_SINCE)
            return self._finish(case)
        if self._is_over(case, _VALIDATION_SINCE, case.validation_seconds or _VALIDATION_TIMEOUT):
            self._forget(case, _VALIDATION_SINCE)
            return self._go(case, Step.FAILED)
        return _AGAIN

    def _recover(self, case: Case) -> float | None:
        """A node that failed goes on as soon as its driver's pod is up to date and ready."""
        if self._is_synced(case.driver) and _all_ready(case.driver):
            return self._finish(case)
        return None

    def _finish(self, case: Case) -> float:
        if not case.was_cordoned:
            return self._go(case, Step.UNCORDON_REQUIRED)
        self.change(case.name, {"annotations": {INITIALLY_CORDONED: None}})
        return self._go(case, Step.DONE)

    def _uncordon(self, case: Case) -> float:
        self.change(case.name, {"labels": {UPGRADE_STATE: str(Step.DONE)}}, {"unschedulable": None})
        return 0.0

    def _is_over(self, case: Case, since: str, seconds: float) -> bool:
        """Whether a wait that began when the annotation ``since`` says is over; begins it where there is none."""
        began = annotation(case.node, since)
        if not seconds:
            return False
        if not began.isdigit():
            self.change(case.name, {"annotations": {since: str(int(time.time()))}})
            return False
        return time.time() > int(began) + seconds

    def _forget(self, case: Case, since: str) -> None:
        if annotation(case.node, since):
            self.change(case.name, {"annotations": {since: None}})

    def _is_synced(self, driver: Object) -> bool | None:
        """Whether a driver's pod is of its DaemonSet's newest revision; None while nobody knows. Raises KubeError."""
        daemon_set = owner_of(self._world, driver)
        if daemon_set is None:
            return False
        metadata = daemon_set["metadata"]
        observed = (daemon_set.get("status") or {}).get("observedGeneration") or 0
        if observed < metadata["generation"]:
            return None
        key = (metadata["uid"], metadata["generation"])
        if key not in self._hashes:
            self._hashes[key] = self._newest_revision(daemon_set)
        return bool(driver["metadata"]["labels"].get(_HASH) == self._hashes[key])

    def _newest_revision(self, daemon_set: Object) -> str:
        metadata = daemon_set["metadata"]
        where = f"/apis/apps/v1/namespaces/{metadata['namespace']}/controllerrevisions"
        app = daemon_set["spec"]["template"]["metadata"]["labels"]["app"]
        mine = [
            each
            for each in self._world.client.list(where, label_selector=f"app={app}")
            if any(owner["uid"] == metadata["uid"] for owner in each["metadata"].get("ownerReferences") or ())
        ]
        newest = max(mine, key=lambda each: int(each["revision"]), default=None)
        return "" if newest is None else str(newest["metadata"]["labels"].get(_HASH) or "")


def owner_of(world: World, pod: Object) -> Object | None:
    """The DaemonSet of a pod, while it is there."""
    owner = _owner(pod)
    found = world.get("DaemonSet", owner["name"], pod["metadata"]["namespace"]) if owner else None
    return found if found is not None and owner and found["metadata"]["uid"] == owner["uid"] else None


def is_upgraded(world: World, driver: Object) -> bool:
    """Whether the upgrade controller finds a driver's pod.

    It looks for DaemonSets by the label ``app`` (controllers/upgrade_controller.go), which a ClusterPolicy's
    ``daemonsets.labels`` may override: then no node gets a state, and no driver is upgraded.
    """
    daemon_set = owner_of(world, driver)
    if daemon_set is None:
        return True
    labels = daemon_set["metadata"].get("labels") or {}
    own = daemon_set["spec"]["selector"].get("matchLabels") or {}
    return "app" not in own or labels.get("app") == own["app"]


def restart_only(world: World, driver: Object) -> bool:
    """Whether the newest revision of a driver's pod installs the same driver, so that no workload has to go."""
    daemon_set = owner_of(world, driver)
    if daemon_set is None:
        return False
    wanted = _digest(daemon_set["spec"]["template"]["spec"])
    return bool(wanted) and wanted == _digest(driver["spec"])


def _digest(spec: Mapping[str, Any]) -> str:
    return next((found for each in spec["containers"] if (found := environment(each).get(DIGEST))), "")


def _owner(pod: Object) -> Mapping[str, Any] | None:
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((each for each in owners if each["kind"] == "DaemonSet"), None)


def _all_ready(pod: Object) -> bool:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    staying = not pod["metadata"].get("deletionTimestamp")
    return staying and phase_of(pod) == "Running" and bool(statuses) and all(each["ready"] for each in statuses)


def _fails(pod: Object) -> bool:
    status = pod.get("status") or {}
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return any(not each["ready"] and each["restartCount"] > _MANY_RESTARTS for each in statuses)
