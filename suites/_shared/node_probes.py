"""Programs on every GPU node: what is asked of each node, what its pod said, and who could not be looked at."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeAlias, Unpack

from conformance.facts import Node
from conformance.gpu.mig import ProfileName
from conformance.lab import ProbeResult, Program, RequirementLab
from conformance.lab.probe_jobs import ProbeOptions
from conformance.reference.expected import offer_of
from conformance.reference.model import Gpu, Pool, Reference
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Judge, NotApplicable
from suites._shared.pool_nodes import GpuPoolNode

TOO_FAR_APART = "TopologyAffinityError"
# Container and pod states in which a node was given a pod and did not run it. What an image lacks is not among them.
_REFUSALS = (
    "UnexpectedAdmissionError",
    TOO_FAR_APART,
    "FailedCreatePodSandBox",
    "CreateContainerError",
    "RunContainerError",
    "ContainerCannotRun",
    "StartError",
)
# How containerd and CRI-O say that they know no runtime by the name that the runtime class has for it.
_NO_HANDLER = ("no runtime for", "runtime handler")
# As feature discovery makes a label of a name (k8s-device-plugin: internal/lm/resource.go).
_NOT_IN_LABELS = re.compile(r"[^A-Za-z0-9\-_. ]")
# The driver reports less than the nominal size, and NVML a little more or less than the label.
_MEMORY_TOLERANCE = 0.1

# Nodes by the resource that they are asked for, and how many devices of it.
_Groups: TypeAlias = dict[tuple[str, Literal[1, "free"]], list[GpuPoolNode]]


class Seen(NamedTuple):
    """What a probe said on one node, having asked for devices of one resource (of none, where it is empty).

    ``kept_apart`` are free devices that the node would not give together with these.
    """

    pool: Pool
    node: Node
    gpu: Gpu
    resource: str
    result: ProbeResult
    kept_apart: int = 0

    @property
    def subject(self) -> ObjectReference:
        """The node, and where it offers several resources the one that was asked for."""
        usual = self.resource in ("", self.gpu.resource)
        return self.node.subject if usual else self.node.subject.only(self.resource)

    @property
    def shared(self) -> bool:
        """Whether several pods may be given the same device. Of MIG devices a pool does not say which are shared."""
        return bool(self.resource) and self.gpu.shares > 1

    @property
    def profile(self) -> ProfileName | None:
        """The MIG profile that the resource stands for; None for others."""
        return ProfileName.from_resource(self.resource)

    @property
    def inspect(self) -> str:
        """The command that shows what the node offers and who holds it."""
        return f"kubectl describe node {self.node.name}"


def offered_resources(reference: Reference, pool: Pool) -> dict[str, int]:
    """The resources that a node of a pool must offer, by name; empty where DRA gives devices, or nobody can know."""
    return {name: count for name, count in (offer_of(reference, pool).resources or {}).items() if count}


def asking_for_devices(
    lab: RequirementLab,
    reference: Reference,
    nodes: Sequence[GpuPoolNode],
    probe: str,
    *,
    gpus: Literal[1, "free"] = 1,
) -> tuple[Seen, ...]:
    """Run a probe on every node, once for each resource that its pool declares; a shared one is asked for once only.

    Raises NotApplicable where no pool offers devices as resources.
    """
    groups = _by_resource(reference, nodes, gpus)
    seen = _seen(groups, lab.run_programs(_programs(groups, probe)))
    return _asking_for_less(lab, seen, probe)


@contextmanager
def holding_devices(
    lab: RequirementLab, reference: Reference, nodes: Sequence[GpuPoolNode]
) -> Iterator[tuple[Seen, ...]]:
    """Hold one device of each resource on every node while the block runs, and tell which."""
    groups = _by_resource(reference, nodes, 1)
    with lab.held_programs(_programs(groups, "devices")) as results:
        yield _seen(groups, results)


def asking_again(lab: RequirementLab, before: Sequence[Seen]) -> tuple[Seen, ...]:
    """Run the devices probe once more, on each node with as many devices as its pod had before."""
    return _asking_once_more(lab, before, "devices", lambda each: each.result.devices)


def _asking_for_less(lab: RequirementLab, seen: tuple[Seen, ...], probe: str) -> tuple[Seen, ...]:
    """Ask nodes again, for half as many devices each time, whose kubelet gives only devices of one NUMA node together.

    Its topology manager refuses the pod then, with the policy single-numa-node (kubernetes.io: Control Topology
    Management Policies on a Node).
    """
    while apart := [each for each in seen if each.result.reason == TOO_FAR_APART and each.result.devices > 1]:
        again = {
            (each.node.name, each.resource): each
            for each in _asking_once_more(lab, apart, probe, lambda each: each.result.devices // 2)
        }
        for each in apart:
            got = again[each.node.name, each.resource]
            left = each.kept_apart + each.result.devices - got.result.devices
            again[each.node.name, each.resource] = got._replace(kept_apart=left)
        seen = tuple(again.get((each.node.name, each.resource), each) for each in seen)
    return seen


def _asking_once_more(
    lab: RequirementLab, before: Sequence[Seen], probe: str, devices: Callable[[Seen], int]
) -> tuple[Seen, ...]:
    groups: dict[str, list[Seen]] = defaultdict(list)
    for each in before:
        groups[each.resource].append(each)
    results = lab.run_programs(
        [
            Program(
                [each.node for each in members],
                probe,
                {"gpus": {each.node.name: devices(each) for each in members}, "resource": resource},
            )
            for resource, members in groups.items()
        ]
    )
    return tuple(
        each._replace(result=found[each.node.name])
        for members, found in zip(groups.values(), results, strict=True)
        for each in members
    )


def _by_resource(reference: Reference, nodes: Sequence[GpuPoolNode], gpus: Literal[1, "free"]) -> _Groups:
    """The nodes by what is asked of them."""
    groups: _Groups = defaultdict(list)
    for each in nodes:
        for resource in offered_resources(reference, each.pool):
            groups[resource, 1 if each.gpu.shares > 1 else gpus].append(each)
    if not groups:
        raise NotApplicable(f"no GPU pool of {reference} offers devices as extended resources; DRA has its own chapter")
    return groups


def _programs(groups: _Groups, probe: str) -> list[Program]:
    return [
        Program([each.node for each in members], probe, {"gpus": asked, "resource": resource})
        for (resource, asked), members in groups.items()
    ]


def _seen(groups: _Groups, results: Sequence[Mapping[str, ProbeResult]]) -> tuple[Seen, ...]:
    return tuple(
        Seen(*each, resource, found[each.node.name])
        for ((resource, _), members), found in zip(groups.items(), results, strict=True)
        for each in members
    )


def asking_for_none(
    lab: RequirementLab, nodes: Sequence[GpuPoolNode], **options: Unpack[ProbeOptions]
) -> tuple[Seen, ...]:
    """Run the isolation probe on every node without a request for any device."""
    [seen] = asking_for_none_in_ways(lab, nodes, [options])
    return seen


def asking_for_none_in_ways(
    lab: RequirementLab, nodes: Sequence[GpuPoolNode], ways: Sequence[ProbeOptions]
) -> list[tuple[Seen, ...]]:
    """The same in several ways at the same time."""
    asked = [Program([each.node for each in nodes], "isolation", {**way, "gpus": 0}) for way in ways]
    return [tuple(Seen(*each, "", found[each.node.name]) for each in nodes) for found in lab.run_programs(asked)]


def judge_each(
    seen: Iterable[Seen],
    judge: Judge,
    of: Callable[[Seen, dict[str, Any]], None],
    *,
    blame: "Callable[[ProbeResult], bool] | None" = None,
    when_refused: "Callable[[Seen, Judge], None] | None" = None,
) -> None:
    """Judge each node whose probe could look, by ``of``, and by ``when_refused`` each that is to ``blame`` for it not.

    Without further word those fail which did not run the pod that they were given. ``of`` raises Inconclusive where
    what was seen does not tell. The others are passed over.
    """
    for each in seen:
        reason = _judged(each, judge, of, blame or is_the_nodes_fault, when_refused or refused)
        if reason:
            judge.pass_over(each.subject, reason)


def _judged(
    each: Seen,
    judge: Judge,
    of: Callable[[Seen, dict[str, Any]], None],
    blame: Callable[[ProbeResult], bool],
    when_refused: Callable[[Seen, Judge], None],
) -> str:
    """Judge one node; why it could not be, empty when it was."""
    if not each.result.trouble:
        try:
            of(each, each.result.found)
        except Inconclusive as error:
            return str(error)
        return ""
    if blame(each.result):
        when_refused(each, judge)
        return ""
    return each.result.trouble


def nobody(result: ProbeResult) -> bool:
    """Blames no node for a pod that did not run, where another requirement does: the cause is enough."""
    del result
    return False


def got_no_library(result: ProbeResult) -> bool:
    """Whether the container ran and its probe found no library of the driver to look with."""
    return bool((result.record or {}).get("missing"))


def is_the_nodes_fault(result: ProbeResult) -> bool:
    """Whether a node got a pod and did not run it, or gave it nothing to look with, for which no image is to blame."""
    return got_no_library(result) or (result.placed and result.reason in _REFUSALS)


def knows_no_handler(result: ProbeResult) -> bool:
    """Whether a pod with a runtime class could not run because the node's runtime has no handler for the class."""
    return result.reason == "FailedCreatePodSandBox" and any(words in result.trouble for words in _NO_HANDLER)


