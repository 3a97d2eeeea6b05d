"""Conditions by which health agents say that a node, or its GPUs, are broken.

Kubernetes has no condition for GPUs; each agent brings its own. Sources: the EKS node monitoring agent
(AcceleratedHardwareReady; docs.aws.amazon.com: Node health and auto repair), NVIDIA/NVSentinel (GpuXidError,
SysLogsXIDError, SysLogsGPUFallenOff and their kin, True when the check failed), the GPU checks of AKS' node problem
detector (learn.microsoft.com: GPU health monitoring in AKS: GPUMissing, NVLinkStatusInactive, XIDErrors,
IBLinkFlapping).
Of the node itself: kubernetes/node-problem-detector, config/ (its permanent problems and health checkers), and the EKS
node monitoring agent (KernelReady, NetworkingReady, StorageReady, ContainerRuntimeReady).
"""

import re
from collections.abc import Mapping

# A word anywhere in the type: agents put the place that they look at before it (SysLogs), or a maker.
_ABOUT_GPUS = re.compile(
    r"GPU|Gpu|^gpu|XID|Xid|^xid|N[Vv][Ll]ink|N[Vv]LINK|N[Vv][Ss]witch|N[Vv]SWITCH|AcceleratedHardware|DCGM|Dcgm|^IBLink"
)
_HEALTH = re.compile(
    r"(?<!Not)(Ready|Healthy|Health|Available|Operational|Functional|Working|Pass(ed)?|Succeeded|Valid(ated)?|OK|Ok)$"
)
# What such a condition tells is how a node is set up, and neither value of it is a failure.
_SETTING = re.compile(
    r"(Enabled|Disabled|Installed|Present|Active|Initialized|Configured|Attached|Added|Online|Allocatable|Complete(d)?"
    r"|Connected|Exists|InService|Managed|Matches|Registered|Running|Supported|Up|UpToDate)$"
)

_BROKEN_NODE = frozenset(
    {
        ("KernelDeadlock", "True"),
        ("XfsShutdown", "True"),
        ("ReadonlyFilesystem", "True"),
        ("CorruptDockerOverlay2", "True"),
        ("KubeletUnhealthy", "True"),
        ("ContainerRuntimeUnhealthy", "True"),
        ("FrequentKubeletRestart", "True"),
        ("FrequentContainerdRestart", "True"),
        ("FrequentDockerRestart", "True"),
        ("FrequentUnregisterNetDevice", "True"),
        ("KernelReady", "False"),
        ("NetworkingReady", "False"),
        ("StorageReady", "False"),
        ("ContainerRuntimeReady", "False"),
    }
)


def broken_conditions(conditions: Mapping[str, str]) -> tuple[str, ...]:
    """The conditions (type by status) that say that GPUs are broken, as ``type=status``, sorted."""
    return tuple(sorted(f"{kind}={status}" for kind, status in conditions.items() if _is_bad(kind, status)))


def broken_node_conditions(conditions: Mapping[str, str]) -> tuple[str, ...]:
    """The conditions (type by status) that say that the node itself is broken, as ``type=status``, sorted."""
    return tuple(sorted(f"{kind}={status}" for kind, status in conditions.items() if (kind, status) in _BROKEN_NODE))


def _is_bad(kind: str, status: str) -> bool:
    if _ABOUT_GPUS.search(kind) is None or _SETTING.search(kind):
        return False
    return status == ("False" if _HEALTH.search(kind) else "True")
