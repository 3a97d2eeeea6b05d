"""A borrowed node with fake GPUs: idle and tainted, so that its GPUs can run out without a real pod losing one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypedDict, Unpack

from msgspec.structs import replace

from conformance.facts import Node
from conformance.lab import LabJob, LabPod, LabPods, RequirementLab
from conformance.lab.workloads import workload_object
from conformance.subjects import ObjectReference

# Preemption, eviction and drain mark a pod with this condition; a Job with this rule then does not count a failure.
_DISRUPTIONS_DO_NOT_COUNT = {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}

# Seconds after which the Job controller replaces a pod, whatever made the pod end
# (kubernetes: pkg/controller/job/job_controller.go, DefaultJobPodFailureBackOff).
JOB_BACKOFF = 10


class FillOptions(TypedDict, total=False):
    """Options of the pods that fill a node; see PodOptions of the lab."""

    priority: str
    labels: Mapping[str, str]
    grace_seconds: int
    stop_seconds: int
    held: bool


class FakeGpuNode:
    """A borrowed node; its pods request the fake GPU resource of this run, which no other node or pod has."""

    def __init__(self, lab: RequirementLab, node: Node, gpus: int) -> None:
        self.node = node
        self.resource = lab.fake_gpus(node, gpus)
        self._lab = lab

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return self.node.subject

    def __str__(self) -> str:
        return str(self.node)

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

    def filled(self, count: int | None = None, **options: Unpack[FillOptions]) -> LabPods:
        """Running pods of one GPU each, as many as fit, or ``count`` of them."""
        return self._lab.fill(self.node, gpus_each=1, count=count, resource=self.resource, **options)

    def pod(self, gpus: int = 1, *, priority: str, or_on: "FakeGpuNode | None" = None, gated: bool = False) -> LabPod:
        """A pod that requests GPUs of this node (or of another)."""
        nodes = [self.node, or_on.node] if or_on else [self.node]
        return self._lab.pod(
            gpus=gpus, resource=self.resource, priority=priority, on=nodes, tolerates=nodes, gated=gated
        )

    @contextmanager
    def retrying_job(self, *, priority: str) -> Iterator[LabJob]:
        """A Job of one such pod that does not count disruptions as failures. Deleted when the block ends."""
        pattern = self.pod(priority=priority, gated=True).created
        ungated = {key: value for key, value in pattern["spec"].items() if key != "schedulingGates"}
        job = workload_object(
            "Job",
            pattern["metadata"]["namespace"],
            "retried",
            {"spec": {**ungated, "restartPolicy": "Never"}},
            self._lab.labels,
            # Two, because a pod that exits with 0 on SIGTERM counts as completed, preempted or not.
            completions=2,
            parallelism=1,
            backoffLimit=0,
            podFailurePolicy=_DISRUPTIONS_DO_NOT_COUNT,
        )
        timeouts = replace(self._lab.timeouts, running=self._lab.timeouts.running + JOB_BACKOFF)
        running = LabJob(self._lab.client, timeouts, self._lab.apply(job))
        try:
            yield running
        finally:
            running.delete()
