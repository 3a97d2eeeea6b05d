"""Nodes whose GPUs are shared by time-slicing or MPS: what is judged of both in the same way."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import NamedTuple

from conformance.facts import Facts, Node, Pod
from conformance.facts.programs import device_plugins_in
from conformance.gpu import plugin_config
from conformance.gpu.labels import DEVICE_PLUGIN_CONFIG, NVIDIA
from conformance.gpu.plugin_config import PluginConfig, Problem
from conformance.gpu.plugin_config_selection import Chain
from conformance.gpu.resources import GPU
from conformance.gpu.sharing import NOT_SHARED, MigStrategy, Sharing, SharingStrategy, advertised
from conformance.reference.expected import config_key_of, config_of, gpus_of, mig_strategy_of
from conformance.reference.model import Gpu, Pool, Reference
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Judge, NotApplicable, Unsupported, Waits
from suites._shared.device_plugin_configs import ChosenConfig, PluginConfigs, plugin_pods
from suites._shared.formatting import join_limited
from suites._shared.node_gpus import agrees, counted, format_amounts
from suites._shared.pool_nodes import GpuPoolNode

# A key that the table of keys does not have may come with a later version of the plugin; a key in the wrong place, or
# with a typo, will not.
_MAYBE_LATER = "no such key exists here"
_REACHED_BY = {SharingStrategy.TIME_SLICING: "TS-02", SharingStrategy.MPS: "MPS-02"}
"""The requirement that every node gets its declared configuration."""
_VALID_BY = {SharingStrategy.TIME_SLICING: "TS-01", SharingStrategy.MPS: "MPS-01"}
"""The requirement that these configurations are valid."""
_TIME = "%Y-%m-%d %H:%M:%S UTC"


def shared_pools(reference: Reference, strategy: SharingStrategy) -> tuple[Pool, ...]:
    """The pools whose GPUs are declared to be shared by this strategy. Raises NotApplicable when there are none."""
    pools = tuple(
        pool
        for pool in reference.gpu_pools
        if pool.gpu is not None and pool.gpu.shared_by == strategy.value and pool.gpu.resource.startswith(NVIDIA)
    )
    if not pools:
        raise NotApplicable(f"{reference} declares no pool whose GPUs are shared by {strategy.value}")
    return pools


class SharingDeclaration(NamedTuple):
    """How the GPUs of a pool are declared to be shared; ``names`` are those of its devices before they are shared."""

    strategy: SharingStrategy
    gpu: Gpu
    names: tuple[str, ...]

    def __str__(self) -> str:
        name = f", offered as {self.gpu.resource}" if GPU in self.names else ""
        devices = " and ".join(map(_device, self.names)) or "MIG device"
        return f"{self.gpu.replicas} replicas of each {devices} by {self.strategy.value}{name}"


def _device(name: str) -> str:
    return "GPU" if name == GPU else name


class DeclaredConfig(NamedTuple):
    """A declared configuration: its key in the ConfigMap, and the value of that key."""

    key: str
    content: str


class ConfiguredNode(NamedTuple):
    """A node of a shared pool and the configuration that its device plugin reads."""

    pool: Pool
    node: Node
    gpu: Gpu
    chosen: ChosenConfig


class SharedNodes:
    """The nodes that share their GPUs by one strategy, as declared and as configured on the cluster."""

    def __init__(
        self, strategy: SharingStrategy, reference: Reference, facts: Facts, nodes: tuple[GpuPoolNode, ...]
    ) -> None:
        self.strategy = strategy
        self.reference = reference
        self.facts = facts
        self.nodes = nodes
        self.configs = PluginConfigs(facts, reference)
        self._declared: dict[str, DeclaredConfig | None] = {}

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
        """The resources of a pool's nodes before they are shared; empty where they are not known."""
        gpus = gpus_of(self.reference, pool)
        if gpus is None or not self.is_divided(pool):
            return (GPU,)
        return tuple(advertised(gpus, strategy=MigStrategy.MIXED).resources or ())

    def sharing_declaration(self, pool: Pool, gpu: Gpu) -> SharingDeclaration:
        """How the GPUs of a pool are declared to be shared."""
        return SharingDeclaration(self.strategy, gpu, self.names(pool))

    def declared_sharing(self, pool: Pool) -> Sharing:
        """The sharing of the set-up's configuration for a pool; none where it declares no configuration."""
        config = config_of(self.reference, pool)
        return config.sharing if config is not None else NOT_SHARED

    def replica_names(self, pool: Pool, gpu: Gpu) -> tuple[str, ...]:
        """The resource names of a pool's replicas; empty where they are not declared."""
        if not self.is_divided(pool):
            return (gpu.resource,)
        sharing = self.declared_sharing(pool)
        return tuple(sharing.name_of(name) for name in self.names(pool) if sharing.replicas_of(name) > 1)

    def declared_config(self, pool: Pool) -> DeclaredConfig | None:
        """The declared configuration of a pool: by label, by default, or because it is the only one."""
        if pool.name not in self._declared:
            self._declared[pool.name] = _declared_config(self.reference, pool)
        return self._declared[pool.name]

    def is_declared_config(self, pool: Pool, chosen: ChosenConfig) -> bool:
        """Whether the configuration of a node is the declared one, or one that shares by the same strategy.

        One that the set-up declares under another key is that of other nodes, unless it shares in the same way.
        """
        declared = self.declared_config(pool)
        key, config = chosen.selection.key, chosen.selection.config
        if declared is not None and key == declared.key:
            return True
        if config is None or config.sharing.strategy is not self.strategy:
            return False
        stack = self.reference.stack
        for_others = stack is not None and stack.plugin_configs is not None and key in stack.plugin_configs.configs
        return not (declared and for_others) or config.sharing == self.declared_sharing(pool)

    def sharings(self, pool: Pool) -> list[tuple[ObjectReference, Sharing]]:
        """The sharing of a pool's GPUs by the declared configuration and by those of its nodes, with their sources."""
        declared = self.declared_config(pool)
        parsed = plugin_config.parse(declared.content).config if declared else None
        found = {_declared_subject(declared): parsed.sharing} if declared and parsed else {}
        for name, other, _, chosen in _configurations_on_the_cluster(self):
            if other.name == pool.name and chosen.selection.config is not None:
                found[name] = chosen.selection.config.sharing
        return [(source, sharing) for source, sharing in found.items() if sharing.strategy is self.strategy]

    def configured(self, judge: Judge | None = None) -> list[ConfiguredNode]:
        """The nodes whose configuration objects of the cluster tell; the others are passed over by ``judge``.

        Raises Unsupported where it is told of no node, because something outside Kubernetes configures them all.
        """
        found: list[ConfiguredNode] = []
        elsewhere: dict[str, list[Node]] = {}
        for pool, node, gpu in self.nodes:
            try:
                found.append(ConfiguredNode(pool, node, gpu, self.configs.known(node)))
            except Unsupported as refusal:
                elsewhere.setdefault(str(refusal), []).append(node)
        if not found:
            raise Unsupported(join_limited(list(elsewhere), apart="; "))
        if judge is not None:
            for why, nodes in elsewhere.items():
                for node in nodes:
                    judge.pass_over(node, why)
        return found

    def in_effect(self, pool: Pool, node: Node) -> PluginConfig:
        """The configuration of a node, from the cluster. Raises Waits when it is not the declared one."""
        chosen = self.configs.known(node)
        config = chosen.selection.config
        if config is None or not self.is_declared_config(pool, chosen):
            raise Waits(f"{node} of {pool} does not get its declared configuration", on=_REACHED_BY[self.strategy])
        return config


