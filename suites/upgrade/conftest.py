"""What the chapters on upgrades share."""

import pytest

from conformance.facts import Facts
from conformance.reference.model import Reference
from suites._shared.pool_nodes import GpuPoolNode
from suites.upgrade.target_nodes import TargetNodes, target_nodes
from suites.upgrade.upgrade_groups import UpgradeGroup, upgrade_groups


@pytest.fixture
def groups(facts: Facts, reference: Reference, nvidia_pool_nodes: tuple[GpuPoolNode, ...]) -> tuple[UpgradeGroup, ...]:
    """The GPU nodes whose driver the operator manages, by the policy by which they are upgraded."""
    return upgrade_groups(facts, reference, nvidia_pool_nodes)


@pytest.fixture
def meant(facts: Facts, reference: Reference, nvidia_pool_nodes: tuple[GpuPoolNode, ...]) -> TargetNodes:
    """The GPU nodes that the driver is meant for, whoever brings it there."""
    return target_nodes(facts, reference, nvidia_pool_nodes)
