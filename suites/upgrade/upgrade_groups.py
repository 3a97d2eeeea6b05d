"""The nodes that the operator upgrades together: those of one upgrade policy.

Source: NVIDIA/gpu-operator v26.7.0, controllers/upgrade_controller.go: with NVIDIADriver objects each of them has its
own policy and its own count of nodes.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from conformance.facts import Facts, Node, Pod
from conformance.gpu.labels import UPGRADE_DRAIN_SKIP
from conformance.reference.model import Pool, Reference
from conformance.subjects import ObjectReference
from conformance.upgrading.policy import PodRemoval, UpgradePolicy, policy_for
from conformance.verdict import NotApplicable
from suites._shared.operands import expected_components
from suites._shared.operator_resource import OperatorResource, require_operator_resource
from suites._shared.pool_nodes import GpuPoolNode
from suites._shared.stuck_upgrades import managed_nodes
from suites._shared.upgrade_obstacles import is_known, refusal_of


class UpgradeGroup(NamedTuple):
    """Nodes with the policy by which their driver is upgraded, and the object that has the policy."""

    policy: UpgradePolicy
    subject: ObjectReference
    members: tuple[tuple[Pool, Node], ...]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes."""
        return tuple(node for _, node in self.members)

    @property
    def at_once(self) -> int:
        """How many of the nodes may be away at the same time."""
        return self.policy.at_once(len(self.members))

    def __str__(self) -> str:
        return self.policy.source


def upgrade_groups(facts: Facts, reference: Reference, nodes: Sequence[GpuPoolNode]) -> tuple[UpgradeGroup, ...]:
    """The groups in which the operator upgrades these nodes.

    Raises NotApplicable where the operator manages the driver of none of them.
    """
    operator_resource = require_operator_resource(facts, reference)
    managed = managed_nodes(nodes, expected_components(facts, reference))
    if not managed:
        raise NotApplicable("the operator manages the driver of no GPU node: the drivers come with the node images")
    groups: dict[str, UpgradeGroup] = {}
    for member in managed:
        policy = policy_for(member[1], facts)
        before = groups.get(policy.source)
        members = (*before.members, member) if before else (member,)
        groups[policy.source] = UpgradeGroup(policy, _owner(policy, operator_resource, facts), members)
    return tuple(groups.values())


def leaving_pods(node: Node, policy: UpgradePolicy, facts: Facts) -> tuple[Pod, ...]:
    """The pods that an upgrade evicts from a node.

    Those that are known to use GPUs; where the policy does not let one of them be deleted and enables draining, all
    that a drain takes.
    """
    here = facts.pods_on(node.name)
    known = [pod for pod in here if _may_leave(pod) and is_known(pod, facts)]
    deletion, *drain = policy.pod_removals
    if drain and any(refusal_of(pod, deletion) for pod in known):
        return tuple(pod for pod in here if _may_leave(pod) and _is_drained(pod, policy))
    return tuple(known)


def removals_of(policy: UpgradePolicy) -> Iterator[tuple[PodRemoval, int]]:
    """How GPU pods are removed, one way after the other, and the seconds that each may take; 0 for any time."""
    for removal in policy.pod_removals:
        yield removal, policy.timeout_of(removal.block)


def patience_of(policy: UpgradePolicy) -> int:
    """The seconds that the pods of a node have to end, over all ways of removal; 0 where one has no timeout."""
    allowed = [seconds for _, seconds in removals_of(policy)]
    return sum(allowed) if all(allowed) else 0


def _may_leave(pod: Pod) -> bool:
    return not (pod.finished or pod.deleting or pod.static or pod.owner_kind == "DaemonSet")


def _is_drained(pod: Pod, policy: UpgradePolicy) -> bool:
    return pod.labels.get(UPGRADE_DRAIN_SKIP) != "true" and policy.drains(pod.labels)


def _owner(policy: UpgradePolicy, operator_resource: OperatorResource, facts: Facts) -> ObjectReference:
    owner = next((each for each in facts.nvidia_drivers if str(each) == policy.source), None)
    return owner.subject if owner is not None else operator_resource.subject
