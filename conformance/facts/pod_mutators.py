"""What changes pods on their way into a cluster: MutatingWebhookConfigurations and MutatingAdmissionPolicies.

Each covers the creation of some pods: by its rules, by the labels of their namespace, by their own labels. What a
webhook does no object says; a policy says it in CEL, and which members of a pod its text names is looked up there.
Conditions in CEL (matchConditions) are not evaluated: they are taken to hold.
kubernetes.io: Dynamic Admission Control; Mutating Admission Policy (admissionregistration.k8s.io/v1, since 1.36).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from conformance.facts.resources import Resource
from conformance.gpu.affinity import selector_matches
from conformance.gpu.labels import NAMESPACE_NAME
from conformance.gpu.written import mapping, mappings

Labels = Mapping[str, str]

_MEMBERS: Mapping[str, tuple[str, ...]] = {
    "tolerations": ("tolerations",),
    "nodeSelector": ("node_selector",),
    "affinity": ("affinity",),
    "runtimeClassName": ("runtime_class",),
    "priorityClassName": ("priority_class",),
    "schedulerName": ("scheduler",),
    "containers": ("containers", "init_containers", "volumes"),
    "initContainers": ("containers", "init_containers", "volumes"),
    "volumes": ("containers", "init_containers", "volumes"),
}
ANY = frozenset(member for members in _MEMBERS.values() for member in members)
"""The members of a PodSpec that admission is known to change."""

_NAMED = re.compile(rf"\b({'|'.join(_MEMBERS)})\b")

# Webhooks by name that cover pods in most clusters and add credentials, sidecars or requests, never what decides where
# a pod may run: aws/amazon-eks-pod-identity-webhook (the second name is its own, the first that of EKS) and
# aws/amazon-vpc-resource-controller-k8s, Azure/azure-workload-identity, istio/istio, linkerd/linkerd2,
# hashicorp/vault-k8s, kubernetes/autoscaler (vertical-pod-autoscaler).
_WITHOUT_PLACEMENT = re.compile(
    r"""(?x)
    iam-for-pods\.amazonaws\.com | pod-identity-webhook\.amazonaws\.com | mpod\.vpc\.k8s\.aws
    | mutation\.azure-workload-identity\.io
    | .*\bsidecar-injector\.istio\.io
    | .*\.linkerd\.io
    | vault\.hashicorp\.com
    | vpa\.k8s\.io
    """
)


class PodMutator(NamedTuple):
    """One webhook or policy. ``scopes`` are parts of which each has to cover a pod that it changes, in ``members``."""

    name: str
    scopes: tuple[Mapping[str, Any], ...]
    members: frozenset[str]

    def covers(self, namespace: str, of_namespace: Labels, of_pod: Labels) -> bool:
        """Whether it changes a pod with these labels that is created in a namespace with those."""
        there = {**of_namespace, NAMESPACE_NAME: namespace}
        return all(_covers(scope, there, of_pod) for scope in self.scopes)


def of_webhooks(configurations: Iterable[Resource]) -> Iterator[PodMutator]:
    """The webhooks of MutatingWebhookConfigurations that may change where pods run."""
    for configuration in configurations:
        for webhook in mappings(configuration.body.get("webhooks")):
            name = str(webhook.get("name") or "")
            # A webhook without rules is called for nothing; of a policy the binding may leave them out.
            if webhook.get("rules") and not _WITHOUT_PLACEMENT.fullmatch(name):
                yield PodMutator(f"{configuration} ({name})", ({**webhook, "resourceRules": webhook["rules"]},), ANY)


def of_policies(policies: Iterable[Resource], bindings: Iterable[Resource]) -> Iterator[PodMutator]:
    """The MutatingAdmissionPolicies that may change where pods run, once for each binding; unbound they do nothing."""
    every = {each.name: each for each in policies}
    for binding in bindings:
        policy = every.get(str(binding.spec.get("policyName")))
        constraints = mapping(policy.spec.get("matchConstraints")) if policy else {}
        if policy is None or not constraints.get("resourceRules"):
            continue
        if members := frozenset(_members_named(policy.spec)):
            yield PodMutator(str(policy), (constraints, mapping(binding.spec.get("matchResources"))), members)


def _members_named(spec: Mapping[str, Any]) -> Iterator[str]:
    """The members of a pod that the CEL of a policy's mutations names."""
    variables = [each.get("expression") for each in mappings(spec.get("variables"))]
    for mutation in mappings(spec.get("mutations")):
        parts = (mapping(mutation.get(name)).get("expression") for name in ("applyConfiguration", "jsonPatch"))
        for text in (*parts, *variables):
            for named in _NAMED.findall(str(text or "")):
                yield from _MEMBERS[named]


def _covers(scope: Mapping[str, Any], of_namespace: Labels, of_pod: Labels) -> bool:
    rules, excluded = mappings(scope.get("resourceRules")), mappings(scope.get("excludeResourceRules"))
    return (
        (not rules or any(_is_about_new_pods(each) for each in rules))
        and not any(_is_about_new_pods(each) for each in excluded)
        and _selects(scope.get("namespaceSelector"), of_namespace)
        and _selects(scope.get("objectSelector"), of_pod)
    )


def _is_about_new_pods(rule: Mapping[str, Any]) -> bool:
    """Whether a rule is about every pod that is created (kubernetes: RuleWithOperations; pods/* are subresources)."""
    return (
        _has(rule.get("operations"), "CREATE", "*")
        and _has(rule.get("apiGroups"), "", "*")
        and _has(rule.get("apiVersions"), "v1", "*")
        and _has(rule.get("resources"), "pods", "*", "*/*")
        and rule.get("scope") != "Cluster"
        and not rule.get("resourceNames")
    )


def _has(said: Any, *wanted: str) -> bool:
    return isinstance(said, list) and any(each in said for each in wanted)


def _selects(selector: Any, labels: Labels) -> bool:
    """As admission takes it, to which a selector that is left out selects everything."""
    return not isinstance(selector, dict) or selector_matches(selector, labels)
