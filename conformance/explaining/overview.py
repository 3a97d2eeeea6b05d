"""All pods of a cluster that wait or fail with GPUs, by owner and cause, bounded in what is told and what is computed.

Judging every node for a pod is what costs. It is done once for pods that the scheduler cannot tell apart, for those of
which there are most first, and for no more than a number of nodes allows; of the others the scheduler's words are told.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

import msgspec

from conformance.explaining import custom_workloads, kueue
from conformance.explaining.alike import Alike
from conformance.explaining.explanation import Explanation, Stage
from conformance.explaining.pods import explain
from conformance.explaining.seen import CUSTOM_WORKLOADS, Seen, condition, has_condition, kind_of, word_for
from conformance.explaining.workloads import explain_workload, missing_pods
from conformance.gpu.kai_fractions import asks_for_a_share
from conformance.gpu.placement import Manifest, taken_of_node
from conformance.kube.names import RUN_LABEL
from conformance.subjects import ObjectReference

MOST_GROUPS = 200
MOST_JUDGEMENTS = 15_000
"""How many times a node is judged for a pod: on 5,000 nodes for three sorts of pods, about 2 s of CPU."""
YOUNG = timedelta(minutes=1)
"""Younger pods are on their way."""

_NVIDIA = "nvidia.com/"
_NOT_COMPUTED = "not computed here"


class WaitingGroup(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Pods of one owner that do not run for one cause.

    ``pods`` counts them, and ``example`` names one of them; it is empty where they are not made at all. Of a
    custom kind that nothing counts yet it has one for each pod template.
    """

    owner: ObjectReference
    pods: int
    stage: Stage
    cause: str
    example: str = ""
    remedy: str = ""
    inspect: str = ""
    nearest: str = ""
    missing: tuple[str, ...] = ()
    eviction: str = ""


