"""Operand pods on a node, one after the other: who may start, who waits, and the pods that the validator creates.

Each operand's pods begin held (manifests.STARTS_IN_TURN); here they are let go when what they wait for is there.
Before a driver is loaded over another one, its driver manager sends the operands that hold the old one away by their
node labels, and lets them come back. A driver that the node image brought makes the driver manager give up its node.

Sources: NVIDIA/gpu-operator v26.7.0, assets/, cmd/nvidia-validator/main.go, validator/manifests;
NVIDIA/k8s-driver-manager.
"""

import contextlib
import time
from collections.abc import Iterable

from conformance.kube.errors import AlreadyExists
from conformance.kube.names import DOMAIN
from conformance.kube.paths import path
from conformance.simulator.agents import phase_of
from conformance.simulator.annotations import EXIT_CODE, HELD, RUN_SECONDS, annotation
from conformance.simulator.chart.objects import named
from conformance.simulator.device_holders import may_hold
from conformance.simulator.gpucluster import DCGM as DRA_DCGM
from conformance.simulator.gpucluster import EXPORTER as DRA_EXPORTER
from conformance.simulator.gpucluster import KUBELET_PLUGIN
from conformance.simulator.gpucluster import VALIDATOR as DRA_VALIDATOR
from conformance.simulator.hardware import HARDWARE
from conformance.simulator.host import CUDA_POD, PLUGIN_POD, Host, role_of, tries_plugin, try_name
from conformance.simulator.operands import BY_APP, CUDA_VALIDATION, DEPLOY, DRIVER, PLUGIN_VALIDATION, VALIDATOR
from conformance.simulator.pod_failures import POD_FAILURE
from conformance.simulator.podstatus import Stop, is_held, release, show
from conformance.simulator.world import Object, World

PAUSED = "paused-for-driver-upgrade"
"""The value of a deploy label while a driver is exchanged (NVIDIA/k8s-driver-manager)."""

PRE_INSTALLED = "pre-installed"
"""The value of the driver's deploy label on a node whose image brought a driver."""

PAUSING = f"{DOMAIN}/pausing"
"""On a driver's pod: operands have been paused for it, and are to come back."""

_PATIENCE = 1.0
"""How long (seconds) a pod may wait for its turn before its status says so in detail."""

_DEPLOY_OF = {operand.name: operand.deploy for operand in BY_APP.values()} | {
    KUBELET_PLUGIN: "dra-driver",
    DRA_VALIDATOR: "dra-validator",
    DRA_DCGM: "dcgm-dra",
    DRA_EXPORTER: "dcgm-exporter-dra",
}


