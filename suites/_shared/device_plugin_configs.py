"""Which configuration the device plugin of a node reads: references followed on the cluster, once for each label."""

import posixpath
from typing import NamedTuple

from conformance.facts import Container, Facts, Node, Pod, PodSpec, Resource, Workload
from conformance.gpu import plugin_alone, plugin_config
from conformance.gpu.operator_stack import PLUGIN_CONTAINERS, Stack
from conformance.gpu.plugin_alone import Told
from conformance.gpu.plugin_config import CONFIG_LABEL, Chain, Selection, mapping_at, word
from conformance.gpu.sharing import MigStrategy
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive

_BY_POLICY = (Stack.CLUSTER_POLICY, Stack.INVALID)


class Chosen(NamedTuple):
    """The configuration of a node and where it comes from.

    ``source`` is the object that begins the chain, ``strategy_told`` the MIG strategy that it sets for every node,
    which outranks the one of the configuration; empty when it sets none.
    """

    selection: Selection
    source: str = ""
    config_map: Resource | None = None
    strategy_told: str = ""
    inspect: str = ""

    @property
    def refused(self) -> bool:
        """Whether the chain ends at a text that the plugin does not read."""
        return self.selection.outcome is Chain.BROKEN and bool(self.selection.problems)

    @property
    def reached(self) -> bool:
        """Whether the chain ends at a text, well written or not."""
        return self.selection.outcome is Chain.APPLIED or self.refused

    @property
    def text(self) -> str:
        """The text that the plugin reads, named; empty when the chain does not reach one."""
        return str(self.subject) if self.config_map and self.reached else ""

    @property
    def subject(self) -> ObjectReference:
        """The text as a subject: a key of the ConfigMap."""
        if self.config_map is None:
            raise Inconclusive("no ConfigMap holds the configuration of this node")
        return self.config_map.subject.only(f"key {self.selection.key}")

    @property
    def strategy(self) -> MigStrategy | None:
        """The MIG strategy in effect; None when it is not known."""
        if self.strategy_told or self.selection.config is not None:
            config = self.selection.config or plugin_config.PluginConfig()
            return config.strategy_with(self.strategy_told)
        return None


