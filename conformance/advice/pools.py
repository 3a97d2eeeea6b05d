"""Advice on pools: selectors, taints, numbers, GPUs and how they are shared."""

from collections.abc import Iterator
from itertools import combinations

from conformance.advice.rules import Remark, Rules, Setup, discovers_hardware
from conformance.gpu.mig import Unknown, model_of
from conformance.gpu.resources import GPU
from conformance.gpu.sharing import SharingStrategy
from conformance.gpu.taints import SCHEDULING_EFFECTS
from conformance.reference.expected import config_key_of, config_of, offer_of
from conformance.reference.model import Pool

RULES = Rules()
_PROGRAMS = ("nvidia.com/", "feature.node.kubernetes.io/", "amd.com/", "gpu.intel.com/")


@RULES.rule("selectors-overlap", "POOL-05: every node belongs to exactly one pool")
def overlapping_selectors(setup: Setup) -> Iterator[Remark]:
    """Two pools that a node could belong to at once."""
    for (_, one), (at, other) in combinations(enumerate(setup.reference.pools), 2):
        agree = all(one.selector.get(key, value) == value for key, value in other.selector.items())
        if agree:
            text = (
                f"a node labelled {one.selector_text},{other.selector_text} belongs to both {one} and {other}; "
                f"select both by the same label, with different values"
            )
            yield Remark(("pools", at, "selector"), text)


@RULES.rule("selector-of-a-program", "docs/reference.md: pools[].selector")
def selector_of_a_program(setup: Setup) -> Iterator[Remark]:
    """Pools that are found by what a program finds out, so that a broken node is not found."""
    for at, pool in enumerate(setup.reference.pools):
        found = [key for key in pool.selector if key.startswith(_PROGRAMS)]
        if found:
            text = f"{found[0]} is written by a program on the node: when that breaks, the node leaves {pool} unseen"
            yield Remark(("pools", at, "selector"), f"{text}; select by the label of the node group")


@RULES.rule("pool-without-taints", "kubernetes.io: Taints and Tolerations; POOL-03 and POOL-09")
def pool_without_taints(setup: Setup) -> Iterator[Remark]:
    """GPU pools that keep nobody away."""
    for at, pool in _gpu_pools(setup):
        if not pool.taints:
            yield Remark(
                ("pools", at),
                f"{pool} declares no taint, so that ordinary pods may fill its nodes and POOL-09 is silent",
            )
        elif not any(taint.effect in SCHEDULING_EFFECTS for taint in pool.taints):
            yield Remark(("pools", at, "taints"), f"{pool} has PreferNoSchedule only, which keeps no pod away")


@RULES.rule("no-pool-for-ordinary-pods", "POOL-08")
def no_home_for_ordinary_pods(setup: Setup) -> Iterator[Remark]:
    """A fleet on which only pods that tolerate GPU taints can run."""
    pools = setup.reference.pools
    if pools and not any(pool.gpu is None or not _repels(pool) for pool in pools):
        text = (
            "every declared pool has GPUs and repels ordinary pods: declare the pool on which CoreDNS and the like run"
        )
        yield Remark(("pools",), text)


@RULES.rule("nodes-not-declared", "POOL-01")
def number_of_nodes_left_out(setup: Setup) -> Iterator[Remark]:
    """Pools of which no number of nodes was written, so that none is missed."""
    for at, pool in enumerate(setup.reference.pools):
        if setup.written("pools", at, "nodes") is None:
            text = f"{pool} declares no number of nodes, so that POOL-01 passes without any; write 0 if that is meant"
            yield Remark(("pools", at), text)


@RULES.rule("product-not-declared", "POOL-06; NVIDIA/k8s-device-plugin: GPU Feature Discovery labels")
def product_left_out(setup: Setup) -> Iterator[Remark]:
    """GPU pools whose product is not declared, so that a wrong card is not noticed, though something tells it."""
    for at, pool in _gpu_pools(setup):
        gpu = pool.gpu
        if gpu is not None and not gpu.product and gpu.resource.startswith("nvidia.com/") and _is_of_use(setup, pool):
            text = f"{pool} declares no product: no other card is noticed, and no MIG layout can be checked"
            yield Remark(("pools", at, "gpu"), f"{text} (value of the label nvidia.com/gpu.product)")


