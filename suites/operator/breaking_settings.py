"""Settings of a ClusterPolicy that are known to break pods: how devices are handed over, and who takes them.

The device plugin tells the runtime which devices a container gets, in one of several ways (DEVICE_LIST_STRATEGY), and
the container toolkit takes them only in those that it is told to accept. With CDI the operator has the plugin name CDI
devices, which the toolkit takes from any container, so that nothing has to be accepted: refusing the variable
NVIDIA_VISIBLE_DEVICES then only keeps it from containers that asked for no device.
Sources: NVIDIA/gpu-operator v26.7.0, controllers/object_controls.go (TransformDevicePlugin: devicePlugin.env wins over
what the operator sets; transformDevicePluginCtrForCDI), assets/state-device-plugin (the default envvar, and
PASS_DEVICE_SPECS=true), issues 1876 and 2115; NVIDIA/nvidia-container-toolkit, internal/config/image/cuda_image.go
(VisibleDevices) and api/config/v1 (what is accepted by default), Troubleshooting: containers losing access to GPUs.
"""

from collections.abc import Iterator
from typing import NamedTuple

from suites._shared.operator_resource import OperatorResource

_STRATEGY, _BY_CDI = "DEVICE_LIST_STRATEGY", "cdi"
_VARIABLE, _MOUNTS = "envvar", "volume-mounts"
_TAKES_VARIABLE = "ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED"
_TAKES_MOUNTS = "ACCEPT_NVIDIA_VISIBLE_DEVICES_AS_VOLUME_MOUNTS"
_PASSES_FILES = "PASS_DEVICE_SPECS"


class BreakingSetting(NamedTuple):
    """A setting that breaks pods: which, beside what, its effect, the remedy, and why it is overlooked."""

    what: str
    beside: str
    effect: str
    remedy: str
    hidden_because: str


def breaking_settings(operator_resource: OperatorResource, *, by_cdi: bool) -> Iterator[BreakingSetting]:
    """The settings of a ClusterPolicy that break pods; ``by_cdi`` says whether its operator hands devices over by CDI.

    Without CDI the toolkit decides; where the operator does not bring it, its configuration is in no object.
    """
    if operator_resource.kind != "ClusterPolicy":
        return
    plugin, toolkit = operator_resource.env("devicePlugin"), operator_resource.env("toolkit")
    strategies = {part.strip() for part in plugin.get(_STRATEGY, "").split(",")} - {""}
    if by_cdi:
        yield from _beside_cdi(strategies)
        return
    if plugin.get(_PASSES_FILES, "").lower() == "false":
        yield _without_device_files()
    if operator_resource.enabled("toolkit"):
        yield from _not_taken(strategies or {_VARIABLE}, toolkit)


def _beside_cdi(strategies: set[str]) -> Iterator[BreakingSetting]:
    if strategies and not any(each.startswith(_BY_CDI) for each in strategies):
        yield BreakingSetting(
            f"devicePlugin.env {_STRATEGY}={','.join(sorted(strategies))}",
            "cdi.enabled",
            "with CDI pods fail with 'unresolvable CDI devices'",
            f"Drop {_STRATEGY} from devicePlugin.env, so that the operator sets it to CDI, or set cdi.enabled to "
            f"false. {_TAKES_MOUNTS} of toolkit.env has no use then.",
            "it worked before CDI was enabled by default (v25.10)",
        )


def _without_device_files() -> BreakingSetting:
    return BreakingSetting(
        f"devicePlugin.env {_PASSES_FILES}=false",
        "cdi.enabled=false",
        "containers lose their GPUs when systemd reloads on the node or something updates them ('Failed to initialize "
        "NVML: Unknown Error')",
        f"Drop {_PASSES_FILES} from devicePlugin.env: the operator sets it to true. Or enable CDI. Then restart the "
        "pods that have lost their GPUs.",
        "pods start well and work for days, until somebody reloads systemd or it updates a package",
    )


def _not_taken(strategies: set[str], toolkit: dict[str, str]) -> Iterator[BreakingSetting]:
    taken = {_BY_CDI}
    taken |= {_VARIABLE} if toolkit.get(_TAKES_VARIABLE, "true").lower() != "false" else set()
    taken |= {_MOUNTS} if toolkit.get(_TAKES_MOUNTS, "false").lower() == "true" else set()
    if any(each.partition("-")[0] in taken or each in taken for each in strategies):
        return
    by = ",".join(sorted(strategies))
    if _MOUNTS in strategies:
        remedy = f"Set {_TAKES_MOUNTS}=true in toolkit.env."
    else:
        remedy = (
            f"Set {_STRATEGY}={_MOUNTS} in devicePlugin.env and {_TAKES_MOUNTS}=true in toolkit.env, which belong to "
            f"{_TAKES_VARIABLE}=false; or enable CDI, which needs neither."
        )
    yield BreakingSetting(
        f"toolkit.env {_TAKES_VARIABLE}={toolkit.get(_TAKES_VARIABLE, 'true')}, "
        f"{_TAKES_MOUNTS}={toolkit.get(_TAKES_MOUNTS, 'false')}",
        f"{_STRATEGY}={by} of the device plugin",
        "the toolkit does not take devices in the way in which the device plugin names them: unprivileged pods that "
        "request a GPU get none",
        remedy,
        "the validator and other privileged pods get their GPUs all the same",
    )
