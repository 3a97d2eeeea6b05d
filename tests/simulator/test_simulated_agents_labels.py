"""The labels of the simulated GPU Feature Discovery, against the documented ones and the plugin's count equation."""

import re

import pytest

from conformance.simulator.geometry import Geometry
from conformance.simulator.gfd import Labels, family, labels
from conformance.simulator.hardware import Machine
from conformance.simulator.plugin import offers
from conformance.simulator.plugin_settings import Refused, ReplicatedResource, Settings, Sharing

GPU = "nvidia.com/gpu"
A100 = Machine("NVIDIA A100-SXM4-40GB", 2, 40960, "8.0", mig_capable=True, machine="p4d.24xlarge")
SEVEN: Geometry = {0: {"1g.5gb": 7}, 1: {"1g.5gb": 7}}


def told(settings: Settings, geometry: Geometry | None = None, machine: Machine = A100) -> Labels:
    found = labels(machine, "580.95.05", geometry or {}, settings, 1760000000)
    return {name.removeprefix("nvidia.com/"): value for name, value in found.items()}


def sliced(replicas: int, resource: str = GPU, *, renames: bool = False, strategy: str = "none") -> Settings:
    return Settings(strategy, Sharing("time-slicing", (ReplicatedResource(resource, replicas),), renames))


def test_a_node_without_sharing_and_mig_has_exactly_the_documented_labels() -> None:
    assert told(Settings()) == {
        "gfd.timestamp": "1760000000",
        "cuda.driver-version.full": "580.95.05",
        "cuda.driver-version.major": "580",
        "cuda.driver-version.minor": "95",
        "cuda.driver-version.revision": "05",
        "cuda.driver.major": "580",
        "cuda.driver.minor": "95",
        "cuda.driver.rev": "05",
        "cuda.runtime-version.full": "13.0",
        "cuda.runtime-version.major": "13",
        "cuda.runtime-version.minor": "0",
        "cuda.runtime.major": "13",
        "cuda.runtime.minor": "0",
        "gpu.compute.major": "8",
        "gpu.compute.minor": "0",
        "gpu.count": "2",
        "gpu.family": "ampere",
        "gpu.machine": "p4d.24xlarge",
        "gpu.memory": "40960",
        "gpu.mode": "compute",
        "gpu.product": "NVIDIA-A100-SXM4-40GB",
        "gpu.replicas": "1",
        "gpu.sharing-strategy": "none",
        "mig.capable": "true",
        "mps.capable": "false",
        "vgpu.present": "false",
    }


def test_a_shared_product_says_so_unless_the_resource_is_renamed() -> None:
    shared, renamed = told(sliced(4)), told(sliced(4, renames=True))

    assert shared["gpu.product"] == "NVIDIA-A100-SXM4-40GB-SHARED"
    assert renamed["gpu.product"] == "NVIDIA-A100-SXM4-40GB"
    for found in (shared, renamed):
        assert (found["gpu.count"], found["gpu.replicas"], found["gpu.sharing-strategy"]) == ("2", "4", "time-slicing")


def test_of_two_entries_for_a_resource_the_first_one_is_labelled() -> None:
    both = Settings(sharing=Sharing("time-slicing", (ReplicatedResource(GPU, 2), ReplicatedResource(GPU, 5))))

    assert told(both)["gpu.replicas"] == "2"


def test_the_strategy_is_told_unless_it_is_none() -> None:
    assert "mig.strategy" not in told(Settings("none"))
    assert told(Settings("single"))["mig.strategy"] == "single"


def test_the_strategy_single_tells_of_mig_devices_as_if_they_were_gpus() -> None:
    found = told(Settings("single"), SEVEN)

    assert found["gpu.product"] == "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb"
    assert (found["gpu.count"], found["gpu.replicas"], found["gpu.memory"]) == ("14", "1", "4864")
    assert (found["gpu.slices.gi"], found["gpu.slices.ci"], found["gpu.multiprocessors"]) == ("1", "1", "14")
    assert found["gpu.family"] == "ampere"


@pytest.mark.parametrize("cut", [{0: {"1g.5gb": 7}}, {0: {"1g.5gb": 7}, 1: {}}, {0: {"1g.5gb": 7}, 1: {"2g.10gb": 3}}])
def test_what_the_strategy_single_cannot_offer_is_labelled_invalid(cut: Geometry) -> None:
    found = told(Settings("single"), cut)

    assert found["gpu.product"] == "NVIDIA-A100-SXM4-40GB-MIG-INVALID"
    assert [found[f"gpu.{name}"] for name in ("count", "replicas", "memory", "sharing-strategy")] == ["0", "0", "0", ""]


