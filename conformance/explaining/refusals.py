"""Why pods are not made: the words of the admission that refused them, and what can be computed without any.

Sources: kubernetes/plugin/pkg/admission (resourcequota, limitranger, podsecurity, priority, serviceaccount,
runtimeclass), apiserver/pkg/admission/plugin/webhook.
"""

import re

from conformance.explaining import bounds
from conformance.explaining.seen import Seen, condition
from conformance.gpu.placement import Manifest, explain_refusal

_KINDS = (
    (r"exceeded quota", "End what uses the quota, ask for less, or have the quota raised by whoever owns it."),
    (
        r"insufficient quota to match these scopes",
        "The API server limits that priority class: a ResourceQuota whose scopeSelector has it lets pods of it into "
        "this namespace.",
    ),
    (r"failed quota.*must specify", "State what the quota counts in every container, or let a LimitRange default it."),
    (
        r"violates PodSecurity",
        "Correct the pod's securityContext. Only namespaces of the GPU stack itself need the level privileged.",
    ),
    (
        r"(?:maximum|minimum) .* usage per|must be (?:less than or equal to|greater than or equal to)|limit to request",
        "A LimitRange of the namespace forbids these amounts: ask for what it allows.",
    ),
    (r"no PriorityClass with name", "Make the PriorityClass, or name one that there is."),
    (r"serviceaccount .* not found|service account .* was not found", "Make the service account, or name another."),
    (r"RuntimeClass .* not found", "Install the GPU stack's RuntimeClass, or leave runtimeClassName out."),
    (r"failed calling webhook", "The webhook does not answer: see whether its pods run. Until then it stops all."),
    (r"admission webhook .* denied", "Whoever owns the webhook says what it wants."),
    (r"ValidatingAdmissionPolicy", "The policy says what it wants of pods."),
)  # fmt: skip
_SPEAKS = re.compile(r"FailedDaemonPod|Fail\w*Create|CreationFailed")
"""FailedCreate of Kubernetes' own controllers, FailedCreatePod, FailedToCreateWorkerPod and their kin of others."""


def spoken(seen: Seen, workload: Manifest) -> tuple[str, str]:
    """The newest words of an admission about a workload's pods, and what to do; both empty where nothing was said."""
    owners = (workload, *(each for each in seen.made_by(workload) if each.get("kind") != "Pod"))
    told = [str(each.get("message")) for each in seen.warnings_of(*owners) if _SPEAKS.search(str(each.get("reason")))]
    failures = [condition(owner, "ReplicaFailure") for owner in owners]
    told += [str(each.get("message")) for each in failures if each.get("status") == "True"]
    if not told:
        return "", ""
    words = told[0].partition("rror creating: ")[2] or told[0].partition("failed error: ")[2] or told[0]
    found = (remedy for pattern, remedy in _KINDS if re.search(pattern, words, re.IGNORECASE))
    return words, next(found, "The words are those of the admission that refuses its pods.")


def computed(seen: Seen, template: Manifest, namespace: str) -> tuple[str, str]:
    """What would refuse pods of a template, from objects alone; both empty where nothing is known to."""
    quotas = bounds.quotas_that_count(template, seen.within("ResourceQuota", namespace), _default_class(seen))
    refusal = explain_refusal(template, namespace, quotas)
    if refusal:
        return refusal, _KINDS[0][1]
    limited = bounds.limit_refusal(template, seen.within("LimitRange", namespace))
    if limited:
        return limited, "Ask for what the limit range allows, or have it changed by whoever owns the namespace."
    spec = template["spec"]
    for member, kind in (("priorityClassName", "PriorityClass"), ("runtimeClassName", "RuntimeClass")):
        name = spec.get(member)
        if name and kind in seen.objects and seen.find(kind, "", str(name)) is None and not name.startswith("system-"):
            return f"they name the {kind} {name}, there is none", f"Make the {kind}, or name one that there is."
    return "", ""


def _default_class(seen: Seen) -> str:
    """The priority class of pods that name none."""
    return next((str(each["metadata"]["name"]) for each in seen.of("PriorityClass") if each.get("globalDefault")), "")
