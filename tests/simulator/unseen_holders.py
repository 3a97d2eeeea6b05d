"""Users of GPUs that the operator does not see, or knows by a claim: they keep a driver from being unloaded."""

from typing import Any

from operated import Operated
from upgrading_fleet import AGENTS, CLAIMS, pod, ready, run

from conformance.simulator.annotations import PREPARED
from conformance.simulator.device_holders import OPENS_DEVICES


def agent(fleet: Operated, **spec: Any) -> None:
    """A DaemonSet on one node whose program has the GPUs open that it can reach, without asking for one."""
    unasked = {**pod("agent")["spec"], "containers": [{"name": "agent", "image": "busybox"}], **spec}
    metadata = {"labels": {"app": "agent"}, "annotations": {OPENS_DEVICES: "true"}}
    daemon_set = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {"metadata": metadata, "spec": {**unasked, "terminationGracePeriodSeconds": 0}},
        },
    }
    run(fleet, daemon_set, AGENTS)
    ready(fleet, 1)


def monitored(fleet: Operated) -> None:
    agent(fleet, volumes=[{"name": "devices", "hostPath": {"path": "/dev"}}])


def privileged(fleet: Operated) -> None:
    container = {"name": "agent", "image": "busybox", "securityContext": {"privileged": True}}
    agent(fleet, containers=[container])


def shown_by_variable(fleet: Operated) -> None:
    """A service that gets all GPUs by a runtime class, without asking for one."""
    variable = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}
    spec = {
        **pod("serve")["spec"],
        "runtimeClassName": "nvidia",
        "containers": [{"name": "main", "image": "busybox", "env": [variable]}],
    }
    metadata = {"labels": {"app": "serve"}, "annotations": {OPENS_DEVICES: "true"}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "serve", "namespace": "default"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "serve"}},
            "template": {"metadata": metadata, "spec": spec},
        },
    }
    run(fleet, deployment, "/apis/apps/v1/namespaces/default/deployments")
    ready(fleet, 1)


def of_mps(fleet: Operated) -> None:
    """The MPS control daemon of a device plugin that somebody has installed beside the operator."""
    container = {"name": "mps-control-daemon-ctr", "image": "busybox", "securityContext": {"privileged": True}}
    agent(fleet, containers=[container])


def claimed(fleet: Operated, *, admin: bool) -> None:
    """A claim that has the first GPU of a node, or looks at it."""
    fleet.client.patch(
        "/api/v1/namespaces/default", {"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}}
    )
    access = {"adminAccess": True} if admin else {}
    exactly = {"deviceClassName": "gpu.nvidia.com", "allocationMode": "ExactCount", "count": 1, **access}
    claim = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "gpu", "namespace": "default"},
        "spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}},
    }
    run(fleet, claim, CLAIMS)
    result = {"request": "gpu", "driver": "gpu.nvidia.com", "pool": "a100-1", "device": "gpu-0", **access}
    fleet.client.patch(f"{CLAIMS}/gpu/status", {"status": {"allocation": {"devices": {"results": [result]}}}})


BY_CLAIM = {
    "nodeName": "a100-1",
    "resourceClaims": [{"name": "gpu", "resourceClaimName": "gpu"}],
    "containers": [{"name": "main", "image": "busybox", "resources": {"claims": [{"name": "gpu"}]}}],
}


def watched_by_claim(fleet: Operated) -> None:
    claimed(fleet, admin=True)
    with_claim(fleet, "watch", **{OPENS_DEVICES: "true"})


def bare_by_claim(fleet: Operated) -> None:
    claimed(fleet, admin=False)
    with_claim(fleet, "job")


def with_claim(fleet: Operated, name: str, **annotations: str) -> None:
    """A pod with that claim, placed and prepared: no DRA driver runs here."""
    body = pod(name, **BY_CLAIM)
    body["metadata"]["annotations"] = {PREPARED: "true", **annotations}
    run(fleet, body, "/api/v1/namespaces/default/pods")
    ready(fleet, 1)
