"""In what the nodes of one pool have to be alike, and whose nodes."""

import pytest

from suites.pools.test_pools import test_nodes_of_one_pool_are_alike as alike


@pytest.mark.parametrize(("pool", "judged"), [("t4-inference", True), ("cpu", False)])
def test_kernels_may_differ_where_no_gpu_needs_a_module_for_each(cluster, pool, judged):
    for number, kernel in enumerate(("6.8.0-1040-aws", "6.8.0-1040-aws", "10.0.20348.2700"), start=1):
        cluster.node(f"{pool}-{number}")["status"]["nodeInfo"] = {"kernelVersion": kernel}

    found = cluster.verdict(alike).broken

    assert [*found] == ([f"node {pool}-3"] if judged else [])