@RULES.rule("shared-under-the-usual-name", "TS-10; NVIDIA/k8s-device-plugin: README, renameByDefault")
def shared_under_the_usual_name(setup: Setup) -> Iterator[Remark]:
    """Replicas that are called like whole GPUs."""
    for at, pool in _gpu_pools(setup):
        gpu = pool.gpu
        by_others = gpu is not None and gpu.shared_by == "other"
        if gpu is not None and gpu.replicas > 1 and gpu.resource == GPU and not pool.mig_layout and not by_others:
            text = (
                f"the {gpu.replicas} replicas of each GPU are offered as {GPU}: whoever asks for one may get a part, "
                f"and a quota cannot tell them apart; {_how_to_tell_apart(setup)}"
            )
            yield Remark(("pools", at, "gpu"), text)


@RULES.rule("sharing-is-configured-otherwise", "TS-02, MPS-02: what a pool declares and its configuration says")
def sharing_and_configuration_differ(setup: Setup) -> Iterator[Remark]:
    """Pools whose declared replicas are not those of the configuration that their nodes get."""
    reference = setup.reference
    configs = reference.stack.plugin_configs if reference.stack is not None else None
    for at, pool in _gpu_pools(setup):
        gpu = pool.gpu
        if configs is None or gpu is None or gpu.allocated_by == "dra" or pool.mig_layout:
            continue
        key, config = config_key_of(reference, pool), config_of(reference, pool)
        if key and key not in configs.configs:
            listed = ", ".join(configs.configs)
            yield Remark(("pools", at, "labels"), f"{pool} asks for configuration {key}; declared are {listed}")
            continue
        sharing = config.sharing if config is not None else None
        replicas = sharing.replicas_of(GPU) if sharing is not None else 1
        strategy = sharing.strategy if sharing is not None else SharingStrategy.NONE
        declared = gpu.shared_by or SharingStrategy.NONE
        if gpu.shared_by == "other":
            if replicas > 1:
                text = f"{pool} is shared by something else than configurations, and {key} shares it by {strategy}, too"
                yield Remark(("pools", at, "gpu"), f"{text}: declare {strategy}, so that it is judged")
            continue
        if (replicas, str(strategy)) != (gpu.replicas, str(declared)) and (replicas > 1 or gpu.replicas > 1):
            where = f"configuration {key}" if key else "no configuration (no label, no default)"
            text = (
                f"{pool} declares {gpu.replicas} replicas by {declared}; "
                f"its nodes get {where}: {replicas} by {strategy}"
            )
            yield Remark(("pools", at, "gpu"), text)
        elif sharing is not None and replicas > 1 and sharing.name_of(GPU) != gpu.resource:
            text = f"{pool} declares {gpu.resource}; configuration {key} offers {sharing.name_of(GPU)}"
            yield Remark(("pools", at, "gpu"), text)


@RULES.rule("mig-layout-is-not-known", "MIG-01, MIG-08; NVIDIA/mig-parted")
def mig_layout_not_known(setup: Setup) -> Iterator[Remark]:
    """MIG pools of which nobody can say what their nodes must offer, or whose layout offers nothing."""
    for at, pool in _gpu_pools(setup):
        if not pool.mig_layout or pool.gpu is None:
            continue
        offer = offer_of(setup.reference, pool)
        model = model_of(pool.gpu.product, pool.gpu.memory_mib or None)
        if offer.resources is None:
            why = (
                model.why if isinstance(model, Unknown) else "declare it under stack.mig_layouts, without device-filter"
            )
            yield Remark(("pools", at, "labels"), f"what the layout {pool.mig_layout} makes is not known: {why}")
        elif offer.problems:
            yield Remark(("pools", at, "labels"), f"layout {pool.mig_layout}: {'; '.join(offer.problems)}")


def _how_to_tell_apart(setup: Setup) -> str:
    """What the owners can do about replicas that are called like GPUs: no plugin of a platform renames them."""
    if setup.reference.stack is None:
        return "confine workloads that need a whole GPU by nodeSelector, since the platform's plugin gives the name"
    return f"set renameByDefault and declare resource: {GPU}.shared"


def _is_of_use(setup: Setup, pool: Pool) -> bool:
    """Whether a declared product is compared with anything, or tells what a MIG layout makes."""
    return bool(pool.mig_layout) or discovers_hardware(setup.reference.stack, pool)


def _gpu_pools(setup: Setup) -> Iterator[tuple[int, Pool]]:
    return ((at, pool) for at, pool in enumerate(setup.reference.pools) if pool.gpu is not None)


def _repels(pool: Pool) -> bool:
    return any(taint.effect in SCHEDULING_EFFECTS for taint in pool.taints)