class WaitingPods(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What waits or fails with GPUs: the groups of most pods first.

    ``groups_left`` and ``pods_left`` count what is not among the groups, ``not_computed`` the pods for which nodes were
    not judged. ``unreadable`` says by kind what could not be read and therefore not looked at.
    """

    pods: int
    groups: tuple[WaitingGroup, ...] = ()
    groups_left: int = 0
    pods_left: int = 0
    not_computed: int = 0
    unreadable: dict[str, str] = {}


def waiting_pods(seen: Seen, resources: Collection[str], now: datetime) -> WaitingPods:
    """Why pods that ask for devices do not run. ``resources`` are names of GPUs besides those of NVIDIA."""
    groups = _Groups(seen)
    troubled = [pod for pod in seen.of("Pod") if _is_troubled(seen, pod, now) and _asks(pod, resources)]
    not_computed = 0
    for explained, pods in _explained(seen, troubled):
        not_computed += 0 if explained is not None else len(pods)
        groups.add(pods, explained or _in_words_of_the_scheduler(pods[0]))
    unmade = (*_without_pods(seen, resources, now), *_custom_without_pods(seen, resources, now))
    for workload, explained, number in unmade:
        groups.add_unmade(workload, explained, number)
    every = groups.ordered()
    left = every[MOST_GROUPS:]
    return WaitingPods(
        pods=sum(each.pods for each in every),
        groups=tuple(every[:MOST_GROUPS]),
        groups_left=len(left),
        pods_left=sum(each.pods for each in left),
        not_computed=not_computed,
        unreadable={kind: why for kind, why in seen.unreadable.items() if kind not in seen.objects},
    )


def _explained(seen: Seen, pods: Iterable[Manifest]) -> Iterator[tuple[Explanation | None, Sequence[Manifest]]]:
    """Pods with what is told of them; None for those whose nodes would cost too much."""
    alike, sorts = Alike(seen), dict[bytes, list[Manifest]]()
    for pod in pods:
        if _needs_nodes(pod):
            sorts.setdefault(alike.key(pod), []).append(pod)
        else:
            yield explain(seen, pod), (pod,)
    affordable = max(1, MOST_JUDGEMENTS // max(1, len(seen.nodes)))
    for number, group in enumerate(sorted(sorts.values(), key=lambda each: (-len(each), _named(each[0])))):
        yield explain(seen, group[0]) if number < affordable else None, group


def _needs_nodes(pod: Manifest) -> bool:
    spec, phase = pod["spec"], (pod.get("status") or {}).get("phase")
    bound = spec.get("nodeName") or spec.get("schedulingGates")
    return not bound and phase != "Failed" and not pod["metadata"].get("deletionTimestamp")


def _asks(pod: Manifest, resources: Collection[str]) -> bool:
    """Whether a pod or a template asks for a device: as a resource, by a claim, or as a fraction that KAI gives."""
    if pod["spec"].get("resourceClaims") or asks_for_a_share(pod):
        return True
    return any(name.startswith(_NVIDIA) or name in resources for name, amount in taken_of_node(pod).items() if amount)


def _is_troubled(seen: Seen, pod: Manifest, now: datetime) -> bool:
    metadata, status = pod["metadata"], pod.get("status") or {}
    phase = status.get("phase")
    if phase == "Succeeded" or RUN_LABEL in (metadata.get("labels") or {}):
        return False
    if metadata.get("deletionTimestamp"):
        return _moment(metadata["deletionTimestamp"], now) < now - YOUNG
    if phase == "Failed":
        return not _is_replaced(seen, pod)
    if phase == "Running" and has_condition(pod, "Ready"):
        return False
    return _moment(metadata.get("creationTimestamp"), now) <= now - YOUNG


def _moment(text: object, now: datetime) -> datetime:
    """A moment of the API server; one that is not stated is long ago."""
    return datetime.fromisoformat(str(text)) if text else now - 2 * YOUNG


def _is_replaced(seen: Seen, pod: Manifest) -> bool:
    """Whether a failed pod is of the past: its Job has ended well, or its owner has another one."""
    owner = _controller(pod)
    if owner is None:
        return False
    if owner.get("kind") == "Job":
        job = seen.find("Job", str(pod["metadata"].get("namespace")), str(owner.get("name")))
        return job is not None and has_condition(job, "Complete")
    siblings = seen.owned_by(str(pod["metadata"].get("namespace") or ""), owner)
    return any((each.get("status") or {}).get("phase") not in ("Failed", "Succeeded") for each in siblings)


def _in_words_of_the_scheduler(pod: Manifest) -> Explanation:
    namespace, name = pod["metadata"].get("namespace"), pod["metadata"]["name"]
    words = str(condition(pod, "PodScheduled").get("message") or "nothing yet")
    return Explanation(
        subject=f"pod {namespace}/{name}",
        stage=Stage.UNSCHEDULABLE,
        cause=f"{_NOT_COMPUTED}, too many sorts of pods wait; the scheduler says: {words}",
        remedy="gpu-conformance explain-pod computes it for one of them.",
        inspect=f"gpu-conformance explain-pod --cluster CLUSTER {namespace}/{name}",
    )


def _without_pods(seen: Seen, resources: Collection[str], now: datetime) -> Iterator[tuple[Manifest, Explanation, int]]:
    """Workloads for GPUs whose pods are not made."""
    for kind in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
        for workload in seen.of(kind):
            template = {"metadata": {}, "spec": {}, **((workload.get("spec") or {}).get("template") or {})}
            old = _moment(workload["metadata"].get("creationTimestamp"), now) <= now - YOUNG
            number = missing_pods(seen, workload) if old and _asks(template, resources) else 0
            if number > 0:
                first = explain_workload(seen, workload)[0]
                if first.stage in (Stage.REFUSED, Stage.QUEUED) and not first.subject.startswith("pod "):
                    yield workload, first, number


def _custom_without_pods(
    seen: Seen, resources: Collection[str], now: datetime
) -> Iterator[tuple[Manifest, Explanation, int]]:
    """The same of custom kinds. What one has made is told as that: a Job without pods, or pods."""
    for workload in (each for kind in CUSTOM_WORKLOADS for each in seen.of(kind)):
        kind, templates = kind_of(workload), custom_workloads.pod_templates(workload)
        old = _moment(workload["metadata"].get("creationTimestamp"), now) <= now - YOUNG
        made_by_another = (_controller(workload) or {}).get("kind") in CUSTOM_WORKLOADS
        if old and not made_by_another and any(_asks(each, resources) for each in templates):
            first = custom_workloads.explain_workload(seen, workload)[0]
            # A CronJob that is suspended waits for nothing.
            told = (Stage.REFUSED,) if kind == "CronJob" else (Stage.REFUSED, Stage.QUEUED)
            if first.stage in told and first.subject.startswith(f"{word_for(kind)} "):
                yield workload, first, _pods_asked_for(seen, workload) or len(templates)


def _pods_asked_for(seen: Seen, workload: Manifest) -> int:
    if kind_of(workload) == "VolcanoJob":
        tasks = (workload.get("spec") or {}).get("tasks") or ()
        return sum(int(each.get("replicas", 1)) for each in tasks)
    return kueue.pods_asked_for(seen, workload)


class _Groups:
    """Pods by their owner and what is told of them, whatever they and their nodes are called."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._found: dict[tuple[ObjectReference, Stage, str], WaitingGroup] = {}

    def add(self, pods: Iterable[Manifest], explained: Explanation) -> None:
        """Take in pods of which the same is told."""
        for pod in pods:
            if explained.stage is Stage.RUNNING:
                continue
            name, node = str(pod["metadata"]["name"]), str(pod["spec"].get("nodeName") or "")
            words = explained.cause.replace(name, "{pod}")
            words = words.replace(node, "{node}") if node else words
            self._add(_top_owner(self._seen, pod), explained, 1, name, words)

    def add_unmade(self, workload: Manifest, explained: Explanation, number: int) -> None:
        """Take in what a workload lacks."""
        metadata = workload["metadata"]
        owner = ObjectReference.of(workload["kind"], metadata["name"], namespace=str(metadata.get("namespace") or ""))
        self._add(owner, explained, number, "", explained.cause)

    def _add(self, owner: ObjectReference, explained: Explanation, number: int, example: str, words: str) -> None:
        key = owner, explained.stage, words
        if key in self._found:
            self._found[key] = msgspec.structs.replace(self._found[key], pods=self._found[key].pods + number)
            return
        self._found[key] = WaitingGroup(
            owner=owner,
            pods=number,
            stage=explained.stage,
            cause=explained.cause,
            example=example,
            remedy=explained.remedy,
            inspect=explained.inspect,
            nearest=explained.nearest,
            missing=explained.missing,
            eviction=explained.eviction,
        )

    def ordered(self) -> list[WaitingGroup]:
        """The groups of most pods first."""
        return sorted(self._found.values(), key=_rank)


def _rank(group: WaitingGroup) -> tuple[int, bool, str, str, str]:
    return -group.pods, group.cause.startswith(_NOT_COMPUTED), str(group.owner), group.stage, group.cause


def _controller(obj: Manifest) -> Manifest | None:
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((each for each in owners if each.get("controller")), owners[0] if owners else None)


def _top_owner(seen: Seen, pod: Manifest) -> ObjectReference:
    """What makes the pod, a ReplicaSet's Deployment; the pod itself where nothing does."""
    namespace = str(pod["metadata"].get("namespace") or "")
    owner = _controller(pod)
    if owner is None:
        return ObjectReference.of("Pod", str(pod["metadata"]["name"]), namespace=namespace)
    between = seen.find(str(owner.get("kind")), namespace, str(owner.get("name")))
    owner = (_controller(between) if between is not None else None) or owner
    api_version = str(owner.get("apiVersion") or "")
    return ObjectReference.of(
        str(owner.get("kind")), str(owner.get("name")), namespace=namespace, api_version=api_version
    )


def _named(pod: Manifest) -> tuple[str, str]:
    return str(pod["metadata"].get("namespace")), str(pod["metadata"]["name"])
