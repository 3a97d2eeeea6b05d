"""Driver upgrades that have come to a stop, and what each of them waits for.

Sources: NVIDIA/k8s-operator-libs, pkg/upgrade (common_manager.go: GetUpgradesAvailable; upgrade_inplace.go;
validation_manager.go); NVIDIA GPU Operator: GPU Driver Upgrades.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from conformance.facts import Facts, Node, Pod
from conformance.reference.model import Pool
from suites.conftest import GpuPoolNode
from suites.node_stack import what_ails, young
from suites.operands import DRIVER, Part
from suites.roots import Root
from suites.upgrade_states import (
    AT_THE_DRIVER,
    FAILED,
    REQUIRED,
    SKIP,
    STATE,
    UNDER_WAY,
    WAITING_FOR_JOBS,
    UpgradePolicy,
    policy_for,
    state_of,
    unavailable,
)
from suites.words import some

_DRIVER_POD = ("app.kubernetes.io/component", "nvidia-driver")


class Stop(NamedTuple):
    """Why an upgrade does not go on, and what makes it go on."""

    link: str
    remedy: str = ""


def managed_nodes(nodes: Iterable[GpuPoolNode], parts: Sequence[Part]) -> list[tuple[Pool, Node]]:
    """The GPU nodes whose driver the operator manages."""
    driver = next((part for part in parts if part.component is DRIVER), None)
    return [(pool, node) for pool, node, _ in nodes if driver is not None and driver.is_needed_on(pool, node)]


def stuck_nodes(nodes: Sequence[tuple[Pool, Node]], root: Root, facts: Facts) -> dict[str, Stop]:
    """The nodes, by name, whose upgrade has come to a stop."""
    fleet = [node for _, node in nodes]
    found = {}
    for pool, node in nodes:
        policy = policy_for(node, root, facts)
        stop = _own_stop(node, policy, facts)
        if stop is None and state_of(node) == REQUIRED and pool.labels.get(SKIP) != "true":
            stop = _why_it_does_not_start(node, fleet, policy)
        if stop is not None:
            found[node.name] = stop
    return found


def _own_stop(node: Node, policy: UpgradePolicy, facts: Facts) -> Stop | None:
    """What stops a node whose upgrade has begun."""
    state = state_of(node)
    if state == FAILED:
        return Stop(
            _why_failed(node, facts), f"Mend that, then: kubectl label node {node.name} --overwrite {STATE}={REQUIRED}"
        )
    if state == WAITING_FOR_JOBS and policy.waits_forever:
        return Stop(
            f"it waits without end for pods labelled {policy.waits_for}: waitForCompletion.timeoutSeconds is 0",
            f"Set waitForCompletion.timeoutSeconds of {policy.said_by}.",
        )
    driver = _driver_pod(node, facts)
    if state not in AT_THE_DRIVER or driver is None or young(driver.started or driver.created, facts.taken_at):
        return None
    if driver.ready:
        return Stop(f"{driver} has long been Ready, and the node still stands at {state}", _VALIDATOR)
    return Stop(f"the node stands at {state}, and {driver} has not become Ready: {what_ails(driver)}")


_VALIDATOR = "See what the validator on the node waits for; it has 600 seconds."


def _why_failed(node: Node, facts: Facts) -> str:
    driver = _driver_pod(node, facts)
    if driver is None or not driver.ready:
        return "the upgrade failed, and the driver pod of the node is " + ("missing" if driver is None else "not Ready")
    return "the upgrade failed: a pod could not be deleted, or the validator was not Ready in time"


def _driver_pod(node: Node, facts: Facts) -> Pod | None:
    key, value = _DRIVER_POD
    return next((pod for pod in facts.pods_on(node.name) if pod.labels.get(key) == value), None)


def _why_it_does_not_start(node: Node, fleet: Sequence[Node], policy: UpgradePolicy) -> Stop | None:
    """What keeps the upgrade of a node from starting; None while others are upgraded first."""
    if node.labels.get(SKIP) == "true":
        return Stop(f"label {SKIP}=true leaves the node out", f"kubectl label node {node.name} {SKIP}-")
    if not policy.automatic:
        return Stop(f"autoUpgrade of {policy.said_by} is off, and the label was left behind", "Turn it on again.")
    if node.unschedulable or any(state_of(other) in UNDER_WAY for other in fleet):
        return None
    failed = [other.name for other in fleet if state_of(other) == FAILED]
    if policy.parallel and len(failed) >= policy.parallel:
        link = (
            f"{some(failed)} failed and count as being upgraded, of which maxParallelUpgrades allows {policy.parallel}"
        )
        return Stop(link, "Mend the node that failed; it holds up all the others.")
    away, most = unavailable(fleet), policy.unavailable(len(fleet))
    if len(away) >= most:
        names = some([other.name for other in away])
        link = (
            f"{len(away)} of {len(fleet)} nodes are cordoned or not Ready ({names}), and maxUnavailable allows {most}"
        )
        return Stop(link, f"Uncordon the nodes whose maintenance is over, or raise maxUnavailable of {policy.said_by}.")
    return None
