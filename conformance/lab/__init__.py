"""The only way in which a suite changes a cluster: run id, record, namespaces, pods, and cleaning it all up."""

from conformance.lab.access import ServiceAccountView
from conformance.lab.borrowing import BorrowedNode
from conformance.lab.cleanup.leftovers import Cleaned, Leftovers, clean, find_leftovers
from conformance.lab.explaining import Explanation
from conformance.lab.images import IMAGES, Images
from conformance.lab.journal import Journal, OwnerRecord, owner_records
from conformance.lab.lab import Lab, new_run_id
from conformance.lab.lease import LeaseHeld
from conformance.lab.pods import TAINTED, LabPod, LabPods, at_once
from conformance.lab.policies import LabQuota
from conformance.lab.probe_jobs import Program
from conformance.lab.probe_results import ProbeResult
from conformance.lab.refusals import Accepted, Answer, Rejected
from conformance.lab.scenario import RequirementLab
from conformance.lab.workloads import LabDeployment, LabJob

__all__ = [
    "IMAGES",
    "TAINTED",
    "Accepted",
    "Answer",
    "BorrowedNode",
    "Cleaned",
    "Explanation",
    "Images",
    "Journal",
    "Lab",
    "LabDeployment",
    "LabJob",
    "LabPod",
    "LabPods",
    "LabQuota",
    "LeaseHeld",
    "Leftovers",
    "OwnerRecord",
    "ProbeResult",
    "Program",
    "Rejected",
    "RequirementLab",
    "ServiceAccountView",
    "at_once",
    "clean",
    "find_leftovers",
    "new_run_id",
    "owner_records",
]
