"""The fleet of a report: declared pools with their nodes and what these offer, and GPU nodes that no pool knows."""

from conformance.facts.nodes import Node
from conformance.facts.pods import Pod, pod_from
from conformance.reference.model import Gpu, Pool, Reference
from conformance.report.fleet import pools_of

GPU = "nvidia.com/gpu"


def node(name: str, pool: str, *, ready: bool = True, healthy: str = "4", **more: bool) -> Node:
    amounts = {GPU: "4"} if healthy else {}
    return Node(
        name=name, labels={"pool": pool}, ready=ready, capacity=amounts, allocatable={GPU: healthy} if healthy else {},
        **more,
    )  # fmt: skip


def pool(name: str, gpu: Gpu | None = None, labels: dict[str, str] | None = None) -> Pool:
    return Pool(name=name, selector={"pool": name}, nodes=2, gpu=gpu, labels=labels or {})


def test_a_pool_has_its_nodes_and_what_they_offer() -> None:
    shared = Gpu(model="t4", count=4, replicas=8, shared_by="time-slicing")
    reference = Reference(name="ours", pools=(pool("t4", shared), pool("cpu")))
    nodes = [
        node("b", "t4", healthy="3"),
        node("a", "t4", ready=False, unschedulable=True),
        node("c", "cpu", healthy=""),
    ]

    t4, cpu = pools_of(nodes, reference)

    assert (t4.name, t4.declared_nodes, t4.model, t4.layout) == ("t4", 2, "t4", "time-slicing, 8 replicas")
    assert (t4.nodes, t4.not_ready, t4.cordoned) == (("a", "b"), 1, 1)
    assert (t4.capacity, t4.allocatable) == ({GPU: 8}, {GPU: 7})
    assert (cpu.nodes, cpu.capacity, cpu.layout) == (("c",), {}, "")


def test_nodes_with_gpus_of_no_pool_are_told_and_others_are_not() -> None:
    (_, other) = pools_of([node("a", "new"), node("b", "new", healthy="")], Reference(name="ours", pools=(pool("t4"),)))

    assert (other.name, other.nodes) == ("", ("a",))


def test_mig_and_dra_are_told_as_layouts() -> None:
    mig = pool("mig", Gpu(model="a100", count=8), {"nvidia.com/mig.config": "all-1g.10gb"})
    dra = pool("dra", Gpu(model="h100", count=8, allocated_by="dra"))
    plain = pool("plain", Gpu(model="h100", count=8))

    assert [each.layout for each in pools_of([], Reference(name="ours", pools=(mig, dra, plain)))] == [
        "MIG all-1g.10gb",
        "by DRA",
        "whole devices",
    ]


def test_what_unfinished_pods_request_is_told_by_pool_and_unknown_where_pods_are_unreadable() -> None:
    def pod_on(node: str, phase: str, gpus: str = "2") -> Pod:
        limits = {"limits": {GPU: gpus}}
        return pod_from(
            {
                "metadata": {"name": f"{node}-{phase}", "namespace": "team"},
                "spec": {"nodeName": node, "containers": [{"name": "main", "image": "a", "resources": limits}]},
                "status": {"phase": phase},
            }
        )

    reference = Reference(name="ours", pools=(pool("t4"),))
    nodes = [node("a", "t4"), node("b", "t4")]
    pods = [pod_on("a", "Running"), pod_on("b", "Running", "1"), pod_on("b", "Succeeded"), pod_on("other", "Running")]

    assert [each.requested for each in pools_of(nodes, reference, pods)] == [{GPU: 3}]
    assert [each.requested for each in pools_of(nodes, reference, [])] == [{GPU: 0}]
    assert [each.requested for each in pools_of(nodes, reference)] == [None]