def test_the_strategy_mixed_tells_of_each_profile() -> None:
    found = told(Settings("mixed"), {0: {"1g.5gb": 2, "2g.10gb": 1, "3g.20gb": 1}})

    assert (found["gpu.count"], found["gpu.replicas"], found["gpu.product"]) == ("2", "1", "NVIDIA-A100-SXM4-40GB")
    of_2g = {name.removeprefix("mig-2g.10gb."): value for name, value in found.items() if "mig-2g" in name}
    assert of_2g == {
        "product": "NVIDIA-A100-SXM4-40GB-MIG-2g.10gb",
        "count": "1",
        "replicas": "1",
        "sharing-strategy": "none",
        "memory": "9856",
        "multiprocessors": "28",
        "slices.ci": "2",
        "slices.gi": "2",
        "engines.copy": "2",
        "engines.decoder": "1",
        "engines.encoder": "0",
        "engines.jpeg": "0",
        "engines.ofa": "0",
    }


def test_without_a_whole_gpu_the_sharing_of_gpus_is_left_out() -> None:
    found = told(sliced(4, strategy="mixed"), SEVEN)

    assert (found["gpu.count"], found["gpu.replicas"], found["gpu.sharing-strategy"]) == ("2", "0", "none")
    assert found["mig-1g.5gb.count"] == "14"


def test_a_plus_in_a_profile_is_a_dot_in_labels() -> None:
    found = told(Settings("mixed"), {0: {"1g.5gb+me": 1}})

    assert found["mig-1g.5gb.me.product"] == "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb.me"


def test_only_mps_makes_a_node_capable_of_mps_and_mig_forbids_it() -> None:
    mps = Settings(sharing=Sharing("mps", (ReplicatedResource(GPU, 4),)))

    assert told(mps)["mps.capable"] == "true"
    assert told(mps)["gpu.sharing-strategy"] == "mps"
    with pytest.raises(Refused, match="not supported for mig devices"):
        told(mps, SEVEN)


def test_without_gpus_next_to_nothing_is_told() -> None:
    assert set(told(Settings(), machine=Machine("Tesla T4", 1, 15360, "7.5", missing=(0,)))) == {
        "gfd.timestamp",
        "vgpu.present",
    }


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        ("7.0", "volta"),
        ("7.5", "turing"),
        ("8.0", "ampere"),
        ("8.6", "ampere"),
        ("8.9", "ada-lovelace"),
        ("9.0", "hopper"),
        ("10.0", "blackwell"),
        ("12.0", "blackwell"),
        ("13.0", "rubin"),
        ("11.0", "undefined"),
    ],
)
def test_families_by_compute_capability(compute: str, expected: str) -> None:
    assert family(compute) == expected


@pytest.mark.parametrize("cut", [{}, SEVEN, {0: {"1g.5gb": 2, "3g.20gb": 1}}])
@pytest.mark.parametrize("strategy", ["none", "single", "mixed"])
@pytest.mark.parametrize("shared", [GPU, "nvidia.com/mig-1g.5gb"])
def test_counts_times_replicas_are_what_the_plugin_offers(cut: Geometry, strategy: str, shared: str) -> None:
    settings = sliced(3, shared, strategy=strategy)
    try:
        offered = {resource: len(offer.devices) for resource, offer in offers("n", A100, cut, settings).items()}
    except Refused:
        return
    found = labels(A100, "580.95.05", cut, settings, None)

    for resource, count in offered.items():
        if resource == GPU and strategy != "single" and cut:
            continue  # gpu.count then tells of all GPUs, and gpu.replicas of the whole ones only
        assert int(found[f"{resource}.count"]) * max(1, int(found[f"{resource}.replicas"])) == count


def test_all_values_are_label_values() -> None:
    odd = Machine("NVIDIA  RTX™ PRO 6000 (Server)", 1, 98304, "12.0", machine="Board: 7 / rev. A")

    found = told(Settings("single"), machine=odd)

    assert (found["gpu.product"], found["gpu.machine"]) == ("NVIDIA-RTX-PRO-6000-Server", "Board-7-rev.-A")
    for value in found.values():
        assert re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", value), value
