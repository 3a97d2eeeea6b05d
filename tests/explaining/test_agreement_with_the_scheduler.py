"""Whether a pod fits on a node: kube-scheduler and the computation say the same of random pods on random nodes.

Each filter is drawn for: resources of containers, init containers and sidecars, pod-level requests, overhead, huge
pages, ephemeral storage and pod slots; taints and tolerations with every operator; node selector, affinity and fields;
host ports; scheduling gates; affinity to other pods and topology spread with all of their members; volumes; device
claims.
``ci/soak`` decides 2,000 pods for each of the first two tests, ``ci/test`` a sample of them.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import random_devices
import random_pods
import yaml
from hypothesis import settings
from patience import PATIENCE
from random_pods import TENANTS

from conformance.clusters.embedded import EmbeddedSpec, start
from conformance.explaining.fitting import Fit, fit_of
from conformance.explaining.seen import Seen, seen_from
from conformance.facts.reading import in_served_version
from conformance.kube.client import Client
from conformance.kube.effects import Effect
from conformance.kube.errors import NotFound
from conformance.kube.guard import Guard
from conformance.kube.paths import path
from conformance.kube.timeouts import EMBEDDED
from conformance.kube.waits import wait_for
from conformance.progress import SilentProgress

Object = dict[str, Any]
NODES = 15
IN_SOAK = 2000
SAMPLE = 120
CLEARED_EVERY = 100
SPACES = ("default", *TENANTS)
# Rarer than this one of the two answers would say little.
RARE = 0.07
_VOLUMES = ("PersistentVolumeClaim", "PersistentVolume", "StorageClass", "CSINode")
_DEVICES = ("ResourceClaim", "ResourceSlice", "DeviceClass", "DeviceTaintRule")

pytestmark = pytest.mark.cluster


def decisions(of_all: float = 1.0) -> int:
    """How many pods a test has the scheduler decide."""
    soaking = settings().max_examples >= IN_SOAK
    return round((IN_SOAK if soaking else SAMPLE) * of_all)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A cluster of nodes that nobody plays a GPU stack on: what they have to give is drawn."""
    pool = {"name": "any", "count": NODES, "cpu": "16", "memory": "64Gi"}
    file = tmp_path_factory.mktemp("fleet") / "topology.yaml"
    file.write_text(yaml.safe_dump({"name": "any", "description": "nodes", "pools": [pool]}))
    # Lt and Gt are taken only while their gate is on (KEP-5471). A binding of volumes that nobody makes ends soon.
    profile = {"pluginConfig": [{"name": "VolumeBinding", "args": {"bindTimeoutSeconds": 1}}]}
    spec = EmbeddedSpec(
        topology=str(file),
        simulator=False,
        feature_gates={"TaintTolerationComparisonOperators": True, "DRADeviceTaintRules": True},
        runtime_config=(f"{random_devices.RULES_API}=true",),
        scheduler_config={"profiles": [{"schedulerName": "default-scheduler", **profile}]},
    )
    with start(spec, SilentProgress()) as cluster, cluster.connection() as connection:
        client = Client(connection, Guard(Effect.DISRUPTIVE, None), EMBEDDED, "gpu-conformance-tests")
        chance = random.Random("tenants")
        for name in TENANTS:
            labels = {"tenant": name, "kind": chance.choice(random_pods.VALUES[:4])}
            client.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        client.create(path("RuntimeClass"), random_pods.HEAVY)
        for name in SPACES:
            account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
            wait_for(lambda at=account: _exists(client, at), bool, what="the default account", timeout=PATIENCE)
        yield client


def test_what_a_node_and_its_pods_decide_is_decided_as_kube_scheduler_does(
    client: Client, chance: random.Random
) -> None:
    answers = Answers()
    left, number = decisions(), 0
    while left > 0:
        if number % 5 == 0:
            _clear(client)
            nodes = _vary_nodes(client, chance)
        made = [random_pods.alone(f"{number}-{at}", each["metadata"]["name"], chance) for at, each in enumerate(nodes)]
        answers.compare_at_once(client, _seen(client), made)
        left, number = left - len(made), number + 1

    answers.mean_something()


def test_rules_about_other_pods_are_those_of_kube_scheduler(client: Client, chance: random.Random) -> None:
    """One pod after the other, because the domains of these rules span nodes."""
    answers, nodes = Answers(), []
    for number in range(decisions()):
        if number % CLEARED_EVERY == 0:
            _clear(client)
            nodes = _vary_nodes(client, chance)
            seen = _seen(client)
        meant = chance.choice(nodes)["metadata"]["name"] if chance.random() < 0.6 else None
        pods = f"/api/v1/namespaces/{chance.choice(TENANTS)}/pods"
        body = client.create(pods, random_pods.with_neighbours(f"n-{number}", meant, chance))
        pod = _decided(client, f"{pods}/n-{number}")
        answers.add(pod, fit_of(seen, body), meant)
        if pod["spec"].get("nodeName"):
            seen = seen_from([*(each for kind in seen.objects.values() for each in kind), {"kind": "Pod", **pod}])
        else:
            client.delete(f"{pods}/n-{number}")

    answers.mean_something()


