"""Pods that occupy GPU nodes without a use for them: what moves them depends on why they are there."""

from typing import Any

import pytest

from conformance.facts import Facts
from conformance.owners import Owner
from conformance.reference import Reference
from conformance.reference.model import Pool
from conformance.verdict import Finding, Judge
from suites._shared.pool_nodes import GpuPoolNode
from suites.pools.test_pools import test_no_ordinary_pod_occupies_a_gpu_node as occupied

TAINT = {"key": "acme.io/gpu", "value": "yes", "effect": "NoSchedule"}
EVERYTHING = [{"operator": "Exists"}]


def found(pool: Pool, reference: Reference, owner: str, *, taints: list[Any], tolerations: list[Any]) -> Finding:
    """What is found of a pod of an owner (a kind, or nothing) on a node of the pool."""
    references = [{"kind": owner, "name": "probe", "controller": True}] if owner else []
    namespace = reference.teams[0].namespace
    facts = Facts.from_objects(
        [
            {"kind": "Node", "metadata": {"name": "n", "labels": dict(pool.selector)}, "spec": {"taints": taints}},
            {
                "kind": "Pod",
                "metadata": {"name": "probe-0", "namespace": namespace, "ownerReferences": references},
                "spec": {"nodeName": "n", "tolerations": tolerations, "containers": [{"name": "c", "image": "i"}]},
                "status": {"phase": "Running"},
            },
        ]
    )
    assert pool.gpu is not None
    judge = Judge()
    occupied(facts, reference, (GpuPoolNode(pool, facts.nodes[0], pool.gpu),), judge)
    (finding,) = judge.broken
    return finding


@pytest.mark.parametrize(
    ("owner", "taints", "tolerations", "advises"),
    [
        ("DaemonSet", [TAINT], EVERYTHING, "Narrow the tolerations or the nodeSelector of daemonset"),
        ("ReplicaSet", [TAINT], EVERYTHING, "out of the template behind replicaset"),
        ("", [TAINT], EVERYTHING, "make it again without the toleration"),
        ("ReplicaSet", [TAINT], [], ""),
        ("ReplicaSet", [], EVERYTHING, ""),
    ],
)
def test_what_moves_a_pod_depends_on_what_let_it_in(
    reference: Reference, owner: str, taints: list[Any], tolerations: list[Any], advises: str
) -> None:
    pool = next(pool for pool in reference.gpu_pools if pool.taints)

    told = found(pool, reference, owner, taints=taints, tolerations=tolerations)

    assert advises in told.remedy
    assert bool(told.remedy) == bool(advises)
    # Its team wrote the toleration; where the node lacks its taint, the platform's team is to put it.
    assert told.owner is (Owner.WORKLOAD if advises else Owner.PLATFORM)


PULLED = {"name": "pull", "image": "quay.io/jupyter/pytorch-notebook:cuda12"}
PAUSE = {"name": "pause", "image": "registry.k8s.io/pause:3.10"}


@pytest.mark.parametrize(
    ("owner", "containers", "occupies"),
    [("DaemonSet", [PAUSE], False), ("DaemonSet", [PAUSE, PULLED], True), ("ReplicaSet", [PAUSE], True)],
    ids=["images are pulled", "and something runs", "a place is held"],
)
def test_a_daemon_set_that_pulls_images_and_pauses_takes_nothing(
    reference: Reference, owner: str, containers: list[Any], occupies: bool
) -> None:
    pool = next(pool for pool in reference.gpu_pools if pool.taints)
    metadata = {"name": "p", "namespace": reference.teams[0].namespace}
    references = {"ownerReferences": [{"kind": owner, "name": "continuous-image-puller", "controller": True}]}
    spec = {"nodeName": "n", "tolerations": EVERYTHING, "initContainers": [PULLED], "containers": containers}
    node = {"kind": "Node", "metadata": {"name": "n", "labels": dict(pool.selector)}, "spec": {"taints": [TAINT]}}
    pod = {"kind": "Pod", "metadata": {**metadata, **references}, "spec": spec, "status": {"phase": "Running"}}
    facts, judge = Facts.from_objects([node, pod]), Judge()
    assert pool.gpu is not None

    occupied(facts, reference, (GpuPoolNode(pool, facts.nodes[0], pool.gpu),), judge)

    assert bool(judge.broken) is occupies
