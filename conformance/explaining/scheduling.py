"""Why no node takes a pod: every reason of every node, the nearest node, and who could be evicted for it."""

from collections.abc import Mapping, Sequence

import msgspec

from conformance.explaining import autoscalers, binding_conditions, eviction, karpenter, on_node, queues
from conformance.explaining.causes import cause
from conformance.explaining.explanation import Explanation, NodeGroup, Stage
from conformance.explaining.fitting import Fit, fit_of
from conformance.explaining.offers import offers_devices, offers_gpus
from conformance.explaining.seen import Seen, condition
from conformance.gpu.kai_fractions import asks_for_a_share
from conformance.gpu.labels import MIG_CONFIG, MIG_CONFIG_STATE, NVIDIA
from conformance.gpu.node_taints import state_of
from conformance.gpu.placement import (
    AFFINITY,
    CLAIM,
    DEVICE_TAINT,
    HOST_PORT,
    NEIGHBOUR,
    NONE_OF_IT,
    OF_ANOTHER_POOL,
    ROOM,
    SELECTOR,
    SPREAD,
    TAINT,
    VOLUME,
    Manifest,
    Obstacle,
)
from conformance.gpu.presence import has_gpus
from conformance.gpu.resources import DRA_DRIVER
from conformance.gpu.taints import taint_from

DEFAULT_SCHEDULER = "default-scheduler"


def explain(seen: Seen, pod: Manifest) -> Explanation:
    """Explain a pod without a node."""
    if not seen.nodes:
        no_node, remedy = karpenter.why_no_node(seen, pod)
        return Explanation(
            subject="",
            stage=Stage.UNSCHEDULABLE,
            cause=f"the cluster has no node{autoscalers.words_about(seen, pod)}{f'; {no_node}' if no_node else ''}",
            remedy=remedy or "Add nodes; if an autoscaler is to do it, its events on the pod say why it did not.",
        )
    fit = fit_of(seen, pod)
    scheduler = str(pod["spec"].get("schedulerName") or DEFAULT_SCHEDULER)
    if scheduler != DEFAULT_SCHEDULER:
        rules = f"the rules of the scheduler {scheduler} (queues, quotas, groups)"
        fit = msgspec.structs.replace(fit, undecided=(*fit.undecided, rules))
    if fit.nowhere:
        return _nowhere(fit)
    fitting = sorted(name for name, kept in fit.found.items() if not kept)
    if fitting:
        return _fits(seen, pod, fitting, fit.undecided)
    nearest = min(fit.found, key=lambda name: (_distance(fit.found[name], seen.nodes[name]), name))
    kept = fit.found[nearest]
    no_node, remedy = _why_no_other_node(seen, pod, kept)
    provisioning, of_request = autoscalers.provisioning_of(pod) if _another_node_helps(kept) else ("", "")
    plugin, of_plugin = _of_mig_layout(seen, fit.found, kept)
    if not plugin:
        plugin, of_plugin = _of_device_plugin(seen, nearest, kept)
    besides = [words for words in (plugin, no_node) if words]
    drivers = seen.offer.drivers
    return Explanation(
        subject="",
        stage=Stage.UNSCHEDULABLE,
        cause=f"{f'{provisioning}: ' if provisioning else ''}{cause(pod, seen.of('Node'), fit.found, drivers)}"
        f"{autoscalers.words_about(seen, pod)}"
        f"{''.join(f'; {words}' for words in besides)}",
        remedy=of_request
        or remedy
        or of_plugin
        or _remedy(fit.found[nearest], seen.nodes[nearest], anything_offered=offers_devices(seen.of("Node"), drivers)),
        nearest=nearest,
        missing=tuple(each.text for each in fit.found[nearest]),
        eviction=eviction.for_pod(seen, pod, fit.found) if scheduler == DEFAULT_SCHEDULER else "",
        groups=_grouped(fit.found),
        not_computed=fit.undecided,
    )


def _why_no_other_node(seen: Seen, pod: Manifest, kept: Sequence[Obstacle]) -> tuple[str, str]:
    """Why Karpenter brings no other node, where one more would help; empty where it would not."""
    return karpenter.why_no_node(seen, pod) if _another_node_helps(kept) else ("", "")


def _another_node_helps(kept: Sequence[Obstacle]) -> bool:
    return {each.kind for each in kept} <= {ROOM, NONE_OF_IT, AFFINITY}


def _of_mig_layout(seen: Seen, found: Mapping[str, Sequence[Obstacle]], kept: Sequence[Obstacle]) -> tuple[str, str]:
    """Which node would offer what is asked for if its MIG layout were applied; empty where none of them waits for one.

    ``kept`` is what keeps the pod off the nearest node. The label is mig-manager's (NVIDIA/mig-parted).
    """
    if not any(_of_gpus(each) for each in kept):
        return "", ""
    meant = [name for name, each in found.items() if not any(other.kind == AFFINITY for other in each)]
    for name in sorted(meant):
        labels = seen.nodes[name]["metadata"].get("labels") or {}
        state, layout = labels.get(MIG_CONFIG_STATE), labels.get(MIG_CONFIG)
        if state in _MIG_REMEDIES and layout and any(_of_gpus(each) for each in found[name]):
            words = f"the MIG layout {layout} {_MIG_STATES.get(state, 'is being applied')} on node {name}"
            return f"{words} (label {MIG_CONFIG_STATE}={state})", _MIG_REMEDIES[state]
    return "", ""


