"""Why the pods of a workload do not run, or why it has none."""

from conformance.explaining.explanation import Explanation, Stage
from conformance.explaining.pods import explain
from conformance.explaining.seen import Seen, has_condition
from conformance.gpu.placement import Manifest, explain_refusal

_WELL = (Stage.RUNNING, Stage.FINISHED)


def explain_workload(seen: Seen, workload: Manifest) -> list[Explanation]:
    """One explanation for each pod that does not run, or one for the workload when it has too few of them."""
    pods = seen.pods_of(workload)
    told = [explain(seen, pod) for pod in pods]
    troubled = [each for each in told if each.stage not in _WELL]
    missing = _wanted(workload) - len(pods)
    refused = (
        [_without_pods(seen, workload, missing)]
        if missing > 0 and not has_condition(workload, "Complete", "Failed")
        else []
    )
    return refused + troubled or told or refused


def _wanted(workload: Manifest) -> int:
    spec, kind = workload.get("spec") or {}, workload.get("kind")
    if kind == "DaemonSet":
        return int((workload.get("status") or {}).get("desiredNumberScheduled") or 0)
    if kind == "Job":
        return int(spec.get("parallelism", 1))
    return int(spec.get("replicas", 1))


def _without_pods(seen: Seen, workload: Manifest, missing: int) -> Explanation:
    kind, name, namespace = workload["kind"], workload["metadata"]["name"], workload["metadata"].get("namespace")
    subject, inspect = f"{kind.lower()} {namespace}/{name}", f"kubectl describe {kind.lower()} {name} -n {namespace}"
    spec = workload.get("spec") or {}
    if spec.get("suspend"):
        return Explanation(
            subject=subject,
            stage=Stage.QUEUED,
            cause="it is suspended (spec.suspend), so that no pod is made",
            remedy="A queue such as Kueue resumes it when its quota allows; without one somebody suspended it by hand.",
            inspect=inspect,
        )
    template = {"metadata": {}, "spec": {}, **(spec.get("template") or {})}
    quotas = [each for each in seen.of("ResourceQuota") if each["metadata"].get("namespace") == namespace]
    refusal = explain_refusal(template, str(namespace), quotas)
    if refusal:
        return Explanation(
            subject=subject,
            stage=Stage.REFUSED,
            cause=f"{missing} of its pods are not made: {refusal}",
            remedy="End what uses the quota, ask for less, or have the quota raised by whoever owns it.",
            inspect=inspect,
        )
    unread = f" ({'; '.join(f'{kind}: {why}' for kind, why in seen.unreadable.items())})" if seen.unreadable else ""
    return Explanation(
        subject=subject,
        stage=Stage.REFUSED,
        cause=f"{missing} of its pods are not there, and no quota that could be read explains it{unread}",
        remedy="Its events (FailedCreate) have the words of the admission that refuses them: a policy, Pod Security, a "
        "LimitRange, a missing service account or priority class.",
        inspect=inspect,
    )
