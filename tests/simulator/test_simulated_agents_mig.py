"""Which cuts the simulated GPUs take, and what is left after one that they do not take."""

import pytest
import yaml

from conformance.gpu.mig_config import parse
from conformance.gpu.mig_profiles import A30, A100_40GB, GB200_186GB, GB200_189GB, H100_80GB, RTX_PRO_6000, Model
from conformance.simulator.geometry import Geometry, cut, model_of, standard_layouts
from conformance.simulator.hardware import Machine
from conformance.simulator.mig_apply import Failed, Layout, apply, is_applied, needs_mode_change

A100 = Machine("NVIDIA A100-SXM4-40GB", 2, 40960, "8.0", mig_capable=True)
T4 = Machine("Tesla T4", 1, 15360, "7.5")


# What the user guide and nvidia-smi mig -lgipp say of one A100-40GB.
@pytest.mark.parametrize(
    ("wanted", "possible"),
    [
        ({"1g.5gb": 7}, True),
        ({"1g.5gb": 8}, False),
        ({"1g.10gb": 4}, True),
        ({"1g.10gb": 5}, False),
        ({"2g.10gb": 3}, True),
        ({"2g.10gb": 4}, False),
        ({"3g.20gb": 2}, True),
        ({"4g.20gb": 2}, False),
        ({"7g.40gb": 1}, True),
        ({"7g.40gb": 1, "1g.5gb": 1}, False),
        ({"3g.20gb": 2, "1g.5gb": 1}, False),
        ({"1g.10gb": 4, "1g.5gb": 1}, False),
        ({"2g.10gb": 3, "1g.5gb": 1}, True),
        ({"4g.20gb": 1, "3g.20gb": 1}, True),
        ({"3g.20gb": 1, "2g.10gb": 1, "1g.5gb": 2}, True),
        ({"3g.20gb": 1, "1g.5gb": 4}, True),
        ({"3g.20gb": 1, "1g.5gb": 5}, False),
        ({"2g.10gb": 3, "1g.10gb": 1}, True),
        ({"4g.20gb": 1, "2g.10gb": 1, "1g.5gb": 1}, True),
        ({"1g.5gb+me": 1, "1g.5gb": 6}, True),
        ({"1g.5gb+me": 2}, False),
        ({"3g.40gb": 1}, False),
        ({"1g.6gb": 1}, False),
        ({"1c.3g.20gb": 3, "3g.20gb": 1}, True),
        ({"1c.3g.20gb": 7}, False),
        ({"4c.3g.20gb": 1}, False),
    ],
)
def test_cuts_of_an_a100(wanted: dict[str, int], possible: bool) -> None:
    assert cut(A100_40GB, wanted) is possible


@pytest.mark.parametrize(
    ("model", "wanted", "possible"),
    [
        (A30, {"1g.6gb": 4}, True),
        (A30, {"2g.12gb": 2}, True),
        (A30, {"2g.12gb": 1, "1g.6gb": 3}, False),
        (H100_80GB, {"3g.40gb": 1, "2g.20gb": 1, "1g.10gb": 2}, True),
        (RTX_PRO_6000, {"1g.24gb": 4}, True),
        (RTX_PRO_6000, {"1g.24gb+me.all": 1, "1g.24gb": 1}, False),
        (RTX_PRO_6000, {"1g.24gb+me.all": 1, "1g.24gb-me": 3}, True),
    ],
)
def test_cuts_of_other_models(model: Model, wanted: dict[str, int], possible: bool) -> None:
    assert cut(model, wanted) is possible


@pytest.mark.parametrize("model", [A30, A100_40GB, H100_80GB, RTX_PRO_6000])
def test_every_generated_layout_can_be_made_and_holds_as_many_as_documented(model: Model) -> None:
    layouts = standard_layouts(model)

    assert {"all-disabled", "all-enabled", "all-balanced"} < set(layouts)
    for (entry,) in layouts.values():
        assert cut(model, entry["mig-devices"])
    for profile in model.profiles:
        assert not cut(model, {profile.name: profile.maximum + 1})


def test_the_balanced_layouts_are_the_documented_ones() -> None:
    assert standard_layouts(A100_40GB)["all-balanced"][0]["mig-devices"] == {"1g.5gb": 2, "2g.10gb": 1, "3g.20gb": 1}
    assert standard_layouts(A30)["all-balanced"][0]["mig-devices"] == {"1g.6gb": 2, "2g.12gb": 1}
    # GPU 0x294110DE of the operator's default configuration.
    balanced = standard_layouts(GB200_186GB)["all-balanced"][0]["mig-devices"]
    assert balanced == {"1g.23gb": 2, "2g.47gb": 1, "3g.93gb": 1}
    assert "all-1g.5gb.me" in standard_layouts(A100_40GB)


def test_of_two_models_with_one_name_the_memory_decides() -> None:
    assert model_of(Machine("NVIDIA GB200", 4, 189 * 1024, "10.0")) is GB200_189GB
    assert model_of(Machine("NVIDIA GB200", 4, 185 * 1024, "10.0")) is GB200_186GB


