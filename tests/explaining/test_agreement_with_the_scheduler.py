"""Whether a pod fits on a node: kube-scheduler and the computation say the same, for 3,000 random pods."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from patience import PATIENCE

from conformance.clusters.embedded import EmbeddedSpec, start
from conformance.gpu.placement import bound_by_node, obstacles
from conformance.kube.client import Client
from conformance.kube.effects import Effect
from conformance.kube.guard import Guard
from conformance.kube.timeouts import EMBEDDED
from conformance.kube.waits import wait_for
from conformance.progress import SilentProgress

NODES, ROUNDS = 100, 20
# One after the other, because the domains of these rules span nodes: each pod is judged by what was there before it.
ONE_BY_ONE, CLEARED_EVERY = 1000, 200
ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
GROUPS, TENANTS = ("a", "b", "c", "d"), ("team-a", "team-b", "team-c")
PODS = "/api/v1/namespaces/default/pods"
KEYS, VALUES = ("zone", "kind", "rank"), ("a", "b", "7", "12")
EFFECTS = ("NoSchedule", "NoExecute", "PreferNoSchedule")

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A cluster of 100 nodes, each with two GPUs and room for a few pods."""
    gpu = {"product": "NVIDIA-L4", "family": "ada-lovelace", "compute": "8.9", "count": 2, "memory_mib": 23034}
    pool = {
        "name": "any",
        "count": NODES,
        "cpu": "16",
        "memory": "64Gi",
        "gpu": gpu | {"brought_by": "image", "driver": "580.95.05"},
    }
    file = tmp_path_factory.mktemp("fleet") / "topology.yaml"
    file.write_text(yaml.safe_dump({"name": "any", "description": "a hundred nodes", "pools": [pool]}))
    with start(EmbeddedSpec(topology=str(file)), SilentProgress()) as cluster, cluster.connection() as connection:
        client = Client(connection, Guard(Effect.DISRUPTIVE, None), EMBEDDED, "gpu-conformance-tests")
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        wait_for(lambda: _exists(client, account), bool, what="the default account", timeout=PATIENCE)
        yield client


def test_the_verdict_fits_here_is_that_of_kube_scheduler(client: Client, chance: random.Random) -> None:
    _vary_nodes(client, chance)
    decided = {True: 0, False: 0}
    for number in range(ROUNDS):
        nodes, before = client.list("/api/v1/nodes"), client.list(PODS)
        made = [_pod(f"{number}-{at}", node["metadata"]["name"], chance) for at, node in enumerate(nodes)]
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda body: client.create(PODS, body), made))
        after = _decided(client, {body["metadata"]["name"] for body in made})
        bound = bound_by_node(before)
        by_name = {node["metadata"]["name"]: node for node in nodes}
        for body in made:
            pod = after[body["metadata"]["name"]]
            kept = obstacles(pod, by_name[body["metadata"]["annotations"]["meant"]], nodes, bound)
            placed = bool(pod["spec"].get("nodeName"))
            decided[placed] += 1
            assert placed == (not kept), f"{kept} against {pod['status']}:\n{yaml.safe_dump(body)}"

    # Neither answer is rare: the agreement means something.
    assert min(decided.values()) > NODES * ROUNDS / 10


def test_rules_about_other_pods_are_those_of_kube_scheduler(client: Client, chance: random.Random) -> None:
    """Affinity and anti-affinity over namespaces, spread and host ports, one pod at a time."""
    for name in TENANTS:
        labels = {"tenant": name, "kind": chance.choice(VALUES)}
        client.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    for name in TENANTS:
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        wait_for(lambda at=account: _exists(client, at), bool, what="the default account", timeout=PATIENCE)
    nodes = _put_into_zones(client, chance)
    by_name = {node["metadata"]["name"]: node for node in nodes}
    namespaces = {each["metadata"]["name"]: each["metadata"]["labels"] for each in client.list("/api/v1/namespaces")}
    decided = {True: 0, False: 0}
    held: dict[str, list[dict[str, Any]]] = {}
    for number in range(ONE_BY_ONE):
        if number % CLEARED_EVERY == 0:
            _clear(client)
            held = bound_by_node(client.list("/api/v1/pods"))
        meant = chance.choice(nodes)["metadata"]["name"]
        pods = f"/api/v1/namespaces/{chance.choice(TENANTS)}/pods"
        body = client.create(pods, _neighbourly(f"n-{number}", meant, chance))
        pod = _decided_one(client, f"{pods}/n-{number}")
        kept = obstacles(body, by_name[meant], nodes, held, namespaces)
        placed = bool(pod["spec"].get("nodeName"))
        decided[placed] += 1
        assert placed == (not kept), f"{kept} against {pod['status']}:\n{yaml.safe_dump(body)}"
        if placed:
            held.setdefault(meant, []).append(pod)
        else:
            client.delete(f"{pods}/n-{number}")

    assert min(decided.values()) > ONE_BY_ONE / 10