class Validator:
    """Lets the pods of operands on a node start in their order. A key is the name of a node."""

    name = "validator"
    watches = ("Node", "Pod", "DaemonSet")

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: dict[str, float] = {}

    def keys(self, kind: str, obj: Object, deleted: bool) -> Iterable[str]:
        """The node of an operand, of a trying pod or of one that may have GPUs open, and a node with GPUs itself."""
        if kind == "Node":
            return (obj["metadata"]["name"],) if annotation(obj, HARDWARE) and not deleted else ()
        if kind != "Pod":
            return ()
        if deleted:
            self._waiting.pop(obj["metadata"]["uid"], None)
        labels = obj["metadata"].get("labels") or {}
        node = obj["spec"].get("nodeName")
        concerned = role_of(obj) or labels.get("app") in (CUDA_POD, PLUGIN_POD) or may_hold(obj)
        return (node,) if node and concerned else ()

    def reconcile(self, key: str) -> float | None:
        """Let go what may start, hold what may not, and say of what is held for longer why."""
        node = self._world.get("Node", key)
        if node is None:
            return None
        host = Host(self._world, node)
        self._manage_driver(host)
        self._try_out(host)
        waits = [self._settle(host, role, pod) for role, pod in host.pods]
        return min((each for each in waits if each is not None), default=None)

    def _settle(self, host: Host, role: str, pod: Object) -> float | None:
        if not is_held(pod):
            return None
        if not host.is_played:
            return self._settle_real(host, role, pod)
        stop = host.stop_of(role, pod)
        uid = pod["metadata"]["uid"]
        if stop is None:
            self._waiting.pop(uid, None)
            release(self._world, pod)
            return None
        left = self._waiting.setdefault(uid, time.monotonic()) + _PATIENCE - time.monotonic()
        if stop.exit_code is None and left > 0:
            return left
        if not annotation(pod, POD_FAILURE):  # else somebody else says what is wrong with it
            show(self._world, pod, stop)
        return None

    def _settle_real(self, host: Host, role: str, pod: Object) -> float | None:
        """On a real node operands start by themselves; the annotation only tells that they are let through."""
        if role == DRIVER.name or host.stop_of(role, pod) is None:
            self._annotate(pod, HELD, None)
        return None

    def _manage_driver(self, host: Host) -> None:
        """Do what the init container of a driver's pod does: send away who holds the old driver, call them back."""
        driver = host.of(DRIVER.name)
        if driver is None or not host.is_played:
            return
        if host.has_host_driver:
            self._relabel(host, {f"{DEPLOY}{DRIVER.deploy}": PRE_INSTALLED})
        elif not is_held(driver):
            return
        elif ends := {_DEPLOY_OF[role] for role, _ in host.clients if role in _DEPLOY_OF}:
            labels = {f"{DEPLOY}{end}" for end in ends}
            paused = {label: PAUSED for label in labels if host.labels.get(label) == "true"}
            if paused and not annotation(driver, PAUSING):
                self._annotate(driver, PAUSING, "true")
            self._relabel(host, paused)
        elif annotation(driver, PAUSING):
            # They are back on the node before the new driver is loaded, and wait for it there.
            self._relabel(host, {label: "true" for label, value in host.labels.items() if _is_paused(label, value)})
            self._annotate(driver, PAUSING, None)

    def _try_out(self, host: Host) -> None:
        """Create the pods that a validator pod waits for, when it gets that far."""
        validator = host.of(VALIDATOR.name)
        if validator is None or not is_held(validator):
            return
        stop = host.stop_of(VALIDATOR.name, validator)
        if stop is not None and stop.container == CUDA_VALIDATION:
            self._try(host, CUDA_POD, validator, fails=host.cuda_fails)
        elif stop is not None and stop.container == PLUGIN_VALIDATION and host.offers_gpus and tries_plugin(validator):
            self._try(host, PLUGIN_POD, validator, fails=False)

    def _try(self, host: Host, app: str, validator: Object, *, fails: bool) -> None:
        there = host.try_of(app, validator)
        if there is not None:
            self._have_fail_or_not(there, app, fails=fails)
            return
        for old in host.tries:
            if old["metadata"]["labels"]["app"] == app:
                self._world.client.delete(_path(old), grace_seconds=0)
        made = self._trying_pod(host, app, validator, fails=fails)
        with contextlib.suppress(AlreadyExists):  # the cache is behind
            self._world.client.create(path("Pod", namespace=made["metadata"]["namespace"]), made)

    def _have_fail_or_not(self, pod: Object, app: str, *, fails: bool) -> None:
        if fails and phase_of(pod) != "Succeeded":
            show(self._world, pod, Stop(CUDA_VALIDATION if app == CUDA_POD else PLUGIN_VALIDATION, exit_code=1))
        elif not fails and is_held(pod):
            release(self._world, pod)

    def _trying_pod(self, host: Host, app: str, validator: Object, *, fails: bool) -> Object:
        namespace = validator["metadata"]["namespace"]
        daemon_set = self._world.get("DaemonSet", VALIDATOR.name, namespace) or {"metadata": {}, "spec": {}}
        template = (daemon_set["spec"].get("template") or {}).get("spec") or {}
        image = validator["spec"]["containers"][0]["image"]
        first: Object = {"name": CUDA_VALIDATION, "image": image, "command": ["sh", "-c"], "args": ["vectorAdd"]}
        if app == CUDA_POD:
            privileged = {"privileged": True}
            first |= {"env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}], "securityContext": privileged}
            last: Object = {"securityContext": privileged}
        else:
            first |= {"name": PLUGIN_VALIDATION, "resources": {"limits": {_one_resource(host): "1"}}}
            last = {"securityContext": {"allowPrivilegeEscalation": False}}
        marks = {EXIT_CODE: "0", RUN_SECONDS: "0"} | ({HELD: "true"} if fails else {})
        spec = {
            "nodeName": host.name,
            "restartPolicy": "OnFailure",
            "serviceAccountName": VALIDATOR.account,
            "tolerations": template.get("tolerations") or [],
            "initContainers": [first],
            "containers": [{"name": app, "image": image, "command": ["sh", "-c"], "args": ["echo done"], **last}],
            **{key: template[key] for key in ("runtimeClassName",) if template.get(key)},
        }
        made = named("Pod", "v1", try_name(app, validator), namespace, {"app": app}, spec=spec)
        owners = daemon_set["metadata"].get("ownerReferences") or []
        made["metadata"] |= {"annotations": marks, "ownerReferences": owners}
        return made

    def _relabel(self, host: Host, labels: dict[str, str]) -> None:
        """Change labels of the node as it was looked at. Of a later one the actor decides anew: Conflict."""
        changed = {label: value for label, value in labels.items() if host.labels.get(label) != value}
        if changed:
            metadata = {"labels": changed, "resourceVersion": host.node["metadata"]["resourceVersion"]}
            self._world.client.patch(path("Node", name=host.name), {"metadata": metadata})

    def _annotate(self, pod: Object, name: str, value: str | None) -> None:
        self._world.client.patch(_path(pod), {"metadata": {"annotations": {name: value}}})


def _is_paused(label: str, value: str) -> bool:
    return label.startswith(DEPLOY) and value == PAUSED


def _one_resource(host: Host) -> str:
    """What the plugin's trying pod asks for: a MIG device where the node has some, else a GPU."""
    capacity = (host.node.get("status") or {}).get("capacity") or {}
    offered = [name for name, amount in sorted(capacity.items()) if name.startswith("nvidia.com/") and amount != "0"]
    slices = [name for name in offered if name.startswith("nvidia.com/mig-")]
    return next(iter(slices or [name for name in offered if name.startswith("nvidia.com/gpu")]), "nvidia.com/gpu")


def _path(pod: Object) -> str:
    return path("Pod", namespace=pod["metadata"]["namespace"], name=pod["metadata"]["name"])
