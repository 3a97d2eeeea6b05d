"""The operator: from a ClusterPolicy or a GPUCluster to node labels, operands, and a status.

It acts while a pod of the Deployment gpu-operator is ready, in the namespace of that pod. ``ready`` means of it what
it means of the real one: a DaemonSet that wants no pods is ready, and so is a cluster without GPU nodes.

The operands for virtual machines are deployed where these are allowed, and do nothing (sandbox_operands.py).
Source: NVIDIA/gpu-operator v26.7.0, controllers/clusterpolicy_controller.go, gpucluster_controller.go,
nodelabeling_controller.go, state_manager.go.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping

from conformance.kube.paths import path
from conformance.simulator import drivers, gpucluster
from conformance.simulator.agents import is_ready
from conformance.simulator.annotations import annotation
from conformance.simulator.clusterpolicy import ClusterPolicy, Followed, mapping, oldest
from conformance.simulator.conditions import Reason, Verdict, write
from conformance.simulator.deployment import Deployment
from conformance.simulator.fleet import Fleet, Seen
from conformance.simulator.nodelabels import (
    OWNER,
    UPGRADE_ENABLED,
    Situation,
    WatchedLabels,
    concerns,
    driver_objects,
    sees_to_upgrade_annotation,
    upgrade_annotation,
    wanted_changes,
    watched_labels,
)
from conformance.simulator.world import Object, World

OPERATOR = "gpu-operator"
OPERATOR_RESOURCES = ("ClusterPolicy", "GPUCluster", "NVIDIADriver")

_EVERYTHING = "policy"
_NODE = "node/"
# What the operator writes. The parts' world must know of these, to tell what is there.
_WRITTEN = (
    "DaemonSet",
    "Deployment",
    "ServiceAccount",
    "ConfigMap",
    "Service",
    "RuntimeClass",
    "DeviceClass",
    "ResourceClaimTemplate",
)
_AGAIN = 5.0


class Operators:
    """The pods of the operator and which of them are ready; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ready: set[tuple[str, str]] = set()

    def take_in(self, pod: Object, deleted: bool) -> bool:
        """Take note of a pod as it is now; whether the operator has come, gone, or moved by that."""
        key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
        ready = not deleted and is_ready(pod) and not pod["metadata"].get("deletionTimestamp")
        with self._lock:
            before = self._home()
            if ready:
                self._ready.add(key)
            else:
                self._ready.discard(key)
            return before != self._home()

    @property
    def namespace(self) -> str | None:
        """Where the operator runs; None while it does not."""
        with self._lock:
            return self._home()

    def _home(self) -> str | None:
        return min(self._ready)[0] if self._ready else None


def is_operator(pod: Object) -> bool:
    """Whether a pod is one of the operator's Deployment, by the label that its selector has."""
    return (pod["metadata"].get("labels") or {}).get("app") == OPERATOR


