"""What a node says about its GPUs, whatever sharing and MIG append to it."""

import pytest

from conformance.facts import Facts
from suites._shared.node_gpus import product

RTX = "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition"


@pytest.mark.parametrize(
    ("label", "bare"),
    [
        ("Tesla-T4", "Tesla-T4"),
        ("Tesla-T4-SHARED", "Tesla-T4"),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "NVIDIA-A100-SXM4-40GB"),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb.me-SHARED", "NVIDIA-A100-SXM4-40GB"),
        (f"{RTX}-MIG-1g.24gb-me", RTX),
        (f"{RTX}-MIG-1g.24gb-me-SHARED", RTX),
        (f"{RTX}-MIG-INVALID", RTX),
        ("", ""),
    ],
)
def test_a_product_is_the_same_however_it_is_shared_and_divided(label: str, bare: str) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"nvidia.com/gpu.product": label}}}

    assert product(Facts.from_objects([node]).nodes[0]) == bare