def _put_into_zones(client: Client, chance: random.Random) -> list[dict[str, Any]]:
    """Most nodes are in one of four zones, some in none, and none has a taint."""
    for node in client.list("/api/v1/nodes"):
        labels = {ZONE: chance.choice(VALUES) if chance.random() < 0.9 else None}
        spec = {"taints": None, "unschedulable": None}
        client.patch(f"/api/v1/nodes/{node['metadata']['name']}", {"metadata": {"labels": labels}, "spec": spec})
    return wait_for(
        lambda: client.list("/api/v1/nodes"),
        lambda nodes: not any(node["spec"].get("taints") for node in nodes),
        what="no node has a taint",
        timeout=PATIENCE,
    )


def _clear(client: Client) -> None:
    for name in (*TENANTS, "default"):
        for pod in client.list(f"/api/v1/namespaces/{name}/pods"):
            client.delete(f"/api/v1/namespaces/{name}/pods/{pod['metadata']['name']}")
    wait_for(
        lambda: [pod for pod in client.list("/api/v1/pods") if pod["metadata"]["namespace"] in (*TENANTS, "default")],
        lambda left: not left,
        what="the pods are gone",
        timeout=PATIENCE,
    )


def _decided_one(client: Client, path: str) -> dict[str, Any]:
    """The pod when the scheduler has come to it, which takes milliseconds: wait_for's pauses are longer."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        pod = client.get(path)
        if pod["spec"].get("nodeName") or _was_refused(pod):
            return pod
        time.sleep(0.005)
    raise AssertionError(f"the scheduler has not come to {path} within {PATIENCE} s")


def _neighbourly(name: str, node: str, chance: random.Random) -> dict[str, Any]:
    """A pod for one node, with rules about the pods that are there already."""
    pinned = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    affinity: dict[str, Any] = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [pinned]}}
    }
    container: dict[str, Any] = {"name": "main", "image": "i"}
    spec: dict[str, Any] = {"containers": [container], "affinity": affinity, "terminationGracePeriodSeconds": 0}
    for which, often in (("podAffinity", 0.3), ("podAntiAffinity", 0.25)):
        if chance.random() < often:
            terms = [_term(chance) for _ in range(chance.choice((1, 1, 2)))]
            affinity[which] = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
    if chance.random() < 0.35:
        spec["topologySpreadConstraints"] = [_spread(chance)]
    if chance.random() < 0.2:
        port = {"containerPort": 80, "hostPort": chance.choice((8080, 9400)), "protocol": "TCP"}
        container["ports"] = [port]
    labels = {"group": chance.choice(GROUPS), "tier": chance.choice(("x", "y"))}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def _selector(chance: random.Random) -> dict[str, Any]:
    if chance.random() < 0.6:
        return {"matchLabels": {"group": chance.choice(GROUPS), "tier": chance.choice(("x", "y"))}}
    values = sorted(chance.sample(GROUPS, 1))
    return {"matchExpressions": [{"key": "group", "operator": chance.choice(("In", "In", "NotIn")), "values": values}]}


def _term(chance: random.Random) -> dict[str, Any]:
    term: dict[str, Any] = {"topologyKey": chance.choice((ZONE, HOST, HOST)), "labelSelector": _selector(chance)}
    if chance.random() < 0.2:
        term["namespaces"] = sorted(chance.sample(TENANTS, 2))
    if chance.random() < 0.3:
        named = {"matchLabels": {"tenant": chance.choice(TENANTS)}}
        by_kind = {"matchExpressions": [{"key": "kind", "operator": "In", "values": [chance.choice(VALUES)]}]}
        term["namespaceSelector"] = chance.choice(({}, named, by_kind))
    return term


def _spread(chance: random.Random) -> dict[str, Any]:
    """Nodes other than the one that the pod is for count only where node affinity is ignored."""
    constraint: dict[str, Any] = {
        "topologyKey": chance.choice((ZONE, ZONE, HOST)),
        "maxSkew": chance.choice((1, 2, 3)),
        "whenUnsatisfiable": "DoNotSchedule" if chance.random() < 0.9 else "ScheduleAnyway",
        "labelSelector": _selector(chance),
    }
    if chance.random() < 0.7:
        constraint["nodeAffinityPolicy"] = "Ignore"
    if chance.random() < 0.2:
        constraint["nodeTaintsPolicy"] = "Honor"
    if chance.random() < 0.2 and constraint["whenUnsatisfiable"] == "DoNotSchedule":
        constraint["minDomains"] = chance.choice((2, 4, 5))
    return constraint


def _exists(client: Client, path: str) -> bool:
    from conformance.kube.errors import NotFound

    try:
        client.get(path)
    except NotFound:
        return False
    return True


def _vary_nodes(client: Client, chance: random.Random) -> None:
    for node in client.list("/api/v1/nodes"):
        labels = {key: chance.choice(VALUES) for key in KEYS if chance.random() < 0.8}
        taints = [
            {"key": key, "value": chance.choice(VALUES), "effect": chance.choice(EFFECTS)}
            for key in KEYS
            if chance.random() < 0.2
        ]
        spec = {"taints": taints} | ({"unschedulable": True} if chance.random() < 0.05 else {})
        client.patch(f"/api/v1/nodes/{node['metadata']['name']}", {"metadata": {"labels": labels}, "spec": spec})
    # The node controller turns a cordon into a taint, and the scheduler has to have seen all of it.
    wait_for(
        lambda: client.list("/api/v1/nodes"),
        lambda nodes: all(_is_settled(node) for node in nodes),
        what="cordons are taints",
        timeout=PATIENCE,
    )


def _is_settled(node: dict[str, Any]) -> bool:
    keys = {each["key"] for each in node["spec"].get("taints") or ()}
    return not node["spec"].get("unschedulable") or "node.kubernetes.io/unschedulable" in keys


def _decided(client: Client, names: set[str]) -> dict[str, dict[str, Any]]:
    def look() -> dict[str, dict[str, Any]]:
        return {pod["metadata"]["name"]: pod for pod in client.list(PODS) if pod["metadata"]["name"] in names}

    def each_is(found: dict[str, dict[str, Any]]) -> bool:
        return all(pod["spec"].get("nodeName") or _was_refused(pod) for pod in found.values())

    return wait_for(
        look, each_is, what="the scheduler has decided", timeout=PATIENCE, format_seen=lambda _: "some left"
    )


def _was_refused(pod: dict[str, Any]) -> bool:
    return any(each["reason"] == "Unschedulable" for each in (pod.get("status") or {}).get("conditions") or ())


def _pod(name: str, node: str, chance: random.Random) -> dict[str, Any]:
    """A pod for one node, which asks for, tolerates and wants what chance has it."""
    pinned = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    if chance.random() < 0.3:
        pinned["matchExpressions"] = [_expression(chance)]
    required = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [pinned]}}}
    container: dict[str, Any] = {"name": "main", "image": "i", "resources": {"requests": _requests(chance)}}
    gpus = chance.choice((0, 0, 0, 1, 2, 3))
    if gpus:
        container["resources"]["limits"] = {"nvidia.com/gpu": str(gpus)}
    if chance.random() < 0.1:
        port = {"containerPort": 80, "hostPort": chance.choice((8080, 9400)), "protocol": chance.choice(("TCP", "UDP"))}
        container["ports"] = [port | ({"hostIP": "10.0.0.1"} if chance.random() < 0.3 else {})]
    spec: dict[str, Any] = {"containers": [container], "affinity": required, "terminationGracePeriodSeconds": 0}
    if chance.random() < 0.7:
        spec["tolerations"] = [_toleration(chance) for _ in range(chance.choice((1, 2)))]
    if chance.random() < 0.2:
        spec["nodeSelector"] = {chance.choice(KEYS): chance.choice(VALUES)}
    if chance.random() < 0.1:
        apart = {"labelSelector": {"matchLabels": {"group": "apart"}}, "topologyKey": "kubernetes.io/hostname"}
        required["podAntiAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}
    labels = {"group": "apart"} if "podAntiAffinity" in required else {}
    return {"metadata": {"name": name, "labels": labels, "annotations": {"meant": node}}, "spec": spec}


def _expression(chance: random.Random) -> dict[str, Any]:
    operator = chance.choice(("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"))
    values = {"In": 2, "NotIn": 1, "Gt": 1, "Lt": 1}.get(operator, 0)
    drawn = ["9"] if operator in ("Gt", "Lt") else [chance.choice(VALUES) for _ in range(values)]
    return {"key": chance.choice(KEYS), "operator": operator, **({"values": drawn} if drawn else {})}


def _toleration(chance: random.Random) -> dict[str, Any]:
    if chance.random() < 0.3:
        return {"operator": "Exists"} | ({"key": chance.choice(KEYS)} if chance.random() < 0.6 else {})
    found = {"key": chance.choice(KEYS), "operator": "Equal", "value": chance.choice(VALUES)}
    return found | ({"effect": chance.choice(EFFECTS)} if chance.random() < 0.6 else {})


def _requests(chance: random.Random) -> dict[str, str]:
    found = {"cpu": chance.choice(("100m", "1", "1500m", "4", "16", "17"))} if chance.random() < 0.8 else {}
    return found | ({"memory": chance.choice(("64Mi", "1Gi", "16Gi", "0.5Gi"))} if chance.random() < 0.5 else {})
