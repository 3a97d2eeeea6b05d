"""The device plugin's configuration: what its text says, and what the plugin refuses or ignores in it.

Sources: NVIDIA/k8s-device-plugin v0.20.0, api/config/v1, cmd/nvidia-device-plugin/main.go.
"""

import difflib
import math
import re
import reprlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec

from conformance.gpu import plugin_config_keys as known
from conformance.gpu.go_yaml import first_document
from conformance.gpu.labels import NVIDIA
from conformance.gpu.resources import GPU, MIG_PREFIX
from conformance.gpu.sharing import NOT_SHARED, SHARED_SUFFIX, MigStrategy, ReplicatedResource, Sharing, SharingStrategy

_MAX_NAME = 63
# What a list of devices may hold besides numbers (ReplicaDeviceRef in api/config/v1/replicas.go).
_UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_DEVICE = re.compile(rf"[0-9]+(:[0-9]+)?|GPU-{_UUID}|MIG-{_UUID}|MIG-GPU-{_UUID}/[0-9]+/[0-9]+")
# Go's time.ParseDuration.
_DURATION = re.compile(r"[-+]?(0|((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)")
_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


class Problem(msgspec.Struct, frozen=True):
    """Something wrong in a configuration: where, what, and what is allowed there.

    A fatal problem keeps the plugin (or the MIG manager) from reading the configuration at all; any other is a part
    of it that has no effect.
    """

    path: str
    text: str
    allowed: str = ""
    fatal: bool = True

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"{where}{self.text}{f'; allowed: {self.allowed}' if self.allowed else ''}"


class PluginConfig(msgspec.Struct, frozen=True):
    """One configuration, as far as it decides what a node offers.

    ``mig_strategy`` None means that the file leaves it open. Where the operator sets one, its environment variable
    MIG_STRATEGY outranks the file.
    """

    mig_strategy: MigStrategy | None = None
    sharing: Sharing = NOT_SHARED

    def strategy_with(self, from_operator: str) -> MigStrategy | None:
        """The strategy that takes effect under a ClusterPolicy's ``mig.strategy``; None for one that does not exist."""
        if from_operator:
            return MigStrategy(from_operator) if from_operator in tuple(MigStrategy) else None
        return self.mig_strategy or MigStrategy.NONE


class Parsed(msgspec.Struct, frozen=True):
    """A configuration and its problems; ``config`` is None when the plugin would refuse to start with it."""

    config: PluginConfig | None
    problems: tuple[Problem, ...] = ()


def parse(text: object) -> Parsed:
    """Read the YAML text of a configuration. Whatever the text, the answer is a value; nothing is raised."""
    value, problems = yaml_value(text)
    if any(problem.fatal for problem in problems):
        return Parsed(None, tuple(problems))
    if value is None:
        empty = Problem("", "is empty, so nothing is shared and every flag keeps its default", fatal=False)
        return Parsed(PluginConfig(), (*problems, empty))
    if not isinstance(value, dict):
        return Parsed(None, (*problems, Problem("", f"is {kind(value)}", "a mapping")))
    return _Reader(problems).config(value)


def yaml_value(text: object) -> tuple[Any, list[Problem]]:
    """The value of a YAML text, or the problem that there is none."""
    import yaml

    if not isinstance(text, str):
        return None, [Problem("", f"is {kind(text)}", "YAML text")]
    try:
        return first_document(text), []
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" in line {mark.line + 1}" if mark else ""
        return None, [Problem("", f"is not YAML: {error.problem or error.context}{line}", "YAML text")]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return None, [Problem("", f"is not YAML: {reprlib.repr(str(error))}", "YAML text")]


def kind(value: object) -> str:
    """What a value is, in the words of YAML, with a short look at it."""
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return reprlib.repr(value)


def unknown_keys(
    value: Mapping[Any, Any], path: str, keys: Collection[str], homes: Mapping[str, str], *, fatal: bool
) -> Iterator[Problem]:
    """A problem for each key that is none of ``keys``, with the place where it belongs or the key that was meant."""
    for key in value:
        if key in keys:
            continue
        near = difflib.get_close_matches(str(key), keys, n=1)
        hint = f"did you mean {near[0]}?" if near else "no such key exists here"
        hint = f"it belongs under {homes[key]}" if key in homes else hint
        effect = "is refused" if fatal else "is ignored"
        yield Problem(f"{path}.{key}" if path else str(key), f"{effect}: {hint}", ", ".join(keys), fatal)


