"""The cluster that the tests of facts read."""

import pytest
from paged_server import PagedServer, node, pod


@pytest.fixture
def server() -> PagedServer:
    """Three GPU pods on two nodes, one of them finished."""
    return PagedServer(
        [
            node("gpu-1", gpus=8, taints=[{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]),
            node("cpu-1"),
            pod("train-a", gpus=2, on="gpu-1"),
            pod("train-b", gpus=1, on="gpu-1"),
            pod("train-done", gpus=4, on="gpu-1", phase="Succeeded"),
            {"kind": "Namespace", "metadata": {"name": "ml-training"}},
        ]
    )