class PluginConfigs:
    """The configurations of all nodes. Raises Inconclusive where nothing tells of them."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._known: dict[tuple[str, str], Chosen] = {}

    def of(self, node: Node) -> Chosen:
        """The configuration that the device plugin of a node reads."""
        policy = self._policy()
        plugin = None if policy is not None else self._plugin_for(node)
        key = (str(plugin), node.labels.get(CONFIG_LABEL, ""))
        if key not in self._known:
            self._known[key] = self._by_policy(policy, node) if plugin is None else self._by_template(plugin, node)
        return self._known[key]

    def _policy(self) -> Resource | None:
        """The ClusterPolicy that deploys the device plugin; None where something else does."""
        stack = self._facts.stack
        if stack.stack not in _BY_POLICY:
            return None
        policy = next((each for each in self._facts.cluster_policies if each.name == stack.policy), None)
        own = (mapping_at(policy.body if policy else None, "spec") or {}).get("devicePlugin")
        disabled = isinstance(own, dict) and own.get("enabled") is False
        return None if disabled and stack.device_plugins else policy

    def _by_policy(self, policy: Resource | None, node: Node) -> Chosen:
        if policy is None:
            return self._without_plugin()
        namespace = self._namespace()
        named = mapping_at(mapping_at(policy.spec, "devicePlugin"), "config") or {}
        config_map = self._config_map(namespace, word(named.get("name")))
        return Chosen(
            plugin_config.select(policy.body, config_map.body if config_map else None, node.labels, namespace),
            str(policy),
            config_map,
            word((mapping_at(policy.spec, "mig") or {}).get("strategy")),
            f"kubectl get clusterpolicy {policy.name} -o jsonpath='{{.spec.devicePlugin.config}}'; "
            f"kubectl get configmap -n {namespace}; kubectl get node {node.name} -L {CONFIG_LABEL}",
        )

    def _namespace(self) -> str:
        namespaces = self._facts.stack_namespaces
        if not namespaces:
            raise Inconclusive(
                "no Deployment of the operator and no DaemonSet of it tells in which namespace its ConfigMaps are"
            )
        return namespaces[0]

    def _config_map(self, namespace: str, name: str) -> Resource | None:
        """The ConfigMap of that name where it belongs, else one that somebody put elsewhere."""
        if not name:
            return None
        here = self._facts.config_map(namespace, name)
        return here or next((each for each in self._facts.config_maps if each.name == name), None)

    def _plugin_for(self, node: Node) -> Workload | None:
        """The DaemonSet whose device plugin runs on a node, or would; None when no plugin is there at all."""
        plugins = [self._workload(name) for name in self._facts.stack.device_plugins]
        there = {pod.owner_name for pod in plugin_pods(self._facts, node)}
        running = [plugin for plugin in plugins if plugin.name in there]
        meant = [plugin for plugin in plugins if plugin.template.selects(node)]
        return next(iter((*running, *meant, *plugins)), None)

    def _workload(self, address: str) -> Workload:
        namespace, _, name = address.partition("/")
        found = self._facts.workload("DaemonSet", namespace, name)
        if found is None:
            raise Inconclusive(f"daemonset {address} is gone")
        return found

    def _by_template(self, plugin: Workload, node: Node) -> Chosen:
        inspect = f"kubectl get daemonset -n {plugin.namespace} {plugin.name} -o yaml"
        strategy = next((each.env["MIG_STRATEGY"] for each in _plugins_in(plugin) if "MIG_STRATEGY" in each.env), "")
        told = told_by(plugin)
        if told is None:
            reason = f"{plugin} mounts no configuration; what its arguments say is not judged"
            return Chosen(Selection(Chain.UNKNOWN, cause=reason), str(plugin), None, strategy, inspect)
        config_map = self._config_map(plugin.namespace, told.config_map)
        body = config_map.body if config_map else None
        selection = plugin_alone.select(told, body, node.labels, plugin.namespace)
        return Chosen(selection, str(plugin), config_map, strategy, inspect)

    def _without_plugin(self) -> Chosen:
        stack = self._facts.stack
        if stack.stack is Stack.GPU_CLUSTER:
            link = f"the stack is {stack.stack}, which deploys no device plugin"
            return Chosen(Selection(Chain.NOT_CONFIGURED, cause=link))
        if stack.stack is Stack.UNKNOWN:
            raise Inconclusive(f"the GPU stack is not known: {', '.join(stack.unread)} could not be read")
        raise Inconclusive("no object of the cluster tells of a device plugin: where it is configured cannot be told")


def plugin_pods(facts: Facts, node: Node) -> tuple[Pod, ...]:
    """The unfinished pods of device plugins on a node."""
    return tuple(pod for pod in facts.pods_on(node.name) if not pod.finished and _has_plugin(pod))


def told_by(plugin: Workload) -> Told | None:
    """What the pod template of a device plugin says about its configuration; None when it mounts none."""
    template = plugin.template
    for container in template.every_container:
        folder = container.env.get("CONFIG_FILE_SRCDIR")
        source = _config_map_at(template, folder) if folder else ""
        if source:
            fallbacks = tuple(each for each in container.env.get("FALLBACK_STRATEGIES", "").split(",") if each)
            return Told(str(plugin), source, container.env.get("DEFAULT_CONFIG", ""), fallbacks)
    for container in _plugins_in(plugin):
        file = container.env.get("CONFIG_FILE", "")
        source = _config_map_at(template, file) or _config_map_at(template, posixpath.dirname(file)) if file else ""
        if source:
            return Told(str(plugin), source, fixed=posixpath.basename(file))
    return None


def _plugins_in(plugin: Workload) -> list[Container]:
    return [each for each in plugin.template.containers if each.name in PLUGIN_CONTAINERS]


def _has_plugin(pod: PodSpec) -> bool:
    return any(each.name in PLUGIN_CONTAINERS for each in pod.containers)


def _config_map_at(template: PodSpec, place: str) -> str:
    """The ConfigMap that is mounted at a place; empty when none is."""
    mounted = {
        mount.volume
        for container in template.every_container
        for mount in container.mounts
        if posixpath.normpath(mount.path) == posixpath.normpath(place)
    }
    sources = (each.source for each in template.volumes if each.name in mounted and each.kind == "configMap")
    return next(iter(sources), "")
