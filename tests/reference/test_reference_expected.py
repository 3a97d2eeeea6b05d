"""What nodes must offer, by the declaration alone."""

import msgspec
import pytest

from conformance.gpu.sharing import Offer
from conformance.reference import Reference, load
from conformance.reference.expected import (
    config_key_of,
    config_of,
    driver_of,
    gpus_of,
    layout_of,
    mig_strategy_of,
    offer_of,
)
from conformance.reference.model import Pool
from conformance.shipped import shipped

BALANCED = {"1g.5gb": 16, "2g.10gb": 8, "3g.20gb": 8}


@pytest.fixture(scope="module")
def corrected() -> Reference:
    return load(shipped("fixtures/reference"))


def declared(**members: object) -> Reference:
    return msgspec.convert({"name": "x", **members}, Reference)


def pool(**gpu: object) -> Pool:
    labels = gpu.pop("labels", {})
    whole = {"name": "p", "selector": {"p": "p"}, "labels": labels, "gpu": {"model": "m", "count": 8, **gpu}}
    return msgspec.convert(whole, Pool)


def test_the_default_set_up_offers_what_its_comments_say(corrected: Reference) -> None:
    offers = {each.name: offer_of(corrected, each).resources for each in corrected.gpu_pools}

    assert offers == {
        "t4-inference": {"nvidia.com/gpu": 4},
        "a100-training": {"nvidia.com/gpu": 8},
        "h100-training": {"nvidia.com/gpu": 8},
        "t4-notebook": {"nvidia.com/gpu": 1},
        "t4-shared": {"nvidia.com/gpu.shared": 8},
        "a100-mig": {"nvidia.com/mig-1g.5gb": 4 * 7 + 4, "nvidia.com/mig-2g.10gb": 4 * 3},
        "l4-mps": {"nvidia.com/gpu.shared": 16},
        "h100-dra": {},
    }


def test_the_driver_is_the_pools_own_before_the_stacks() -> None:
    reference = declared(stack={"kind": "gpu-operator", "driver": "580.95.05"})

    assert driver_of(reference, pool()) == "580.95.05"
    assert driver_of(reference, pool(driver="570.172.08")) == "570.172.08"
    assert driver_of(declared(), pool()) == ""


@pytest.mark.parametrize(
    ("layout", "strategy", "resources"),
    [
        ("all-1g.5gb", "single", {"nvidia.com/gpu": 56}),
        ("all-1g.5gb", "mixed", {"nvidia.com/mig-1g.5gb": 56}),
        ("all-1g.5gb", "none", {"nvidia.com/gpu": 8}),
        ("all-balanced", "mixed", {f"nvidia.com/mig-{name}": n for name, n in BALANCED.items()}),
        ("all-1g.5gb.me", "mixed", {"nvidia.com/mig-1g.5gb.me": 8}),
        ("all-disabled", "mixed", {"nvidia.com/gpu": 8}),
        ("all-balanced", "single", {}),
    ],
)  # fmt: skip
def test_layouts_that_come_with_the_mig_manager(layout: str, strategy: str, resources: dict[str, int]) -> None:
    reference = declared(stack={"kind": "gpu-operator", "mig_strategy": strategy})
    a100 = pool(product="NVIDIA-A100-SXM4-40GB", labels={"nvidia.com/mig.config": layout})

    assert offer_of(reference, a100).resources == resources


def test_a_layout_that_nobody_knows_leaves_the_offer_open() -> None:
    reference = declared(stack={"kind": "gpu-operator", "mig_strategy": "mixed"})
    a100 = pool(product="NVIDIA-A100-SXM4-40GB", labels={"nvidia.com/mig.config": "ours"})

    assert layout_of(reference, a100) is None
    assert offer_of(reference, a100).resources is None
    found = gpus_of(reference, a100)
    assert found is not None
    assert found.mig == (None,) * 8


