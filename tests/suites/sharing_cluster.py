"""A sound cluster whose GPUs are shared and divided as its reference set-up declares, as plain objects to be broken."""

from typing import Any

import yaml
from operated_cluster import LONG_AGO, OPERATOR, Cluster, Object, Outcome, made

from conformance.facts import Facts, Node
from conformance.gpu.sharing import NOT_SHARED, ReplicatedResource, Sharing, SharingStrategy, labels
from conformance.reference import Reference
from conformance.reference.expected import config_of, gpus_of, mig_strategy_of, offer_of
from conformance.reference.model import Pool
from conformance.verdict import Inconclusive, Judge, NotApplicable, UnknownAccelerator, Unsupported
from suites._shared.pool_nodes import GpuPoolNode
from suites._shared.shared_nodes import SharedNodes, shared_pools
from suites.mig.layouts import MigNodes, mig_pools

CONFIGS = "time-slicing-config"
LAYOUTS = "mig-config"


class SharingCluster(Cluster):
    """The objects of a cluster with ConfigMaps, capacities and labels of GPU Feature Discovery."""

    def _build(self) -> None:
        super()._build()
        reference, stack = self.reference, self.reference.stack
        if stack is not None and stack.plugin_configs is not None:
            contents = {key: yaml.safe_dump(value) for key, value in stack.plugin_configs.configs.items()}
            self.objects.append(made("v1", "ConfigMap", stack.plugin_configs.config_map, OPERATOR, data=contents))
        if stack is not None and stack.mig_layouts is not None:
            layouts = {name: [dict(each) for each in found] for name, found in stack.mig_layouts.layouts.items()}
            self.objects.append(config_map(stack.mig_layouts.config_map, mig_config(layouts), "config.yaml"))
        for pool in reference.gpu_pools:
            for index in range(1, max(pool.nodes, 1) + 1):
                self._discover(pool, self.node(f"{pool.name}-{index}"))

    def _discover(self, pool: Pool, node: Object) -> None:
        assert pool.gpu is not None
        offer, gpus = offer_of(self.reference, pool).resources or {}, gpus_of(self.reference, pool)
        counted = {name: str(count) for name, count in offer.items()}
        node["status"] |= {"capacity": dict(counted), "allocatable": dict(counted)}
        sharing = NOT_SHARED
        if pool.gpu.shared_by is not None:
            renamed = pool.gpu.resource.endswith(".shared")
            replicated = (ReplicatedResource("nvidia.com/gpu", pool.gpu.replicas),)
            sharing = Sharing(SharingStrategy(pool.gpu.shared_by), replicated, renamed)
        assert gpus is not None
        config = config_of(self.reference, pool)
        if gpus.mig and config is not None:
            sharing = config.sharing
        node["metadata"]["labels"] |= labels(gpus, sharing, mig_strategy_of(self.reference, pool)) or {}
        if pool.mig_layout:
            node["metadata"]["labels"]["nvidia.com/mig.config.state"] = "success"

    def edit(self, name: str, key: str, content: str | None, changed: str = LONG_AGO) -> None:
        """Set or remove a key of a ConfigMap, at some time."""
        found = self.get("ConfigMap", name)
        found["metadata"]["managedFields"] = [{"manager": "kubectl", "operation": "Update", "time": changed}]
        found["data"].pop(key, None)
        if content is not None:
            found["data"][key] = content

    def offer(self, node: str, **resources: int) -> None:
        """Let a node count and offer these GPU resources and no other; a dot for each underscore of a name."""
        counted = {f"nvidia.com/{name.replace('__', '-').replace('_', '.')}": str(n) for name, n in resources.items()}
        self.node(node)["status"] |= {"capacity": dict(counted), "allocatable": dict(counted)}

    def hold(self, node: str, namespace: str, resource: str, name: str = "holder") -> None:
        """A running pod of a user that holds one device of a node, or a waiting one where no node is named."""
        limits = {"resources": {"limits": {resource: "1"}}}
        spec = {"containers": [{"name": "main", "image": "i", **limits}]} | ({"nodeName": node} if node else {})
        phase = "Running" if node else "Pending"
        self.objects.append(made("v1", "Pod", name, namespace, spec=spec, status={"phase": phase}))

    def verdict(self, requirement: Any, reference: Reference | None = None, **more: Any) -> Outcome:
        """How a requirement ends on the cluster as it is."""
        wanted = requirement.__code__.co_varnames[: requirement.__code__.co_argcount]
        judge = Judge()
        try:
            known = _Fixtures(reference or self.reference, self.facts(**more), judge)
            requirement(**{name: getattr(known, name) for name in wanted})
        except (Inconclusive, NotApplicable, Unsupported, UnknownAccelerator) as ended:
            return Outcome(judge, ended)
        return Outcome(judge, None)


