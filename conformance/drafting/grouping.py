"""Which nodes belong together: by the label of a node group, by a label of the owners' own, or by what they are."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from conformance.drafting.accelerators import offered
from conformance.drafting.node_groups import (
    COMMON_ROLES,
    CONTROL_PLANE_ROLES,
    HOSTNAME,
    INSTANCE_TYPE,
    NODE_GROUPS,
    OWN_GROUP_WORDS,
    PRODUCT,
    ROLE_PREFIX,
    is_of_a_program,
)
from conformance.drafting.notes import Guess
from conformance.facts import Node
from conformance.gpu.labels import DEVICE_PLUGIN_CONFIG as PLUGIN_CONFIG
from conformance.gpu.labels import MIG_CONFIG

# Sharing and MIG append themselves to the product (GPU Feature Discovery).
_SUFFIX = re.compile(r"(-MIG-[\w.-]+?)?(-SHARED)?$")
# By these a group that holds several kinds of GPU node can be divided, the label that lasts longest first.
_DIVIDING = (INSTANCE_TYPE, MIG_CONFIG, PLUGIN_CONFIG, PRODUCT)
_LEAST_OF_A_KIND = 2
# Among so few nodes a label with another value on each may still name groups.
_FEW = 3


class Group(NamedTuple):
    """Nodes that one selector finds. ``scales`` says that their number changes by itself."""

    selector: dict[str, str]
    nodes: tuple[Node, ...]
    guess: Guess
    scales: bool = False

    @property
    def name(self) -> str:
        """A name for the pool: what the selector says, in the form of an object's name."""
        words = [value or key.removeprefix(ROLE_PREFIX) for key, value in self.selector.items()]
        name = re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")
        return name[:63].strip("-") or "pool"


def product_of(node: Node) -> str:
    """The GPU product that GPU Feature Discovery found, without what sharing and MIG append; empty when unlabelled."""
    return _SUFFIX.sub("", node.labels.get(PRODUCT, ""))


def groups_of(nodes: Sequence[Node], with_gpus: Sequence[Node]) -> tuple[Group, ...]:
    """Every group of nodes, those of control planes left out. Each node is in one group or, without GPUs, in none."""
    gpu_names = {node.name for node in with_gpus}
    workers = [node for node in nodes if node.name in gpu_names or not _is_control_plane(node)]
    found, rest = _by_platform(workers)
    more, rest = _by_own_label(rest, gpu_names, workers)
    found += more
    found += _by_role_or_kind([node for node in rest if node.name in gpu_names], workers)
    divided = [part for group in found for part in _divided(group, gpu_names)]
    return tuple(sorted(divided, key=lambda group: (group.name, sorted(group.selector.items()))))


def _is_control_plane(node: Node) -> bool:
    return any(f"{ROLE_PREFIX}{role}" in node.labels for role in CONTROL_PLANE_ROLES)


def _by_platform(nodes: Iterable[Node]) -> tuple[list[Group], list[Node]]:
    """The groups of nodes that a platform has marked, and the nodes that none has."""
    marked: dict[tuple[int, str], list[Node]] = defaultdict(list)
    rest = []
    for node in nodes:
        at = next((at for at, label in enumerate(NODE_GROUPS) if node.labels.get(label.key)), None)
        if at is None:
            rest.append(node)
        else:
            marked[at, node.labels[NODE_GROUPS[at].key]].append(node)
    groups = []
    for (at, value), members in marked.items():
        label = NODE_GROUPS[at]
        derived = f"{_number(members)} with label {label.key}={value}, {label.platform} ({label.source})"
        comes_and_goes = bool(label.made_for_pods) and value.startswith(label.made_for_pods)
        decide = "whether to select by what its nodes are: the platform makes such groups and removes them"
        guess = Guess(derived, decide=decide if comes_and_goes else "")
        groups.append(Group({label.key: value}, tuple(members), guess, label.scales or comes_and_goes))
    return groups, rest


def _by_own_label(nodes: list[Node], gpu_names: set[str], workers: Sequence[Node]) -> tuple[list[Group], list[Node]]:
    """Groups by labels of the owners, key after key: each time the one that tells most of the nodes apart."""
    groups: list[Group] = []
    rest = nodes
    while any(node.name in gpu_names for node in rest) and (key := _best_key(rest, gpu_names, workers)):
        there = _parted(rest, key)
        for value, members in there.items():
            derived = f"{_number(members)} with the label {key}={value}, one of the owners' own"
            guess = Guess(derived, decide="whether whoever makes the nodes sets it: a node that lost it is not found")
            groups.append(Group({key: value}, tuple(members), guess))
        rest = [node for node in rest if key not in node.labels]
    return groups, rest


def _labels_of_others(nodes: Iterable[Node], workers: Iterable[Node]) -> set[tuple[str, str]]:
    """Every label of the nodes that are not among some: to select by one of these would select them as well."""
    own = {node.name for node in nodes}
    return {pair for node in workers if node.name not in own for pair in node.labels.items()}


def _parted(nodes: Iterable[Node], key: str) -> dict[str, list[Node]]:
    parts: dict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        if key in node.labels:
            parts[node.labels[key]].append(node)
    return parts


