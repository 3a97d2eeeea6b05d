"""What counts as a request for GPUs."""

from typing import Any

import msgspec
import pytest

from conformance.facts import Facts, Pod
from conformance.gpu.resources import is_for_virtual_machines, is_of_other_maker
from conformance.reference import Reference
from suites._shared.gpu_holders import only_holds_a_place, whole_gpus
from suites._shared.gpu_requests import gpu_pods, names_gpus, requests_gpus, resources_requested
from suites._shared.operands import DRIVER, PLUGIN, ExpectedComponent


def manifest(*, name: str, namespace: str = "ml", annotations: dict[str, str] | None = None, **spec: Any) -> Any:
    metadata = {"name": name, "namespace": namespace, "annotations": annotations or {}}
    return {"kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": "main", "image": "i"}], **spec}}


def pod(*, annotations: dict[str, str] | None = None, **spec: Any) -> Pod:
    containers = [{"name": "main", "image": "i", "resources": spec.pop("resources", {})}]
    made = manifest(name="p", annotations=annotations, **{"containers": containers, **spec})
    return Facts.from_objects([made]).pods[0]


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
    assert requests_gpus(asking, asking.namespace, of_amd, Facts.from_objects([])) is does


def device_class(name: str, driver: str) -> dict[str, Any]:
    selects = {"cel": {"expression": f'device.driver == "{driver}"'}} if driver else {"cel": {"expression": "true"}}
    return {"kind": "DeviceClass", "metadata": {"name": name}, "spec": {"selectors": [selects]}}


def claimed(*classes: str) -> list[dict[str, Any]]:
    """A claim c and a template t that ask for a device of each class."""
    devices = {"requests": [{"name": name, "exactly": {"deviceClassName": name}} for name in classes]}
    return [
        {"kind": "ResourceClaim", "metadata": {"name": "c", "namespace": "ml"}, "spec": {"devices": devices}},
        {
            "kind": "ResourceClaimTemplate",
            "metadata": {"name": "t", "namespace": "ml"},
            "spec": {"spec": {"devices": devices}},
        },
    ]


CLASSES = [
    device_class("nic", "dra.net"),
    device_class("gpu", "gpu.nvidia.com"),
    device_class("chip", "tpu.google.com"),
    device_class("unknown", ""),
]


@pytest.mark.parametrize("source", [{"resourceClaimName": "c"}, {"resourceClaimTemplateName": "t"}])
@pytest.mark.parametrize(
    ("objects", "does"),
    [
        ([*CLASSES, *claimed("nic")], False),
        ([*CLASSES, *claimed("gpu")], True),
        ([*CLASSES, *claimed("chip")], True),
        ([*CLASSES, *claimed("nic", "gpu")], True),
        ([*CLASSES, *claimed("unknown")], True),
        ([*CLASSES, *claimed("gone")], True),
        (CLASSES, True),
    ],
)
def test_a_claim_of_another_device_is_no_request_for_gpus(
    reference: Reference, source: dict[str, str], objects: list[dict[str, Any]], does: bool
) -> None:
    asking = pod(resourceClaims=[{"name": "d", **source}])

    assert requests_gpus(asking, asking.namespace, reference, Facts.from_objects(objects)) is does


@pytest.mark.parametrize(
    ("resource", "does"),
    [
        ("acme.com/h100", True),
        ("deviceclass.resource.kubernetes.io/gpu", True),
        ("deviceclass.resource.kubernetes.io/nic", False),
        ("acme.com/nic", False),
    ],
)
def test_a_class_may_be_asked_for_by_its_extended_resource(reference: Reference, resource: str, does: bool) -> None:
    gpu, nic = device_class("gpu", "gpu.nvidia.com"), device_class("nic", "dra.net")
    gpu["spec"]["extendedResourceName"], nic["spec"]["extendedResourceName"] = "acme.com/h100", "acme.com/nic"
    asking = pod(resources={"limits": {resource: "1"}})

    assert requests_gpus(asking, asking.namespace, reference, Facts.from_objects([gpu, nic])) is does


def test_where_classes_may_not_be_read_every_claim_may_be_for_gpus(reference: Reference) -> None:
    asking = pod(resourceClaims=[{"name": "d", "resourceClaimName": "c"}])
    facts = Facts.from_objects(claimed("nic"), unreadable={"DeviceClass": "Forbidden: no"})

    assert requests_gpus(asking, asking.namespace, reference, facts)


