"""Why the pods of a workload do not run, also of one of a custom kind: JobSet, PyTorchJob, RayCluster and their kin.

How many pods a custom kind wants is its controller's to know. Its pods are those of what it made, by who owns whom;
what it made and lacks pods is explained as such; where it has made nothing, it is suspended, has ended, was refused
pods, or nobody acts on it. Sources: kubeflow/training-operator (runPolicy.suspend), kubernetes-sigs/jobset and lws,
ray-project/kuberay (suspend, jobDeploymentStatus), volcano-sh/apis (status.state.phase), kubernetes.io, CronJob.
"""

from collections.abc import Iterator
from typing import Any

from conformance.explaining import queues, refusals, volcano, workloads
from conformance.explaining.explanation import Explanation, Stage
from conformance.explaining.pods import explain
from conformance.explaining.seen import CUSTOM_WORKLOADS, WORKLOADS, Seen, condition, has_condition, kind_of, word_for
from conformance.gpu.placement import Manifest

_ENDS = ("Failed", "Succeeded", "Completed", "Complete")
_RAY_ENDS = ("Failed", "Complete")
_VOLCANO_ENDS = ("Failed", "Completed", "Terminated")
_WELL = (Stage.RUNNING, Stage.FINISHED)


def explain_workload(seen: Seen, workload: Manifest) -> list[Explanation]:
    """One explanation for each pod that does not run, or one for the workload when it has too few of them."""
    if kind_of(workload) not in CUSTOM_WORKLOADS:
        return workloads.explain_workload(seen, workload)
    made = seen.made_by(workload)
    pods = [explain(seen, each) for each in made if each["kind"] == "Pod"]
    troubled = [*_lacking(seen, made), *(each for each in pods if each.stage not in _WELL)]
    if troubled:
        return troubled
    words, remedy = refusals.spoken(seen, workload)
    if words and not _end_of(workload):
        return [_told(workload, Stage.REFUSED, f"pods of it are not made: {words}", remedy), *pods]
    return pods or [_without_pods(seen, workload)]


def is_suspended(workload: Manifest) -> bool:
    """Whether a workload is told to have no pods."""
    spec = workload.get("spec") or {}
    return bool(spec.get("suspend") or (spec.get("runPolicy") or {}).get("suspend"))


def pod_templates(workload: Manifest) -> list[Manifest]:
    """The pod templates of a custom kind, wherever they stand in it: each replica type has one, RayClusters more.

    A TrainJob has none of its own and says only what its trainer's pods ask for (resourcesPerNode).
    """
    return list(_templates(workload.get("spec")))


def _templates(value: Any) -> Iterator[Manifest]:
    if isinstance(value, list):
        for each in value:
            yield from _templates(each)
    elif isinstance(value, dict):
        if isinstance(value.get("containers"), list):
            yield {"metadata": {}, "spec": value}
        elif isinstance(value.get("resourcesPerNode"), dict):
            yield {"metadata": {}, "spec": {"containers": [{"name": "node", "resources": value["resourcesPerNode"]}]}}
        else:
            for member in value.values():
                yield from _templates(member)


def _lacking(seen: Seen, made: list[Manifest]) -> list[Explanation]:
    """Workloads of Kubernetes' own kinds among what was made that lack pods."""
    own = [each for each in made if kind_of(each) in WORKLOADS and workloads.missing_pods(seen, each) > 0]
    told = (workloads.explain_workload(seen, each)[0] for each in own)
    return [each for each in told if each.stage not in _WELL and not each.subject.startswith("pod ")]


def _without_pods(seen: Seen, workload: Manifest) -> Explanation:
    end = _end_of(workload)
    if end:
        return _told(workload, Stage.FINISHED, end, "Its pods are gone; their logs are where logs are kept.")
    if is_suspended(workload):
        return _told(workload, Stage.QUEUED, *queues.suspended(seen, workload))
    if kind_of(workload) == "CronJob":
        return _told(workload, Stage.FINISHED, *_between_its_times(workload))
    held = volcano.job_held(seen, workload) if kind_of(workload) == "VolcanoJob" else ("", "")
    if held[0]:
        return _told(workload, Stage.QUEUED, *held)
    warnings = [str(each.get("message")) for each in seen.warnings_of(workload) if each.get("message")]
    said = f"; the newest warning about it: {warnings[0]}" if warnings else _stated(workload)
    return _told(
        workload,
        Stage.REFUSED,
        f"it has no pod, and nothing that could be read was made for it{said}",
        "See whether the controller of its kind runs and what its log says of it.",
    )


def _between_its_times(workload: Manifest) -> tuple[str, str]:
    last = (workload.get("status") or {}).get("lastScheduleTime")
    schedule, before = (workload.get("spec") or {}).get("schedule"), f"the last at {last}" if last else "none yet"
    return (
        f"it has no Job now: it makes one by its schedule ({schedule}), {before}",
        "Wait for its time, or make a Job of it (kubectl create job --from). Jobs that have ended are kept as long as "
        "its history limits say.",
    )


def _end_of(workload: Manifest) -> str:
    status = workload.get("status") or {}
    for kind in _ENDS:
        if has_condition(workload, kind):
            found = condition(workload, kind)
            return f"it has ended: {kind} ({found.get('reason')}: {found.get('message') or 'no message'})"
    state = status.get("state")
    if isinstance(state, dict) and state.get("phase") in _VOLCANO_ENDS:
        return (
            f"it has ended: {state['phase']} ({state.get('message') or state.get('reason') or 'it does not say why'})"
        )
    ray = status.get("jobDeploymentStatus")
    return f"it has ended: {ray} ({status.get('message') or status.get('jobStatus')})" if ray in _RAY_ENDS else ""


def _stated(workload: Manifest) -> str:
    """The newest condition that says something."""
    stated = [each for each in (workload.get("status") or {}).get("conditions") or () if each.get("message")]
    newest = max(stated, key=lambda each: str(each.get("lastTransitionTime") or ""), default=None)
    return f"; its condition {newest.get('type')}={newest.get('status')}: {newest['message']}" if newest else ""


def _told(workload: Manifest, stage: Stage, cause: str, remedy: str = "") -> Explanation:
    kind, name, namespace = word_for(kind_of(workload)), workload["metadata"]["name"], workload["metadata"]["namespace"]
    inspect = f"kubectl describe {kind} {name} -n {namespace}"
    return Explanation(subject=f"{kind} {namespace}/{name}", stage=stage, cause=cause, remedy=remedy, inspect=inspect)
