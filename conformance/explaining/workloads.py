"""Why the pods of a workload do not run, or why it has none."""

from conformance.explaining import queues, refusals, scheduling
from conformance.explaining.explanation import Explanation, Stage
from conformance.explaining.pods import explain
from conformance.explaining.seen import Seen, condition, has_condition
from conformance.facts.workloads import OWN_JOB_CONTROLLER
from conformance.gpu.placement import AFFINITY, Manifest

_WELL = (Stage.RUNNING, Stage.FINISHED)
# kubernetes/pkg/controller/daemon/util/daemonset_util.go, AddOrUpdateDaemonPodTolerations.
_OF_DAEMONS = (
    "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable", "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/memory-pressure", "node.kubernetes.io/pid-pressure", "node.kubernetes.io/unschedulable",
)  # fmt: skip
_SCALED = "Scale it up to have pods; where an autoscaler (HPA, KEDA) scales it, that says why it does not."


def explain_workload(seen: Seen, workload: Manifest) -> list[Explanation]:
    """One explanation for each pod that does not run, or one for the workload when it has too few of them."""
    pods = seen.pods_of(workload)
    told = [explain(seen, pod) for pod in pods]
    troubled = [each for each in told if each.stage not in _WELL]
    missing = missing_pods(seen, workload)
    if missing > 0 and not has_condition(workload, "Complete", "Failed") and not (troubled and _in_order(workload)):
        return [_without_pods(seen, workload, missing), *troubled]
    gone = min(_counted(workload), _wanted(workload)) - len(pods)
    if gone > 0 and not pods and (left := _left_to_another(workload))[0]:
        return [
            _told(workload, Stage.RUNNING, f"its status counts {gone} pods, none of which is here: {left[0]}", left[1])
        ]
    if gone > 0 and not troubled:
        return [_no_longer_there(workload, gone)]
    return troubled or told or [_nothing_wanted(seen, workload)]


def missing_pods(seen: Seen, workload: Manifest) -> int:
    """How many pods a workload wants that were not made: they are not there, and its status does not count them."""
    return _wanted(workload) - max(len(seen.pods_of(workload)), _counted(workload))


def _counted(workload: Manifest) -> int:
    """How many pods its controller has counted."""
    members = {"DaemonSet": "currentNumberScheduled", "Job": "active"}
    return int((workload.get("status") or {}).get(members.get(str(workload.get("kind")), "replicas")) or 0)


def _no_longer_there(workload: Manifest, gone: int) -> Explanation:
    return _told(
        workload,
        Stage.DELETING,
        f"its status counts {gone} pods that are not among those that were read: they were deleted meanwhile, or not "
        "all pods were read",
        "Look again in a minute: its controller counts anew and makes others.",
    )


def _wanted(workload: Manifest) -> int:
    spec, kind = workload.get("spec") or {}, workload.get("kind")
    if kind == "DaemonSet":
        return int((workload.get("status") or {}).get("desiredNumberScheduled") or 0)
    if kind == "Job":
        parallel, completions = int(spec.get("parallelism", 1)), spec.get("completions")
        succeeded = int((workload.get("status") or {}).get("succeeded") or 0)
        return parallel if completions is None else min(parallel, max(0, int(completions) - succeeded))
    return int(spec.get("replicas", 1))


def _in_order(workload: Manifest) -> bool:
    """Whether the next pod is made only when the one before it is ready."""
    policy = (workload.get("spec") or {}).get("podManagementPolicy") or "OrderedReady"
    return workload["kind"] == "StatefulSet" and policy == "OrderedReady"


def _told(workload: Manifest, stage: Stage, cause: str, remedy: str = "") -> Explanation:
    kind, name, namespace = workload["kind"].lower(), workload["metadata"]["name"], workload["metadata"]["namespace"]
    inspect = f"kubectl describe {kind} {name} -n {namespace}"
    return Explanation(subject=f"{kind} {namespace}/{name}", stage=stage, cause=cause, remedy=remedy, inspect=inspect)


def _template(workload: Manifest) -> Manifest:
    return {"metadata": {}, "spec": {}, **((workload.get("spec") or {}).get("template") or {})}


