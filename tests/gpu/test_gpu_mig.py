"""MIG layouts, compared with a search that tries every placement, and with answers that are known."""

from itertools import product as choices
from math import floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.gpu.mig import (
    DoesNotFit,
    Fits,
    Layout,
    ProfileName,
    Unknown,
    maximum,
    model_of,
    room_for,
    solve,
)
from conformance.gpu.mig_profiles import (
    A30,
    A100_40GB,
    A100_80GB,
    B200,
    GB200_186GB,
    GB200_189GB,
    H100_80GB,
    H200,
    MODELS,
    RTX_PRO_6000,
    WITHOUT_MIG,
    Model,
    Profile,
)
from conformance.gpu.resources import GPU

CUT = [model for model in MODELS if model.profiles]


def whole(model: Model) -> Profile:
    return next(profile for profile in model.profiles if profile.size == model.memory_slices)


def brute_force(model: Model, names: list[str]) -> bool:
    """Try all starts of all instances: no memory slice twice, and no more engines than the whole GPU has."""
    profiles = [next(profile for profile in model.profiles if profile.name == name) for name in names]
    gpu = whole(model).engines
    for engine in ("decoders", "encoders", "jpeg", "ofa"):
        if sum(getattr(profile.engines, engine) or 0 for profile in profiles) > (getattr(gpu, engine) or 0):
            return False
    for starts in choices(*(profile.starts for profile in profiles)):
        used = [start + i for start, each in zip(starts, profiles, strict=True) for i in range(each.size)]
        if len(used) == len(set(used)):
            return True
    return False


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Model, list[str]]:
    model = draw(st.sampled_from([A100_40GB, A30, RTX_PRO_6000, B200]))
    names = [profile.name for profile in model.profiles]
    return model, draw(st.lists(st.sampled_from(names), max_size=5))


@given(layouts())
def test_a_layout_fits_exactly_when_some_placement_of_all_its_instances_works(case: tuple[Model, list[str]]) -> None:
    model, names = case

    assert isinstance(solve(model, Layout.of(names)), Fits) == brute_force(model, names)


@given(layouts())
def test_the_placements_given_are_allowed_and_do_not_overlap(case: tuple[Model, list[str]]) -> None:
    model, names = case
    solution = solve(model, Layout.of(names))
    if not isinstance(solution, Fits):
        return

    used = [place.start + i for place in solution.placements for i in range(place.size)]

    assert sorted(place.profile for place in solution.placements) == sorted(names)
    assert len(used) == len(set(used))
    assert all(slot < model.memory_slices for slot in used)
    for place in solution.placements:
        profile = model.profile(place.profile)
        assert profile is not None
        assert place.start in profile.starts
        assert place.size == profile.size


@settings(max_examples=40)
@given(layouts())
def test_the_nearest_layouts_fit_and_no_larger_part_does(case: tuple[Model, list[str]]) -> None:
    model, names = case
    solution = solve(model, Layout.of(names))
    if not isinstance(solution, DoesNotFit):
        return

    parts = [
        [name for name, kept in zip(names, keep, strict=True) if kept] for keep in choices((0, 1), repeat=len(names))
    ]
    fitting = {Layout.of(part) for part in parts if brute_force(model, part)}
    most = max(len(part) for part in fitting)

    assert {near.layout for near in solution.nearest} == {part for part in fitting if len(part) == most}
    for near in solution.nearest:
        held = [name for name, count in near.layout.counts for _ in range(count)]
        room = {profile.name for profile in model.profiles if brute_force(model, [*held, profile.name])}
        assert set(near.room_for) == room


@pytest.mark.parametrize("model", CUT, ids=str)
def test_the_placements_allow_as_many_instances_as_the_sources_say(model: Model) -> None:
    for profile in model.profiles:
        # No two instances can share a start, so there is no need to try more of them than starts.
        by_search = max(n for n in range(len(profile.starts) + 1) if brute_force(model, [profile.name] * n))
        assert profile.maximum == by_search == maximum(model, profile.name)


@pytest.mark.parametrize("model", CUT, ids=str)
def test_profile_names_say_the_share_of_memory_as_the_driver_rounds_it(model: Model) -> None:
    for profile in model.profiles:
        name = ProfileName.parse(profile.name)
        assert name.slices == profile.compute
        assert name.memory_gb == floor(model.memory_gb * profile.size / model.memory_slices + 0.5)


