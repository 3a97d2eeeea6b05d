"""How GPUs are divided by MIG: the declared layouts, and the way on which the MIG manager gets to them."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from conformance.facts import Facts, Node, Pod, Resource
from conformance.gpu import mig_config
from conformance.gpu.mig import DoesNotFit, Fits, Layout, Unknown, model_of, solve
from conformance.gpu.mig_config import (
    CAPABLE_LABEL,
    CONFIG_KEY,
    CONFIG_LABEL,
    FALLBACK_CONFIG_MAP,
    PRODUCT_LABEL,
    VGPU_HOST_LABEL,
    MigSelection,
    Wanted,
)
from conformance.gpu.mig_layouts import standard_layout
from conformance.gpu.mig_profiles import Model
from conformance.gpu.operator_stack import Stack
from conformance.gpu.plugin_config import Chain, mapping_at, word
from conformance.reference.expected import layout_of, offer_of
from conformance.reference.model import Gpu, Pool, Reference
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, NotApplicable, UnknownAccelerator, Unsupported
from suites._shared.formatting import join_limited
from suites._shared.pool_nodes import GpuPoolNode

STATE = "nvidia.com/mig.config.state"
STRATEGY = "nvidia.com/mig.strategy"
SUCCESS = "success"
WORKING = ("pending", "rebooting")
FAILED = "failed"

_BY_POLICY = (Stack.CLUSTER_POLICY, Stack.INVALID)
_DECIDING = (CONFIG_LABEL, CAPABLE_LABEL, PRODUCT_LABEL, VGPU_HOST_LABEL)


def mig_pools(reference: Reference) -> tuple[Pool, ...]:
    """The pools that ask for a MIG layout and whose devices a device plugin gives to pods.

    Raises NotApplicable when there are none.
    """
    pools = tuple(
        pool
        for pool in reference.gpu_pools
        if pool.mig_layout and pool.gpu is not None and pool.gpu.allocated_by == "device-plugin"
    )
    if not pools:
        raise NotApplicable(f"no pool of {reference} asks for a MIG layout (label {CONFIG_LABEL})")
    return pools


class Part(NamedTuple):
    """GPUs of one node that a layout divides alike, and whether that is possible on their model."""

    indices: tuple[int, ...]
    layout: Layout
    answer: Fits | DoesNotFit | Unknown

    @property
    def gpus(self) -> str:
        """The GPUs by index, in words."""
        return f"GPU {self.indices[0]}" if len(self.indices) == 1 else f"GPUs {', '.join(map(str, self.indices))}"


def parts_of(reference: Reference, pool: Pool) -> list[Part]:
    """What the layout of a pool makes of its GPUs, those with MIG off left out.

    Raises UnknownAccelerator and Inconclusive where the layout is not known, see ``unknown_layout``.
    """
    wanted = layout_of(reference, pool)
    if pool.gpu is None or wanted is None or wanted.unknown:
        raise unknown_layout(reference, pool, wanted)
    return _parts(pool.gpu, wanted)


def _parts(gpu: Gpu, wanted: Wanted) -> list[Part]:
    model = model_of(gpu.product, gpu.memory_mib or None)
    groups: dict[Layout, list[int]] = {}
    for index, profiles in sorted(wanted.profiles.items()):
        if profiles:
            groups.setdefault(_layout(profiles), []).append(index)
    return [Part(tuple(indices), layout, _solved(model, layout)) for layout, indices in groups.items()]


def _layout(profiles: Mapping[str, int]) -> Layout:
    """A layout; where a profile has a name that none can have, the layout as it was written."""
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
    """Whether nothing is known to be impossible in the layout of a pool."""
    try:
        return not any(isinstance(part.answer, DoesNotFit) for part in parts_of(reference, pool))
    except (Inconclusive, UnknownAccelerator):
        return True


def unknown_layout(reference: Reference, pool: Pool, wanted: Wanted | None = None) -> Inconclusive | UnknownAccelerator:
    """Why the layout of a pool is not known, for the requirement to end with."""
    name = pool.mig_layout
    if wanted is not None and wanted.unknown:
        return Inconclusive(
            f"{pool}: layout {name} has a device-filter, and the set-up does not tell the PCI ids of its GPUs"
        )
    if name in declared_layouts(reference):
        return Inconclusive(f"{pool}: layout {name} is declared and cannot be read (MIG-02)")
    model = model_of(pool.gpu.product, pool.gpu.memory_mib or None) if pool.gpu else Unknown("the pool has no GPUs")
    if isinstance(model, Unknown):
        return UnknownAccelerator(f"{pool}: {model.why}, so nobody can say what layout {name} makes of it")
    return Inconclusive(
        f"{pool} asks for layout {name}, which the set-up does not declare and the MIG manager does not bring along "
        f"for {model}: declare it under stack.mig_layouts"
    )


def declared_layouts(reference: Reference) -> tuple[str, ...]:
    """The names of the layouts that the set-up declares."""
    stack = reference.stack
    return tuple(stack.mig_layouts.layouts) if stack is not None and stack.mig_layouts is not None else ()


def declared_text(reference: Reference) -> str:
    """The declared layouts as the text that the MIG manager reads; empty without any."""
    import yaml

    stack = reference.stack
    if stack is None or stack.mig_layouts is None:
        return ""
    layouts = {name: [dict(entry) for entry in entries] for name, entries in stack.mig_layouts.layouts.items()}
    return yaml.safe_dump({"version": "v1", "mig-configs": layouts}, sort_keys=False)


class ChosenLayout(NamedTuple):
    """The layout of a node on the cluster and the ConfigMap that it is looked up in, if that is known.

    ``generated`` says that the MIG manager made the ConfigMap itself, from the hardware.
    """

    selection: MigSelection
    config_map: Resource | None
    generated: bool
    inspect: str

    @property
    def refused(self) -> bool:
        """Whether the chain ends at a text that the MIG manager does not read."""
        return self.selection.outcome is Chain.BROKEN and any(each.fatal for each in self.selection.problems)

    @property
    def text(self) -> str:
        """The text, named; empty when there is none."""
        return str(self.subject) if self.config_map else ""

    @property
    def subject(self) -> ObjectReference:
        """The text as a subject: a key of the ConfigMap."""
        if self.config_map is None:
            raise Inconclusive("no ConfigMap holds the layout of this node")
        return self.config_map.subject.only(f"key {CONFIG_KEY}")


class MigNodes:
    """The nodes of pools with a MIG layout, as declared and as the cluster is told to divide them."""

    def __init__(self, reference: Reference, facts: Facts, nodes: tuple[GpuPoolNode, ...]) -> None:
        if not nodes:
            raise Inconclusive("no node of the cluster belongs to a pool that asks for a MIG layout")
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
            chosen.setdefault((each.pool.name, each.node.labels.get(CONFIG_LABEL, "")), each)
        return tuple(chosen.values())

    @property
    def settled(self) -> tuple[GpuPoolNode, ...]:
        """The nodes whose layout is possible and that the MIG manager is not at work on, nor has given up.

        What the others offer is no news beside what MIG-01 and MIG-04 say of them.
        """
        return tuple(each for each in self.nodes if not self.why_unsettled(each.pool, each.node))

    def why_unsettled(self, pool: Pool, node: Node) -> str:
        """Why what a node offers says nothing of its layout; empty where it does."""
        if pool.name not in self._possible:
            return "its layout is not possible (MIG-01)"
        done = node.labels.get(STATE, SUCCESS) == SUCCESS
        return "" if done else "the MIG manager has not reported success (MIG-04)"

    @property
    def managed(self) -> tuple[GpuPoolNode, ...]:
        """The nodes on which a MIG manager is meant to be. Raises as ``choice`` does where that is none of them."""
        self._policy()
        return self.nodes

    def choice(self, node: Node) -> ChosenLayout:
        """The layout of a node and the cause on the way to it.

        Raises NotApplicable and Unsupported where no MIG manager is meant to be, Inconclusive where it cannot be told.
        """
        policy, namespace = self._policy()
        settings = mapping_at(mapping_at(policy.spec, "migManager"), "config") or {}
        name = word(settings.get("name"))
        config_map = self._named(namespace, name) if name else self._generated(namespace, node)
        text = str((mapping_at(config_map.body, "data") or {}).get(CONFIG_KEY)) if config_map and not name else ""
        labels = [node.labels.get(label, "-") for label in _DECIDING]
        key = (name, text or ("" if config_map is None else config_map.name), *labels)
        if key not in self._chosen:
            body = None if config_map is None else config_map.body
            self._chosen[key] = mig_config.select(policy.body, body, node.labels, node.name, namespace)
        inspect = (
            f"kubectl get clusterpolicy {policy.name} -o jsonpath='{{.spec.migManager}}'; "
            f"kubectl get configmap -n {namespace}; kubectl get node {node.name} -L {CONFIG_LABEL},{CAPABLE_LABEL}"
        )
        return ChosenLayout(self._chosen[key], config_map, not name, inspect)

    def changed_parts(self, pool: Pool, node: Node, gpu: Gpu) -> tuple[str, list[Part]]:
        """The text that divides a node otherwise than its pool declares, and what it makes of the GPUs.

        Empty where the text says what was declared, and where nothing tells of it.
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
        return f"layout {choice.selection.layout} in {choice.text}", _parts(gpu, found)

    def brought_along(self, pool: Pool, layout: str) -> bool:
        """Whether the MIG manager makes a layout of that name for the GPUs of a pool by itself."""
        model = model_of(pool.gpu.product, pool.gpu.memory_mib or None) if pool.gpu else Unknown("it has no GPUs")
        return standard_layout(layout, model) is not None

    def holders(self, node: Node) -> tuple[Pod, ...]:
        """The unfinished pods on a node that hold GPUs or parts of GPUs, those of DaemonSets and of the stack aside."""
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
            raise NotApplicable(f"{stack} is declared without a MIG manager: its owners divide the GPUs themselves")
        found = self.facts.stack
        if found.stack is Stack.UNKNOWN:
            raise Inconclusive(f"the GPU stack is not known: {', '.join(found.unread)} could not be read")
        policies = self.facts.cluster_policies if found.stack in _BY_POLICY else ()
        policy = next((each for each in policies if each.name == found.policy), None)
        if policy is None:
            raise Unsupported(f"the MIG manager comes with a ClusterPolicy, and the stack is {found.stack}")
        namespaces = self.facts.stack_namespaces
        if not namespaces:
            raise Inconclusive("no Deployment and no DaemonSet tells in which namespace the operator's ConfigMaps are")
        return policy, namespaces[0]

    def _named(self, namespace: str, name: str) -> Resource | None:
        here = self.facts.config_map(namespace, name)
        return here or next((each for each in self.facts.config_maps if each.name == name), None)

    def _generated(self, namespace: str, node: Node) -> Resource | None:
        """What the MIG manager made for a node, else what it falls back to, else the declared one that nobody names."""
        own = self.facts.config_map(namespace, f"{node.name}-mig-config")
        found = own or self.facts.config_map(namespace, FALLBACK_CONFIG_MAP)
        stack = self.reference.stack
        if found is None and stack is not None and node.labels.get(CONFIG_LABEL) in declared_layouts(self.reference):
            return self.facts.config_map(namespace, stack.mig_layouts.config_map) if stack.mig_layouts else None
        return found


