"""NVIDIADriver objects: which of them selects a node, and which of them the operator has refused.

Sources: NVIDIA/gpu-operator v26.7.0, controllers/nvidiadriver_controller.go and internal/validator (node selectors must
not overlap; all that overlap are refused, and none of them gets a DaemonSet), NVIDIA/gpu-operator issues 2259 (those
that were refused are not looked at again when the conflict is gone) and 2355 (spec.default, from v26.7).
"""

from functools import lru_cache

from conformance.facts import Facts, Node, Resource
from conformance.upgrading.policy import driver_object_of, driver_objects_selecting
from conformance.verdict import Inconclusive
from suites._shared.formatting import join_limited, pairs
from suites._shared.operator_resource import OperatorResource

CONFLICT = "ConflictingNodeSelector"


def refused(facts: Facts) -> tuple[Resource, ...]:
    """The NVIDIADrivers whose node selectors the operator found to overlap; none where they could not be read."""
    try:
        return tuple(each for each in facts.nvidia_drivers if reason_of(each) == CONFLICT)
    except Inconclusive:
        return ()


def reason_of(driver: Resource) -> str:
    """The reason of the condition Error of an NVIDIADriver while that is True; empty otherwise."""
    error = OperatorResource(driver).condition("Error")
    return error.reason if error is not None and error.status == "True" else ""


@lru_cache(maxsize=1)
def overlaps(facts: Facts) -> dict[str, tuple[Node, Resource]]:
    """By the name of an NVIDIADriver: a node that it selects, and another one that selects that node, too."""
    found: dict[str, tuple[Node, Resource]] = {}
    for node in facts.nodes:
        several = driver_objects_selecting(node, facts)
        for driver, other in zip(several, (*several[1:], *several[:1]), strict=True):
            if driver is not other:
                found.setdefault(driver.name, (node, other))
    return found


def why_refused(driver: Resource, facts: Facts) -> tuple[str, str]:
    """Why the operator refuses an NVIDIADriver for its node selector, and what to do about it."""
    every = overlaps(facts)
    if every:
        # The default one is refused along with those that overlap.
        first = driver.name if driver.name in every else next(iter(every))
        node, other = every[first]
        return (
            f"{CONFLICT}: NVIDIA driver {first} and {other} both select {node}, so the operator deploys neither",
            "Make their node selectors exclusive. One without nodeSelector selects every GPU node: delete it, or set "
            "spec.default (from v26.7).",
        )
    return (
        f"{CONFLICT}, and no node is selected twice any more: the operator has not looked again",
        f"Restart the operator, so that it looks again: {_restart(facts)}",
    )


def why_no_driver(facts: Facts) -> str:
    """Why the operator deploys no driver although it is enabled; empty where no NVIDIADriver tells."""
    conflicting = refused(facts)
    names = join_limited([str(each) for each in conflicting])
    return f"{names}: {CONFLICT}, so that the operator deploys no driver (OPER-02)" if conflicting else ""


def why_unselected(node: Node, facts: Facts) -> str:
    """That no NVIDIADriver selects a node, with what they select; empty where one does, or none could be read."""
    try:
        drivers = facts.nvidia_drivers
    except Inconclusive:
        return ""
    if not drivers or driver_object_of(node, facts) is not None:
        return ""
    wanted = [f"{each} selects {pairs(each.spec.get('nodeSelector') or {})}" for each in drivers]
    return f"no NVIDIADriver selects {node}: {join_limited(wanted)}"


def _restart(facts: Facts) -> str:
    namespace, _, name = next(iter(facts.stack.operators), "gpu-operator/gpu-operator").partition("/")
    return f"kubectl rollout restart deployment -n {namespace} {name}"
