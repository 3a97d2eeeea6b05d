"""Driver upgrades as the simulated operator makes them, against the rules of NVIDIA's upgrade controller.

Sources: NVIDIA/k8s-operator-libs, pkg/upgrade; the failures of facts from the field (F numbers).
"""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from operated import NAMESPACE, NODES, POLICY, Operated, is_ready, operated, stuck_in
from patience import PATIENCE

from conformance.kube.waits import holds, wait_for

pytestmark = pytest.mark.cluster

STATE = "nvidia.com/gpu-driver-upgrade-state"
SKIP = "nvidia.com/gpu-driver-upgrade.skip"
GPU_NODES = ("a100-1", "a100-2", "a100-3")
NOT_IN_PROGRESS = {"", "upgrade-done", "upgrade-required"}
IN_ORDER = [
    "upgrade-required",
    "cordon-required",
    "wait-for-jobs-required",
    "pod-deletion-required",
    "pod-restart-required",
    "validation-required",
    "uncordon-required",
    "upgrade-done",
]
_VERSIONS = (f"595.99.{number:02d}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    with operated(tmp_path_factory.mktemp("fleet"), gpu_nodes=3) as cluster:
        cluster.says("ready", "Reconciled", timeout=120)
        yield cluster


@pytest.fixture
def fleet(shared: Operated) -> Iterator[Operated]:
    """Three nodes whose drivers are up to date, upgraded one at a time by the chart's policy."""
    policy = shared.client.get(POLICY)["spec"]["driver"]["upgradePolicy"]
    all_are(shared, "upgrade-done")
    yield shared
    shared.ask(driver={"upgradePolicy": policy})
    for node in GPU_NODES:
        shared.label(node, **{SKIP: None})
        shared.hardware(node, broken={})
        if state(shared, node) == "upgrade-failed":
            shared.label(node, **{STATE: "upgrade-required"})
        shared.client.patch(f"{NODES}/{node}", {"spec": {"unschedulable": None}})
    for pod in shared.client.list("/api/v1/namespaces/default/pods"):
        shared.client.delete(f"/api/v1/namespaces/default/pods/{pod['metadata']['name']}", grace_seconds=0)
    all_are(shared, "upgrade-done", timeout=120)
    shared.says("ready", "Reconciled", timeout=120)


def state(fleet: Operated, node: str) -> str:
    return str(fleet.labels(node).get(STATE, ""))


def states(fleet: Operated) -> dict[str, str]:
    return {node: state(fleet, node) for node in GPU_NODES}


def all_are(fleet: Operated, wanted: str, timeout: float = 90) -> None:
    wait_for(
        lambda: states(fleet),
        lambda found: set(found.values()) == {wanted},
        what=f"every node is {wanted!r}",
        timeout=timeout,
    )


def is_at(fleet: Operated, node: str, wanted: str, timeout: float = 60) -> None:
    wait_for(lambda: state(fleet, node), lambda found: found == wanted, what=f"{node} is {wanted}", timeout=timeout)


def is_upgraded(fleet: Operated, node: str, version: str, timeout: float = 60) -> None:
    fleet.pod(
        "nvidia-driver-daemonset", node, lambda pod: version in pod["spec"]["containers"][0]["image"], "is new", timeout
    )
    is_at(fleet, node, "upgrade-done", timeout)


def upgrade(fleet: Operated, **policy: Any) -> str:
    version = next(_VERSIONS)
    fleet.ask(driver={"version": version, **({"upgradePolicy": policy} if policy else {})})
    return version


def history(fleet: Operated, until: str = "upgrade-done") -> list[tuple[str, str]]:
    """Node and state, in the order in which they came since the policy was changed, until all three are through."""
    told: list[tuple[str, str]] = []
    last: dict[str, str] = {}
    for event in fleet.client.watch(NODES, resource_version=fleet.asked_at, timeout=120):
        name = event.object["metadata"]["name"]
        now = event.object["metadata"]["labels"].get(STATE, "")
        if name in GPU_NODES and last.get(name) != now:
            last[name] = now
            told.append((name, now))
        moved = {name for name, seen in told if seen not in NOT_IN_PROGRESS}
        if moved == {*GPU_NODES} and set(last.values()) == {until}:
            return told
    raise AssertionError(f"not all are {until}: {told}")


def gpu_pod(fleet: Operated, node: str, *, name: str = "job", **spec: Any) -> None:
    """A bare pod with a GPU, on one node."""
    container = {"name": "main", "image": "busybox", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container], **spec},
    }
    fleet.client.create("/api/v1/namespaces/default/pods", pod)
    path = f"/api/v1/namespaces/default/pods/{name}"
    wait_for(lambda: fleet.client.get(path), is_ready, what=f"{name} runs", timeout=PATIENCE)


def images(fleet: Operated) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for pod in fleet.pods("nvidia-driver-daemonset")}


