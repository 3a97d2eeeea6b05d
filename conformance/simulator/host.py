"""One node as its operands find it: which of them are there, whether a driver is loaded, what the runtime knows.

The order is that of the operands' init containers: driver, then toolkit, then what needs GPUs in a container, then the
validation that all of it works. What is broken about the machine stops the chain where it would stop it on a real one.
Only pods that have not started yet are stopped: what runs when something breaks goes on running.

Source: NVIDIA/gpu-operator v26.7.0, assets/ and cmd/nvidia-validator/main.go.
"""

from collections.abc import Iterator

from conformance.simulator.agents import driver_of, environment, is_played, is_ready, phase_of
from conformance.simulator.device_holders import holders
from conformance.simulator.gpucluster import DCGM as DRA_DCGM
from conformance.simulator.gpucluster import EXPORTER as DRA_EXPORTER
from conformance.simulator.gpucluster import KUBELET_PLUGIN
from conformance.simulator.gpucluster import VALIDATOR as DRA_VALIDATOR
from conformance.simulator.hardware import Machine, machine_of
from conformance.simulator.nodelabels import UPGRADE_STATE
from conformance.simulator.operands import (
    BY_APP,
    CUDA_VALIDATION,
    DEPLOY,
    DRIVER,
    DRIVER_COMPONENT,
    MANAGER,
    PLUGIN_VALIDATION,
    STATUS_EXPORTER,
    TOOLKIT,
    TOOLKIT_VALIDATION,
    VALIDATOR,
)
from conformance.simulator.podstatus import Stop
from conformance.simulator.upgrade_slots import NOT_IN_PROGRESS
from conformance.simulator.world import Object, World

CUDA_POD, PLUGIN_POD = "nvidia-cuda-validator", "nvidia-device-plugin-validator"
"""The labels ``app`` of the pods by which the validator has CUDA and the device plugin tried out."""

_OF_DRA = (KUBELET_PLUGIN, DRA_DCGM, DRA_EXPORTER)

# The driver of a machine is loaded, and nvidia-smi, which every validation of it runs, ends with an error.
_NVIDIA_SMI_FAILS = ("inforom", "driver-mismatch")
# What a validation has seen working may break later; wrong results are no part of what the validator can see then.
_CUDA_FAILS = ("fabric-manager",)


def role_of(pod: Object) -> str:
    """Which operand a pod belongs to, by name; empty for every other pod."""
    labels = pod["metadata"].get("labels") or {}
    if any(labels.get(key) == value for key, value in DRIVER_COMPONENT.items()):
        return DRIVER.name
    if labels.get("app.kubernetes.io/name") == DRA_VALIDATOR:
        return DRA_VALIDATOR
    app = labels.get("app", "")
    return app if app in BY_APP or app in _OF_DRA else ""


