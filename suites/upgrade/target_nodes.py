"""The nodes that a driver is meant for: those of the operator, or, where it brings none, all GPU nodes.

Drivers that come with a node image, or that somebody else installs, run the same images on the same GPUs; only how
they get there is not known.
"""

from collections.abc import Sequence
from typing import NamedTuple

from conformance.facts import Facts, Node
from conformance.reference.model import Pool, Reference
from conformance.subjects import HasSubject
from conformance.verdict import NotApplicable
from suites._shared.operator_resource import OperatorResource, require_operator_resource
from suites._shared.pool_nodes import GpuPoolNode
from suites.upgrade.upgrade_groups import upgrade_groups


class TargetNodes(NamedTuple):
    """GPU nodes with their pools, what says which driver they get, and the operator where it is one."""

    members: tuple[tuple[Pool, Node], ...]
    sources: tuple[HasSubject, ...]
    operator_resource: OperatorResource | None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes."""
        return tuple(node for _, node in self.members)


def target_nodes(facts: Facts, reference: Reference, nodes: Sequence[GpuPoolNode]) -> TargetNodes:
    """Those of these nodes that the driver of an upgrade is meant for. Raises Waits where the operator is missing."""
    try:
        groups = upgrade_groups(facts, reference, nodes)
        operator_resource = require_operator_resource(facts, reference)
    except NotApplicable:
        pools = {each.pool.name: each.pool for each in nodes}
        return TargetNodes(tuple((each.pool, each.node) for each in nodes), tuple(pools.values()), None)
    members = tuple(member for group in groups for member in group.members)
    return TargetNodes(members, groups, operator_resource)
