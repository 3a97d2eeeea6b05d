"""Real nodes: how pods are told to leave, which simulated kubelets only play. Signals, grace, exit codes are real."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from msgspec.structs import replace
from patience import PATIENCE
from real_containers import PODS, Containers

from conformance.kube.client import Client
from conformance.kube.errors import ApiError
from conformance.kube.waits import wait_for

pytestmark = pytest.mark.cluster

# Says when it is told to end, takes a moment, and says so; what it prints last stays as its termination message.
_POLITE = """
import json, signal, sys, time
def end(*_):
    time.sleep(0.5)
    print("ended in order", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
print("working", flush=True)
while True:
    time.sleep(1)
"""
_STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("working", flush=True)
time.sleep(600)
"""
_HELD = "gpu-conformance.io/held"
_CLASS = "/apis/scheduling.k8s.io/v1/priorityclasses"
_BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
_DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
_REFUSED = 429  # HTTP: a budget does not allow the eviction now


@pytest.fixture
def pods(containers: Containers) -> Iterator["Leaving"]:
    leaving = Leaving(containers)
    yield leaving
    leaving.let_go()


class Leaving:
    """Pods that stay readable when they have left their node: a finalizer keeps the object."""

    def __init__(self, containers: Containers) -> None:
        self.containers = containers
        self.client = containers.client
        self.names: list[str] = []

    def working(self, name: str, code: str = _POLITE, *, grace: int = 10, **spec: Any) -> None:
        container = {"name": "main", "image": "localhost/gpu-conformance/python:1", "command": ["python3", "-c", code]}
        container |= {"terminationMessagePolicy": "FallbackToLogsOnError", "resources": spec.pop("resources", {})}
        body = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": grace,
            "nodeSelector": {"kubernetes.io/hostname": "real-1"},
            "tolerations": [{"key": "gpu-conformance.io/real-node", "operator": "Exists"}],
            "containers": [container],
            **spec,
        }
        self.client.create(PODS, {"metadata": {"name": name, "finalizers": [_HELD]}, "spec": body})
        self.names.append(name)
        log = f"{PODS}/{name}/log"
        self.containers.wait_phase(name, "Running")
        wait_for(
            lambda: self.client.request("GET", log), lambda said: b"working" in said, what="it works", timeout=PATIENCE
        )

    def ended(self, name: str) -> dict[str, Any]:
        """How the container of a pod that was told to leave has ended."""

        def terminated(pod: dict[str, Any]) -> bool:
            statuses = pod["status"].get("containerStatuses") or [{}]
            return "terminated" in (statuses[0].get("state") or {})

        pod = self.containers.wait(name, terminated, "has ended")
        return pod["status"]["containerStatuses"][0]["state"]["terminated"]

    def let_go(self) -> None:
        for name in self.names:
            self.client.patch(f"{PODS}/{name}", {"metadata": {"finalizers": None}})
            self.client.delete(f"{PODS}/{name}", grace_seconds=0)


def test_a_deleted_pod_is_asked_to_end_and_ends_in_its_own_way(pods: Leaving) -> None:
    pods.working("asked")

    pods.client.delete(f"{PODS}/asked")

    end = pods.ended("asked")
    assert end["exitCode"] == 7
    assert "ended in order" in end["message"]


def test_a_pod_that_does_not_listen_is_killed_when_its_grace_period_is_over(pods: Leaving) -> None:
    pods.working("deaf", _STUBBORN, grace=2)

    pods.client.delete(f"{PODS}/deaf")

    assert pods.ended("deaf")["exitCode"] == 137


def test_a_victim_of_preemption_gets_the_signal_and_its_time(pods: Leaving) -> None:
    client = pods.client
    for name, value in (("low", 10), ("high", 1000)):
        client.create(_CLASS, {"metadata": {"name": f"real-{name}"}, "value": value})
    cpu = client.get("/api/v1/nodes/real-1")["status"]["allocatable"]["cpu"]
    most = {"requests": {"cpu": f"{int(float(cpu.removesuffix('m')) * (1 if 'm' in cpu else 1000) * 0.7)}m"}}
    try:
        pods.working("victim", priorityClassName="real-low", resources=most)
        pods.working("newcomer", priorityClassName="real-high", resources=most)

        end = pods.ended("victim")
        assert (end["exitCode"], "ended in order" in end["message"]) == (7, True)
        conditions = client.get(f"{PODS}/victim")["status"]["conditions"]
        assert "PreemptionByScheduler" in [each.get("reason") for each in conditions]
    finally:
        for name in ("low", "high"):
            client.delete(f"{_CLASS}/real-{name}")


