"""What an autoscaler says of a pod that no node takes: why it adds none.

Sources: kubernetes/autoscaler, cluster-autoscaler/processors/status/eventing_scale_up_processor.go (NotTriggerScaleUp,
a normal event) and FailedScaleUp of GKE's (cloud.google.com, Troubleshoot cluster autoscaler not scaling up);
kubernetes-sigs/karpenter, pkg/controllers/provisioning/scheduling/events.go (FailedScheduling by karpenter).
"""

from conformance.explaining.seen import Seen, reporters_of
from conformance.facts.kinds import NOT_SCALED_UP
from conformance.gpu.placement import Manifest

_COMPONENTS = ("karpenter", "cluster-autoscaler")
_REASONS = (NOT_SCALED_UP, "FailedScaleUp")
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