def test_nodes_are_upgraded_one_after_the_other_and_come_back(fleet: Operated) -> None:
    version = upgrade(fleet)

    told = history(fleet)

    standing: dict[str, str] = {}
    for node, now in told:
        standing[node] = now
        assert sum(each not in NOT_IN_PROGRESS for each in standing.values()) <= 1
    for node in GPU_NODES:
        assert [now for name, now in told if name == node][-len(IN_ORDER) :] == IN_ORDER
        assert "unschedulable" not in fleet.node(node)["spec"]
    assert images(fleet) == {f"nvcr.io/nvidia/driver:{version}-ubuntu24.04"}


def test_the_policy_is_not_ready_and_operands_are_younger_than_the_driver_afterwards(fleet: Operated) -> None:
    upgrade(fleet)

    fleet.says("notReady", "OperandNotReady")
    history(fleet)
    for node in GPU_NODES:
        (driver,) = fleet.pods("nvidia-driver-daemonset", node)
        plugin = fleet.pod("nvidia-device-plugin-daemonset", node, is_ready, "is back")
        assert plugin["metadata"]["creationTimestamp"] >= driver["metadata"]["creationTimestamp"]
        assert not any(value == "paused-for-driver-upgrade" for value in fleet.labels(node).values())


def test_without_a_limit_as_many_as_may_be_unavailable_go_at_once(fleet: Operated) -> None:
    upgrade(fleet, maxParallelUpgrades=0, maxUnavailable="100%")

    told = history(fleet)

    standing: dict[str, str] = {}
    together = 0
    for node, now in told:
        standing[node] = now
        together = max(together, sum(each not in NOT_IN_PROGRESS for each in standing.values()))
    assert together == 3


def test_a_node_with_the_skip_label_waits_for_ever(fleet: Operated) -> None:  # F57
    fleet.label("a100-2", **{SKIP: "true"})
    version = upgrade(fleet)

    is_upgraded(fleet, "a100-1", version)
    is_upgraded(fleet, "a100-3", version)
    assert holds(lambda: state(fleet, "a100-2"), lambda now: now == "upgrade-required", window=1, what="waits") is None
    assert len(images(fleet)) == 2


def test_a_gpu_pod_with_an_empty_dir_or_without_controller_fails_its_node(fleet: Operated) -> None:  # F52
    gpu_pod(fleet, "a100-1", volumes=[{"name": "shm", "emptyDir": {"medium": "Memory"}}])
    for node in ("a100-2", "a100-3"):
        fleet.label(node, **{SKIP: "true"})
    version = upgrade(fleet)

    is_at(fleet, "a100-1", "upgrade-failed")
    assert fleet.node("a100-1")["spec"]["unschedulable"] is True
    # A node that failed keeps the one slot that there is.
    for node in ("a100-2", "a100-3"):
        fleet.label(node, **{SKIP: None})
    assert holds(lambda: state(fleet, "a100-2"), lambda now: now == "upgrade-required", window=1, what="waits") is None

    policy = {"autoUpgrade": True, "podDeletion": {"force": True, "deleteEmptyDir": True, "timeoutSeconds": 300}}
    fleet.ask(driver={"upgradePolicy": policy})
    fleet.label("a100-1", **{STATE: "upgrade-required"})
    for node in GPU_NODES:
        is_upgraded(fleet, node, version)
    assert fleet.client.list("/api/v1/namespaces/default/pods") == []


def test_nodes_are_drained_when_pods_with_gpus_may_not_be_deleted_one_by_one(fleet: Operated) -> None:
    gpu_pod(fleet, "a100-1")
    gpu_pod(fleet, "a100-1", name="web", containers=[{"name": "main", "image": "busybox"}])
    gpu_pod(fleet, "a100-2", name="other", containers=[{"name": "main", "image": "busybox"}])

    upgrade(fleet, drain={"enable": True, "force": True})
    told = history(fleet)

    assert {node for node, now in told if now == "drain-required"} == {"a100-1"}
    # On a node without GPU pods there is nothing to do, and so nothing to fall back to.
    left = [pod["metadata"]["name"] for pod in fleet.client.list("/api/v1/namespaces/default/pods")]
    assert left == ["other"]


def test_jobs_are_waited_for_without_end_by_default(fleet: Operated) -> None:  # F54
    gpu_pod(fleet, "a100-1")
    waits = {"podSelector": "app=job", "timeoutSeconds": 0}
    version = upgrade(fleet, podDeletion={"force": True}, waitForCompletion=waits)

    is_at(fleet, "a100-1", "wait-for-jobs-required")
    now = holds(lambda: state(fleet, "a100-1"), lambda found: found == "wait-for-jobs-required", window=1.5, what="so")
    assert now is None

    fleet.client.delete("/api/v1/namespaces/default/pods/job", grace_seconds=0)
    is_upgraded(fleet, "a100-1", version)


