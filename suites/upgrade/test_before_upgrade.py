"""Before an upgrade: each node begins clean, the policy lets the upgrade end, and pods that hold GPUs may leave.

An upgrade that cannot go on does not fail at once. A node is cordoned, its pods are asked to leave, and for minutes or
for ever nothing happens; meanwhile its GPUs stand still, and the other nodes wait for their turn.
"""

from conformance.catalog import MUST, SHOULD, Owner, requirement
from conformance.facts import Facts, Node
from conformance.gpu.labels import UPGRADE_SKIP, UPGRADE_STATE
from conformance.reference.expected import gpu_resources
from conformance.reference.model import Pool, Reference
from conformance.subjects import ObjectReference
from conformance.upgrading.forecast import Together, stopped_jobs
from conformance.verdict import Judge, NotApplicable, Waits
from suites._shared.formatting import join_limited
from suites._shared.operands import expected_components
from suites._shared.operator_resource import require_operator_resource
from suites._shared.stuck_upgrades import stuck_nodes
from suites._shared.upgrade_states import DONE, FAILED, state_of, unavailable
from suites.upgrade.evictions import Evictions
from suites.upgrade.upgrade_groups import UpgradeGroup, leaving_pods, patience_of

_DEFAULT_GRACE = 30
_NEVER_ENDING = ("ReplicaSet", "StatefulSet", "ReplicationController", "DaemonSet")
"""Owners whose pods run until somebody stops them: Kubernetes allows them no other restartPolicy than Always."""


@requirement(
    "UPG-01",
    "No GPU node is in a driver upgrade, or kept out of the next one by a label, before the upgrade begins",
    level=MUST,
    sources=["operator-upgrades", "operator-upgrade-library"],
    remedy="Wait until the upgrade under way has ended; remove a label nvidia.com/gpu-driver-upgrade.skip that nobody "
    "wants any more, or declare it for the pool.",
)
def test_no_node_is_in_an_upgrade_already(
    facts: Facts, reference: Reference, groups: tuple[UpgradeGroup, ...], judge: Judge
) -> None:
    members = [member for group in groups for member in group.members]
    operator_resource = require_operator_resource(facts, reference)
    stuck = stuck_nodes(members, expected_components(facts, reference), operator_resource, facts)
    for pool, node in members:
        if state_of(node) == FAILED or node.name in stuck:
            judge.pass_over(node, Waits("its upgrade is stuck or has failed", on="OPER-18"))
            continue
        obstacle = _left_from_before(pool, node)
        judge(
            node,
            ok=not obstacle,
            expected=f"{UPGRADE_STATE} {DONE} or not set, and no {UPGRADE_SKIP}=true that is not declared",
            actual=obstacle or f"{UPGRADE_STATE}={state_of(node) or 'not set'}",
            cause=obstacle,
            hidden_because="the operator waits without an error",
            inspect=f"kubectl get nodes -l {pool.selector_text} -L {UPGRADE_STATE},{UPGRADE_SKIP}",
        )


@requirement(
    "UPG-02",
    "The upgrade policy upgrades nodes by itself, and lets the first node begin with the nodes as they are",
    level=MUST,
    sources=["operator-upgrades", "operator-upgrade-library", "operator-2509"],
    remedy="Set autoUpgrade to true, bring cordoned nodes and those that are not Ready back, or raise maxUnavailable.",
)
def test_the_policy_lets_the_upgrade_begin(groups: tuple[UpgradeGroup, ...], judge: Judge) -> None:
    for group in groups:
        obstacle = _why_none_begins(group)
        judge(
            group,
            ok=not obstacle,
            expected=f"a policy by which one of {len(group.nodes)} nodes may begin",
            actual=obstacle or f"{group.at_once} of {len(group.nodes)} nodes may be away at once",
            cause=obstacle,
            hidden_because="nodes get the label upgrade-required and keep it; no object is in an error state",
            inspect=_inspect(group),
        )


@requirement(
    "UPG-03",
    "No upgrade policy waits without timeout for pods that run until somebody stops them",
    level=MUST,
    sources=["operator-upgrades", "operator-upgrade-library"],
    remedy="Set waitForCompletion.timeoutSeconds, or let its podSelector select nothing but pods of Jobs.",
)
def test_no_wait_is_without_end(facts: Facts, groups: tuple[UpgradeGroup, ...], judge: Judge) -> None:
    for group in groups:
        awaited = [
            pod
            for node in group.nodes
            for pod in facts.pods_on(node.name)
            if group.policy.waits_for_pod(pod.labels) and not pod.finished and pod.owner_kind in _NEVER_ENDING
        ]
        endless = awaited if group.policy.waits_without_timeout else []
        judge(
            group,
            ok=not endless,
            expected="a timeout, or pods that end by themselves",
            actual=f"waitForCompletion selects {group.policy.waits_for or 'no pods'}",
            cause=f"no timeout, and {join_limited([str(pod) for pod in endless])} run until somebody stops them"
            if endless
            else "",
            hidden_because="the node stays in wait-for-jobs-required, cordoned, and nothing reports it",
            inspect=_inspect(group),
        )