def _declared_config(reference: Reference, pool: Pool) -> DeclaredConfig | None:
    import yaml

    stack = reference.stack
    configs = stack.plugin_configs.configs if stack is not None and stack.plugin_configs is not None else {}
    key = config_key_of(reference, pool) or (next(iter(configs)) if len(configs) == 1 else "")
    return DeclaredConfig(key, yaml.safe_dump(configs[key], sort_keys=False)) if key in configs else None


# --- The configuration -------------------------------------------------------------------------------------------


def judge_configurations(shared: SharedNodes, judge: Judge, *, left_out: Collection[str] = ()) -> None:
    """Judge that the configurations, declared and on the cluster, are valid and share as the pools declare.

    Problems at the paths ``left_out`` are judged elsewhere.
    """
    for pool, gpu in shared.pools:
        declared = shared.declared_config(pool)
        if declared is not None:
            subject = _declared_subject(declared).only(f"for {pool}")
            parsed = plugin_config.parse(declared.content)
            problems = _certain(parsed.problems, left_out)
            _judge_configuration(
                judge, subject, problems, parsed.config, shared.sharing_declaration(pool, gpu), "the set-up"
            )
    for name, pool, gpu, chosen in _configurations_on_the_cluster(shared, judge):
        problems = _certain(chosen.selection.problems, left_out)
        config = chosen.selection.config
        _judge_configuration(
            judge,
            name.only(f"for {pool}"),
            problems,
            config,
            shared.sharing_declaration(pool, gpu),
            chosen.inspect,
        )
    judge.without_subjects(Inconclusive("no configuration is declared for these pools, and their nodes get none"))


