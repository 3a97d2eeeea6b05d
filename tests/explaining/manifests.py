"""Nodes and pods as an API server has them, in few words."""

from typing import Any

Object = dict[str, Any]
TRAINING = {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}
TOLERATES = {"tolerations": [{"key": "dedicated", "operator": "Exists"}]}


def node(name: str, gpus: int = 8, *, taints: tuple[Object, ...] = (), cordoned: bool = False, **labels: str) -> Object:
    amounts = {"cpu": "64", "memory": "256Gi", "pods": "110"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}},
        "spec": {"taints": list(taints), **({"unschedulable": True} if cordoned else {})},
        "status": {"allocatable": amounts, "capacity": amounts},
    }


def pod(name: str = "train", gpus: int = 1, *, on: str = "", status: Object | None = None, **spec: Any) -> Object:
    limits = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    container = {"name": "main", "image": "registry.example.com/train:1", "resources": {"limits": limits}}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "team", "labels": {"app": name}},
        "spec": {"containers": [container], **spec, **({"nodeName": on} if on else {})},
        "status": status or {"phase": "Running" if on else "Pending"},
    }


def waiting(why: str, message: str = "", **last: Any) -> Object:
    """The status of a pod whose container waits; ``last`` is how it ended before."""
    state = {"waiting": {"reason": why, "message": message}}
    before = {"lastState": {"terminated": last}} if last else {}
    return _containers("Pending", {"state": state, "restartCount": 4, **before})


def terminated(code: int, reason: str, phase: str = "Failed", **more: Any) -> Object:
    return _containers(
        phase, {"state": {"terminated": {"exitCode": code, "reason": reason, **more}}, "restartCount": 0}
    )


def _containers(phase: str, status: Object) -> Object:
    return {
        "phase": phase,
        "containerStatuses": [{"name": "main", "image": "registry.example.com/train:1", "ready": False, **status}],
    }


def quota(hard: str, used: str) -> Object:
    key = "requests.nvidia.com/gpu"
    return {
        "kind": "ResourceQuota",
        "metadata": {"name": "gpus", "namespace": "team"},
        "spec": {"hard": {key: hard}},
        "status": {"hard": {key: hard}, "used": {key: used}},
    }


def job(pods: int = 1, gpus: int = 1, **spec: Any) -> Object:
    template = {"spec": pod(gpus=gpus)["spec"]}
    return {
        "kind": "Job",
        "metadata": {"name": "train", "namespace": "team", "uid": "job-1"},
        "spec": {"parallelism": pods, "template": template, **spec},
    }


def owned(made: Object) -> Object:
    made["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "train", "uid": "job-1"}]
    return made
