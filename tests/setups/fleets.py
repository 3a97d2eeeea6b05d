"""Fleets of platforms as data: nodes by group and the platform's own manifests, made into the objects of a snapshot.

What controllers, scheduler and kubelets would do with them is done here and no more: a DaemonSet gets a Ready pod on
each node that it fits, a Deployment, StatefulSet or Job its pods on nodes with room, a quota what these pods use.
Where something stands is decided from the manifests alone, so that a set-up that forgets a toleration gets no pod.
"""

import copy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from conformance.facts import snapshot
from conformance.gpu.affinity import node_matches
from conformance.gpu.quantities import quantity
from conformance.gpu.taints import repelling, taint_from, toleration_from

Object = dict[str, Any]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

CREATED = "2026-11-20T10:00:00Z"
_BUILT_IN = {"system-node-critical": 2000001000, "system-cluster-critical": 2000000000}
_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
# The DaemonSet controller adds these to each pod (kubernetes.io: DaemonSet, Taints and tolerations).
_OF_DAEMONS = [
    {"key": f"node.kubernetes.io/{state}", "operator": "Exists", "effect": effect}
    for state, effect in (
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    )
]
_WORKLOADS = ("Deployment", "StatefulSet", "Job")
_TRAINING_JOB = "PyTorchJob"


class Nodes(msgspec.Struct, forbid_unknown_fields=True):
    """Nodes that are alike. ``name`` holds ``{n}``, the number of a node from 1; ``offers`` is by resource."""

    name: str
    count: int
    kernel: str
    os_image: str
    runtime: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    taints: list[Object] = []
    provider: str = ""
    offers: dict[str, int] = {}
    cpu: str = "16"
    memory: str = "64Gi"
    conditions: dict[str, str] = {}


class Fleet(msgspec.Struct, forbid_unknown_fields=True):
    """What a file says: the server's version, the nodes, and manifests as ``kubectl apply`` takes them.

    ``tolerates_what_it_asks_for`` says that the admission plugin ExtendedResourceToleration is on: each pod gets a
    toleration for taints that are named like the extended resources that it asks for. ``admission_adds`` is what a
    mutating policy gives pods that ask for them, as members of a pod's spec.
    """

    server_version: str
    nodes: list[Nodes]
    tolerates_what_it_asks_for: bool = False
    admission_adds: Object = {}
    objects: list[Object] = []


class _Made:
    """The objects of a fleet while they are made."""

    def __init__(self, fleet: Fleet) -> None:
        self.nodes = [_node(group, number, fleet) for group in fleet.nodes for number in range(1, group.count + 1)]
        self.objects: list[Object] = []
        self.pods: list[Object] = []
        self.classes = dict(_BUILT_IN)
        self.admitting = fleet.tolerates_what_it_asks_for
        self.adds = fleet.admission_adds

    def pods_of(self, workload: Object) -> list[Object]:
        """The pods that a workload makes, placed; a DaemonSet one on each node that it fits."""
        spec = workload["spec"]["template"]["spec"]
        if workload["kind"] == "DaemonSet":
            fits = [node for node in self.nodes if _fits(spec, node, _OF_DAEMONS)]
            return [self._pod(workload, node, _OF_DAEMONS) for node in fits]
        workload = self._mutated(workload)
        spec = workload["spec"]["template"]["spec"]
        count = workload["spec"].get("replicas", workload["spec"].get("parallelism", 1))
        added = self._admitted(_asked(spec))
        return [self._pod(workload, self._with_room(workload), added) for _ in range(count)]

    def _mutated(self, workload: Object) -> Object:
        """A workload as if its template said what admission makes of its pods."""
        changed = copy.deepcopy(workload)
        spec = changed["spec"]["template"]["spec"]
        for member, added in self.adds.items() if _asked(spec) else ():
            there = spec.get(member)
            spec[member] = [*there, *added] if isinstance(there, list) else added
        return changed

    def _admitted(self, asked: dict[str, int]) -> list[Object]:
        """What admission adds to the tolerations of a pod."""
        return [{"key": name, "operator": "Exists", "effect": "NoSchedule"} for name in asked if self.admitting]

    def _with_room(self, workload: Object) -> Object:
        spec = workload["spec"]["template"]["spec"]
        asked = _asked(spec)
        for node in sorted(self.nodes, key=lambda node: self._used(node).total()):
            left = node["status"]["allocatable"]
            used = self._used(node)
            room = all(used[name] + amount <= int(quantity(left.get(name, "0"))) for name, amount in asked.items())
            if room and _fits(spec, node, self._admitted(asked)):
                return node
        raise ValueError(f"no node has room for {workload['metadata']['name']}")

    def _used(self, node: Object) -> Counter[str]:
        there = [pod["spec"] for pod in self.pods if pod["spec"]["nodeName"] == node["metadata"]["name"]]
        return sum((Counter(_asked(spec)) for spec in there), Counter())

    def _pod(self, workload: Object, node: Object, tolerations: list[Object]) -> Object:
        template = copy.deepcopy(workload["spec"]["template"])
        metadata, spec = template.get("metadata", {}), template["spec"]
        name = f"{workload['metadata']['name']}-{len(self.pods):05x}"
        namespace = workload["metadata"]["namespace"]
        spec |= {"nodeName": node["metadata"]["name"], "tolerations": [*spec.get("tolerations", []), *tolerations]}
        spec.setdefault("serviceAccountName", "default")
        named = spec.get("priorityClassName")
        if named:
            spec["priority"] = self.classes[named]
        maker = _replica_set(workload) if workload["kind"] == "Deployment" else workload
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**metadata, "name": name, "namespace": namespace, "ownerReferences": [_owned_by(maker)]},
            "spec": spec,
            "status": _running(spec),
        }
        made = _born(pod)
        self.pods.append(made)
        return made