def _of_gpus(obstacle: Obstacle) -> bool:
    return obstacle.kind == NONE_OF_IT and obstacle.resource.startswith(NVIDIA)


def _of_device_plugin(seen: Seen, node: str, kept: Sequence[Obstacle]) -> tuple[str, str]:
    """What keeps the device plugin of a node with GPUs from offering any, and what to do; empty for other nodes."""
    if not any(_of_gpus(each) for each in kept) or not _has_gpus(seen.nodes[node]) or offers_gpus(seen.nodes[node]):
        return "", ""
    if any(each.place[0] == DRA_DRIVER for each in seen.offer.on(seen.nodes[node])):
        return f"the GPUs of node {node} are in ResourceSlices of {DRA_DRIVER}, which claims ask for", _OF_SLICES
    return on_node.why_nothing_is_offered(seen, node)


_OF_SLICES = (
    "Let the pod ask by a ResourceClaim, or let a DeviceClass give its devices under that name (extendedResourceName, "
    "by default since Kubernetes 1.36)."
)


def _nowhere(fit: Fit) -> Explanation:
    """What is wrong with a claim or a volume is wrong on every node."""
    kinds = {each.kind for each in fit.nowhere}
    remedy = "Make what is missing, or correct the pod: no node can take it before." if kinds & {CLAIM, VOLUME} else ""
    return Explanation(
        subject="",
        stage=Stage.UNSCHEDULABLE,
        cause="; ".join(each.text for each in fit.nowhere),
        remedy=remedy or next((_REMEDIES[each] for each in kinds if each in _REMEDIES), "Correct the pod."),
        groups=_grouped(fit.found) if any(fit.found.values()) else (),
        not_computed=fit.undecided,
    )


def _fits(seen: Seen, pod: Manifest, fitting: Sequence[str], others: tuple[str, ...]) -> Explanation:
    where = f"{len(fitting)} nodes" if len(fitting) > 1 else f"node {fitting[0]}"
    scheduler = str(pod["spec"].get("schedulerName") or DEFAULT_SCHEDULER)
    nominated = str((pod.get("status") or {}).get("nominatedNodeName") or "")
    stage = Stage.SCHEDULABLE
    if scheduler != DEFAULT_SCHEDULER:
        said = queues.waits_for(seen, pod)
        stage = Stage.QUEUED if said else stage
        cause = f"it would fit on {where}{f'; {said}' if said else f', and waits for the scheduler {scheduler}'}"
        remedy = f"See whether {scheduler} runs, and what it says of the pod, of its queue and of its pod group."
        if not said and not queues.is_seen(seen, scheduler):
            cause += ", of which nothing is to be seen: no pod is called so, and it has placed none that is there"
            remedy = f"Correct the pod's schedulerName, or find out what {scheduler} is: nobody else looks at the pod."
    elif (binding := binding_conditions.awaited(seen, pod))[0]:
        waits, remedy = binding
        cause = f"it fits on {where}; {waits}"
    elif error := _scheduler_error(pod):
        cause = f"it would fit on {where}, and kube-scheduler's last attempt ended with an error: {error}"
        remedy = "It tries again; an error that stays is about what its words name: correct that."
    elif others:
        cause = f"by all that is judged it would fit on {where}; what else it asks for was not decided"
        remedy = "The pod's events have the scheduler's own words on what was not decided."
    elif nominated:
        cause = f"it would fit on {where}; room was made for it on node {nominated}, to which it has not come yet"
        remedy = "Look again in a minute: the scheduler binds it when the pods that it evicted have gone."
    else:
        cause = f"it would fit on {where}: the scheduler has not come to it, or room was made since it tried"
        remedy = "Look again in a minute. If it stays, see whether kube-scheduler runs."
        if (pod.get("spec") or {}).get("resourceClaims") and seen.lacks("DeviceTaintRule"):
            remedy += f" {_TAINTED_BY_RULE}"
    if scheduler == DEFAULT_SCHEDULER and asks_for_a_share(pod):
        cause += "; its share of a GPU (annotation) is known to KAI only: this scheduler starts it without one"
        remedy = f"Let it name the scheduler that gives shares (schedulerName {queues.KAI}), and a queue of it."
    return Explanation(subject="", stage=stage, cause=cause, remedy=remedy, nearest=fitting[0], not_computed=others)


_TAINTED_BY_RULE = (
    "DeviceTaintRules were not read: one keeps claims off the devices that it selects and leaves no trace in their "
    "ResourceSlices (kubectl get devicetaintrules)."
)


