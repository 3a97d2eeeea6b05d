"""What admission adds to the pods of a workload is read off its pods, and off no others than those of its template."""

from collections.abc import Iterable
from typing import Any

import pytest

from conformance.facts import Facts
from conformance.gpu.taints import Taint, tolerates

ML = {"key": "example.com/reserved", "operator": "Equal", "value": "ml", "effect": "NoSchedule"}
RESERVED = Taint("example.com/reserved", "ml", "NoSchedule")
NOT_READY = {
    "key": "node.kubernetes.io/not-ready",
    "operator": "Exists",
    "effect": "NoExecute",
    "tolerationSeconds": 300,
}
CONTAINER = {"name": "main", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
SHM = {"name": "shm", "emptyDir": {"medium": "Memory"}}
MOUNTING = {**CONTAINER, "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}]}


def workload(kind: str = "StatefulSet", updated: int = 2, **status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1" if kind == "Job" else "apps/v1",
        "kind": kind,
        "metadata": {"name": "llm", "namespace": "ml", "generation": 3},
        "spec": {"replicas": 2, "template": {"spec": {"containers": [CONTAINER], "nodeSelector": {"a": "1"}}}},
        "status": {"updatedReplicas": updated, "observedGeneration": 3, **status},
    }


def pod(name: str, kind: str = "StatefulSet", **spec: Any) -> dict[str, Any]:
    owner = {"kind": kind, "name": "llm", "controller": True}
    given = {"tolerations": [NOT_READY, ML], "runtimeClassName": "nvidia", "priorityClassName": "serving", **spec}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "ml", "ownerReferences": [owner]},
        "spec": {"containers": [CONTAINER], "nodeSelector": {"a": "1", "pool": "gpu"}, **given},
        "status": {"phase": "Running"},
    }


KYVERNO = {"kind": "Namespace", "metadata": {"name": "kyverno"}}


def template_of(*objects: dict[str, Any], mutators: Iterable[dict[str, Any]] = (KYVERNO,)):
    facts = Facts.from_objects([*objects, *mutators])
    return facts.template_of(facts.workloads[0])


def test_what_all_pods_have_beside_the_template_was_added_by_admission():
    found = template_of(workload(), pod("a"), pod("b"))

    assert tolerates(found.tolerations, RESERVED)
    assert (found.runtime_class, found.priority_class) == ("nvidia", "serving")
    assert found.node_selector == {"a": "1", "pool": "gpu"}
    # The admission plugin DefaultTolerationSeconds gives it to every pod, and it is about no lasting taint.
    assert len(found.tolerations) == 1


def test_volumes_that_admission_adds_are_there():
    mounted = {"containers": [MOUNTING], "volumes": [SHM]}

    (container,) = template_of(workload(), pod("a", **mounted), pod("b", **mounted)).containers

    assert any(mount.path == "/dev/shm" for mount in container.mounts)


@pytest.mark.parametrize(
    "outdated",
    [workload(updated=1), workload(updated=0), workload(observedGeneration=2)],
    ids=["under way", "not begun", "not seen"],
)
def test_pods_of_an_older_template_say_nothing_of_the_present_one(outdated):
    found = template_of(outdated, pod("a"), pod("b"))

    assert not tolerates(found.tolerations, RESERVED)
    assert (found.runtime_class, found.priority_class) == ("", "")
    assert found.node_selector == {"a": "1"}


def test_what_one_pod_lacks_was_not_added_by_admission():
    other = pod("b", tolerations=[], runtimeClassName="", nodeSelector={"a": "1"})

    found = template_of(workload(), pod("a"), other)

    assert not tolerates(found.tolerations, RESERVED)
    assert found.runtime_class == ""
    assert found.node_selector == {"a": "1"}


def test_the_template_of_a_job_does_not_change():
    assert tolerates(template_of(workload("Job", updated=0), pod("a", "Job")).tolerations, RESERVED)


def test_the_default_class_is_given_to_pods_of_templates_that_name_none():
    default = {"kind": "PriorityClass", "metadata": {"name": "serving"}, "value": 5, "globalDefault": True}

    assert template_of(workload(), pod("a"), pod("b"), default).priority_class == ""


@pytest.mark.parametrize(
    ("made", "pods_made", "found"),
    [
        ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "serving"),
        ("2026-03-01T00:00:00Z", "2026-02-01T00:00:00Z", ""),
        (None, "2026-02-01T00:00:00Z", ""),
    ],
    ids=["older than the pods", "younger", "not known"],
)
def test_pods_that_are_younger_than_the_default_class_and_have_another_were_given_it(made, pods_made, found):
    default = {"kind": "PriorityClass", "metadata": {"name": "usual", "creationTimestamp": made}, "value": 5}
    pods = [pod("a"), pod("b")]
    for each in pods:
        each["metadata"]["creationTimestamp"] = pods_made

    assert template_of(workload(), *pods, {**default, "globalDefault": True}).priority_class == found


def test_pods_that_ask_for_other_gpus_are_of_another_template():
    other = [{**CONTAINER, "resources": {"limits": {"nvidia.com/gpu": "8"}}}]

    found = template_of(workload("Job", updated=0), pod("a", "Job", containers=other))

    assert not tolerates(found.tolerations, RESERVED)
    assert found.gpus() == 1