class Host:
    """A node and the pods of operands on it, those that are going aside."""

    def __init__(self, world: World, node: Object) -> None:
        self._world = world
        self.node = node
        self.name: str = node["metadata"]["name"]
        self.labels: dict[str, str] = node["metadata"].get("labels") or {}
        self.machine: Machine | None = machine_of(node)
        there = world.pods_on(self.name)
        staying = [pod for pod in there if not pod["metadata"].get("deletionTimestamp")]
        self.leaving = [pod for pod in there if pod["metadata"].get("deletionTimestamp") and role_of(pod)]
        self.pods = [(role, pod) for pod in staying if (role := role_of(pod))]
        self.tries = [pod for pod in staying if _app(pod) in (CUDA_POD, PLUGIN_POD)]

    @property
    def is_played(self) -> bool:
        """Whether nobody but us runs the node's pods."""
        return is_played(self._world, self.name)

    def of(self, role: str) -> Object | None:
        """The pod of an operand."""
        return next((pod for found, pod in self.pods if found == role), None)

    def stop_of(self, role: str, pod: Object) -> Stop | None:
        """Where a pod of an operand stops; None when it gets through."""
        if role == DRIVER.name:
            return self._stop_of_driver()
        if role == STATUS_EXPORTER.name:
            return None
        if not self.driver_works:
            first = pod["spec"].get("initContainers") or [{"name": ""}]
            return Stop(first[0]["name"])
        if role in (TOOLKIT.name, KUBELET_PLUGIN, DRA_VALIDATOR):
            return None
        if not self.runtime_knows_gpus:
            return Stop()
        if role == VALIDATOR.name:
            return self._stop_of_validator(pod)
        return None if self.of(VALIDATOR.name) else Stop(TOOLKIT_VALIDATION)

    @property
    def driver_works(self) -> bool:
        """Whether a driver is loaded, and nvidia-smi ends well."""
        machine = self.machine
        if machine is None or not machine.present or any(fault in machine.broken for fault in _NVIDIA_SMI_FAILS):
            return False
        return bool(machine.driver) or (
            "driver-fails" not in machine.broken and bool(driver_of(self._world, self.name, machine))
        )

    @property
    def runtime_knows_gpus(self) -> bool:
        """Whether the container runtime has a handler for the NVIDIA runtime class: from the toolkit, or by itself."""
        if self.machine is None or "runtime-not-configured" in self.machine.broken:
            return False
        toolkit = self.of(TOOLKIT.name)
        if toolkit is not None:
            return is_ready(toolkit)
        wanted = self.labels.get(f"{DEPLOY}{TOOLKIT.deploy}")
        deployed = any(each["metadata"]["name"] == TOOLKIT.name for each in self._world.all("DaemonSet"))
        # A toolkit that was paused has been there; one that was never wanted on the node has not.
        return not deployed or wanted not in (None, "", "true", "false")

    @property
    def clients(self) -> Iterator[tuple[str, Object]]:
        """The operands that hold the driver: those that run, the ones that are going included."""
        for role, pod in [*self.pods, *((role_of(pod), pod) for pod in self.leaving)]:
            if role not in (DRIVER.name, STATUS_EXPORTER.name) and phase_of(pod) == "Running":
                yield role, pod

    @property
    def cuda_fails(self) -> bool:
        """Whether a CUDA program cannot run although nvidia-smi does."""
        return self.machine is not None and any(fault in self.machine.broken for fault in _CUDA_FAILS)

    @property
    def has_host_driver(self) -> bool:
        """Whether the node image brought a driver, which the operator's then gives way to."""
        return self.machine is not None and bool(self.machine.driver)

    def _stop_of_driver(self) -> Stop | None:
        if self.has_host_driver or next(iter(self.clients), None):
            return Stop(MANAGER)
        if self._is_being_upgraded and holders(self._world, self.name):
            return Stop(MANAGER, exit_code=1)
        if self.machine is None or not self.machine.present or "driver-fails" in self.machine.broken:
            return Stop(DRIVER.container, exit_code=1)
        return None

    @property
    def _is_being_upgraded(self) -> bool:
        """Whether an old driver is to be unloaded: before the first one nobody can have a device open."""
        return self.labels.get(UPGRADE_STATE, "") not in NOT_IN_PROGRESS

    def _stop_of_validator(self, pod: Object) -> Stop | None:
        if not self._succeeded(CUDA_POD, pod):
            return Stop(CUDA_VALIDATION, exit_code=1 if self.cuda_fails else None)
        names = [each["name"] for each in pod["spec"].get("initContainers") or ()]
        if PLUGIN_VALIDATION not in names:
            return None
        if not self.offers_gpus or (tries_plugin(pod) and not self._succeeded(PLUGIN_POD, pod)):
            return Stop(PLUGIN_VALIDATION)
        return None

    def try_of(self, app: str, validator: Object) -> Object | None:
        """The pod by which one validator pod has something tried out."""
        wanted = try_name(app, validator)
        return next((pod for pod in self.tries if pod["metadata"]["name"] == wanted), None)

    def _succeeded(self, app: str, validator: Object) -> bool:
        found = self.try_of(app, validator)
        return found is not None and phase_of(found) == "Succeeded"

    @property
    def offers_gpus(self) -> bool:
        """Whether the node has capacity for GPUs or MIG devices: all that the validation of the plugin asks."""
        capacity = (self.node.get("status") or {}).get("capacity") or {}
        return any(
            name.startswith(("nvidia.com/gpu", "nvidia.com/mig-")) and str(amount) != "0"
            for name, amount in capacity.items()
        )


def tries_plugin(validator: Object) -> bool:
    """Whether a validator pod has a workload allocate a GPU; by default it only looks at the node's capacity."""
    for container in validator["spec"].get("initContainers") or ():
        if container["name"] == PLUGIN_VALIDATION:
            return environment(container).get("WITH_WORKLOAD") == "true"
    return False


def try_name(app: str, validator: Object) -> str:
    """The name of a trying pod: the same for one validator pod, so that there is never a second one."""
    return f"{app}-{validator['metadata']['uid'].rpartition('-')[2][-5:]}"


def _app(pod: Object) -> str:
    return str((pod["metadata"].get("labels") or {}).get("app") or "")
