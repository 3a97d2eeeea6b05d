"""Pods that a kubelet refused after the scheduler had placed them there: why, and what helps.

The reason of such a pod says that its kubelet refused it, the message by what: the words are those of the kubelet's
device manager and of NVIDIA's device plugin, which have not changed for years; where they are others the reason alone
is told.
Sources: kubernetes: pkg/kubelet/lifecycle (OutOf<resource>, UnexpectedAdmissionError), pkg/kubelet/cm/devicemanager
(manager.go), issues 84869, 97131, 125579, 130145; NVIDIA/k8s-device-plugin: internal/rm (rm.go: ValidateRequest,
allocate.go), issues 231, 1223, 1397, 2038.
"""

import re
from typing import NamedTuple

from conformance.catalog import Owner
from conformance.facts import Pod

TOPOLOGY_REFUSAL = "TopologyAffinityError"
DEVICE_REFUSAL = "UnexpectedAdmissionError"
_OUT_OF = "OutOf"


class Refusal(NamedTuple):
    """Why a kubelet refused a pod, and what helps; ``remedy`` is empty where the requirement's own says it."""

    cause: str
    remedy: str = ""
    owner: Owner = Owner.UNKNOWN


_DEVICES = Refusal(
    "its kubelet and the device plugin did not allocate the devices that the scheduler had counted as free"
)
_OF_ONE_NODE = Refusal(
    "the free devices were on several NUMA nodes, and the kubelet's policy wants them on one",
    # The policy is the node's, and how many devices a pod wants on one NUMA node is the pod's.
    owner=Owner.BOTH,
)
# The words of a message, and what they say; the first that is found counts.
_BY_MESSAGE = (
    (
        r"maximum request size for shared resources is",
        Refusal(
            "it requests more than one replica of a shared GPU, and the sharing of the node refuses that "
            "(failRequestsGreaterThanOne)",
            "Request one replica: several may be of the same GPU, and give no larger share of it. Then delete the "
            "failed pod.",
            Owner.WORKLOAD,
        ),
    ),
    (
        r"error calling nvml\.Init|NVML: Unknown Error|Uninitialized",
        Refusal(
            "the device plugin of the node cannot reach the driver any more (NVML), while it still offers its GPUs",
            "Delete the device plugin's pod on the node, so that it starts anew, then the failed pods; where the next "
            "one fails alike, look at the driver of the node.",
            Owner.PLATFORM,
        ),
    ),
    (
        r"GPU is lost|GetPreferredAllocation",
        Refusal(
            "the device plugin cannot read all GPUs of the node: one that is lost (XID 79) keeps it from giving out "
            "the others, which the node still offers",
            "Cordon the node, or each pod that comes there is refused; let its jobs end and restart it. Then delete "
            "the failed pods; where the GPU is lost again, it has to be replaced.",
            Owner.PLATFORM,
        ),
    ),
    (
        r"no healthy devices present|cannot allocate unhealthy devices|unregistered device",
        Refusal(
            "when its kubelet looked, the device plugin had registered no healthy device, as after a restart of the "
            "node or of the kubelet",
            "Delete the failed pod; a controller makes another one, a bare pod has to be created again. Where the node "
            "offers no GPU still, follow POOL-04.",
        ),
    ),
    (
        r"requested number of devices unavailable",
        Refusal(
            "its kubelet counted fewer devices as free than the scheduler: devices of pods that are gone may still be "
            "counted as taken, as after a deletion by force",
            "Delete the failed pod. Where more pods are refused on a node that offers free devices, restart its "
            "kubelet.",
            Owner.PLATFORM,
        ),
    ),
)


def refusal_of(pod: Pod) -> Refusal | None:
    """Why its kubelet refused a pod before any container ran; None when it did not."""
    if pod.phase != "Failed":
        return None
    if pod.reason.startswith(_OUT_OF):
        return _out_of(pod.reason.removeprefix(_OUT_OF))
    if pod.reason == TOPOLOGY_REFUSAL:
        return _OF_ONE_NODE
    if pod.reason != DEVICE_REFUSAL:
        return None
    told = (refusal for words, refusal in _BY_MESSAGE if re.search(words, pod.message, re.IGNORECASE))
    return next(told, _DEVICES)


def _out_of(resource: str) -> Refusal:
    """A node that had less of a resource than the scheduler believed; the resource need not be a device."""
    if "/" in resource:
        return Refusal("its kubelet had fewer devices to allocate than the scheduler had counted as free")
    return Refusal(
        f"its node had less {resource} left than the scheduler had counted as free; GPUs are not the reason",
        "See what came to the node without the scheduler (static pods, pods with nodeName, a second scheduler) or at "
        "the same time; then delete the failed pod, and its controller makes another one.",
        Owner.PLATFORM,
    )