class _Fixtures:
    """The values of the suites' fixtures, each made when it is requested."""

    def __init__(self, reference: Reference, facts: Facts, judge: Judge) -> None:
        self.reference, self.facts, self.judge = reference, facts, judge

    @property
    def gpu_pools(self) -> tuple[Pool, ...]:
        return self.reference.gpu_pools

    def members(self, pool: Pool) -> tuple[Node, ...]:
        return self.facts.nodes_with(pool.selector)

    @property
    def gpu_pool_nodes(self) -> tuple[GpuPoolNode, ...]:
        pools = self.reference.gpu_pools
        found = [(pool, node) for pool in pools for node in self.facts.nodes if pool.holds(node.labels)]
        return tuple(GpuPoolNode(pool, node, pool.gpu) for pool, node in found if pool.gpu is not None)

    @property
    def unshared_nodes(self) -> tuple[GpuPoolNode, ...]:
        return tuple(each for each in self.gpu_pool_nodes if not each.gpu.shared_by and each.gpu.allocated_by != "dra")

    @property
    def sliced(self) -> SharedNodes:
        return self._shared(SharingStrategy.TIME_SLICING)

    @property
    def mps(self) -> SharedNodes:
        return self._shared(SharingStrategy.MPS)

    def _shared(self, strategy: SharingStrategy) -> SharedNodes:
        pools = shared_pools(self.reference, strategy)
        nodes = tuple(each for each in self.gpu_pool_nodes if each.pool in pools)
        return SharedNodes(strategy, self.reference, self.facts, nodes)

    @property
    def mig(self) -> tuple[Pool, ...]:
        return mig_pools(self.reference)

    @property
    def mig_nodes(self) -> MigNodes:
        nodes = tuple(each for each in self.gpu_pool_nodes if each.pool in self.mig)
        return MigNodes(self.reference, self.facts, nodes)


def config_map(name: str, content: str, key: str) -> Object:
    return made("v1", "ConfigMap", name, OPERATOR, data={key: content})


def mig_config(layouts: dict[str, Any]) -> str:
    return yaml.safe_dump({"version": "v1", "mig-configs": layouts})


def sharing_config(strategy: str, replicas: int = 4, **switches: Any) -> str:
    section = {**switches, "resources": [{"name": "nvidia.com/gpu", "replicas": replicas}]}
    return yaml.safe_dump({"version": "v1", "sharing": {strategy: section}})


def plain_plugin(cluster: Cluster, *, default: str = "", fallbacks: str = "named,single") -> Object:
    """Replace the operator by the plugin's own chart, whose DaemonSet mounts the ConfigMap; return that DaemonSet."""
    gone = {"ClusterPolicy", "Deployment", "CustomResourceDefinition"}
    agents = ("nvidia-device-plugin-daemonset",)
    cluster.objects = [
        each for each in cluster.objects if each["kind"] not in gone and not each["metadata"]["name"].startswith(agents)
    ]
    told = {"CONFIG_FILE_SRCDIR": "/available-configs", "DEFAULT_CONFIG": default, "FALLBACK_STRATEGIES": fallbacks}
    env = [{"name": name, "value": value} for name, value in told.items()]
    mounts = [{"name": "available-configs", "mountPath": "/available-configs"}]
    pod = {
        "initContainers": [{"name": "nvidia-device-plugin-init", "image": "p", "env": env, "volumeMounts": mounts}],
        "containers": [{"name": "nvidia-device-plugin-ctr", "image": "p", "volumeMounts": mounts}],
        "volumes": [{"name": "available-configs", "configMap": {"name": CONFIGS}}],
        "nodeSelector": {"nvidia.com/gpu.present": "true"},
    }
    cluster.daemonset_with_pods(OPERATOR, "nvidia-device-plugin", {}, pod, owned=False)
    return cluster.daemonset("nvidia-device-plugin")
