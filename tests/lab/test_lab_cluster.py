import time
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from lab_runs import abandon, rule
from patience import PATIENCE

from conformance.gpu.taints import Taint
from conformance.kube.client import Client
from conformance.kube.effects import Effect, Mode
from conformance.kube.guard import Guard
from conformance.kube.paths import path
from conformance.kube.timeouts import EMBEDDED
from conformance.kube.waits import wait_for
from conformance.lab import Lab, clean, find_leftovers, new_run_id
from conformance.lab.cleanup.deletion import KINDS
from conformance.verdict import Judge

pytestmark = pytest.mark.cluster

NODE = SimpleNamespace(name="a100-training-1")
TRAINING = SimpleNamespace(name="training", value=500_000, preemption_policy="PreemptLowerPriority")
EXPERIMENT = SimpleNamespace(name="experiment", value=100_000, preemption_policy="Never")


def client_of(cluster: Any, run_id: str) -> Client:
    return Client(cluster.client.connection, Guard(Effect.DISRUPTIVE, run_id), EMBEDDED)


def everything(client: Client) -> dict[tuple[str, str, str], str]:
    """All objects of the kinds that a run creates, and what it could change on nodes."""
    found = {}
    for kind in (*KINDS, "Node", "Lease"):
        for obj in client.list(path(kind)):
            metadata = obj["metadata"]
            found[kind, metadata.get("namespace", ""), metadata["name"]] = _of_node(obj) if kind == "Node" else ""
    return {key: kept for key, kept in found.items() if key[1] != "kube-node-lease"}


def settled(client: Client) -> dict[tuple[str, str, str], str]:
    """Everything, once what an earlier test on the cluster deleted is gone."""
    wait_for(
        lambda: [each["metadata"]["name"] for each in client.list(path("Namespace")) if _is_going(each)],
        lambda going: not going,
        what="namespaces of earlier tests are gone",
        timeout=PATIENCE,
    )
    return everything(client)


def _is_going(obj: dict[str, Any]) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def _of_node(node: dict[str, Any]) -> str:
    labels, taints, status = node["metadata"].get("labels"), node["spec"].get("taints"), node["status"]
    return str((labels, taints, status["capacity"], status["allocatable"]))


def test_a_scenario_on_a_real_control_plane_leaves_everything_as_it_was(cluster: Any, judge: Judge) -> None:
    before, run_id = settled(cluster.client), new_run_id()
    lab = Lab(client_of(cluster, run_id), run_id, EMBEDDED, mode=Mode.FULL)
    with lab, lab.for_requirement(rule()) as scenario, scenario.borrow(NODE, taints=[]) as node:
        low, high = scenario.below_zero(EXPERIMENT), scenario.below_zero(TRAINING)
        experiments = scenario.fill(node, priority=low, held=True, grace_seconds=2)

        training = scenario.pod(gpus=3, priority=high, on=node)
        training.wait_until_nominated()
        assert training.nominated_node == NODE.name
        # The scheduler nominates first and evicts then.
        wait_for(experiments.evicted, lambda evicted: len(evicted) == 3, what="three are evicted", timeout=PATIENCE)
        assert {pod.state.disrupted for pod in experiments.evicted()} == {"PreemptionByScheduler"}
        experiments.release()
        training.wait_until_running()
        late = scenario.pod(gpus=8, priority=low, on=node).stays_pending()
        assert "8 nvidia.com/gpu asked for, 0 of 8 free" in str(late.explain())

        node.set_taints([Taint("closed", "", "NoSchedule")])
        resource = scenario.fake_gpus(node, 2)
        assert "taint closed:NoSchedule is not tolerated" in str(scenario.pod(on=node).explain())
        deployment = scenario.deployment(on=node, tolerates=node, gpus=1, resource=resource, replicas=2)
        deployment.wait_until_available()

    assert lab.left_behind == []
    assert all(finding.ok for finding in judge.findings)
    assert everything(cluster.client) == before


def test_an_interrupted_scenario_is_cleaned_up_by_its_record(cluster: Any) -> None:
    before, run_id = settled(cluster.client), new_run_id()
    lab = Lab(client_of(cluster, run_id), run_id, EMBEDDED, mode=Mode.FULL)
    lab.begin()
    scenario = lab.for_requirement(rule())
    node = scenario.borrow(NODE, taints=[Taint("a", "b", "NoSchedule")])
    scenario.deployment(on=node, tolerates=node, gpus=1).wait_until_available()
    scenario.fake_gpus(node, 3)
    abandon(lab)

    assert clean(cluster.client).skipped
    cleaned = clean(cluster.client, run_id, force=True)

    assert cleaned.left == ()
    assert cleaned.nodes == (NODE.name,)
    assert everything(cluster.client) == before


def test_a_run_lives_as_long_as_the_server_sees_it_renew(cluster: Any) -> None:
    run_id = new_run_id()
    lab = Lab(client_of(cluster, run_id), run_id, msgspec.structs.replace(EMBEDDED, lease=2.0), mode=Mode.FULL)
    lab.begin()
    time.sleep(4.5)
    # On a busy machine a renewal may come late; the next one makes up for it.
    until_seen(cluster.client, [(run_id, True)])
    abandon(lab)
    until_seen(cluster.client, [(run_id, False)])

    assert clean(cluster.client).namespace_removed


def until_seen(client: Client, runs: list[tuple[str, bool]]) -> None:
    """Wait until exactly these runs have left something, each alive or not."""
    wait_for(
        lambda: [(each.run_id, each.alive) for each in find_leftovers(client)],
        lambda found: found == runs,
        what=f"the server sees {runs}",
        timeout=PATIENCE,
    )


def test_real_requests_show_what_an_account_may_do_and_change_nothing(cluster: Any) -> None:
    run_id = new_run_id()
    verbs = ("get", "list", "watch", "create", "update", "patch", "delete")
    with Lab(client_of(cluster, run_id), run_id, EMBEDDED) as lab, lab.for_requirement(rule()) as scenario:
        before = everything(cluster.client)
        nobody = scenario.as_service_account("kube-system", "default")
        collector = scenario.as_service_account("kube-system", "generic-garbage-collector")

        assert [verb for verb in verbs if nobody.allowed(verb, "pods", "kube-system")] == []
        allowed = [verb for verb in verbs if collector.allowed(verb, "Pod", "kube-system")]
        assert allowed == ["get", "list", "watch", "update", "patch", "delete"]
        assert allowed == [
            verb
            for verb in verbs
            if scenario.can("kube-system/generic-garbage-collector", verb, "pods", namespace="kube-system")
        ]
        assert everything(cluster.client) == before
