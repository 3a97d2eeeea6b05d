"""The operator resource, ClusterPolicy or GPUCluster: which components it enables, and its status.

Sources: NVIDIA/gpu-operator v26.7.0, api/nvidia/v1/clusterpolicy_types.go (what an absent field means) and
internal/conditions/consts.go (reasons).
"""

from datetime import datetime
from typing import Any, NamedTuple

from conformance.facts import Facts, Resource
from conformance.gpu.operator_stack import StackKind
from conformance.reference.model import Reference
from conformance.reference.stack import Stack
from conformance.subjects import ObjectReference
from conformance.verdict import NotApplicable, Waits

RECONCILED = "Reconciled"
NO_GPU_NODES = "NoGPUNodes"
STARTING_REASONS = ("OperandNotReady", "DriverNotReady", "NodeStatusExporterNotReady")
"""Reasons of conditions that are also set while pods of the stack are only starting."""

REASONS_WITHOUT_OPERANDS = {
    "NFDLabelsMissing": "no node carries a label of Node Feature Discovery, so that no GPU node is known and no "
    "operand was deployed",
    NO_GPU_NODES: "no node is known to have GPUs, so that no operand was deployed",
}
"""Reasons with which status.state is ready although no operand was deployed."""

# What the operator assumes where the resource does not set `enabled`.
_SWITCHES = {
    "ClusterPolicy": {
        "driver": True,
        "toolkit": True,
        "devicePlugin": True,
        "gfd": True,
        "dcgm": True,
        "dcgmExporter": True,
        "migManager": True,
        "cdi": True,
    },
    "GPUCluster": {"dcgmExporter": True, "draDriver.computeDomains": True},
}
_ONLY_WITH_BLOCK = {("GPUCluster", "dcgmExporter")}
"""What the operator deploys only where the resource has its block, be it empty (v26.7.0, internal/state)."""


class Condition(NamedTuple):
    """One entry of ``status.conditions``; ``since`` is when its status last changed."""

    status: str
    reason: str
    message: str
    since: datetime | None


class OperatorResource(NamedTuple):
    """The ClusterPolicy or GPUCluster that the operator reconciles."""

    resource: Resource

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return self.resource.subject

    def __str__(self) -> str:
        return str(self.resource)

    @property
    def kind(self) -> str:
        """ClusterPolicy or GPUCluster."""
        return self.resource.kind

    @property
    def inspect(self) -> str:
        """The command that shows it."""
        return f"kubectl get {self.kind.lower()} {self.resource.name} -o yaml"

    @property
    def state(self) -> str:
        """``status.state``, such as ready, notReady, ignored or disabled; empty when it has none yet."""
        return str(self.resource.status.get("state") or "")

    def at(self, path: str) -> Any:
        """The value of the spec at a dotted path such as ``mig.strategy``; None where it is not set."""
        found: Any = self.resource.spec
        for key in path.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        return found

    def enabled(self, block: str) -> bool:
        """Whether a component such as ``dcgmExporter`` is enabled, explicitly or by default."""
        value = self.at(f"{block}.enabled")
        if isinstance(value, bool):
            return value
        by_default = _SWITCHES.get(self.kind, {}).get(block, False)
        return by_default and ((self.kind, block) not in _ONLY_WITH_BLOCK or self.at(block) is not None)

    def env(self, block: str) -> dict[str, str]:
        """The variables of a component's containers that its block sets, by name."""
        found = self.at(f"{block}.env")
        members = found if isinstance(found, list) else []
        return {str(each.get("name")): str(each.get("value") or "") for each in members if isinstance(each, dict)}

    def condition(self, type_: str) -> Condition | None:
        """The condition of a type, None when it is not there."""
        found = self.resource.status.get("conditions")
        for each in found if isinstance(found, list) else ():
            if isinstance(each, dict) and each.get("type") == type_:
                return Condition(_text(each, "status"), _text(each, "reason"), _text(each, "message"), _since(each))
        return None

    @property
    def uses_nvidia_driver_objects(self) -> bool:
        """Whether NVIDIADriver objects define the driver of a node; a GPUCluster never does."""
        return self.kind == "GPUCluster" or self.at("driver.useNvidiaDriverCRD") is True


def declared_stack(reference: Reference) -> Stack:
    """The declared GPU stack. Raises NotApplicable when none is declared."""
    if reference.stack is None:
        raise NotApplicable(f"{reference} declares no GPU stack")
    return reference.stack


def require_operator_stack(reference: Reference) -> Stack:
    """The declared stack where an operator runs it. Raises NotApplicable where none does."""
    stack = declared_stack(reference)
    if stack.kind != "gpu-operator":
        raise NotApplicable(f"{stack} has no operator")
    return stack


def require_operator_resource(facts: Facts, reference: Reference) -> OperatorResource:
    """The resource of the declared operator.

    Raises NotApplicable where no operator is declared, Waits where there is no such resource.
    """
    require_operator_stack(reference)
    operator_resource = find_operator_resource(facts)
    if operator_resource is None:
        raise without_stack(facts, "the cluster has neither a ClusterPolicy nor a GPUCluster")
    return operator_resource


def operator_resource_there(facts: Facts, reference: Reference) -> OperatorResource:
    """The same where no set-up is this cluster's own: what an operator says of itself holds whoever declared it.

    Where there is none, nobody knows whether one is wanted: it waits for a set-up.
    """
    found = find_operator_resource(facts) if reference.is_foreign else None
    return found or require_operator_resource(facts, reference)


def without_stack(facts: Facts, lacking: str, *, judged_by: str = "OPER-01") -> Waits:
    """Why nothing of a GPU stack can be judged, to be raised: the cluster has none, or lacks this part of it.

    ``judged_by`` is the requirement that judges whether the part is there.
    """
    if facts.stack.stack is StackKind.NONE:
        return Waits("the cluster has no GPU stack", on="OPER-01")
    return Waits(lacking, on=judged_by)


def find_operator_resource(facts: Facts) -> OperatorResource | None:
    """The resource that an operator of the cluster reconciles, whatever was declared; None without one."""
    found = facts.followed_policy or next(iter(facts.gpu_clusters), None)
    return None if found is None else OperatorResource(found)


def _text(member: dict[str, Any], key: str) -> str:
    return str(member.get(key) or "")


def _since(condition: dict[str, Any]) -> datetime | None:
    try:
        return datetime.fromisoformat(_text(condition, "lastTransitionTime"))
    except ValueError:
        return None
