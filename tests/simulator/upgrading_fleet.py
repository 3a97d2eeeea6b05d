"""Three nodes whose drivers are upgraded: what tests of that put there, and where each node stands."""

from typing import Any

from operated import Operated, is_ready
from patience import PATIENCE

from conformance.kube.errors import NotFound
from conformance.kube.waits import wait_for

STATE = "nvidia.com/gpu-driver-upgrade-state"
GPU_NODES = ("a100-1", "a100-2", "a100-3")
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
AGENTS = "/apis/apps/v1/namespaces/default/daemonsets"
QUOTAS = "/api/v1/namespaces/gpu-operator/resourcequotas"
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
JOBS = "/apis/batch/v1/namespaces/default/jobs"


def pod(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "busybox", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": "a100-1"},
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            **spec,
        },
    }


def run(fleet: Operated, obj: dict[str, Any], collection: str) -> None:
    fleet.client.create(collection, obj)


def ready(fleet: Operated, count: int) -> None:
    wait_for(
        lambda: sum(is_ready(each) for each in fleet.client.list("/api/v1/namespaces/default/pods")),
        lambda found: found == count,
        what=f"{count} pods are ready",
        timeout=PATIENCE,
    )


def gone(fleet: Operated, path: str) -> None:
    try:
        fleet.client.delete(path, grace_seconds=0)
    except NotFound:
        return


def state(fleet: Operated, node: str) -> str:
    return str(fleet.labels(node).get(STATE, ""))


def is_at(fleet: Operated, node: str, wanted: set[str]) -> None:
    wait_for(lambda: state(fleet, node), lambda found: found in wanted, what=f"{node} is {wanted}", timeout=PATIENCE)