def test_a_malformed_layout_is_not_guessed_at() -> None:
    layouts = {"config_map": "m", "layouts": {"ours": [{"devices": "some", "mig-enabled": True}]}}
    reference = declared(stack={"kind": "gpu-operator", "mig_strategy": "mixed", "mig_layouts": layouts})

    assert layout_of(reference, pool(labels={"nvidia.com/mig.config": "ours"})) is None


def test_replicas_are_counted_under_the_declared_name() -> None:
    shared = pool(replicas=4, shared_by="mps", resource="nvidia.com/gpu.shared")

    assert offer_of(declared(), shared) == Offer({"nvidia.com/gpu.shared": 32})


ONE = "nvidia.com/mig-1g.10gb"
SLICED = {"replicas": 2, "shared_by": "time-slicing"}


@pytest.mark.parametrize(
    ("switches", "gpu", "offered"),
    [
        ({}, SLICED, {ONE: 28}),
        ({}, SLICED | {"resource": ONE}, {ONE: 28}),
        ({"renameByDefault": True}, SLICED, {f"{ONE}.shared": 28}),
        ({}, {}, {ONE: 14}),
    ],
)
def test_mig_devices_are_time_sliced_as_their_configuration_says(
    switches: dict[str, object], gpu: dict[str, object], offered: dict[str, int]
) -> None:
    text = {"version": "v1", "sharing": {"timeSlicing": {**switches, "resources": [{"name": ONE, "replicas": 2}]}}}
    configs = {"config_map": "c", "default": "a", "configs": {"a": text}}
    reference = declared(stack={"kind": "gpu-operator", "mig_strategy": "mixed", "plugin_configs": configs})
    labels = {"nvidia.com/mig.config": "all-1g.10gb"}

    divided = pool(product="NVIDIA-H100-80GB-HBM3", memory_mib=81559, labels=labels, **{"count": 2, **gpu})

    assert offer_of(reference, divided).resources == offered


def test_the_label_of_a_pool_chooses_its_configuration_before_the_default(corrected: Reference) -> None:
    keys = {each.name: config_key_of(corrected, each) for each in corrected.gpu_pools}

    assert keys["t4-shared"] == "time-sliced"
    assert keys["l4-mps"] == "mps"
    assert keys["a100-mig"] == "unshared"


def test_a_strategy_that_the_stack_leaves_open_is_that_of_the_configuration(corrected: Reference) -> None:
    strategies = {each.name: mig_strategy_of(corrected, each).value for each in corrected.gpu_pools}

    assert strategies["a100-mig"] == "mixed"
    assert strategies["l4-mps"] == "none", "MPS does not start beside mixed"


def test_a_strategy_of_the_stack_outranks_the_configurations() -> None:
    configs = {
        "config_map": "c",
        "default": "a",
        "configs": {"a": {"version": "v1", "flags": {"migStrategy": "mixed"}}},
    }
    reference = declared(stack={"kind": "gpu-operator", "mig_strategy": "single", "plugin_configs": configs})

    assert mig_strategy_of(reference, pool()).value == "single"


def test_a_configuration_that_is_not_there_or_refused_is_none() -> None:
    configs = {"config_map": "c", "configs": {"a": {"version": "v2"}}}
    reference = declared(stack={"kind": "gpu-operator", "mig_strategy": "", "plugin_configs": configs})

    assert config_of(reference, pool()) is None
    assert config_of(reference, pool(labels={"nvidia.com/device-plugin.config": "a"})) is None
    assert config_of(reference, pool(labels={"nvidia.com/device-plugin.config": "b"})) is None
    assert mig_strategy_of(reference, pool()).value == "none"


def test_a_device_filter_leaves_the_layout_open() -> None:
    entry = {"devices": "all", "mig-enabled": True, "mig-devices": {"1g.5gb": 7}, "device-filter": "0x20B010DE"}
    layouts = {"config_map": "m", "layouts": {"ours": [entry]}}
    reference = declared(stack={"kind": "gpu-operator", "mig_strategy": "mixed", "mig_layouts": layouts})

    assert offer_of(reference, pool(labels={"nvidia.com/mig.config": "ours"})).resources is None
