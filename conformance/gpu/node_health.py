"""Conditions by which health agents say that the GPUs of a node are broken.

Kubernetes has no condition for GPUs; each agent brings its own. Sources: the EKS node monitoring agent
(AcceleratedHardwareReady; docs.aws.amazon.com: Node health and auto repair), NVIDIA/NVSentinel (GpuXidError and its
kin, True when the check failed), the GPU checks of AKS' node problem detector (learn.microsoft.com: GPU health
monitoring in AKS: GPUMissing, NVLinkStatusInactive, XIDErrors).
"""

import re
from collections.abc import Mapping

_ABOUT_GPUS = re.compile(r"(?i)(gpu|xid|sxid|nvlink|nvswitch|acceleratedhardware)\w*")
_GOOD_WHEN_TRUE = ("Ready", "Healthy", "Health")


def broken_conditions(conditions: Mapping[str, str]) -> tuple[str, ...]:
    """The conditions (type by status) that say that GPUs are broken, as ``type=status``, sorted."""
    return tuple(sorted(f"{kind}={status}" for kind, status in conditions.items() if _is_bad(kind, status)))


def _is_bad(kind: str, status: str) -> bool:
    if _ABOUT_GPUS.match(kind) is None:
        return False
    return status == ("False" if kind.endswith(_GOOD_WHEN_TRUE) else "True")
