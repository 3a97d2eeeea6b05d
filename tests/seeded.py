"""Seeded faults: reading their files, breaking a snapshot or a living cluster as they say, and fixing it again."""

import copy
import fnmatch
import functools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml
from patience import PATIENCE

from conformance.facts import Facts
from conformance.facts.snapshot import Snapshot
from conformance.gpu.resources import GPU, SHARED_GPU
from conformance.kube.client import Client
from conformance.kube.errors import ApiError, Conflict, NotFound
from conformance.kube.paths import PLACES, path, place
from conformance.shipped import shipped
from conformance.simulator.hardware import HARDWARE
from conformance.upgrading import baseline

Object = dict[str, Any]


class Given(msgspec.Struct, forbid_unknown_fields=True):
    topology: str = "guide"
    reference: str = "reference"


class Step(msgspec.Struct, forbid_unknown_fields=True):
    patch: str = ""
    every: bool = False
    machine: str = ""
    merge: Object | None = None
    json: list[Object] | None = None
    delete: str = ""
    create: Object | None = None


class Settled(msgspec.Struct, forbid_unknown_fields=True):
    until: Literal["accepted", "rejected"] | Object
    dry_run: Object | None = None
    object: str = ""


class Fault(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    title: str
    origin: str
    kind: str
    fails: list[str]
    says: str
    given: Given = msgspec.field(default_factory=Given)
    change: list[Step] = []
    errors: list[str] = []
    advises: dict[str, str] = {}
    never: list[str] = []
    pre_upgrade: str = ""
    pre_upgrade_operator: str = ""
    pre_upgrade_kubernetes: str = ""
    post_upgrade: str = ""
    waits: list[str] = []
    scheduler_config: Object | None = None
    apiserver: dict[str, str] = {}
    controllers: dict[str, str] = {}
    settled: Settled | None = None

    @property
    def profile_prefix(self) -> str:
        return self.id.split("-")[0]

    def options(self, sound: list[Object], folder: Path) -> list[str]:
        """What is asked beside the profiles of every run; a baseline is that of the ``sound`` objects."""
        if self.pre_upgrade:
            return [f"--gpu-pre-upgrade={self.pre_upgrade}"]
        if self.pre_upgrade_operator:
            return [f"--gpu-pre-upgrade-operator={self.pre_upgrade_operator}"]
        if self.pre_upgrade_kubernetes:
            return [f"--gpu-pre-upgrade-kubernetes={self.pre_upgrade_kubernetes}"]
        if not self.post_upgrade:
            return []
        facts = Facts.from_objects(sound)
        kept = baseline.take(facts, [GPU, SHARED_GPU], cluster="sound", target=f"driver {self.post_upgrade}")
        return [f"--gpu-post-upgrade={baseline.write(kept, folder / self.id)}"]

    @property
    def needs_own_cluster(self) -> bool:
        return bool(self.apiserver or self.controllers or self.given != Given())

    @property
    def own_cluster(self) -> str:
        """What the cluster that the fault needs is made of, as a text: faults of the same text may share one."""
        made_of = {"given": self.given, "apiserver": self.apiserver, "controllers": self.controllers}
        return msgspec.json.encode(made_of, order="deterministic").decode()


# libyaml reads the files in a twentieth of the time; not every platform's wheel has it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@functools.cache
def every_fault() -> tuple[Fault, ...]:
    """Every fault of the shipped set-up, by file name, read once."""
    return tuple(read(file) for file in sorted(shipped("fixtures/faults").glob("*.yaml")))


def read(file: Path) -> Fault:
    """The fault in a file. The file's name is its id."""
    fault = msgspec.convert(yaml.load(file.read_text(), LOADER), Fault)
    assert fault.id == file.stem, f"{file.name} says it is {fault.id}"
    return fault


def faults(kind: str) -> list[Fault]:
    """Every fault of a kind, by file name."""
    return [fault for fault in every_fault() if fault.kind == kind]


# --- addresses: <plural>[.<group>]/[<namespace>/]<name>[@<node>] ---------------------------------------------------
# A name may hold * where Kubernetes makes it up; @<node> then tells which of the pods is meant.


def _split(address: str) -> tuple[str, str | None, str]:
    plural, *rest = address.split("/")
    return plural, rest[0] if len(rest) == 2 else None, rest[-1]


def _plural_of(obj: Object) -> str:
    """``deployments.apps`` of a Deployment, as the table of paths has it."""
    group = obj["apiVersion"].rpartition("/")[0]
    plural = place(obj["kind"]).plural
    return f"{plural}.{group}" if group else plural


def _is_at(obj: Object, address: str) -> bool:
    plural, namespace, name = _split(address.partition("@")[0])
    node = address.partition("@")[2]
    meta = obj["metadata"]
    if not fnmatch.fnmatchcase(meta["name"], name) or meta.get("namespace") != namespace:
        return False
    return _plural_of(obj) == plural and (not node or obj["spec"].get("nodeName") == node)


# --- breaking a snapshot ------------------------------------------------------------------------------------------


def broken(objects: list[Object], fault: Fault) -> list[Object]:
    """The objects after the fault's steps; those that no step changes are the given ones.

    Raises LookupError when a step finds nothing to change.
    """
    changed = list(objects)
    for step in fault.change:
        if step.create is not None:
            changed.append(step.create)
            continue
        address = step.patch or step.delete
        found = [at for at, obj in enumerate(changed) if _is_at(obj, address)]
        if not found:
            raise LookupError(f"{fault.id}: nothing is at {address}")
        if step.delete:
            del changed[found[0]]
            continue
        for at in found if step.every else found[:1]:
            obj = changed[at]
            changed[at] = merged(obj, step.merge) if step.merge is not None else _operated(obj, step.json or [])
    return changed


def an_hour_later(taken: Snapshot) -> Snapshot:
    """The same snapshot of a cluster that stands for a while: nothing in it may be excused as having just begun."""
    return msgspec.structs.replace(taken, taken_at=taken.taken_at + timedelta(hours=1))


def merged(target: Any, change: Any) -> Any:
    """A JSON merge patch (RFC 7396)."""
    if not isinstance(change, dict):
        return change
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def _operated(target: Object, operations: list[Object]) -> Object:
    """A JSON patch (RFC 6902) of add, remove and replace."""
    result = copy.deepcopy(target)
    for operation in operations:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        holder: Any = result
        for part in parents:
            holder = holder[int(part)] if isinstance(holder, list) else holder[part]
        if isinstance(holder, list):
            index = len(holder) if last == "-" else int(last)
            if operation["op"] == "add":
                holder.insert(index, operation["value"])
            elif operation["op"] == "remove":
                del holder[index]
            else:
                holder[index] = operation["value"]
        elif operation["op"] == "remove":
            del holder[last]
        else:
            holder[last] = operation["value"]
    return result


# --- breaking a living cluster ------------------------------------------------------------------------------------


@contextmanager
def broken_cluster(client: Client, fault: Fault) -> Iterator[None]:
    """Carry out the fault's steps on a cluster, wait until they hold, and take them back at the end."""
    undo: list[tuple[str, str, Object | None]] = []
    try:
        for step in fault.change:
            undo.append(_carry_out(client, step))
        if fault.settled is not None:
            _wait_until_settled(client, fault.settled)
        yield
    finally:
        for address, did, before in reversed(undo):
            _take_back(client, address, did, before)
        if fault.settled is not None:
            _wait_until_unsettled(client, fault.settled)


def _carry_out(client: Client, step: Step) -> tuple[str, str, Object | None]:
    if step.create is not None:
        client.apply(step.create, manager="seeded-fault")
        return client.path_of(step.create), "create", None
    if step.machine:
        return _change_machine(client, step.machine, step.merge or {})
    assert not step.every, f"{step.patch}: only a snapshot is changed in every place at once"
    address = _path_at(client, step.patch or step.delete)
    before = client.get(address)
    if step.delete:
        client.delete(address)
        return address, "delete", before
    if step.merge is not None:
        if set(step.merge) == {"status"}:
            client.patch(address + "/status", step.merge)
            return address + "/status", "patch", before
        client.patch(address, step.merge)
    else:
        client.patch(address, step.json or [], kind="json")
    return address, "patch", before


def _change_machine(client: Client, node: str, change: Object) -> tuple[str, str, Object | None]:
    address = path("Node", name=node)
    before = client.get(address)
    machine = merged(json.loads(before["metadata"]["annotations"][HARDWARE]), change)
    client.patch(address, {"metadata": {"annotations": {HARDWARE: json.dumps(machine)}}})
    return address, "patch", before


def _take_back(client: Client, address: str, did: str, before: Object | None) -> None:
    if did == "create":
        client.delete(address)
        return
    assert before is not None
    if did == "delete":
        _gone(client, address)
        client.create(address.rpartition("/")[0], _unborn(before))
        return
    while True:
        now = client.get(address)
        restored = {**before, "metadata": {**before["metadata"], "resourceVersion": now["metadata"]["resourceVersion"]}}
        try:
            client.replace(address, restored)
        except Conflict:
            continue
        return


def _gone(client: Client, address: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            client.get(address)
        except NotFound:
            return
        time.sleep(0.05)
    raise TimeoutError(f"{address} did not go")


def _unborn(obj: Object) -> Object:
    """The object as it was before the server added to it."""
    dropped = {"uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink"}
    metadata = {key: value for key, value in obj["metadata"].items() if key not in dropped}
    return {**{key: value for key, value in obj.items() if key != "status"}, "metadata": metadata}


_VERSIONS = {place.plural + "." + place.group_version.rpartition("/")[0]: place for place in PLACES.values()}


def _path_at(client: Client, address: str) -> str:
    """The path of an address; a name that Kubernetes made up is looked for."""
    plural, namespace, name = _split(address.partition("@")[0])
    resource, _, group = plural.partition(".")
    known = _VERSIONS.get(f"{resource}.{group}")
    version = known.group_version if known else f"{group}/v1"
    root = f"/apis/{version}" if group else "/api/v1"
    collection = f"{root}/namespaces/{namespace}/{resource}" if namespace else f"{root}/{resource}"
    if "*" not in name:
        return f"{collection}/{name}"
    found = next((obj for obj in client.list(collection) if _is_at(obj, address)), None)
    if found is None:
        raise LookupError(f"nothing is at {address}")
    return f"{collection}/{found['metadata']['name']}"


def _wait_until_settled(client: Client, settled: Settled) -> None:
    _poll(lambda: _holds(client, settled), f"the fault did not take effect on {_what(settled)}")


def _wait_until_unsettled(client: Client, settled: Settled) -> None:
    _poll(lambda: not _holds(client, settled), f"the fault could not be undone from {_what(settled)}")


def _what(settled: Settled) -> str:
    return settled.object or str((settled.dry_run or {}).get("kind"))


def _poll(holds: Any, otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(0.1)


def _holds(client: Client, settled: Settled) -> bool:
    if settled.object:
        return isinstance(settled.until, dict) and _says(client, settled.object, settled.until)
    obj = settled.dry_run or {}
    collection = client.path_of(obj).rpartition("/")[0]
    try:
        answer = client.create(collection, obj, dry_run=True)
    except ApiError:
        return settled.until == "rejected"
    if isinstance(settled.until, str):
        return settled.until == "accepted"
    return all(_at(answer, pointer) == value for pointer, value in settled.until.items())


def _says(client: Client, address: str, wanted: Object) -> bool:
    try:
        obj = client.get(_path_at(client, address))
    except (NotFound, LookupError):
        return False
    return all(_at(obj, pointer) == value for pointer, value in wanted.items())


def _at(obj: Any, pointer: str) -> Any:
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        try:
            obj = obj[int(key)] if isinstance(obj, list) else obj[key]
        except (KeyError, IndexError):
            return None
    return obj
