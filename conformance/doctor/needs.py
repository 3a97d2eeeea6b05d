"""Which requirements cannot be judged where a kind of object cannot be listed.

Measured: audits of the shipped set-up, each with one kind that could not be read; tests/faults measures it again. What
the shipped set-up does not declare is not in here.
"""

from collections.abc import Mapping

_MEASURED = {
    "Pod": """
        DRA-02 DRA-03 DRA-04 DRA-09 GANG-06 ISO-06 ISO-07 ISO-08 MIG-09 MPS-04 MPS-05 OBS-01 OPER-01 OPER-05
        OPER-13 OPER-14 OPER-19 POOL-04 POOL-09 PRIO-13 PRIO-15 QUOTA-04 QUOTA-13 SCHED-13 SCHED-14 SCHED-15
        SCHED-16 SCHED-17 TEN-03 TEN-10 TS-03 TS-09 WORK-08 WORK-09 WORK-10 WORK-11 WORK-12 WORK-13 WORK-14 WORK-15
    """,
    "Node": """
        DRA-01 DRA-02 DRA-03 DRA-04 DRA-05 DRA-06 DRA-07 DRA-08 DRA-09 DRA-10 DRA-20 ISO-06 ISO-07 ISO-08 MIG-01
        MIG-02 MIG-03 MIG-04 MIG-05 MIG-06 MIG-07 MIG-08 MIG-09 MIG-11 MPS-01 MPS-02 MPS-03 MPS-04 MPS-05 MPS-06 MPS-07
        OBS-01 OPER-03 OPER-10 OPER-11 OPER-12 OPER-13 OPER-14 OPER-15 OPER-16 OPER-17 OPER-18 OPER-19 POOL-01
        POOL-02 POOL-03 POOL-04 POOL-05 POOL-06 POOL-07 POOL-08 POOL-09 POOL-10 QUOTA-03 QUOTA-04 SCHED-13
        SCHED-14 SCHED-15 SCHED-16 TS-01 TS-02 TS-03 TS-04 TS-05 TS-06 TS-09 TS-10 TS-11 WORK-08 WORK-09
    """,
    "ResourceSlice": "DRA-01 DRA-03 DRA-04 DRA-05 DRA-06 DRA-07 DRA-08 DRA-09 DRA-10 DRA-20",
    "ResourceClaim": "DRA-08 DRA-09 DRA-20",
    "PodGroup": "",
    "CustomResourceDefinition": "OPER-01",
    "ReplicaSet": """
        MIG-09 OPER-05 PRIO-13 SCHED-13 SCHED-14 SCHED-15 SCHED-16 TEN-10 WORK-08 WORK-09 WORK-12 WORK-13
        WORK-15
    """,
    "Deployment": """
        MIG-09 MPS-04 OPER-01 OPER-03 OPER-05 OPER-06 OPER-07 OPER-08 OPER-09 OPER-10 OPER-13 OPER-14 OPER-18
        OPER-19 PRIO-13 SCHED-13 SCHED-14 SCHED-15 SCHED-16 TEN-03 TEN-10 WORK-08 WORK-09 WORK-12 WORK-13
        WORK-15
    """,
    "Job": """
        MIG-09 MPS-04 OPER-03 OPER-05 OPER-06 OPER-07 OPER-08 OPER-09 OPER-10 OPER-13 OPER-14 OPER-18 OPER-19
        PRIO-13 SCHED-13 SCHED-14 SCHED-15 SCHED-16 TEN-03 TEN-10 WORK-08 WORK-09 WORK-12 WORK-13 WORK-15
    """,
    "StatefulSet": """
        MIG-09 MPS-04 OPER-03 OPER-05 OPER-06 OPER-07 OPER-08 OPER-09 OPER-10 OPER-13 OPER-14 OPER-18 OPER-19
        SCHED-13 SCHED-14 SCHED-15 TEN-03 WORK-08 WORK-09 WORK-12 WORK-13 WORK-15
    """,
    "DaemonSet": """
        DRA-02 DRA-03 DRA-04 MIG-09 MPS-04 OPER-01 OPER-03 OPER-05 OPER-06 OPER-07 OPER-08 OPER-09 OPER-10
        OPER-13 OPER-14 OPER-18 OPER-19 SCHED-13 SCHED-14 SCHED-15 TEN-03 WORK-08 WORK-09 WORK-12 WORK-13
        WORK-15
    """,
    "Namespace": "ISO-09 OPER-06 QUOTA-11 TEN-01",
    "ServiceAccount": "TEN-02 TEN-03 TEN-09",
    "Role": "TEN-02",
    "RoleBinding": "TEN-02",
    "ClusterRole": "TEN-09",
    "ClusterRoleBinding": "TEN-09",
    "ResourceQuota": "DRA-10 MIG-09 OPER-06 QUOTA-01 QUOTA-02 QUOTA-03 QUOTA-04 QUOTA-13",
    "LimitRange": "QUOTA-11 QUOTA-13",
    "PriorityClass": "PRIO-01 PRIO-02 PRIO-09 PRIO-13 PRIO-14 PRIO-15",
    "PodDisruptionBudget": "OPER-19",
    "ClusterPolicy": """
        DRA-04 MIG-02 MIG-03 MIG-04 OBS-01 OPER-01 OPER-02 OPER-03 OPER-04 OPER-05 OPER-06 OPER-07 OPER-09
        OPER-10 OPER-12 OPER-13 OPER-14 OPER-18 OPER-19
    """,
    "GPUCluster": "MIG-02 MIG-03 MIG-04 OPER-01",
    "NVIDIADriver": "OPER-01 OPER-03 OPER-05 OPER-06 OPER-07 OPER-10 OPER-13 OPER-14 OPER-18 OPER-19",
    "ComputeDomain": "",
    "RuntimeClass": "OPER-07 WORK-15",
    "DeviceClass": "DRA-06 DRA-07 DRA-08 DRA-09 DRA-10 DRA-20 ISO-09",
    "ResourceClaimTemplate": "",
    "DeviceTaintRule": "",
    "Queue": "",
    "ClusterQueue": "",
    "LocalQueue": "",
    "ClusterResourceQuota": "",
    "VolcanoQueue": "",
    "VolcanoPodGroup": "",
    "MutatingWebhookConfiguration": "",
    "MutatingAdmissionPolicy": "",
    "MutatingAdmissionPolicyBinding": "",
    "ConfigMap": "MIG-02 MIG-03 MIG-04 MPS-01 MPS-02 MPS-03 MPS-05 TS-01 TS-02 TS-03 TS-10 TS-11",
}

NEEDS: Mapping[str, tuple[str, ...]] = {kind: tuple(ids.split()) for kind, ids in _MEASURED.items()}
"""Ids of requirements by kind, such as ``Pod``."""