@pytest.mark.parametrize(
    "wanted",
    [
        {"1g.5gb": 7},
        {"2g.10gb": 3},
        {"2g.10gb": 3, "1g.5gb": 1},
        {"2g.10gb": 3, "1g.10gb": 1},
        {"4g.20gb": 1, "3g.20gb": 1},
        {"3g.20gb": 1, "2g.10gb": 1, "1g.5gb": 2},
        {"3g.20gb": 1, "1g.5gb": 4},
        {"4g.20gb": 1, "2g.10gb": 1, "1g.5gb": 1},
        {"1g.5gb": 6, "1g.5gb+me": 1},
        {},
    ],
    ids=lambda wanted: str(Layout.of(wanted)),
)
def test_known_layouts_of_an_a100_40gb_fit(wanted: dict[str, int]) -> None:
    assert isinstance(solve(A100_40GB, Layout.of(wanted)), Fits)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"2g.10gb": 4}, "at most 3 of 2g.10gb"),
        ({"4g.20gb": 2}, "at most 1 of 4g.20gb"),
        ({"3g.20gb": 2, "1g.5gb": 1}, "take 9 memory slices, and A100-40GB has 8"),
        ({"1g.10gb": 4, "1g.5gb": 1}, "take 9 memory slices"),
        ({"3g.20gb": 1, "1g.5gb": 5}, "take 9 memory slices"),
        ({"4g.20gb": 1, "2g.10gb": 2}, "no placement without overlap"),
        ({"1g.5gb+me": 2}, "instances share its media engines"),
        ({"3g.40gb": 1}, "A100-40GB has no profile 3g.40gb; it has 3g.20gb"),
        ({"1g.6gb": 1}, "no profile 1g.6gb"),
        ({"1g.5gb": 10**9}, "at most 7 of 1g.5gb"),
    ],
    ids=str,
)
def test_known_layouts_of_an_a100_40gb_do_not_fit_and_it_says_why(wanted: dict[str, int], why: str) -> None:
    solution = solve(A100_40GB, Layout.of(wanted))

    assert isinstance(solution, DoesNotFit)
    assert why in solution.why


def test_seven_slices_of_5gb_are_for_the_a100_40gb_only() -> None:
    for model in CUT:
        fits = isinstance(solve(model, Layout.of({"1g.5gb": 7})), Fits)
        assert fits == (model is A100_40GB)
    assert isinstance(solve(A100_80GB, Layout.of({"1g.10gb": 7})), Fits)
    assert maximum(A100_80GB, "1g.5gb") == 0


def test_four_of_2g_10gb_fit_nowhere_and_three_leave_room_for_one_small_slice() -> None:
    assert not any(isinstance(solve(model, Layout.of({"2g.10gb": 4})), Fits) for model in CUT)

    solution = solve(A100_40GB, Layout.of({"2g.10gb": 4}))

    assert isinstance(solution, DoesNotFit)
    assert [str(near) for near in solution.nearest] == [
        "2g.10gb x3, with room for 1g.10gb or 1g.5gb or 1g.5gb+me",
    ]


def test_an_instance_with_all_media_engines_leaves_the_others_none() -> None:
    assert isinstance(solve(RTX_PRO_6000, Layout.of({"1g.24gb+me.all": 1, "1g.24gb-me": 3})), Fits)
    assert isinstance(solve(RTX_PRO_6000, Layout.of({"1g.24gb+me.all": 1, "1g.24gb": 1})), DoesNotFit)
    assert "1g.24gb" not in room_for(RTX_PRO_6000, Layout.of({"1g.24gb+me.all": 1}))


def test_a_gpu_without_mig_fits_nothing_and_an_unknown_one_is_unknown() -> None:
    for model in WITHOUT_MIG:
        assert solve(model, Layout.of({"1g.5gb": 1})) == DoesNotFit(f"{model} has no MIG")
    assert isinstance(solve(model_of("NVIDIA-R100"), Layout.of({"1g.5gb": 1})), Unknown)