def load(file: Path) -> Fleet:
    """The fleet in a file."""
    content = yaml.load(file.read_text(encoding="utf-8"), _LOADER)
    return msgspec.convert(content, Fleet)


def objects_of(fleet: Fleet) -> list[Object]:
    """All objects of the cluster."""
    made = _Made(fleet)
    manifests = [_born(each) for each in (*_built_in(), *fleet.objects)]
    made.classes |= {each["metadata"]["name"]: each["value"] for each in manifests if each["kind"] == "PriorityClass"}
    for each in manifests:
        if each["kind"] == _TRAINING_JOB:  # no audit reads objects of this kind, only their pods
            _train(each, made)
            continue
        made.objects.append(each)
        if each["kind"] == "Deployment":
            made.objects.append(_replica_set(each))
        if each["kind"] in (*_WORKLOADS, "DaemonSet"):
            each["status"] = _status(each, made.pods_of(each))
    namespaces = [each["metadata"]["name"] for each in manifests if each["kind"] == "Namespace"]
    accounts = [_born(_account(namespace)) for namespace in namespaces]
    for each in made.objects:
        if each["kind"] == "ResourceQuota":
            each["status"] = {"hard": each["spec"]["hard"], "used": _used_of(each, made.pods)}
    return [*made.nodes, *made.objects, *accounts, *made.pods]


def _train(job: Object, made: _Made) -> None:
    """The pods that Kubeflow's training operator makes for a PyTorchJob, each role with its own."""
    for role, replicas in job["spec"]["pytorchReplicaSpecs"].items():
        template = copy.deepcopy(replicas["template"])
        template["metadata"] = {
            "labels": {
                "training.kubeflow.org/job-name": job["metadata"]["name"],
                "training.kubeflow.org/replica-type": role.lower(),
            }
        }
        made.pods_of({**job, "spec": {"replicas": replicas["replicas"], "template": template}})


def save(objects: list[Object], server_version: str, file: Path) -> None:
    """Write the objects as a snapshot of a server of this version."""
    taken = msgspec.structs.replace(snapshot.Snapshot.of(objects), server_version=server_version)
    snapshot.save(taken, file)


def _built_in() -> Iterator[Object]:
    for name in _NAMESPACES:
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    for name, value in _BUILT_IN.items():
        yield {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "preemptionPolicy": "PreemptLowerPriority",
        }