def test_where_volumes_can_be_is_decided_as_kube_scheduler_does(client: Client, chance: random.Random) -> None:
    _clear(client)
    nodes = _vary_nodes(client, chance, taints=False)
    for each in random_devices.CLASSES:
        client.create(path("StorageClass"), each)
    for each in nodes:
        client.create(path("CSINode"), random_devices.csi_node(each, chance))
    answers, claims_of = Answers(), dict[str, list[str]]()
    for number in range(round(decisions(0.3) / NODES) or 1):
        for node in nodes:
            at = node["metadata"]["name"]
            mine = claims_of.setdefault(at, [])
            volumes, claim = random_devices.volume_and_claim(f"c{number}-{at}", node, chance)
            for volume in volumes:
                client.create(path("PersistentVolume"), volume)
            client.create(path("PersistentVolumeClaim", namespace="default"), claim)
            mine.append(claim["metadata"]["name"])
        _wait_until_bound(client)
        made = [_claiming(number, at, mine, chance) for at, mine in claims_of.items()]
        answers.compare_at_once(client, _seen(client, *_VOLUMES), made, decided=_has_chosen)

    answers.mean_something()


def test_device_claims_are_decided_as_kube_scheduler_does(client: Client, chance: random.Random) -> None:
    _clear(client)
    nodes = _vary_nodes(client, chance, taints=False)
    for each in random_devices.DEVICE_CLASSES:
        client.create(path("DeviceClass"), each)
    for each in nodes:
        client.create(path("ResourceSlice"), random_devices.resource_slice(each["metadata"]["name"], chance))
    rules = path("DeviceTaintRule").replace("resource.k8s.io/v1", random_devices.RULES_API)
    for at, each in enumerate(chance.sample(nodes, 8)):
        client.create(rules, random_devices.taint_rule(f"rule-{at}", each["metadata"]["name"], chance))
    answers = Answers()
    for number in range(round(decisions(0.5) / NODES) or 1):
        if number % 2 == 0:
            _clear(client)
        made = []
        for at, node in enumerate(nodes):
            names = [f"d{number}-{at}-{one}" for one in range(chance.choice((1, 1, 2)))]
            for name in names:
                client.create(path("ResourceClaim", namespace="default"), random_devices.device_claim(name, chance))
            where = node["metadata"]["name"]
            made.append(random_devices.with_claims(f"d{number}-{at}", where, names, of_devices=True))
        answers.compare_at_once(client, _seen(client, *_DEVICES), made)

    answers.mean_something()


class Answers:
    """What both said of pods; nothing is compared where the computation says that it does not decide."""

    def __init__(self) -> None:
        self.placed = self.refused = 0
        self.undecided = Counter[str]()

    def compare_at_once(
        self,
        client: Client,
        seen: Seen,
        made: list[Object],
        decided: Callable[[Client, Object], bool] = lambda _, pod: bool(pod["spec"].get("nodeName")),
    ) -> None:
        """Compare pods of which each is for one node."""
        with ThreadPoolExecutor(4) as pool:
            bodies = list(pool.map(lambda body: client.create("/api/v1/namespaces/default/pods", body), made))
        after = _all_decided(client, {body["metadata"]["name"] for body in bodies}, decided)
        for body in bodies:
            pod = after[body["metadata"]["name"]]
            self.add(pod, fit_of(seen, body), body["metadata"]["annotations"]["meant"], chosen=decided(client, pod))

    def add(self, pod: Object, fit: Fit, meant: str | None, chosen: bool | None = None) -> None:
        """Compare one: where it is, it has to fit; where it is not, no node that it is meant for may."""
        if pod["spec"].get("schedulingGates"):
            assert _condition(pod)["reason"] == "SchedulingGated"
            return
        placed = bool(pod["spec"].get("nodeName")) if chosen is None else chosen
        here = meant or pod["spec"].get("nodeName")
        kept = [] if here is None else [*fit.nowhere, *fit.found[here]]
        told = f"{kept or 'nothing keeps it off'} against {_condition(pod)}:\n{yaml.safe_dump(pod['spec'])}"
        if here is None:
            assert fit.nowhere or all(fit.found.values()), f"{[n for n, k in fit.found.items() if not k]} {told}"
        elif placed:
            assert not kept, told
        elif not kept:
            assert fit.undecided, told
        self.undecided.update([] if kept else fit.undecided[:1])
        self.placed += placed
        self.refused += not placed

    def mean_something(self) -> None:
        """Neither answer is rare, and most are compared."""
        every = self.placed + self.refused
        print(
            f"{every} pods: {self.placed} placed, {self.refused} refused, {self.undecided.total()} not wholly decided"
        )
        print(*(f"{many:4} {words}" for words, many in self.undecided.most_common(8)), sep="\n")
        assert min(self.placed, self.refused) > every * RARE


