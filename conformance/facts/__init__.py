"""Facts: what was read from a cluster, once, immutable and indexed."""

from conformance.facts.collection import WORKLOAD_KINDS, Facts
from conformance.facts.decoding import OddObject
from conformance.facts.limits import LimitRange, LimitRangeItem, PriorityClass, ResourceQuota, ScopeTerm
from conformance.facts.nodes import Node, node_from
from conformance.facts.pods import Container, Pod, PodSpec, PodTemplate, pod_from
from conformance.facts.reading import read
from conformance.facts.tenancy import Namespace, Role, RoleBinding, RoleRef, Rule, ServiceAccount, Subject
from conformance.facts.workloads import PodDisruptionBudget, ReplicaSet, Workload

__all__ = [
    "WORKLOAD_KINDS",
    "Container",
    "Facts",
    "LimitRange",
    "LimitRangeItem",
    "Namespace",
    "Node",
    "OddObject",
    "Pod",
    "PodDisruptionBudget",
    "PodSpec",
    "PodTemplate",
    "PriorityClass",
    "ReplicaSet",
    "ResourceQuota",
    "Role",
    "RoleBinding",
    "RoleRef",
    "Rule",
    "ScopeTerm",
    "ServiceAccount",
    "Subject",
    "Workload",
    "node_from",
    "pod_from",
    "read",
]
