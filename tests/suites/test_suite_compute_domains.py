"""ComputeDomains, on objects made by hand: what fails, what is still being formed, what is nobody's fault."""

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from conformance.facts import Facts
from conformance.reference import Reference
from conformance.verdict import Judge, NotApplicable, Waits
from suites._shared.pool_nodes import GpuPoolNode
from suites.dra import test_compute_domains as chapter

Object = dict[str, Any]
NOW = datetime(2026, 9, 20, 12, tzinfo=UTC)
YESTERDAY = (NOW - timedelta(days=1)).isoformat()
JUST_NOW = (NOW - timedelta(minutes=2)).isoformat()
UID = "bb555a3a-a499-4c91-97a7-f07965c600ea"
LABEL = "resource.nvidia.com/computeDomain"
CLIQUE = "nvidia.com/gpu.clique"
DRIVER = "nvidia-dra-driver-gpu"


def domain(status: str = "Ready", *, wanted: int = 0, nodes: Any = (), **head: Any) -> Object:
    metadata = {"name": "inference", "namespace": "ml", "uid": UID, "creationTimestamp": YESTERDAY, **head}
    spec = {"numNodes": wanted, "channel": {"resourceClaimTemplate": {"name": "channel"}, "allocationMode": "Single"}}
    said = {"status": status, "nodes": [{"name": name, "status": its} for name, its in nodes]} if status else {}
    api = "resource.nvidia.com/v1beta1"
    return {"apiVersion": api, "kind": "ComputeDomain", "metadata": metadata, "spec": spec, "status": said}


def daemon_set(gates: str = "IMEXDaemonsWithDNSNames=true,") -> Object:
    metadata = {"name": f"computedomain-daemon-{UID}", "namespace": DRIVER, "labels": {LABEL: UID}}
    container = {"name": "compute-domain-daemon", "image": "i", "env": [{"name": "FEATURE_GATES", "value": gates}]}
    template = {"metadata": {"labels": {LABEL: UID}}, "spec": {"containers": [container]}}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": {"template": template}}


def node(name: str, *, joined: bool = True, clique: str = "", product: str = "NVIDIA-GB200", **head: Any) -> Object:
    labels = {"eks.amazonaws.com/nodegroup": "h100-dra"} | ({"nvidia.com/gpu.product": product} if product else {})
    labels |= ({LABEL: UID} if joined else {}) | ({CLIQUE: clique} if clique else {})
    metadata = {"name": name, "labels": labels, "creationTimestamp": YESTERDAY, **head}
    status = {"conditions": [{"type": "Ready", "status": "True"}]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status}


