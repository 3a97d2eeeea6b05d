"""A sound cluster with a GPU Operator as plain objects, made by hand from a reference set-up, and ways to break it."""

import copy
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from copies import copied

from conformance.deploy.helm.values import gpu_operator_values
from conformance.facts import Facts
from conformance.facts.decoding import Harvest
from conformance.facts.kinds import KINDS, Fact, kind_of, undefined
from conformance.reference import Reference
from conformance.verdict import Inconclusive, Judge, NotApplicable, Unsupported
from suites._shared.pool_nodes import GpuPoolNode

Object = dict[str, Any]

NOW = datetime(2026, 9, 20, 12, tzinfo=UTC)
LONG_AGO = "2026-03-01T00:00:00Z"
JUST_NOW = (NOW - timedelta(seconds=40)).isoformat()
OPERATOR = "gpu-operator"

# name, end of the node label, init containers
OPERANDS = (
    ("nvidia-driver-daemonset", "driver", ("k8s-driver-manager",)),
    ("nvidia-container-toolkit-daemonset", "container-toolkit", ("driver-validation",)),
    ("nvidia-device-plugin-daemonset", "device-plugin", ("toolkit-validation",)),
    ("nvidia-device-plugin-mps-control-daemon", "device-plugin", ()),
    ("gpu-feature-discovery", "gpu-feature-discovery", ()),
    ("nvidia-mig-manager", "mig-manager", ()),
    ("nvidia-dcgm-exporter", "dcgm-exporter", ()),
    ("nvidia-operator-validator", "operator-validator", ("driver-validation", "cuda-validation")),
)
_CONTAINER_LABELS = (
    "driver", "gpu-feature-discovery", "container-toolkit", "device-plugin", "dcgm", "dcgm-exporter",
    "node-status-exporter", "operator-validator", "client",
)  # fmt: skip
WORKER = "gpu-operator-node-feature-discovery-worker"


# The sound objects of the set-ups last asked for, by what these declare.
_BUILT: dict[tuple[type, str, str, str], bytes] = {}
_KEPT = 16

# Facts by kind and JSON: a test changes one object or two, and the others were read for the test before.
_READ: dict[tuple[str, bytes], Fact] = {}
_MOST_READ = 4096