def test_what_the_template_asks_for_is_kept_where_pods_have_less():
    template = workload()
    template["spec"]["template"]["spec"]["containers"] = [
        {**CONTAINER, "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "256Gi"}}}
    ]
    less = [{**CONTAINER, "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "64Gi"}}}]

    found = template_of(template, pod("a", containers=less), pod("b", containers=less))

    assert found.requests()["memory"] == 256 * 2**30


def test_where_nothing_changes_pods_those_that_differ_are_older():
    found = template_of(workload(), pod("a"), pod("b"), mutators=())

    assert not tolerates(found.tolerations, RESERVED)
    assert (found.runtime_class, found.priority_class) == ("", "")


POD_RULES = [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]


def webhook(name: str = "pods.example.com", **members: Any) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "placing"},
        "webhooks": [{"name": name, "rules": POD_RULES, **members}],
    }


def policy(
    expression: str, *, bound: bool = True, binding: dict[str, Any] | None = None, **constraints: Any
) -> list[dict[str, Any]]:
    made = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": "placing"}}
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}
    spec = {"matchConstraints": {"resourceRules": POD_RULES, **constraints}, "mutations": [mutation]}
    one = {**made, "kind": "MutatingAdmissionPolicy", "spec": spec}
    other = {
        **made,
        "kind": "MutatingAdmissionPolicyBinding",
        "spec": {"policyName": "placing", "matchResources": binding},
    }
    return [one, other] if bound else [one]


TOLERATES = 'Object{spec: Object.spec{tolerations: [Object.spec.tolerations{key: "example.com/reserved"}]}}'
PROFILE = {"matchLabels": {"app.kubernetes.io/part-of": "kubeflow-profile"}}
LABELLED = {"kind": "Namespace", "metadata": {"name": "ml", "labels": PROFILE["matchLabels"]}}
KSERVE = {"matchExpressions": [{"key": "serving.kserve.io/inferenceservice", "operator": "Exists"}]}
BY_NAME = {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["ml"]}]}


@pytest.mark.parametrize(
    "mutators",
    [
        [webhook()],
        [webhook(rules=[{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}])],
        [webhook(namespaceSelector=PROFILE), LABELLED],
        [webhook(namespaceSelector={}, objectSelector={})],
        policy(TOLERATES),
        [*policy(TOLERATES, namespaceSelector=PROFILE), LABELLED],
        policy(TOLERATES, binding={"namespaceSelector": {}}),
    ],
    ids=["webhook", "everything", "namespace", "empty selectors", "policy", "policy for it", "binding for all"],
)
def test_pods_are_believed_where_something_covers_their_creation(mutators):
    assert tolerates(template_of(workload(), pod("a"), pod("b"), mutators=mutators).tolerations, RESERVED)


@pytest.mark.parametrize(
    "mutators",
    [
        [webhook(rules=[{**POD_RULES[0], "resources": ["deployments"], "apiGroups": ["apps"]}])],
        [webhook(rules=[{**POD_RULES[0], "resources": ["pods/exec"]}])],
        [webhook(rules=[{**POD_RULES[0], "operations": ["UPDATE", "DELETE"]}])],
        [webhook(namespaceSelector=PROFILE)],
        [webhook(namespaceSelector=BY_NAME)],
        [webhook(objectSelector=KSERVE)],
        [webhook("rev.namespace.sidecar-injector.istio.io")],
        [webhook("iam-for-pods.amazonaws.com")],
        policy(TOLERATES, bound=False),
        policy(TOLERATES, namespaceSelector=PROFILE),
        policy(TOLERATES, binding={"objectSelector": KSERVE}),
        policy(TOLERATES, excludeResourceRules=POD_RULES),
        policy('Object{metadata: Object.metadata{labels: {"cost-center": "ml"}}}'),
    ],
    ids=[
        "templates", "exec", "updates", "other namespaces", "all but this one", "other pods", "sidecars",
        "credentials", "not bound", "policy elsewhere", "binding elsewhere", "excluded", "labels only",
    ],
)  # fmt: skip
def test_what_does_not_cover_them_is_no_reason_to_believe_pods(mutators):
    found = template_of(workload(), pod("a"), pod("b"), mutators=mutators)

    assert not tolerates(found.tolerations, RESERVED)
    assert (found.runtime_class, found.priority_class) == ("", "")


def test_a_policy_is_a_reason_to_believe_only_what_it_names():
    found = template_of(workload(), pod("a"), pod("b"), mutators=policy(TOLERATES))

    assert tolerates(found.tolerations, RESERVED)
    assert (found.runtime_class, found.priority_class) == ("", "")
    assert found.node_selector == {"a": "1"}


def test_the_scheduler_and_the_affinity_that_all_pods_have_are_theirs():
    terms = [{"matchExpressions": [{"key": "pool", "operator": "In", "values": ["gpu"]}]}]
    node_affinity = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    given = {"schedulerName": "yunikorn", "affinity": {"nodeAffinity": node_affinity}}

    found = template_of(workload(), pod("a", **given), pod("b", **given), mutators=[webhook()])

    assert (found.scheduler, found.node_affinity) == ("yunikorn", node_affinity)


def test_where_webhooks_cannot_be_read_none_is_taken_to_be_there():
    reason = {"MutatingWebhookConfiguration": "Forbidden: no", "MutatingAdmissionPolicy": "Forbidden: no"}
    facts = Facts.from_objects([workload(), pod("a"), pod("b"), *policy(TOLERATES)], reason)

    assert not tolerates(facts.template_of(facts.workloads[0]).tolerations, RESERVED)