def test_jobs_are_waited_for_no_longer_than_the_timeout(fleet: Operated) -> None:
    gpu_pod(fleet, "a100-1")
    waits = {"podSelector": "app=job", "timeoutSeconds": 1}
    version = upgrade(fleet, podDeletion={"force": True}, waitForCompletion=waits)

    is_upgraded(fleet, "a100-1", version)
    assert fleet.client.list("/api/v1/namespaces/default/pods") == []


def test_a_node_that_was_cordoned_stays_so_and_waits_for_nobody(fleet: Operated) -> None:
    fleet.client.patch(f"{NODES}/a100-3", {"spec": {"unschedulable": True}})
    version = upgrade(fleet)

    # One cordoned node of three is as many as may be unavailable: only that one goes on.
    is_upgraded(fleet, "a100-3", version)
    assert fleet.node("a100-3")["spec"]["unschedulable"] is True
    assert states(fleet)["a100-1"] == "upgrade-required"  # F53

    fleet.client.patch(f"{NODES}/a100-3", {"spec": {"unschedulable": None}})
    for node in GPU_NODES:
        is_upgraded(fleet, node, version)


def test_without_automatic_upgrades_nothing_happens_and_no_node_says_anything(fleet: Operated) -> None:  # F53
    before = images(fleet)
    upgrade(fleet, autoUpgrade=False)

    all_are(fleet, "")
    assert holds(lambda: images(fleet), lambda now: now == before, window=1.0, what="drivers stay") is None
    fleet.says("notReady", "OperandNotReady")


def test_a_validator_that_is_never_ready_fails_the_upgrade_after_its_time(fleet: Operated) -> None:  # F55
    fleet.client.patch(POLICY, {"metadata": {"annotations": {"gpu-conformance.io/validation-seconds": "1"}}})
    fleet.hardware("a100-1", broken={"fabric-manager": True})
    version = upgrade(fleet)

    told = []
    for event in fleet.client.watch(NODES, resource_version=fleet.asked_at, timeout=120):
        if event.object["metadata"]["name"] == "a100-1":
            told.append(event.object["metadata"]["labels"].get(STATE, ""))
            if told[-1] == "upgrade-failed":
                break
    assert told[-1] == "upgrade-failed"
    assert "validation-required" in told
    fleet.pod("nvidia-operator-validator", "a100-1", stuck_in("cuda-validation", "CrashLoopBackOff"), "fails")
    # A node that failed goes on by itself once its driver's pod is up to date, whatever the validator says.
    is_upgraded(fleet, "a100-1", version)

    fleet.hardware("a100-1", broken={})
    fleet.client.patch(POLICY, {"metadata": {"annotations": {"gpu-conformance.io/validation-seconds": None}}})


def test_a_driver_that_does_not_build_fails_its_node(fleet: Operated) -> None:
    fleet.hardware("a100-1", broken={"driver-fails": True})
    version = upgrade(fleet)

    is_at(fleet, "a100-1", "upgrade-failed")

    fleet.hardware("a100-1", broken={})
    for node in GPU_NODES:
        is_upgraded(fleet, node, version)


def test_a_change_that_installs_the_same_driver_sends_nobody_away(fleet: Operated) -> None:
    gpu_pod(fleet, "a100-1")
    shared = fleet.client.get(POLICY)["spec"]["daemonsets"]
    fleet.ask(daemonsets={"annotations": {"changed": str(next(_VERSIONS))}})

    told = history(fleet)

    assert {now for _, now in told}.isdisjoint({"cordon-required", "pod-deletion-required"})
    assert len(fleet.client.list("/api/v1/namespaces/default/pods")) == 1
    fleet.ask(daemonsets={"annotations": None, **{key: shared[key] for key in ("labels",)}})
    history(fleet)


def test_an_upgrade_that_is_asked_for_goes_all_the_way(fleet: Operated) -> None:
    before = {pod["metadata"]["uid"] for pod in fleet.pods("nvidia-driver-daemonset", "a100-2")}
    annotation = "nvidia.com/gpu-driver-upgrade-requested"
    fleet.client.patch(f"{NODES}/a100-2", {"metadata": {"annotations": {annotation: "true"}}})

    wait_for(
        lambda: fleet.node("a100-2")["metadata"]["annotations"].get(annotation),
        lambda it: it is None,
        what="begun",
        timeout=PATIENCE,
    )
    is_at(fleet, "a100-2", "upgrade-done")

    # Its driver is up to date already, and so its pod is not exchanged.
    assert {pod["metadata"]["uid"] for pod in fleet.pods("nvidia-driver-daemonset", "a100-2")} == before


def test_the_namespace_of_the_operator_is_where_upgrades_happen(fleet: Operated) -> None:
    assert {pod["metadata"]["namespace"] for pod in fleet.pods("nvidia-driver-daemonset")} == {NAMESPACE}