# --- applying -----------------------------------------------------------------------------------------------------


def layout(*entries: dict[str, object]) -> Layout:
    text = yaml.safe_dump({"version": "v1", "mig-configs": {"x": list(entries)}})
    config = parse(text).config
    assert config is not None
    return config.layouts["x"]


OFF = layout({"devices": "all", "mig-enabled": False})
SEVEN = layout({"devices": "all", "mig-enabled": True, "mig-devices": {"1g.5gb": 7}})
TOO_MANY = layout({"devices": "all", "mig-enabled": True, "mig-devices": {"2g.10gb": 4}})
SECOND = layout({"devices": [1], "mig-enabled": True, "mig-devices": {"3g.20gb": 2}})


def failed(machine: Machine, geometry: Geometry, wanted: Layout, held: frozenset[int] = frozenset()) -> Failed:
    with pytest.raises(Failed) as raised:
        apply(machine, geometry, wanted, held)
    return raised.value


def test_a_layout_cuts_every_gpu_that_it_names() -> None:
    assert apply(A100, {}, SEVEN, frozenset()) == {0: {"1g.5gb": 7}, 1: {"1g.5gb": 7}}
    assert apply(A100, {}, SECOND, frozenset()) == {1: {"3g.20gb": 2}}
    assert apply(A100, {0: {"1g.5gb": 7}}, OFF, frozenset()) == {}


def test_an_impossible_layout_leaves_the_gpu_without_devices() -> None:
    before: Geometry = {0: {"1g.5gb": 7}, 1: {"3g.20gb": 2}}

    failure = failed(A100, before, TOO_MANY)

    assert "all orderings failed" in str(failure)
    assert failure.geometry == {0: {}, 1: {"3g.20gb": 2}}  # the second GPU was not reached
    assert before[0] == {"1g.5gb": 7}


def test_a_gpu_in_use_keeps_its_cut() -> None:
    before: Geometry = {0: {"1g.5gb": 7}, 1: {"1g.5gb": 7}}

    assert failed(A100, before, OFF, frozenset({1})).geometry == before
    assert "In use by another client" in str(failed(A100, {}, SEVEN, frozenset({0})))


def test_a_gpu_in_use_that_stays_as_it_is_does_no_harm() -> None:
    before: Geometry = {0: {"1g.5gb": 7}, 1: {"1g.5gb": 7}}

    assert apply(A100, before, SECOND, frozenset({0})) == {0: {"1g.5gb": 7}, 1: {"3g.20gb": 2}}


def test_a_layout_is_applied_only_when_it_is_so_on_every_gpu() -> None:
    assert is_applied(A100, {}, OFF)
    assert not is_applied(A100, {}, SEVEN)
    assert is_applied(A100, {0: {"1g.5gb": 7}, 1: {"1g.5gb": 7}}, SEVEN)
    assert not is_applied(A100, {0: {"1g.5gb": 7}}, SEVEN)
    assert not is_applied(A100, {1: {"3g.20gb": 2}}, SECOND)  # nothing is said of the first GPU
    assert is_applied(T4, {}, OFF)


def test_only_turning_mig_on_or_off_changes_the_mode() -> None:
    assert needs_mode_change(A100, {}, SEVEN)
    assert needs_mode_change(A100, {0: {}}, SECOND)
    assert not needs_mode_change(A100, {0: {}, 1: {}}, SEVEN)
    assert not needs_mode_change(T4, {}, SEVEN)


def test_a_gpu_without_mig_is_passed_over_unless_it_is_named() -> None:
    assert apply(T4, {}, SEVEN, frozenset()) == {}
    named = layout({"devices": [0], "mig-enabled": True, "mig-devices": {"1g.5gb": 1}})
    assert "non MIG-capable" in str(failed(T4, {}, named))


def test_a_device_filter_decides_by_the_model() -> None:
    of_a100 = {"device-filter": ["0x20B010DE"], "devices": "all", "mig-enabled": True, "mig-devices": {"1g.5gb": 7}}
    of_h100 = {"device-filter": "0x233010DE", "devices": "all", "mig-enabled": True, "mig-devices": {"1g.10gb": 7}}
    h100 = Machine("NVIDIA H100 80GB HBM3", 1, 81559, "9.0", mig_capable=True)

    assert apply(A100, {}, layout(of_a100, of_h100), frozenset())[1] == {"1g.5gb": 7}
    assert apply(h100, {}, layout(of_a100, of_h100), frozenset()) == {0: {"1g.10gb": 7}}


def test_profiles_are_noted_as_nvml_spells_them() -> None:
    whole = layout({"devices": "all", "mig-enabled": True, "mig-devices": {"3c.3g.20gb": 2}})

    assert apply(A100, {}, whole, frozenset()) == {0: {"3g.20gb": 2}, 1: {"3g.20gb": 2}}
