"""Driver upgrades that have come to a stop, and what each of them waits for.

Sources: NVIDIA/k8s-operator-libs, pkg/upgrade (common_manager.go: GetUpgradesAvailable; upgrade_inplace.go;
validation_manager.go; pod_manager.go; drain_manager.go); NVIDIA GPU Operator: GPU Driver Upgrades.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from conformance.facts import Facts, Node, Pod
from conformance.gpu.labels import UPGRADE_DRAIN_SKIP, UPGRADE_SKIP, UPGRADE_STATE
from conformance.reference.model import Pool
from suites._shared.formatting import join_limited
from suites._shared.operand_status import trouble_on, what_ails, young
from suites._shared.operands import DRIVER, Part
from suites._shared.operator_resource import Root
from suites._shared.pool_nodes import GpuPoolNode
from suites._shared.upgrade_states import (
    AT_THE_DRIVER,
    DRAINING,
    FAILED,
    REQUIRED,
    UNDER_WAY,
    WAITING_FOR_JOBS,
    UpgradePolicy,
    policy_for,
    state_of,
    unavailable,
)
from suites.operator.upgrade_obstacles import is_seen

_DRIVER_POD = ("app.kubernetes.io/component", "nvidia-driver")

GOING_MAY_TAKE = timedelta(minutes=5)
"""How long after its grace a pod may take to be gone: a driver pod unloads its modules, and the kubelet tidies up."""


class Stop(NamedTuple):
    """Why an upgrade does not go on, and what makes it go on."""

    link: str
    remedy: str = ""


def managed_nodes(nodes: Iterable[GpuPoolNode], parts: Sequence[Part]) -> list[tuple[Pool, Node]]:
    """The GPU nodes whose driver the operator manages."""
    driver = _driver_of(parts)
    return [(pool, node) for pool, node, _ in nodes if driver is not None and driver.is_needed_on(pool, node)]


def stuck_nodes(nodes: Sequence[tuple[Pool, Node]], parts: Sequence[Part], root: Root, facts: Facts) -> dict[str, Stop]:
    """The nodes, by name, whose upgrade has come to a stop."""
    fleet = [node for _, node in nodes]
    found = {}
    for pool, node in nodes:
        policy = policy_for(node, root, facts)
        stop = _own_stop(node, policy, _driver_of(parts), facts)
        if stop is None and state_of(node) == REQUIRED and pool.labels.get(UPGRADE_SKIP) != "true":
            stop = _why_it_does_not_start(node, fleet, policy)
        if stop is not None:
            found[node.name] = stop
    return found


def _driver_of(parts: Sequence[Part]) -> Part | None:
    return next((part for part in parts if part.component is DRIVER), None)


def _own_stop(node: Node, policy: UpgradePolicy, driver: Part | None, facts: Facts) -> Stop | None:
    """What stops a node whose upgrade has begun."""
    state = state_of(node)
    if state == FAILED:
        return Stop(
            _why_failed(node, facts),
            f"Mend that, then: kubectl label node {node.name} --overwrite {UPGRADE_STATE}={REQUIRED}",
        )
    if state == WAITING_FOR_JOBS and policy.waits_forever:
        return Stop(
            f"it waits without end for pods labelled {policy.waits_for}: waitForCompletion.timeoutSeconds is 0",
            f"Set waitForCompletion.timeoutSeconds of {policy.said_by}.",
        )
    if policy.endless(state):
        return _why_it_is_not_emptied(node, policy, facts)
    return _stop_at_the_driver(node, driver, facts) if state in AT_THE_DRIVER else None


def _why_it_is_not_emptied(node: Node, policy: UpgradePolicy, facts: Facts) -> Stop | None:
    """What a step that has no end waits for; None while the last pods are on their way."""
    state = state_of(node)
    block = policy.endless(state)
    left = [pod for pod in facts.pods_on(node.name) if _has_to_go(pod, state, policy, facts)]
    staying = next((pod for pod in left if not pod.deleting or _overdue(pod, facts.taken_at)), None)
    if staying is None:
        return None
    link = f"it waits without end for {staying} to go: {block}.timeoutSeconds is 0"
    return Stop(link, f"Set {block}.timeoutSeconds of {policy.said_by}, and find out what holds the pod.")


def _has_to_go(pod: Pod, state: str, policy: UpgradePolicy, facts: Facts) -> bool:
    """Whether a step takes a pod off its node. Which pods a drain with a label selector means is not looked into."""
    if pod.static or pod.finished or pod.owner_kind == "DaemonSet":
        return False
    if state == DRAINING:
        return not policy.drains_some and pod.labels.get(UPGRADE_DRAIN_SKIP) != "true"
    return is_seen(pod, facts)


def _stop_at_the_driver(node: Node, part: Part | None, facts: Facts) -> Stop | None:
    """What stops a node that was emptied: its driver pod does not go, does not come, or has long been there."""
    state, pod = state_of(node), _driver_pod(node, facts)
    if pod is None:
        trouble = trouble_on(part, node, facts) if part is not None else None
        return Stop(trouble.link, trouble.remedy) if trouble is not None and not trouble.passing else None
    if pod.deleting:
        return _why_it_does_not_go(pod, state) if _overdue(pod, facts.taken_at) else None
    if young(pod.started or pod.created, facts.taken_at):
        return None
    if pod.ready:
        return Stop(f"{pod} has long been Ready, and the node still stands at {state}", _VALIDATOR)
    return Stop(f"the node stands at {state}, and {pod} has not become Ready: {what_ails(pod)}")


def _why_it_does_not_go(pod: Pod, state: str) -> Stop:
    due = f"{pod.deletion:%Y-%m-%d %H:%M} UTC"
    link = f"the node stands at {state}, and the old {pod} is Terminating, due since {due}"
    return Stop(link, "Find out what holds its kernel modules; then look at its finalizers and at the kubelet.")


def _overdue(pod: Pod, now: datetime) -> bool:
    """Whether a pod that is being deleted should long have been gone."""
    return pod.deletion is not None and now - pod.deletion > GOING_MAY_TAKE


_VALIDATOR = "See what the validator on the node waits for; it has 600 seconds."


def _why_failed(node: Node, facts: Facts) -> str:
    driver = _driver_pod(node, facts)
    if driver is None or not driver.ready:
        return "the upgrade failed, and the driver pod of the node is " + ("missing" if driver is None else "not Ready")
    return "the upgrade failed: a pod could not be deleted, or the validator was not Ready in time"


def _driver_pod(node: Node, facts: Facts) -> Pod | None:
    """The driver pod of a node: the new one where the old one is still going."""
    key, value = _DRIVER_POD
    pods = [pod for pod in facts.pods_on(node.name) if pod.labels.get(key) == value]
    return min(pods, key=lambda pod: pod.deleting, default=None)


def _why_it_does_not_start(node: Node, fleet: Sequence[Node], policy: UpgradePolicy) -> Stop | None:
    """What keeps the upgrade of a node from starting; None while others are upgraded first."""
    if node.labels.get(UPGRADE_SKIP) == "true":
        return Stop(f"label {UPGRADE_SKIP}=true leaves the node out", f"kubectl label node {node.name} {UPGRADE_SKIP}-")
    if not policy.automatic:
        return Stop(f"autoUpgrade of {policy.said_by} is off, and the label was left behind", "Turn it on again.")
    if node.unschedulable or any(state_of(other) in UNDER_WAY for other in fleet):
        return None
    failed = [other.name for other in fleet if state_of(other) == FAILED]
    if policy.parallel and len(failed) >= policy.parallel:
        counted = "failed and count as being upgraded, of which maxParallelUpgrades allows"
        link = f"{join_limited(failed)} {counted} {policy.parallel}"
        return Stop(link, "Mend the node that failed; it holds up all the others.")
    away, most = unavailable(fleet), policy.unavailable(len(fleet))
    if len(away) >= most:
        names = join_limited([other.name for other in away])
        link = (
            f"{len(away)} of {len(fleet)} nodes are cordoned or not Ready ({names}), and maxUnavailable allows {most}"
        )
        return Stop(link, f"Uncordon the nodes whose maintenance is over, or raise maxUnavailable of {policy.said_by}.")
    return None