@pytest.mark.parametrize(
    ("name", "of_other_maker", "for_machines"),
    [
        ("nvidia.com/gpu", False, False),
        ("nvidia.com/mig-1g.5gb", False, False),
        ("amd.com/gpu", True, False),
        ("huawei.com/Ascend910", True, False),
        ("aws.amazon.com/neuroncore", True, False),
        ("gpu.intel.com/xe", True, False),
        ("gpu.intel.com/i915_monitoring", False, False),
        ("gpu.intel.com/millicores", False, False),
        ("huawei.com/Ascend910A-memory", False, False),
        ("iluvatar.ai/BI-V150.vMem", False, False),
        ("cambricon.com/mlu.smlu.vmemory", False, False),
        ("metax-tech.com/vcore", False, False),
        ("volcano.sh/vgpu-number", False, False),
        ("nvidia.com/GH100_H100L_94GB", False, True),
        ("nvidia.com/pgpu", False, True),
        ("nvidia.com/NVIDIA_A10-12Q", False, True),
        ("nvidia.com/TU104GL_Tesla_T4", False, True),
        # Of NVIDIA's network operator.
        ("nvidia.com/sriov_rdma_vf", False, False),
        ("nvidia.com/hostdev", False, False),
        ("nvidia.com/resibp12s0", False, False),
        ("nvidia.com/bf3-p0-vfs", False, False),
        ("nvidia.com/rail_1", False, False),
    ],
)
def test_whose_devices_a_resource_is(name: str, of_other_maker: bool, for_machines: bool) -> None:
    assert is_of_other_maker(name) is of_other_maker
    assert is_for_virtual_machines(name) is for_machines


@pytest.mark.parametrize(
    ("resource", "shared_by", "count"),
    [
        ("nvidia.com/gpu", "", 2),
        ("amd.com/gpu", "", 0),
        ("volcano.sh/vgpu-number", "", 2),
        ("volcano.sh/vgpu-number", "other", 0),
        # Two GiB of memory.
        ("aliyun.com/gpu-mem", "", 0),
        ("nvidia.com/GH100_H100L_94GB", "", 0),
    ],
)
def test_only_whole_gpus_of_containers_need_shared_memory(
    reference: Reference, resource: str, shared_by: Any, count: int
) -> None:
    pools = tuple(
        msgspec.structs.replace(pool, gpu=msgspec.structs.replace(pool.gpu, resource=resource, shared_by=shared_by))
        if pool.gpu
        else pool
        for pool in reference.pools
    )

    asking = pod(resources={"limits": {resource: "2"}})

    assert whole_gpus(asking, msgspec.structs.replace(reference, pools=pools)) == count


@pytest.mark.parametrize(
    ("image", "holds"),
    [
        ("registry.k8s.io/pause:3.10", True),
        ("mcr.microsoft.com/oss/kubernetes/pause@sha256:1", True),
        ("rancher/mirrored-pause:3.6", True),
        ("corp/pause-and-resume-training:1", False),
        ("nvcr.io/nvidia/pytorch:25.06-py3", False),
    ],
)
def test_pods_that_only_keep_a_node_warm_exchange_no_data(reference: Reference, image: str, holds: bool) -> None:
    asking = pod(containers=[{"name": "main", "image": image, "resources": {"limits": {"nvidia.com/gpu": "8"}}}])

    assert only_holds_a_place(asking, reference) is holds


def test_another_vendors_devices_are_gpus_only_where_a_pool_declares_them(
    reference: Reference, of_amd: Reference
) -> None:
    asking = pod(resources={"limits": {"amd.com/gpu": "2"}})

    assert resources_requested(asking, of_amd) == {"amd.com/gpu": 2}
    assert resources_requested(asking, reference) == {}
    assert names_gpus("amd.com/gpu", of_amd)
    assert not names_gpus("amd.com/gpu", reference)


@pytest.mark.parametrize("namespace", ["kai-resource-reservation", "runai-reservation"])
def test_a_reservation_pod_holds_for_others_and_asks_for_nothing_itself(reference: Reference, namespace: str) -> None:
    whole = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
    facts = Facts.from_objects(
        [
            manifest(name="reservation", namespace=namespace, containers=[{"name": "main", "image": "i", **whole}]),
            manifest(name="fraction", annotations={"gpu-fraction": "1"}),
        ]
    )

    assert [each.name for each in gpu_pods(facts, reference)] == ["fraction"]


@pytest.mark.parametrize(
    ("resource", "needed"),
    [
        ("nvidia.com/gpu", {"device plugin", "driver"}),
        ("nvidia.com/gpu.shared", {"device plugin", "driver"}),
        ("volcano.sh/vgpu-number", {"driver"}),
        ("huawei.com/Ascend910", set()),
        ("nvidia.com/GH100_H100L_94GB", set()),
    ],
)
def test_nvidias_programs_belong_where_containers_use_its_gpus(
    reference: Reference, resource: str, needed: set[str]
) -> None:
    pool = next(each for each in reference.gpu_pools if each.gpu and each.gpu.allocated_by == "device-plugin")
    assert pool.gpu is not None
    offered = msgspec.structs.replace(pool, gpu=msgspec.structs.replace(pool.gpu, resource=resource))

    assert {each.title for each in (DRIVER, PLUGIN) if ExpectedComponent(each, ()).is_needed_on(offered)} == needed