def _replica_set(deployment: Object) -> Object:
    """The ReplicaSet by which a Deployment makes its pods."""
    place = {"name": f"{deployment['metadata']['name']}-7d9c", "namespace": deployment["metadata"]["namespace"]}
    spec = {key: deployment["spec"][key] for key in ("replicas", "selector", "template")}
    metadata = {**place, "ownerReferences": [_owned_by(deployment)]}
    return _born({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": spec})


def _owned_by(maker: Object) -> Object:
    meta = maker["metadata"]
    return {
        "apiVersion": maker["apiVersion"],
        "kind": maker["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
    }


def _account(namespace: str) -> Object:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}}


def _born(manifest: Object) -> Object:
    """A manifest with what the API server adds to it."""
    obj = copy.deepcopy(manifest)
    meta = obj["metadata"]
    meta.setdefault("uid", f"{obj['kind'].lower()}-{meta.get('namespace', '')}-{meta['name']}")
    meta.setdefault("creationTimestamp", CREATED)
    if obj["kind"] == "Namespace":
        meta["labels"] = {"kubernetes.io/metadata.name": meta["name"], **meta.get("labels", {})}
        obj["status"] = {"phase": "Active"}
    return obj


def _node(group: Nodes, number: int, fleet: Fleet) -> Object:
    name = group.name.format(n=number)
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    amounts = {"cpu": group.cpu, "memory": group.memory, "pods": "110", "ephemeral-storage": "200Gi"}
    amounts |= {resource: str(count) for resource, count in group.offers.items()}
    conditions = {"Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", **group.conditions}
    return _born(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {**labels, **group.labels}, "annotations": group.annotations},
            "spec": {"taints": group.taints, "providerID": group.provider.format(n=number)},
            "status": {
                "capacity": amounts,
                "allocatable": amounts,
                "conditions": [_condition(*each) for each in conditions.items()],
                "nodeInfo": {
                    "kubeletVersion": fleet.server_version,
                    "kernelVersion": group.kernel,
                    "osImage": group.os_image,
                    "containerRuntimeVersion": group.runtime,
                    "architecture": "amd64",
                    "operatingSystem": "linux",
                },
            },
        }
    )


def _fits(spec: Object, node: Object, more: list[Object]) -> bool:
    labels, name = node["metadata"]["labels"], node["metadata"]["name"]
    affinity = spec.get("affinity", {}).get("nodeAffinity")
    if not node_matches(labels, name, spec.get("nodeSelector"), affinity):
        return False
    tolerations = [toleration_from(each) for each in (*spec.get("tolerations", []), *more)]
    return not repelling(tolerations, [taint_from(each) for each in node["spec"]["taints"]])


def _asked(spec: Object) -> dict[str, int]:
    """What the containers of a pod ask for under names of extended resources."""
    asked: Counter[str] = Counter()
    for container in spec["containers"]:
        for name, amount in container.get("resources", {}).get("limits", {}).items():
            if "/" in name:
                asked[name] += int(amount)
    return dict(asked)


def _running(spec: Object) -> Object:
    ended = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": CREATED, "finishedAt": CREATED}}
    return {
        "phase": "Running",
        "startTime": CREATED,
        "conditions": [
            _condition(each, "True") for each in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ],
        "containerStatuses": [_container(each, {"running": {"startedAt": CREATED}}) for each in spec["containers"]],
        "initContainerStatuses": [_container(each, ended) for each in spec.get("initContainers", [])],
    }


def _condition(type_: str, status: str) -> Object:
    return {"type": type_, "status": status, "lastTransitionTime": CREATED}


def _container(container: Object, state: Object) -> Object:
    told = {"name": container["name"], "image": container["image"], "imageID": container["image"]}
    return {**told, "ready": True, "restartCount": 0, "state": state}


def _status(workload: Object, pods: list[Object]) -> Object:
    count = len(pods)
    if workload["kind"] == "DaemonSet":
        names = (
            "desiredNumberScheduled",
            "currentNumberScheduled",
            "numberReady",
            "numberAvailable",
            "updatedNumberScheduled",
        )
        return {"numberMisscheduled": 0, "observedGeneration": 1, **dict.fromkeys(names, count)}
    if workload["kind"] == "Job":
        return {"active": count, "ready": count, "startTime": CREATED}
    names = ("replicas", "readyReplicas", "availableReplicas", "updatedReplicas")
    return {"observedGeneration": 1, **dict.fromkeys(names, count)}


def _used_of(quota: Object, pods: list[Object]) -> dict[str, str]:
    spent: Counter[str] = Counter()
    for pod in pods:
        if pod["metadata"]["namespace"] == quota["metadata"]["namespace"]:
            spent.update({f"requests.{name}": amount for name, amount in _asked(pod["spec"]).items()})
    return {key: str(spent[key]) for key in quota["spec"]["hard"]}
