"""Drivers that no operator brings: what is known of a driver is judged all the same, by what platforms tell of GPUs."""

from typing import Any

import pytest

from conformance.facts import Facts
from conformance.gpu.driver_hardware import architecture_of_product
from conformance.gpu.drivers import DriverVersion
from conformance.reference.model import Gpu, Pool, Reference
from conformance.verdict import Judge
from suites._shared.pool_nodes import GpuPoolNode
from suites.upgrade import test_driver_companions as companions
from suites.upgrade import test_target_driver as targets
from suites.upgrade.target_nodes import TargetNodes, target_nodes

GKE = "cloud.google.com/gke-accelerator"
POOL = Pool(name="gpu", selector={"pool": "gpu"}, gpu=Gpu(model="any", count=1))
REFERENCE = Reference(name="without operator", pools=(POOL,))


def meant(facts: Facts, pool: Pool = POOL) -> TargetNodes:
    return target_nodes(facts, REFERENCE, [GpuPoolNode(pool, node, pool.gpu) for node in facts.nodes])


def node(**labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"pool": "gpu", **labels}}}


def driven(target: str, pool: Pool = POOL, **labels: str) -> Judge:
    facts, judge = Facts.from_objects([node(**labels)]), Judge()
    targets.test_the_target_drives_every_gpu(facts, meant(facts, pool), DriverVersion.parse(target), judge)
    return judge


@pytest.mark.parametrize(
    "labels",
    [
        {GKE: "nvidia-tesla-v100"},
        {"karpenter.k8s.aws/instance-gpu-name": "v100"},
        {"karpenter.azure.com/sku-gpu-name": "V100"},
        {"nvidia.com/gpu.product": "Tesla-V100-SXM2-16GB"},
        {"nvidia.com/gpu.compute.major": "7", "nvidia.com/gpu.compute.minor": "0"},
    ],
    ids=str,
)
def test_a_volta_gpu_is_found_by_whoever_names_it(labels: dict[str, str]) -> None:
    (finding,) = driven("595.91.07", **labels).findings

    assert "R580 is the last branch for Volta" in finding.cause
    assert not [each for each in driven("580.95.05", **labels).findings if not each.ok]


def test_the_pool_may_declare_what_no_label_tells() -> None:
    declared = Pool(name="gpu", selector={"pool": "gpu"}, gpu=Gpu(model="p100", count=1))

    (finding,) = driven("595.91.07", declared).findings

    assert "Pascal" in finding.cause


def test_a_gpu_that_nobody_names_is_not_judged() -> None:
    assert not driven("595.91.07", **{GKE: "nvidia-x900"}).findings


@pytest.mark.parametrize(
    ("product", "architecture"),
    [
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "Ampere"),
        ("NVIDIA-A10G", "Ampere"),
        ("nvidia-h100-mega-80gb", "Hopper"),
        ("NVIDIA-GH200-480GB", "Hopper"),
        ("NVIDIA-L40S", "Ada Lovelace"),
        ("Tesla-T4", "Turing"),
        ("NVIDIA-B200", "Blackwell"),
        ("NVIDIA-GB300", "Blackwell Ultra"),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-Workstation-Edition", "Blackwell"),
        ("Quadro-M4000", ""),
        ("", ""),
    ],
)
def test_a_product_tells_its_architecture(product: str, architecture: str) -> None:
    found = architecture_of_product(product)

    assert (found.name if found is not None else "") == architecture


def test_a_branch_that_ended_is_told_of_each_pool() -> None:
    facts, judge = Facts.from_objects([node()]), Judge()
    targets.test_the_target_branch_is_maintained(facts, meant(facts), DriverVersion.parse("450.51.05"), judge)

    assert [str(each.subject) for each in judge.findings if not each.ok] == ["pool gpu"]


def test_the_floor_of_a_dra_driver_holds_without_an_operator() -> None:
    template = {"spec": {"containers": [{"name": "compute-domains", "image": "dra"}]}}
    plugin = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "nvidia-dra-driver-gpu-kubelet-plugin", "namespace": "dra"},
        "spec": {"selector": {"matchLabels": {"app": "dra"}}, "template": template},
    }
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": plugin["metadata"]["name"], "controller": True}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "dra", "labels": {"app": "dra"}, "ownerReferences": [owner]},
        "spec": {"nodeName": "n", **template["spec"]},
        "status": {"phase": "Running"},
    }
    facts, judge = Facts.from_objects([node(), plugin, pod]), Judge()

    companions.test_the_target_is_new_enough_for_dra(facts, meant(facts), DriverVersion.parse("550.54.14"), judge)

    assert "older than 570.158.01" in judge.findings[0].cause