def refused(each: Seen, judge: Judge) -> None:
    """Judge a node that did not run the pod it was given."""
    judge(
        each.subject,
        ok=False,
        expected="a pod with the devices it asked for",
        actual=f"{each.result.reason or each.result.phase}: {each.result.trouble}",
        cause=_why_refused(each),
        hidden_because="the node is Ready and offers the device; only a pod that is placed there meets the refusal",
        inspect=each.inspect,
    )


def _why_refused(each: Seen) -> str:
    if got_no_library(each.result):
        return f"the container on {each.node.name} did not get the driver's libraries"
    if knows_no_handler(each.result):
        return "its container runtime knows no handler for the runtime class"
    reasons = {
        "UnexpectedAdmissionError": "its kubelet counts devices that nobody holds, or its device plugin refuses them",
        TOO_FAR_APART: "the free devices are on several NUMA nodes, and the kubelet's policy wants one",
        "FailedCreatePodSandBox": "its container runtime could not prepare the pod, its network for one",
    }
    return reasons.get(each.result.reason, "its container runtime could not start the container with the device")


def uuids(record: Mapping[str, Any]) -> list[str]:
    """The devices that a container was given, by the devices probe: MIG devices where there are any, else GPUs."""
    parts = [part["uuid"] for device in record["devices"] for part in device.get("mig") or ()]
    return parts or [device["uuid"] for device in record["devices"]]


def profiles(record: Mapping[str, Any]) -> list[str]:
    """The profiles of the MIG devices that a container was given."""
    return [str(part.get("profile")) for device in record["devices"] for part in device.get("mig") or ()]


def product_label(name: str) -> str:
    """A product's name as GPU Feature Discovery writes it into a label: Tesla T4 becomes Tesla-T4."""
    return "-".join(_NOT_IN_LABELS.sub("", name).split())


def memory_agrees(found_mib: int | None, declared_mib: int) -> bool:
    """Whether a GPU has about the declared memory; any is right where none is declared, or the driver names none."""
    if found_mib is None or not declared_mib:
        return True
    return abs(found_mib - declared_mib) <= _MEMORY_TOLERANCE * declared_mib
