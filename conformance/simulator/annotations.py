"""What the simulator leaves on pods and nodes: what was given to whom, so that it may be restarted at any time.

Those that drive the simulated kubelets' stages stand in conformance.clusters.embedded.annotations, which the simulator
cannot import; a test compares the copies.
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

MIG_GEOMETRY = f"{DOMAIN}/mig-geometry"
"""On nodes: JSON ``{GPU index: {profile: count}}`` of the GPUs that have MIG on."""

EXIT_CODE = f"{DOMAIN}/exit-code"
RUN_SECONDS = f"{DOMAIN}/run-seconds"
BACKOFF_SECONDS = f"{DOMAIN}/backoff-seconds"
STOP_SECONDS = f"{DOMAIN}/stop-seconds"
WAITING_REASON = f"{DOMAIN}/waiting-reason"
HELD = f"{DOMAIN}/held"
NOT_READY = f"{DOMAIN}/not-ready"

SIMULATED = "kwok.x-k8s.io/node"
"""On nodes: who plays the kubelet. With the value ``fake`` it is KWOK, and we are its device manager."""

SIMULATED_VALUE = "fake"


class Allocation(msgspec.Struct, frozen=True, omit_defaults=True):
    """The devices of a pod by container: ids as the kubelet counts them, UUIDs as the container sees them.

    Two shares of one GPU are two ids and one UUID.
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
