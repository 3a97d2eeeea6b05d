"""What the simulated device plugin reads and offers, against values from NVIDIA's documents and code."""

import pytest

from conformance.simulator.devices import Offer
from conformance.simulator.geometry import Geometry
from conformance.simulator.hardware import Machine, gpu_uuid
from conformance.simulator.mps import active_thread_percentage, check_replicas, most_clients, pinned_memory_mib
from conformance.simulator.plugin import offers
from conformance.simulator.plugin_settings import (
    File,
    Refused,
    ReplicatedResource,
    Settings,
    Sharing,
    choose,
    combine,
    read,
)

GPU = "nvidia.com/gpu"
A100 = Machine("NVIDIA A100-SXM4-40GB", 2, 40960, "8.0", mig_capable=True)


def counts(offered: dict[str, Offer]) -> dict[str, int]:
    return {resource: len(offer.devices) for resource, offer in offered.items()}


def offered(settings: Settings, geometry: Geometry | None = None, machine: Machine = A100) -> dict[str, Offer]:
    return offers("n", machine, geometry or {}, settings)


def sliced(replicas: int, resource: str = GPU, *, renames: bool = False, refuses: bool = False) -> Settings:
    return Settings(sharing=Sharing("time-slicing", (ReplicatedResource(resource, replicas),), renames, refuses))


# --- which file ---------------------------------------------------------------------------------------------------


def test_the_label_outranks_the_default() -> None:
    assert choose(["a", "b"], "a", "b", []) == "a"
    assert choose(["a", "b"], "", "b", []) == "b"


def test_the_operator_falls_back_to_nothing_and_so_shares_nothing() -> None:
    assert choose(["time-sliced"], "", "", ["empty"]) == ""  # F42


def test_the_standalone_chart_looks_for_a_name_and_then_for_a_single_file() -> None:
    chart = ["named", "single"]

    assert choose(["default", "other"], "", "", chart) == "default"
    assert choose(["only"], "", "", chart) == "only"
    with pytest.raises(Refused, match="all fallbacks failed"):
        choose(["one", "two"], "", "", chart)


@pytest.mark.parametrize(("label", "default"), [("missing", ""), ("", "missing"), ("missing", "there")])
def test_a_key_that_does_not_exist_is_an_error(label: str, default: str) -> None:
    with pytest.raises(Refused, match="does not exist"):  # F43
        choose(["there"], label, default, ["empty"])


def test_a_config_map_without_keys_is_an_error() -> None:
    with pytest.raises(Refused, match="no configuration files available"):
        choose([], "", "", ["empty"])


# --- its text -----------------------------------------------------------------------------------------------------


def shared(section: str, more: str = "") -> str:
    return f"version: v1\nsharing:\n  {section}:\n    {more}resources: [{{name: nvidia.com/gpu, replicas: 4}}]\n"


def test_time_slicing_admits_larger_requests_by_default_and_mps_does_not() -> None:
    assert read(shared("timeSlicing")).sharing == Sharing("time-slicing", (ReplicatedResource(GPU, 4),), False, False)
    assert read(shared("mps")).sharing == Sharing("mps", (ReplicatedResource(GPU, 4),), False, True)
    assert read(shared("timeSlicing", "failRequestsGreaterThanOne: true\n    ")).sharing.refuses_many
    assert not read(shared("mps", "failRequestsGreaterThanOne: false\n    ")).sharing.refuses_many


def test_rename_by_default_counts_only_where_it_belongs() -> None:
    misplaced = "version: v1\nflags: {renameByDefault: true}\n" + shared("timeSlicing").partition("\n")[2]

    assert not read(misplaced).sharing.renames  # F46
    assert read(shared("timeSlicing", "renameByDefault: true\n    ")).sharing.renames


def test_an_empty_text_shares_nothing() -> None:
    assert read("") == File()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("version: v2\n", "unknown version"),
        ("- a list\n", "no mapping"),
        ("{", "unmarshal error"),
        ("version: v1\nflags: {migStrategy: double}\n", "invalid migStrategy"),
        ("version: v1\nflags: {failOnInitError: perhaps}\n", "no truth value"),
        ("version: v1\nsharing: {timeSlicing: }\n", "no resources specified"),
        ("version: v1\nsharing: {timeSlicing: {resources: []}}\n", "no resources specified"),
        ("version: v1\nsharing: {mps: {resources: [{name: nvidia.com/gpu}]}}\n", "no replicas specified"),
        ("version: v1\nsharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: 1}]}}\n", "must be >= 2"),
        ("version: v1\nsharing: {mps: {resources: [{name: gpu, replicas: '4'}]}}\n", "must be >= 2"),
        ("version: v1\nsharing: {mps: {resources: [{name: Gpu, replicas: 2}]}}\n", "incorrect format"),
        ("version: v1\nsharing: {mps: {resources: [{name: gpu, replicas: 2, devices: some}]}}\n", "devices"),
        ("version: v1\nresources: {gpus: [{name: gpu}]}\n", "pattern"),
        ("version: v1\nimex: {channelIDs: [1]}\n", "IMEX"),
    ],
)
def test_texts_that_the_plugin_does_not_start_with(text: str, says: str) -> None:
    with pytest.raises(Refused, match=says):
        read(text)


def test_the_environment_outranks_the_file() -> None:
    file = read("version: v1\nflags: {migStrategy: mixed}\n")

    assert combine(file, None, None).mig_strategy == "mixed"
    assert combine(file, "single", None).mig_strategy == "single"
    assert combine(File(), None, None).mig_strategy == "none"
    with pytest.raises(Refused, match="unknown MIG strategy"):
        combine(file, "double", None)