class Cluster:
    """The objects of a cluster; every change is made on a copy of the sound ones."""

    def __init__(self, reference: Reference, driver: str = "580.95.05", **values: Any) -> None:
        self.reference = reference
        self.objects: list[Object] = []
        self.values = gpu_operator_values(reference) | values
        self.driver = driver
        built = (type(self), repr(reference), driver, repr(values))
        if built not in _BUILT:
            self._build()
            _BUILT[built] = pickle.dumps(self.objects)
            if len(_BUILT) > _KEPT:
                del _BUILT[next(iter(_BUILT))]
        self.objects = pickle.loads(_BUILT[built])

    # --- what is there -------------------------------------------------------------------------------------------

    def get(self, kind: str, name: str) -> Object:
        found = [each for each in self.objects if each["kind"] == kind and each["metadata"]["name"] == name]
        assert found, f"no {kind} {name}"
        return found[0]

    def node(self, name: str) -> Object:
        return self.get("Node", name)

    def daemonset(self, name: str) -> Object:
        return self.get("DaemonSet", name)

    def pod(self, owner: str, node: str) -> Object:
        return self.get("Pod", f"{owner}-{node}")

    def policy(self) -> Object:
        return self.get("ClusterPolicy", "cluster-policy")

    def remove(self, obj: Object) -> None:
        self.objects.remove(obj)

    def label(self, node: str, labels: dict[str, str | None]) -> None:
        """Set labels of a node, or take off those of which the value is None."""
        held = self.node(node)["metadata"]["labels"]
        for key, value in labels.items():
            held.pop(key, None) if value is None else held.update({key: value})

    def facts(self, unreadable: dict[str, str] | None = None) -> Facts:
        harvests = {name: Harvest(kind) for name, kind in KINDS.items()}
        for obj in self.objects:
            kind = kind_of(obj)
            if kind is not None:
                _add(harvests[kind.name], msgspec.json.encode(obj))
        return Facts.from_harvests(
            harvests.values(), unreadable=unreadable, unserved=undefined(self.objects), taken_at=NOW
        )

    # --- judging -------------------------------------------------------------------------------------------------

    def verdict(self, requirement: Any, reference: Reference | None = None, **more: Any) -> "Outcome":
        """How a requirement ends on the cluster as it is."""
        reference, facts, judge = reference or self.reference, self.facts(**more), Judge()
        known = {"facts": facts, "reference": reference, "judge": judge}
        names = requirement.__code__.co_varnames[: requirement.__code__.co_argcount]
        for name in {"gpu_pool_nodes", "nvidia_pool_nodes"} & {*names}:
            known[name] = tuple(
                GpuPoolNode(pool, node, pool.gpu)
                for pool in reference.gpu_pools
                for node in facts.nodes
                if pool.gpu and pool.holds(node.labels)
            )
        declared = {"pools": reference.pools, "gpu_pools": reference.gpu_pools}
        known |= {name: declared[name] for name in {*declared} & {*names}}
        if "members" in names:
            known["members"] = lambda pool: tuple(node for node in facts.nodes if pool.holds(node.labels))
        try:
            requirement(**{name: known[name] for name in names})
        except (Inconclusive, NotApplicable, Unsupported) as ended:
            return Outcome(judge, ended)
        return Outcome(judge, None)

    # --- building ------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        privileged = {"pod-security.kubernetes.io/enforce": "privileged"}
        self.objects += [
            made("v1", "Namespace", OPERATOR, labels=privileged),
            made("node.k8s.io/v1", "RuntimeClass", "nvidia", handler="nvidia"),
            crd("clusterpolicies", "ClusterPolicy"),
            crd("gpuclusters", "GPUCluster"),
            crd("nvidiadrivers", "NVIDIADriver"),
            self._policy(),
            deployment(OPERATOR, "nvcr.io/nvidia/gpu-operator:v26.7.0", {"app": OPERATOR}),
            deployment("gpu-operator-node-feature-discovery-master", "registry.k8s.io/nfd/node-feature-discovery:v1"),
        ]
        for pool in self.reference.pools:
            for index in range(1, max(pool.nodes, 1) + 1):
                self.objects.append(self._node(pool, f"{pool.name}-{index}"))
        tolerations = self.values["daemonsets"]["tolerations"]
        self._operand(WORKER, {}, (), self.values["node-feature-discovery"]["worker"]["tolerations"])
        for name, deploy, init in OPERANDS:
            selector = {f"nvidia.com/gpu.deploy.{deploy}": "true"}
            if name.endswith("mps-control-daemon"):
                selector["nvidia.com/mps.capable"] = "true"
            self._operand(name, selector, init, tolerations)
        if self.reference.stack is not None and self.reference.stack.dra is not None:
            self._dra_driver(dict(self.reference.stack.dra.node_selector), tolerations)

    def _policy(self) -> Object:
        spec = {key: copy.deepcopy(value) for key, value in self.values.items() if key != "node-feature-discovery"}
        spec["cdi"] = {"enabled": True}
        spec["dcgm"] = {"enabled": False}
        spec["driver"]["upgradePolicy"] = {
            "autoUpgrade": True, "maxParallelUpgrades": 1, "maxUnavailable": "25%",
            "waitForCompletion": {"timeoutSeconds": 0, "podSelector": ""},
            "podDeletion": {"force": False, "timeoutSeconds": 300, "deleteEmptyDir": True}, "drain": {"enable": False},
        }  # fmt: skip
        status = {
            "state": "ready",
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "Reconciled", "lastTransitionTime": LONG_AGO},
                {"type": "Error", "status": "False", "reason": "Ready", "lastTransitionTime": LONG_AGO},
            ],
        }
        return made("nvidia.com/v1", "ClusterPolicy", "cluster-policy", spec=spec, status=status)

    def _node(self, pool: Any, name: str) -> Object:
        labels = {**pool.selector}
        status: Object = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {}, "capacity": {}}
        if pool.gpu is not None:
            operands = pool.labels.get("nvidia.com/gpu.deploy.operands") != "false"
            labels |= {f"nvidia.com/gpu.deploy.{each}": "true" for each in _CONTAINER_LABELS if operands}
            if operands and ("A100" in pool.gpu.product or "H100" in pool.gpu.product):
                labels |= {"nvidia.com/gpu.deploy.mig-manager": "true", "nvidia.com/mig.capable": "true"}
            if pool.gpu.shared_by == "mps":
                labels["nvidia.com/mps.capable"] = "true"
            labels |= {
                "feature.node.kubernetes.io/pci-10de.present": "true",
                "nvidia.com/gpu.present": "true",
                "nvidia.com/gpu.product": pool.gpu.product,
                "nvidia.com/cuda.driver-version.full": self.driver,
                "nvidia.com/gpu-driver-upgrade-state": "upgrade-done",
            }
            status["allocatable"] = status["capacity"] = {pool.gpu.resource: str(pool.gpu.count)}
        labels |= pool.labels
        taints = [{"key": each.key, "value": each.value, "effect": each.effect} for each in pool.taints]
        return made("v1", "Node", name, labels=labels, spec={"taints": taints}, status=status)

    def _operand(self, name: str, selector: dict[str, str], init: tuple[str, ...], tolerations: list[Object]) -> None:
        images = {"nvidia-container-toolkit-daemonset": "nvcr.io/nvidia/k8s/container-toolkit:v1.20.0"}
        labels = {"app": name}
        if name == "nvidia-driver-daemonset":
            labels["app.kubernetes.io/component"] = "nvidia-driver"
        pod: Object = {
            "nodeSelector": selector,
            "tolerations": tolerations,
            "priorityClassName": "system-node-critical",
            "initContainers": [{"name": each, "image": "v"} for each in init],
            "containers": [container_of(name, images.get(name, "nvcr.io/nvidia/x:v1"))],
            "volumes": [{"name": "host", "hostPath": {"path": "/sys"}}],
        }
        if name not in (WORKER, "nvidia-driver-daemonset", "nvidia-container-toolkit-daemonset"):
            pod["runtimeClassName"] = "nvidia"
        self.daemonset_with_pods(OPERATOR, name, labels, pod, owned=name != WORKER)

    def _dra_driver(self, selector: dict[str, str], tolerations: list[Object]) -> None:
        pod = {
            "nodeSelector": selector,
            "tolerations": tolerations,
            "containers": [{"name": "gpus", "image": "dra:v0.4.1"}],
        }
        name = "dra-driver-nvidia-gpu-kubelet-plugin"
        self.daemonset_with_pods("nvidia-dra-driver-gpu", name, {}, pod, owned=False)

    def daemonset_with_pods(
        self, namespace: str, name: str, labels: dict[str, str], pod: Object, *, owned: bool
    ) -> None:
        """A DaemonSet and its pods, Ready on every node whose labels its selector wants."""
        wanted = pod.get("nodeSelector", {})
        nodes = [
            node["metadata"]["name"]
            for node in self.objects
            if node["kind"] == "Node" and wanted.items() <= node["metadata"]["labels"].items()
        ]
        count = len(nodes)
        owner = {"apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "name": "cluster-policy", "controller": True}
        self.objects.append(
            made(
                "apps/v1", "DaemonSet", name, namespace, labels=labels, owners=[owner] if owned else [],
                spec={"template": {"metadata": {"labels": labels}, "spec": pod}},
                status={
                    "desiredNumberScheduled": count, "currentNumberScheduled": count, "numberAvailable": count,
                    "observedGeneration": 1,
                },
            )
        )  # fmt: skip
        self.objects += [pod_on(node, name, namespace, labels, pod) for node in nodes]


class Outcome:
    """How a requirement ended: its findings, and what it raised."""

    def __init__(self, judge: Judge, ended: Exception | None) -> None:
        self.judge = judge
        self.ended = ended or judge.nothing_judged()

    @property
    def passed(self) -> bool:
        return self.ended is None and bool(self.judge.findings) and not self.judge.broken

    @property
    def broken(self) -> dict[str, str]:
        """By subject: everything that the broken finding says."""
        return {
            str(each.subject): " | ".join((each.actual, each.cause, each.hidden_because, each.remedy))
            for each in self.judge.broken
        }

    @property
    def subjects(self) -> list[str]:
        return [str(each.subject) for each in self.judge.findings]


def made(
    version: str, kind: str, name: str, namespace: str = "", *, labels: Any = None, owners: Any = (), **more: Any
) -> Object:
    metadata: Object = {"name": name, "labels": dict(labels or {}), "creationTimestamp": LONG_AGO}
    if namespace:
        metadata["namespace"] = namespace
    if owners:
        metadata["ownerReferences"] = list(owners)
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def crd(plural: str, kind: str) -> Object:
    spec = {"group": "nvidia.com", "names": {"kind": kind, "plural": plural}}
    return made("apiextensions.k8s.io/v1", "CustomResourceDefinition", f"{plural}.nvidia.com", spec=spec)


def container_of(operand: str, image: str) -> Object:
    name = {
        "nvidia-device-plugin-daemonset": "nvidia-device-plugin",
        "nvidia-driver-daemonset": "nvidia-driver-ctr",
    }.get(operand, operand)
    return {"name": name, "image": image, "securityContext": {"privileged": operand != WORKER}}


def _add(harvest: Harvest, raw: bytes) -> None:
    key = harvest.kind.name, raw
    if key in _READ:
        harvest.facts.append(_READ[key])
        return
    harvest.add_raw(raw)
    if not harvest.odd:
        if len(_READ) >= _MOST_READ:
            _READ.clear()
        _READ[key] = harvest.facts[-1]


def deployment(name: str, image: str, labels: Any = None) -> Object:
    return made(
        "apps/v1", "Deployment", name, OPERATOR, labels=labels,
        spec={"replicas": 1, "template": {"spec": {"containers": [{"name": name, "image": image}]}}},
        status={"observedGeneration": 1, "availableReplicas": 1},
    )  # fmt: skip


def pod_on(node: str, owner: str, namespace: str, labels: dict[str, str], spec: Object) -> Object:
    statuses = [
        {"name": each["name"], "ready": True, "restartCount": 0, "state": {"running": {"startedAt": LONG_AGO}}}
        for each in spec["containers"]
    ]
    return made(
        "v1", "Pod", f"{owner}-{node}", namespace, labels=labels,
        owners=[{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": owner, "controller": True}],
        spec={**copied(spec), "nodeName": node},
        status={
            "phase": "Running", "startTime": LONG_AGO, "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": statuses,
        },
    )  # fmt: skip


def unready(pod: Object, *, init: str = "", reason: str = "PodInitializing", restarts: int = 0) -> None:
    """Let a pod be there and not Ready: its first container waits, or an init container of that name."""
    status = pod["status"]
    status["conditions"] = [{"type": "Ready", "status": "False"}]
    first = {**status["containerStatuses"][0], "ready": False, "state": {"waiting": {"reason": "PodInitializing"}}}
    waiting = {"name": init, "ready": False, "restartCount": restarts, "state": {"waiting": {"reason": reason}}}
    if init:
        status["initContainerStatuses"] = [waiting]
        status["containerStatuses"] = [first]
    else:
        state = {"waiting": {"reason": reason}}
        status["containerStatuses"] = [{**first, "restartCount": restarts, "state": state}]
