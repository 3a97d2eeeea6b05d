"""The real kube-scheduler and quota controller decide as our pure functions say they do.

Every pod is pinned to one node by a label, so that scheduled or not is the answer to one question. Nodes and pods
are drawn at random from a fixed seed: a failure names the pod and the node, and comes back.
"""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from patience import PATIENCE

from conformance.facts import node_from, pod_from
from conformance.gpu.taints import CORDON
from conformance.kube.client import Client
from conformance.kube.paths import path
from conformance.kube.waits import wait_for

pytestmark = pytest.mark.cluster

NAMESPACE = "agreement"
PIN = "agreement.example.com/node"
NODES, PODS, SHAPES = 8, 160, 24
KEYS, VALUES = ["gpu-type", "gpu-memory"], ["a100", "h100", "40", "80", "081"]
TAINTS, TAINT_VALUES = ["nvidia.com/gpu", "dedicated"], ["", "present", "gpu"]
EFFECTS = ["NoSchedule", "NoExecute", "PreferNoSchedule"]

Object = dict[str, Any]


@pytest.fixture(scope="module")
def client(cluster: Any) -> Iterator[Client]:
    """The cluster with a namespace of our own and, while the module runs, our nodes."""
    client: Client = cluster.client
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    _await_default_account(client)
    yield client
    client.delete(path("Namespace", name=NAMESPACE))
    for number in range(NODES):
        client.delete(path("Node", name=f"agreement-{number}"))
    wait_for(
        lambda: client.list(path("Pod", namespace=NAMESPACE)), lambda pods: not pods, what="pods are gone", timeout=60
    )


def test_the_scheduler_places_exactly_the_pods_that_we_say_fit(client: Client) -> None:
    choose = random.Random(20)
    for number in range(NODES):
        client.create(path("Node"), _node(number, choose))
    nodes = wait_for(
        lambda: client.list(path("Node"), label_selector=PIN),
        lambda found: all(map(_is_settled, found)),
        what="the nodes are ready and their taints final",
        timeout=60,
    )
    pods = [_pod(number, choose) for number in range(PODS)]
    for pod in pods:
        client.create(path("Pod", namespace=NAMESPACE), pod)
    decided = wait_for(
        lambda: client.list(path("Pod", namespace=NAMESPACE)),
        lambda found: all(map(_is_decided, found)),
        what="the scheduler has decided on every pod",
        timeout=60,
    )

    wrong = [
        f"{pod['metadata']['name']}: {pod['spec']} {node['spec'].get('taints')} {node['metadata']['labels']}"
        for pod in decided
        for node in nodes
        if pod["spec"]["nodeSelector"][PIN] == node["metadata"]["name"]
        if bool(pod["spec"].get("nodeName")) != _fits(pod, node)
    ]
    placed = sum(bool(pod["spec"].get("nodeName")) for pod in decided)

    assert wrong == []
    assert PODS / 10 < placed < PODS * 9 / 10, "the draw must ask both kinds of question"


def test_the_quota_counts_what_we_say_a_pod_asks_for(client: Client) -> None:
    choose = random.Random(36)
    keys = [f"requests.example.com/gpu-{number}" for number in range(SHAPES)]
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "shapes", "namespace": NAMESPACE}}
    client.apply(quota | {"spec": {"hard": dict.fromkeys(keys, "1000")}})
    place = path("ResourceQuota", namespace=NAMESPACE, name="shapes")
    wait_for(
        lambda: client.get(place)["status"].get("used") or {},
        lambda used: set(used) == set(keys),
        what="counted",
        timeout=PATIENCE,
    )

    asked = {}
    for number in range(SHAPES):
        resource = f"example.com/gpu-{number}"
        created = client.create(path("Pod", namespace=NAMESPACE), _shape(f"shape-{number}", resource, choose))
        asked[f"requests.{resource}"] = str(pod_from(created).gpus(resource))

    used = client.get(place)["status"]["used"]
    assert used == asked
    assert len(set(asked.values())) > 3, "the draw must give pods of different sizes"


def _fits(pod: Object, node: Object) -> bool:
    wanted, offered = pod_from(pod), node_from(node)
    return wanted.selects(offered) and not offered.untolerated(wanted.tolerations)


