"""Probes on every GPU node: the devices they request, their results, and the nodes that could not be judged."""

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
# The messages of containerd and CRI-O for a RuntimeClass whose handler they do not have.
_NO_HANDLER = ("no runtime for", "runtime handler")
# As GPU Feature Discovery makes a label value of a name (k8s-device-plugin: internal/lm/resource.go).
_NOT_IN_LABELS = re.compile(r"[^A-Za-z0-9\-_. ]")

# Nodes by the resource that is requested there, and how many devices of it.
_Groups: TypeAlias = dict[tuple[str, Literal[1, "free"]], list[GpuPoolNode]]


class Observed(NamedTuple):
    """What a probe observed on one node with devices of one resource (with none, where it is empty).

    ``kept_apart`` are free devices that the kubelet would not allocate together with these.
    """

    pool: Pool
    node: Node
    gpu: Gpu
    resource: str
    result: ProbeResult
    kept_apart: int = 0

    @property
    def subject(self) -> ObjectReference:
        """The node, and where it offers several resources the requested one."""
        usual = self.resource in ("", self.gpu.resource)
        return self.node.subject if usual else self.node.subject.only(self.resource)

    @property
    def shared(self) -> bool:
        """Whether several pods may get the same device. A pool does not declare which of its MIG devices are shared."""
        return bool(self.resource) and self.gpu.replicas > 1

    @property
    def profile(self) -> ProfileName | None:
        """The MIG profile that the resource stands for; None for others."""
        return ProfileName.from_resource(self.resource)

    @property
    def inspect(self) -> str:
        """The command that shows the node's allocatable devices and the pods that hold them."""
        return f"kubectl describe node {self.node.name}"


def offered_resources(reference: Reference, pool: Pool) -> dict[str, int]:
    """The resources that a node of a pool must offer, by name; empty where DRA allocates them or they are unknown."""
    return {name: count for name, count in (offer_of(reference, pool).resources or {}).items() if count}


def request_devices(
    lab: RequirementLab,
    reference: Reference,
    nodes: Sequence[GpuPoolNode],
    probe: str,
    *,
    gpus: Literal[1, "free"] = 1,
) -> tuple[Observed, ...]:
    """Run a probe on every node, once for each declared resource; of a shared one it requests one replica.

    Raises NotApplicable where no pool offers devices as resources.
    """
    groups = _by_resource(reference, nodes, gpus)
    observed = _observed(groups, lab.run_programs(_programs(groups, probe)))
    return _request_fewer(lab, observed, probe)


@contextmanager
def holding_devices(
    lab: RequirementLab, reference: Reference, nodes: Sequence[GpuPoolNode]
) -> Iterator[tuple[Observed, ...]]:
    """Hold one device of each resource on every node while the block runs, and yield which."""
    groups = _by_resource(reference, nodes, 1)
    with lab.held_programs(_programs(groups, "devices")) as results:
        yield _observed(groups, results)


def request_again(lab: RequirementLab, before: Sequence[Observed]) -> tuple[Observed, ...]:
    """Run the devices probe once more, on each node with as many devices as its pod had before."""
    return _request_once_more(lab, before, "devices", lambda each: each.result.devices)


