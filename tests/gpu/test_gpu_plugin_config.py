"""The device plugin's configuration: its text, and the chain of references that leads to a node."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.gpu.plugin_config import PluginConfig, parse
from conformance.gpu.plugin_config_selection import Chain, select
from conformance.gpu.sharing import MigStrategy, NodeGpus, ReplicatedResource, Sharing, SharingStrategy, advertised

GUIDE_TEXT = """\
version: v1
flags:
  migStrategy: none
sharing:
  timeSlicing:
    resources:
    - name: nvidia.com/gpu
      replicas: 4 # GPU 1개 → 4개로 광고
"""
GUIDE_CONFIG_MAP = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "time-slicing-config", "namespace": "gpu-operator"},
    "data": {"any": GUIDE_TEXT},
}
GUIDE_PATCH = {"spec": {"devicePlugin": {"config": {"name": "time-slicing-config"}}}}
LABEL = "nvidia.com/device-plugin.config"


def policy(**config: str) -> dict[str, Any]:
    return {"spec": {"devicePlugin": {"config": config}}}


def test_the_guides_text_slices_each_gpu_in_four() -> None:
    parsed = parse(GUIDE_TEXT)
    assert parsed.problems == ()
    resources = (ReplicatedResource("nvidia.com/gpu", 4),)
    assert parsed.config == PluginConfig(MigStrategy.NONE, Sharing(SharingStrategy.TIME_SLICING, resources))


def test_the_guides_patch_is_silently_not_applied() -> None:
    selection = select(GUIDE_PATCH, GUIDE_CONFIG_MAP, {}, "gpu-operator")
    assert selection.outcome is Chain.NOT_APPLIED
    assert "devicePlugin.config.default is empty" in selection.cause
    assert LABEL in selection.cause
    assert "any" in selection.remedy
    assert selection.hidden_because


def test_the_guides_patch_works_for_a_labelled_node() -> None:
    selection = select(GUIDE_PATCH, GUIDE_CONFIG_MAP, {LABEL: "any"}, "gpu-operator")
    assert (selection.outcome, selection.key, selection.chosen_by) == (Chain.APPLIED, "any", "label")
    assert selection.config is not None
    assert advertised(NodeGpus("Tesla-T4", 1), selection.config.sharing).resources == {"nvidia.com/gpu": 4}


def test_the_guides_patch_works_with_a_default() -> None:
    selection = select(policy(name="time-slicing-config", default="any"), GUIDE_CONFIG_MAP, {})
    assert (selection.outcome, selection.key, selection.chosen_by) == (Chain.APPLIED, "any", "default")


def test_a_label_outranks_the_default() -> None:
    config_map = {"data": {"any": GUIDE_TEXT, "whole": "version: v1"}}
    selection = select(policy(name="c", default="any"), config_map, {LABEL: "whole"})
    assert (selection.key, selection.config) == ("whole", PluginConfig())


@pytest.mark.parametrize(
    ("cluster_policy", "config_map", "labels", "outcome", "says"),
    [
        (policy(name="gone"), None, {}, Chain.BROKEN, "gone, which does not exist"),
        (policy(name="other"), GUIDE_CONFIG_MAP, {}, Chain.BROKEN, "only time-slicing-config was found"),
        (policy(name="c", default="none"), {"data": {"any": GUIDE_TEXT}}, {}, Chain.BROKEN, "config.default names"),
        (policy(name="c", default="any"), {"data": {"any": GUIDE_TEXT}}, {LABEL: "t4"}, Chain.BROKEN, f"label {LABEL}"),
        (policy(name="c"), {"data": {}}, {}, Chain.BROKEN, "has no keys"),
        (policy(name="c"), {}, {}, Chain.BROKEN, "has no keys"),
        (policy(name="c", default="any"), {"data": {"any": "a: ["}}, {}, Chain.BROKEN, "is refused: is not YAML"),
        (policy(name="c", default="any"), {"data": {"any": 3}}, {}, Chain.BROKEN, "YAML text"),
        (policy(name="c", default="b"), {"binaryData": {"b": "AA=="}}, {}, Chain.UNKNOWN, "binary data"),
        (policy(), GUIDE_CONFIG_MAP, {}, Chain.NOT_CONFIGURED, "time-slicing-config is used by nobody"),
        (policy(default="any"), None, {}, Chain.NOT_CONFIGURED, "means nothing without it"),
        ({"spec": {}}, None, {}, Chain.NOT_CONFIGURED, "devicePlugin.config.name is empty"),
        ({"spec": {"devicePlugin": {"enabled": False}}}, None, {}, Chain.NOT_CONFIGURED, "no plugin is deployed"),
        (None, GUIDE_CONFIG_MAP, {}, Chain.UNKNOWN, "no spec"),
        ({"spec": []}, GUIDE_CONFIG_MAP, {}, Chain.UNKNOWN, "no spec"),
    ],
)
def test_the_cause_is_named(
    cluster_policy: object, config_map: dict[str, Any] | None, labels: dict[str, str], outcome: Chain, says: str
) -> None:
    selection = select(cluster_policy, config_map, labels)
    assert selection.outcome is outcome
    assert says in selection.cause
    assert selection.config is None


def test_a_config_map_in_another_namespace_does_not_count() -> None:
    selection = select(GUIDE_PATCH, GUIDE_CONFIG_MAP, {LABEL: "any"}, "nvidia-gpu-operator")
    assert selection.outcome is Chain.BROKEN
    assert "is in namespace gpu-operator" in selection.cause


def sharing(body: str, section: str = "timeSlicing") -> str:
    return f"version: v1\nsharing:\n  {section}: {body}\n"


@pytest.mark.parametrize(
    ("text", "path", "allowed"),
    [
        ("version: v2", "version", "v1"),
        ("- version: v1", "", "a mapping"),
        ("just words", "", "a mapping"),
        ("a: [", "", "YAML text"),
        (None, "", "YAML text"),
        ({"version": "v1"}, "", "YAML text"),
        ("flags: {migStrategy: both}", "flags.migStrategy", "none, single, mixed"),
        ("flags: {failOnInitError: 'yes'}", "flags.failOnInitError", "true, false"),
        ("flags: {plugin: {deviceListStrategy: 3}}", "flags.plugin.deviceListStrategy", "list of texts"),
        ("flags: {gfd: {sleepInterval: 1x}}", "flags.gfd.sleepInterval", "60s"),
        ("flags: {gfd: {oneshot: 'no'}}", "flags.gfd.oneshot", "true, false"),
        ("resources: [gpu]", "resources", "a mapping"),
        ("resources: {gpus: gpu}", "resources.gpus", "a list"),
        ("resources: {gpus: [{pattern: '*'}]}", "resources.gpus[0]", "pattern and name"),
        ("resources: {mig: [{pattern: '*', name: A_B}]}", "resources.mig[0].name", "dot"),
        ("flags: {plugin: {deviceIDStrategy: serial}}", "flags.plugin.deviceIDStrategy", "uuid, index"),
        ("flags: 3", "flags", "a mapping"),
        ("imex: {channelIDs: [1]}", "imex.channelIDs", "[0]"),
        ("sharing: [a]", "sharing", "a mapping"),
        (sharing("null"), "sharing.timeSlicing.resources", "at least one"),
        (sharing("[]"), "sharing.timeSlicing", "a mapping"),
        (sharing("{resources: []}"), "sharing.timeSlicing.resources", "at least one"),
        (sharing("{resources: [3]}"), "sharing.timeSlicing.resources[0]", "name and replicas"),
        (sharing("{resources: [{name: gpu}]}"), "sharing.timeSlicing.resources[0].replicas", "from 2 on"),
        (sharing("{resources: [{name: gpu, replicas: 1}]}"), "sharing.timeSlicing.resources[0].replicas", "from 2 on"),
        (sharing("{resources: [{name: gpu, replicas: '4'}]}"), "sharing.timeSlicing.resources[0].replicas", "number"),
        (sharing("{resources: [{name: gpu, replicas: true}]}"), "sharing.timeSlicing.resources[0].replicas", "number"),
        (sharing("{resources: [{name: gpu, replicas: .nan}]}"), "sharing.timeSlicing.resources[0].replicas", "number"),
        (sharing("{resources: [{replicas: 4}]}"), "sharing.timeSlicing.resources[0].name", "nvidia.com/gpu"),
        (sharing("{resources: [{name: amd.com/gpu, replicas: 2}]}"), "sharing.timeSlicing.resources[0].name", "nvidia"),
        (sharing("{resources: [{name: mig-1g.10gb+me, replicas: 2}]}"), "sharing.timeSlicing.resources[0].name", "dot"),
        (
            sharing("{renameByDefault: 1, resources: [{name: gpu, replicas: 2}]}"),
            "sharing.timeSlicing.renameByDefault",
            "t",
        ),
        (
            "flags: {migStrategy: mixed}\n" + sharing("{resources: [{name: gpu, replicas: 2}]}", "mps"),
            "flags.migStrategy",
            "s",
        ),
    ],
)
def test_what_the_plugin_refuses_is_told_with_path_and_allowed_values(text: object, path: str, allowed: str) -> None:
    parsed = parse(text)
    assert parsed.config is None
    (problem,) = [problem for problem in parsed.problems if problem.fatal]
    assert problem.path == path
    assert allowed in problem.allowed
    assert problem.text in str(problem)


DEVICES = "sharing.timeSlicing.resources[0].devices"


@pytest.mark.parametrize(
    "devices", ["0", "-1", "1.5", '"0,1"', "some", "[foo]", "[-1]", "[true]", "{}", "true", "null"]
)
def test_devices_that_the_plugin_cannot_read_stop_it(devices: str) -> None:
    parsed = parse(sharing(f"{{resources: [{{name: gpu, replicas: 2, devices: {devices}}}]}}"))
    assert parsed.config is None
    assert [problem.path for problem in parsed.problems if problem.fatal] == [DEVICES]


UUID = "b1028956-cfa2-0990-bf4a-5da9abb51763"


@pytest.mark.parametrize(
    "devices", ["2", "[]", "[0, 1.0]", "['0', '0:1']", f"[GPU-{UUID}, MIG-{UUID}, MIG-GPU-{UUID}/3/0]"]
)
def test_devices_that_the_plugin_reads_are_ignored(devices: str) -> None:
    parsed = parse(sharing(f"{{resources: [{{name: gpu, replicas: 2, devices: {devices}}}]}}"))
    assert parsed.config is not None
    assert [(problem.path, problem.fatal) for problem in parsed.problems] == [(DEVICES, False)]


@pytest.mark.parametrize("path", ["flags.mpsRoot", "flags.nvidiaDriverRoot", "flags.plugin.nvidiaCTKPath"])
def test_a_number_where_the_plugin_wants_a_text_stops_it(path: str) -> None:
    *sections, key = path.split(".")
    text = "".join(f"{section}: {{" for section in sections) + f"{key}: 5" + "}" * len(sections)
    parsed = parse(text)
    assert parsed.config is None
    assert [problem.path for problem in parsed.problems] == [path]
    assert parse(text.replace("5", "/run")).config is not None


@pytest.mark.parametrize("rename", ["null", "''", "A_B", "3", "[]"])
def test_a_rename_that_is_no_name_of_a_resource_stops_the_plugin(rename: str) -> None:
    parsed = parse(sharing(f"{{resources: [{{name: gpu, replicas: 2, rename: {rename}}}]}}"))
    assert parsed.config is None
    assert [problem.path for problem in parsed.problems if problem.fatal] == ["sharing.timeSlicing.resources[0].rename"]


@pytest.mark.parametrize("replicas", ["4", "4.0", "4e0", "0x4", "0o4"])
def test_numbers_are_those_of_go(replicas: str) -> None:
    config = parse(sharing(f"{{resources: [{{name: gpu, replicas: {replicas}}}]}}")).config
    assert config is not None
    assert config.sharing.resources == (ReplicatedResource("nvidia.com/gpu", 4),)


def test_a_number_of_more_than_64_bits_stops_the_plugin() -> None:
    assert parse(sharing("{resources: [{name: gpu, replicas: 10000000000000000000}]}")).config is None


def test_only_the_first_document_of_a_text_is_read() -> None:
    parsed = parse(f"version: v1\nsharing:\n  timeSlicing: {TWO}\n---\nversion: v7\n")
    assert parsed.problems == ()
    assert parsed.config is not None
    assert parsed.config.sharing.resources == (ReplicatedResource("nvidia.com/gpu", 2),)


def test_times_and_unknown_tags_are_texts() -> None:
    assert parse("version: !mine v1\nflags: {mpsRoot: 2026-01-01}").config is not None


@pytest.mark.parametrize("interval", ["60s", "1h30m", "infinite", "0", "1000000000", "-1.5s"])
def test_intervals_are_durations_of_go(interval: str) -> None:
    assert parse(f"flags: {{gfd: {{sleepInterval: {interval}}}}}").problems == ()


TWO = "{resources: [{name: nvidia.com/gpu, replicas: 2}]}"


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("", "", "is empty"),
        ("flags: {renameByDefault: true}", "flags.renameByDefault", "belongs under sharing.timeSlicing"),
        ("timeSlicing: {}", "timeSlicing", "belongs under sharing"),
        ("migStrategy: single", "migStrategy", "belongs under flags"),
        ("sharing: {timeSlicng: {}}", "sharing.timeSlicng", "did you mean timeSlicing?"),
        ("colour: red", "colour", "no such key"),
        ("resources: {gpus: [{pattern: '*', name: gpu}]}", "resources", "is ignored"),
        ("flags: {plugin: {deviceListStrategy: [envvar, magic]}}", "flags.plugin.deviceListStrategy", "outranks it"),
        (f"sharing:\n  timeSlicing: {TWO}\n  mps: {TWO}", "sharing.timeSlicing", "sharing.mps is set too"),
        (
            sharing("{resources: [{name: gpu, replicas: 2, devices: [0]}]}"),
            "sharing.timeSlicing.resources[0].devices",
            "all devices",
        ),
        (
            sharing("{resources: [{name: gpu, replicas: 2, rename: mine}]}"),
            "sharing.timeSlicing.resources[0].rename",
            "only renameByDefault",
        ),
        (
            sharing("{resources: [{name: gpus, replicas: 2}]}"),
            "sharing.timeSlicing.resources[0].name",
            "which no device has",
        ),
        (
            sharing("{resources: [{name: gpu, replicas: 2}, {name: nvidia.com/gpu, replicas: 4}]}"),
            "sharing.timeSlicing.resources",
            "more than once",
        ),
    ],
)
def test_what_has_no_effect_is_told_and_does_not_stop_the_plugin(text: str, path: str, says: str) -> None:
    parsed = parse(text)
    assert parsed.config is not None
    (problem,) = parsed.problems
    assert not problem.fatal
    assert problem.path == path
    assert says in problem.text


def test_of_both_strategies_mps_wins() -> None:
    config = parse(f"sharing:\n  timeSlicing: {TWO}\n  mps: {TWO}").config
    assert config is not None
    assert config.sharing.strategy is SharingStrategy.MPS
    assert config.sharing.refuses_more_than_one


def test_mps_null_is_no_mps_and_the_vendor_may_be_left_out() -> None:
    config = parse("sharing:\n  timeSlicing: {resources: [{name: gpu, replicas: 3.0}]}\n  mps: null").config
    assert config is not None
    assert config.sharing == Sharing(SharingStrategy.TIME_SLICING, (ReplicatedResource("nvidia.com/gpu", 3),))


def test_rename_and_refusal_are_read() -> None:
    text = sharing("{renameByDefault: true, failRequestsGreaterThanOne: true, resources: [{name: gpu, replicas: 2}]}")
    config = parse(text).config
    assert config is not None
    assert config.sharing.name_of("nvidia.com/gpu") == "nvidia.com/gpu.shared"
    assert config.sharing.refuses_more_than_one


def test_sections_are_known_in_any_case_and_their_resources_only_as_they_are_spelled() -> None:
    read = parse("Sharing: {timeslicing: {resources: [{name: gpu, replicas: 2}]}}")
    assert read.problems == ()
    assert read.config is not None
    assert read.config.sharing.replicas_of("nvidia.com/gpu") == 2
    assert parse("sharing: {timeSlicing: {Resources: [{name: gpu, replicas: 2}]}}").config is None


@pytest.mark.parametrize(
    ("text", "from_operator", "strategy"),
    [
        (GUIDE_TEXT, "single", MigStrategy.SINGLE),
        (GUIDE_TEXT, "", MigStrategy.NONE),
        ("flags: {migStrategy: mixed}", "", MigStrategy.MIXED),
        ("version: v1", "", MigStrategy.NONE),
        ("version: v1", "double", None),
    ],
)
def test_the_operators_mig_strategy_outranks_the_text(
    text: str, from_operator: str, strategy: MigStrategy | None
) -> None:
    config = parse(text).config
    assert config is not None
    assert config.strategy_with(from_operator) is strategy


def test_a_text_that_holds_itself_is_read_without_an_end_in_sight() -> None:
    assert parse("&a [*a]").config is None
    assert parse("sharing: &a {timeSlicing: *a, mps: *a}").config is None
    assert parse("[" * 5000).config is None


TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats() | st.sampled_from(["v1", "nvidia.com/gpu", "mixed"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["version", "flags", "sharing", "timeSlicing", "mps", "resources", "name", "replicas"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(TREES)
def test_any_tree_is_either_read_or_refused_with_a_reason(tree: object) -> None:
    import yaml

    parsed = parse(yaml.safe_dump(tree))
    assert (parsed.config is None) == any(problem.fatal for problem in parsed.problems)


@given(TREES, TREES, TREES)
def test_any_chain_of_objects_ends_in_a_selection(cluster_policy: object, data: object, default: object) -> None:
    config_map = {"metadata": data, "data": data}
    assert select(cluster_policy, config_map, {}).outcome in Chain
    named = {"spec": {"devicePlugin": {"config": {"name": "c", "default": default}}}}
    assert select(named, config_map, {}, "gpu-operator").outcome in Chain


@given(st.text(max_size=40))
def test_no_text_raises(text: str) -> None:
    parse(text)