def why_it_failed(nodes: MigNodes, pool: Pool, node: Node) -> str:
    """What stood in the way of a layout, computed: an impossible one, or pods that hold the GPUs; else the log."""
    try:
        wrong = [part for part in parts_of(nodes.reference, pool) if isinstance(part.answer, DoesNotFit)]
    except (Inconclusive, UnknownAccelerator):
        wrong = []
    if wrong:
        return "; ".join(f"{part.layout} on {part.gpus}: {_why(part.answer)}" for part in wrong)
    holders = nodes.holders(node)
    if holders:
        return (
            f"{join_limited([str(pod) for pod in holders])} hold its GPUs, and MIG mode changes only while nobody does"
        )
    return "no pod holds its GPUs and the layout is possible: the log of the MIG manager's pod says what was in use"


def _why(answer: Fits | DoesNotFit | Unknown) -> str:
    return answer.why if isinstance(answer, DoesNotFit | Unknown) else ""


def offered_names(reference: Reference, pools: Iterable[Pool]) -> tuple[set[str], bool]:
    """The resources that pools offer by their declaration, and whether that is all of them."""
    offers = [offer_of(reference, pool).resources for pool in pools]
    return {name for offer in offers for name in offer or {}}, None not in offers


def asks(wanted: Wanted, index: int) -> str:
    """What a layout asks of one GPU, in words."""
    if index not in wanted.profiles:
        return "left as it is"
    if index in wanted.mig_off:
        return "MIG off"
    return " + ".join(f"{name} x{count}" for name, count in sorted(wanted.profiles[index].items())) or "no MIG device"