@requirement(
    "UPG-04",
    "Disruption budgets, taken together, let all pods leave a GPU node that the driver upgrade evicts from it",
    level=MUST,
    owner=Owner.UNKNOWN,
    sources=["operator-upgrade-library", "k8s-disruptions"],
    remedy="Let the budget allow as many disruptions as it has pods on nodes that are upgraded together, lower "
    "maxParallelUpgrades, spread the pods, or scale them down for the upgrade; of a pod only one budget may count it.",
)
def test_budgets_let_the_pods_of_a_node_go(facts: Facts, groups: tuple[UpgradeGroup, ...], judge: Judge) -> None:
    evictions = Evictions(groups, facts)
    refusals = evictions.refusals()
    for node in (node for group in groups for node in group.nodes):
        kept = "; ".join(each.why for each in refusals[node.name] if each.known)
        unknown = "; ".join(each.why for each in refusals[node.name] if not each.known)
        if unknown and not kept:
            judge.pass_over(node, unknown)
            continue
        judge(
            node,
            ok=not kept,
            expected="budgets under which all pods with GPUs leave the node",
            actual=kept or f"{len(evictions.leaving(node))} pods, and no budget keeps one of them",
            cause=kept,
            hidden_because="each budget by itself allows a disruption, and nothing shows before the first eviction; "
            "then the node ends upgrade-failed and cordoned",
            inspect="kubectl get poddisruptionbudgets -A",
        )


@requirement(
    "UPG-05",
    "No GPU pod may take longer to end than the upgrade policy waits for it (terminationGracePeriodSeconds)",
    level=SHOULD,
    owner=Owner.UNKNOWN,
    sources=["operator-upgrades", "operator-upgrade-library"],
    remedy="Raise timeoutSeconds of podDeletion in the upgrade policy above the longest grace period, or stop the pod "
    "before the upgrade.",
)
def test_pods_end_within_the_timeout(facts: Facts, groups: tuple[UpgradeGroup, ...], judge: Judge) -> None:
    judge.without_subjects(NotApplicable("no pod that an upgrade would evict is on a GPU node"))
    for group in groups:
        patience = patience_of(group.policy)
        for pod in (pod for node in group.nodes for pod in leaving_pods(node, group.policy, facts)):
            grace = _DEFAULT_GRACE if pod.grace_seconds is None else pod.grace_seconds
            judge(
                pod,
                ok=not patience or grace <= patience,
                expected=f"at most {patience} seconds, after which the upgrade of the node fails"
                if patience
                else "any time: the policy has no timeout",
                actual=f"terminationGracePeriodSeconds {grace}",
                cause=f"it may take {grace} seconds to end, and {group} waits for {patience}",
                hidden_because="the pod may end sooner; where it does not, the node is upgrade-failed and cordoned",
                inspect=f"kubectl get pod -n {pod.namespace} {pod.name} -o yaml",
            )


@requirement(
    "UPG-30",
    "No Job fails for good because a driver upgrade evicts its pods (backoffLimit, podFailurePolicy)",
    level=SHOULD,
    owner=Owner.UNKNOWN,
    sources=["k8s-pod-failure-policy", "operator-upgrades"],
    remedy="Let the Job end before the upgrade, give it a podFailurePolicy that ignores DisruptionTarget, or let "
    "waitForCompletion of the upgrade policy select its pods.",
)
def test_no_job_fails_for_good(
    facts: Facts, reference: Reference, groups: tuple[UpgradeGroup, ...], judge: Judge
) -> None:
    judge.without_subjects(NotApplicable("no Job has pods with GPUs on a node that is upgraded"))
    together = (Together(group.nodes, group.at_once, group.policy) for group in groups)
    for job in stopped_jobs(together, facts, gpu_resources(reference)):
        kind, _, name = job.owner.partition(" ")
        namespace, _, own = name.partition("/")
        judge(
            ObjectReference.of(kind, own, namespace=namespace),
            ok=not job.fails,
            expected="a Job that makes evicted pods again",
            actual=str(job),
            cause=f"{job.pods} of its pods are evicted: {job.fails}" if job.fails else "",
            hidden_because="the upgrade itself succeeds; the Job is only found to be Failed afterwards",
            inspect=f"kubectl get {kind.lower()} -n {namespace} {own} -o yaml",
        )


def _left_from_before(pool: Pool, node: Node) -> str:
    """What an earlier upgrade, or somebody, left on a node; empty where it is clean."""
    if state_of(node) not in ("", DONE):
        return f"an upgrade is under way: {UPGRADE_STATE}={state_of(node)}"
    if node.labels.get(UPGRADE_SKIP) == "true" and pool.labels.get(UPGRADE_SKIP) != "true":
        return f"label {UPGRADE_SKIP}=true keeps the operator from upgrading the node"
    return ""


def _why_none_begins(group: UpgradeGroup) -> str:
    policy, nodes = group.policy, group.nodes
    if not policy.automatic:
        return f"autoUpgrade of {group} is not true: each driver stays until somebody deletes its pod"
    most, down = policy.unavailable(len(nodes)), unavailable(nodes)
    if not most:
        return f"maxUnavailable of {group} allows no node to be away"
    if len(down) >= most and len(down) < len(nodes):
        names = join_limited([each.name for each in down])
        return f"{len(down)} nodes are cordoned or not Ready ({names}), and maxUnavailable of {group} allows {most}"
    return ""


def _inspect(group: UpgradeGroup) -> str:
    return f"kubectl get {group.subject.kind.lower()} {group.subject.name} -o yaml"
