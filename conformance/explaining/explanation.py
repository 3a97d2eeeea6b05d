"""What an explanation says."""

from enum import StrEnum
from typing import Literal

import msgspec


class Stage(StrEnum):
    """How far a pod came."""

    REFUSED = "refused"
    QUEUED = "queued"
    UNSCHEDULABLE = "unschedulable"
    SCHEDULABLE = "schedulable"
    REFUSED_BY_NODE = "refused-by-node"
    STARTING = "starting"
    CRASHED = "crashed"
    RUNNING = "running"
    FINISHED = "finished"
    DELETING = "deleting"


class NodeGroup(msgspec.Struct, frozen=True, rename="camel"):
    """Nodes to which a pod cannot come for the same reasons; ``kinds`` has each sort of reason once."""

    reasons: tuple[str, ...]
    nodes: tuple[str, ...]
    kinds: tuple[str, ...]


class Explanation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Why a pod, or the pods of a workload, do not run.

    ``nearest`` is the node at which least is missing, ``missing`` what that is. ``not_computed`` names what the
    scheduler looks at as well for this pod, and this does not.
    """

    subject: str
    stage: Stage
    cause: str
    remedy: str = ""
    inspect: str = ""
    node: str = ""
    nearest: str = ""
    missing: tuple[str, ...] = ()
    eviction: str = ""
    groups: tuple[NodeGroup, ...] = ()
    not_computed: tuple[str, ...] = ()


class Explanations(msgspec.Struct, frozen=True, rename="camel"):
    """What ``explain-pod --json`` writes: one explanation for each pod of what was asked about."""

    cluster: str
    asked: str
    explanations: tuple[Explanation, ...]
    api_version: Literal["gpu-conformance.io/v1alpha1"] = "gpu-conformance.io/v1alpha1"
    kind: Literal["PodExplanations"] = "PodExplanations"
