"""GPUs that several pods share, by time-slicing or by MPS: what both chapters ask, in the same words."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import NamedTuple

from conformance.facts import Facts, Node, Pod
from conformance.gpu import plugin_config
from conformance.gpu.operator_stack import PLUGIN_CONTAINERS
from conformance.gpu.plugin_config import CONFIG_LABEL, Chain, PluginConfig, Problem
from conformance.gpu.resources import GPU
from conformance.gpu.sharing import NOT_SHARED, MigStrategy, Sharing, SharingStrategy, advertised
from conformance.reference.expected import config_key_of, config_of, gpus_of, mig_strategy_of
from conformance.reference.model import Gpu, Pool, Reference
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Judge, NotApplicable
from suites._shared.device_plugin_configs import Chosen, PluginConfigs, plugin_pods
from suites._shared.formatting import join_limited
from suites._shared.node_gpus import agrees, counted, format_amounts
from suites._shared.pool_nodes import GpuPoolNode

# A key that the table of keys does not know may come with a later version of the plugin; a key that stands in the
# wrong place, or nearly is one, will not.
_MAYBE_LATER = "no such key exists here"
_VENDOR = "nvidia.com/"
_CHAIN = {SharingStrategy.TIME_SLICING: "TS-02 says why", SharingStrategy.MPS: "MPS-02 says why"}
_TIME = "%Y-%m-%d %H:%M:%S UTC"


def shared_pools(reference: Reference, strategy: SharingStrategy) -> tuple[Pool, ...]:
    """The pools whose GPUs are declared to be shared so. Raises NotApplicable when there are none."""
    pools = tuple(
        pool
        for pool in reference.gpu_pools
        if pool.gpu is not None and pool.gpu.shared_by == strategy.value and pool.gpu.resource.startswith(_VENDOR)
    )
    if not pools:
        raise NotApplicable(f"{reference} declares no pool whose GPUs are shared by {strategy.value}")
    return pools


class Meant(NamedTuple):
    """How the GPUs of a pool are declared to be shared; ``names`` are those of its devices before they are shared."""

    strategy: SharingStrategy
    gpu: Gpu
    names: tuple[str, ...]

    def __str__(self) -> str:
        name = f", offered as {self.gpu.resource}" if GPU in self.names else ""
        devices = " and ".join(map(_device, self.names)) or "MIG device"
        return f"{self.gpu.shares} shares of each {devices} by {self.strategy.value}{name}"


def _device(name: str) -> str:
    return "GPU" if name == GPU else name


class DeclaredText(NamedTuple):
    """A declared configuration: its key, and its text as a ConfigMap holds it."""

    key: str
    text: str


class SharedNodes:
    """The nodes that share their GPUs by one strategy, as declared and as the cluster is told to."""

    def __init__(
        self, strategy: SharingStrategy, reference: Reference, facts: Facts, nodes: tuple[GpuPoolNode, ...]
    ) -> None:
        if not nodes:
            raise Inconclusive(f"no node of the cluster belongs to a pool that is shared by {strategy.value}")
        self.strategy = strategy
        self.reference = reference
        self.facts = facts
        self.nodes = nodes
        self.configs = PluginConfigs(facts)
        self._declared: dict[str, DeclaredText | None] = {}

    @property
    def pools(self) -> tuple[tuple[Pool, Gpu], ...]:
        """The pools that have nodes, each once, with their GPUs."""
        return tuple({pool.name: (pool, gpu) for pool, _, gpu in self.nodes}.values())

    def is_divided(self, pool: Pool) -> bool:
        """Whether the nodes of a pool offer MIG devices under names of their own."""
        gpus = gpus_of(self.reference, pool)
        mixed = mig_strategy_of(self.reference, pool) is MigStrategy.MIXED
        return gpus is not None and bool(gpus.mig) and mixed

    def names(self, pool: Pool) -> tuple[str, ...]:
        """What the nodes of a pool offer before anything is shared; empty where that is not known."""
        gpus = gpus_of(self.reference, pool)
        if gpus is None or not self.is_divided(pool):
            return (GPU,)
        return tuple(advertised(gpus, strategy=MigStrategy.MIXED).resources or ())

    def meant(self, pool: Pool, gpu: Gpu) -> Meant:
        """How the GPUs of a pool are declared to be shared."""
        return Meant(self.strategy, gpu, self.names(pool))

    def declared_sharing(self, pool: Pool) -> Sharing:
        """How the set-up's configuration for a pool shares; nothing where it declares none."""
        config = config_of(self.reference, pool)
        return config.sharing if config is not None else NOT_SHARED

    def share_names(self, pool: Pool, gpu: Gpu) -> tuple[str, ...]:
        """The names under which a pool's shares are offered; empty where that is not declared."""
        if not self.is_divided(pool):
            return (gpu.resource,)
        sharing = self.declared_sharing(pool)
        return tuple(sharing.name_of(name) for name in self.names(pool) if sharing.replicas_of(name) > 1)

    def declared(self, pool: Pool) -> DeclaredText | None:
        """The configuration that the set-up means for a pool: by label, by default, or because it is the only one."""
        if pool.name not in self._declared:
            self._declared[pool.name] = _declared_text(self.reference, pool)
        return self._declared[pool.name]

    def is_meant(self, pool: Pool, chosen: Chosen) -> bool:
        """Whether a configuration that reaches a node is the one that was meant, or one that shares in the same way."""
        declared = self.declared(pool)
        config = chosen.selection.config
        shares_so = config is not None and config.sharing.strategy is self.strategy
        return shares_so or (declared is not None and chosen.selection.key == declared.key)

    def sharings(self, pool: Pool) -> list[tuple[ObjectReference, Sharing]]:
        """How the GPUs of a pool are shared by what the set-up declares and by what reaches its nodes, with sources."""
        declared = self.declared(pool)
        parsed = plugin_config.parse(declared.text).config if declared else None
        found = {_declared_subject(declared): parsed.sharing} if declared and parsed else {}
        for text, other, _, chosen in _texts_on_the_cluster(self):
            if other.name == pool.name and chosen.selection.config is not None:
                found[text] = chosen.selection.config.sharing
        return [(source, sharing) for source, sharing in found.items() if sharing.strategy is self.strategy]

    def in_effect(self, pool: Pool, node: Node) -> PluginConfig:
        """The configuration by which a node shares, from the cluster. Raises Inconclusive when there is none."""
        chosen = self.configs.of(node)
        config = chosen.selection.config
        if config is None or not self.is_meant(pool, chosen):
            raise Inconclusive(
                f"{node} of {pool} does not get the configuration that was meant for it ({_CHAIN[self.strategy]})"
            )
        return config


