from typing import Any

import pytest

from conformance.gpu.placement import explain_refusal
from conformance.lab.explaining import explain

HOSTNAME = "kubernetes.io/hostname"


def node(name: str, *, gpus: int = 4, taints: tuple[str, ...] = (), pool: str = "a100", **spec: Any) -> dict[str, Any]:
    amounts = {"cpu": "8", "memory": "1Gi", "pods": "3", "nvidia.com/gpu": str(gpus)}
    raw = [{"key": key, "value": "yes", "effect": "NoSchedule"} for key in taints]
    return {
        "metadata": {"name": name, "labels": {"pool": pool, HOSTNAME: name}},
        "spec": {"taints": raw, **spec},
        "status": {"allocatable": amounts if gpus else {key: amounts[key] for key in ("cpu", "memory", "pods")}},
    }


def pod(name: str = "wanted", *, gpus: int = 1, on: str | None = None, **spec: Any) -> dict[str, Any]:
    limits = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    body = {"containers": [{"resources": {"limits": limits}}], **spec, **({"nodeName": on} if on else {})}
    return {"metadata": {"name": name, "namespace": "team", "labels": {"app": name}}, "spec": body, "status": {}}


def requiring(key: str, value: str) -> dict[str, Any]:
    term = {"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {"affinity": {"nodeAffinity": required}}


@pytest.mark.parametrize(
    ("wanted", "nodes", "others", "said", "hopeless"),
    [
        (pod(), [node("a", taints=("gpu",))], [], "node a: taint gpu=yes:NoSchedule is not tolerated", True),
        (
            pod(gpus=3),
            [node("a")],
            [pod("x", gpus=2, on="a")],
            "node a: 3 nvidia.com/gpu asked for, 2 of 4 free (held by team/x)",
            False,
        ),
        (pod(gpus=8), [node("a")], [], "node a: 8 nvidia.com/gpu asked for, 4 of 4 free", True),
        (
            pod(nodeSelector={"pool": "h100"}),
            [node("a")],
            [],
            "node a: node selector wants pool=h100, the label is a100",
            True,
        ),
        (
            pod(**requiring("tier", "gold")),
            [node("a")],
            [],
            "node a: required affinity is not met: tier In (gold)",
            True,
        ),
        (pod(), [node("a", unschedulable=True)], [], "node a: it is cordoned", False),
        (
            pod(gpus=0),
            [node("a")],
            [pod(str(i), gpus=0, on="a") for i in range(3)],
            "1 pods asked for, 0 of 3 free",
            False,
        ),
        (pod(schedulingGates=[{"name": "wait"}]), [node("a")], [], "it has the scheduling gate wait", True),
        (pod(), [], [], "the cluster has no node", False),
        (pod(), [node("a")], [], "nothing keeps it off node a: the scheduler has not placed it yet", False),
        (
            pod(gpus=0, containers=[{"resources": {"requests": {"memory": "2Gi"}}}]),
            [node("a")],
            [],
            "node a: 2048 MiB of memory asked for, 1024 of 1024 free",
            True,
        ),
    ],
)
def test_the_reason_is_computed(
    wanted: dict[str, Any], nodes: list[dict[str, Any]], others: list[dict[str, Any]], said: str, hopeless: bool
) -> None:
    explanation = explain(wanted, nodes, others)

    assert said in str(explanation)
    assert explanation.hopeless is hopeless


def test_the_nearest_node_is_named_and_the_others_are_counted() -> None:
    nodes = [node("cpu", gpus=0), node("far", pool="t4"), node("near", taints=("gpu",)), node("nearer")]
    others = [pod("x", gpus=4, on="nearer")]

    explanation = explain(pod(nodeSelector={"pool": "a100"}), nodes, others)

    assert str(explanation) == (
        "node near: taint gpu=yes:NoSchedule is not tolerated; the other 3 nodes are ruled out: "
        "1 by too little room, 1 by having none of the devices, 1 by selector or affinity"
    )


def test_finished_pods_and_the_pod_itself_hold_nothing() -> None:
    finished = pod("x", gpus=4, on="a")
    finished["status"]["phase"] = "Succeeded"

    explanation = explain(pod(gpus=4), [node("a")], [finished, pod(gpus=4, on="a")])

    assert "nothing keeps it off node a" in str(explanation)


def test_pods_that_may_not_share_a_place_are_named() -> None:
    apart = {"topologyKey": HOSTNAME, "labelSelector": {"matchLabels": {"app": "x"}}}
    wanted = pod(affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}})

    explanation = explain(wanted, [node("a")], [pod("x", on="a")])

    assert str(explanation) == f"node a: it may not share {HOSTNAME}=a with pod team/x"


def test_only_a_few_of_many_holders_are_named() -> None:
    others = [pod(f"x{number}", gpus=1, on="a") for number in range(8)]

    explanation = explain(pod(gpus=1), [node("a", gpus=8)], others)

    assert "(held by team/x0, team/x1, team/x2, team/x3 and 4 more)" in str(explanation)


def test_a_quota_without_room_is_named_with_its_figures() -> None:
    quota = {
        "metadata": {"name": "gpus"},
        "spec": {"hard": {"requests.nvidia.com/gpu": "4"}},
        "status": {"hard": {"requests.nvidia.com/gpu": "4", "pods": "10"}, "used": {"requests.nvidia.com/gpu": "3"}},
    }

    assert explain_refusal(pod(gpus=1), "team", [quota]) == ""
    assert explain_refusal(pod(gpus=2), "team", [quota]) == (
        "quota team/gpus allows 4 of requests.nvidia.com/gpu, 3 are used and 2 asked for"
    )
