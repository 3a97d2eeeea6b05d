"""Which nodes could take the pods of a workload: terms, lasting taints, and devices of the name that they ask for."""

from typing import Any

import pytest

from conformance.facts import Facts, Node
from conformance.reference.model import Gpu, Pool, PoolTaint, Reference
from suites.scheduling.open_nodes import could_take

ODD_NAME = "devices.example.com/odd"
ODD = {"resources": {"limits": {ODD_NAME: "1"}}}
GPUS = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
REFERENCE = Reference(
    name="cluster",
    pools=(
        Pool("gpu", {"pool": "gpu"}, taints=(PoolTaint("nvidia.com/gpu", "NoSchedule", "present"),), gpu=Gpu("l4", 1)),
        Pool("cpu", {"pool": "cpu"}),
    ),
)


def facts_with(node: dict[str, Any], container: dict[str, Any], **spec: Any) -> tuple[Node, Any, Facts]:
    pod_spec = {"containers": [{"name": "main", "image": "x", **container}], **spec}
    deployment = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "llm", "namespace": "team"},
        "spec": {"replicas": 1, "template": {"spec": pod_spec}},
    }  # fmt: skip
    facts = Facts.from_objects([node, deployment])
    return facts.nodes[0], facts.workloads[0].template, facts


def node(
    labels: dict[str, str], taints: tuple[dict[str, str], ...] = (), gpus: int = 0, more: dict[str, str] | None = None
) -> dict[str, Any]:
    capacity = {"cpu": "8", "nvidia.com/gpu": str(gpus)} | (more or {})
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": labels},
        "spec": {"taints": list(taints)}, "status": {"capacity": capacity},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("there", "spec", "container", "taken"),
    [
        # Nothing but what it asks for keeps it off, which is enough: this node has none.
        (node({"pool": "cpu"}), {}, GPUS, False),
        (node({"pool": "cpu"}), {}, {}, True),
        # Declared with GPUs and at 0 today: it will have them again.
        (node({"pool": "gpu"}), {}, GPUS, True),
        # GPUs that nobody declared.
        (node({"pool": "other"}, gpus=4), {}, GPUS, True),
        (node({"pool": "other"}, (TAINT,), gpus=4), {}, GPUS, False),
        (node({"pool": "other"}, (TAINT,), gpus=4), {"tolerations": [{"operator": "Exists"}]}, GPUS, True),
        # A cordon does not last.
        (node({"pool": "gpu"}, ({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},)), {}, GPUS, True),
        (node({"pool": "gpu"}), {"nodeSelector": {"pool": "cpu"}}, GPUS, False),
        # Devices that nobody declared, of a maker whose names we do not know: only where they are offered.
        (node({"pool": "cpu"}), {}, ODD, False),
        (node({"pool": "other"}, more={ODD_NAME: "2"}), {}, ODD, True),
        # Another resource than the node's.
        (node({"pool": "gpu"}, gpus=1), {}, {"resources": {"limits": {"nvidia.com/mig-1g.5gb": "1"}}}, False),
    ],
)
def test_a_node_takes_pods_by_its_labels_taints_and_devices(there, spec, container, taken):
    found, template, facts = facts_with(there, container, **spec)

    assert could_take(found, template, "team", REFERENCE, facts) is taken