def _declared_subject(declared: DeclaredConfig) -> ObjectReference:
    """A configuration of the set-up as a subject."""
    text = f"configuration {declared.key} of the set-up"
    return ObjectReference.of("PluginConfig", declared.key, text=text, declared=True)


def _certain(problems: Iterable[Problem], left_out: Collection[str]) -> list[Problem]:
    found = [each for each in problems if each.fatal or _MAYBE_LATER not in each.text]
    return [each for each in found if each.path not in left_out]


def _configurations_on_the_cluster(
    shared: SharedNodes, judge: Judge | None = None
) -> list[tuple[ObjectReference, Pool, Gpu, ChosenConfig]]:
    """Each declared or invalid configuration of the nodes, once for each pool."""
    found: dict[tuple[str, str], tuple[ObjectReference, Pool, Gpu, ChosenConfig]] = {}
    for pool, _, gpu, chosen in shared.configured(judge):
        if chosen.config_name and (chosen.refused or shared.is_declared_config(pool, chosen)):
            found.setdefault((chosen.config_name, pool.name), (chosen.subject, pool, gpu, chosen))
    return list(found.values())


def _judge_configuration(
    judge: Judge,
    subject: ObjectReference,
    problems: list[Problem],
    config: PluginConfig | None,
    declared: SharingDeclaration,
    inspect: str,
) -> None:
    for problem in problems:
        effect = "the plugin does not start with it" if problem.fatal else "the plugin ignores it without an error"
        judge(
            subject,
            ok=False,
            expected=f"{problem.path or 'the configuration'}: {problem.allowed or 'nothing that is ignored'}",
            actual=f"{problem.path or 'the configuration'} {problem.text}",
            cause=f"{problem}: {effect}",
            hidden_because="the API server does not validate the data of a ConfigMap",
            inspect=inspect,
        )
    if config is None:
        return
    differing = _differences(config, declared)
    if differing or not problems:
        judge(
            subject,
            ok=not differing,
            expected=str(declared),
            actual="; ".join(differing) or "the same",
            cause="; ".join(map(str, (*problems, *differing))),
            hidden_because="the configuration is valid; only its sharing is not the one declared for the pool",
            inspect=inspect,
        )


def _differences(config: PluginConfig, declared: SharingDeclaration) -> list[str]:
    """How a configuration differs from the declared sharing of a pool, as text."""
    sharing, gpu = config.sharing, declared.gpu
    shared = [name for name in declared.names if any(each.resource == name for each in sharing.resources)]
    if declared.names and not shared:
        return [f"it shares no {' and no '.join(declared.names)}"]
    found = []
    if sharing.strategy is not declared.strategy:
        found.append(f"it shares by {sharing.strategy.value}")
    # The set-up declares one number of replicas; each profile may have another one.
    if shared and gpu.replicas not in map(sharing.replicas_of, shared):
        found += [f"it makes {sharing.replicas_of(name)} replicas of each {_device(name)}" for name in shared]
    if GPU in shared and sharing.name_of(GPU) != gpu.resource:
        found.append(f"it offers them as {sharing.name_of(GPU)}")
    return found


# --- From the ConfigMap to the node ------------------------------------------------------------------------------


def judge_chain(shared: SharedNodes, judge: Judge) -> None:
    """Judge that each node gets its declared configuration; name the cause where it does not."""
    unknown = []
    for pool, node, _, chosen in shared.configured(judge):
        selection = chosen.selection
        if selection.outcome is Chain.UNKNOWN:
            unknown.append(f"{node}: {selection.cause}")
            continue
        declared = shared.declared_config(pool)
        declaration = f"configuration {declared.key}" if declared else f"a configuration with {shared.strategy}"
        judge(
            node,
            ok=chosen.reached and (chosen.refused or shared.is_declared_config(pool, chosen)),
            expected=f"{declaration}, as {pool} declares",
            actual=what_it_gets(chosen),
            cause=selection.cause or _another(chosen),
            hidden_because=selection.hidden_because or CHAIN_HIDDEN_BECAUSE[selection.outcome],
            remedy=as_sentence(selection.remedy)
            or f"Label the node {DEVICE_PLUGIN_CONFIG}={declared.key if declared else '<key>'}.",
            inspect=chosen.inspect,
        )
    if unknown:
        raise Inconclusive(join_limited(unknown, apart="; "))


CHAIN_HIDDEN_BECAUSE = {
    Chain.APPLIED: "the node gets a configuration, only not this one; no pod status and no condition shows it",
    Chain.NOT_CONFIGURED: "a ConfigMap without reference is valid, and the GPUs are still offered without replicas",
    Chain.NOT_APPLIED: "the device plugin runs and the GPUs are still offered without replicas",
    Chain.BROKEN: "the node stays Ready; it offers no GPU any more when the plugin's pod is next restarted",
    Chain.UNKNOWN: "",
}
"""Why nobody sees where the references of a configuration end, by how they do."""


