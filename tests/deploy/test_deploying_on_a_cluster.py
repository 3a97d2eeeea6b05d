"""Both shipped set-ups on a real control plane: they deploy, their workloads run, and nothing stays behind."""

import pytest

from conformance.deploy import deploy, withdraw
from conformance.deploy.node_marks import RECORD
from conformance.kube.paths import path
from conformance.kube.timeouts import EMBEDDED
from conformance.reference import load, objects
from conformance.shipped import shipped

RUN = "a1234567"

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("name", ["reference", "guide"])
def test_a_shipped_set_up_comes_and_goes(cluster, name: str) -> None:
    client, reference = cluster.client, load(shipped(f"fixtures/{name}"))
    nodes = {node["metadata"]["name"]: node for node in client.list(path("Node"))}
    try:
        deployed = deploy(client, reference, run_id=RUN, timeouts=EMBEDDED)
        again = deploy(client, reference, run_id=RUN, timeouts=EMBEDDED)

        assert deployed.not_ready == ()
        assert len(deployed.created) == len(objects(reference))
        assert (again.created, again.updated, again.nodes) == ((), (), ())
        serving = client.list(path("Pod", namespace="ml-serving"))
        assert {reference.pool_of(nodes[pod["spec"]["nodeName"]]["metadata"]["labels"]).name for pod in serving} == {
            "t4-inference"
        }
    finally:
        withdrawn = withdraw(client, reference, run_id=RUN, timeouts=EMBEDDED)
    assert withdrawn.left == ()
    for node in client.list(path("Node")):
        before = nodes[node["metadata"]["name"]]
        assert node["metadata"]["labels"] == before["metadata"]["labels"]
        assert node["spec"].get("taints") == before["spec"].get("taints")
        assert RECORD not in node["metadata"].get("annotations", {})
