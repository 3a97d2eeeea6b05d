"""Labels by which a platform says that it holds a node to be broken, or tests it, where no condition says so.

Sources: docs.aws.amazon.com, SageMaker HyperPod, "Resilience-related Kubernetes labels" (sagemaker-hyperpod-eks-
resiliency-node-labels: the four values) and "Manually quarantine, replace, or reboot a node". Deep health checks take
about two hours. https://github.com/IBM/autopilot, README, "Deep Diagnostics and Node Labeling", and the values that its
code writes: PASS, WARN, TESTING, EVICT, and ERR of older versions.
"""

from collections.abc import Mapping
from typing import NamedTuple

from conformance.gpu.taints import HYPERPOD_HEALTH


class LabelledState(NamedTuple):
    """What a label says of its node. ``remedy`` is empty where the state ends by itself, as a test does."""

    label: str
    means: str
    remedy: str = ""


_RECOVERY = (
    "HyperPod does that by itself where the cluster has automatic node recovery (aws sagemaker describe-cluster, "
    "NodeRecovery); else {command}. Do not set the label to Schedulable by hand: pods would come to a broken node."
)
_OF_AUTOPILOT = (
    "See which check failed in the log of the node's autopilot pod and in the label autopilot.ibm.com/dcgm.level.3. "
    "Repair, reset or replace the GPU; Autopilot sets the label to PASS when its checks do. A node that is set to PASS "
    "by hand takes pods on a broken GPU."
)
_STATES = {
    HYPERPOD_HEALTH: {
        "Unschedulable": ("HyperPod runs deep health checks on it", ""),
        "UnschedulablePendingReplacement": (
            "it failed the health checks of HyperPod and is to be replaced",
            _RECOVERY.format(command="aws sagemaker batch-replace-cluster-nodes with the id of its instance"),
        ),
        "UnschedulablePendingReboot": (
            "it failed the health checks of HyperPod and is to be rebooted",
            _RECOVERY.format(command="aws sagemaker batch-reboot-cluster-nodes with the id of its instance"),
        ),
    },
    "autopilot.ibm.com/gpuhealth": {
        "TESTING": ("Autopilot runs deep diagnostics on its GPUs", ""),
        "EVICT": ("a GPU failed the deep diagnostics of Autopilot (dcgmi diag level 3)", _OF_AUTOPILOT),
        "ERR": ("a GPU failed a health check of Autopilot", _OF_AUTOPILOT),
    },
}


def state_by_label(labels: Mapping[str, str]) -> LabelledState | None:
    """What the labels of a node say of its health, None where they say nothing or that it is well."""
    for key, states in _STATES.items():
        if found := states.get(labels.get(key, "")):
            return LabelledState(f"{key}={labels[key]}", *found)
    return None