def _declared_text(reference: Reference, pool: Pool) -> DeclaredText | None:
    import yaml

    stack = reference.stack
    configs = stack.plugin_configs.configs if stack is not None and stack.plugin_configs is not None else {}
    key = config_key_of(reference, pool) or (next(iter(configs)) if len(configs) == 1 else "")
    return DeclaredText(key, yaml.safe_dump(configs[key], sort_keys=False)) if key in configs else None


# --- The text ----------------------------------------------------------------------------------------------------


def judge_texts(shared: SharedNodes, judge: Judge, *, left_out: Collection[str] = ()) -> None:
    """Judge that the configurations, declared and on the cluster, are well written and mean what the pools declare.

    Problems at the paths ``left_out`` are judged elsewhere.
    """
    for pool, gpu in shared.pools:
        declared = shared.declared(pool)
        if declared is not None:
            subject = _declared_subject(declared).only(f"for {pool}")
            parsed = plugin_config.parse(declared.text)
            problems = _certain(parsed.problems, left_out)
            _judge_text(judge, subject, problems, parsed.config, shared.meant(pool, gpu), "the set-up")
    for text, pool, gpu, chosen in _texts_on_the_cluster(shared):
        problems = _certain(chosen.selection.problems, left_out)
        config = chosen.selection.config
        _judge_text(judge, text.only(f"for {pool}"), problems, config, shared.meant(pool, gpu), chosen.inspect)
    judge.without_subjects(Inconclusive("no configuration is declared for these pools, and none reaches their nodes"))


