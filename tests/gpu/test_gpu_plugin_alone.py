"""A device plugin without operator: label before default before fallbacks, as its config-manager chooses."""

import pytest

from conformance.gpu.labels import DEVICE_PLUGIN_CONFIG
from conformance.gpu.plugin_alone import ConfigChoice, select
from conformance.gpu.plugin_config_selection import Chain

EMPTY = "version: v1\n"
HOME = "nvidia-device-plugin"


def config_map(**data: str) -> dict[str, object]:
    return {"metadata": {"name": "configs", "namespace": HOME}, "data": data}


def told(**members: object) -> ConfigChoice:
    return ConfigChoice("daemonset p", "configs", **{"fallbacks": ("named", "single"), **members})


@pytest.mark.parametrize(
    ("keys", "label", "default", "key", "chosen_by"),
    [
        (("a", "b"), "a", "b", "a", "label"),
        (("a", "b"), "", "b", "b", "default"),
        (("a", "default"), "", "", "default", "fallback named"),
        (("a",), "", "", "a", "fallback single"),
    ],
)
def test_the_first_that_chooses_wins(keys, label, default, key, chosen_by):
    labels = {DEVICE_PLUGIN_CONFIG: label} if label else {}

    found = select(told(default=default), config_map(**dict.fromkeys(keys, EMPTY)), labels, HOME)

    assert (found.outcome, found.key, found.chosen_by) == (Chain.APPLIED, key, chosen_by)


def test_without_any_choice_the_plugin_does_not_start():
    found = select(told(), config_map(a=EMPTY, b=EMPTY), {}, HOME)

    assert found.outcome is Chain.BROKEN
    assert "no fallback helps" in found.cause


def test_the_fallback_empty_applies_nothing_in_silence():
    found = select(told(fallbacks=("named", "empty")), config_map(a=EMPTY, b=EMPTY), {}, HOME)

    assert found.outcome is Chain.NOT_APPLIED


@pytest.mark.parametrize(("label", "default"), [("gone", ""), ("", "gone")])
def test_a_choice_that_is_not_there_is_not_passed_over(label, default):
    labels = {DEVICE_PLUGIN_CONFIG: label} if label else {}

    found = select(told(default=default), config_map(default=EMPTY), labels, HOME)

    assert found.outcome is Chain.BROKEN
    assert "names the key gone" in found.cause


def test_a_file_that_is_named_outright_heeds_no_label():
    found = select(told(fixed="a"), config_map(a=EMPTY, b=EMPTY), {DEVICE_PLUGIN_CONFIG: "b"}, HOME)

    assert (found.key, found.chosen_by) == ("a", "CONFIG_FILE")


def test_a_config_map_that_is_missing_or_elsewhere_breaks():
    elsewhere = {**config_map(a=EMPTY), "metadata": {"name": "configs", "namespace": "other"}}

    assert "does not exist" in select(told(), None, {}, HOME).cause
    assert "in namespace other" in select(told(), elsewhere, {}, HOME).cause


def test_a_text_that_is_refused_brings_its_problems():
    found = select(told(), config_map(a="version: v2\n"), {}, HOME)

    assert found.outcome is Chain.BROKEN
    assert [problem.path for problem in found.problems] == ["version"]


def test_binary_data_is_not_known():
    found = select(told(), {"metadata": {"name": "configs"}, "binaryData": {"a": "AA=="}}, {}, HOME)

    assert found.outcome is Chain.UNKNOWN
