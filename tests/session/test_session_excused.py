"""What is not the owners' to change is left out by requirements, and listed in the report."""

from typing import Any

from conformance.facts import Facts
from conformance.reference import load
from conformance.report.model import Excused
from conformance.session.excused import excused_in
from conformance.shipped import shipped

REFERENCE = load(shipped("fixtures/reference"))
GPU_NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "gpu-1", "labels": dict(REFERENCE.gpu_pools[0].selector)},
}


def pod(namespace: str, owner: str = "DaemonSet", node: str = "gpu-1", phase: str = "Running") -> dict[str, Any]:
    owners = [{"kind": owner, "name": "o", "controller": True, "apiVersion": "apps/v1", "uid": "u"}] if owner else []
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"p-{namespace}-{owner}-{phase}", "namespace": namespace, "ownerReferences": owners},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": phase},
    }


def priority_class(name: str, value: int) -> dict[str, Any]:
    return {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value}


def excused(*objects: dict[str, Any]) -> tuple[Excused, ...]:
    return excused_in(Facts.from_objects([GPU_NODE, *objects]), REFERENCE)


def test_pods_on_gpu_nodes_are_listed_by_whose_they_are():
    found = excused(pod("gmp-system"), pod("kube-system"), pod("kube-system", "ReplicaSet"), pod("corp-agents"))

    assert found == (
        Excused("Kubernetes", ("kube-system",), 2),
        Excused("GKE", ("gmp-system",), 1),
        Excused("node agents", ("corp-agents",), 1),
    )


def test_what_is_judged_is_not_excused():
    team = REFERENCE.teams[0].namespace

    assert excused(pod(team), pod("shop", "ReplicaSet"), pod("kube-system", node="cpu-1")) == ()
    assert excused(pod("kube-system", phase="Succeeded")) == ()


def test_classes_above_the_highest_declared_one_are_listed():
    declared = [priority_class(each.name, 1000 - number) for number, each in enumerate(REFERENCE.priority_classes)]

    found = excused(*declared, priority_class("gmp-critical", 5000), priority_class("gke-low", 5))

    assert found == (Excused("GKE", (), 0, ("gmp-critical",)),)


def test_what_may_not_be_read_is_left_out():
    facts = Facts.from_objects([GPU_NODE, pod("gmp-system")], {"PriorityClass": "Forbidden: no"})

    assert excused_in(facts, REFERENCE) == (Excused("GKE", ("gmp-system",), 1),)
