"""What a device plugin or GPU Feature Discovery is configured with, and which configuration its node gets.

The simulator reads configurations by itself, in the way of Go's decoder, and not with conformance.gpu.plugin_config:
the suites judge with that, and the two are to be compared, not to be one.

Sources: NVIDIA/k8s-device-plugin v0.20.0, api/config/v1 and cmd/config-manager, cmd/nvidia-device-plugin (main.go);
NVIDIA/gpu-operator v26.7.0, handleDevicePluginConfig; its v25.10.0 and the chart of the plugin name the same variables.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from conformance.gpu.go_yaml import first_document

NONE, SINGLE, MIXED = "none", "single", "mixed"
TIME_SLICING, MPS = "time-slicing", "mps"
GPU, MIG_PREFIX, SHARED_SUFFIX = "nvidia.com/gpu", "nvidia.com/mig-", ".shared"

_VENDOR = "nvidia.com/"
_LONGEST_NAME = 63
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_HEX = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_DEVICE = re.compile(rf"[0-9]+(:[0-9]+)?|(GPU|MIG)-{_HEX}|MIG-GPU-{_HEX}/[0-9]+/[0-9]+")
_LARGEST = 2**63
_INTERVAL = re.compile(r"infinite|[-+]?(0|([0-9]+[.]?[0-9]*|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h)(.*[smh])?)")

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "migStrategy": (NONE, SINGLE, MIXED),
    "deviceDiscoveryStrategy": ("auto", "nvml", "tegra"),
    "deviceIDStrategy": ("uuid", "index"),
    "sharedDevicesAllocationPolicy": ("distributed", "packed"),
}
_TRUTHS = ("failOnInitError", "gdrcopyEnabled", "gdsEnabled", "mofedEnabled", "useNodeFeatureAPI", "passDeviceSpecs")
_GFD_TRUTHS = ("oneshot", "noTimestamp")
_TEXTS = (
    *_CHOICES, "mpsRoot", "nvidiaDriverRoot", "nvidiaDevRoot", "cdiAnnotationPrefix", "nvidiaCTKPath",
    "containerDriverRoot", "outputFile", "machineTypeFile",
)  # fmt: skip


class Refused(Exception):
    """The program ends with this error instead of starting."""


class ReplicatedResource(msgspec.Struct, frozen=True):
    """A resource whose devices are offered ``replicas`` times each."""

    resource: str
    replicas: int


class Sharing(msgspec.Struct, frozen=True):
    """How devices are shared; no ``resources``: not at all. ``refuses_many`` is failRequestsGreaterThanOne."""

    strategy: str = NONE
    resources: tuple[ReplicatedResource, ...] = ()
    renames: bool = False
    refuses_many: bool = False

    def replicas(self, resource: str) -> int:
        """How often the plugin offers each device. Of two entries the devices of both are offered: the larger."""
        return max((each.replicas for each in self.resources if each.resource == resource), default=1)

    def labelled_replicas(self, resource: str) -> int:
        """How often GPU Feature Discovery says that each device is offered. Of two entries it reads the first."""
        return next((each.replicas for each in self.resources if each.resource == resource), 1)

    def name(self, resource: str) -> str:
        """The name under which the plugin offers a resource."""
        renamed = self.renames and any(each.resource == resource for each in self.resources)
        return f"{resource}{SHARED_SUFFIX}" if renamed else resource


class Settings(msgspec.Struct, frozen=True):
    """What is in effect after file, environment and arguments have been put together."""

    mig_strategy: str = NONE
    sharing: Sharing = Sharing()


class File(msgspec.Struct, frozen=True):
    """What a configuration file says; None where it leaves something to the program."""

    mig_strategy: str | None = None
    mps_root: str | None = None
    sharing: Sharing = Sharing()


def choose(files: Iterable[str], label: str, default: str, fallbacks: Sequence[str]) -> str:
    """The name of the file that config-manager gives the program; empty for an empty configuration.

    Raises Refused where config-manager ends with an error.
    """
    names = sorted(files)
    if not names:
        raise Refused("no configuration files available")
    for wanted in (label, default):
        if wanted and wanted not in names:
            # With a bad default the real text has a blank here: it prints the label.
            raise Refused(f"specified config {label} does not exist")
        if wanted:
            return wanted
    for fallback in fallbacks:
        if fallback == "named" and "default" in names:
            return "default"
        if fallback == "single" and len(names) == 1:
            return names[0]
        if fallback == "empty":
            return ""
        if fallback not in ("named", "single"):
            raise Refused(f"unknown fallback strategy: {fallback}")
    raise Refused("no config was set, no default was provided, and all fallbacks failed")


def combine(file: File, mig_strategy: str | None, mps_root: str | None) -> Settings:
    """Put a file and what the program is told otherwise together: arguments and environment outrank the file.

    ``mig_strategy`` and ``mps_root`` are None where nothing is told. Raises Refused for what cannot be.
    """
    strategy = mig_strategy if mig_strategy is not None else file.mig_strategy or NONE
    if file.sharing.strategy == MPS and strategy == MIXED:
        raise Refused("using --mig-strategy=mixed is not supported with MPS")
    if file.sharing.strategy == MPS and not (mps_root if mps_root is not None else file.mps_root):
        raise Refused("using MPS requires --mps-root to be specified")
    if strategy not in (NONE, SINGLE, MIXED):
        raise Refused(f"unknown MIG strategy: {strategy}")
    return Settings(strategy, file.sharing)


@lru_cache(maxsize=256)
def read(text: str) -> File:
    """Read the text of a configuration. Raises Refused for what the program does not start with."""
    import yaml

    try:
        value = first_document(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Refused(f"unmarshal error: {error}") from None
    value = _members(value, "the configuration")
    version = _member(value, "version")
    if version not in (None, "", "v1"):
        raise Refused(f"unknown version: {version}")
    _check_resources(_members(_member(value, "resources"), "resources"))
    _check_channels(_member(_members(_member(value, "imex"), "imex"), "channelIDs"))
    flags = _members(_member(value, "flags"), "flags")
    plugin = _members(_member(flags, "plugin"), "flags.plugin")
    for part in (flags, plugin):
        _check_flags(part, _TRUTHS)
    _check_strategies(_member(plugin, "deviceListStrategy"))
    gfd = _members(_member(flags, "gfd"), "flags.gfd")
    _check_flags(gfd, _GFD_TRUTHS)
    _check_interval(_member(gfd, "sleepInterval"))
    _check_truth(_members(_member(value, "imex"), "imex"), "required")
    sharing = _sharing(_members(_member(value, "sharing"), "sharing"))
    return File(_text(flags, "migStrategy"), _text(flags, "mpsRoot"), sharing)


def _members(value: object, what: str) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(f"unmarshal error: {what} is no mapping")
    return value


def _member(value: Mapping[Any, Any], name: str) -> Any:
    """A member in any case of its letters, which is how Go's decoder finds the fields of a struct."""
    return next((found for key, found in value.items() if str(key).lower() == name.lower()), None)


