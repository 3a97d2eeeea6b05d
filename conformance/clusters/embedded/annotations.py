"""What a manifest can tell the simulated kubelets. The stages of the folder ``stages`` read these.

On pods, to say what their containers do:
"""

from conformance.kube.names import DOMAIN

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

UNREACHABLE = "unreachable"
