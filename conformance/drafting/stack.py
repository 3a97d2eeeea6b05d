"""The GPU stack as the objects of the cluster tell of it: kind, switches, configurations, driver."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from conformance.drafting.gpus import Hardware, most
from conformance.drafting.notes import Guess, LeftOut, Part
from conformance.drafting.pools import DraftedPool
from conformance.facts import Facts, PodSpec, Resource, Workload
from conformance.facts.programs import device_plugins_of, discovers_gpus, exports_metrics
from conformance.gpu.drivers import DriverVersion
from conformance.gpu.labels import GPU_PRODUCT
from conformance.gpu.mig_config import CONFIG_KEY, FALLBACK_CONFIG_MAP
from conformance.gpu.operator_stack import OPERATOR, Fault, StackKind
from conformance.gpu.plugin_config import parse, yaml_value
from conformance.verdict import Inconclusive

_BY_POLICY = (StackKind.CLUSTER_POLICY, StackKind.INVALID)
_ALONE = {"driver_managed": False, "toolkit": False, "mig_manager": False}
# The switches of a ClusterPolicy and the keys of the set-up; each is on where the object says nothing (gpu-operator
# v26.7, api/nvidia/v1/clusterpolicy_types.go).
_SWITCHES = {
    "driver_managed": "driver",
    "toolkit": "toolkit",
    "gpu_feature_discovery": "gfd",
    "dcgm_exporter": "dcgmExporter",
    "mig_manager": "migManager",
}
_VERSION = re.compile(r"v?\d+\.\d+\.\d+[\w.-]*")
_GKE_PLUGIN = "nvidia-gpu-device-plugin"
_PRODUCT = GPU_PRODUCT
_STRATEGIES = ("none", "single", "mixed")


class DraftedStack(NamedTuple):
    """The drafted stack, None where none is to be declared, and what is left out."""

    part: Part | None
    left_out: tuple[LeftOut, ...] = ()


def drafted_stack(facts: Facts) -> DraftedStack:
    """The stack without its driver version, which needs the pools (``with_drivers``)."""
    found = facts.stack
    if found.stack in _BY_POLICY:
        return _by_policy(facts)
    if found.stack is StackKind.GPU_CLUSTER:
        return _by_gpu_cluster(facts)
    if found.stack is StackKind.DEVICE_PLUGIN:
        return _device_plugin(facts)
    if found.stack is StackKind.DRA_DRIVER:
        return _dra_driver(facts)
    if found.stack is StackKind.UNKNOWN:
        why = f"{', '.join(found.unread)} could not be read; `gpu-conformance rbac` prints the rights that it takes"
        return DraftedStack(None, (LeftOut("stack", why),))
    why = (
        "no object tells of an operator, a device plugin or a DRA driver. Where GPUs are offered all the same, the "
        "node image runs the plugin: declare kind: device-plugin to have what it does judged as far as it can be seen"
    )
    return DraftedStack(None, (LeftOut("stack", why), *_faults(facts)))


def with_drivers(stack: DraftedStack, pools: Sequence[DraftedPool], facts: Facts) -> DraftedStack:
    """The stack with the driver version that its object or most nodes have; pools that differ get one of their own."""
    if stack.part is None:
        return stack
    hardware = Hardware(facts)
    of_pools = {pool.name: most(hardware.driver(node) for node in pool.nodes) for pool in pools if pool.has_gpus}
    told = _told_version(facts)
    usual = told or str(most(hardware.driver(node) for pool in pools if pool.has_gpus for node in pool.nodes) or "")
    if not _is_version(usual):
        return stack
    for pool in pools:
        own = str(of_pools.get(pool.name) or "")
        if _is_version(own) and not _same(own, usual) and (not told or _agree(pool, hardware, own)):
            _give_driver(pool, own, usual)
    value = {**stack.part.value, "driver": usual}
    odd = _other_drivers(pools, hardware, usual)
    source = "the object of the operator" if told else "what most GPU nodes have"
    guesses = {**stack.part.guesses, "driver": Guess(source, odd)}
    return stack._replace(part=stack.part._replace(value=_ordered(value), guesses=guesses))


def _agree(pool: DraftedPool, hardware: Hardware, version: str) -> bool:
    """Whether all nodes of a pool have one driver, so that it is meant rather than an upgrade on its way."""
    return len(pool.nodes) > 1 and {hardware.driver(node) for node in pool.nodes} == {version}


def _give_driver(pool: DraftedPool, own: str, usual: str) -> None:
    gpu = pool.part.value["gpu"]
    derived = "; ".join(filter(None, (gpu.guess.derived, f"driver {own} on its nodes, where the stack has {usual}")))
    decide = "whether this pool is meant to have another driver; take driver out if not, and OPER-15 says so"
    pool.part.value["gpu"] = gpu._replace(
        value={**gpu.value, "driver": own}, guess=gpu.guess._replace(derived=derived, decide=decide)
    )


def _other_drivers(pools: Sequence[DraftedPool], hardware: Hardware, usual: str) -> tuple[str, ...]:
    odd = []
    for pool in pools:
        wanted = pool.part.value["gpu"].value.get("driver", usual) if pool.has_gpus else ""
        for node in pool.nodes if pool.has_gpus else ():
            there = hardware.driver(node)
            if there and not _same(there, wanted):
                odd.append(f"{node.name} has {there}")
    return (*odd[:3], *([f"{len(odd) - 3} more nodes"] if len(odd) > 3 else []))


def _told_version(facts: Facts) -> str:
    """The one driver version that the operator is told to install; empty when it is told none, or several."""
    policy = facts.followed_policy
    if policy is None:
        return ""
    driver = _at(policy.spec, "driver")
    if driver.get("enabled") is False:
        return ""
    if driver.get("useNvidiaDriverCRD") is True:
        found = {str(each.spec.get("version") or "") for each in _drivers(facts)}
        return next(iter(found)) if len(found) == 1 and _is_version(next(iter(found))) else ""
    version = str(driver.get("version") or "")
    return version if _is_version(version) and driver.get("usePrecompiled") is not True else ""


def _faults(facts: Facts) -> Iterator[LeftOut]:
    """What is wrong with the stack as a whole. Two that offer GPUs hurt only where both have pods on one node."""
    for fault in facts.stack.findings:
        if fault.fault not in (Fault.TWO_PLUGINS, Fault.TWO_DRA_DRIVERS, Fault.TWO_ALLOCATORS) or _meet(facts):
            yield LeftOut(str(fault.subject), f"{fault.text}; {fault.remedy}", is_fault=True)


def _meet(facts: Facts) -> bool:
    """Whether two of the DaemonSets that offer GPUs have pods on one node."""
    places = (*facts.stack.device_plugins, *facts.stack.dra_drivers)
    on = Counter(
        node
        for place in places
        for node in {
            pod.node
            for pod in facts.pods_in(place.partition("/")[0])
            if pod.owner_kind == "DaemonSet" and pod.owner_name == place.partition("/")[2] and pod.node
        }
    )
    return any(count > 1 for count in on.values())


def _drivers(facts: Facts) -> Sequence[Resource]:
    try:
        return facts.nvidia_drivers
    except Inconclusive:
        return ()


def _by_policy(facts: Facts) -> DraftedStack:
    policy = facts.followed_policy
    if policy is None:
        return DraftedStack(None, (LeftOut("stack", "the ClusterPolicy could not be read"),))
    namespace = next(iter(facts.stack_namespaces), "gpu-operator")
    strategy = str(_at(policy.spec, "mig").get("strategy") or "")
    value: dict[str, Any] = {"kind": "gpu-operator", "namespace": namespace, **_version(facts)}
    value |= {key: False for key, block in _SWITCHES.items() if _at(policy.spec, block).get("enabled") is False}
    value["mig_strategy"] = strategy if strategy in _STRATEGIES else ""
    guesses: dict[str, Guess] = {}
    left_out = list(_faults(facts))
    if not strategy:
        derived = f"mig.strategy of ClusterPolicy {policy.name} is empty: each plugin configuration says it"
        guesses["mig_strategy"] = Guess(derived)
    for add in (_plugin_configs, _mig_layouts):
        key, found, why, missing = add(facts, policy, namespace)
        if found:
            value[key], guesses[key] = found, why
        left_out += missing
    if facts.stack.dra_drivers:
        value["dra"] = _dra(facts)
    if _at(policy.spec, "devicePlugin").get("enabled") is False:
        # Somebody else offers the GPUs: a cloud's own plugin, or the DRA driver.
        value["values"] = {"devicePlugin": {"enabled": False}}
    derived = f"ClusterPolicy {policy.name}: what it leaves out has the operator's default"
    return DraftedStack(Part(_ordered(value), Guess(derived), guesses), tuple(left_out))


def _plugin_configs(
    facts: Facts, policy: Resource, namespace: str
) -> tuple[str, dict[str, Any], Guess, tuple[LeftOut, ...]]:
    """``plugin_configs`` as the ConfigMap holds them that devicePlugin.config names."""
    config = _at(_at(policy.spec, "devicePlugin"), "config")
    name, default = str(config.get("name") or ""), str(config.get("default") or "")
    return "plugin_configs", *_configs(facts, namespace, name, default, f"devicePlugin.config of {policy}")


def _configs(
    facts: Facts, namespace: str, name: str, default: str, by: str
) -> tuple[dict[str, Any], Guess, tuple[LeftOut, ...]]:
    if not name:
        return {}, Guess(), ()
    config_map = _config_map(facts, namespace, name)
    if config_map is None:
        why = f"{by} names it, and there is no such ConfigMap in namespace {namespace}: nothing in it takes effect"
        return {}, Guess(), (LeftOut(f"ConfigMap {name}", why, is_fault=True),)
    texts = {str(key): text for key, text in _at(config_map.body, "data").items()}
    configs, left_out = {}, []
    for key, text in texts.items():
        parsed, (value, _) = parse(text), yaml_value(text)
        if parsed.config is None or not isinstance(value, dict):
            problem = next((str(each) for each in parsed.problems if each.fatal), "it is no mapping")
            left_out.append(LeftOut(f"configuration {key} of {config_map}", f"refused: {problem}", is_fault=True))
        else:
            configs[key] = value
    if not configs:
        return {}, Guess(), tuple(left_out)
    guess = Guess(f"ConfigMap {name}, named by {by}")
    if default and default not in configs:
        guess = guess._replace(contradicted=(f"the default {default} is none of its keys that can be read",))
        default = ""
    found = {"config_map": name, **({"default": default} if default else {}), "configs": configs}
    return found, guess, tuple(left_out)


def _mig_layouts(
    facts: Facts, policy: Resource, namespace: str
) -> tuple[str, dict[str, Any], Guess, tuple[LeftOut, ...]]:
    """``mig_layouts`` of a ConfigMap of the owners; the one that the MIG manager brings needs no declaration."""
    name = str(_at(_at(policy.spec, "migManager"), "config").get("name") or "")
    if not name or name == FALLBACK_CONFIG_MAP:
        return "mig_layouts", {}, Guess(), ()
    config_map = _config_map(facts, namespace, name)
    value, problems = yaml_value(_at(config_map.body, "data").get(CONFIG_KEY)) if config_map else (None, [])
    layouts = value.get("mig-configs") if isinstance(value, dict) else None
    if not isinstance(layouts, dict) or not layouts:
        why = f"{policy} names it, and {problems[0] if problems else f'it has no layouts under {CONFIG_KEY}'}"
        return "mig_layouts", {}, Guess(), (LeftOut(f"ConfigMap {name}", why, is_fault=True),)
    readable = {str(key): entries for key, entries in layouts.items() if _is_layout(entries)}
    if not readable:
        why = f"{policy} names it, and none of its layouts is a list of mappings"
        return "mig_layouts", {}, Guess(), (LeftOut(f"ConfigMap {name}", why, is_fault=True),)
    guess = Guess(f"ConfigMap {name}, key {CONFIG_KEY}, named by migManager.config of {policy}")
    return "mig_layouts", {"config_map": name, "layouts": readable}, guess, ()


def _is_layout(entries: object) -> bool:
    return isinstance(entries, list) and all(isinstance(each, dict) for each in entries)


def _config_map(facts: Facts, namespace: str, name: str) -> Resource | None:
    try:
        return facts.config_map(namespace, name)
    except Inconclusive:
        return None


def _by_gpu_cluster(facts: Facts) -> DraftedStack:
    namespace = next(iter(facts.stack_namespaces), "gpu-operator")
    cluster = facts.gpu_clusters[0]
    value: dict[str, Any] = {"kind": "gpu-operator", "namespace": namespace, **_version(facts), "mig_strategy": ""}
    # Without a block for it there is none; ClusterPolicies have one by default.
    if "dcgmExporter" not in cluster.spec or _at(cluster.spec, "dcgmExporter").get("enabled") is False:
        value["dcgm_exporter"] = False
    value["values"] = {"gpuCluster": {"deployCR": True}}
    return DraftedStack(Part(_ordered(value), Guess(f"GPUCluster {cluster.name}: the operator gives GPUs out by DRA")))


def _device_plugin(facts: Facts) -> DraftedStack:
    place = facts.stack.device_plugins[0]
    plugin = _daemon_set(facts, place)
    if plugin is None or _is_of_gke(plugin):
        why = f"{place} belongs to the platform (GKE): neither it nor the driver is yours to change"
        return DraftedStack(None, (LeftOut("stack", why),))
    plugins = device_plugins_of(plugin)
    strategy = next((each.env["MIG_STRATEGY"] for each in plugins if "MIG_STRATEGY" in each.env), "")
    value: dict[str, Any] = {"kind": "device-plugin", "namespace": plugin.namespace, **_version_of(plugin)}
    value |= {**_ALONE, "gpu_feature_discovery": _has_discovery(facts), "dcgm_exporter": _has_exporter(facts)}
    value["mig_strategy"] = strategy if strategy in _STRATEGIES else "none"
    name, default, fixed = _mounted_config(plugin.template)
    configs, guess, left_out = _configs(facts, plugin.namespace, name, default or fixed, str(plugin))
    guesses = {}
    if configs:
        value["plugin_configs"], guesses["plugin_configs"] = configs, guess
    if facts.stack.dra_drivers:
        value["dra"] = _dra(facts)
    return DraftedStack(Part(_ordered(value), Guess(f"{plugin}, which no operator owns"), guesses), left_out)


def _mounted_config(template: PodSpec) -> tuple[str, str, str]:
    """The ConfigMap from which a device plugin without operator reads, its default, and the one key that it reads."""
    for container in template.every_container:
        folder, file = container.env.get("CONFIG_FILE_SRCDIR", ""), container.env.get("CONFIG_FILE", "")
        place = folder or file.rpartition("/")[0]
        volumes = {mount.volume for mount in container.mounts if place and mount.path.rstrip("/") == place.rstrip("/")}
        source = next((each.source for each in template.volumes if each.name in volumes and each.source), "")
        if source:
            fixed = "" if folder else file.rpartition("/")[2]
            return source, container.env.get("DEFAULT_CONFIG", ""), fixed
    return "", "", ""


def _dra_driver(facts: Facts) -> DraftedStack:
    driver = _daemon_set(facts, facts.stack.dra_drivers[0])
    if driver is None:
        return DraftedStack(None)
    value: dict[str, Any] = {"kind": "dra-driver", "namespace": driver.namespace, **_version_of(driver), **_ALONE}
    value |= {"gpu_feature_discovery": _has_discovery(facts), "dcgm_exporter": _has_exporter(facts)}
    value["mig_strategy"] = ""
    return DraftedStack(Part(_ordered(value), Guess(f"{driver}, and no device plugin beside it")))


def _dra(facts: Facts) -> dict[str, Any]:
    """NVIDIA's DRA driver beside a stack."""
    place = facts.stack.dra_drivers[0]
    driver = _daemon_set(facts, place)
    selector = driver.template.node_selector if driver else {}
    own = {key: value for key, value in selector.items() if key != "kubernetes.io/os"}
    value = {"namespace": place.partition("/")[0], **(_version_of(driver) if driver else {})}
    return {**value, **({"node_selector": own} if own else {})}