def _text(value: Mapping[Any, Any], name: str) -> str | None:
    found = _member(value, name)
    if found is not None and not isinstance(found, str):
        raise Refused(f"unmarshal error: {name} is no text")
    return found


def _check_truth(section: Mapping[Any, Any], name: str) -> None:
    if not isinstance(_member(section, name), bool | None):
        raise Refused(f"unmarshal error: {name} is no truth value")


def _check_flags(flags: Mapping[Any, Any], truths: Iterable[str]) -> None:
    for name in truths:
        _check_truth(flags, name)
    for name in _TEXTS:
        _text(flags, name)
    for name, allowed in _CHOICES.items():
        found = _member(flags, name)
        if found is not None and found not in allowed:
            raise Refused(f"invalid {name}: {found}")


def _check_strategies(value: object) -> None:
    """Which ones they are does not count: the environment of the operator and of the chart outranks the file."""
    named = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str | None) for each in named):
        raise Refused(f"invalid deviceListStrategy: {value}")


def _check_interval(value: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not number and not (isinstance(value, str) and _INTERVAL.fullmatch(value)):
        raise Refused(f"time: invalid duration {value}")


def _check_resources(resources: Mapping[Any, Any]) -> None:
    for kind in ("gpus", "mig"):
        entries = _member(resources, kind)
        if not isinstance(entries, list | None):
            raise Refused(f"unmarshal error: resources.{kind} is no list")
        for entry in entries or ():
            if not isinstance(entry, dict) or "pattern" not in entry or "name" not in entry:
                raise Refused("resources must have a 'pattern' and a 'name' field set")
            if not isinstance(entry["pattern"], str | None):
                raise Refused("unmarshal error: a pattern is no text")
            _resource_name(entry["name"])


def _check_channels(channels: object) -> None:
    if channels is None:
        return
    numbers = [0 if each is None else _whole(each) for each in channels] if isinstance(channels, list) else [None]
    if numbers not in ([], [0]):
        raise Refused(f"invalid IMEX channel IDs: {channels}")


def _sharing(value: Mapping[Any, Any]) -> Sharing:
    """MPS where it is set, else time-slicing. A null timeSlicing lacks its resources, a null mps is no MPS."""
    sliced = Sharing()
    if any(str(key).lower() == "timeslicing" for key in value):
        sliced = _replicated(_member(value, "timeSlicing"), TIME_SLICING)
    mps = _member(value, "mps")
    return sliced if mps is None else _replicated(mps, MPS)


def _replicated(value: object, strategy: str) -> Sharing:
    """One way of sharing. Its members are decoded by hand, so that their letters count."""
    section = _members(value, strategy)
    refuses = section.get("failRequestsGreaterThanOne")
    renames = section.get("renameByDefault", False)
    if not isinstance(refuses, bool | None) or not isinstance(renames, bool | None):
        raise Refused(f"unmarshal error: a switch of {strategy} is no truth value")
    entries = section.get("resources")
    if not isinstance(entries, list) or not entries:
        raise Refused("no resources specified")
    resources = tuple(_replicated_resource(entry) for entry in entries)
    return Sharing(strategy, resources, bool(renames), strategy == MPS if refuses is None else refuses)


def _replicated_resource(value: object) -> ReplicatedResource:
    entry = _members(value, "a shared resource")
    if "name" not in entry:
        raise Refused("no resource name specified")
    name = _resource_name(entry["name"])
    _check_devices(entry.get("devices", "all"))
    if "replicas" not in entry:
        raise Refused("no replicas specified")
    replicas = _whole(entry["replicas"])
    if replicas is None or replicas < 2:
        raise Refused("number of replicas must be >= 2")
    if "rename" in entry:
        _resource_name(entry["rename"])
    return ReplicatedResource(name, replicas)


def _resource_name(value: object) -> str:
    if not isinstance(value, str):
        raise Refused(f"unmarshal error: {value} is no resource name")
    name = value if value.startswith(_VENDOR) else f"{_VENDOR}{value}"
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name.removeprefix(_VENDOR)):
        raise Refused(f"incorrect format for resource name '{name}'")
    return name


def _check_devices(value: object) -> None:
    """What is selected is never heeded, but has to be written correctly."""
    if isinstance(value, list):
        valid = all(_is_device(each) for each in value)
    else:
        count = _whole(value)
        valid = value == "all" or (count is not None and count > 0)
    if not valid:
        raise Refused(f"unrecognized type for devices spec: {value}")


def _is_device(value: object) -> bool:
    if isinstance(value, str):
        return _DEVICE.fullmatch(value) is not None
    number = 0 if value is None else _whole(value)
    return number is not None and number >= 0


def _whole(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) >= _LARGEST:
        return None
    return int(value) if value == int(value) else None