def test_mps_needs_its_folder_and_excludes_the_strategy_mixed() -> None:
    file = read(shared("mps"))

    assert combine(file, "single", "/run/nvidia/mps").sharing.strategy == "mps"
    with pytest.raises(Refused, match="mps-root"):
        combine(file, "none", None)  # F48
    with pytest.raises(Refused, match="mixed is not supported with MPS"):
        combine(file, "mixed", "/run/nvidia/mps")


# --- what is offered ----------------------------------------------------------------------------------------------


def test_each_gpu_is_offered_times_its_replicas() -> None:
    assert counts(offered(Settings())) == {GPU: 2}
    assert counts(offered(sliced(4))) == {GPU: 8}
    assert counts(offered(sliced(4, renames=True))) == {f"{GPU}.shared": 8}


def test_the_replicas_of_a_gpu_are_several_devices_with_one_uuid() -> None:
    offer = offered(sliced(3, refuses=True))[GPU]

    assert (offer.shared, offer.refuses_many, offer.mps) == (True, True, False)
    assert [device.id for device in offer.devices[:3]] == [f"{gpu_uuid('n', 0)}::{replica}" for replica in range(3)]
    assert {device.uuid for device in offer.devices} == {gpu_uuid("n", 0), gpu_uuid("n", 1)}


def test_of_two_entries_for_a_resource_the_larger_one_is_offered() -> None:
    both = Settings(sharing=Sharing("time-slicing", (ReplicatedResource(GPU, 2), ReplicatedResource(GPU, 5))))

    assert counts(offered(both)) == {GPU: 10}


def test_an_ill_gpu_is_offered_as_such_and_a_lost_one_not_at_all() -> None:
    machine = Machine("Tesla T4", 3, 15360, "7.5", unhealthy=(0,), missing=(2,))

    devices = offered(Settings(), machine=machine)[GPU].devices

    assert [(device.gpu, device.healthy) for device in devices] == [(0, False), (1, True)]


SEVEN, MIXED_CUT = {0: {"1g.5gb": 7}, 1: {"1g.5gb": 7}}, {0: {"1g.5gb": 2, "1g.5gb+me": 1, "3g.20gb": 1}}


@pytest.mark.parametrize(
    ("strategy", "geometry", "expected"),
    [
        ("none", SEVEN, {GPU: 2}),
        ("single", {}, {GPU: 2}),
        ("single", SEVEN, {GPU: 14}),
        ("mixed", {}, {GPU: 2}),
        ("mixed", SEVEN, {"nvidia.com/mig-1g.5gb": 14}),
        (
            "mixed",
            MIXED_CUT,
            {GPU: 1, "nvidia.com/mig-1g.5gb": 2, "nvidia.com/mig-1g.5gb.me": 1, "nvidia.com/mig-3g.20gb": 1},
        ),
        ("mixed", {0: {}}, {GPU: 1}),
        ("mixed", {0: {}, 1: {}}, {}),
    ],
)
def test_mig_devices_are_offered_by_strategy(strategy: str, geometry: Geometry, expected: dict[str, int]) -> None:
    assert counts(offered(Settings(strategy), geometry)) == expected


@pytest.mark.parametrize(
    ("strategy", "geometry", "says"),
    [
        ("single", {0: {"1g.5gb": 7}}, "same migEnabled value"),
        ("single", {0: {"1g.5gb": 7}, 1: {}}, "device 1 has no MIG devices configured"),
        ("single", {0: {"1g.5gb": 7}, 1: {"2g.10gb": 3}}, "more than one MIG device type"),
        ("mixed", {0: {"1c.3g.20gb": 3}}, "does not match any resource patterns"),
    ],
)
def test_cuts_with_which_the_plugin_does_not_start(strategy: str, geometry: Geometry, says: str) -> None:
    with pytest.raises(Refused, match=says):
        offered(Settings(strategy), geometry)


def test_a_mig_resource_is_shared_under_its_own_name() -> None:
    sharing = Sharing("time-slicing", (ReplicatedResource("nvidia.com/mig-1g.5gb", 2),), True)

    assert counts(offered(Settings("mixed", sharing), {0: {"1g.5gb": 7}})) == {
        GPU: 1,
        "nvidia.com/mig-1g.5gb.shared": 14,
    }


def test_mps_excludes_mig_devices() -> None:
    sharing = Sharing("mps", (ReplicatedResource(GPU, 4),), False, True)

    assert offered(Settings(sharing=sharing))[GPU].mps
    with pytest.raises(Refused, match="not supported for MIG devices"):
        offered(Settings("single", sharing), SEVEN)


# --- MPS ----------------------------------------------------------------------------------------------------------


def test_a_gpu_has_48_clients_of_mps_and_an_old_one_16() -> None:
    assert (most_clients("8.0"), most_clients("7.5"), most_clients("7.0")) == (48, 48, 16)
    check_replicas(Settings(sharing=Sharing("mps", (ReplicatedResource(GPU, 48),))), "8.0")
    with pytest.raises(Refused, match="49 > 48"):
        check_replicas(Settings(sharing=Sharing("mps", (ReplicatedResource(GPU, 49),))), "8.0")
    with pytest.raises(Refused, match="17 > 16"):
        check_replicas(Settings(sharing=Sharing("mps", (ReplicatedResource(GPU, 17),))), "7.0")
    check_replicas(Settings(sharing=Sharing("time-slicing", (ReplicatedResource(GPU, 64),))), "7.0")


def test_a_client_of_mps_gets_its_part_of_memory_and_threads() -> None:
    assert (pinned_memory_mib(40960, 4), active_thread_percentage(4)) == (10240, 25)
    assert active_thread_percentage(48) == 2
