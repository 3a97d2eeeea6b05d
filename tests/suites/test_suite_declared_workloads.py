"""Declared GPU workloads: on which drivers their images run (WORK-09)."""

import msgspec
import pytest

from conformance.reference.model import TestPod
from conformance.verdict import Inconclusive
from suites.workloads import test_declared_workloads as chapter

RUNS = chapter.test_images_run_on_the_driver


def with_test_pod(reference, image, *, driver="580.95.05", product="Tesla-T4"):
    """The set-up with one test pod of this image, on a pool of this driver and product."""
    asking = {"name": "main", "image": image, "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "try"}, "spec": {"containers": [asking]}}
    (pool,) = [each for each in reference.pools if each.name == "t4-inference"]
    pool = msgspec.structs.replace(pool, gpu=msgspec.structs.replace(pool.gpu, driver=driver, product=product))
    test_pod = msgspec.convert({"name": "try", "manifest": manifest, "pools": [pool.name]}, TestPod)
    return msgspec.structs.replace(reference, pools=(pool,), workloads=(), test_pods=(test_pod,))


def on_driver(cluster, driver, product):
    """The nodes of the pool with this driver and product."""
    for node in (each for each in cluster.objects if each["kind"] == "Node"):
        node["metadata"]["labels"] |= {"nvidia.com/cuda.driver-version.full": driver, "nvidia.com/gpu.product": product}


def runs(cluster, reference, image, driver, product):
    on_driver(cluster, driver, product)
    return cluster.verdict(RUNS, with_test_pod(reference, image, driver=driver, product=product))


CUDA_13 = "nvcr.io/nvidia/cuda:13.0.1-base-ubuntu24.04"


def test_an_image_runs_on_the_driver_of_its_cuda(cluster, reference):
    outcome = runs(cluster, reference, CUDA_13, "580.95.05", "Tesla-T4")

    assert outcome.passed
    assert not outcome.judge.unseen


@pytest.mark.parametrize("product", ["NVIDIA-H100-80GB-HBM3", "NVIDIA-RTX-A6000"])
@pytest.mark.parametrize("driver", ["535.183.01", "570.172.08"])
def test_an_image_that_may_bring_compatibility_libraries_is_not_judged(cluster, reference, driver, product):
    outcome = runs(cluster, reference, CUDA_13, driver, product)

    assert isinstance(outcome.ended, Inconclusive)
    assert "cuda-compat-13-0" in str(outcome.ended)
    assert not outcome.broken


def test_compatibility_libraries_do_not_help_on_a_consumer_gpu(cluster, reference):
    outcome = runs(cluster, reference, CUDA_13, "570.172.08", "NVIDIA-GeForce-RTX-4090")

    (broken,) = outcome.broken.values()
    assert "error 804" in broken


def test_compatibility_libraries_do_not_help_on_a_driver_that_they_do_not_accept(cluster, reference):
    outcome = runs(cluster, reference, "pytorch/pytorch:2.3.0-cuda12.1-cudnn8", "520.61.05", "NVIDIA-H100-80GB-HBM3")

    (broken,) = outcome.broken.values()
    assert "R520" in broken


def test_one_node_whose_driver_is_too_old_for_sure_is_enough(cluster, reference):
    on_driver(cluster, "520.61.05", "Tesla-T4")
    outcome = cluster.verdict(RUNS, with_test_pod(reference, CUDA_13, driver="570.172.08"))

    assert len(outcome.broken) == 1
    assert "570.172.08" in str(outcome.judge.unseen[0])


def test_an_image_on_an_unknown_driver_is_not_judged(cluster, reference):
    on_driver(cluster, "600.10", "Tesla-T4")
    outcome = cluster.verdict(RUNS, with_test_pod(reference, CUDA_13))

    assert outcome.passed
    assert "R600" in str(outcome.judge.unseen[0])
