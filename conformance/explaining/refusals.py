"""Why pods are not made: the words of the admission that refused them, and what can be computed without any.

Sources: kubernetes/plugin/pkg/admission (resourcequota, limitranger, podsecurity, priority, serviceaccount,
runtimeclass), apiserver/pkg/admission/plugin/webhook; docs.redhat.com (security context constraints), cloud.google.com
(Autopilot security), open-policy-agent/gatekeeper and kyverno/kyverno (how they word a denial).
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
    (
        r"is being terminated",
        "The namespace is being deleted, and nothing new is made in it: use another one, or wait until it has gone and "
        "make it anew.",
    ),
    (r"serviceaccount .* not found|service account .* was not found", "Make the service account, or name another."),
    (r"RuntimeClass .* not found", "Install the GPU stack's RuntimeClass, or leave runtimeClassName out."),
    (
        r"Overhead doesn't match RuntimeClass",
        "Leave overhead out of the template: admission takes it from the RuntimeClass.",
    ),
    (
        r"unable to validate against any security context constraint",
        "OpenShift lets a pod in by the SecurityContextConstraints that its service account may use: ask for what "
        "restricted-v2 allows, or have the account given one that allows it (oc adm policy add-scc-to-user).",
    ),
    (
        r"GKE Warden rejected|\[denied by autogke",
        "GKE Autopilot forbids it: leave it out, use what Autopilot brings itself (drivers, device plugin, DCGM), or a "
        "node pool of a Standard cluster.",
    ),
    (
        r"gatekeeper\.sh\" denied the request: \[(?P<name>[^]]+)\]",
        "Gatekeeper's constraint {name} forbids it: give the pods what it asks for, or have its owner except them.",
    ),
    (
        r"kyverno.* denied the request:.*blocked due to the following policies\s+(?P<name>[\w.-]+):",
        "Kyverno's policy {name} forbids it: give the pods what it asks for, or have its owner except them.",
    ),
    (
        r"limits\[(?P<name>[^]]+/[^]]+)\].*must be an integer",
        "Only whole devices can be asked for: ask for 1 {name}; parts are given by sharing (time-slicing, MPS), MIG or "
        "a scheduler such as KAI.",
    ),
    (r"\" is invalid: spec", "Correct the template: pods of it are not valid as they are."),
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
    return words, _remedy(words)


def _remedy(words: str) -> str:
    """What to do about words of an admission, with the names that they have."""
    for pattern, remedy in _KINDS:
        found = re.search(pattern, words, re.IGNORECASE | re.DOTALL)
        if found:
            return remedy.format(**found.groupdict())
    return "The words are those of the admission that refuses its pods."


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