def _daemon_set(facts: Facts, place: str) -> Workload | None:
    namespace, _, name = place.partition("/")
    return facts.workload("DaemonSet", namespace, name)


def _is_of_gke(plugin: Workload) -> bool:
    return any(each.name == _GKE_PLUGIN for each in plugin.template.containers)


def _has_exporter(facts: Facts) -> bool:
    daemon_sets = (each for each in facts.workloads if each.kind == "DaemonSet")
    return any(exports_metrics(container) for each in daemon_sets for container in each.template.containers)


def _has_discovery(facts: Facts) -> bool:
    found = any(each.kind == "DaemonSet" and discovers_gpus(each.template) for each in facts.workloads)
    return found or any(_PRODUCT in node.labels for node in facts.nodes)


def _version(facts: Facts) -> dict[str, str]:
    """The version of the operator, as its Deployment tells."""
    places = (place.partition("/") for place in facts.stack.operators)
    found = [facts.workload("Deployment", namespace, name) for namespace, _, name in places]
    operators = [each for each in found if each is not None]
    return _version_of(operators[0], OPERATOR) if operators else {}


def _version_of(workload: Workload, program: str = "") -> dict[str, str]:
    """The version of a chart's program: the label of the chart, or the tag of its image."""
    labelled = workload.labels.get("app.kubernetes.io/version", "")
    images = [each.image for each in workload.template.containers if program in each.image]
    tags = [image.partition("@")[0].rpartition("/")[2].partition(":")[2] for image in images]
    found = next((text for text in (labelled, *tags) if _VERSION.fullmatch(text)), "")
    return {"version": found} if found else {}


def _is_version(text: str) -> bool:
    try:
        DriverVersion.parse(text)
    except ValueError:
        return False
    return True


def _same(one: str, other: str) -> bool:
    try:
        return DriverVersion.parse(one) == DriverVersion.parse(other)
    except ValueError:
        return one == other


_ORDER = (
    "kind", "namespace", "version", "driver", "driver_managed", "toolkit", "gpu_feature_discovery", "dcgm_exporter",
    "mig_manager", "mig_strategy", "metrics", "plugin_configs", "mig_layouts", "dra", "values",
)  # fmt: skip


def _ordered(value: dict[str, Any]) -> dict[str, Any]:
    """The keys in the order of the documentation."""
    return {key: value[key] for key in _ORDER if key in value}


def _at(value: object, key: str) -> Mapping[str, Any]:
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}
