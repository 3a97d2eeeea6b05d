"""Which configuration the device plugin of a node reads: references resolved on the cluster, once for each label.

A cloud or a node image may run the device plugin, and configure it where no object of the cluster tells: what it reads
is then unsupported, not unknown.
"""

import posixpath
from functools import cached_property
from itertools import chain
from typing import NamedTuple

from conformance.facts import Facts, Node, Pod, PodSpec, Resource, Workload
from conformance.facts.programs import device_plugins_in, device_plugins_of, runs_program
from conformance.gpu import plugin_alone, plugin_config
from conformance.gpu.labels import DEVICE_PLUGIN_CONFIG
from conformance.gpu.operator_stack import StackKind
from conformance.gpu.plugin_alone import ConfigChoice
from conformance.gpu.plugin_config_selection import Chain, Selection, mapping_at, select, word
from conformance.gpu.sharing import MigStrategy
from conformance.gpu.stack_programs import MPS_CONTROL_DAEMON
from conformance.reference.model import Reference
from conformance.reference.stack import Stack
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Unsupported, Waits
from suites._shared.operator_resource import without_stack
from suites._shared.resource_slices import is_dra_driver_outside

_MPS_DAEMONS = ("mps-control-daemon-ctr", "nvidia-device-plugin-mps-control-daemon")
"""The container of the control daemon, in the operator's asset and in the plugin's own chart, and in its manifest."""
_BY_POLICY = (StackKind.CLUSTER_POLICY, StackKind.INVALID)


class ChosenConfig(NamedTuple):
    """The configuration of a node and where it comes from.

    ``source`` is the object that begins the chain, ``mig_strategy_override`` the MIG strategy that it sets for every
    node, which outranks the one of the configuration; empty when it sets none.
    """

    selection: Selection
    source: str = ""
    config_map: Resource | None = None
    mig_strategy_override: str = ""
    inspect: str = ""

    @property
    def refused(self) -> bool:
        """Whether the references end at a configuration that the device plugin rejects."""
        return self.selection.outcome is Chain.BROKEN and bool(self.selection.problems)

    @property
    def reached(self) -> bool:
        """Whether the references end at a configuration, valid or not."""
        return self.selection.outcome is Chain.APPLIED or self.refused

    @property
    def config_name(self) -> str:
        """The ConfigMap and key that the device plugin reads; empty when the references do not reach one."""
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
        if self.mig_strategy_override or self.selection.config is not None:
            config = self.selection.config or plugin_config.PluginConfig()
            return config.strategy_with(self.mig_strategy_override)
        return None


def outside_kubernetes(stack: Stack, facts: Facts) -> str:
    """What the node image runs of a declared device plugin or DRA driver, as text; empty where it does not.

    It has no object in the cluster, and nodes offer GPUs or publish devices.
    """
    if facts.stack.stack is not StackKind.NONE:
        return ""
    if stack.kind == "dra-driver":
        return "DRA driver" if is_dra_driver_outside(stack, facts) else ""
    return "device plugin" if stack.kind == "device-plugin" and _offers_gpus(facts) else ""


def _offers_gpus(facts: Facts) -> bool:
    return any(node.gpus(name) for node in facts.nodes for name in node.gpu_resources)