def _node(number: int, choose: random.Random) -> Object:
    name = f"agreement-{number}"
    labels = {key: choose.choice(VALUES) for key in KEYS if choose.random() < 0.7}
    taints = {
        (key, effect): {"key": key, "value": choose.choice(TAINT_VALUES), "effect": effect}
        for key in TAINTS
        for effect in EFFECTS
        if choose.random() < 0.3
    }
    offered = {"cpu": "1000", "memory": "1000Gi", "pods": "1000"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels | {PIN: name}, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "spec": {"taints": list(taints.values()), "unschedulable": number == 0},
        "status": {"allocatable": offered, "capacity": offered},
    }


def _pod(number: int, choose: random.Random) -> Object:
    # Two pods in three tolerate everything or have no affinity, so that each rule alone decides often enough.
    tolerations = [_toleration(choose) for _ in range(choose.randint(0, 3))]
    terms = [_term(choose) for _ in range(choose.randint(1, 2))]
    alone = number % 3
    spec: Object = {"tolerations": [{"operator": "Exists"}] if alone == 0 else tolerations}
    if alone != 1:
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
        spec["affinity"] = {"nodeAffinity": required}
    return _in_namespace(f"fits-{number}", spec | {"nodeSelector": {PIN: f"agreement-{choose.randrange(NODES)}"}})


def _toleration(choose: random.Random) -> Object:
    operator = choose.choice(["", "Equal", "Exists"])
    toleration = {"key": choose.choice(TAINTS), "operator": operator, "effect": choose.choice(["", *EFFECTS[:2]])}
    if operator != "Exists":
        toleration["value"] = choose.choice(TAINT_VALUES)
    elif choose.random() < 0.3:
        toleration["key"] = ""
    return {name: member for name, member in toleration.items() if member}


def _term(choose: random.Random) -> Object:
    if choose.random() < 0.1:
        return {}
    term: Object = {"matchExpressions": [_expression(choose) for _ in range(choose.randint(1, 2))]}
    if choose.random() < 0.3:
        names = [f"agreement-{choose.randrange(NODES)}"]
        operator = choose.choice(["In", "NotIn"])
        term["matchFields"] = [{"key": "metadata.name", "operator": operator, "values": names}]
    return term


def _expression(choose: random.Random) -> Object:
    operator = choose.choice(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"])
    expression: Object = {"key": choose.choice([*KEYS, "absent"]), "operator": operator}
    if operator in ("In", "NotIn"):
        expression["values"] = choose.sample(VALUES, choose.randint(1, 3))
    elif operator in ("Gt", "Lt"):
        expression["values"] = [choose.choice(["40", "80", "00081", "9" * 18])]
    return expression


def _shape(name: str, resource: str, choose: random.Random) -> Object:
    def container(number: int) -> Object:
        limits = {resource: str(choose.randint(1, 4))} if choose.random() < 0.8 else {}
        return {"name": f"c-{number}", "image": "app", "resources": {"limits": limits}}

    starting = [container(number) for number in range(choose.randint(0, 4))]
    for each in starting:
        if choose.random() < 0.5:
            each["restartPolicy"] = "Always"
    running = [container(number) for number in range(10, 10 + choose.randint(1, 3))]
    return _in_namespace(name, {"containers": running, "initContainers": starting})


def _in_namespace(name: str, spec: Object) -> Object:
    defaults: Object = {"containers": [{"name": "main", "image": "app"}], "terminationGracePeriodSeconds": 0}
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": defaults | spec}


def _is_settled(node: Object) -> bool:
    """Whether the node controller has taken its not-ready taint off again, and put its cordon on."""
    found = node_from(node)
    lifecycle = [taint for taint in found.taints if taint.is_lifecycle]
    return found.ready and lifecycle == ([CORDON] if found.unschedulable else [])


def _is_decided(pod: Object) -> bool:
    conditions = {each["type"]: each for each in pod["status"].get("conditions") or ()}
    return bool(pod["spec"].get("nodeName")) or conditions.get("PodScheduled", {}).get("reason") == "Unschedulable"


def _await_default_account(client: Client) -> None:
    accounts = path("ServiceAccount", namespace=NAMESPACE)
    wait_for(lambda: client.list(accounts), bool, what="the namespace has its service account", timeout=PATIENCE)
