"""Why no node takes a pod: every reason of every node, the nearest node, and who could be evicted for it."""

from collections.abc import Mapping, Sequence

from conformance.explaining import eviction
from conformance.explaining.explanation import Explanation, NodeGroup, Stage
from conformance.explaining.seen import Seen
from conformance.gpu.placement import AFFINITY, NONE_OF_IT, OF_ANOTHER_POOL, TAINT, Manifest, Obstacle, obstacles

DEFAULT_SCHEDULER = "default-scheduler"
_MOST_VALUES = 5
# What the scheduler looks at as well, by the member of the spec that asks for it.
_NOT_COMPUTED = {
    "resourceClaims": "device claims (DynamicResources)",
    "topologySpreadConstraints": "spreading over domains (PodTopologySpread)",
}


def explain(seen: Seen, pod: Manifest) -> Explanation:
    """Explain a pod without a node."""
    nodes = seen.of("Node")
    if not nodes:
        return _told("the cluster has no node")
    found = {str(node["metadata"]["name"]): obstacles(pod, node, nodes, seen.bound) for node in nodes}
    fitting = sorted(name for name, kept in found.items() if not kept)
    if fitting:
        return _fits(pod, fitting)
    nearest = min(found, key=lambda name: (_distance(found[name]), name))
    return Explanation(
        subject="",
        stage=Stage.UNSCHEDULABLE,
        cause=_cause(pod, nodes, found),
        remedy=_remedy(found[nearest], nearest),
        nearest=nearest,
        missing=tuple(each.text for each in found[nearest]),
        eviction=eviction.for_pod(seen, pod, found),
        groups=_grouped(found),
        not_computed=not_computed(pod),
    )


def not_computed(pod: Manifest) -> tuple[str, ...]:
    """What else decides about this pod."""
    spec = pod["spec"]
    found = [words for member, words in _NOT_COMPUTED.items() if spec.get(member)]
    if (spec.get("affinity") or {}).get("podAffinity"):
        found.append("affinity to other pods (InterPodAffinity)")
    if any(each.get("persistentVolumeClaim") or each.get("ephemeral") for each in spec.get("volumes") or ()):
        found.append("where its volumes can be attached (VolumeBinding)")
    return tuple(found)


def _told(cause: str) -> Explanation:
    return Explanation(subject="", stage=Stage.UNSCHEDULABLE, cause=cause)


def _fits(pod: Manifest, fitting: Sequence[str]) -> Explanation:
    where = f"{len(fitting)} nodes" if len(fitting) > 1 else f"node {fitting[0]}"
    others, scheduler = not_computed(pod), str(pod["spec"].get("schedulerName") or DEFAULT_SCHEDULER)
    if scheduler != DEFAULT_SCHEDULER:
        cause = f"it would fit on {where}, and waits for the scheduler {scheduler}"
        remedy = f"See whether {scheduler} runs, and what it says of the pod, of its queue and of its pod group."
    elif others:
        cause = f"by taints, affinity and room it would fit on {where}; what else it asks for was not computed"
        remedy = "The pod's events have the scheduler's own words on what was not computed."
    else:
        cause = f"it would fit on {where}: the scheduler has not come to it, or room was made since it tried"
        remedy = "Look again in a minute. If it stays, see whether kube-scheduler runs."
    return Explanation(
        subject="", stage=Stage.SCHEDULABLE, cause=cause, remedy=remedy, nearest=fitting[0], not_computed=others
    )


def _distance(kept: Sequence[Obstacle]) -> tuple[int, int, int]:
    another = sum(each.kind in OF_ANOTHER_POOL for each in kept)
    return another, sum(each.lasting for each in kept), len(kept)


def _cause(pod: Manifest, nodes: Sequence[Manifest], found: Mapping[str, Sequence[Obstacle]]) -> str:
    """What comes first: a selector that no node has, then taints, then room."""
    meant = {name: kept for name, kept in found.items() if not any(each.kind == AFFINITY for each in kept)}
    if not meant:
        return f"no node matches its node selector and affinity{_there(pod, nodes)}"
    tolerated = {name: kept for name, kept in meant.items() if not any(each.kind == TAINT for each in kept)}
    among = f"of {len(found)} nodes its selector and affinity leave {_count(meant)}"
    if not tolerated:
        taints = sorted({each.text for kept in meant.values() for each in kept if each.kind == TAINT})
        return f"{among}, and each has something that it does not tolerate: {'; '.join(taints[:_MOST_VALUES])}"
    among += f", its tolerations {_count(tolerated)}" if len(tolerated) < len(meant) else ""
    offering = {name: kept for name, kept in tolerated.items() if not any(each.kind == NONE_OF_IT for each in kept)}
    if not offering:
        asked = sorted({each.text for kept in tolerated.values() for each in kept if each.kind == NONE_OF_IT})
        return f"{among}, none of which offers what it asks for: {asked[0]}"
    kinds = sorted({each.kind for kept in offering.values() for each in kept})
    devices = f", of which {_count(offering)} have such devices" if len(offering) < len(tolerated) else ""
    return f"{among}{devices}; there it is kept out by {' and '.join(kinds)}"


def _count(nodes: Mapping[str, object]) -> str:
    return str(len(nodes)) if len(nodes) != 1 else f"1 ({next(iter(nodes))})"


def _there(pod: Manifest, nodes: Sequence[Manifest]) -> str:
    """For each label of its node selector that no node meets: which values there are."""
    told = []
    for key, value in sorted((pod["spec"].get("nodeSelector") or {}).items()):
        values = {(node["metadata"].get("labels") or {}).get(key) for node in nodes}
        if value in values:
            continue
        known = sorted(str(each) for each in values if each is not None)
        there = f"nodes have {', '.join(known[:_MOST_VALUES])}" if known else "no node has that label"
        told.append(f"it wants {key}={value}, {there}")
    return f": {'; '.join(told)}" if told else ""


def _remedy(kept: Sequence[Obstacle], node: str) -> str:
    kinds = {each.kind for each in kept}
    if AFFINITY in kinds:
        return "Correct the pod's node selector or affinity, or label the nodes that are meant where they are made."
    if any(each.kind == TAINT and each.lasting for each in kept):
        return "If the pod belongs there, give it the toleration that others there have; if not, choose another pool."
    if TAINT in kinds:
        return (
            f"See who cordoned or tainted node {node}, and why: it may be broken or in an upgrade. It is not the pod."
        )
    if NONE_OF_IT in kinds:
        return "Ask for a resource that nodes offer, or find out why the device plugin of this one offers none."
    if all(each.lasting for each in kept):
        return "It asks for more than such a node has: ask for less, or for a larger kind of node."
    return "Wait until pods end, ask for less, or add nodes."


def _grouped(found: Mapping[str, Sequence[Obstacle]]) -> tuple[NodeGroup, ...]:
    """Nodes with the same reasons, those with the fewest reasons first."""
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for node, kept in found.items():
        key = tuple(each.text for each in kept), tuple(dict.fromkeys(each.kind for each in kept))
        groups.setdefault(key, []).append(node)
    listed = [NodeGroup(reasons, tuple(sorted(nodes)), kinds) for (reasons, kinds), nodes in groups.items()]
    return tuple(sorted(listed, key=lambda each: (len(each.reasons), -len(each.nodes), each.nodes)))
