"""Conditions by which health agents say that a node, or its GPUs, are broken.

Kubernetes has no condition for GPUs, and no rule says whether True is good news: each agent brings its own. So a
condition is good or bad by what is known of it, in this order: what the owners declare, the agents' own lists, a word
in its name that says what it tells (Error, Missing; Healthy, Ready). Of any other the nodes of a fleet tell, where they
agree.
Sources: the EKS node monitoring agent (AcceleratedHardwareReady; docs.aws.amazon.com: Node health and auto repair),
NVIDIA/NVSentinel (GpuThermalWatch and its kin, SysLogsXIDError, SysLogsGPUFallenOff: True when the check failed,
platform-connectors/pkg/connectors/kubernetes), AKS' node problem detector (learn.microsoft.com: NPD in AKS nodes:
GPUMissing, NVLinkStatusInactive, XIDErrors, IBLinkFlapping, UnhealthyNvidiaDevicePlugin), OKE's
(oracle-quickstart/oci-hpc-oke, docs/running-gpu-rdma-healthchecks-with-node-problem-detector.md: GpuCount, RdmaLink),
gpu-operator pull request 2573 and DigitalOcean's node readiness controller (nvidia.com/GPUReady).
Of the node itself: kubernetes/node-problem-detector, config/ (its permanent problems and health checkers), AKS' list
(as above), and the EKS node monitoring agent (KernelReady, NetworkingReady, StorageReady, ContainerRuntimeReady).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal

Meaning = Literal["good", "bad", "none", "unknown"]
"""What a condition tells while it is True; ``none`` where neither status is a failure."""

# A word anywhere in the type: agents put the place that they look at before it (SysLogs), or a maker.
_ABOUT_GPUS = re.compile(
    r"GPU|Gpu|^gpu|XID|Xid|^xid|N[Vv][Ll]ink|N[Vv]LINK|N[Vv][Ss]witch|N[Vv]SWITCH|AcceleratedHardware|D[Cc][Gg][Mm]"
    r"|N[Vv][Ii][Dd][Ii][Aa]|^IBLink|^Rdma"
)
# Checks of node problem detectors and of NVSentinel that are named after what they look at: True when it is not well.
_CHECKS_THAT_FAIL = re.compile(
    r"^(Gpu(BadPages|Bus|Count|Ecc|FabricMgr|Imex|Pcie|RowRemap|Xid)|DcgmiHealth|NvlinkSpeed"
    r"|Rdma(Link|LinkFlapping|Rttcc|VfCounters|VfRoutes|WpaAuth)|Gpu\w*Watch)$"
)
_PROBLEM = re.compile(
    r"Xid|XID|xid|SXid|Error|Errors|Fail|Fault|Fallen|Missing|Lost|Gone|Broken|Bad|Unhealthy|Inactive|Flapping|Degraded"
    r"|Down$|Dead|Hang|Hung|Stuck|Corrupt|Lockup|Throttl|Overheat|Violation|Exceeded|Timeout|Timed|Mismatch|Problem"
    r"|Issue|Incident|Unavailable|Unreachable|Unreadable|Unknown|Not(?=[A-Z])|NeedsReset|ResetRequired|RebootRequired"
)
_DENIED = re.compile(r"(No|Without|Zero)(?=[A-Z])|(Free|Absent|Cleared|Resolved)$")
_HEALTH = re.compile(
    r"(Ready|Healthy|Health|Available|Operational|Functional|Working|Pass(ed)?|Succeeded|Valid(ated)?|OK|Ok)$"
)
# What such a condition tells is how a node is set up, and neither value of it is a failure: whatever it is about, or
# where no word says that it is about a problem.
_SETTING = re.compile(
    r"(?<!Not)(Enabled|Disabled|Installed|Initialized|Configured|Attached|Added|Complete(d)?|InService|Managed|Matches"
    r"|Registered|Running|Supported|UpToDate)$"
)
_STATE = re.compile(
    r"((^|/)(Has|Is|Uses|Supports|Wants)(?=[A-Z]))|(Present|Active|Online|Allocatable|Connected|Exists|Up)$"
)

_BROKEN_NODE = frozenset(
    {
        ("KernelDeadlock", "True"),
        ("XfsShutdown", "True"),
        ("ReadonlyFilesystem", "True"),
        ("FilesystemCorruptionProblem", "True"),
        ("CorruptDockerOverlay2", "True"),
        ("KubeletProblem", "True"),
        ("KubeletUnhealthy", "True"),
        ("ContainerRuntimeProblem", "True"),
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


def broken_conditions(conditions: Mapping[str, str], healthy: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The conditions (type by status) that say that GPUs are broken, as ``type=status``, sorted.

    ``healthy`` has the status of conditions on a node that is well, by type: what it names is judged by that alone.
    """
    declared = healthy or {}
    return tuple(sorted(f"{kind}={status}" for kind, status in conditions.items() if _is_bad(kind, status, declared)))


def usual_statuses(fleet: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The status that more than half of the nodes of a fleet have, of each condition of unknown meaning.

    Only types that several nodes carry are there: what a single node says is usual for nobody.
    """
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for conditions in fleet:
        for kind, status in conditions.items():
            if meaning_of(kind) == "unknown":
                found[kind][status] += 1
    common = {kind: counts.most_common(1)[0] for kind, counts in found.items() if counts.total() > 1}
    return {kind: status for kind, (status, count) in common.items() if 2 * count > found[kind].total()}


def open_conditions(
    conditions: Mapping[str, str], usual: Mapping[str, str], healthy: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """The conditions of which nobody knows whether they say that GPUs are broken, as ``type=status``, sorted.

    Those are of unknown meaning and other than the fleet's; where a fleet tells nothing, other than False, which is
    what a node problem detector says while it has no problem to tell.
    """
    return tuple(
        sorted(
            f"{kind}={status}"
            for kind, status in conditions.items()
            if kind not in (healthy or {})
            and meaning_of(kind) == "unknown"
            and status in ("True", "False")
            and status != usual.get(kind, "False")
        )
    )


def broken_node_conditions(conditions: Mapping[str, str]) -> tuple[str, ...]:
    """The conditions (type by status) that say that the node itself is broken, as ``type=status``, sorted."""
    return tuple(sorted(f"{kind}={status}" for kind, status in conditions.items() if (kind, status) in _BROKEN_NODE))


# Thousands of nodes have the same few conditions.
@lru_cache(maxsize=1024)
def meaning_of(kind: str) -> Meaning:
    """What a condition of this type tells of GPUs while it is True; ``none`` for one that is not about GPUs."""
    if _CHECKS_THAT_FAIL.search(kind):
        return "bad"
    if not _ABOUT_GPUS.search(kind) or _SETTING.search(kind):
        return "none"
    if _PROBLEM.search(kind):
        return "good" if _DENIED.search(kind) else "bad"
    if _STATE.search(kind):
        return "none"
    return "good" if _HEALTH.search(kind) else "unknown"


def _is_bad(kind: str, status: str, healthy: Mapping[str, str]) -> bool:
    if kind in healthy:
        return status in ("True", "False") and status != healthy[kind]
    return status == {"good": "False", "bad": "True"}.get(meaning_of(kind))