def _pod(metadata: Object, spec: Object, state: Object, *, ready: bool, restarts: int = 0) -> Object:
    status = {
        "phase": "Running" if ready else "Pending",
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        "containerStatuses": [{"name": "c", "ready": ready, "restartCount": restarts, "state": state}],
    }
    spec = {"containers": [{"name": "c", "image": "i"}], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def daemon(on: str, *, ready: bool = True, state: Object | None = None, since: str = YESTERDAY) -> Object:
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": f"computedomain-daemon-{UID}", "controller": True}
    metadata = {"name": f"daemon-{on}", "namespace": DRIVER, "labels": {LABEL: UID}, "creationTimestamp": since}
    metadata["ownerReferences"] = [owner]
    return _pod(metadata, {"nodeName": on}, state or {"running": {"startedAt": since}}, ready=ready)


def user(name: str, on: str = "", *, ready: bool = True, since: str = YESTERDAY) -> Object:
    metadata = {"name": name, "namespace": "ml", "creationTimestamp": since}
    spec: Object = {"resourceClaims": [{"name": "channel", "resourceClaimTemplateName": "channel"}]}
    state = {"running": {"startedAt": since}} if ready else {"waiting": {"reason": "ContainerCreating"}}
    return _pod(metadata, spec | ({"nodeName": on} if on else {}), state, ready=ready and bool(on))


def controller(*, ready: bool = True) -> tuple[Object, ...]:
    container = {"name": "compute-domain", "image": "i"}
    head = {"name": "controller", "namespace": DRIVER}
    deployment = {"kind": "Deployment", "metadata": head, "spec": {"template": {"spec": {"containers": [container]}}}}
    owned = {
        "name": "controller-1",
        "namespace": DRIVER,
        "ownerReferences": [{"kind": "Deployment", "name": "controller"}],
    }
    replicas = {"kind": "ReplicaSet", "metadata": owned}
    pod_head = {"name": "controller-1-a", "namespace": DRIVER, "creationTimestamp": YESTERDAY}
    pod_head["ownerReferences"] = [{"kind": "ReplicaSet", "name": "controller-1", "controller": True}]
    state = {"running": {"startedAt": YESTERDAY}} if ready else {"waiting": {"reason": "CrashLoopBackOff"}}
    return (
        {"apiVersion": "apps/v1", **deployment},
        {"apiVersion": "apps/v1", **replicas},
        _pod(pod_head, {}, state, ready=ready),
    )


def facts(*objects: Object, **more: Any) -> Facts:
    return Facts.from_objects(copy.deepcopy(list(objects)), server_version="v1.36.3", taken_at=NOW, **more)


def judged(*objects: Object) -> dict[str, str]:
    """The broken subjects, each with its story."""
    judge = Judge()
    chapter.test_every_compute_domain_is_ready(facts(*objects), judge)
    assert judge.nothing_judged() is None
    return {str(each.subject): " | ".join((each.actual, each.cause, each.remedy)) for each in judge.broken}


TWO = (node("a"), node("b"), daemon_set(), user("w-0", "a"), user("w-1", "b"), daemon("a"), daemon("b"), *controller())
CRASHING = {"waiting": {"reason": "CrashLoopBackOff"}}


def without(name: str) -> list[Object]:
    return [each for each in TWO if each["metadata"]["name"] != name]


@pytest.mark.parametrize(
    "objects",
    [
        (domain(), *TWO),
        (domain("NotReady", wanted=4), daemon_set(), *controller()),
        (domain("NotReady"), daemon_set(), user("w-0"), user("w-1"), *controller()),
        (domain(""), *controller(), user("w-0"), daemon_set()),
        (domain("NotReady", creationTimestamp=JUST_NOW), user("w-0", "a", ready=False), node("a", joined=False)),
        (domain("NotReady"), *without("daemon-b"), daemon("b", ready=False, since=JUST_NOW)),
        (domain("NotReady", wanted=3, nodes=[("a", "Ready"), ("b", "Ready")]), *TWO, user("w-2")),
        (domain("NotReady", wanted=3, nodes=[("a", "Ready"), ("b", "Ready")]), *TWO),
        (domain(), node("a", joined=False), user("w-0", "a"), *controller()),
        (domain(deletionTimestamp=YESTERDAY, finalizers=["resource.nvidia.com/computeDomain"]), *TWO),
        (domain("NotReady"), daemon_set(), *controller(), node("a"), user("w-0", "a", ready=False, since=JUST_NOW)),
    ],
    ids=[
        "Ready",
        "without pods",
        "its pods have no node",
        "no status yet",
        "created just now",
        "a daemon starts",
        "a pod has no node",
        "numNodes is too high, and its pods run",
        "the hosts run IMEX",
        "deleted while its pods run",
        "its pod has just come",
    ],
)
def test_a_domain_that_is_ready_or_waits_for_pods_is_not_a_failure(objects: tuple[Object, ...]) -> None:
    assert judged(*objects) == {}


def test_daemons_that_wait_for_the_others_of_their_domain_are_no_failure_without_dns_names() -> None:
    waiting = (node("a"), user("w-0", "a", ready=False), user("w-1"), daemon("a", ready=False), *controller())
    formed = (domain("NotReady", wanted=2), *waiting)

    assert judged(*formed, daemon_set("IMEXDaemonsWithDNSNames=false,")) == {}
    assert "does not get Ready here" in judged(*formed, daemon_set())["node a"]


def test_a_daemon_that_crashes_is_found_on_its_node_with_the_service_of_the_host_in_mind() -> None:
    broken = judged(domain("NotReady"), *without("daemon-b"), daemon("b", ready=False, state=CRASHING))

    assert set(broken) == {"1 ComputeDomains", "node b"}
    assert "the IMEX daemon of compute domain ml/inference does not get Ready here" in broken["node b"]
    assert "nvidia-imex.service" in broken["node b"]


def test_a_daemon_that_runs_and_never_gets_ready_is_found() -> None:
    broken = judged(domain("NotReady"), *without("daemon-b"), daemon("b", ready=False))

    assert "container c: running, not ready" in broken["node b"]


def test_a_node_that_was_not_labelled_for_the_pods_of_a_domain_is_found() -> None:
    objects = [each for each in without("daemon-b") if each["metadata"]["name"] not in ("b", "w-1")]
    broken = judged(domain("NotReady"), *objects, node("b", joined=False), user("w-1", "b", ready=False))

    assert f"has no label {LABEL}: the kubelet plugin did not label it" in broken["node b"]


def test_a_labelled_node_without_daemon_is_found() -> None:
    objects = [each for each in without("daemon-b") if each["metadata"]["name"] != "w-1"]
    broken = judged(domain("NotReady"), *objects, user("w-1", "b", ready=False))

    assert f"daemonset {DRIVER}/computedomain-daemon-{UID} has no pod on node b" in broken["node b"]


@pytest.mark.parametrize(
    ("status", "nodes", "says"),
    [
        ("NotReady", [("a", "Ready"), ("b", "NotReady")], "its status calls NotReady b, whose daemons are Ready"),
        ("NotReady", [("a", "Ready")], "its status lacks b, whose daemons are Ready"),
        (
            "NotReady",
            [("a", "Ready"), ("b", "Ready"), ("gone", "NotReady")],
            "still lists gone, where it has no daemon",
        ),
        ("", (), "its status lacks a, b, whose daemons are Ready"),
    ],
)
def test_a_status_that_does_not_follow_the_daemons_is_found(status: str, nodes: Any, says: str) -> None:
    broken = judged(domain(status, nodes=nodes), *TWO)

    assert set(broken) == {"1 ComputeDomains", "compute domain ml/inference"}
    assert says in broken["compute domain ml/inference"]
    assert f"kubectl logs -n {DRIVER} deployment/controller" in broken["compute domain ml/inference"]


def test_more_nodes_than_its_pods_are_on_are_found_where_these_wait_for_them() -> None:
    stuck = (node("a"), daemon_set(""), user("w-0", "a", ready=False), daemon("a", ready=True), *controller())

    assert (
        "its numNodes is 2, and all of its pods are on 1 nodes"
        in (judged(domain("NotReady", wanted=2), *stuck)["compute domain ml/inference"])
    )


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ((), "the cluster has no Deployment of the DRA driver's controller"),
        (controller(ready=False), "of its controller is not Ready: container c: CrashLoopBackOff"),
        (controller(), "its controller, runs"),
    ],
)
def test_a_domain_at_which_no_controller_looks_is_found(there: tuple[Object, ...], says: str) -> None:
    broken = judged(domain(""), user("w-0"), *there)

    assert "no DaemonSet was made for it" in broken["compute domain ml/inference"]
    assert says in broken["compute domain ml/inference"]


