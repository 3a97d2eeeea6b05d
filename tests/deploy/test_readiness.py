"""A stack is ready when its workloads are, its operator says so, and its nodes are labelled."""

import time
from typing import Any

import pytest

from conformance.deploy.readiness import stack_not_ready, wait_until_stack_ready
from conformance.reference.model import Gpu, Pool, Reference
from conformance.reference.stack import Stack

POOL = Pool(
    "cut", {"eks.amazonaws.com/nodegroup": "cut"}, labels={"nvidia.com/mig.config": "small"}, gpu=Gpu("a100", 2)
)
REFERENCE = Reference("mine", stack=Stack("gpu-operator"), pools=(POOL,))
LABELLED = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB", "nvidia.com/mig.config.state": "success"}


def _node(memory: Any, **labels: str) -> None:
    memory.node("n", "cut", labels=labels)
    memory.objects["/api/v1/nodes/n"]["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}


def _daemon_set(memory: Any, available: int, *, generation: int = 1) -> None:
    metadata = {"name": "gpu-feature-discovery", "namespace": "gpu-operator", "generation": generation}
    status = {"observedGeneration": 1, "desiredNumberScheduled": 1, "numberAvailable": available}
    memory.add({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "status": status})


def _policy(memory: Any, state: str, reason: str = "Reconciled") -> None:
    body = {"apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "metadata": {"name": "cluster-policy"}}
    ready = {"type": "Ready", "status": "True" if state == "ready" else "False", "reason": reason}
    memory.add({**body, "status": {"state": state, "conditions": [ready]}})


def _not_ready(memory: Any) -> list[str]:
    return list(stack_not_ready(memory, REFERENCE, ["gpu-operator"]))


def test_a_stack_that_has_done_its_work_is_ready(memory: Any) -> None:
    _node(memory, **LABELLED)
    _daemon_set(memory, 1)
    _policy(memory, "ready")

    assert _not_ready(memory) == []


@pytest.mark.parametrize(("available", "generation"), [(0, 1), (1, 2)])
def test_a_pod_that_is_missing_or_of_before_is_waited_for(memory: Any, available: int, generation: int) -> None:
    _daemon_set(memory, available, generation=generation)

    assert _not_ready(memory) == ["daemonset gpu-operator/gpu-feature-discovery"]


@pytest.mark.parametrize(("state", "waited_for"), [("notReady", True), ("", True), ("ignored", False)])
def test_the_operator_is_waited_for_until_it_is_ready(memory: Any, state: str, waited_for: bool) -> None:
    _policy(memory, state)

    assert _not_ready(memory) == (["ClusterPolicy cluster-policy"] if waited_for else [])


@pytest.mark.parametrize("reason", ["NoGPUNodes", "NFDLabelsMissing"])
def test_an_operator_that_has_not_seen_the_gpu_nodes_yet_is_not_ready(memory: Any, reason: str) -> None:
    _node(memory, **LABELLED)
    _policy(memory, "ready", reason)

    assert _not_ready(memory) == [f"ClusterPolicy cluster-policy says {reason}, although GPU nodes are there"]


def test_an_operator_without_gpu_nodes_is_ready_where_no_pool_has_nodes(memory: Any) -> None:
    _policy(memory, "ready", "NoGPUNodes")

    assert _not_ready(memory) == []


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({}, "GPU Feature Discovery has not labelled it"),
        (LABELLED | {"nvidia.com/mig.config.state": "pending"}, "the MIG manager has not ended"),
    ],
)
def test_a_node_that_is_not_labelled_yet_is_waited_for(memory: Any, labels: dict[str, str], words: str) -> None:
    _node(memory, **labels)

    assert _not_ready(memory) == [f"node n: {words}"]


def test_a_node_that_the_owners_keep_the_stack_from_is_not(memory: Any) -> None:
    _node(memory, **{"nvidia.com/gpu.deploy.operands": "false", "nvidia.com/mig.config.state": "failed"})

    assert _not_ready(memory) == []


def test_nobody_waits_longer_than_the_limit(memory: Any) -> None:
    _policy(memory, "notReady")
    began = time.monotonic()

    wait_until_stack_ready(memory, REFERENCE, ["gpu-operator"], 0.2)

    assert 0.2 <= time.monotonic() - began < 5