def _declared_subject(declared: DeclaredText) -> ObjectReference:
    """A configuration of the set-up as a subject."""
    text = f"configuration {declared.key} of the set-up"
    return ObjectReference.of("PluginConfig", declared.key, text=text, declared=True)


def _certain(problems: Iterable[Problem], left_out: Collection[str]) -> list[Problem]:
    found = [each for each in problems if each.fatal or _MAYBE_LATER not in each.text]
    return [each for each in found if each.path not in left_out]


def _texts_on_the_cluster(shared: SharedNodes) -> list[tuple[ObjectReference, Pool, Gpu, Chosen]]:
    """Each text that reaches nodes as it was meant to, once for each pool."""
    found: dict[tuple[str, str], tuple[ObjectReference, Pool, Gpu, Chosen]] = {}
    for pool, node, gpu in shared.nodes:
        chosen = shared.configs.of(node)
        if chosen.text and (chosen.refused or shared.is_meant(pool, chosen)):
            found.setdefault((chosen.text, pool.name), (chosen.subject, pool, gpu, chosen))
    return list(found.values())


def _judge_text(
    judge: Judge,
    subject: ObjectReference,
    problems: list[Problem],
    config: PluginConfig | None,
    meant: Meant,
    inspect: str,
) -> None:
    for problem in problems:
        effect = "the plugin does not start with it" if problem.fatal else "the plugin passes it over without a word"
        judge(
            subject,
            ok=False,
            expected=f"{problem.path or 'the text'}: {problem.allowed or 'nothing that is ignored'}",
            actual=f"{problem.path or 'the text'} {problem.text}",
            cause=f"{problem}: {effect}",
            hidden_because="the API server takes any text into a ConfigMap",
            inspect=inspect,
        )
    if config is None:
        return
    differing = _differences(config, meant)
    if differing or not problems:
        judge(
            subject,
            ok=not differing,
            expected=str(meant),
            actual="; ".join(differing) or "that",
            cause="; ".join(map(str, (*problems, *differing))),
            hidden_because="the text is well-formed; it only says something else than the pool was declared to have",
            inspect=inspect,
        )


def _differences(config: PluginConfig, meant: Meant) -> list[str]:
    """In what a configuration differs from what a pool declares, in words."""
    sharing, gpu = config.sharing, meant.gpu
    shared = [name for name in meant.names if any(share.resource == name for share in sharing.shares)]
    if meant.names and not shared:
        return [f"it shares no {' and no '.join(meant.names)}"]
    found = []
    if sharing.strategy is not meant.strategy:
        found.append(f"it shares by {sharing.strategy.value}")
    # One number is declared, and each profile may be shared by another.
    if shared and gpu.shares not in map(sharing.replicas_of, shared):
        found += [f"it makes {sharing.replicas_of(name)} shares of each {_device(name)}" for name in shared]
    if GPU in shared and sharing.name_of(GPU) != gpu.resource:
        found.append(f"it offers them as {sharing.name_of(GPU)}")
    return found


# --- The way to the node -----------------------------------------------------------------------------------------


def judge_chain(shared: SharedNodes, judge: Judge) -> None:
    """Judge that each node is reached by the configuration that was meant for it; name the cause."""
    unknown = []
    for pool, node, _ in shared.nodes:
        chosen = shared.configs.of(node)
        selection = chosen.selection
        if selection.outcome is Chain.UNKNOWN:
            unknown.append(f"{node}: {selection.cause}")
            continue
        declared = shared.declared(pool)
        meant = f"configuration {declared.key}" if declared else f"a configuration that shares by {shared.strategy}"
        judge(
            node,
            ok=chosen.reached and (chosen.refused or shared.is_meant(pool, chosen)),
            expected=f"{meant}, as {pool} declares",
            actual=_what_it_gets(chosen),
            cause=selection.cause or _another(chosen),
            hidden_because=selection.hidden_because or _WHY_CHAINS_HIDE[selection.outcome],
            remedy=_sentence(selection.remedy)
            or f"Label the node {CONFIG_LABEL}={declared.key if declared else '<key>'}.",
            inspect=chosen.inspect,
        )
    if unknown:
        raise Inconclusive(join_limited(unknown, apart="; "))