def whole_number(value: object) -> int | None:
    """A number as Go reads it into an int of 64 bits: 4 and 4.0, but no text, no truth value and nothing larger."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not math.isfinite(value) or value != int(value):
        return None
    return int(value) if -(2**63) <= value < 2**63 else None


def _is_device(value: object) -> bool:
    """Whether a member of a list of devices can be read: an index, a MIG index, a UUID; Go reads null as 0."""
    if isinstance(value, str):
        return _DEVICE.fullmatch(value) is not None
    number = whole_number(value)
    return value is None or (number is not None and number >= 0)


class _Reader:
    """Reads one configuration and collects what is wrong in it."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems

    def config(self, value: dict[Any, Any]) -> Parsed:
        value = self._as_struct(value, "", known.TOP_KEYS)
        if value.get("version") not in (None, "", "v1"):
            self._wrong("version", f"is {kind(value['version'])}", "v1")
        strategy = self._flags(self._section(value, "flags", "flags", known.FLAG_KEYS))
        sharing = self._sharing(self._section(value, "sharing", "sharing", known.SHARING_KEYS))
        self._imex(self._section(value, "imex", "imex", known.IMEX_KEYS))
        self._resources(self._section(value, "resources", "resources", known.RESOURCES_KEYS))
        if sharing.strategy is SharingStrategy.MPS and strategy is MigStrategy.MIXED:
            self._wrong("flags.migStrategy", "is mixed, which MPS does not support", "none, single")
        fatal = any(problem.fatal for problem in self.problems)
        return Parsed(None if fatal else PluginConfig(strategy, sharing), tuple(self.problems))

    def _flags(self, flags: dict[Any, Any]) -> MigStrategy | None:
        self._booleans(flags, "flags", known.BOOLEAN_FLAGS)
        self._choices(flags, "flags", known.FLAG_CHOICES)
        self._texts(flags, "flags", known.TEXT_FLAGS)
        plugin = self._section(flags, "plugin", "flags.plugin", known.PLUGIN_FLAG_KEYS)
        self._booleans(plugin, "flags.plugin", ("passDeviceSpecs",))
        self._texts(plugin, "flags.plugin", known.PLUGIN_TEXT_FLAGS)
        self._choices(plugin, "flags.plugin", known.PLUGIN_FLAG_CHOICES)
        self._device_list_strategy(plugin.get("deviceListStrategy"), "flags.plugin.deviceListStrategy")
        gfd = self._section(flags, "gfd", "flags.gfd", known.GFD_FLAG_KEYS)
        self._booleans(gfd, "flags.gfd", known.GFD_BOOLEAN_FLAGS)
        self._texts(gfd, "flags.gfd", known.GFD_TEXT_FLAGS)
        self._duration(gfd.get("sleepInterval"), "flags.gfd.sleepInterval")
        strategy = flags.get("migStrategy")
        return (
            MigStrategy(strategy)
            if isinstance(strategy, str) and strategy in known.FLAG_CHOICES["migStrategy"]
            else None
        )

    def _device_list_strategy(self, value: object, path: str) -> None:
        """A list of strategies of which one is unknown stops the plugin only where nothing outranks the file."""
        named = value if isinstance(value, list) else [value]
        if not all(one is None or isinstance(one, str) for one in named):
            self._wrong(path, f"is {kind(value)}", "a text or a list of texts")
            return
        if any(one is not None and one not in known.DEVICE_LIST_STRATEGIES for one in named):
            outranked = "DEVICE_LIST_STRATEGY, which the operator and the chart set, outranks it"
            self._ignored(path, f"is {kind(value)}, which no plugin knows; {outranked}", known.LISTED_STRATEGIES)

    def _duration(self, value: object, path: str) -> None:
        """A number of nanoseconds, or a text as Go's time.ParseDuration takes it, or ``infinite``."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        text = isinstance(value, str) and (value == "infinite" or _DURATION.fullmatch(value) is not None)
        if value is not None and not number and not text:
            self._wrong(path, f"is {kind(value)}", "a duration such as 60s, or infinite")

    def _resources(self, resources: dict[Any, Any]) -> None:
        """The patterns by which resources would be renamed: refused where they are ill-formed, else ignored."""
        if any(resources.values()):
            self._ignored("resources", "is ignored: the plugin does not support it yet")
        for key in known.RESOURCES_KEYS:
            entries = resources.get(key)
            if entries is not None and not isinstance(entries, list):
                self._wrong(f"resources.{key}", f"is {kind(entries)}", "a list of mappings with pattern and name")
                continue
            for at, entry in enumerate(entries or ()):
                self._pattern(entry, f"resources.{key}[{at}]")

    def _pattern(self, entry: object, path: str) -> None:
        if not isinstance(entry, dict) or not {"pattern", "name"} <= entry.keys():
            self._wrong(path, f"is {kind(entry)}", "a mapping with pattern and name")
            return
        if not isinstance(entry["pattern"], str | None):
            self._wrong(f"{path}.pattern", f"is {kind(entry['pattern'])}", "a text")
        self._resource_name(entry["name"], f"{path}.name")

    def _sharing(self, sharing: dict[Any, Any]) -> Sharing:
        sliced, mps = NOT_SHARED, NOT_SHARED
        # A null pointer is no MPS, while a null timeSlicing is refused for its missing resources.
        if "timeSlicing" in sharing:
            sliced = self._replicated(sharing["timeSlicing"], "sharing.timeSlicing", SharingStrategy.TIME_SLICING)
        if sharing.get("mps") is not None:
            mps = self._replicated(sharing["mps"], "sharing.mps", SharingStrategy.MPS)
            if sliced.resources:
                self._ignored("sharing.timeSlicing", "is ignored, because sharing.mps is set too", "one of the two")
            return mps
        return sliced

    def _replicated(self, value: object, path: str, strategy: SharingStrategy) -> Sharing:
        if value is not None and not isinstance(value, dict):
            self._wrong(path, f"is {kind(value)}", "a mapping")
            return NOT_SHARED
        section = value or {}
        self._unknown(section, path, known.REPLICATED_KEYS)
        self._booleans(section, path, known.REPLICATED_KEYS[:2])
        rename = section.get("renameByDefault") is True
        entries = section.get("resources")
        if not isinstance(entries, list) or not entries:
            what = "is missing" if "resources" not in section else f"is {kind(entries)}" if entries else "is empty"
            self._wrong(f"{path}.resources", what, "a list with at least one resource")
            return NOT_SHARED
        read = [self._entry(entry, f"{path}.resources[{at}]", rename) for at, entry in enumerate(entries)]
        found = tuple(each for each in read if each is not None)
        self._doubled(found, f"{path}.resources")
        fail = section.get("failRequestsGreaterThanOne")
        return Sharing(strategy, found, rename, fail if isinstance(fail, bool) else None)

    def _entry(self, entry: object, path: str, rename: bool) -> ReplicatedResource | None:
        if not isinstance(entry, dict):
            self._wrong(path, f"is {kind(entry)}", "a mapping with name and replicas")
            return None
        self._unknown(entry, path, known.RESOURCE_KEYS)
        name = self._name(entry, path)
        replicas = whole_number(entry.get("replicas"))
        if replicas is None or replicas < 2:
            what = f"is {kind(entry['replicas'])}" if "replicas" in entry else "is missing"
            self._wrong(f"{path}.replicas", what, "a whole number from 2 on")
        self._devices(entry.get("devices", "all"), f"{path}.devices")
        if "rename" in entry:
            self._resource_name(entry["rename"], f"{path}.rename")
        if entry.get("rename") and not (rename and entry["rename"] == f"{name}{SHARED_SUFFIX}"):
            self._ignored(f"{path}.rename", "is ignored: only renameByDefault renames a resource")
        return ReplicatedResource(name, replicas) if name and replicas is not None and replicas >= 2 else None

    def _devices(self, value: object, path: str) -> None:
        if value == "all":
            return
        count = whole_number(value)
        listed = isinstance(value, list) and all(_is_device(each) for each in value)
        if listed or (count is not None and count > 0):
            self._ignored(path, "is ignored: all devices of the resource are shared", "all")
        else:
            self._wrong(path, f"is {reprlib.repr(value)}", "all")

    def _name(self, entry: dict[Any, Any], path: str) -> str:
        if "name" not in entry:
            self._wrong(f"{path}.name", "is missing", f"{GPU} or {MIG_PREFIX}<profile>")
            return ""
        full = self._resource_name(entry["name"], f"{path}.name")
        if full and full != GPU and not full.startswith(MIG_PREFIX):
            self._ignored(f"{path}.name", f"is {full}, which no device has", f"{GPU} or {MIG_PREFIX}<profile>")
        return full

    def _resource_name(self, name: object, path: str) -> str:
        """A name with the vendor before it, empty when the plugin refuses it (NewResourceName in resources.go)."""
        if not isinstance(name, str):
            self._wrong(path, f"is {kind(name)}", f"{GPU} or {MIG_PREFIX}<profile>")
            return ""
        full = name if name.startswith(NVIDIA) else f"{NVIDIA}{name}"
        if len(full) > _MAX_NAME or not _SUBDOMAIN.fullmatch(full.removeprefix(NVIDIA)):
            self._wrong(path, f"is {kind(name)}", f"{GPU} or {MIG_PREFIX}<profile>, + written as a dot")
            return ""
        return full

    def _doubled(self, entries: tuple[ReplicatedResource, ...], path: str) -> None:
        names = [each.resource for each in entries]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self._ignored(path, f"names {name} more than once: the larger number counts, its label tells the first")

    def _imex(self, imex: dict[Any, Any]) -> None:
        self._booleans(imex, "imex", ("required",))
        channels = imex.get("channelIDs")
        # Go reads null as 0.
        listed = channels if isinstance(channels, list) else [channels]
        numbers = [0 if each is None else whole_number(each) for each in listed]
        if channels is not None and (numbers not in ([], [0]) or not isinstance(channels, list)):
            self._wrong("imex.channelIDs", f"is {reprlib.repr(imex['channelIDs'])}", "[] or [0]")

    def _section(self, parent: dict[Any, Any], key: str, path: str, keys: Collection[str]) -> dict[Any, Any]:
        value = parent.get(key)
        if value is not None and not isinstance(value, dict):
            self._wrong(path, f"is {kind(value)}", "a mapping")
        return self._as_struct(value, path, keys) if isinstance(value, dict) else {}

    def _as_struct(self, section: dict[Any, Any], path: str, keys: Collection[str]) -> dict[Any, Any]:
        # Go's JSON decoder takes the names of a struct's members in any case; those of the replicated resources,
        # which the plugin decodes by hand, only as they are.
        spelled = {key.lower(): key for key in keys}
        section = {spelled.get(str(key).lower(), key): value for key, value in section.items()}
        self._unknown(section, path, keys)
        return section

    def _booleans(self, section: dict[Any, Any], path: str, keys: Collection[str]) -> None:
        for key in keys:
            if section.get(key) is not None and not isinstance(section[key], bool):
                self._wrong(f"{path}.{key}", f"is {kind(section[key])}", "true, false")

    def _texts(self, section: dict[Any, Any], path: str, keys: Collection[str]) -> None:
        for key in keys:
            if section.get(key) is not None and not isinstance(section[key], str):
                self._wrong(f"{path}.{key}", f"is {kind(section[key])}", "a text")

    def _choices(self, section: dict[Any, Any], path: str, choices: Mapping[str, tuple[str, ...]]) -> None:
        for key, allowed in choices.items():
            value = section.get(key)
            if value is not None and value not in allowed:
                self._wrong(f"{path}.{key}", f"is {kind(value)}", ", ".join(allowed))

    def _unknown(self, section: dict[Any, Any], path: str, keys: Collection[str]) -> None:
        self.problems.extend(unknown_keys(section, path, keys, known.PARENTS, fatal=False))

    def _wrong(self, path: str, text: str, allowed: str) -> None:
        self.problems.append(Problem(path, text, allowed))

    def _ignored(self, path: str, text: str, allowed: str = "") -> None:
        self.problems.append(Problem(path, text, allowed, fatal=False))
