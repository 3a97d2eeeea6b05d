"""Advice on the GPU stack: its driver, its configurations, what it leaves open."""

from collections.abc import Iterator

from conformance.advice.rules import Remark, Rules, Setup, discovers_hardware
from conformance.gpu import mig_config, plugin_config
from conformance.gpu.labels import DEVICE_PLUGIN_CONFIG
from conformance.gpu.sharing import SharingStrategy
from conformance.reference.expected import config_of, driver_of, mig_strategy_of

RULES = Rules()


@RULES.rule("driver-not-declared", "OPER-15")
def driver_left_out(setup: Setup) -> Iterator[Remark]:
    """A stack of which no pool has a declared driver, so that OPER-15 judges nothing, though something tells it."""
    reference = setup.reference
    if not any(discovers_hardware(reference.stack, pool) for pool in reference.gpu_pools):
        return
    if not any(driver_of(reference, pool) for pool in reference.gpu_pools):
        yield Remark(
            ("stack",), "declares no driver version, so that nodes that were left behind in an upgrade are not told"
        )


@RULES.rule("stack-not-declared", "docs/reference.md: stack")
def stack_left_out(setup: Setup) -> Iterator[Remark]:
    """GPU pools without a stack: much of what can break is then not judged."""
    if setup.reference.stack is None and setup.reference.gpu_pools:
        yield Remark((), "declares no stack: nothing about operator, sharing, MIG and DRA is judged")


@RULES.rule("configuration-is-refused", "NVIDIA/k8s-device-plugin: api/config/v1")
def configuration_is_refused(setup: Setup) -> Iterator[Remark]:
    """Device plugin configurations that the plugin does not read, or of which a part has no effect."""
    import yaml

    configs = setup.reference.stack.plugin_configs if setup.reference.stack is not None else None
    for key, value in configs.configs.items() if configs is not None else ():
        for problem in plugin_config.parse(yaml.safe_dump(value, sort_keys=False)).problems:
            effect = "the device plugin refuses it" if problem.fatal else "has no effect"
            yield Remark(("stack", "plugin_configs", "configs", key), f"{effect}: {problem}")


@RULES.rule("layout-is-refused", "NVIDIA/mig-parted: api/spec/v1")
def layout_is_refused(setup: Setup) -> Iterator[Remark]:
    """MIG layouts that nvidia-mig-parted does not read."""
    import yaml

    layouts = setup.reference.stack.mig_layouts if setup.reference.stack is not None else None
    for name, entries in layouts.layouts.items() if layouts is not None else ():
        text = yaml.safe_dump(
            {"version": "v1", "mig-configs": {name: [dict(each) for each in entries]}}, sort_keys=False
        )
        for problem in mig_config.parse(text).problems:
            yield Remark(("stack", "mig_layouts", "layouts", name), str(problem))


@RULES.rule("mps-with-mixed", "NVIDIA/k8s-device-plugin: internal/rm, MPS and migStrategy mixed")
def mps_with_mixed(setup: Setup) -> Iterator[Remark]:
    """Pools whose device plugin would not start: MPS under the MIG strategy mixed."""
    reference = setup.reference
    for at, pool in enumerate(reference.pools):
        config = config_of(reference, pool)
        by_mps = config is not None and config.sharing.strategy is SharingStrategy.MPS
        if pool.gpu is not None and by_mps and mig_strategy_of(reference, pool) == "mixed":
            text = f"a device plugin that shares by MPS does not start with the MIG strategy mixed, which {pool} gets"
            yield Remark(
                ("pools", at), f"{text}; leave stack.mig_strategy empty and set flags.migStrategy where MIG is"
            )


@RULES.rule("no-default-configuration", "TS-01: devicePlugin.config.default of a ClusterPolicy")
def no_default_configuration(setup: Setup) -> Iterator[Remark]:
    """Configurations that no node gets: no default, and no pool asks for one by its label."""
    configs = setup.reference.stack.plugin_configs if setup.reference.stack is not None else None
    if configs is None or configs.default:
        return
    if not any(DEVICE_PLUGIN_CONFIG in pool.labels for pool in setup.reference.gpu_pools):
        text = f"no default, and no pool has the label {DEVICE_PLUGIN_CONFIG}: no node gets any of them"
        yield Remark(("stack", "plugin_configs"), text)
