"""Where the volumes of a pod can be: claims that are missing or unbound, zones, limits, and volumes for one pod only.

Decided are the parts of VolumeBinding, VolumeZone, VolumeRestrictions and NodeVolumeLimits that objects show
(kube-scheduler, plugins volumebinding, volumezone, volumerestrictions, nodevolumelimits). Whether storage has capacity
left is not, nor are volumes that are attached to a node and used by no pod there.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

from conformance.gpu.affinity import term_matches
from conformance.gpu.claims import on_selected_node
from conformance.gpu.neighbours import full_name, same

Manifest: TypeAlias = Mapping[str, Any]

_CAPACITY = "the storage's own capacity (CSIStorageCapacity)"
_ATTACHED = "volumes that are attached to nodes and used by no pod there (NodeVolumeLimits)"
_LIMITS_UNREAD = "how many volumes a CSI driver attaches to a node (NodeVolumeLimits), for CSINodes were not read"
_LATE = "WaitForFirstConsumer"
_MADE_BY_HAND = "kubernetes.io/no-provisioner"
# Labels by which a volume is in a zone or region (kube-scheduler, pkg/scheduler/framework/plugins/volumezone).
_NEW_NAME = {
    "topology.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region": "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
}
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


class Storage:
    """The claims, volumes and classes of a cluster, and what its nodes attach; None where that was not read."""

    def __init__(
        self,
        claims: Sequence[Manifest],
        volumes: Sequence[Manifest],
        classes: Sequence[Manifest],
        csi_nodes: Sequence[Manifest] | None = None,
    ) -> None:
        self.claims = {(each["metadata"].get("namespace"), each["metadata"]["name"]): each for each in claims}
        self.volumes = {str(each["metadata"]["name"]): each for each in volumes}
        self.classes = {str(each["metadata"]["name"]): each for each in classes}
        self._free: dict[str | None, _Volumes] = {}
        self._most = None if csi_nodes is None else {str(each["metadata"]["name"]): _most(each) for each in csi_nodes}

    def free_of(self, storage_class: str | None) -> "_Volumes":
        """The volumes of a class that no claim has."""
        if storage_class not in self._free:
            specs = ((each, each.get("spec") or {}) for each in self.volumes.values())
            self._free[storage_class] = _Volumes(
                each
                for each, spec in specs
                if spec.get("storageClassName") == storage_class and not spec.get("claimRef")
            )
        return self._free[storage_class]

    @property
    def has_limits(self) -> bool:
        """Whether it is known how many volumes nodes attach."""
        return self._most is not None

    def most_on(self, node: str) -> Mapping[str, int]:
        """How many volumes each CSI driver attaches to a node, of those that say so."""
        return (self._most or {}).get(node, {})

    def attached_for(self, pod: Manifest) -> set[tuple[str, str]]:
        """The volumes of CSI drivers that a node has to attach for a pod: driver, and what tells volumes apart."""
        namespace, found = pod["metadata"].get("namespace"), set()
        for name in claim_names(pod):
            spec = (self.claims.get((namespace, name)) or {}).get("spec") or {}
            csi = ((self.volumes.get(str(spec.get("volumeName"))) or {}).get("spec") or {}).get("csi") or {}
            if csi:
                found.add((str(csi.get("driver")), str(csi.get("volumeHandle"))))
            elif spec and not spec.get("volumeName"):
                made_by = (self.classes.get(str(spec.get("storageClassName"))) or {}).get("provisioner")
                found.add((str(made_by), f"{namespace}/{name}"))
        return found


def _most(csi_node: Manifest) -> dict[str, int]:
    drivers = (csi_node.get("spec") or {}).get("drivers") or ()
    stated = ((each, (each.get("allocatable") or {}).get("count")) for each in drivers)
    return {str(each.get("name")): int(count) for each, count in stated if count is not None}


class VolumePlaces:
    """The volumes of one pod. ``missing`` says what is wrong with them on any node."""

    def __init__(
        self, pod: Manifest, storage: Storage, pods: Sequence[Manifest], bound: Mapping[str, Sequence[Manifest]]
    ) -> None:
        self._storage, self._pod, self._others = storage, pod, bound
        self._attached = storage.attached_for(pod)
        self.missing: list[str] = []
        self.undecided: tuple[str, ...] = ()
        self._bound: list[tuple[str, Manifest]] = []
        self._late: list[tuple[str, Manifest, Manifest]] = []
        for name in claim_names(pod):
            claim = storage.claims.get((pod["metadata"].get("namespace"), name))
            if claim is None:
                self.missing.append(f"there is no PersistentVolumeClaim {name} in its namespace")
            else:
                self._take(name, claim, pod, pods)
        if self._late:
            self.undecided += (_CAPACITY,)
        if self._attached:
            self.undecided += (_ATTACHED if storage.has_limits else _LIMITS_UNREAD,)

    def on(self, node: Manifest) -> Iterator[str]:
        """What keeps the pod off the node, in words."""
        labels = node["metadata"].get("labels") or {}
        for name, volume in self._bound:
            required = ((volume.get("spec") or {}).get("nodeAffinity") or {}).get("required")
            if required is not None and not on_selected_node(required, node):
                yield f"volume of claim {name} ({volume['metadata']['name']}) is {_where(required, labels)}"
                continue
            yield from _elsewhere(name, volume["metadata"].get("labels") or {}, labels)
        for name, claim, storage_class in self._late:
            topologies = storage_class.get("allowedTopologies") or ()
            if topologies and not any(_allowed(each, labels) for each in topologies):
                yield f"StorageClass {storage_class['metadata']['name']} of claim {name} makes no volumes for this zone"
            elif storage_class.get("provisioner") == _MADE_BY_HAND and not self._has_volume_for(claim, node):
                yield f"claim {name} finds no free volume of StorageClass {storage_class['metadata']['name']} here"
        yield from self._beyond_limits(str(node["metadata"]["name"]))

    def _beyond_limits(self, node: str) -> Iterator[str]:
        """The CSI drivers that attach no more volumes to a node (NodeVolumeLimits)."""
        most = self._storage.most_on(node) if self._attached else {}
        if not most.keys() & {driver for driver, _ in self._attached}:
            return
        others = (each for each in self._others.get(node, ()) if not same(each, self._pod))
        there = {volume for other in others for volume in self._storage.attached_for(other)}
        for driver, count in most.items():
            held = sum(each[0] == driver for each in there)
            more = sum(each[0] == driver for each in self._attached - there)
            if more and held + more > count:
                yield f"CSI driver {driver} attaches at most {count} volumes here, {held} are in use, {more} asked for"

    def _take(self, name: str, claim: Manifest, pod: Manifest, pods: Sequence[Manifest]) -> None:
        spec = claim["spec"]
        if claim["metadata"].get("deletionTimestamp"):
            self.missing.append(f"PersistentVolumeClaim {name} is being deleted")
        if "ReadWriteOncePod" in (spec.get("accessModes") or ()):
            user = next((each for each in pods if _uses(each, name, pod)), None)
            if user is not None:
                self.missing.append(f"claim {name} is for one pod (ReadWriteOncePod), and pod {full_name(user)} has it")
        if spec.get("volumeName"):
            volume = self._storage.volumes.get(str(spec["volumeName"]))
            if volume is None:
                self.missing.append(f"claim {name} is bound to PersistentVolume {spec['volumeName']}, there is none")
            else:
                self._bound.append((name, volume))
            return
        named = str(spec.get("storageClassName") or "")
        storage_class = self._storage.classes.get(named)
        if storage_class is not None and storage_class.get("volumeBindingMode") == _LATE:
            self._late.append((name, claim, storage_class))
        elif named and storage_class is None:
            self.missing.append(f"claim {name} is not bound, and there is no StorageClass {named}")
        else:
            self.missing.append(
                f"PersistentVolumeClaim {name} is not bound to a volume (StorageClass {named or 'none'})"
            )

    def _has_volume_for(self, claim: Manifest, node: Manifest) -> bool:
        return self._storage.free_of(claim["spec"].get("storageClassName")).has_one_on(node)


class _Volumes:
    """Volumes that no claim has, by the labels that nodes have where they are."""

    def __init__(self, volumes: Iterable[Manifest]) -> None:
        self._somewhere: list[Manifest | None] = []
        self._by_label: dict[str, dict[str, list[Manifest]]] = {}
        for volume in volumes:
            required = ((volume.get("spec") or {}).get("nodeAffinity") or {}).get("required")
            label = _label_of(required or {})
            if not required or not label:
                self._somewhere.append(required)
                continue
            for value in label.get("values") or ():
                self._by_label.setdefault(str(label["key"]), {}).setdefault(str(value), []).append(required)

    def has_one_on(self, node: Manifest) -> bool:
        """Whether one of them can be used on a node."""
        labels = node["metadata"].get("labels") or {}
        near = (each for key, by in self._by_label.items() if key in labels for each in by.get(labels[key], ()))
        return any(each is None or on_selected_node(each, node) for each in chain(self._somewhere, near))


def _label_of(required: Manifest) -> Manifest:
    """The values of a label of which a node has to have one, whatever else; empty where there is no such label."""
    terms: Sequence[Manifest] = required.get("nodeSelectorTerms") or ()
    if len(terms) != 1:
        return {}
    stated: Sequence[Manifest] = terms[0].get("matchExpressions") or ()
    return next((each for each in stated if each.get("key") and each.get("operator") == "In"), {})


def claim_names(pod: Manifest) -> Iterator[str]:
    """The PersistentVolumeClaims of a pod; those of ephemeral volumes are called after pod and volume."""
    for volume in pod["spec"].get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            yield str(volume["persistentVolumeClaim"].get("claimName"))
        elif volume.get("ephemeral"):
            yield f"{pod['metadata']['name']}-{volume['name']}"


def _uses(other: Manifest, claim: str, pod: Manifest) -> bool:
    """Whether another unfinished pod with a node uses the same claim."""
    return (
        bool(other["spec"].get("nodeName"))
        and other["metadata"].get("namespace") == pod["metadata"].get("namespace")
        and (other.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        and not same(other, pod)
        and claim in claim_names(other)
    )


def _elsewhere(claim: str, volume: Mapping[str, str], node: Mapping[str, str]) -> Iterator[str]:
    """In which zone or region the volume of a claim is and the node is not; a node without any such label takes all."""
    if not _NEW_NAME.keys() & node.keys():
        return
    for key, new_name in _NEW_NAME.items():
        here = node.get(key, node.get(new_name))
        if key in volume and here not in str(volume[key]).split("__"):
            what = key.rpartition("/")[2]
            yield f"volume of claim {claim} is in {what} {volume[key]}, the node in {here or 'none'}"


def _allowed(term: Manifest, labels: Mapping[str, str]) -> bool:
    stated = term.get("matchLabelExpressions") or ()
    return all(labels.get(each["key"]) in (each.get("values") or ()) for each in stated)


def _where(required: Manifest, labels: Mapping[str, str]) -> str:
    """The first label of a volume's affinity that the node lacks."""
    for term in required.get("nodeSelectorTerms") or ():
        for each in term.get("matchExpressions") or ():
            if not term_matches({"matchExpressions": [each]}, labels, ""):
                values = ", ".join(each.get("values") or ())
                label = f"{each['key']} {each['operator']} {values}".strip()
                return f"where {label}, the node has {labels.get(each['key']) or 'no such label'}"
    return "on other nodes"
