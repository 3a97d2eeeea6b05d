"""What becomes of pods with GPUs while their nodes are away, computed from facts."""

from typing import Any

from conformance.facts import Facts
from conformance.gpu.labels import DEPLOY_DRIVER
from conformance.upgrading.forecast import Capacity, Fate, Together, by_policy, foretell, one_by_one

GPU = "nvidia.com/gpu"
RESOURCES = (GPU,)
Object = dict[str, Any]


def node(name: str, gpus: int = 2, **labels: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"nvidia.com/gpu.product": "A100", **labels}},
        "status": {
            "capacity": {GPU: str(gpus), "pods": "110"},
            "allocatable": {GPU: str(gpus), "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(name: str, on: str, gpus: int = 2, *, priority: int = 0, owner: str = "Job", **spec: Any) -> Object:
    owners = [{"apiVersion": "v1", "kind": owner, "name": f"of-{name}", "uid": name, "controller": True}]
    container = {"name": "main", "image": "busybox", "resources": {"limits": {GPU: str(gpus)}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "ml",
            "labels": {"app": name},
            "ownerReferences": owners if owner else [],
        },
        "spec": {
            "nodeName": on,
            "priority": priority,
            "schedulerName": "default-scheduler",
            "containers": [container],
            **spec,
        },
        "status": {"phase": "Running", "startTime": "2026-11-01T00:00:00Z"},
    }


def policy(**upgrade: Any) -> Object:
    return {
        "apiVersion": "nvidia.com/v1",
        "kind": "ClusterPolicy",
        "metadata": {"name": "cluster-policy"},
        "spec": {"driver": {"upgradePolicy": {"autoUpgrade": True, **upgrade}}},
    }


def foretold(*objects: Object, away: str = "a") -> Capacity:
    facts = Facts.from_objects(objects)
    gone = tuple(each for each in facts.nodes if each.name in away)
    found = foretell((Together(gone, 1),), facts, RESOURCES)
    assert found is not None
    return found


def test_a_pod_that_finds_room_is_only_counted() -> None:
    found = foretold(node("a"), node("b"), pod("train", "a"))

    assert (found.pods, found.moves, found.away) == (1, 1, ())
    told = "while one node is away, over all nodes: 1 pod with GPUs leaving: 1 with room elsewhere"
    assert str(found) == f"{told}; Jobs that start over or fail: 1"


def test_training_evicts_an_experiment_which_then_waits() -> None:
    found = foretold(node("a"), node("b"), pod("train", "a", priority=1000), pod("try", "b"))

    assert (found.pods, found.preempts, found.waits, found.evicted) == (1, 1, 1, 1)
    (away,) = found.away
    assert list(map(str, away.displaced)) == [
        "Job ml/of-train (1 pod, priority 1000) evicts pod ml/try on node b",
        "Job ml/of-try (1 pod, priority 0), evicted by pod ml/train, waits until a node is back",
    ]


def test_who_may_not_preempt_waits() -> None:
    found = foretold(node("a"), node("b"), pod("train", "a", priority=1000, preemptionPolicy="Never"), pod("try", "b"))

    assert (found.preempts, found.waits) == (0, 1)


def test_equals_do_not_evict_each_other() -> None:
    assert foretold(node("a"), node("b"), pod("one", "a"), pod("other", "b")).waits == 1


def test_a_taint_or_a_selector_keeps_a_pod_from_room_that_is_there() -> None:
    tainted = node("b")
    tainted["spec"] = {"taints": [{"key": "team", "value": "x", "effect": "NoSchedule"}]}

    assert foretold(node("a"), tainted, pod("train", "a")).waits == 1
    assert foretold(node("a"), node("b"), pod("train", "a", nodeSelector={"kind": "big"})).waits == 1


def test_a_node_that_is_cordoned_or_away_takes_nobody() -> None:
    cordoned = node("b")
    cordoned["spec"] = {"unschedulable": True}

    assert foretold(node("a"), cordoned, pod("train", "a")).waits == 1
    assert foretold(node("a"), node("b"), pod("train", "a"), pod("more", "b"), away="ab").waits == 2


def test_of_two_experiments_the_one_without_budget_is_evicted() -> None:
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "keep", "namespace": "ml"},
        "spec": {"selector": {"matchLabels": {"app": "guarded"}}, "minAvailable": 1},
        "status": {"disruptionsAllowed": 0, "currentHealthy": 1, "expectedPods": 1},
    }
    objects = [node("a"), node("b"), node("c"), pod("train", "a", priority=1000)]

    found = foretold(*objects, pod("guarded", "b"), pod("free", "c"), budget)

    assert found.away[0].displaced[0].victims == ("pod ml/free",)
    assert found.away[0].displaced[0].node == "c"


