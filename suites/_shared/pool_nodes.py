"""Nodes of the cluster with the declared pool that each belongs to."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from conformance.facts import Node
from conformance.reference.model import Gpu, Pool

Members: TypeAlias = Callable[[Pool], tuple[Node, ...]]


class PoolNode(NamedTuple):
    """A node of the cluster and the declared pool that it belongs to."""

    pool: Pool
    node: Node


class GpuPoolNode(NamedTuple):
    """A node of a declared GPU pool, with the GPUs that it is declared to have."""

    pool: Pool
    node: Node
    gpu: Gpu