def _scheduler_error(pod: Manifest) -> str:
    found = condition(pod, "PodScheduled")
    return str(found.get("message") or "no message") if found.get("reason") == "SchedulerError" else ""


def _has_gpus(node: Manifest) -> bool:
    """Whether a node is one that has GPUs, whatever it offers: of nodes equally near that is the one that is meant."""
    return has_gpus(node["metadata"].get("labels") or {}) or offers_devices((node,))


def _distance(kept: Sequence[Obstacle], node: Manifest) -> tuple[int, bool, int, int, float, bool]:
    """What keeps a pod off, and by how much: of two nodes with too little room that with more of it is nearer.

    Of nodes that offer no GPU one that has some is meant before one that has none, whatever else keeps the pod off it.
    """
    another = sum(each.kind in OF_ANOTHER_POOL for each in kept)
    short = sum(1 - max(float(each.free), 0) / float(each.wanted) for each in kept if each.kind == ROOM)
    without = not _has_gpus(node)
    never = without and any(each.kind == NONE_OF_IT and each.resource.startswith(NVIDIA) for each in kept)
    return another, never, sum(each.lasting for each in kept), len(kept), short, without


_MIG_STATES = {"failed": "could not be applied"}
_IN_ITS_LOG = "kubectl logs -l app=nvidia-mig-manager -A"
_BEING_APPLIED = (
    f"Wait until the layout is applied. If it stands still, mig-manager says for what it waits: {_IN_ITS_LOG}."
)
_MIG_REMEDIES = {
    "failed": f"See why mig-manager failed ({_IN_ITS_LOG}): its GPUs may not have such a layout, or something holds "
    "them. Slices are offered when it is applied.",
    "pending": _BEING_APPLIED,
    "rebooting": _BEING_APPLIED,
}
_REMEDIES = {
    SELECTOR: "Let the selector ask first whether the device has what it reads (has(), or `in`), or correct its name.",
    VOLUME: "Run it where its volume is, with GPUs there, or bring the data to a zone that has them.",
    CLAIM: "Wait until pods with claims end, claim less, or let the claim match what the nodes have.",
    DEVICE_TAINT: "See who tainted the devices, and why: they may be broken or in maintenance (`kubectl get "
    "devicetaintrules`; taints of a driver are in its ResourceSlices). A rule that is no longer needed is deleted; a "
    "request for which the devices are meant tolerates the taint.",
    HOST_PORT: "One pod of a node can have a host port: use a Service, another port, or fewer pods than nodes.",
    NEIGHBOUR: "Its rules about other pods leave it no node: loosen them (preferred), or add domains (nodes, zones).",
    SPREAD: "Loosen the spread (maxSkew, ScheduleAnyway, nodeTaintsPolicy Honor), or make room in the emptiest domain.",
}


def _remedy(kept: Sequence[Obstacle], node: Manifest, *, anything_offered: bool) -> str:
    kinds = {each.kind for each in kept}
    if AFFINITY in kinds:
        return "Correct the pod's node selector or affinity, or label the nodes that are meant where they are made."
    if NONE_OF_IT in kinds and not anything_offered:
        return (
            "Add nodes that have what it asks for, or find out why those that are meant to offer none. Where an "
            "autoscaler adds them, its events on the pod say why it did not."
        )
    if NONE_OF_IT in kinds:
        return "Ask for what nodes offer, or find out why the device plugin or the DRA driver of this one offers none."
    if any(each.kind == TAINT and each.lasting for each in kept):
        return "If the pod belongs there, give it the toleration that others there have; if not, choose another pool."
    if TAINT in kinds:
        return _of_its_state(node)
    other = next((remedy for kind, remedy in _REMEDIES.items() if kind in kinds), "")
    if other:
        return other
    if all(each.lasting for each in kept):
        return "It asks for more than such a node has: ask for less, or for a larger kind of node."
    return "Wait until pods end, ask for less, or add nodes."


def _of_its_state(node: Manifest) -> str:
    """What to do about a node whose taints say how it is today."""
    name = str(node["metadata"]["name"])
    states = (state_of(taint_from(each)) for each in (node.get("spec") or {}).get("taints") or ())
    known = next((state for state in states if state is not None), None)
    if known is not None:
        return known.remedy.format(node=name)
    return f"See who cordoned or tainted node {name}, and why: it may be broken or in an upgrade. It is not the pod."


def _grouped(found: Mapping[str, Sequence[Obstacle]]) -> tuple[NodeGroup, ...]:
    """Nodes with the same reasons, those with the fewest reasons first."""
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for node, kept in found.items():
        key = tuple(each.text for each in kept), tuple(dict.fromkeys(each.kind for each in kept))
        groups.setdefault(key, []).append(node)
    listed = [NodeGroup(reasons, tuple(sorted(nodes)), kinds) for (reasons, kinds), nodes in groups.items()]
    return tuple(sorted(listed, key=lambda each: (len(each.reasons), -len(each.nodes), each.nodes)))