def test_a_taint_with_no_execute_ends_what_does_not_tolerate_it(pods: Leaving) -> None:
    taint = {"key": "gpu-conformance.io/out", "effect": "NoExecute"}
    pods.working("stays", tolerations=[{"operator": "Exists"}])
    pods.working("goes")
    node = pods.client.get("/api/v1/nodes/real-1")
    pods.client.patch("/api/v1/nodes/real-1", {"spec": {"taints": [*node["spec"]["taints"], taint]}})
    try:
        assert pods.ended("goes")["exitCode"] == 7
        assert "deletionTimestamp" not in pods.client.get(f"{PODS}/stays")["metadata"]
    finally:
        pods.client.patch("/api/v1/nodes/real-1", {"spec": {"taints": node["spec"]["taints"]}})


def test_an_eviction_ends_a_pod_in_order_unless_a_budget_forbids_it(pods: Leaving) -> None:
    client = pods.client
    pods.working("evicted")
    client.patch(f"{PODS}/evicted", {"metadata": {"labels": {"app": "evicted"}}})
    selector = {"matchLabels": {"app": "evicted"}}
    client.create(_BUDGETS, {"metadata": {"name": "keeps"}, "spec": {"minAvailable": 1, "selector": selector}})
    budget = f"{_BUDGETS}/keeps"
    wait_for(
        lambda: client.get(budget)["status"], lambda now: now.get("expectedPods") == 1, what="counted", timeout=PATIENCE
    )

    assert not evict(client, "evicted")
    client.delete(budget)
    wait_for(lambda: client.list(_BUDGETS), lambda left: not left, what="no budget", timeout=PATIENCE)
    assert evict(client, "evicted")

    assert pods.ended("evicted")["exitCode"] == 7


SERVED = {"app": "served"}


@contextmanager
def served(containers: Containers) -> Iterator[None]:
    """Two replicas on node real-2, one of which has to be there always; either real node may take them."""
    client = containers.client
    hosts = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["real-1", "real-2"]}
    required = {"nodeSelectorTerms": [{"matchExpressions": [hosts]}]}
    spec = {
        "tolerations": [{"key": "gpu-conformance.io/real-node", "operator": "Exists"}],
        "terminationGracePeriodSeconds": 10,
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}},
        "containers": [
            {"name": "main", "image": "localhost/gpu-conformance/python:1", "command": ["python3", "-c", _POLITE]}
        ],
    }
    template = {"metadata": {"labels": SERVED}, "spec": spec}
    selector = {"matchLabels": SERVED}
    cordon(containers, "real-1", True)
    client.create(
        _DEPLOYMENTS,
        {"metadata": {"name": "served"}, "spec": {"replicas": 2, "selector": selector, "template": template}},
    )
    client.create(_BUDGETS, {"metadata": {"name": "served"}, "spec": {"minAvailable": 1, "selector": selector}})
    try:
        wait_for(
            lambda: client.get(f"{_BUDGETS}/served")["status"],
            lambda now: now.get("currentHealthy") == 2,
            what="both replicas are counted",
            timeout=PATIENCE,
        )
        yield
    finally:
        for node in ("real-1", "real-2"):
            cordon(containers, node, False)
        client.delete(f"{_DEPLOYMENTS}/served")
        client.delete(f"{_BUDGETS}/served")


def cordon(containers: Containers, node: str, cordoned: bool) -> None:
    containers.client.patch(f"/api/v1/nodes/{node}", {"spec": {"unschedulable": cordoned or None}})


def test_a_drain_waits_for_the_budget_and_moves_every_replica(containers: Containers) -> None:
    client = containers.client

    def replicas() -> dict[str, tuple[str, bool]]:
        """The node of each replica that is not on its way out, and whether it is ready."""
        found = {}
        for pod in client.list(PODS, label_selector="app=served"):
            if "deletionTimestamp" not in pod["metadata"]:
                ready = [each["status"] for each in pod["status"].get("conditions", ()) if each["type"] == "Ready"]
                found[pod["metadata"]["name"]] = (pod["spec"].get("nodeName", ""), ready == ["True"])
        return found

    with served(containers):
        assert {node for node, _ in replicas().values()} == {"real-2"}
        cordon(containers, "real-2", True)
        first, second = replicas()
        assert evict(client, first)
        # The first one's successor has no node that takes it.
        assert not evict(client, second)
        assert replicas()[second] == ("real-2", True)

        cordon(containers, "real-1", False)
        wait_for(lambda: evict(client, second), bool, what="the budget lets the second one go", timeout=PATIENCE)
        assert ("real-1", True) in replicas().values()
        wait_for(
            replicas,
            lambda now: sorted(now.values()) == [("real-1", True)] * 2,
            what="both replicas are on the other node",
            timeout=PATIENCE,
        )


def evict(client: Client, pod: str) -> bool:
    """Whether the pod may go, by its budget, and so goes: asked once, where our client would ask again and again."""
    once = Client(client.connection, client.guard, replace(client.timeouts, retry=0.01))
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": "default"}}
    try:
        once.create(f"{PODS}/{pod}/eviction", eviction)
    except ApiError as error:
        if error.status == _REFUSED:
            return False
        raise
    return True