def test_part_of_a_gpu_instance_is_not_judged() -> None:
    solution = solve(A100_40GB, Layout.of({"1c.2g.10gb": 2}))

    assert isinstance(solution, Unknown)
    assert "1c.2g.10gb" in solution.why


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1g.5gb", (1, 1, 5, "")),
        ("1g.5gb+me", (1, 1, 5, "+me")),
        ("1c.2g.10gb", (1, 2, 10, "")),
        ("1g.24gb+me.all", (1, 1, 24, "+me.all")),
        ("2g.48gb-me", (2, 2, 48, "-me")),
        ("2c.7g.141gb", (2, 7, 141, "")),
    ],
)
def test_profile_names_are_taken_apart_and_put_together(text: str, parts: tuple[int, int, int, str]) -> None:
    name = ProfileName.parse(text)

    assert (name.compute, name.slices, name.memory_gb, name.attribute) == parts
    assert str(name) == text


@pytest.mark.parametrize(
    "text", ["", "1g", "5gb", "0g.5gb", "1g.5gb+", "1g.5GB", "mig-1g.5gb", "3c.2g.10gb", "1g.5gb\n"]
)
def test_what_is_no_profile_name_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is no MIG profile"):
        ProfileName.parse(text)


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1g\.5gb is wanted -1 times"):
        Layout.of({"1g.5gb": -1})


def test_layouts_are_equal_however_they_are_written() -> None:
    assert Layout.of({"1g.5gb": 1, "2g.10gb": 3, "7g.40gb": 0}) == Layout.of(["2g.10gb", "1c.1g.5gb", *["2g.10gb"] * 2])
    assert str(Layout.of({"1g.5gb": 1, "2g.10gb": 3})) == "2g.10gb x3 + 1g.5gb x1"
    assert str(Layout()) == "no instances"


@pytest.mark.parametrize("model", CUT, ids=str)
def test_a_resource_name_leads_back_to_its_profile(model: Model) -> None:
    for profile in model.profiles:
        assert "+" not in profile.resource
        assert str(ProfileName.from_resource(profile.resource)) == profile.name
        assert str(ProfileName.from_resource(f"{profile.resource}.shared")) == profile.name


@pytest.mark.parametrize("resource", [GPU, "nvidia.com/mig-", "nvidia.com/mig-small", "1g.5gb", "cpu"])
def test_other_resources_have_no_profile(resource: str) -> None:
    assert ProfileName.from_resource(resource) is None


@pytest.mark.parametrize(
    ("product", "model"),
    [
        ("NVIDIA-A100-SXM4-40GB", A100_40GB),
        ("A100-SXM4-40GB", A100_40GB),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", A100_40GB),
        ("NVIDIA-A100-SXM4-40GB-MIG-INVALID", A100_40GB),
        ("NVIDIA-A100-80GB-PCIe-SHARED", A100_80GB),
        ("NVIDIA-H100-80GB-HBM3", H100_80GB),
        ("NVIDIA-H200-MIG-1g.18gb-SHARED", H200),
        ("NVIDIA-B200", B200),
        ("NVIDIA-A30", A30),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", RTX_PRO_6000),
    ],
)
def test_a_product_label_leads_to_its_model(product: str, model: Model) -> None:
    assert model_of(product) is model


@given(st.text(max_size=20))
def test_no_product_label_is_an_error(product: str) -> None:
    assert isinstance(model_of(product), Model | Unknown)


def test_memory_tells_two_gpus_of_one_name_apart() -> None:
    assert isinstance(model_of("NVIDIA-GB200"), Unknown)
    assert model_of("NVIDIA-GB200", 189471) is GB200_186GB
    assert model_of("NVIDIA-GB200", 189 * 1024) is GB200_189GB
    assert isinstance(model_of("NVIDIA-GB200", 4096), Unknown)


def test_products_belong_to_one_model_except_where_memory_decides() -> None:
    shared = [p for model in MODELS for p in model.products if sum(p in other.products for other in MODELS) > 1]

    assert set(shared) == {"NVIDIA-GB200"}
    assert len({model.name for model in MODELS}) == len(MODELS)


SEVEN = Layout.of({"1g.5gb": 7})
MIXED = Layout.of({"1g.5gb": 1, "1g.5gb+me": 1, "2g.10gb": 1, "3g.20gb": 1})