def _request_fewer(lab: RequirementLab, observed: tuple[Observed, ...], probe: str) -> tuple[Observed, ...]:
    """Request half as many devices again where the kubelet allocates only devices of one NUMA node together.

    Its topology manager refuses the pod then, with the policy single-numa-node (kubernetes.io: Control Topology
    Management Policies on a Node).
    """
    while apart := [each for each in observed if each.result.reason == TOO_FAR_APART and each.result.devices > 1]:
        again = {
            (each.node.name, each.resource): each
            for each in _request_once_more(lab, apart, probe, lambda each: each.result.devices // 2)
        }
        for each in apart:
            got = again[each.node.name, each.resource]
            left = each.kept_apart + each.result.devices - got.result.devices
            again[each.node.name, each.resource] = got._replace(kept_apart=left)
        observed = tuple(again.get((each.node.name, each.resource), each) for each in observed)
    return observed


def _request_once_more(
    lab: RequirementLab, before: Sequence[Observed], probe: str, devices: Callable[[Observed], int]
) -> tuple[Observed, ...]:
    groups: dict[str, list[Observed]] = defaultdict(list)
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
    """The nodes by what is requested there."""
    groups: _Groups = defaultdict(list)
    for each in nodes:
        for resource in offered_resources(reference, each.pool):
            groups[resource, 1 if each.gpu.replicas > 1 else gpus].append(each)
    if not groups:
        raise NotApplicable(f"no GPU pool of {reference} offers devices as extended resources; DRA has its own profile")
    return groups


def _programs(groups: _Groups, probe: str) -> list[Program]:
    return [
        Program([each.node for each in members], probe, {"gpus": asked, "resource": resource})
        for (resource, asked), members in groups.items()
    ]


def _observed(groups: _Groups, results: Sequence[Mapping[str, ProbeResult]]) -> tuple[Observed, ...]:
    return tuple(
        Observed(*each, resource, found[each.node.name])
        for ((resource, _), members), found in zip(groups.items(), results, strict=True)
        for each in members
    )


def request_no_devices(
    lab: RequirementLab, nodes: Sequence[GpuPoolNode], **options: Unpack[ProbeOptions]
) -> tuple[Observed, ...]:
    """Run the isolation probe on every node without a request for any device."""
    [observed] = request_no_devices_in_variants(lab, nodes, [options])
    return observed


def request_no_devices_in_variants(
    lab: RequirementLab, nodes: Sequence[GpuPoolNode], ways: Sequence[ProbeOptions]
) -> list[tuple[Observed, ...]]:
    """The same with several sets of options at the same time."""
    asked = [Program([each.node for each in nodes], "isolation", {**way, "gpus": 0}) for way in ways]
    return [tuple(Observed(*each, "", found[each.node.name]) for each in nodes) for found in lab.run_programs(asked)]


def judge_each(
    observed: Iterable[Observed],
    judge: Judge,
    of: Callable[[Observed, dict[str, Any]], None],
    *,
    blame: "Callable[[ProbeResult], bool] | None" = None,
    when_refused: "Callable[[Observed, Judge], None] | None" = None,
) -> None:
    """Judge by ``of`` each node whose probe ran, by ``when_refused`` each that is to ``blame`` where it did not run.

    By default a node fails that did not run the pod bound to it. ``of`` raises Inconclusive where the record is not
    enough. The other nodes are reported as not judged.
    """
    for each in observed:
        reason = _judged(each, judge, of, blame or is_the_nodes_fault, when_refused or refused)
        if reason:
            judge.pass_over(each.subject, reason)


def _judged(
    each: Observed,
    judge: Judge,
    of: Callable[[Observed, dict[str, Any]], None],
    blame: Callable[[ProbeResult], bool],
    when_refused: Callable[[Observed, Judge], None],
) -> str:
    """Judge one node; the reason why it could not be judged, empty when it was."""
    if not each.result.failure:
        try:
            of(each, each.result.found)
        except Inconclusive as error:
            return str(error)
        return ""
    if blame(each.result):
        when_refused(each, judge)
        return ""
    return each.result.failure


def no_node(result: ProbeResult) -> bool:
    """Blame no node for a pod that did not run, where another requirement already does."""
    del result
    return False


def got_no_library(result: ProbeResult) -> bool:
    """Whether the container ran and its probe found no library of the driver."""
    return bool((result.record or {}).get("missing"))


def is_the_nodes_fault(result: ProbeResult) -> bool:
    """Whether a node did not run the pod bound to it, or gave it no driver library; no image causes these."""
    return got_no_library(result) or (result.placed and result.reason in _REFUSALS)


def knows_no_handler(result: ProbeResult) -> bool:
    """Whether a pod with a runtime class could not run because the node's runtime has no handler for the class."""
    return result.reason == "FailedCreatePodSandBox" and any(message in result.failure for message in _NO_HANDLER)


def refused(each: Observed, judge: Judge) -> None:
    """Judge a node that did not run the pod bound to it."""
    judge(
        each.subject,
        ok=False,
        expected="a running pod with the devices it requests",
        actual=f"{each.result.reason or each.result.phase}: {each.result.failure}",
        cause=_why_refused(each),
        hidden_because="the node is Ready and offers the device; only a pod that is scheduled there is refused",
        inspect=each.inspect,
    )


def _why_refused(each: Observed) -> str:
    if got_no_library(each.result):
        return f"the container on {each.node.name} did not get the driver's libraries"
    if knows_no_handler(each.result):
        return "its container runtime has no handler for the runtime class"
    reasons = {
        "UnexpectedAdmissionError": "its kubelet counts devices no pod holds, or its device plugin refuses them",
        TOO_FAR_APART: "the free devices are on several NUMA nodes, and the kubelet's topology policy wants one",
        "FailedCreatePodSandBox": "its container runtime could not create the pod sandbox, for example its network",
    }
    return reasons.get(each.result.reason, "its container runtime could not start the container with the device")


def uuids(record: Mapping[str, Any]) -> list[str]:
    """The UUIDs of a container's devices, by the devices probe: MIG devices where there are any, else GPUs."""
    mig_devices = [each["uuid"] for device in record["devices"] for each in device.get("mig") or ()]
    return mig_devices or [device["uuid"] for device in record["devices"]]


def profiles(record: Mapping[str, Any]) -> list[str]:
    """The profiles of a container's MIG devices."""
    return [str(each.get("profile")) for device in record["devices"] for each in device.get("mig") or ()]


def product_label(name: str) -> str:
    """A product's name as GPU Feature Discovery writes it into a label: Tesla T4 becomes Tesla-T4."""
    return "-".join(_NOT_IN_LABELS.sub("", name).split())
