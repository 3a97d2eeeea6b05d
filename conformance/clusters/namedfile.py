"""The clusters file: its entries, and every mistake in it with the line it is on."""

import difflib
import re
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from conformance.clusters.errors import ClusterError
from conformance.kube.effects import Effect, Mode
from conformance.verdict import EvidenceKind

_RESERVED = ("embedded", "container", "kind", "k3s", "snapshot")
_KINDS = f"{', '.join(_RESERVED[:-1])} and {_RESERVED[-1]}"
_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<where>[^`]*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.(?P<key>\w+)|\[(?P<index>\d+)\]")


class Toleration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """A toleration as in a pod spec, for taints of the cluster that every pod of the suite has to tolerate."""

    key: str = ""
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    toleration_seconds: int | None = None


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One named cluster. Paths are relative to the clusters file."""

    context: str | None = None
    """The kubeconfig context; the entry's own name if None."""
    kubeconfig: str | None = None
    mode: Mode = Mode.AUDIT
    """How far a run goes when nobody asks for another mode."""
    protected: bool = False
    """Whether the cluster can only be audited, whatever is asked."""
    reference: str | None = None
    """The reference set-up that this cluster is judged by."""
    registry: str | None = None
    """The prefix that takes the place of the registry in every image."""
    pull_secret: str | None = None
    chart: str | None = None
    """Where the charts of the GPU stack are, as --gpu-chart takes it."""
    tolerations: tuple[Toleration, ...] = ()
    evidence: EvidenceKind | None = None
    """What findings on this cluster count as; by default what its nodes show."""

    def plain_tolerations(self) -> tuple[dict[str, Any], ...]:
        """Give the tolerations as a pod spec takes them."""
        return tuple(msgspec.to_builtins(toleration) for toleration in self.tolerations)


class ClustersFile(msgspec.Struct, frozen=True):
    """A clusters file that was read without a mistake. ``shown`` is its name as the user knows it."""

    path: Path
    shown: str
    entries: dict[str, Entry]

    @classmethod
    def load(cls, path: Path, *, shown: str | None = None) -> "ClustersFile":
        """Read a file. Raises ClusterError that lists every mistake as ``file:line``."""
        reader = _Reader(shown or str(path))
        entries = reader.entries(path)
        if reader.problems:
            raise ClusterError("The clusters file cannot be used:\n  " + "\n  ".join(reader.problems))
        return cls(path, reader.shown, entries)

    def chart_of(self, entry: Entry) -> str | None:
        """Where an entry says that charts are: an address as it is, a path as paths of this file are read."""
        if not entry.chart or "://" in entry.chart:
            return entry.chart
        return str(self.beside(entry.chart))

    def beside(self, written: str | None) -> Path | None:
        """Resolve a path of the file: absolute, from home (``~``), or relative to the file's own folder."""
        return self.path.parent / Path(written).expanduser() if written else None

    def reference_of(self, entry: Entry) -> Path | None:
        """The entry's set-up. A bare name that is no file beside this one stays as written: it may be a shipped one."""
        beside = self.beside(entry.reference)
        if beside is None or beside.exists() or beside.name != entry.reference:
            return beside
        return Path(beside.name)


class _Reader:
    """Reads one file and collects what is wrong with it."""

    def __init__(self, shown: str) -> None:
        self.shown = shown
        self.problems: list[str] = []

    def entries(self, path: Path) -> dict[str, Entry]:
        try:
            root = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
            if isinstance(root, yaml.MappingNode):
                return self._clusters(root)
        except (OSError, UnicodeDecodeError) as error:
            raise ClusterError(f"{self.shown} cannot be read: {error}") from error
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ClusterError(f"{self.shown}:{line}: this is not YAML: {error.problem}") from error
        except yaml.YAMLError as error:
            raise ClusterError(f"{self.shown}: this is not YAML: {error}") from error
        self._complain(root, "expected one key, clusters, with the named clusters below it")
        return {}

    def _clusters(self, root: yaml.MappingNode) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for key, node in self._members(root):
            if key.value != "clusters":
                self._complain(key, f"unknown key {key.value!r}: the only one is clusters")
            elif not isinstance(node, yaml.MappingNode):
                self._complain(node, "clusters: expected a mapping of names to settings")
            else:
                found |= {name.value: self._entry(name, entry) for name, entry in self._members(node)}
        return found

    def _entry(self, name: yaml.Node, node: yaml.Node) -> Entry:
        where = f"clusters.{name.value}"
        if name.value.partition(":")[0] in _RESERVED:
            self._complain(name, f"{where}: {_KINDS} are kinds of clusters, choose another name")
        if _value(node) is None:
            return Entry()
        if not isinstance(node, yaml.MappingNode):
            self._complain(node, f"{where}: expected a mapping of settings")
            return Entry()
        settings: dict[str, Any] = {}
        for key, value in self._members(node):
            self._setting(settings, where, key, value)
        entry = Entry(**settings)
        if entry.protected and entry.mode.limit > Effect.READS:
            self._complain(name, f"{where}: protected means that mode is audit, yet mode is {entry.mode}")
        return entry

    def _setting(self, settings: dict[str, Any], where: str, key: yaml.Node, node: yaml.Node) -> None:
        kinds = {field.name: field.type for field in msgspec.structs.fields(Entry)}
        if key.value not in kinds:
            self._complain(key, f"{where}: unknown setting {key.value!r}{_instead(key.value, kinds)}")
            return
        try:
            settings[key.value] = msgspec.convert(_value(node), kinds[key.value])
        except msgspec.ValidationError as error:
            self._complain_of(error, f"{where}.{key.value}", kinds[key.value], node)

    def _complain_of(self, error: msgspec.ValidationError, where: str, kind: Any, node: yaml.Node) -> None:
        match = _WHERE.match(str(error))
        what, below = (match["what"], match["where"] or "") if match else (str(error), "")
        allowed = f", expected {', '.join(kind)}" if kind is Mode else ""
        if kind == EvidenceKind | None:
            allowed = f", expected {', '.join(EvidenceKind)}"
        self._complain(_descend(node, below), f"{where}{below}: {what[:1].lower()}{what[1:]}{allowed}")

    def _members(self, node: yaml.MappingNode) -> list[tuple[Any, Any]]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                self._complain(key, f"{key.value} is there twice, and YAML would keep the last one only")
            seen.add(key.value)
        return list(node.value)

    def _complain(self, node: yaml.Node | None, what: str) -> None:
        line = node.start_mark.line + 1 if node is not None else 1
        self.problems.append(f"{self.shown}:{line}: {what}")


def _value(node: yaml.Node) -> Any:
    return yaml.constructor.SafeConstructor().construct_document(node)


def _descend(node: yaml.Node, where: str) -> yaml.Node:
    """Find the node that a path of msgspec such as ``[0].effect`` leads to, or the last one on the way."""
    for step in _STEP.finditer(where):
        if step["index"] is not None and isinstance(node, yaml.SequenceNode):
            node = node.value[int(step["index"])]
        elif isinstance(node, yaml.MappingNode):
            node = next((value for key, value in node.value if key.value == step["key"]), node)
    return node


def _instead(wrong: str, known: dict[str, Any]) -> str:
    close = difflib.get_close_matches(wrong, known, n=1)
    return f", did you mean {close[0]}?" if close else f": there are {', '.join(known)}"
