"""Withdrawing: exactly what deploying made goes, and the nodes become what they were."""

import copy

import pytest

from conformance.deploy import deploy, withdraw
from conformance.kube.errors import WaitTimeout
from conformance.kube.names import MANAGED_BY
from conformance.reference import Reference, load, objects
from conformance.shipped import shipped

SERVING = "/api/v1/namespaces/ml-serving"
NODES = "/api/v1/nodes"
RUN = "a1234567"


@pytest.fixture(scope="module")
def reference() -> Reference:
    return load(shipped("fixtures/reference"))


def without_versions(objects_by_path):
    plain = copy.deepcopy(objects_by_path)
    for obj in plain.values():
        del obj["metadata"]["resourceVersion"]
        if not obj["metadata"].get("annotations"):
            obj["metadata"].pop("annotations", None)
        if not obj["spec"].get("taints"):
            obj["spec"].pop("taints", None)
    return plain


def test_a_withdrawn_set_up_leaves_the_cluster_as_it_was(fleet, reference) -> None:
    fleet.node(
        "t4-inference-2",
        "t4-inference",
        labels={"gpu-type": "unknown"},
        taints=[{"key": "dedicated", "value": "someone", "effect": "NoSchedule"}],
    )
    before = without_versions(fleet.objects)

    deploy(fleet, reference)
    withdrawn = withdraw(fleet, reference)

    assert without_versions(fleet.objects) == before
    assert len(withdrawn.deleted) == len(objects(reference))
    assert withdrawn.left == ()


def test_what_stands_on_others_goes_first(fleet, reference) -> None:
    deploy(fleet, reference)

    withdraw(fleet, reference)

    deleted = fleet.writes("delete")
    workload = deleted.index("/apis/apps/v1/namespaces/ml-serving/deployments/llm-inference-server")
    assert workload < deleted.index(f"{SERVING}/resourcequotas/gpus") < deleted.index(SERVING)


def test_withdrawing_twice_is_harmless(fleet, reference) -> None:
    deploy(fleet, reference)
    withdraw(fleet, reference)

    assert withdraw(fleet, reference).deleted == ()


def test_a_run_withdraws_only_what_it_deployed(fleet, reference) -> None:
    deploy(fleet, reference)
    before = dict(fleet.objects)

    withdrawn = withdraw(fleet, reference, run_id=RUN)

    assert withdrawn.deleted == ()
    assert "Namespace ml-serving: is not of this deployment" in withdrawn.left
    assert [place for place in before if place not in fleet.objects] == []


def test_an_object_of_others_stays(fleet, reference) -> None:
    deploy(fleet, reference)
    del fleet.objects[f"{SERVING}/resourcequotas/gpus"]["metadata"]["labels"][MANAGED_BY]

    withdrawn = withdraw(fleet, reference)

    assert "ResourceQuota ml-serving/gpus: is not of this deployment" in withdrawn.left


def test_a_namespace_in_which_others_keep_something_stays(fleet, reference) -> None:
    deploy(fleet, reference)
    fleet.add({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hf-token", "namespace": "ml-serving"}})

    withdrawn = withdraw(fleet, reference)

    assert withdrawn.left == ("Namespace ml-serving: others keep things in it: secrets/hf-token",)
    assert fleet.get(SERVING)


def test_what_the_control_plane_gives_a_namespace_keeps_nothing_alive(fleet, reference) -> None:
    deploy(fleet, reference)
    fleet.add(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt", "namespace": "ml-serving"}}
    )
    owned = {"name": "llm-x", "namespace": "ml-serving", "ownerReferences": [{"kind": "ReplicaSet"}]}
    fleet.add({"apiVersion": "v1", "kind": "Pod", "metadata": owned})

    assert withdraw(fleet, reference).left == ()


def test_a_label_that_somebody_changed_since_stays_and_is_named(fleet, reference) -> None:
    deploy(fleet, reference)
    fleet.objects[f"{NODES}/cpu-1"]["metadata"]["labels"]["node-type"] = "memory-optimized"

    withdrawn = withdraw(fleet, reference)

    assert withdrawn.left == ("node cpu-1: label node-type=memory-optimized was changed by somebody else",)
    assert fleet.get(f"{NODES}/cpu-1")["metadata"]["labels"]["node-type"] == "memory-optimized"


def test_a_node_that_is_gone_needs_nothing(fleet, reference) -> None:
    deploy(fleet, reference)
    del fleet.objects[f"{NODES}/cpu-1"]

    assert withdraw(fleet, reference).left == ()


def test_a_namespace_that_does_not_go_ends_the_wait(fleet, reference, monkeypatch) -> None:
    deploy(fleet, reference)
    delete = fleet.delete
    monkeypatch.setattr(fleet, "delete", lambda path, **options: path == SERVING or delete(path, **options))

    with pytest.raises(WaitTimeout, match="Namespace ml-serving still there"):
        withdraw(fleet, reference)

    assert "node-type" not in fleet.get(f"{NODES}/cpu-1")["metadata"]["labels"], "nodes are put back all the same"


@pytest.mark.parametrize(("run_id", "hastened"), [(RUN, True), (None, False)])
def test_only_the_pods_that_a_run_brought_are_hurried(fleet, reference, run_id, hastened) -> None:
    deploy(fleet, reference, run_id=run_id)
    ending = {"deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30}
    owned = {"name": "llm-x", "namespace": "ml-serving", "ownerReferences": [{"kind": "ReplicaSet"}], **ending}
    fleet.add({"apiVersion": "v1", "kind": "Pod", "metadata": owned})

    withdraw(fleet, reference, run_id=run_id)

    assert (f"{SERVING}/pods/llm-x" in fleet.writes("delete")) is hastened