class GpuOperator:
    """The controllers of the operator. A key is ``node/<name>`` for a node's labels, else ``policy``."""

    name = "operator"
    watches = (*OPERATOR_RESOURCES, "Node", "Pod", "Namespace", *_WRITTEN)

    def __init__(self, world: World) -> None:
        self._world = world
        self._fleet = Fleet()
        self._operators = Operators()
        self._generations: dict[str, int] = {}
        self._watched: dict[str, WatchedLabels] = {}
        self._deployment = Deployment(world)
        self._followed = Followed(world)

    def keys(self, kind: str, obj: Object, deleted: bool) -> Iterable[str]:
        """What a change bears on: all nodes when what is asked for changes, one node when it alone does."""
        if kind == "Node":
            return self._keys_of_node(obj, deleted)
        if kind == "Pod":
            return self._all_keys() if is_operator(obj) and self._operators.take_in(obj, deleted) else ()
        if kind in OPERATOR_RESOURCES:
            return self._all_keys() if self._is_news(kind, obj, deleted) else (_EVERYTHING,)
        owners = obj["metadata"].get("ownerReferences") or ()
        owned = any(each["kind"] in OPERATOR_RESOURCES for each in owners)
        # Of what it owns the operator watches only what runs pods: a RuntimeClass that is deleted stays away until
        # something else has it look again.
        return (_EVERYTHING,) if owned and kind in ("DaemonSet", "Deployment") else ()

    def reconcile(self, key: str) -> float | None:
        """Bring the labels of a node, or all operands and every status, in order."""
        namespace = self._operators.namespace
        if namespace is None:
            return None
        if key.startswith(_NODE):
            self._label(key.removeprefix(_NODE))
            return None
        return self._reconcile_all(namespace)

    def _keys_of_node(self, node: Object, deleted: bool) -> Iterator[str]:
        if self._fleet.take_in(node, deleted):
            yield _EVERYTHING
        name, labels = node["metadata"]["name"], node["metadata"].get("labels") or {}
        if deleted:
            self._watched.pop(name, None)
            return
        now, before = watched_labels(labels, self._selector_keys(labels)), self._watched.get(name)
        self._watched[name] = now
        if now != before and concerns(labels):
            yield f"{_NODE}{name}"

    def _selector_keys(self, labels: Mapping[str, str]) -> Iterable[str]:
        """The labels by which the NVIDIADriver that a node belongs to selects nodes."""
        driver = self._world.get("NVIDIADriver", labels[OWNER]) if OWNER in labels else None
        return mapping(mapping((driver or {}).get("spec")).get("nodeSelector"))

    def _all_keys(self) -> Iterator[str]:
        yield _EVERYTHING
        for name in self._fleet.concerned:
            yield f"{_NODE}{name}"

    def _is_news(self, kind: str, obj: Object, deleted: bool) -> bool:
        """Whether more than the status of an object has changed."""
        uid = obj["metadata"]["uid"]
        if deleted:
            self._generations.pop(uid, None)
            return True
        generation, before = obj["metadata"].get("generation", 0), self._generations.get(uid)
        self._generations[uid] = generation
        return bool(generation != before)

    def _label(self, name: str) -> None:
        node = self._world.get("Node", name)
        if node is None:
            return
        labels, situation = node["metadata"].get("labels") or {}, self._situation()
        changes: Object = {"labels": wanted_changes(labels, situation)}
        wanted = upgrade_annotation(labels, situation)
        if (annotation(node, UPGRADE_ENABLED) or None) != wanted and sees_to_upgrade_annotation(labels, situation):
            changes["annotations"] = {UPGRADE_ENABLED: wanted}
        if any(changes.values()):
            self._world.client.patch(path("Node", name=name), {"metadata": changes})

    def _situation(self) -> Situation:
        return Situation(
            self._followed.now(), bool(self._world.all("GPUCluster")), driver_objects(self._world.all("NVIDIADriver"))
        )

    def _reconcile_all(self, namespace: str) -> float | None:
        # A second ClusterPolicy gets no status: that it is ignored stands in the operator's memory and log only.
        policy, cluster = self._followed.now(), oldest(self._world.all("GPUCluster"))
        # Taken once: what is said at the end has to fit what was looked at on the way.
        seen = self._fleet.seen()
        verdicts = []
        if policy is not None:
            verdicts.append(self._deployment.of_policy(policy, seen, namespace, rival=cluster))
            write(self._world, "ClusterPolicy", policy.object, verdicts[-1], namespace)
        if cluster is not None:
            verdicts.append(self._deployment.of_cluster(cluster, namespace, rival=policy.object if policy else None))
            write(self._world, gpucluster.KIND, cluster, verdicts[-1], namespace)
        verdicts += self._settle_drivers(policy, cluster is not None, seen, namespace)
        return _AGAIN if any(each.reason is Reason.RECONCILE_FAILED for each in verdicts) else None

    def _settle_drivers(self, policy: ClusterPolicy | None, dra: bool, seen: Seen, namespace: str) -> list[Verdict]:
        verdicts = []
        for driver in self._world.all(drivers.KIND):
            if driver["metadata"].get("deletionTimestamp"):
                continue
            used = policy.uses_driver_objects if policy is not None else dra
            verdicts.append(drivers.settle(self._world, namespace, driver, seen.pools, used=used))
            write(self._world, drivers.KIND, driver, verdicts[-1], "")
        return verdicts
