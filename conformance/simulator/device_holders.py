"""Who has the GPUs of a node open although no device plugin gave them out: what keeps an old driver loaded.

Whether a process opens a device that its container can reach no API shows, so an annotation of the pod says it. Only
the simulator reads that. A daemon of MPS always does.
Sources: NVIDIA/k8s-driver-manager v0.12.0, cmd/driver-manager/main.go (cleanupDriver); NVIDIA/gpu-operator issue 2509.
"""

from conformance.kube.names import DOMAIN
from conformance.simulator.agents import MPS_DAEMON, environment, phase_of
from conformance.simulator.annotations import annotation
from conformance.simulator.world import Object, World

OPENS_DEVICES = f"{DOMAIN}/opens-devices"
"""On pods: ``true`` where their programs open the GPUs that they can reach, and keep them open while they run."""

_DEVICES = "NVIDIA_VISIBLE_DEVICES"


def may_hold(pod: Object) -> bool:
    """Whether a pod is one of those that open GPUs: when it goes, a driver may be unloaded."""
    return annotation(pod, OPENS_DEVICES) == "true" or any(
        each["name"] in MPS_DAEMON for each in pod["spec"]["containers"]
    )


def holders(world: World, node: str) -> list[Object]:
    """The running pods that have a GPU of a node open."""
    return [pod for pod in world.pods_on(node) if may_hold(pod) and phase_of(pod) == "Running" and reaches_devices(pod)]


def reaches_devices(pod: Object) -> bool:
    """Whether a pod gets at device files of GPUs: by privilege, mount, runtime class, or a claim."""
    spec = pod["spec"]
    mounted = [str((each.get("hostPath") or {}).get("path") or "") for each in spec.get("volumes") or ()]
    if any(path.rstrip("/") == "/dev" or path.startswith("/dev/nvidia") for path in mounted):
        return True
    if any((each.get("securityContext") or {}).get("privileged") is True for each in spec["containers"]):
        return True
    if spec.get("resourceClaims"):
        return True
    shown = (environment(each).get(_DEVICES, "") for each in spec["containers"])
    return str(spec.get("runtimeClassName") or "").startswith("nvidia") and any(
        value not in ("", "void", "none") for value in shown
    )