def test_nodes_that_serve_as_well_are_counted() -> None:
    found = foretold(node("a"), node("b"), node("c"), pod("train", "a", priority=1), pod("x", "b"), pod("y", "c"))

    (train, *_) = found.away[0].displaced
    assert train.instead == 1
    assert str(train).endswith("on node b or 1 like it")


def test_room_is_given_away_once() -> None:
    found = foretold(node("a"), node("b"), pod("one", "a", 1), pod("other", "a", 1), pod("here", "b", 1))

    assert (found.moves, found.waits) == (1, 1)


def test_who_is_evicted_evicts_others_below() -> None:
    found = foretold(
        node("a"), node("b"), node("c"), pod("top", "a", priority=20), pod("middle", "b", priority=10), pod("low", "c"),
        pod("last", "a", owner=""),
    )  # fmt: skip

    assert found.lost == 1
    assert (found.preempts, found.evicted, found.waits) == (1, 1, 1), "the lowest is evicted at once"


def test_pods_that_another_scheduler_places_or_that_have_claims_are_not_computed() -> None:
    kai = pod("kai", "a", 1, schedulerName="kai-scheduler")
    queued = pod("queued", "a", 1)
    queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "team"

    found = foretold(node("a"), node("b"), kai, queued)

    assert found.unknown == 2
    assert {each.fate for each in found.away[0].displaced} == {Fate.UNKNOWN}
    assert {each.why for each in found.away[0].displaced} == {
        "kai-scheduler places it",
        "Kueue has to admit it again",
    }


def test_pods_that_stay_with_their_node_or_have_ended_are_not_counted() -> None:
    ended = pod("ended", "a", 1)
    ended["status"]["phase"] = "Succeeded"

    assert foretold(node("a"), node("b"), pod("agent", "a", 1, owner="DaemonSet"), ended).pods == 0


def test_nodes_go_as_many_at_once_as_their_policy_says() -> None:
    facts = Facts.from_objects([*(node(name) for name in "abcd"), policy(maxParallelUpgrades=2, maxUnavailable="100%")])

    (group,) = by_policy(facts, RESOURCES)

    assert group.at_once == 2
    assert len(group.nodes) == 4


def test_nodes_whose_driver_others_install_are_not_away() -> None:
    facts = Facts.from_objects([node("a"), node("b", **{DEPLOY_DRIVER: "pre-installed"}), policy()])

    (group,) = by_policy(facts, RESOURCES)

    assert [each.name for each in group.nodes] == ["a"]


def test_where_nothing_is_upgraded_by_itself_nothing_is_foretold() -> None:
    facts = Facts.from_objects([node("a"), policy(autoUpgrade=False)])

    assert by_policy(facts, RESOURCES) == ()
    assert foretell((), facts, RESOURCES) is None
    assert one_by_one(facts, RESOURCES)[0].at_once == 1


def job(**spec: Any) -> Object:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "of-train", "namespace": "ml"},
        "spec": {"template": {"spec": {"containers": []}}, **spec},
    }


IGNORES = {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}


def test_a_job_starts_over_and_says_so() -> None:
    (stopped,) = foretold(node("a"), node("b"), pod("train", "a"), job()).stopped

    assert str(stopped) == "Job ml/of-train (1 pod) starts over, but for checkpoints of its own"


def test_a_job_without_retries_fails_unless_its_policy_ignores_evictions() -> None:
    (fails,) = foretold(node("a"), node("b"), pod("train", "a"), job(backoffLimit=0)).stopped
    (stays,) = foretold(node("a"), node("b"), pod("train", "a"), job(backoffLimit=0, podFailurePolicy=IGNORES)).stopped

    assert fails.fails == "its backoffLimit leaves 0, and each evicted pod is one that failed"
    assert not stays.fails


def test_a_job_that_the_policy_waits_for_is_not_stopped() -> None:
    def stopped(**wait: Any) -> int:
        waits = {"waitForCompletion": {"podSelector": "app=train", **wait}}
        facts = Facts.from_objects([policy(**waits), node("a"), node("b"), pod("train", "a"), job()])
        found = foretell(by_policy(facts, RESOURCES), facts, RESOURCES)
        return len(found.stopped) if found is not None else -1

    assert stopped(timeoutSeconds=0) == 0
    assert stopped(timeoutSeconds=60) == 1, "it may not have ended by then"


def test_a_service_is_no_job() -> None:
    assert not foretold(node("a"), node("b"), pod("serve", "a", owner="ReplicaSet")).stopped
