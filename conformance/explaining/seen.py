"""What an explanation is computed from: plain objects, as the API server or a snapshot has them."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

from conformance.facts.kinds import NOT_SCALED_UP
from conformance.gpu.claims import Claims, Offer
from conformance.gpu.placement import Manifest, Occupancy, bound_by_node
from conformance.gpu.volume_places import Storage
from conformance.kube.paths import name_in_places

KINDS = ("Node", "Pod")
"""What is read besides the object that is explained, and without which there is nothing to explain."""
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job")
CUSTOM_WORKLOADS = (
    "JobSet", "LeaderWorkerSet", "MPIJob", "PyTorchJob", "TrainJob", "RayCluster", "RayJob", "RayService", "VolcanoJob",
    "CronJob",
)  # fmt: skip
"""Those of controllers that come with custom kinds, and CronJobs; their pods are found by who owns whom."""
OWNERS = ("ReplicaSet",)
_BETWEEN = ("ReplicaSet", "StatefulSet", "Deployment", "Job", "JobSet", "RayCluster", "Pod")
"""What such a controller makes on the way to its pods; leaders among pods own others (LeaderWorkerSet)."""
MAY_BE_UNREADABLE = (
    "ReplicaSet",
    "ResourceQuota",
    "LimitRange",
    "PriorityClass",
    "PodDisruptionBudget",
    "Namespace",
    "Event",
    "RuntimeClass",
    "PersistentVolumeClaim",
    "PersistentVolume",
    "StorageClass",
    "CSINode",
    "ResourceClaim",
    "ResourceClaimTemplate",
    "ResourceSlice",
    "DeviceClass",
    "DeviceTaintRule",
    "NVIDIADriver",
    "Workload",
    "LocalQueue",
    "ClusterQueue",
    "Cohort",
    "ResourceFlavor",
    "Queue",
    "PodGroup",
    "VolcanoQueue",
    "VolcanoPodGroup",
    "NodePool",
    "NodeClaim",
    *CUSTOM_WORKLOADS,
)
"""What is read as well where it can be; what is missing is said where it would decide."""
READ = (*KINDS, *WORKLOADS, *MAY_BE_UNREADABLE)
"""Everything that explanations of all pods are computed from."""

_WORDS = {"VolcanoJob": "vcjob"}

_Computed = TypeVar("_Computed")


class Seen:
    """Objects by kind; ``unreadable`` says why a kind is missing."""

    def __init__(
        self, objects: Mapping[str, list[dict[str, Any]]], unreadable: Mapping[str, str] | None = None
    ) -> None:
        self.objects = objects
        self.unreadable = dict(unreadable or {})
        self._by_name: dict[str, dict[tuple[str, str], Manifest]] = {}
        self._by_owner: dict[str, dict[tuple[str, ...], list[dict[str, Any]]]] = {}
        self._computed: dict[Hashable, Any] = {}

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The objects of a kind; none where it could not be read."""
        return self.objects.get(kind, [])

    def within(self, kind: str, namespace: object) -> list[dict[str, Any]]:
        """The objects of a kind in one namespace."""
        return [each for each in self.of(kind) if each["metadata"].get("namespace") == namespace]

    def find(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object, None when there is none."""
        if kind not in self._by_name:
            # Of two of a name the first counts, as in a list.
            self._by_name[kind] = {_named(each): each for each in reversed(self.of(kind))}
        return self._by_name[kind].get((namespace, name))

    def with_parents(self, kind: str, name: str, parent: str) -> Iterator[Manifest]:
        """An object without a namespace and those above it, named by a member of the spec; a circle is walked once."""
        visited: set[str] = set()
        while name and name not in visited:
            visited.add(name)
            found = self.find(kind, "", name)
            if found is None:
                return
            yield found
            name = str((found.get("spec") or {}).get(parent) or "")

    def once(self, key: Hashable, compute: Callable[[], _Computed]) -> _Computed:
        """What is computed of the objects, computed only the first time that this key is asked for."""
        if key not in self._computed:
            self._computed[key] = compute()
        found: _Computed = self._computed[key]
        return found

    @cached_property
    def nodes(self) -> dict[str, Manifest]:
        """The nodes, by name."""
        return {str(each["metadata"]["name"]): each for each in self.of("Node")}

    @cached_property
    def bound(self) -> dict[str, list[Manifest]]:
        """The unfinished pods that are bound to a node, by its name."""
        return bound_by_node(self.of("Pod"))

    @cached_property
    def occupancy(self) -> Occupancy:
        """The same with what is counted of them once."""
        return Occupancy(self.bound)

    @cached_property
    def namespaces(self) -> dict[str, Mapping[str, str]] | None:
        """The labels of the namespaces by their names, None where they were not read."""
        if "Namespace" not in self.objects:
            return None
        return {str(each["metadata"]["name"]): each["metadata"].get("labels") or {} for each in self.of("Namespace")}

    @cached_property
    def storage(self) -> Storage:
        """The volumes, with their claims and classes."""
        claims, volumes = self.of("PersistentVolumeClaim"), self.of("PersistentVolume")
        return Storage(claims, volumes, self.of("StorageClass"), self.objects.get("CSINode"))

    @cached_property
    def offer(self) -> Offer:
        """The devices in resource slices."""
        rules = self.of("DeviceTaintRule")
        return Offer(self.of("ResourceSlice"), self.of("DeviceClass"), self.of("ResourceClaim"), rules)

    def claims_of(self, pod: Manifest) -> Claims:
        """The device claims of a pod."""
        return Claims(pod, self.offer, self.of("ResourceClaim"), self.of("ResourceClaimTemplate"))

    def lacks(self, *kinds: str) -> str:
        """Which of these kinds were not read and why, in words; empty where all were."""
        missing = [kind for kind in kinds if kind not in self.objects]
        return ", ".join(f"{kind} ({self.unreadable.get(kind, 'not read')})" for kind in missing)

    def warnings_of(self, *objects: Manifest) -> list[dict[str, Any]]:
        """The warnings about objects, the newest first."""
        about = {(each.get("kind"), *_named(each)) for each in objects}
        return sorted((event for each in about for event in self._warnings.get(each, ())), key=_seen_at, reverse=True)

    def pods_of(self, owner: Manifest) -> list[dict[str, Any]]:
        """The pods that an object owns, a Deployment through its ReplicaSets."""
        found = (pod for each in (owner, *self.owners_below(owner)) for pod in self._owned_by("Pod", each))
        return list({id(pod): pod for pod in found}.values())

    def owned_by(self, namespace: str, reference: Manifest) -> Sequence[Manifest]:
        """The pods whose owner is the one of an owner reference in this namespace."""
        metadata = {"namespace": namespace, "name": reference.get("name"), "uid": reference.get("uid")}
        return self._owned_by("Pod", {"kind": reference.get("kind"), "metadata": metadata})

    def made_by(self, owner: Manifest) -> list[Manifest]:
        """Everything that an object owns, what that owns, and so on."""
        found, left = dict[int, Manifest](), [owner]
        while left:
            above = left.pop()
            for below in (each for kind in _BETWEEN for each in self._owned_by(kind, above)):
                if id(below) not in found:
                    found[id(below)] = below
                    left.append(below)
        return list(found.values())

    def owners_below(self, owner: Manifest) -> Sequence[Manifest]:
        """The ReplicaSets that an object owns."""
        return self._owned_by("ReplicaSet", owner)

    def _owned_by(self, kind: str, owner: Manifest) -> Sequence[dict[str, Any]]:
        """By its UID; by its name where the owner or the reference to it has none, as in manifests."""
        by_owner, uid = self._owned(kind), owner["metadata"].get("uid")
        named = (str(owner.get("kind")), *_named(owner))
        keys = [(str(uid),), (*named, "")] if uid else [(*named, "uid"), (*named, "")]
        return [each for key in keys for each in by_owner.get(key, ())]

    def _owned(self, kind: str) -> Mapping[tuple[str, ...], list[dict[str, Any]]]:
        """The objects of a kind by the UID of each of their owners, and by name and whether the reference has one."""
        if kind not in self._by_owner:
            found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
            for each in self.of(kind):
                for key in _owner_keys(each):
                    found.setdefault(key, []).append(each)
            self._by_owner[kind] = found
        return self._by_owner[kind]

    @cached_property
    def _warnings(self) -> Mapping[tuple[Any, str, str], list[dict[str, Any]]]:
        found: dict[tuple[Any, str, str], list[dict[str, Any]]] = {}
        for event in self.of("Event"):
            if event.get("type") == "Warning" or event.get("reason") == NOT_SCALED_UP:
                found.setdefault(_involved(event.get("involvedObject") or {}), []).append(event)
        return found


def seen_from(objects: Iterable[dict[str, Any]], unreadable: Mapping[str, str] | None = None) -> Seen:
    """The same from objects of all kinds, each with its kind. Kinds of which there is none count as read, and empty."""
    missing = dict(unreadable or {})
    by_kind: dict[str, list[dict[str, Any]]] = {kind: [] for kind in READ if kind not in missing}
    for each in objects:
        name = name_in_places(str(each.get("apiVersion")), str(each.get("kind")))
        by_kind.setdefault(name, []).append(each)
    return Seen(by_kind, missing)


def kind_of(obj: Manifest) -> str:
    """The kind of an object as the kinds above have it: VolcanoJob for a Job of Volcano."""
    return name_in_places(str(obj.get("apiVersion")), str(obj["kind"]))


def word_for(kind: str) -> str:
    """What a kind is called on the command line, ours and that of kubectl."""
    return _WORDS.get(kind, kind.lower())


def reporters_of(event: Mapping[str, Any]) -> tuple[str, ...]:
    """Who reported an event, as its older member and its newer one say it; those that are empty left out."""
    told = ((event.get("source") or {}).get("component"), event.get("reportingComponent"))
    return tuple(str(each) for each in told if each)


def has_condition(obj: Manifest, *types: str) -> bool:
    """Whether one of these conditions is true of an object."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(each.get("type") in types and each.get("status") == "True" for each in conditions)


def condition(obj: Manifest, kind: str) -> Manifest:
    """One condition of an object, empty where there is none."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each.get("type") == kind), {})


def _named(obj: Manifest) -> tuple[str, str]:
    return str(obj["metadata"].get("namespace") or ""), str(obj["metadata"].get("name"))


def _owner_keys(obj: Manifest) -> set[tuple[str, ...]]:
    keys: set[tuple[str, ...]] = set()
    namespace = str(obj["metadata"].get("namespace") or "")
    for owner in obj["metadata"].get("ownerReferences") or ():
        uid = owner.get("uid")
        keys |= {(str(uid),)} if uid else set()
        keys.add((str(owner.get("kind")), namespace, str(owner.get("name")), "uid" if uid else ""))
    return keys


def _involved(reference: Manifest) -> tuple[Any, str, str]:
    kind, name = reference.get("kind"), str(reference.get("name"))
    return kind, "" if kind == "Node" else str(reference.get("namespace") or ""), name


def _seen_at(event: Manifest) -> str:
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
        or ""
    )
