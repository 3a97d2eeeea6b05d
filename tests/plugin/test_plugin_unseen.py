"""A node that could not be looked at is no node that passed."""

import pytest
from kubeconfigs import context_of

from conformance.kube.waits import wait_for

pytestmark = pytest.mark.cluster

PODS = "/api/v1/namespaces/default/pods"
FULL = "a100-training-1"


@pytest.fixture
def full_node(cluster):
    """A node all of whose GPUs belong to somebody else's pod."""
    container = {"name": "main", "image": "registry.k8s.io/pause:3.10", "resources": {"limits": {"nvidia.com/gpu": 8}}}
    pod = {"metadata": {"name": "theirs"}, "spec": {"nodeName": FULL, "containers": [container]}}
    cluster.client.create(PODS, pod)
    wait_for(
        lambda: cluster.client.get(f"{PODS}/theirs")["status"].get("phase"),
        lambda phase: phase == "Running",
        what="the pod runs",
        timeout=60,
    )
    yield FULL
    cluster.client.delete(f"{PODS}/theirs", grace_seconds=0)


def test_a_requirement_that_could_not_look_at_a_full_node_says_so(cluster, conform, full_node):
    outcome = conform(
        "--cluster", context_of(cluster.kubeconfig), "--gpu-kubeconfig", str(cluster.kubeconfig),
        "--gpu-mode", "verify", "--gpu-reference", "corrected-guide", "--gpu-requirement", "WORK-04",
    )  # fmt: skip

    [verdict] = [each for each in outcome.report["requirements"] if each["requirement"] == "WORK-04"]
    assert (verdict["status"], verdict["unseen"]) == ("passed", 1), outcome.output
    [unseen] = verdict["unseenExamples"]
    assert unseen["subject"] == {"apiVersion": "v1", "kind": "Node", "name": full_node, "text": f"node {full_node}"}
    assert "0 of 8 free" in unseen["why"]
    assert {each["name"]: each["result"] for each in outcome.report["profiles"]} == {"workloads": "partial"}
    assert "not everywhere: WORK-04" in outcome.output
    assert outcome.exit_code == 0