def broken_for_shared_nodes(nodes: Iterable[GpuPoolNode], configs: PluginConfigs) -> dict[str, Waits]:
    """By cause, who tells of a configuration that cannot be read, where it is meant for a shared node as well."""
    told: dict[str, Waits] = {}
    for _, node, gpu in nodes:
        if gpu.shared_by is None:
            continue
        selection = configs.known(node).selection
        if selection.outcome is Chain.BROKEN:
            told_by = _VALID_BY if selection.problems else _REACHED_BY
            told.setdefault(selection.cause, Waits(selection.cause, on=told_by[SharingStrategy(gpu.shared_by)]))
    return told


def what_it_gets(chosen: ChosenConfig) -> str:
    """The configuration of a node as text, or that it has none."""
    selection = chosen.selection
    if chosen.reached:
        return f"configuration {selection.key}, chosen by {selection.chosen_by}"
    return f"none: {selection.outcome.value}"


def _another(chosen: ChosenConfig) -> str:
    selection = chosen.selection
    return f"{selection.chosen_by} chooses the key {selection.key}, which does not share in this way"


def as_sentence(text: str) -> str:
    """A text with a capital at its beginning and a full stop at its end; empty stays empty."""
    return f"{text[:1].upper()}{text[1:]}." if text else ""


# --- Whether the device plugin has loaded it ---------------------------------------------------------------------


# What MPS makes of a GPU is made by its control daemon; running programs are clients of that.
_RESTART = {
    SharingStrategy.TIME_SLICING: "Restart the device plugin: kubectl rollout restart of its DaemonSet.",
    SharingStrategy.MPS: "Once no pod has replicas of the node, delete its pods of the device plugin and of the MPS "
    "control daemon: the clients of a daemon that ends fail.",
}


def judge_freshness(shared: SharedNodes, judge: Judge) -> None:
    """Judge that each device plugin has loaded the current configuration.

    A plugin that is older than the last change of its ConfigMap may still be right: another key was changed, or the
    node's label made it reload. It is wrong when the node offers something else than the configuration makes.
    """
    for pool, node, _, chosen in shared.configured(judge):
        if chosen.config_map is None:
            continue  # Without a ConfigMap there is nothing to compare with.
        started = max(
            (since for pod in plugin_pods(shared.facts, node) if (since := _running_since(pod))), default=None
        )
        changed = chosen.config_map.changed
        if not chosen.reached or started is None or changed is None:
            judge.pass_over(node, _why_not_compared(shared, chosen, started))
            continue
        judge(
            node,
            ok=started >= changed or _offers_as_configured(shared.reference, pool, node, chosen),
            expected=f"a device plugin that has loaded {chosen.config_name} as changed at {changed:{_TIME}}",
            actual=f"one that runs since {started:{_TIME}}; the node offers {format_amounts(counted(node, {}))}",
            cause=f"the plugin's pod is older than the last change of {chosen.config_map}, and it "
            "does not watch the ConfigMap",
            hidden_because="kubectl shows the new configuration, and the node still offers what the old one made",
            remedy=_RESTART[shared.strategy],
            inspect=f"kubectl get pods -A --field-selector spec.nodeName={node.name}; {chosen.inspect}",
        )
    judge.without_subjects(Waits("no node gets its configuration from a ConfigMap", on=_REACHED_BY[shared.strategy]))


def _why_not_compared(shared: SharedNodes, chosen: ChosenConfig, started: datetime | None) -> str | Waits:
    """Why it is unknown whether the device plugin of a node has loaded its current configuration."""
    if not chosen.reached:
        return Waits("it gets no configuration", on=_REACHED_BY[shared.strategy])
    return (
        Waits("it has no pod of the device plugin", on="OPER-13")
        if started is None
        else f"{chosen.config_map} has no time of change in its managedFields"
    )


def _running_since(pod: Pod) -> datetime | None:
    """Since when the device plugin of a pod runs."""
    plugins = {each.name for each in device_plugins_in(pod)}
    running = [each.running_since for each in pod.statuses if each.name in plugins and each.running_since]
    return running[0] if running else pod.started


def _offers_as_configured(reference: Reference, pool: Pool, node: Node, chosen: ChosenConfig) -> bool:
    """Whether a node offers what its configuration makes of the GPUs present; true also when it offers nothing."""
    gpus, config = gpus_of(reference, pool), chosen.selection.config
    if gpus is None or not counted(node, {}):
        return True
    configured = advertised(gpus, config.sharing, chosen.strategy).resources if config is not None else {}
    return configured is None or agrees(node, pool, configured)
