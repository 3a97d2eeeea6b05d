"""Whether the operator has deployed the drivers of NVIDIADriver objects."""

from conformance.facts import Facts, Resource
from conformance.verdict import Judge
from suites._shared.driver_objects import CONFLICT, reason_of, why_refused
from suites._shared.grace import is_changing, is_recent
from suites._shared.operator_resource import STARTING_REASONS, OperatorResource


def judge_driver_resources(operator_resource: OperatorResource, facts: Facts, judge: Judge) -> None:
    """A finding for each NVIDIADriver that has a state, where they define the drivers of nodes."""
    if not operator_resource.uses_nvidia_driver_objects:
        return
    for driver in facts.nvidia_drivers:
        state = OperatorResource(driver).state
        if not state:
            continue
        not_now = "" if state == "ready" else _why_not_now(driver, facts)
        if not_now:
            judge.pass_over(driver, not_now)
            continue
        _judge(driver, state, facts, judge)


def _judge(driver: Resource, state: str, facts: Facts, judge: Judge) -> None:
    error, reason = OperatorResource(driver).condition("Error"), reason_of(driver)
    cause, remedy = (error.message if error else "") or "its conditions have no message", ""
    if reason == CONFLICT:
        cause, remedy = why_refused(driver, facts)
    judge(
        driver,
        ok=state == "ready",
        expected="state ready",
        actual=f"state {state}" + (f", {reason}" if reason else ""),
        cause=cause,
        hidden_because="the ClusterPolicy tells only which operands wait; why no driver comes stands here",
        remedy=remedy,
        inspect=f"kubectl get nvidiadriver {driver.name} -o yaml",
    )


def _why_not_now(driver: Resource, facts: Facts) -> str:
    """Why an NVIDIADriver may not be ready for a while: its pods are starting, or a node is being changed."""
    if reason_of(driver) not in STARTING_REASONS:
        return ""
    error = OperatorResource(driver).condition("Error")
    if error is not None and is_recent(error.since, facts.taken_at):
        return "pods of it are starting"
    return next((f"{node}: {change}" for node in facts.nodes if (change := is_changing(node, facts))), "")
