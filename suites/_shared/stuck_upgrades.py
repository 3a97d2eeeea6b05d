"""Driver upgrades that are stuck, and what each of them waits for.

Sources: NVIDIA/k8s-operator-libs, pkg/upgrade (common_manager.go: GetUpgradesAvailable; upgrade_inplace.go;
validation_manager.go; pod_manager.go; drain_manager.go); NVIDIA GPU Operator: GPU Driver Upgrades.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from conformance.facts import Facts, Node, Pod, Workload
from conformance.gpu.labels import UPGRADE_DRAIN_SKIP, UPGRADE_SKIP, UPGRADE_STATE
from conformance.reference.model import Pool
from conformance.upgrading.policy import DRAINING, UpgradePolicy, policy_for
from suites._shared.formatting import join_limited
from suites._shared.grace import is_recent
from suites._shared.operand_status import failure_on
from suites._shared.operands import DRIVER, ExpectedComponent
from suites._shared.operator_resource import OperatorResource
from suites._shared.pod_status import what_to_do, why_not_ready
from suites._shared.pool_nodes import GpuPoolNode
from suites._shared.upgrade_obstacles import is_known
from suites._shared.upgrade_states import (
    AT_THE_DRIVER,
    DONE,
    FAILED,
    REQUIRED,
    UNDER_WAY,
    WAITING_FOR_JOBS,
    state_of,
    unavailable,
)

_DRIVER_POD = ("app.kubernetes.io/component", "nvidia-driver")

TERMINATION_MAY_TAKE = timedelta(minutes=5)
"""How long a pod may take to end after its grace period: a driver pod unloads modules, the kubelet cleans up."""

NEXT_MAY_TAKE = timedelta(hours=1)
"""How long it may take from one driver pod to the next while nodes wait: the operator takes the next at once."""


class UpgradeStall(NamedTuple):
    """Why an upgrade is stuck, and what lets it continue."""

    cause: str
    remedy: str = ""


def managed_nodes(nodes: Iterable[GpuPoolNode], components: Sequence[ExpectedComponent]) -> list[tuple[Pool, Node]]:
    """The GPU nodes whose driver the operator manages."""
    driver = _driver_of(components)
    return [(pool, node) for pool, node, _ in nodes if driver is not None and driver.is_needed_on(pool, node)]


def stuck_nodes(
    nodes: Sequence[tuple[Pool, Node]],
    components: Sequence[ExpectedComponent],
    operator_resource: OperatorResource,
    facts: Facts,
) -> dict[str, UpgradeStall]:
    """The nodes, by name, whose upgrade is stuck."""
    fleet = _Fleet([node for _, node in nodes], facts)
    found = {}
    for pool, node in nodes:
        policy = policy_for(node, facts)
        stall = _stall_after_start(node, policy, _driver_of(components), facts)
        if stall is None and state_of(node) == REQUIRED and pool.labels.get(UPGRADE_SKIP) != "true":
            stall = _stall_before_start(node, fleet, policy, facts)
        if stall is not None:
            found[node.name] = stall
    return found


def _driver_of(components: Sequence[ExpectedComponent]) -> ExpectedComponent | None:
    return next((expected for expected in components if expected.component is DRIVER), None)


def _stall_after_start(
    node: Node, policy: UpgradePolicy, driver: ExpectedComponent | None, facts: Facts
) -> UpgradeStall | None:
    """Why the upgrade of a node is stuck that has begun."""
    state = state_of(node)
    if state == FAILED:
        return UpgradeStall(
            _why_failed(node, facts),
            f"Fix that, then: kubectl label node {node.name} --overwrite {UPGRADE_STATE}={REQUIRED}",
        )
    if state == WAITING_FOR_JOBS and policy.waits_without_timeout:
        return UpgradeStall(
            f"it waits without end for pods labelled {policy.waits_for}: waitForCompletion.timeoutSeconds is 0",
            f"Set waitForCompletion.timeoutSeconds of {policy.source}.",
        )
    if policy.block_without_timeout(state):
        return _stall_at_pod_removal(node, policy, facts)
    return _stall_at_the_driver(node, driver, facts) if state in AT_THE_DRIVER else None


def _stall_at_pod_removal(node: Node, policy: UpgradePolicy, facts: Facts) -> UpgradeStall | None:
    """What a state without timeout waits for; None while the last pods are terminating."""
    state = state_of(node)
    block = policy.block_without_timeout(state)
    left = [pod for pod in facts.pods_on(node.name) if _has_to_be_removed(pod, state, policy, facts)]
    staying = next((pod for pod in left if not pod.deleting or _overdue(pod, facts.taken_at)), None)
    if staying is None:
        return None
    cause = f"it waits without end for {staying} to end: {block}.timeoutSeconds is 0"
    return UpgradeStall(cause, f"Set {block}.timeoutSeconds of {policy.source}, and find out what holds the pod.")


def _has_to_be_removed(pod: Pod, state: str, policy: UpgradePolicy, facts: Facts) -> bool:
    """Whether an upgrade state removes a pod from its node. A drain with a label selector is not evaluated."""
    if pod.static or pod.finished or pod.owner_kind == "DaemonSet":
        return False
    if state == DRAINING:
        return not policy.drains_selected_pods and pod.labels.get(UPGRADE_DRAIN_SKIP) != "true"
    return is_known(pod, facts)


def _stall_at_the_driver(node: Node, expected: ExpectedComponent | None, facts: Facts) -> UpgradeStall | None:
    """Why an upgrade is stuck at the driver pod: the old one does not end, or the new one is missing or not Ready."""
    state, pod = state_of(node), _driver_pod(node, facts)
    if pod is None:
        failure = failure_on(expected, node, facts) if expected is not None else None
        return UpgradeStall(failure.cause, failure.remedy) if failure is not None and not failure.transient else None
    if pod.deleting:
        return _stall_at_termination(pod, state) if _overdue(pod, facts.taken_at) else None
    if is_recent(pod.started or pod.created, facts.taken_at):
        return None
    if pod.ready:
        return UpgradeStall(f"{pod} has long been Ready, and the node is still in state {state}", _VALIDATOR)
    cause = f"the node is in state {state}, and {pod} has not become Ready: {why_not_ready(pod)}"
    return UpgradeStall(cause, what_to_do(pod, facts))


def _stall_at_termination(pod: Pod, state: str) -> UpgradeStall:
    due = f"{pod.deletion:%Y-%m-%d %H:%M} UTC"
    cause = f"the node is in state {state}, and the old {pod} is Terminating, due since {due}"
    return UpgradeStall(
        cause, "Find out what holds its kernel modules; then look at its finalizers and at the kubelet."
    )


def _overdue(pod: Pod, now: datetime) -> bool:
    """Whether a pod that is being deleted should have ended."""
    return pod.deletion is not None and now - pod.deletion > TERMINATION_MAY_TAKE


_VALIDATOR = "Read the log of the validator on the node: it has 600 seconds to become Ready."


def _why_failed(node: Node, facts: Facts) -> str:
    driver = _driver_pod(node, facts)
    if driver is None or not driver.ready:
        return "the upgrade failed, and the driver pod of the node is " + ("missing" if driver is None else "not Ready")
    return "the upgrade failed: a pod could not be deleted, or the validator was not Ready in time"


def _driver_pod(node: Node, facts: Facts) -> Pod | None:
    """The driver pod of a node: the new one where the old one is still terminating."""
    key, value = _DRIVER_POD
    pods = [pod for pod in facts.pods_on(node.name) if pod.labels.get(key) == value]
    return min(pods, key=lambda pod: pod.deleting, default=None)


class _Fleet:
    """What a node that waits for its upgrade depends on in the others, looked at once for all that wait."""

    def __init__(self, nodes: Sequence[Node], facts: Facts) -> None:
        self._facts = facts
        self._states = {node.name: state_of(node) for node in nodes}
        self._progress: dict[str, _Progress | None] = {}
        self.size = len(nodes)
        self.is_under_way = any(state in UNDER_WAY for state in self._states.values())
        self.failed = [name for name, state in self._states.items() if state == FAILED]
        self.down = [node.name for node in unavailable(nodes)]

    def progress(self, driver: Workload) -> "_Progress | None":
        """How far the nodes of a driver's DaemonSet are; None where none has the driver of its present template.

        When the template was changed stands nowhere: it was before the first pod of it.
        """
        name = str(driver)
        if name not in self._progress:
            pods = self._facts.pods_of(driver)
            done = [pod for pod in pods if self._states.get(pod.node) == DONE]
            last = max((pod.created for pod in pods if pod.created), default=None)
            known = 0 < len(done) <= driver.updated
            self._progress[name] = _Progress(len(pods), len(done), last) if last and known else None
        return self._progress[name]


class _Progress(NamedTuple):
    """How many of its pods are of nodes that have the present driver, and when the newest of them was made."""

    pods: int
    done: int
    last: datetime


def _stall_before_start(node: Node, fleet: _Fleet, policy: UpgradePolicy, facts: Facts) -> UpgradeStall | None:
    """Why the upgrade of a node does not start; None while others are upgraded first."""
    if node.labels.get(UPGRADE_SKIP) == "true":
        return UpgradeStall(
            f"label {UPGRADE_SKIP}=true excludes the node", f"kubectl label node {node.name} {UPGRADE_SKIP}-"
        )
    if not policy.automatic:
        return UpgradeStall(
            f"autoUpgrade of {policy.source} is false, and the label was left behind", "Set it to true again."
        )
    if node.unschedulable or fleet.is_under_way:
        return None
    if policy.parallel and len(fleet.failed) >= policy.parallel:
        counted = "failed and count as being upgraded, of which maxParallelUpgrades allows"
        cause = f"{join_limited(fleet.failed)} {counted} {policy.parallel}"
        return UpgradeStall(cause, "Fix the node that failed; it blocks all the others.")
    most = policy.unavailable(fleet.size)
    if len(fleet.down) >= most:
        named = join_limited(fleet.down)
        cause = (
            f"{len(fleet.down)} of {fleet.size} nodes are cordoned or not Ready ({named}), and maxUnavailable allows "
            f"{most}"
        )
        return UpgradeStall(
            cause, f"Uncordon the nodes whose maintenance is over, or raise maxUnavailable of {policy.source}."
        )
    return _stall_without_reason(node, fleet, policy, facts)


def _stall_without_reason(node: Node, fleet: _Fleet, policy: UpgradePolicy, facts: Facts) -> UpgradeStall | None:
    """That nobody goes on with the upgrade of a node which others of its DaemonSet have behind them."""
    pod = _driver_pod(node, facts)
    driver = facts.workload("DaemonSet", pod.namespace, pod.owner_name) if pod is not None else None
    progress = fleet.progress(driver) if driver is not None else None
    if progress is None or facts.taken_at - progress.last < NEXT_MAY_TAKE:
        return None
    return UpgradeStall(
        f"{driver} has its present driver on {progress.done} of {progress.pods} nodes, its newest pod is of "
        f"{progress.last:%Y-%m-%d %H:%M} UTC, and no node is being upgraded although {policy.source} allows it",
        "Read what the operator's log says of upgrades: it looks at them whenever a node, a driver pod or its resource "
        "changes.",
    )
