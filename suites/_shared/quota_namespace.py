"""Requests for GPUs in namespaces with a quota: pods that are admitted or refused, and never start."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from conformance.kube.errors import WaitTimeout
from conformance.kube.waits import wait_for
from conformance.lab import Answer, LabQuota, Rejected, RequirementLab
from conformance.lab.podspec import Asked, pod_spec
from conformance.reference.model import Quota, Reference, Team
from conformance.verdict import Inconclusive, NotApplicable, expect, format_value
from suites._shared.gpu_requests import names_gpus

ADMITTED = "admitted"
REFUSED = "refused by the quota"
# Messages of the admission plugins ResourceQuota and LimitRanger (kubernetes: apiserver/pkg/admission/plugin/
# resourcequota/controller.go, plugin/pkg/admission/limitranger/admission.go). A policy or webhook may refuse as well,
# with the same 403.
BY_QUOTA, BY_LIMIT_RANGE = "exceeded quota", "usage per Pod is"

_PREFIXES = ("requests.", "limits.")
_LITTLE = {"cpu": "1m", "memory": "1Mi"}


class GpuKey(NamedTuple):
    """A key of a quota that means GPUs, whether or not Kubernetes counts it."""

    key: str
    resource: str

    @property
    def counts(self) -> bool:
        """Whether it is spelled in the one way that Kubernetes counts."""
        return self.key == f"requests.{self.resource}"


def gpu_keys(hard: Mapping[str, str], reference: Reference) -> list[GpuKey]:
    """The keys of a quota that mean GPUs, in whatever spelling."""
    keys = [GpuKey(key, _bare(key)) for key in sorted(hard)]
    return [each for each in keys if names_gpus(each.resource, reference)]


def declared_gpu_quotas(reference: Reference) -> tuple[tuple[Team, Quota], ...]:
    """The declared quotas that limit GPUs, with their teams. Raises NotApplicable when there are none."""
    declared = [(team, quota) for team in reference.teams for quota in team.quotas]
    limiting = tuple((team, quota) for team, quota in declared if gpu_keys(quota.hard, reference))
    if not limiting:
        raise NotApplicable(f"no team of {reference} declares a quota of GPUs")
    return limiting


def never_starting(
    amounts: Mapping[str, object], *, image: str, namespace: str, priority: str | None = None
) -> dict[str, Any]:
    """A pod with these requests and a little CPU and memory. It has a scheduling gate, so that it is never scheduled.

    Its image is never pulled, but policies read its name.
    """
    resources = {**_LITTLE, **{name: str(amount) for name, amount in amounts.items()}}
    spec = pod_spec(Asked(resources=resources, priority=priority, gated=True, image=image))
    metadata = {"generateName": "quota-", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def outcome(answer: Answer, by: str = BY_QUOTA) -> str:
    """Whether the API server admitted a pod or the admission plugin whose message has ``by`` refused it."""
    if not isinstance(answer, Rejected):
        return ADMITTED
    return REFUSED if by in answer.message else f"refused with {answer.status}: {answer.message}"


def refused_in_time(lab: RequirementLab, obj: Mapping[str, Any]) -> Answer:
    """The answer to a dry run that a new quota or LimitRange refuses; asked again while the object is admitted.

    An API server knows both from a cache of its own, and admits until that has heard of them, though the quota
    controller has counted; where it looked a moment before they were made, it looks no further for 30 s (kubernetes:
    apiserver/pkg/admission/plugin/resourcequota/resource_access.go, plugin/pkg/admission/limitranger/admission.go).
    """
    return _answered_in_time(lab, obj, refused=True)


def admitted_in_time(lab: RequirementLab, obj: Mapping[str, Any]) -> Answer:
    """The answer to a dry run that a quota leaves room for; asked again while the object is refused.

    The cache of which refused_in_time tells may hold what was used before the quota controller counted anew.
    """
    return _answered_in_time(lab, obj, refused=False)


def _answered_in_time(lab: RequirementLab, obj: Mapping[str, Any], *, refused: bool) -> Answer:
    answers: list[Answer] = []

    def ask() -> Answer:
        answers.append(lab.dry_run(obj))
        return answers[-1]

    with suppress(WaitTimeout):
        wait_for(
            ask,
            lambda found: isinstance(found, Rejected) is refused,
            what="it is refused" if refused else "it is admitted",
            timeout=lab.timeouts.quota_counted,
        )
    return answers[-1]


class QuotaNamespace:
    """A namespace of the scenario's own with one quota."""

    def __init__(
        self, lab: RequirementLab, hard: Mapping[str, object], *, priority_classes: Sequence[str] = ()
    ) -> None:
        self.name = lab.namespace()
        self.quota: LabQuota = lab.quota(self.name, hard, priority_classes=priority_classes)
        self._lab = lab

    def admits(self, amounts: Mapping[str, object], *, because: str, priority: str | None = None) -> None:
        """Expect that a pod with these requests is admitted. From then on the quota counts it."""
        pod = self._pod(amounts, priority)
        answer = admitted_in_time(self._lab, pod)
        if not isinstance(answer, Rejected):
            answer = self._lab.create_or_refusal(pod)
        self._expect(answer, ADMITTED, amounts, because, priority)

    def refuses(self, amounts: Mapping[str, object], *, because: str, priority: str | None = None) -> None:
        """Expect that a pod with these requests is refused."""
        answer = refused_in_time(self._lab, self._pod(amounts, priority))
        self._expect(answer, REFUSED, amounts, because, priority)

    def _expect(
        self, answer: Answer, wanted: str, amounts: Mapping[str, object], because: str, priority: str | None
    ) -> None:
        if outcome(answer) not in (ADMITTED, REFUSED):
            self._others_admit_pods(priority)
        expect(outcome(answer), f"a pod with {format_value(dict(amounts))}").equals(wanted, because=because)

    def _others_admit_pods(self, priority: str | None) -> None:
        """Raise Inconclusive where such a pod is refused whatever it requests: then the quota is not tested."""
        control = self._lab.dry_run(self._pod({}, priority))
        if isinstance(control, Rejected):
            raise Inconclusive(f"a pod without GPU request is not admitted either, {control}")

    def _pod(self, amounts: Mapping[str, object], priority: str | None) -> dict[str, Any]:
        return never_starting(amounts, image=self._lab.pause_image, namespace=self.name, priority=priority)


def _bare(key: str) -> str:
    return next((key.removeprefix(prefix) for prefix in _PREFIXES if key.startswith(prefix)), key)
