"""Why a pod does not run, computed from what was read: how far it came, what is in its way, and what to change."""

from conformance.explaining.custom_workloads import explain_workload
from conformance.explaining.explanation import Explanation, Explanations, NodeGroup, Stage
from conformance.explaining.overview import WaitingGroup, WaitingPods, waiting_pods
from conformance.explaining.pods import explain
from conformance.explaining.seen import Seen, seen_from
from conformance.explaining.text import lines

__all__ = [
    "Explanation",
    "Explanations",
    "NodeGroup",
    "Seen",
    "Stage",
    "WaitingGroup",
    "WaitingPods",
    "explain",
    "explain_workload",
    "lines",
    "seen_from",
    "waiting_pods",
]
