"""What counts as a request for GPUs."""

from typing import Any

import msgspec
import pytest

from conformance.facts import Facts, Pod
from conformance.reference import Reference
from suites._shared.gpu_requests import gpu_pods, names_gpus, requests_gpus, resources_requested


def pod(*, namespace: str = "ml", annotations: dict[str, str] | None = None, **spec: Any) -> Pod:
    metadata = {"name": "p", "namespace": namespace, "annotations": annotations or {}}
    containers = [{"name": "main", "image": "i", "resources": spec.pop("resources", {})}]
    return Facts.from_objects([{"kind": "Pod", "metadata": metadata, "spec": {"containers": containers, **spec}}]).pods[
        0
    ]


@pytest.fixture
def of_amd(reference: Reference) -> Reference:
    """The shipped set-up with the devices of its first GPU pool offered by another vendor."""
    pools = tuple(
        msgspec.structs.replace(pool, gpu=msgspec.structs.replace(pool.gpu, resource="amd.com/gpu"))
        if pool.gpu
        else pool
        for pool in reference.pools
    )
    return msgspec.structs.replace(reference, pools=pools)


@pytest.mark.parametrize(
    ("asking", "does"),
    [
        (pod(resources={"limits": {"nvidia.com/gpu": "1"}}), True),
        (pod(resources={"limits": {"nvidia.com/mig-1g.5gb": "1"}}), True),
        (pod(resources={"limits": {"amd.com/gpu": "2"}}), True),
        (pod(resources={"limits": {"amd.com/gpu": "0"}}), False),
        (pod(resources={"limits": {"example.com/fpga": "1"}}), False),
        (pod(resourceClaims=[{"name": "gpu", "resourceClaimName": "c"}]), True),
        (pod(annotations={"gpu-fraction": "0.5"}), True),
        (pod(annotations={"gpu-memory": "2000"}), True),
        (pod(annotations={"gpu-memory": ""}), False),
        (pod(), False),
    ],
)
def test_a_request_takes_one_of_four_forms(of_amd: Reference, asking: Pod, does: bool) -> None:
    assert requests_gpus(asking, of_amd) is does


def test_another_vendors_devices_are_gpus_only_where_a_pool_declares_them(
    reference: Reference, of_amd: Reference
) -> None:
    asking = pod(resources={"limits": {"amd.com/gpu": "2"}})

    assert resources_requested(asking, of_amd) == {"amd.com/gpu": 2}
    assert resources_requested(asking, reference) == {}
    assert names_gpus("amd.com/gpu", of_amd)
    assert not names_gpus("amd.com/gpu", reference)


def test_a_reservation_pod_holds_for_others_and_asks_for_nothing_itself(reference: Reference) -> None:
    whole = {"limits": {"nvidia.com/gpu": "1"}}
    reservation, fraction = (
        pod(namespace="kai-resource-reservation", resources=whole),
        pod(annotations={"gpu-fraction": "1"}),
    )

    assert gpu_pods([reservation, fraction], reference) == (fraction,)
