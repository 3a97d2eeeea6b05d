"""What the simulator leaves on pods and nodes: what was given to whom, so that it may be restarted at any time.

Those that drive the simulated kubelets' stages are defined here, too: clusters may import the simulator, not the other
way round (conformance/clusters/embedded/annotations.py).
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from conformance.kube.names import DOMAIN

DEVICES = f"{DOMAIN}/devices"
"""On pods: JSON of an Allocation. A pod that was given nothing has none."""

ADMITTED = f"{DOMAIN}/admitted"
"""On pods that ask for nvidia.com/*: ``true`` once the kubelet has given them their devices; they start only then."""

PREPARED = f"{DOMAIN}/prepared"
"""On pods with claims: ``true`` once the plugin of the DRA driver has prepared them; they start only then."""

OFFERED = f"{DOMAIN}/offered"
"""On nodes with a real kubelet: JSON of devices.Offered, what a deployed stack's plugin offers there."""

CLAIMED = f"{DOMAIN}/claimed"
"""On nodes with a real kubelet: JSON of devices.Claimed, while a deployed DRA driver works there."""

MIG_GEOMETRY = f"{DOMAIN}/mig-geometry"
"""On nodes: JSON ``{GPU index: {profile: count}}`` of the GPUs that have MIG on."""

EXIT_CODE = f"{DOMAIN}/exit-code"
"""The containers end with this code, after RUN_SECONDS. Without it they run for ever, those of Jobs included."""

RUN_SECONDS = f"{DOMAIN}/run-seconds"
"""How long the containers run before they end (default 0), counted from the start, to the second."""

BACKOFF_SECONDS = f"{DOMAIN}/backoff-seconds"
"""The pause before a second restart (default 10, as the kubelet's); it doubles each time, up to 300."""

STOP_SECONDS = f"{DOMAIN}/stop-seconds"
"""How long the containers take to end once told to (default: until they are killed when the grace period is over)."""

WAITING_REASON = f"{DOMAIN}/waiting-reason"
"""The containers never start, for this reason, such as ImagePullBackOff; take the annotation away and they start."""

HELD = f"{DOMAIN}/held"
"""The containers do not start as long as this is there; the pod's status is left to whoever holds it."""

NOT_READY = f"{DOMAIN}/not-ready"
"""On nodes: the node is not ready, and this is the message; ``unreachable`` makes its state unknown instead."""

TELLING = f"{DOMAIN}/telling"
"""On KWOK's rules for logs and forwarded ports: how often KWOK was told of the rule again, each time by a change.

KWOK may keep a list of rules of before for as long as none changes: it takes the newest version that it has heard of
for that of the list, which may lag behind (sigs.k8s.io/kwok v0.8.0, pkg/config/resources, cache.go and dynamic.go; seen
with several pods that run at once, for up to two minutes).
"""

SIMULATED = "kwok.x-k8s.io/node"
"""On nodes: who plays the kubelet. With the value ``fake`` it is KWOK, and we are its device manager."""

SIMULATED_VALUE = "fake"


class Allocation(msgspec.Struct, frozen=True, omit_defaults=True):
    """The devices of a pod by container: ids as the kubelet counts them, UUIDs as the container sees them.

    Two replicas of one GPU are two ids and one UUID.
    """

    devices: dict[str, list[str]] = {}
    uuids: dict[str, list[str]] = {}

    @property
    def ids(self) -> frozenset[str]:
        """All ids, of whichever container."""
        return frozenset(each for ids in self.devices.values() for each in ids)


# Made before any thread needs it; see kube/client.py.
_ALLOCATIONS = msgspec.json.Decoder(Allocation)


def allocation_of(pod: Mapping[str, Any]) -> Allocation:
    """What a pod was given; nothing for one without devices or with an annotation that is none of ours."""
    text = annotation(pod, DEVICES)
    try:
        return _ALLOCATIONS.decode(text) if text else Allocation()
    except (msgspec.ValidationError, msgspec.DecodeError):
        return Allocation()


def annotation(obj: Mapping[str, Any], name: str) -> str:
    """The value of an annotation; empty without it."""
    return str((obj["metadata"].get("annotations") or {}).get(name) or "")