def test_a_domain_whose_deletion_never_ends_is_found() -> None:
    deleted = domain(deletionTimestamp=YESTERDAY, finalizers=["resource.nvidia.com/computeDomain"])

    assert (
        "resource.nvidia.com/computeDomain is left"
        in (judged(deleted, *controller(ready=False))["compute domain ml/inference"])
    )


def test_without_domains_there_is_nothing_to_judge_also_for_those_who_may_not_list_them() -> None:
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "computedomains.resource.nvidia.com"},
        "spec": {"group": "resource.nvidia.com", "names": {"plural": "computedomains", "kind": "ComputeDomain"}},
    }
    forbidden = {"ComputeDomain": "Forbidden: no"}

    for without_any in (facts(), facts(crd), facts(unreadable=forbidden)):
        with pytest.raises(NotApplicable):
            chapter.test_every_compute_domain_is_ready(without_any, Judge())
    with pytest.raises(Waits, match=r"computedomains of API group resource\.nvidia\.com"):
        chapter.test_every_compute_domain_is_ready(facts(crd, unreadable=forbidden), Judge())


# --- cliques ------------------------------------------------------------------------------------------------------


def cliques(reference: Reference, *objects: Object) -> dict[str, str]:
    found, judge = facts(*objects), Judge()
    pool = reference.pool("h100-dra")
    assert pool is not None
    assert pool.gpu is not None
    nodes = tuple(GpuPoolNode(pool, each, pool.gpu) for each in found.nodes)
    chapter.test_every_node_of_multi_node_nvlink_has_a_clique(nodes, found, judge)
    if nothing := judge.nothing_judged():
        raise nothing
    return {str(each.subject): each.cause for each in judge.broken}


def test_a_node_without_the_clique_that_others_of_its_kind_have_is_found(reference: Reference) -> None:
    assert set(cliques(reference, node("a", clique="f.1"), node("b"), node("c", clique="g.0"))) == {"node b"}


def test_nodes_of_a_domain_that_have_no_clique_are_found_where_their_gpus_need_one(reference: Reference) -> None:
    assert set(cliques(reference, domain(), *TWO)) == {"node a", "node b"}


@pytest.mark.parametrize(
    "nodes",
    [
        (node("a", product="NVIDIA-H100-80GB-HBM3"), node("b", product="NVIDIA-H100-80GB-HBM3")),
        (node("a"), node("b")),
    ],
    ids=["no such GPUs", "in no domain"],
)
def test_nodes_without_fabric_need_no_clique(reference: Reference, nodes: tuple[Object, ...]) -> None:
    with pytest.raises(NotApplicable):
        cliques(reference, *nodes)


def test_a_new_node_and_one_without_labels_of_discovery_are_not_judged_for_their_clique(reference: Reference) -> None:
    others = (node("b", creationTimestamp=JUST_NOW), node("c", product=""), node("d", product="NVIDIA-H100-PCIe"))

    assert cliques(reference, node("a", clique="f.1"), *others) == {}
