"""What the operator has to know of all nodes together, kept up to date one node at a time."""

import threading
from collections import Counter
from collections.abc import Collection

import msgspec

from conformance.simulator.nfd import OS_ID, OS_VERSION, PREFIX
from conformance.simulator.nodelabels import DONE, OWNER, PRESENT, UPGRADE_SKIP, UPGRADE_STATE, concerns
from conformance.simulator.world import Object

KERNEL = f"{PREFIX}kernel-version.full"
_MAJOR_ONLY = ("ol", "rocky", "rhel")


class Pool(msgspec.Struct, frozen=True, order=True):
    """What GPU nodes have in common that get the same driver image: operating system, kernel, NVIDIADriver."""

    os_id: str
    os_version: str
    kernel: str
    owner: str

    @property
    def os_tag(self) -> str:
        """How the tags of driver images name the operating system: ubuntu24.04, rhel9."""
        major_only = self.os_id in _MAJOR_ONLY
        return f"{self.os_id}{self.os_version.partition('.')[0] if major_only else self.os_version}"


class Seen(msgspec.Struct, frozen=True):
    """All nodes together: the pools of those with GPUs, in order; whether any has a label of Node Feature Discovery.

    ``upgrading`` is whether a node of an NVIDIADriver waits for its upgrade, is in the middle of it, or failed.
    """

    pools: tuple[Pool, ...] = ()
    discovered: bool = False
    upgrading: bool = False


class Fleet:
    """The nodes that the operator has to do with. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: dict[str, Pool] = {}
        self._counts: Counter[Pool] = Counter()
        self._discovered: set[str] = set()
        self._concerned: set[str] = set()
        self._upgrading: set[str] = set()

    def take_in(self, node: Object, deleted: bool) -> bool:
        """Take note of a node as it is now; whether that changed anything but numbers."""
        name, labels = node["metadata"]["name"], node["metadata"].get("labels") or {}
        pool = _pool(labels) if not deleted and labels.get(PRESENT) == "true" else None
        found = not deleted and any(label.startswith(PREFIX) for label in labels)
        with self._lock:
            before = self._looks()
            self._keep(self._discovered, name, found)
            self._keep(self._concerned, name, not deleted and concerns(labels))
            self._keep(self._upgrading, name, not deleted and _is_being_upgraded(labels))
            if (known := self._pools.pop(name, None)) is not None:
                self._counts[known] -= 1
                if not self._counts[known]:
                    del self._counts[known]
            if pool is not None:
                self._pools[name] = pool
                self._counts[pool] += 1
            return before != self._looks()

    def _looks(self) -> Seen:
        return Seen(tuple(sorted(self._counts)), bool(self._discovered), bool(self._upgrading))

    @staticmethod
    def _keep(names: set[str], name: str, wanted: bool) -> None:
        if wanted:
            names.add(name)
        else:
            names.discard(name)

    def seen(self) -> Seen:
        """The nodes together as they are now."""
        with self._lock:
            return self._looks()

    @property
    def concerned(self) -> Collection[str]:
        """The nodes that the operator has, or ever had, to do with."""
        with self._lock:
            return tuple(self._concerned)


def _is_being_upgraded(labels: dict[str, str]) -> bool:
    state = labels.get(UPGRADE_STATE) or DONE
    return OWNER in labels and state != DONE and labels.get(UPGRADE_SKIP) != "true"


def _pool(labels: dict[str, str]) -> Pool:
    return Pool(labels.get(OS_ID, ""), labels.get(OS_VERSION, ""), labels.get(KERNEL, ""), labels.get(OWNER, ""))