_WHY_CHAINS_HIDE = {
    Chain.APPLIED: "the node gets a configuration, only not this one; no pod and no condition says so",
    Chain.NOT_CONFIGURED: "a ConfigMap that nobody names is a valid object, and the GPUs go on being offered whole",
    Chain.NOT_APPLIED: "the plugin runs and the GPUs go on being offered whole",
    Chain.BROKEN: "the node stays Ready; its GPUs vanish when the plugin's pod is next restarted",
    Chain.UNKNOWN: "",
}


def _what_it_gets(chosen: Chosen) -> str:
    selection = chosen.selection
    if chosen.reached:
        return f"configuration {selection.key}, chosen by {selection.chosen_by}"
    return f"none: {selection.outcome.value}"


def _another(chosen: Chosen) -> str:
    selection = chosen.selection
    return f"{selection.chosen_by} chooses the key {selection.key}, which shares nothing in this way"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


# --- Whether it was read -----------------------------------------------------------------------------------------


def judge_freshness(shared: SharedNodes, judge: Judge) -> None:
    """Judge that each plugin has read the text as it stands now.

    A plugin that is older than the last change of its ConfigMap may still be right: another key was changed, or the
    node's label made it read again. It is wrong when the node offers something else than the text says.
    """
    for pool, node, _ in shared.nodes:
        chosen = shared.configs.of(node)
        if chosen.config_map is None:
            continue  # Where no text is, none can be older than another.
        began = max((since for pod in plugin_pods(shared.facts, node) if (since := _running_since(pod))), default=None)
        changed = chosen.config_map.changed
        if not chosen.reached or began is None or changed is None:
            judge.pass_over(node, _why_not_compared(shared, chosen, began))
            continue
        judge(
            node,
            ok=began >= changed or _offers_what_it_says(shared.reference, pool, node, chosen),
            expected=f"a device plugin that has read {chosen.text} as it was left at {changed:{_TIME}}",
            actual=f"one that runs since {began:{_TIME}}; the node offers {format_amounts(counted(node, {}))}",
            cause=f"the plugin's pod is older than the last change of {chosen.config_map}, and nobody "
            "watches the content of a ConfigMap",
            hidden_because="kubectl shows the new text, and the node goes on offering what the old one said",
            remedy="Restart the device plugin: kubectl rollout restart of its DaemonSet.",
            inspect=f"kubectl get pods -A --field-selector spec.nodeName={node.name}; {chosen.inspect}",
        )


def _why_not_compared(shared: SharedNodes, chosen: Chosen, began: datetime | None) -> str:
    """Why nobody can say whether the plugin of a node has read its text as it stands."""
    if not chosen.reached:
        return f"no configuration reaches it ({_CHAIN[shared.strategy]})"
    return "it runs no pod of the device plugin" if began is None else f"{chosen.config_map} tells no time of a change"


def _running_since(pod: Pod) -> datetime | None:
    """Since when the plugin in a pod runs."""
    running = [each.running_since for each in pod.statuses if each.name in PLUGIN_CONTAINERS and each.running_since]
    return running[0] if running else pod.started


def _offers_what_it_says(reference: Reference, pool: Pool, node: Node, chosen: Chosen) -> bool:
    """Whether a node offers what the text says, as far as its GPUs are there; true also when it offers nothing."""
    gpus, config = gpus_of(reference, pool), chosen.selection.config
    if gpus is None or not counted(node, {}):
        return True
    said = advertised(gpus, config.sharing, chosen.strategy).resources if config is not None else {}
    return said is None or agrees(node, pool, said)
