"""The MIG manager's configuration: the layouts that its text names, and which of them a node is to get.

Sources: NVIDIA/mig-parted v0.15.0, api/spec/v1/spec.go and helpers.go, pkg/types; NVIDIA/gpu-operator v26.7.0,
controllers/object_controls.go (TransformMIGManager) and controllers/state_manager.go (hasMIGCapableGPU).
Whether a GPU has room for a layout is not asked here.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from conformance.gpu.labels import GPU_PRODUCT, MIG_CAPABLE, MIG_CONFIG, VGPU_HOST_DRIVER
from conformance.gpu.plugin_config import Problem, kind, unknown_keys, whole_number, yaml_value
from conformance.gpu.plugin_config_selection import Chain, keys_of, mapping_at, missing_link, name_of, word

CONFIG_KEY = "config.yaml"
"""The only key of a MIG ConfigMap that the MIG manager reads (CONFIG_FILE of its DaemonSet)."""

MIG_PRODUCTS = ("h100", "a100", "a30")
"""Parts of product names for which the operator deploys the MIG manager while mig.capable is not yet set."""

FALLBACK_CONFIG_MAP = "default-mig-parted-config"
"""The static ConfigMap behind the configuration that the MIG manager generates for each node since v26.3."""

_FILTERS = "0xDDDDVVVV, or 0xDDDDVVVV:0xDDDDVVVV with the subsystem"
TOP_KEYS = ("version", "mig-configs")
ENTRY_KEYS = ("devices", "mig-enabled", "mig-devices", "device-filter")

_PROFILE = re.compile(r"([0-9]+c\.)?[0-9]+g\.[0-9]+gb([+-][A-Za-z][A-Za-z0-9.]*(,[A-Za-z][A-Za-z0-9.]*)*)?")
# As Go reads an unsigned number whose base is not given (strconv.ParseUint with base 0); underscores are left out.
_NUMBERS = {
    16: re.compile(r"0[xX]([0-9a-fA-F]+)"),
    8: re.compile(r"0[oO]?([0-7]+)"),
    2: re.compile(r"0[bB]([01]+)"),
    10: re.compile(r"(0|[1-9][0-9]*)"),
}
_MOST = 2**32 - 1


class Entry(msgspec.Struct, frozen=True):
    """What one entry of a layout asks of the GPUs that it names.

    ``devices`` are GPU indices, None means all. ``device_filter`` are PCI ids such as 0x20B010DE (device, then
    vendor), or 0x20B010DE:0x145110DE with those of the subsystem; empty means every model. ``mig_devices`` counts MIG
    devices by profile.
    """

    devices: tuple[int, ...] | None
    mig_enabled: bool
    mig_devices: Mapping[str, int]
    device_filter: tuple[str, ...] = ()

    def names(self, index: int) -> bool:
        """Whether the entry is about the GPU with this index, its filter aside."""
        return self.devices is None or index in self.devices

    def admits(self, device_id: str | None) -> bool | None:
        """Whether its filter lets a model through; None when that hangs on a part of the id that is not known."""
        if not self.device_filter:
            return True
        if device_id is None:
            return None
        answers = [_matches(one, device_id) for one in self.device_filter]
        return True if True in answers else None if None in answers else False


class MigConfig(msgspec.Struct, frozen=True):
    """All named layouts of one text."""

    layouts: Mapping[str, tuple[Entry, ...]]


class ParsedMigConfig(msgspec.Struct, frozen=True):
    """A configuration and its problems; ``config`` is None when mig-parted would refuse the text as a whole."""

    config: MigConfig | None
    problems: tuple[Problem, ...] = ()


class Wanted(msgspec.Struct, frozen=True):
    """What a layout asks of each GPU of a node, by index.

    ``profiles`` has the MIG devices of every GPU that the layout names, empty for those with MIG off (``mig_off``).
    ``untouched`` GPUs are named by no entry and stay as they are; for ``unknown`` ones a filter could not be decided.
    """

    profiles: dict[int, dict[str, int]]
    mig_off: tuple[int, ...] = ()
    untouched: tuple[int, ...] = ()
    unknown: tuple[int, ...] = ()
    problems: tuple[Problem, ...] = ()


class MigSelection(msgspec.Struct, frozen=True):
    """Which layout a node is to get, or the first link on the way to it that is broken.

    ``entries`` is None when the layout's content is not known, as with a configuration generated on the node.
    """

    outcome: Chain
    layout: str = ""
    entries: tuple[Entry, ...] | None = None
    cause: str = ""
    hidden_because: str = ""
    remedy: str = ""
    problems: tuple[Problem, ...] = ()


def parse(text: object) -> ParsedMigConfig:
    """Read the YAML text of a MIG configuration. Whatever the text, the answer is a value; nothing is raised."""
    value, problems = yaml_value(text)
    layouts: dict[str, tuple[Entry, ...]] = {}
    if not problems and not isinstance(value, dict):
        problems.append(Problem("", "is empty" if value is None else f"is {kind(value)}", "a mapping"))
    if not problems:
        problems.extend(unknown_keys(value, "", TOP_KEYS, {}, fatal=True))
        if value.get("version") != "v1":
            found = f"is {kind(value['version'])}" if "version" in value else "is missing"
            problems.append(Problem("version", found, "v1"))
        layouts = _layouts(value.get("mig-configs"), problems)
    fatal = any(problem.fatal for problem in problems)
    return ParsedMigConfig(None if fatal else MigConfig(layouts), tuple(problems))


def _layouts(value: object, problems: list[Problem]) -> dict[str, tuple[Entry, ...]]:
    if not isinstance(value, dict) or not value:
        found = "is missing or empty" if not value else f"is {kind(value)}"
        problems.append(Problem("mig-configs", found, "layouts by name"))
        return {}
    return {str(name): _entries(entries, f"mig-configs.{name}", problems) for name, entries in value.items()}


def _entries(value: object, path: str, problems: list[Problem]) -> tuple[Entry, ...]:
    if not isinstance(value, list) or not value:
        found = "is empty" if not value else f"is {kind(value)}"
        problems.append(Problem(path, found, "a list with at least one entry"))
        return ()
    entries = (_entry(entry, f"{path}[{at}]", problems) for at, entry in enumerate(value))
    return tuple(entry for entry in entries if entry is not None)


def _entry(value: object, path: str, problems: list[Problem]) -> Entry | None:
    if not isinstance(value, dict):
        problems.append(Problem(path, f"is {kind(value)}", f"a mapping with {', '.join(ENTRY_KEYS)}"))
        return None
    problems.extend(unknown_keys(value, path, ENTRY_KEYS, {}, fatal=True))
    enabled = value.get("mig-enabled")
    if not isinstance(enabled, bool):
        found = f"is {kind(enabled)}" if "mig-enabled" in value else "is missing"
        problems.append(Problem(f"{path}.mig-enabled", found, "true, false"))
    profiles = _profiles(value.get("mig-devices"), f"{path}.mig-devices", problems)
    if enabled is True and value.get("mig-devices") is None:
        problems.append(Problem(f"{path}.mig-devices", "is missing although mig-enabled is true", "counts by profile"))
    if enabled is False and profiles:
        problems.append(Problem(f"{path}.mig-devices", "must be empty when mig-enabled is false", "{}"))
    devices = _devices(value, path, problems)
    device_filter = _device_filter(value.get("device-filter"), f"{path}.device-filter", problems)
    return Entry(devices, enabled is True, profiles, device_filter)


def _devices(entry: dict[Any, Any], path: str, problems: list[Problem]) -> tuple[int, ...] | None:
    value = entry.get("devices")
    if value == "all":
        return None
    numbers = [whole_number(one) for one in value] if isinstance(value, list) else [None]
    indices = tuple(number for number in numbers if number is not None)
    if len(indices) < len(numbers):
        found = f"is {value!r:.60}" if "devices" in entry else "is missing"
        problems.append(Problem(f"{path}.devices", found, "all, or a list of GPU indices"))
    if not numbers or any(index < 0 for index in indices):
        problems.append(Problem(f"{path}.devices", "names an index that no GPU has, or none", "0, 1, ...", fatal=False))
    return indices


def _profiles(value: object, path: str, problems: list[Problem]) -> dict[str, int]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        problems.append(Problem(path, f"is {kind(value)}", "counts by profile"))
        return {}
    counts: dict[str, int] = {}
    for profile, amount in value.items():
        count = whole_number(amount)
        if not isinstance(profile, str) or not _PROFILE.fullmatch(profile):
            problems.append(Problem(f"{path}.{profile}", "is no MIG profile", "names such as 1g.5gb or 1g.10gb+me"))
        elif count is None or count < 0:
            problems.append(Problem(f"{path}.{profile}", f"is {kind(amount)}", "a whole number from 0 on"))
        else:
            counts[profile] = count
    if counts and not any(counts.values()):
        problems.append(Problem(path, "counts 0 of every profile", "at least one count from 1 on, or {}"))
    return {profile: count for profile, count in counts.items() if count}


def _device_filter(value: object, path: str, problems: list[Problem]) -> tuple[str, ...]:
    several = value if isinstance(value, list) else [value] if value not in (None, "") else []
    if not all(isinstance(one, str) for one in several):
        problems.append(Problem(path, f"is {kind(value)}", "PCI ids in quotes, such as 0x20B010DE"))
    ids = tuple(one for one in several if isinstance(one, str))
    for one in ids:
        if _numbers(one) is None:
            problems.append(Problem(path, f"holds {one!r:.30}, which matches no GPU", _FILTERS, fatal=False))
    return ids


def _matches(one: str, device_id: str) -> bool | None:
    """Whether a filter matches a GPU; None when it names a subsystem and only that of the GPU is not known."""
    wanted, found = _numbers(one), _numbers(device_id)
    if wanted is None or found is None or wanted[0] != found[0]:
        return False
    return None if len(found) < len(wanted) else wanted == found[: len(wanted)]


def _numbers(device_id: str) -> list[int] | None:
    """The ids of device and vendor, and behind a colon those of the subsystem, as 32 bits each; None for others.

    Source: NVIDIA/mig-parted v0.15.0, pkg/types/device.go (NewDeviceIDFromString, Matches).
    """
    numbers = [_number(part) for part in device_id.split(":")]
    known = [number for number in numbers if number is not None and number <= _MOST]
    return known if len(known) == len(numbers) <= 2 else None


def _number(text: str) -> int | None:
    found = ((base, form.fullmatch(text)) for base, form in _NUMBERS.items())
    return next((int(digits[1], base) for base, digits in found if digits), None)


def wanted(entries: Sequence[Entry], gpus: int, device_ids: Sequence[str] | None = None) -> Wanted:
    """What a layout asks of a node with ``gpus`` GPUs; ``device_ids`` are their PCI ids by index, if known.

    Where two entries name one GPU, the MIG manager applies both in turn and then finds the first undone.
    """
    profiles: dict[int, dict[str, int]] = {}
    off, untouched, unknown, problems = [], [], [], []
    for index in range(gpus):
        device_id = device_ids[index] if device_ids is not None and index < len(device_ids) else None
        named = [(entry, entry.admits(device_id)) for entry in entries if entry.names(index)]
        mine = [entry for entry, admitted in named if admitted]
        if any(admitted is None for _, admitted in named):
            unknown.append(index)
        elif not mine:
            untouched.append(index)
        else:
            profiles[index] = dict(mine[-1].mig_devices)
            off += [] if mine[-1].mig_enabled else [index]
            if any(_asks(entry) != _asks(mine[-1]) for entry in mine):
                problems.append(Problem(f"GPU {index}", "is named by entries that ask for different layouts"))
    return Wanted(profiles, tuple(off), tuple(untouched), tuple(unknown), (*problems, *_beyond(entries, gpus)))


def _asks(entry: Entry) -> tuple[bool, dict[str, int]]:
    return entry.mig_enabled, dict(entry.mig_devices)


def _beyond(entries: Sequence[Entry], gpus: int) -> tuple[Problem, ...]:
    named = {index for entry in entries for index in entry.devices or ()}
    beyond = ", ".join(str(index) for index in sorted(named) if index >= gpus)
    text = f"names GPUs {beyond}, and the node has {gpus}: nothing happens for them"
    return (Problem("devices", text, "", fatal=False),) if beyond else ()


def select(
    cluster_policy: object,
    config_map: Mapping[str, Any] | None,
    node_labels: Mapping[str, str],
    node_name: str,
    operator_namespace: str | None = None,
) -> MigSelection:
    """Follow the references from a ClusterPolicy over its MIG ConfigMap to the layout that a node's label names.

    ``config_map`` None says that the ConfigMap does not exist. While the ClusterPolicy names none, the MIG manager
    generates a configuration on each node (``<node>-mig-config``) from its hardware; that one may be given instead.
    """
    spec = mapping_at(cluster_policy, "spec")
    if spec is None:
        return MigSelection(Chain.UNKNOWN, cause="the ClusterPolicy has no spec that can be read")
    settings = mapping_at(spec, "migManager") or {}
    config = mapping_at(settings, "config") or {}
    name, layout = word(config.get("name")), word(node_labels.get(MIG_CONFIG))
    if settings.get("enabled") is False:
        return MigSelection(Chain.NOT_CONFIGURED, layout, cause="migManager.enabled is false")
    broken = _no_manager_here(node_labels)
    if broken:
        return MigSelection(Chain.NOT_APPLIED, layout, cause=broken)
    if not name:
        return _generated(config_map, layout, node_name)
    missing = missing_link(config_map, "migManager.config.name", name, operator_namespace)
    if missing:
        return MigSelection(Chain.BROKEN, layout, None, missing, "", f"create ConfigMap {name} before it is named")
    return _from_text(name, config_map or {}, layout)


def _no_manager_here(labels: Mapping[str, str]) -> str:
    """Why the operator deploys no MIG manager on a node; empty when it does (hasMIGCapableGPU)."""
    if labels.get(VGPU_HOST_DRIVER):
        return f"the node has label {VGPU_HOST_DRIVER}: the operator deploys no MIG manager on vGPU hosts"
    if MIG_CAPABLE in labels:
        capable = labels[MIG_CAPABLE]
        return "" if capable == "true" else f"label {MIG_CAPABLE} is {capable}: no MIG manager runs on the node"
    product = word(labels.get(GPU_PRODUCT)).lower()
    if any(part in product for part in MIG_PRODUCTS):
        return ""
    return f"the node has no label {MIG_CAPABLE}: no MIG manager runs on it"


def _generated(config_map: Mapping[str, Any] | None, layout: str, node_name: str) -> MigSelection:
    found = name_of(config_map)
    if config_map is not None and found in (f"{node_name}-mig-config", FALLBACK_CONFIG_MAP):
        return _from_text(found, config_map, layout)
    if config_map is None:
        unread = "the configuration generated on the node is not known"
        return MigSelection(Chain.UNKNOWN, layout, None, unread if layout else _NO_LABEL)
    broken = f"migManager.config.name is empty, so ConfigMap {found} is used by nobody"
    hides = f"the MIG manager then takes the configuration generated on the node, {node_name}-mig-config"
    return MigSelection(Chain.NOT_CONFIGURED, layout, None, broken, hides, f"set migManager.config.name to {found}")


_NO_LABEL = f"the node has no label {MIG_CONFIG}"


def _from_text(name: str, config_map: Mapping[str, Any], layout: str) -> MigSelection:
    texts = mapping_at(config_map, "data") or {}
    if CONFIG_KEY not in texts:
        keys = ", ".join(keys_of(config_map)) or "none"
        broken = f"ConfigMap {name} has no key {CONFIG_KEY}; its keys: {keys}"
        return MigSelection(Chain.BROKEN, layout, None, broken, "", f"put the configuration under {CONFIG_KEY}")
    parsed = parse(texts[CONFIG_KEY])
    if parsed.config is None:
        fatal = next(problem for problem in parsed.problems if problem.fatal)
        broken = f"{CONFIG_KEY} of ConfigMap {name} is refused: {fatal}"
        return MigSelection(Chain.BROKEN, layout, None, broken, "", "correct the text", parsed.problems)
    listed = ", ".join(sorted(parsed.config.layouts))
    if not layout:
        remedy = f"label the node with one of: {listed}"
        return MigSelection(Chain.NOT_APPLIED, "", None, _NO_LABEL, "", remedy, parsed.problems)
    if layout not in parsed.config.layouts:
        broken = f"label {MIG_CONFIG} names {layout}, which {CONFIG_KEY} of ConfigMap {name} does not have"
        return MigSelection(Chain.BROKEN, layout, None, broken, "", f"use one of: {listed}", parsed.problems)
    return MigSelection(Chain.APPLIED, layout, parsed.config.layouts[layout], problems=parsed.problems)
