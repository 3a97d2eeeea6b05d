"""The MIG manager's configuration: its text, the layout for each GPU, and the references that lead to a node."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.gpu.mig_config import Entry, parse, select, wanted
from conformance.gpu.plugin_config_selection import Chain

GUIDE_TEXT = """\
version: v1
mig-configs:
  # 추론 서버용: 7개 소형 인스턴스
  inference-7:
    - devices: [0,1,2,3]
      mig-enabled: true
      mig-devices:
        "1g.5gb": 7
  # 학습용: 4개 중형 인스턴스
  training-4:
    - devices: [4,5,6,7]
      mig-enabled: true
      mig-devices:
        "2g.10gb": 4
"""
GUIDE_CONFIG_MAP = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "mig-config", "namespace": "gpu-operator"},
    "data": {"config.yaml": GUIDE_TEXT},
}
NODE = "a100-training-1"
CAPABLE = {"nvidia.com/mig.capable": "true"}
INFERENCE = {**CAPABLE, "nvidia.com/mig.config": "inference-7"}
NAMED: dict[str, Any] = {"spec": {"migManager": {"config": {"name": "mig-config"}}}}
UNNAMED: dict[str, Any] = {"spec": {"migManager": {"config": {"default": "all-disabled"}}}}


def test_the_guides_text_is_read_as_it_stands() -> None:
    parsed = parse(GUIDE_TEXT)
    assert parsed.problems == ()
    assert parsed.config is not None
    assert dict(parsed.config.layouts) == {
        "inference-7": (Entry((0, 1, 2, 3), True, {"1g.5gb": 7}),),
        "training-4": (Entry((4, 5, 6, 7), True, {"2g.10gb": 4}),),
    }


def test_the_guides_config_map_is_used_by_nobody() -> None:
    selection = select(UNNAMED, GUIDE_CONFIG_MAP, INFERENCE, NODE, "gpu-operator")
    assert selection.outcome is Chain.NOT_CONFIGURED
    assert "migManager.config.name is empty" in selection.cause
    assert f"{NODE}-mig-config" in selection.hidden_because
    assert "mig-config" in selection.remedy


def test_once_named_the_guides_layout_still_needs_a_label() -> None:
    selection = select(NAMED, GUIDE_CONFIG_MAP, CAPABLE, NODE, "gpu-operator")
    assert selection.outcome is Chain.NOT_APPLIED
    assert selection.cause == "the node has no label nvidia.com/mig.config"
    assert "inference-7, training-4" in selection.remedy


def test_one_label_of_the_guide_leaves_half_of_the_gpus_as_they_are() -> None:
    selection = select(NAMED, GUIDE_CONFIG_MAP, INFERENCE, NODE, "gpu-operator")
    assert (selection.outcome, selection.layout) == (Chain.APPLIED, "inference-7")
    plan = wanted(selection.entries or (), gpus=8)
    assert plan.profiles == {index: {"1g.5gb": 7} for index in range(4)}
    assert plan.untouched == (4, 5, 6, 7)
    assert plan.problems == ()


@pytest.mark.parametrize(
    ("cluster_policy", "config_map", "labels", "outcome", "says"),
    [
        (None, None, CAPABLE, Chain.UNKNOWN, "no spec"),
        ({"spec": {"migManager": {"enabled": False}}}, None, CAPABLE, Chain.NOT_CONFIGURED, "enabled is false"),
        (NAMED, GUIDE_CONFIG_MAP, {}, Chain.NOT_APPLIED, "no MIG manager runs"),
        (NAMED, GUIDE_CONFIG_MAP, {"nvidia.com/mig.capable": "false"}, Chain.NOT_APPLIED, "is false"),
        (NAMED, GUIDE_CONFIG_MAP, {"nvidia.com/gpu.product": "Tesla-T4"}, Chain.NOT_APPLIED, "no MIG manager runs"),
        (NAMED, GUIDE_CONFIG_MAP, {"nvidia.com/vgpu.host-driver-version": "550"}, Chain.NOT_APPLIED, "vGPU hosts"),
        (NAMED, None, INFERENCE, Chain.BROKEN, "names ConfigMap mig-config, which does not exist"),
        (NAMED, {"data": {"mig.yaml": GUIDE_TEXT}}, INFERENCE, Chain.BROKEN, "no key config.yaml; its keys: mig.yaml"),
        (NAMED, {"data": {}}, INFERENCE, Chain.BROKEN, "its keys: none"),
        (NAMED, {"data": {"config.yaml": "["}}, INFERENCE, Chain.BROKEN, "is refused: is not YAML"),
        (
            NAMED,
            GUIDE_CONFIG_MAP,
            {**CAPABLE, "nvidia.com/mig.config": "all-1g.5gb"},
            Chain.BROKEN,
            "names all-1g.5gb, which config.yaml of ConfigMap mig-config does not have",
        ),
        (UNNAMED, None, INFERENCE, Chain.UNKNOWN, "generated on the node is not known"),
        (UNNAMED, None, CAPABLE, Chain.UNKNOWN, "no label nvidia.com/mig.config"),
    ],
)
def test_the_cause_is_named(
    cluster_policy: object, config_map: dict[str, Any] | None, labels: dict[str, str], outcome: Chain, says: str
) -> None:
    selection = select(cluster_policy, config_map, labels, NODE)
    assert selection.outcome is outcome
    assert says in selection.cause
    assert selection.entries is None


def test_a_config_map_of_another_namespace_does_not_count() -> None:
    selection = select(NAMED, GUIDE_CONFIG_MAP, INFERENCE, NODE, "nvidia-gpu-operator")
    assert "in namespace gpu-operator" in selection.cause


def test_the_generated_config_map_is_read_where_none_is_named() -> None:
    generated = {"metadata": {"name": f"{NODE}-mig-config"}, "data": {"config.yaml": GUIDE_TEXT}}
    assert select(UNNAMED, generated, INFERENCE, NODE).outcome is Chain.APPLIED


def test_the_product_stands_in_while_mig_capable_is_not_set() -> None:
    labels = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB", "nvidia.com/mig.config": "training-4"}
    assert select(NAMED, GUIDE_CONFIG_MAP, labels, NODE).outcome is Chain.APPLIED


def entry(body: str) -> str:
    return f"version: v1\nmig-configs:\n  one:\n  - {{{body}}}\n"


ON = "mig-enabled: true, mig-devices: {1g.5gb: 7}"


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("", "", "is empty"),
        ("[]", "", "is a list"),
        (7, "", "is 7"),
        ("mig-configs: {one: [{devices: all, mig-enabled: false}]}", "version", "is missing"),
        ("version: v2\nmig-configs: {one: [{devices: all, mig-enabled: false}]}", "version", "is 'v2'"),
        ("version: v1", "mig-configs", "is missing"),
        ("version: v1\nmig-configs: {}", "mig-configs", "empty"),
        ("version: v1\nmig-configs: {one: []}", "mig-configs.one", "is empty"),
        ("version: v1\nmig-configs: {one: [3]}", "mig-configs.one[0]", "is 3"),
        ("version: v1\nmig-configs: {one: [{devices: all, mig-enabled: false}]}\nmore: 1", "more", "is refused"),
        (entry(f"devices: all, {ON}, colour: red"), "mig-configs.one[0].colour", "is refused"),
        (entry(ON), "mig-configs.one[0].devices", "is missing"),
        (entry(f"devices: some, {ON}"), "mig-configs.one[0].devices", "is 'some'"),
        (entry(f"devices: [0, x], {ON}"), "mig-configs.one[0].devices", "'x'"),
        (entry("devices: all, mig-devices: {}"), "mig-configs.one[0].mig-enabled", "is missing"),
        (entry("devices: all, mig-enabled: true"), "mig-configs.one[0].mig-devices", "is missing"),
        (
            entry("devices: all, mig-enabled: false, mig-devices: {1g.5gb: 1}"),
            "mig-configs.one[0].mig-devices",
            "empty",
        ),
        (
            entry("devices: all, mig-enabled: true, mig-devices: {1g.5gb: 0}"),
            "mig-configs.one[0].mig-devices",
            "counts 0",
        ),
        (
            entry("devices: all, mig-enabled: true, mig-devices: [1g.5gb]"),
            "mig-configs.one[0].mig-devices",
            "is a list",
        ),
        (
            entry("devices: all, mig-enabled: true, mig-devices: {small: 1}"),
            "mig-configs.one[0].mig-devices.small",
            "no MIG",
        ),
        (
            entry("devices: all, mig-enabled: true, mig-devices: {1g.5gb: x}"),
            "mig-configs.one[0].mig-devices.1g.5gb",
            "'x'",
        ),
        (entry(f"devices: all, {ON}, device-filter: [7]"), "mig-configs.one[0].device-filter", "is a list"),
    ],
)
def test_what_mig_parted_refuses_is_told_with_its_path(text: object, path: str, says: str) -> None:
    parsed = parse(text)
    assert parsed.config is None
    (problem,) = [problem for problem in parsed.problems if problem.fatal]
    assert problem.path == path
    assert says in problem.text
    assert problem.allowed


@pytest.mark.parametrize(
    "profile", ["1g.5gb", "1g.10gb+me", "1c.3g.20gb", "1g.24gb-me", "1g.24gb+me.all", "2g.48gb+gfx"]
)
def test_every_form_of_profile_is_read(profile: str) -> None:
    parsed = parse(entry(f"devices: all, mig-enabled: true, mig-devices: {{{profile}: 1}}"))
    assert parsed.config is not None
    assert wanted(parsed.config.layouts["one"], 1).profiles == {0: {profile: 1}}


def test_mig_off_and_an_empty_mig_gpu_are_told_apart() -> None:
    off = wanted((Entry(None, False, {}),), 1)
    empty = wanted((Entry(None, True, {}),), 1)
    assert off.profiles == empty.profiles == {0: {}}
    assert (off.mig_off, empty.mig_off) == ((0,), ())


def test_a_filter_picks_models_and_is_unknown_without_their_ids() -> None:
    entries = (
        Entry(None, True, {"1g.5gb": 7}, ("0x20B010DE", "0x20b110de")),
        Entry(None, True, {"1g.10gb": 7}, ("0x233010DE",)),
    )
    assert wanted(entries, 2, ["0x20b010de", "0x233010DE"]).profiles == {0: {"1g.5gb": 7}, 1: {"1g.10gb": 7}}
    assert wanted(entries, 1).unknown == (0,)
    assert wanted(entries, 1, ["0x1EB810DE"]).untouched == (0,)


A100 = "0x20B010DE"
SUBSYSTEM = "0x145110DE"


@pytest.mark.parametrize(
    ("one", "gpu", "admits"),
    [
        (f"{A100}:{SUBSYSTEM}", f"{A100}:{SUBSYSTEM}", True),
        (f"{A100}:{SUBSYSTEM}", f"{A100}:0x145210DE", False),
        (f"{A100}:{SUBSYSTEM}", A100, None),
        (f"{A100}:{SUBSYSTEM}", "0x233010DE", False),
        (A100, f"{A100}:{SUBSYSTEM}", True),
        ("548409566", A100, True),
        ("0b100000101100000001000011011110", A100, True),
        ("0o4054010336", A100, True),
        ("04054010336", A100, True),
    ],
)
def test_a_filter_may_name_the_subsystem_and_be_any_number_that_go_reads(
    one: str, gpu: str, admits: bool | None
) -> None:
    parsed = parse(entry(f"devices: all, {ON}, device-filter: '{one}'"))
    assert parsed.config is not None
    assert not parsed.problems
    (found,) = parsed.config.layouts["one"]
    assert found.admits(gpu) is admits


def test_a_filter_that_is_no_id_matches_nothing_and_is_mentioned() -> None:
    parsed = parse(entry(f"devices: all, {ON}, device-filter: A100"))
    assert parsed.config is not None
    assert "matches no GPU" in parsed.problems[0].text
    assert wanted(parsed.config.layouts["one"], 1, ["A100"]).untouched == (0,)


@pytest.mark.parametrize("one", ["0x120B010DE", "-1", "", "0x", "08", f"{A100}:", f"{A100}:1:2", " 0x20B010DE"])
def test_what_mig_parted_reads_as_no_id_is_mentioned(one: str) -> None:
    parsed = parse(entry(f"devices: all, {ON}, device-filter: ['{one}']"))
    assert [problem.path for problem in parsed.problems] == ["mig-configs.one[0].device-filter"]


def test_indices_beyond_the_node_and_contradictions_are_mentioned() -> None:
    plan = wanted((Entry((0, 4), True, {"1g.5gb": 7}), Entry((0,), True, {"2g.10gb": 3})), 4)
    assert plan.profiles == {0: {"2g.10gb": 3}}
    assert [problem.path for problem in plan.problems] == ["GPU 0", "devices"]
    assert "names GPUs 4, and the node has 4" in plan.problems[1].text


TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.sampled_from(["v1", "all", "1g.5gb", "0x20B010DE"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["version", "mig-configs", "one", "devices", "mig-enabled", "mig-devices", "1g.5gb"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(TREES)
def test_any_tree_is_either_read_or_refused_with_a_reason(tree: object) -> None:
    import yaml

    parsed = parse(yaml.safe_dump({"version": "v1", "mig-configs": {"one": tree}}))
    assert (parsed.config is None) == any(problem.fatal for problem in parsed.problems)
    if parsed.config is not None:
        plan = wanted(parsed.config.layouts["one"], 3)
        assert sorted((*plan.profiles, *plan.untouched, *plan.unknown)) == [0, 1, 2]


@given(TREES, TREES)
def test_any_chain_of_objects_ends_in_a_selection(cluster_policy: object, data: object) -> None:
    assert select(cluster_policy, {"metadata": data, "data": data}, INFERENCE, NODE).outcome in Chain
    assert select(NAMED, {"metadata": data, "data": {"config.yaml": data}}, INFERENCE, NODE).outcome in Chain