def _without_pods(seen: Seen, workload: Manifest, missing: int) -> Explanation:
    if (workload.get("spec") or {}).get("suspend"):
        cause, remedy = queues.suspended(seen, workload)
        return _told(workload, Stage.QUEUED, cause, remedy)
    left = _left_alone(workload)
    if left[0]:
        return _told(workload, Stage.QUEUED, *left)
    words, remedy = refusals.spoken(seen, workload)
    if not words:
        words, remedy = refusals.computed(seen, _template(workload), str(workload["metadata"]["namespace"]))
    if words:
        return _told(workload, Stage.REFUSED, f"{missing} of its pods are not made: {words}", remedy)
    # A Job has no status before it has had a pod.
    if workload.get("kind") != "Job" and not workload.get("status"):
        return _told(
            workload,
            Stage.REFUSED,
            f"{missing} of its pods are not there, and its status is empty: no controller has looked at it",
            "See whether kube-controller-manager runs, and whether the object is younger than a few seconds.",
        )
    unread = "; ".join(f"{kind}: {why}" for kind, why in seen.unreadable.items() if kind in ("Event", "ResourceQuota"))
    return _told(
        workload,
        Stage.REFUSED,
        f"{missing} of its pods are not there, and nothing that could be read explains it{unread and f' ({unread})'}",
        "Its events (FailedCreate) have the words of the admission that refuses them: a policy, Pod Security, a "
        "LimitRange, a missing service account or priority class. If it has none, its controller may not run.",
    )


def _left_alone(workload: Manifest) -> tuple[str, str]:
    """Why Kubernetes' own controller makes no pods of it, and what to do; empty where it is to.

    Sources: kubernetes.io, Jobs (managedBy) and Deployments (paused).
    """
    spec, left = workload.get("spec") or {}, _left_to_another(workload)
    if left[0]:
        return left
    if spec.get("paused"):
        return (
            "it is paused (spec.paused), so that no new pods are made of it",
            "kubectl rollout resume, when whoever paused it has ended.",
        )
    return "", ""


def _left_to_another(workload: Manifest) -> tuple[str, str]:
    spec = workload.get("spec") or {}
    manager = str(spec.get("managedBy") or OWN_JOB_CONTROLLER)
    if manager != OWN_JOB_CONTROLLER:
        return (
            f"it is left to another controller (spec.managedBy: {manager}), and Kubernetes' own makes no pods of it",
            f"See what {manager} says of it: with MultiKueue its pods are in another cluster.",
        )
    return "", ""


def _selects_no_node(explained: Explanation) -> bool:
    return bool(explained.groups) and all(AFFINITY in group.kinds for group in explained.groups)


def _nothing_wanted(seen: Seen, workload: Manifest) -> Explanation:
    """A workload that has no pods and wants none."""
    for kind in ("Failed", "Complete"):
        if has_condition(workload, kind):
            found = condition(workload, kind)
            why = f" ({found.get('reason')}: {found.get('message') or 'no message'})" if found.get("reason") else ""
            remedy = "Its pods are gone; their logs are where logs are kept." if kind == "Failed" else ""
            return _told(workload, Stage.FINISHED, f"it has ended: {kind}{why}", remedy)
    if workload["kind"] != "DaemonSet":
        return _told(workload, Stage.FINISHED, "it is scaled to 0 pods (spec.replicas)", _SCALED)
    template = _template(workload)
    tolerations = [{"key": key, "operator": "Exists"} for key in _OF_DAEMONS]
    spec = template["spec"] | {"tolerations": [*(template["spec"].get("tolerations") or ()), *tolerations]}
    metadata = {**template["metadata"], "name": workload["metadata"]["name"]}
    found_none = scheduling.explain(
        seen, {"metadata": metadata | {"namespace": workload["metadata"]["namespace"]}, "spec": spec}
    )
    if _selects_no_node(found_none):
        cause = f"it wants no pods: {found_none.cause}"
        return _told(workload, Stage.FINISHED, cause, "This is right where no node is meant to have what it is for.")
    if found_none.stage is not Stage.UNSCHEDULABLE:
        return _told(
            workload, Stage.FINISHED, "it wants no pods now, though its pods would fit: look again in a minute"
        )
    return Explanation(
        subject=f"daemonset {workload['metadata']['namespace']}/{workload['metadata']['name']}",
        stage=Stage.UNSCHEDULABLE,
        cause=f"it wants no pod on any node, which looks healthy and is not: {found_none.cause}",
        remedy=found_none.remedy,
        nearest=found_none.nearest,
        missing=found_none.missing,
        groups=found_none.groups,
    )