class PluginConfigs:
    """The configurations of all nodes.

    Raises Unsupported where no object of the cluster can be expected to hold them, by the set-up and by what is there,
    and Inconclusive where one ought to and does not.
    """

    def __init__(self, facts: Facts, reference: Reference) -> None:
        self._facts, self._reference = facts, reference
        self._known: dict[tuple[str, str], ChosenConfig] = {}

    def known(self, node: Node) -> ChosenConfig:
        """The same where it is known. Raises Unsupported for a plugin that takes its settings from elsewhere."""
        chosen = self.of(node)
        unknown = chosen.selection.outcome is Chain.UNKNOWN and chosen.config_map is None
        if unknown and not self._promised():
            raise Unsupported(f"{chosen.selection.cause}, and {self._reference} declares none")
        return chosen

    def of(self, node: Node) -> ChosenConfig:
        """The configuration that the device plugin of a node reads; with outcome UNKNOWN where nobody can tell."""
        policy = self._policy()
        plugin = None if policy is not None else self._plugin_for(node)
        key = (str(plugin), node.labels.get(DEVICE_PLUGIN_CONFIG, ""))
        if key not in self._known:
            self._known[key] = self._by_policy(policy, node) if plugin is None else self._by_template(plugin, node)
        return self._known[key]

    def _policy(self) -> Resource | None:
        """The ClusterPolicy that deploys the device plugin; None where something else does."""
        stack = self._facts.stack
        if stack.stack not in _BY_POLICY:
            return None
        policy = self._facts.followed_policy
        own = (mapping_at(policy.body if policy else None, "spec") or {}).get("devicePlugin")
        disabled = isinstance(own, dict) and own.get("enabled") is False
        return None if disabled and stack.device_plugins else policy

    def _by_policy(self, policy: Resource | None, node: Node) -> ChosenConfig:
        if policy is None:
            return self._without_plugin()
        namespace = self._namespace()
        named = mapping_at(mapping_at(policy.spec, "devicePlugin"), "config") or {}
        config_map = self._facts.config_map_or_namesake(namespace, word(named.get("name")))
        return ChosenConfig(
            select(policy.body, config_map.body if config_map else None, node.labels, namespace),
            str(policy),
            config_map,
            word((mapping_at(policy.spec, "mig") or {}).get("strategy")),
            f"kubectl get clusterpolicy {policy.name} -o jsonpath='{{.spec.devicePlugin.config}}'; "
            f"kubectl get configmap -n {namespace}; kubectl get node {node.name} -L {DEVICE_PLUGIN_CONFIG}",
        )

    def _namespace(self) -> str:
        namespaces = self._facts.stack_namespaces
        if not namespaces:
            raise Inconclusive(
                "the namespace of the operator's ConfigMaps is unknown: it has neither a Deployment nor a DaemonSet"
            )
        return namespaces[0]

    def _plugin_for(self, node: Node) -> Workload | None:
        """The DaemonSet whose device plugin runs on a node, or would; None when the cluster has no device plugin."""
        plugins = self._plugins
        present = {pod.owner_name for pod in plugin_pods(self._facts, node)}
        # One after the other: where one runs, which is nearly everywhere, no selector is looked at.
        running = (plugin for plugin in plugins if plugin.name in present)
        selecting = (plugin for plugin in plugins if plugin.template.selects(node))
        return next(chain(running, selecting, plugins), None)

    @cached_property
    def _plugins(self) -> tuple[Workload, ...]:
        return tuple(self._workload(name) for name in self._facts.stack.device_plugins)

    def _workload(self, address: str) -> Workload:
        namespace, _, name = address.partition("/")
        found = self._facts.workload("DaemonSet", namespace, name)
        if found is None:
            raise Inconclusive(f"daemonset {address} does not exist any more")
        return found

    def _by_template(self, plugin: Workload, node: Node) -> ChosenConfig:
        inspect = f"kubectl get daemonset -n {plugin.namespace} {plugin.name} -o yaml"
        strategy = next(
            (each.env["MIG_STRATEGY"] for each in device_plugins_of(plugin) if "MIG_STRATEGY" in each.env), ""
        )
        source = config_source_of(plugin)
        if source is None:
            reason = f"{plugin} mounts no configuration; its command-line arguments are not evaluated"
            return ChosenConfig(Selection(Chain.UNKNOWN, cause=reason), str(plugin), None, strategy, inspect)
        config_map = self._facts.config_map_or_namesake(plugin.namespace, source.config_map)
        body = config_map.body if config_map else None
        selection = plugin_alone.select(source, body, node.labels, plugin.namespace)
        return ChosenConfig(selection, str(plugin), config_map, strategy, inspect)

    def _without_plugin(self) -> ChosenConfig:
        stack = self._facts.stack
        if stack.stack is StackKind.GPU_CLUSTER:
            cause = f"the stack is {stack.stack}, which deploys no device plugin"
            return ChosenConfig(Selection(Chain.NOT_CONFIGURED, cause=cause))
        if stack.stack is StackKind.UNKNOWN:
            raise self._facts.unread_stack()
        if self._promised():
            raise without_stack(self._facts, "no object of the cluster is a device plugin or configures one")
        if not _offers_gpus(self._facts):
            raise Waits("no object of the cluster is a device plugin, and no node offers GPUs", on="POOL-04")
        raise Unsupported("the device plugin runs outside Kubernetes: no object of the cluster configures it")

    def _promised(self) -> bool:
        """Whether the set-up declares that an object of the cluster configures the device plugin."""
        stack = self._reference.stack
        return stack is not None and (stack.kind == "gpu-operator" or stack.plugin_configs is not None)


def runs_mps_daemon(pod: PodSpec) -> bool:
    """Whether a pod, or the pods of a template, are MPS control daemons of NVIDIA's device plugin."""
    return any(each.name in _MPS_DAEMONS for each in pod.containers) or runs_program(pod, MPS_CONTROL_DAEMON)


def mps_daemons(facts: Facts) -> list[Workload]:
    """The DaemonSets of the MPS control daemon."""
    return [each for each in facts.workloads if each.kind == "DaemonSet" and runs_mps_daemon(each.template)]


def plugin_pods(facts: Facts, node: Node) -> tuple[Pod, ...]:
    """The unfinished pods of device plugins on a node."""
    known = facts.stack.device_plugins
    return tuple(
        pod
        for pod in facts.pods_on(node.name)
        if not pod.finished
        and ((pod.owner_kind == "DaemonSet" and f"{pod.namespace}/{pod.owner_name}" in known) or device_plugins_in(pod))
    )


def config_source_of(plugin: Workload) -> ConfigChoice | None:
    """The ConfigMap and key that the pod template of a device plugin names; None when it mounts none."""
    template = plugin.template
    for container in template.every_container:
        folder = container.env.get("CONFIG_FILE_SRCDIR")
        source = _config_map_at(template, folder) if folder else ""
        if source:
            fallbacks = tuple(each for each in container.env.get("FALLBACK_STRATEGIES", "").split(",") if each)
            return ConfigChoice(str(plugin), source, container.env.get("DEFAULT_CONFIG", ""), fallbacks)
    for container in device_plugins_of(plugin):
        file = container.env.get("CONFIG_FILE", "")
        source = _config_map_at(template, file) or _config_map_at(template, posixpath.dirname(file)) if file else ""
        if source:
            return ConfigChoice(str(plugin), source, fixed=posixpath.basename(file))
    return None


def _config_map_at(template: PodSpec, place: str) -> str:
    """The ConfigMap that is mounted at a path; empty when none is."""
    mounted = {
        mount.volume
        for container in template.every_container
        for mount in container.mounts
        if posixpath.normpath(mount.path) == posixpath.normpath(place)
    }
    sources = (each.source for each in template.volumes if each.name in mounted and each.kind == "configMap")
    return next(iter(sources), "")
