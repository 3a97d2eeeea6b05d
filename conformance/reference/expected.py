"""What the nodes of a pool must offer, computed from the declaration alone and never from a node."""

from functools import lru_cache
from typing import Any

from conformance.gpu import plugin_config
from conformance.gpu.labels import DEVICE_PLUGIN_CONFIG
from conformance.gpu.mig import model_of
from conformance.gpu.mig_config import Entry, Wanted, parse, wanted
from conformance.gpu.mig_layouts import standard_layout
from conformance.gpu.plugin_config import PluginConfig
from conformance.gpu.resources import GPU
from conformance.gpu.sharing import NOT_SHARED, MigStrategy, NodeGpus, Offer, Sharing, SharingStrategy, advertised
from conformance.reference.model import Gpu, Pool, Reference

__all__ = [
    "config_key_of",
    "config_of",
    "driver_of",
    "gpu_resources",
    "gpus_of",
    "layout_of",
    "mig_strategy_of",
    "offer_of",
]


# Asked for each of thousands of pods; the answer is the set-up's.
@lru_cache(maxsize=4)
def gpu_resources(reference: Reference) -> frozenset[str]:
    """The names of resources by which the set-up's pools offer their devices."""
    return reference.offered_resources


# Asked for each node of thousands, and computed by way of YAML; set-ups have pools by the dozen.
_once_for_each_pool = lru_cache(maxsize=256)


def config_key_of(reference: Reference, pool: Pool) -> str:
    """The declared plugin configuration that the nodes of a pool get, by its key; empty when they get none.

    The pool's label decides, then the default. A key that is not declared is returned as it is.
    """
    configs = reference.stack.plugin_configs if reference.stack is not None else None
    return "" if configs is None else pool.labels.get(DEVICE_PLUGIN_CONFIG) or configs.default


@_once_for_each_pool
def config_of(reference: Reference, pool: Pool) -> PluginConfig | None:
    """That configuration, None when the nodes get none, or one that is not declared or that the plugin refuses."""
    stack, key = reference.stack, config_key_of(reference, pool)
    if stack is None or stack.plugin_configs is None or key not in stack.plugin_configs.configs:
        return None
    return plugin_config.parse(_as_text(stack.plugin_configs.configs[key])).config


@_once_for_each_pool
def mig_strategy_of(reference: Reference, pool: Pool) -> MigStrategy:
    """The MIG strategy of a pool's nodes: the stack's, or where that leaves it open the one of their configuration."""
    if reference.stack is None:
        return MigStrategy.NONE
    if reference.stack.mig_strategy:
        return MigStrategy(reference.stack.mig_strategy)
    config = config_of(reference, pool)
    return MigStrategy.NONE if config is None else config.mig_strategy or MigStrategy.NONE


def driver_of(reference: Reference, pool: Pool) -> str:
    """The driver version that the nodes of a pool must have; empty when none is declared."""
    if pool.gpu is None:
        return ""
    return pool.gpu.driver or (reference.stack.driver if reference.stack is not None else "")


@_once_for_each_pool
def layout_of(reference: Reference, pool: Pool) -> Wanted | None:
    """The MIG devices that every GPU of a node must have, by index.

    None when the pool asks for no layout, and when the layout it names is neither declared nor one that comes with
    the MIG manager, or is malformed.
    """
    if pool.gpu is None or not pool.mig_layout:
        return None
    declared = reference.stack.mig_layouts.layouts if reference.stack and reference.stack.mig_layouts else {}
    if pool.mig_layout in declared:
        entries = _declared_entries(declared[pool.mig_layout], pool.mig_layout)
    else:
        entries = standard_layout(pool.mig_layout, model_of(pool.gpu.product, pool.gpu.memory_mib or None))
    return None if entries is None else wanted(entries, pool.gpu.count)


@_once_for_each_pool
def gpus_of(reference: Reference, pool: Pool) -> NodeGpus | None:
    """The GPUs of one node of a pool with the MIG layout that it must have; None for a pool without GPUs.

    A layout that is asked for and not known, and one whose device filters cannot be decided here, leaves the layouts
    of all its GPUs open.
    """
    gpu = pool.gpu
    if gpu is None:
        return None
    layout = layout_of(reference, pool)
    if layout is None or layout.unknown:
        unknown = bool(pool.mig_layout)
        return NodeGpus(gpu.product, 0 if unknown else gpu.count, (None,) * gpu.count if unknown else ())
    split = tuple(layout.profiles[index] for index in sorted(layout.profiles) if index not in layout.mig_off)
    return NodeGpus(gpu.product, gpu.count - len(split), split)


@_once_for_each_pool
def offer_of(reference: Reference, pool: Pool) -> Offer:
    """The extended resources that every node of a pool must advertise as allocatable, by name.

    Empty for GPUs that DRA allocates. ``resources`` is None when a MIG layout is asked for that is not known. MIG
    devices that have names of their own are time-sliced as the configuration of their nodes says, profile by profile.
    """
    gpu = pool.gpu
    if gpu is None or gpu.allocated_by == "dra":
        return Offer({})
    gpus = gpus_of(reference, pool)
    if gpus is not None and gpus.mig:
        strategy, sharing = mig_strategy_of(reference, pool), _time_slicing_of(reference, pool)
        if strategy is MigStrategy.MIXED and sharing.resources:
            return advertised(gpus, sharing, strategy)
        return _under_its_name(gpu, advertised(gpus, strategy=strategy))
    return Offer({gpu.resource: gpu.count * gpu.replicas})


def _time_slicing_of(reference: Reference, pool: Pool) -> Sharing:
    """How the configuration of a pool that is declared to be time-sliced shares GPUs; nothing for other pools."""
    config = config_of(reference, pool)
    meant = pool.gpu is not None and pool.gpu.shared_by == SharingStrategy.TIME_SLICING.value
    sliced = meant and config is not None and config.sharing.strategy is SharingStrategy.TIME_SLICING
    return config.sharing if config is not None and sliced else NOT_SHARED


def _under_its_name(gpu: Gpu, offer: Offer) -> Offer:
    """An offer of MIG devices with whole GPUs under the name that the pool declares, times their replicas."""
    if offer.resources is None:
        return offer
    named = {gpu.resource if name == GPU else name: count for name, count in offer.resources.items()}
    return Offer(
        {name: count * (gpu.replicas if name == gpu.resource else 1) for name, count in named.items()}, offer.problems
    )


def _declared_entries(raw: tuple[dict[str, Any], ...], name: str) -> tuple[Entry, ...] | None:
    parsed = parse(_as_text({"version": "v1", "mig-configs": {name: [dict(each) for each in raw]}}))
    return parsed.config.layouts.get(name) if parsed.config is not None else None


def _as_text(value: dict[str, Any]) -> str:
    """A declared value as the YAML text that a ConfigMap holds it in."""
    import yaml

    return yaml.safe_dump(value, sort_keys=False)
