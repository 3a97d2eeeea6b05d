"""Pods that have a node and devices, and do not start there: what their kubelet waits for.

A kubelet mounts the volumes of a pod, lets the DRA drivers prepare its claims, makes the sandbox and then pulls images.
A pod without sandbox has devices that nobody else gets, and does nothing with them.
Sources: kubernetes/kubernetes, pkg/kubelet (SyncPod, PrepareDynamicResources) and KEP-3085 (PodReadyToStartContainers);
kubernetes-sigs/dra-driver-nvidia-gpu issue 1278 and cmd/gpu-kubelet-plugin/device_state.go.
"""

from collections.abc import Iterator
from datetime import timedelta

from conformance.facts import Facts, Node, Pod, Resource
from conformance.gpu.resources import DRA_DRIVER
from conformance.verdict import Waits
from suites._shared.grace import STARTING, why_unavailable
from suites.dra.device_claims import Claimed, gpu_claims, is_old, reserved_for
from suites.dra.dra_nodes import plugin_failure

_PULLING_MAY_TAKE = timedelta(hours=1)
"""How long a pod may start of which no condition says whether images are pulled already."""

_WAIT_FOR_OTHERS = ("persistentVolumeClaim", "ephemeral", "csi", "configMap", "secret", "nfs", "projected")
"""Volumes without which a kubelet does not come to the claims of a pod."""
_COMPUTE_DOMAINS = "compute-domain.nvidia.com"


def never_started(facts: Facts) -> Iterator[tuple[Claimed, Node]]:
    """The pods with allocated claims of GPUs that their node should have started, each with one claim and the node."""
    seen: set[tuple[str, str]] = set()
    for claim in gpu_claims(facts):
        users = reserved_for(claim) if claim.status.get("allocation") else []
        for name in users:
            pod, key = facts.pod(claim.namespace, name), (claim.namespace, name)
            node = facts.node(pod.node) if pod is not None else None
            if pod is not None and node is not None and key not in seen and _hangs(pod, facts):
                seen.add(key)
                yield Claimed(claim, pod), node


def _hangs(pod: Pod, facts: Facts) -> bool:
    if pod.finished or pod.deleting or pod.has_sandbox or pod.phase != "Pending":
        return False
    has_started = any(each.running_since or each.terminated or each.last_terminated for each in pod.statuses)
    takes = STARTING if pod.has_sandbox is False else _PULLING_MAY_TAKE
    only_creating = all(each.waiting in ("", "ContainerCreating", "PodInitializing") for each in pod.statuses)
    return not has_started and only_creating and is_old(pod.started or pod.created, facts.taken_at, takes)


def why_not_told_here(hanging: Claimed, node: Node, facts: Facts) -> str | Waits:
    """What else keeps a pod from starting, where another requirement tells it or time will; empty for nothing."""
    if passing := why_unavailable(node, facts):
        return passing
    if plugin_failure(facts, node) is not None:
        return Waits("the kubelet plugin of its node is not Ready", on="DRA-02")
    if _COMPUTE_DOMAINS in _drivers_of(hanging.pod, facts):
        return Waits("it waits for its ComputeDomain as well", on="DRA-18")
    return ""


def why_it_hangs(hanging: Claimed, node: Node, facts: Facts) -> str:
    """What its kubelet waits for, as far as objects tell."""
    others = sorted(set(_drivers_of(hanging.pod, facts)) - {DRA_DRIVER})
    drivers = " and ".join((DRA_DRIVER, *others))
    claims = f"{drivers} {'have' if others else 'has'} not prepared the devices of {hanging.claim} on {node.name}"
    volumes = [each.name for each in hanging.pod.volumes if _may_be_missing(each.kind, each.name)]
    instead = [
        *([f"volume {volumes[0]} is not there"] if volumes else ()),
        *(["the pod network does not work there"] if not _has_started_another(node, hanging.pod, facts) else ()),
        *(["its image is still being pulled"] if hanging.pod.has_sandbox is None else ()),
    ]
    return ", or ".join([claims, *instead])


def _has_started_another(node: Node, pod: Pod, facts: Facts) -> bool:
    """Whether a node has started a container of another pod since it took up this one."""
    since = pod.started or pod.created
    others = (status for each in facts.pods_on(node.name) if each != pod for status in each.statuses)
    return any(each.running_since and since and each.running_since > since for each in others)


def _may_be_missing(kind: str, name: str) -> bool:
    return kind in _WAIT_FOR_OTHERS and not name.startswith("kube-api-access-")


def _drivers_of(pod: Pod, facts: Facts) -> list[str]:
    """The drivers whose devices the claims of a pod have."""
    return [driver for claim in _claims_of(pod, facts) for driver in _drivers_in(claim)]


def _claims_of(pod: Pod, facts: Facts) -> Iterator[Resource]:
    for claim in facts.resource_claims:
        if claim.namespace == pod.namespace and pod.name in reserved_for(claim):
            yield claim


def _drivers_in(claim: Resource) -> list[str]:
    results = ((claim.status.get("allocation") or {}).get("devices") or {}).get("results") or ()
    return list(dict.fromkeys(str(each.get("driver")) for each in results))