def _seen(client: Client, *kinds: str) -> Seen:
    every = ("Node", "Pod", "Namespace", *kinds)
    return seen_from({"kind": kind, **each} for kind in every for each in in_served_version(kind, client.list))


def _claiming(number: int, node: str, claims: list[str], chance: random.Random) -> Object:
    chosen = chance.sample(claims, min(len(claims), chance.choice((1, 1, 2))))
    return random_devices.with_claims(f"v{number}-{node}", node, chosen, of_devices=False)


def _has_chosen(_: Client, pod: Object) -> bool:
    """Whether the scheduler has taken the node: it is there, or waited in vain for volumes that nobody makes."""
    return bool(pod["spec"].get("nodeName")) or "binding volumes" in str(_condition(pod).get("message"))


def _wait_until_bound(client: Client) -> None:
    """The controller binds the claims that name their volume."""

    def unbound() -> list[Object]:
        claims = client.list(path("PersistentVolumeClaim"))
        return [each for each in claims if each["spec"].get("volumeName") and each["status"].get("phase") != "Bound"]

    wait_for(unbound, lambda left: not left, what="claims are bound", timeout=PATIENCE)


def _clear(client: Client) -> None:
    """Delete the pods and what they claim."""
    for kind in ("Pod", "PersistentVolumeClaim", "ResourceClaim"):
        for space in SPACES:
            for each in client.list(path(kind, namespace=space)):
                client.delete(path(kind, namespace=space, name=each["metadata"]["name"]))
    wait_for(
        lambda: [pod for pod in client.list("/api/v1/pods") if pod["metadata"]["namespace"] in SPACES],
        lambda left: not left,
        what="the pods are gone",
        timeout=PATIENCE,
        format_seen=lambda left: f"{len(left)} left",
    )


def _vary_nodes(client: Client, chance: random.Random, *, taints: bool = True) -> list[Object]:
    """Give nodes other labels, taints and amounts, and wait until the scheduler has to have seen it."""
    names = sorted(each["metadata"]["name"] for each in client.list("/api/v1/nodes"))
    for name in names:
        spec: Object = {"taints": random_pods.node_taints(chance) if taints else None}
        spec["unschedulable"] = True if taints and chance.random() < 0.05 else None
        labels = random_pods.node_labels(chance)
        client.patch(f"/api/v1/nodes/{name}", {"metadata": {"labels": labels}, "spec": spec})
        amounts = random_pods.node_amounts(chance)
        client.patch(f"/api/v1/nodes/{name}/status", {"status": {"allocatable": amounts, "capacity": amounts}})
    return wait_for(
        lambda: client.list("/api/v1/nodes"),
        lambda nodes: all(_is_settled(node) for node in nodes),
        what="cordons are taints",
        timeout=PATIENCE,
        format_seen=lambda nodes: f"{len(nodes)} nodes",
    )


def _is_settled(node: Object) -> bool:
    """The node controller turns a cordon into a taint, and takes it away."""
    keys = {each["key"] for each in node["spec"].get("taints") or ()}
    cordoned = "node.kubernetes.io/unschedulable" in keys
    return cordoned == bool(node["spec"].get("unschedulable")) and "node.kubernetes.io/not-ready" not in keys


def _exists(client: Client, at: str) -> bool:
    try:
        client.get(at)
    except NotFound:
        return False
    return True


def _decided(client: Client, at: str) -> Object:
    """The pod when the scheduler has come to it, which takes milliseconds: wait_for's pauses are longer."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        pod = client.get(at)
        if pod["spec"].get("nodeName") or _was_refused(pod):
            return pod
        time.sleep(0.005)
    raise AssertionError(f"the scheduler has not come to {at} within {PATIENCE} s")


def _all_decided(client: Client, names: set[str], chosen: Callable[[Client, Object], bool]) -> Mapping[str, Object]:
    def look() -> dict[str, Object]:
        every: Iterable[Object] = client.list("/api/v1/namespaces/default/pods")
        return {pod["metadata"]["name"]: pod for pod in every if pod["metadata"]["name"] in names}

    def each_is(found: dict[str, Object]) -> bool:
        return all(_was_refused(pod) or chosen(client, pod) for pod in found.values())

    return wait_for(look, each_is, what="the scheduler has decided", timeout=PATIENCE, format_seen=_those_left)


def _those_left(found: Mapping[str, Object]) -> str:
    left = [pod for pod in found.values() if not (pod["spec"].get("nodeName") or _was_refused(pod))]
    return f"{len(left)} left, such as {left[0]['metadata']['name']}: {_condition(left[0])}" if left else "none left"


def _was_refused(pod: Object) -> bool:
    return _condition(pod).get("reason") in ("Unschedulable", "SchedulingGated", "SchedulerError")


def _condition(pod: Object) -> Object:
    stated = (pod.get("status") or {}).get("conditions") or ()
    return next((each for each in stated if each["type"] == "PodScheduled"), {})
