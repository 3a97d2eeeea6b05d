"""Facts: what was read from a cluster, once, immutable and indexed."""

from conformance.facts.collection import Facts
from conformance.facts.containers import Container, ContainerStatus, Mount
from conformance.facts.decoding import OddObject
from conformance.facts.found import WORKLOAD_KINDS
from conformance.facts.limits import LimitRange, LimitRangeItem, PriorityClass, ResourceQuota, ScopeTerm
from conformance.facts.nodes import Node, node_from
from conformance.facts.pods import Pod, pod_from
from conformance.facts.podspec import PodSpec, PodTemplate
from conformance.facts.reading import read
from conformance.facts.resources import Resource
from conformance.facts.tenancy import Namespace, Role, RoleBinding, RoleRef, Rule, ServiceAccount, Subject
from conformance.facts.volumes import PodClaim, Volume
from conformance.facts.workloads import PodDisruptionBudget, ReplicaSet, Workload, passes_budgets

__all__ = [
    "WORKLOAD_KINDS",
    "Container",
    "ContainerStatus",
    "Facts",
    "LimitRange",
    "LimitRangeItem",
    "Mount",
    "Namespace",
    "Node",
    "OddObject",
    "Pod",
    "PodClaim",
    "PodDisruptionBudget",
    "PodSpec",
    "PodTemplate",
    "PriorityClass",
    "ReplicaSet",
    "Resource",
    "ResourceQuota",
    "Role",
    "RoleBinding",
    "RoleRef",
    "Rule",
    "ScopeTerm",
    "ServiceAccount",
    "Subject",
    "Volume",
    "Workload",
    "node_from",
    "passes_budgets",
    "pod_from",
    "read",
]