def _best_key(nodes: Sequence[Node], gpu_names: set[str], workers: Sequence[Node]) -> str:
    """The key of the owners that parts nodes as people part them into pools; empty when there is none.

    It must keep nodes of another kind apart, those without GPUs too, not name every single node, and select none of
    the nodes that are in a group already.
    """
    grouped = _labels_of_others(nodes, workers)
    keys = Counter(key for node in nodes for key in node.labels if not is_of_a_program(key))
    found = []
    for key, count in keys.items():
        parts = _parted(nodes, key)
        equipped = [[node for node in part if node.name in gpu_names] for part in parts.values()]
        names_each = count > 1 and len(parts) == count
        if not any(equipped) or (names_each and count > _FEW) or any((key, value) in grouped for value in parts):
            continue
        mixed = sum(len({_kind(node, gpu_names) for node in part}) - 1 for part in parts.values())
        rank = _rank(key)
        found.append(
            (mixed, names_each, rank == _TELLS_NOTHING, -sum(map(len, equipped)), rank, -count, len(parts), key)
        )
    return min(found)[-1] if found else ""


_TELLS_NOTHING = len(OWN_GROUP_WORDS)


def _rank(key: str) -> int:
    """How telling the words of a key are: the position of the first of ours in it."""
    return next((at for at, word in enumerate(OWN_GROUP_WORDS) if word in key.lower()), _TELLS_NOTHING)


def _by_role_or_kind(nodes: Sequence[Node], workers: Sequence[Node]) -> list[Group]:
    """Groups of GPU nodes that nobody marked: by the role in a label's key, by instance type, product, or name."""
    groups: dict[tuple[str, str], list[Node]] = defaultdict(list)
    taken = _labels_of_others(nodes, workers)
    for node in nodes:
        groups[_mark(node, workers, taken)].append(node)
    return [Group({key: value}, tuple(members), _weak(key, value, members)) for (key, value), members in groups.items()]


def _mark(node: Node, workers: Sequence[Node], taken: set[tuple[str, str]]) -> tuple[str, str]:
    """The label by which a node is found that no node of another group carries as well."""
    roles = [pair for pair in node.labels.items() if pair[0].startswith(ROLE_PREFIX) and pair not in taken]
    common = (*COMMON_ROLES, *CONTROL_PLANE_ROLES)
    telling = [pair for pair in roles if pair[0].removeprefix(ROLE_PREFIX) not in common]
    if telling:
        return telling[0]
    for key in (INSTANCE_TYPE, PRODUCT):
        value = node.labels.get(key)
        alike = [each for each in workers if each.labels.get(key) == value]
        # An instance type that nodes without GPUs have as well tells nothing; k3s calls every machine "k3s".
        if value and (key, value) not in taken and all(product_of(each) == product_of(node) for each in alike):
            return key, value
    return HOSTNAME, node.labels.get(HOSTNAME, node.name)


def _weak(key: str, value: str, members: Sequence[Node]) -> Guess:
    derived = f"{_number(members)} with {key}={value}: no label of a node group and none of the owners' own tells more"
    if key.startswith(ROLE_PREFIX):
        return Guess(
            f"{_number(members)} with the role {key.removeprefix(ROLE_PREFIX)} (MachineConfigPool of OpenShift)"
        )
    return Guess(derived, decide="give the nodes a label where they are made, such as pool=<name>, and select by that")


def _divided(group: Group, gpu_names: set[str]) -> list[Group]:
    """A group as it is, or one for each kind of GPU node in it where a label that all of them carry tells the kinds."""
    kinds = Counter(_kind(node, gpu_names) for node in group.nodes)
    if len(kinds) == 1:
        return _by_machine(group)
    for key in _DIVIDING:
        if key in group.selector or not all(key in node.labels for node in group.nodes):
            continue
        parts = _parted(group.nodes, key)
        pure = all(len({_kind(node, gpu_names) for node in part}) == 1 for part in parts.values())
        # A single node of another product is a mistake to be seen; a single one of another instance type is not.
        if len(parts) > 1 and pure and (key == INSTANCE_TYPE or min(map(len, parts.values())) >= _LEAST_OF_A_KIND):
            return [_part(group, key, value, members) for value, members in parts.items()]
    return [group]


def _by_machine(group: Group) -> list[Group]:
    """A group as it is, or one for each instance type where these have other numbers of devices, as with Karpenter.

    What most nodes of a type offer counts: one that lost a device is no other machine.
    """
    if INSTANCE_TYPE in group.selector or not all(INSTANCE_TYPE in node.labels for node in group.nodes):
        return [group]
    parts = _parted(group.nodes, INSTANCE_TYPE)
    usual = [Counter(there) for members in parts.values() if (there := _offers(members))]
    if len({counted.most_common(1)[0][0] for counted in usual}) < _LEAST_OF_A_KIND:
        return [group]
    return [_part(group, INSTANCE_TYPE, value, members) for value, members in parts.items()]


def _offers(nodes: Iterable[Node]) -> list[tuple[tuple[str, int], ...]]:
    """What each node that offers accelerators offers."""
    return [tuple(sorted(there.items())) for node in nodes if (there := offered(node))]


def _part(group: Group, key: str, value: str, members: Sequence[Node]) -> Group:
    derived = f"{group.guess.derived}, of which {_number(members)} with {key}={value}: the group holds several kinds"
    lasting = key == INSTANCE_TYPE
    decide = group.guess.decide if lasting else f"whether to part the group: a node that loses {key} is not found"
    if lasting and group.scales:
        decide = "which other instance types the group may take: their nodes belong to no pool here (POOL-05)"
    return Group({**group.selector, key: value}, tuple(members), Guess(derived, decide=decide), group.scales)


def _kind(node: Node, gpu_names: set[str]) -> tuple[object, ...]:
    """What must be alike in one pool: GPU or none, product, and how they are shared and divided."""
    choices = _chosen(node.labels, MIG_CONFIG), _chosen(node.labels, PLUGIN_CONFIG)
    return node.name in gpu_names, product_of(node), *choices


def _chosen(labels: Mapping[str, str], key: str) -> str:
    value = labels.get(key, "")
    return "" if value == "all-disabled" else value


def _number(nodes: Sequence[Node]) -> str:
    return "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
