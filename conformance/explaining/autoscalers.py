"""What an autoscaler says of a pod that no node takes: why it adds none, or which request its nodes are made for.

Sources: kubernetes/autoscaler, cluster-autoscaler/processors/status/eventing_scale_up_processor.go (NotTriggerScaleUp,
a normal event) and FailedScaleUp of GKE's (cloud.google.com, Troubleshoot cluster autoscaler not scaling up);
kubernetes-sigs/karpenter, pkg/controllers/provisioning/scheduling/events.go (FailedScheduling by karpenter);
kubernetes/autoscaler, cluster-autoscaler/apis/provisioningrequest/autoscaling.x-k8s.io/v1/types.go (annotations of pods
that consume a ProvisioningRequest), and cloud.google.com, GKE: flex-start with queued provisioning.
"""

from conformance.explaining.seen import Seen, reporters_of
from conformance.facts.kinds import NOT_SCALED_UP
from conformance.gpu.placement import Manifest

_COMPONENTS = ("karpenter", "cluster-autoscaler")
_REASONS = (NOT_SCALED_UP, "FailedScaleUp")
_REQUEST = (
    "autoscaling.x-k8s.io/consume-provisioning-request",
    "cluster-autoscaler.kubernetes.io/consume-provisioning-request",
)
_MOST = 400
"""Karpenter tells why each of its node pools is none for the pod."""


def words_about(seen: Seen, pod: Manifest) -> str:
    """The newest words of an autoscaler about a pod, to be read behind a cause; empty where none said anything."""
    for event in seen.warnings_of(pod):
        component = next(iter(reporters_of(event)), "")
        if component in _COMPONENTS or event.get("reason") in _REASONS:
            said = " ".join(str(event.get("message")).split())
            return (
                f"; the autoscaler ({component or event['reason']}) says: {said[:_MOST]}{'...' * (len(said) > _MOST)}"
            )
    return ""


def provisioning_of(pod: Manifest) -> tuple[str, str]:
    """That a pod waits for the nodes of a ProvisioningRequest, and where that stands; empty for other pods."""
    metadata = pod["metadata"]
    annotations = metadata.get("annotations") or {}
    request = next((annotations[key] for key in _REQUEST if annotations.get(key)), "")
    if not request:
        return "", ""
    command = f"kubectl describe provisioningrequest {request} -n {metadata.get('namespace') or 'default'}"
    return (
        f"it waits for the nodes of ProvisioningRequest {request}",
        f"Nothing is broken while the request is queued: {command} says how it stands (Provisioned). Make a new one "
        "where it has failed or its booking has expired (Failed, BookingExpired, CapacityRevoked).",
    )
