"""MIG layouts: the declared ones, and those that the MIG manager applies to nodes."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from conformance.facts import Facts, Node, Pod, Resource
from conformance.gpu import mig_config
from conformance.gpu.labels import GPU_PRODUCT, MIG_CAPABLE, MIG_CONFIG, MIG_CONFIG_STATE, VGPU_HOST_DRIVER
from conformance.gpu.mig import DoesNotFit, Fits, Layout, Unknown, model_of, solve
from conformance.gpu.mig_config import (
    CONFIG_KEY,
    FALLBACK_CONFIG_MAP,
    MigSelection,
    Wanted,
)
from conformance.gpu.mig_layouts import standard_layout
from conformance.gpu.mig_profiles import Model
from conformance.gpu.operator_stack import StackKind
from conformance.gpu.plugin_config_selection import Chain, mapping_at, word
from conformance.reference.expected import layout_of, offer_of
from conformance.reference.model import Gpu, Pool, Reference
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, NotApplicable, UnknownAccelerator, Unsupported, Waits
from suites._shared.formatting import join_limited
from suites._shared.pool_nodes import GpuPoolNode

SUCCESS = "success"
WORKING = ("pending", "rebooting")
FAILED = "failed"

_BY_POLICY = (StackKind.CLUSTER_POLICY, StackKind.INVALID)
_DECIDING = (MIG_CONFIG, MIG_CAPABLE, GPU_PRODUCT, VGPU_HOST_DRIVER)


def mig_pools(reference: Reference) -> tuple[Pool, ...]:
    """The pools with a MIG layout whose devices a device plugin allocates.

    Raises NotApplicable when there are none.
    """
    pools = tuple(
        pool
        for pool in reference.gpu_pools
        if pool.mig_layout and pool.gpu is not None and pool.gpu.allocated_by == "device-plugin"
    )
    if not pools:
        raise NotApplicable(f"no pool of {reference} has a MIG layout (label {MIG_CONFIG})")
    return pools


class GpuLayout(NamedTuple):
    """GPUs of one node with the same MIG devices by a layout, and whether these fit on the GPU model."""

    indices: tuple[int, ...]
    layout: Layout
    answer: Fits | DoesNotFit | Unknown

    @property
    def gpus(self) -> str:
        """The GPUs by index, as text."""
        return f"GPU {self.indices[0]}" if len(self.indices) == 1 else f"GPUs {', '.join(map(str, self.indices))}"


def gpu_layouts_of(reference: Reference, pool: Pool) -> list[GpuLayout]:
    """The layouts of a pool's GPUs, those without MIG devices left out.

    Raises UnknownAccelerator and Inconclusive where the layout is not known, see ``unknown_layout``.
    """
    wanted = layout_of(reference, pool)
    if pool.gpu is None or wanted is None or wanted.unknown:
        raise unknown_layout(reference, pool, wanted)
    return _gpu_layouts(pool.gpu, wanted)


def _gpu_layouts(gpu: Gpu, wanted: Wanted) -> list[GpuLayout]:
    model = model_of(gpu.product, gpu.memory_mib or None)
    groups: dict[Layout, list[int]] = {}
    for index, profiles in sorted(wanted.profiles.items()):
        if profiles:
            groups.setdefault(_layout(profiles), []).append(index)
    return [GpuLayout(tuple(indices), layout, _solved(model, layout)) for layout, indices in groups.items()]


def _layout(profiles: Mapping[str, int]) -> Layout:
    """A layout; where a profile has an invalid name, the layout as written."""
    try:
        return Layout.of(profiles)
    except ValueError:
        return Layout(tuple(profiles.items()))


def _solved(model: Model | Unknown, layout: Layout) -> Fits | DoesNotFit | Unknown:
    try:
        return solve(model, layout)
    except ValueError as error:
        return DoesNotFit(str(error))


def is_possible(reference: Reference, pool: Pool) -> bool:
    """Whether the layout of a pool is not known to be impossible."""
    try:
        return not any(isinstance(gpu_layout.answer, DoesNotFit) for gpu_layout in gpu_layouts_of(reference, pool))
    except (Inconclusive, UnknownAccelerator):
        return True


def unknown_layout(reference: Reference, pool: Pool, wanted: Wanted | None = None) -> Inconclusive | UnknownAccelerator:
    """The reason why the layout of a pool is unknown, to be raised."""
    name = pool.mig_layout
    if wanted is not None and wanted.unknown:
        return Inconclusive(
            f"{pool}: layout {name} has a device-filter, and the set-up does not declare the PCI device IDs of its GPUs"
        )
    if name in declared_layouts(reference):
        return Waits(f"{pool}: layout {name} is declared and invalid", on="MIG-02")
    model = model_of(pool.gpu.product, pool.gpu.memory_mib or None) if pool.gpu else Unknown("the pool has no GPUs")
    if isinstance(model, Unknown):
        return UnknownAccelerator(f"{pool}: {model.why}, so the MIG devices of layout {name} are unknown")
    return Inconclusive(
        f"{pool} has layout {name}, which the set-up does not declare and the MIG manager does not provide "
        f"for {model}: declare it under stack.mig_layouts"
    )


def declared_layouts(reference: Reference) -> tuple[str, ...]:
    """The names of the layouts that the set-up declares."""
    stack = reference.stack
    return tuple(stack.mig_layouts.layouts) if stack is not None and stack.mig_layouts is not None else ()


def declared_mig_config(reference: Reference) -> str:
    """The declared layouts as mig-parted configuration (YAML); empty without any."""
    import yaml

    stack = reference.stack
    if stack is None or stack.mig_layouts is None:
        return ""
    layouts = {name: [dict(entry) for entry in entries] for name, entries in stack.mig_layouts.layouts.items()}
    return yaml.safe_dump({"version": "v1", "mig-configs": layouts}, sort_keys=False)


class ChosenLayout(NamedTuple):
    """The layout of a node on the cluster and its ConfigMap, if that is known.

    ``generated`` says that the MIG manager generated the ConfigMap itself, from the hardware.
    """

    selection: MigSelection
    config_map: Resource | None
    generated: bool
    inspect: str

    @property
    def refused(self) -> bool:
        """Whether the references end at a configuration that the MIG manager rejects."""
        return self.selection.outcome is Chain.BROKEN and any(each.fatal for each in self.selection.problems)

    @property
    def config_name(self) -> str:
        """The ConfigMap and key of the layout; empty when there is none."""
        return str(self.subject) if self.config_map else ""

    @property
    def subject(self) -> ObjectReference:
        """The text as a subject: a key of the ConfigMap."""
        if self.config_map is None:
            raise Inconclusive("no ConfigMap holds the layout of this node")
        return self.config_map.subject.only(f"key {CONFIG_KEY}")


class MigNodes:
    """The nodes of pools with a MIG layout, with the declared and the configured layouts."""

    def __init__(self, reference: Reference, facts: Facts, nodes: tuple[GpuPoolNode, ...]) -> None:
        self.reference = reference
        self.facts = facts
        self.nodes = nodes
        self._chosen: dict[tuple[str, ...], MigSelection] = {}
        self._possible = {pool.name for pool, _ in self.pools if is_possible(reference, pool)}

    @property
    def pools(self) -> tuple[tuple[Pool, Gpu], ...]:
        """The pools that have nodes, each once, with their GPUs."""
        return tuple({pool.name: (pool, gpu) for pool, _, gpu in self.nodes}.values())

    @property
    def one_each(self) -> tuple[GpuPoolNode, ...]:
        """One node of each pool for each layout that the labels of its nodes choose."""
        chosen: dict[tuple[str, str], GpuPoolNode] = {}
        for each in self.nodes:
            chosen.setdefault((each.pool.name, each.node.labels.get(MIG_CONFIG, "")), each)
        return tuple(chosen.values())

    @property
    def configured(self) -> tuple[GpuPoolNode, ...]:
        """The nodes whose layout is possible and on which the MIG manager has succeeded.

        The others are reported by MIG-01 and MIG-04; what they offer says nothing more.
        """
        return tuple(each for each in self.nodes if not self.why_not_configured(each.pool, each.node))

    def why_not_configured(self, pool: Pool, node: Node) -> Waits | None:
        """Why the layout of a node is not applied and its resources not judged; None where it is applied."""
        if pool.name not in self._possible:
            return Waits("its layout is not possible", on="MIG-01")
        # Where the host divides its GPUs nobody writes that label.
        managed = self.reference.stack is not None and self.reference.stack.mig_manager
        done = node.labels.get(MIG_CONFIG_STATE, "" if managed else SUCCESS) == SUCCESS
        return None if done else Waits("the MIG manager has not reported success", on="MIG-04")

    @property
    def managed(self) -> tuple[GpuPoolNode, ...]:
        """The nodes on which a MIG manager is expected. Raises as ``choice`` does where it is expected on none."""
        self._policy()
        return self.nodes

    def choice(self, node: Node) -> ChosenLayout:
        """The layout of a node by the references on the cluster, and the cause where they do not reach one.

        Raises NotApplicable and Unsupported where no MIG manager is expected, Inconclusive where it is unknown.
        """
        policy, namespace = self._policy()
        settings = mapping_at(mapping_at(policy.spec, "migManager"), "config") or {}
        name = word(settings.get("name"))
        config_map = self.facts.config_map_or_namesake(namespace, name) if name else self._generated(namespace, node)
        text = str((mapping_at(config_map.body, "data") or {}).get(CONFIG_KEY)) if config_map and not name else ""
        labels = [node.labels.get(label, "-") for label in _DECIDING]
        key = (name, text or ("" if config_map is None else config_map.name), *labels)
        if key not in self._chosen:
            body = None if config_map is None else config_map.body
            self._chosen[key] = mig_config.select(policy.body, body, node.labels, node.name, namespace)
        inspect = (
            f"kubectl get clusterpolicy {policy.name} -o jsonpath='{{.spec.migManager}}'; "
            f"kubectl get configmap -n {namespace}; kubectl get node {node.name} -L {MIG_CONFIG},{MIG_CAPABLE}"
        )
        return ChosenLayout(self._chosen[key], config_map, not name, inspect)

    def changed_gpu_layouts(self, pool: Pool, node: Node, gpu: Gpu) -> tuple[str, list[GpuLayout]]:
        """The configuration of a node that differs from the declared layout of its pool, and its layouts of the GPUs.

        Empty where it does not differ, and where it is unknown.
        """
        try:
            choice = self.choice(node)
        except (Inconclusive, NotApplicable, Unsupported):
            return "", []
        if choice.selection.entries is None or choice.generated:
            return "", []
        found, declared = mig_config.wanted(choice.selection.entries, gpu.count), layout_of(self.reference, pool)
        if found.unknown or declared is None or found.profiles == declared.profiles:
            return "", []
        return f"layout {choice.selection.layout} in {choice.config_name}", _gpu_layouts(gpu, found)

    def is_provided(self, pool: Pool, layout: str) -> bool:
        """Whether the MIG manager provides a layout of that name for the GPUs of a pool."""
        model = model_of(pool.gpu.product, pool.gpu.memory_mib or None) if pool.gpu else Unknown("it has no GPUs")
        return standard_layout(layout, model) is not None

    def holders(self, node: Node) -> tuple[Pod, ...]:
        """The unfinished pods on a node that hold GPUs or MIG devices, without those of DaemonSets and of the stack."""
        return tuple(
            pod
            for pod in self.facts.pods_on(node.name)
            if not pod.finished
            and pod.owner_kind != "DaemonSet"
            and pod.namespace not in self.facts.stack_namespaces
            and pod.gpu_requests()
        )

    def _policy(self) -> tuple[Resource, str]:
        """The ClusterPolicy that deploys the MIG manager, and the namespace of its ConfigMaps."""
        stack = self.reference.stack
        if stack is not None and not stack.mig_manager:
            raise NotApplicable(f"{stack} is declared without a MIG manager: its owners configure MIG themselves")
        found = self.facts.stack
        if found.stack is StackKind.UNKNOWN:
            raise self.facts.unread_stack()
        policy = self.facts.followed_policy if found.stack in _BY_POLICY else None
        if policy is None:
            raise Unsupported(f"the MIG manager is deployed by a ClusterPolicy, and the stack is {found.stack}")
        namespaces = self.facts.stack_namespaces
        if not namespaces:
            raise Inconclusive(
                "the namespace of the operator's ConfigMaps is unknown: it has neither a Deployment nor a DaemonSet"
            )
        return policy, namespaces[0]

    def _generated(self, namespace: str, node: Node) -> Resource | None:
        """The ConfigMap generated for a node, else the fallback one, else the declared one without a reference."""
        own = self.facts.config_map(namespace, f"{node.name}-mig-config")
        found = own or self.facts.config_map(namespace, FALLBACK_CONFIG_MAP)
        stack = self.reference.stack
        if found is None and stack is not None and node.labels.get(MIG_CONFIG) in declared_layouts(self.reference):
            return self.facts.config_map(namespace, stack.mig_layouts.config_map) if stack.mig_layouts else None
        return found


def why_it_failed(nodes: MigNodes, pool: Pool, node: Node) -> str:
    """Why a layout was not applied: it is impossible, or pods hold the GPUs; else the log."""
    try:
        wrong = [
            gpu_layout
            for gpu_layout in gpu_layouts_of(nodes.reference, pool)
            if isinstance(gpu_layout.answer, DoesNotFit)
        ]
    except (Inconclusive, UnknownAccelerator):
        wrong = []
    if wrong:
        return "; ".join(f"{gpu_layout.layout} on {gpu_layout.gpus}: {_why(gpu_layout.answer)}" for gpu_layout in wrong)
    holders = nodes.holders(node)
    if holders:
        return (
            f"{join_limited([str(pod) for pod in holders])} hold its GPUs, and MIG mode changes only while no pod does"
        )
    return "no pod holds its GPUs and the layout is possible: the log of the MIG manager's pod shows what was in use"


def _why(answer: Fits | DoesNotFit | Unknown) -> str:
    return answer.why if isinstance(answer, DoesNotFit | Unknown) else ""


def offered_names(reference: Reference, pools: Iterable[Pool]) -> tuple[set[str], bool]:
    """The resources that pools offer by their declaration, and whether these are known for all pools."""
    offers = [offer_of(reference, pool).resources for pool in pools]
    return {name for offer in offers for name in offer or {}}, None not in offers


def asks(wanted: Wanted, index: int) -> str:
    """What a layout requests of one GPU, as text."""
    if index not in wanted.profiles:
        return "unchanged"
    if index in wanted.mig_off:
        return "MIG off"
    return " + ".join(f"{name} x{count}" for name, count in sorted(wanted.profiles[index].items())) or "no MIG device"
