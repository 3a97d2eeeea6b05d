"""What the container runtime of a simulated node gives to a container: allocated devices, and what holes let through.

Sources: NVIDIA/nvidia-container-toolkit, api/config/v1 (accept-nvidia-visible-devices-envvar-when-unprivileged) and
its README; NVIDIA/k8s-device-plugin, README (what an unprivileged container sees without a request).
"""

from collections.abc import Mapping
from typing import Any

from conformance.simulator.agents import driver_of, environment
from conformance.simulator.annotations import allocation_of
from conformance.simulator.geometry import Geometry, geometry_of
from conformance.simulator.hardware import Machine, gpu_uuid, machine_of, mig_uuid
from conformance.simulator.programs.view import View, Visible
from conformance.simulator.world import Object, World

RUNTIME_CLASS = "nvidia"
VISIBLE = "NVIDIA_VISIBLE_DEVICES"
_NONE = ("", "none", "void")
# These publishers' images set NVIDIA_VISIBLE_DEVICES=all.
_IMAGES_THAT_ASK_FOR_ALL = ("nvidia/cuda", "docker.io/nvidia/cuda", "nvcr.io/nvidia/")
_WITHOUT_GPUS = Machine(product="", gpus=0, memory_mib=0, compute="")
_FROM_RUNTIME = ("NVIDIA_", "CUDA_")


def view_of(world: World, pod: Object, container: Mapping[str, Any], seconds: float) -> View:
    """What a container of a bound pod sees; ``seconds`` is how long it has run."""
    name = str(pod["spec"]["nodeName"])
    node = world.get("Node", name)
    machine = (machine_of(node) if node is not None else None) or _WITHOUT_GPUS
    driver = driver_of(world, name, machine) if machine.gpus else ""
    there = every_device(name, machine, geometry_of(node) if node is not None else {})
    env = {key: value for key, value in _environment(container).items() if key.startswith(_FROM_RUNTIME)}
    given = allocation_of(pod).uuids.get(str(container["name"]), [])
    if given and machine.broken.get("devices-by-class-only") and not _is_of_class(pod):
        return View(machine, driver, (), False, env, seconds)
    if given:
        devices = tuple(there[each] for each in dict.fromkeys(given) if each in there)
        env[VISIBLE] = ",".join(dict.fromkeys(given))
    else:
        devices = _through_holes(name, machine, there, env, pod)
    if _is_privileged(container):
        return View(machine, driver, tuple(there.values()), bool(given or devices), env, seconds)
    return View(machine, driver, devices, bool(given or devices), env, seconds)


def every_device(node: str, machine: Machine, geometry: Geometry) -> dict[str, Visible]:
    """All devices of a node by their own UUID: whole GPUs, and MIG devices of those with MIG on."""
    found: dict[str, Visible] = {}
    for index in machine.present:
        gpu = Visible(index, gpu_uuid(node, index), machine.product, machine.memory_mib)
        if index not in geometry:
            found[gpu.uuid] = gpu
            continue
        for profile, count in geometry[index].items():
            for number in range(count):
                own = mig_uuid(node, index, profile, number)
                found[own] = Visible(
                    index, gpu.uuid, machine.product, machine.memory_mib, own, profile, _memory_of(profile)
                )
    return found


def _memory_of(profile: str) -> int:
    """MiB of a MIG device by its name, a little less than it says, as NVML reports it."""
    return int(int(profile.partition("g.")[2].partition("gb")[0]) * 1024 * 0.95)


def _environment(container: Mapping[str, Any]) -> dict[str, str]:
    image = str(container.get("image") or "")
    of_image = {VISIBLE: "all"} if image.startswith(_IMAGES_THAT_ASK_FOR_ALL) else {}
    return of_image | environment(container)


def _through_holes(
    node: str, machine: Machine, there: Mapping[str, Visible], env: Mapping[str, str], pod: Object
) -> tuple[Visible, ...]:
    """The devices that a container without any of its own gets because the runtime believes its environment."""
    of_class = _is_of_class(pod)
    believes = machine.broken.get("nvidia-is-default-runtime") or (
        of_class and machine.broken.get("visible-devices-honoured")
    )
    wanted = env.get(VISIBLE, "")
    if not believes or wanted in _NONE:
        return ()
    if wanted == "all":
        return tuple(there.values())
    names = [each.strip() for each in wanted.split(",")]
    return tuple(
        device for device in there.values() if {device.own_uuid, device.uuid, str(device.gpu)}.intersection(names)
    )


def _is_of_class(pod: Object) -> bool:
    return bool(pod["spec"].get("runtimeClassName") == RUNTIME_CLASS)


def _is_privileged(container: Mapping[str, Any]) -> bool:
    return bool((container.get("securityContext") or {}).get("privileged"))
