import pytest

from conformance import options


@pytest.mark.parametrize("option", options.OPTIONS, ids=lambda option: option.flag)
def test_every_option_is_prefixed_in_dest_and_has_an_ini_twin_and_a_variable(option):
    assert option.dest.startswith("gpu_")
    assert option.ini == option.dest
    assert option.variable.startswith("GPU_CONFORMANCE_")


def resolved(pytester, *arguments):
    return options.resolve(pytester.parseconfig(*arguments))


def test_the_command_line_beats_the_environment_which_beats_the_ini_file(pytester, monkeypatch):
    pytester.makeini("[pytest]\ngpu_mode = audit\ngpu_report = from-ini\ngpu_topology = from-ini\n")
    monkeypatch.setenv("GPU_CONFORMANCE_MODE", "verify")
    monkeypatch.setenv("GPU_CONFORMANCE_REPORT", "from-environment")

    settings = resolved(pytester, "--gpu-mode", "full")

    assert (settings.value("mode"), settings.source("mode")) == ("full", "option")
    assert (settings.value("report"), settings.source("report")) == (
        "from-environment",
        "environment GPU_CONFORMANCE_REPORT",
    )
    assert (settings.value("topology"), settings.source("topology")) == ("from-ini", "ini gpu_topology")


def test_what_nobody_set_is_none_empty_or_off(pytester):
    settings = resolved(pytester)

    assert settings.value("cluster") is None
    assert settings.value("profile") == []
    assert settings.value("deploy") is False
    assert settings.source("deploy") == "default"


def test_an_environment_variable_holds_several_values_between_commas(pytester, monkeypatch):
    monkeypatch.setenv("GPU_CONFORMANCE_PROFILE", "pools, quota")

    assert resolved(pytester).value("profile") == ["pools", "quota"]
