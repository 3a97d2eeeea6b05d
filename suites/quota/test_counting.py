"""Counting: how Kubernetes counts GPUs against a quota, and what it does not count.

The requirements about quotas rest on what is shown here, in namespaces of the scenarios: which keys a quota counts,
which it accepts without counting, what a refused pod looks like, and what a LimitRange does to pods without GPU
request. No scenario needs a GPU: a quota counts when a pod is created, before it is scheduled, and these pods have a
scheduling gate, so that they never are.
"""

from typing import Any

import pytest

from conformance.catalog import MUST, OWN_CLUSTER_OBJECTS, OWN_NAMESPACE, requirement
from conformance.gpu.resources import MIG_PREFIX, quota_key
from conformance.lab import RequirementLab
from conformance.reference.model import Reference
from conformance.verdict import expect
from suites._shared.quota_namespace import (
    BY_LIMIT_RANGE,
    REFUSED,
    QuotaNamespace,
    declared_gpu_quotas,
    never_starting,
    outcome,
)

QUOTAS = "kubernetes.io: Resource Quotas"
COUNTING = "kubernetes: pkg/quota/v1/evaluator/core/pods.go"
DEFAULTING = "kubernetes: pkg/apis/core/v1/defaults.go, SetDefaults_LimitRangeItem"
BELOW_ALL_PODS = -1_500_000_000


@pytest.fixture
def gpu(reference: Reference) -> str:
    """The GPU resource, where quotas of it are declared."""
    declared_gpu_quotas(reference)
    return reference.gpu_resource


@requirement(
    "QUOTA-05",
    "A quota counts requested GPUs and refuses the excess",
    level=MUST,
    effect=OWN_NAMESPACE,
    sources=[QUOTAS, COUNTING],
    remedy="Keep the ResourceQuota admission plugin and the resourcequota controller on.",
)
def test_a_quota_counts_gpus_and_refuses_the_excess(gpu: str, lab: RequirementLab) -> None:
    namespace = QuotaNamespace(lab, {quota_key(gpu): 2})

    namespace.refuses({gpu: 3}, because="the quota is 2")
    namespace.admits({gpu: 2}, because="the quota is 2")
    namespace.quota.wait_until_used({quota_key(gpu): 2}, because="a pod counts whether it runs or not")
    namespace.refuses({gpu: 1}, because="both are used")


@requirement(
    "QUOTA-06",
    "Other spellings of a GPU limit are accepted and refuse nobody",
    level=MUST,
    effect=OWN_NAMESPACE,
    sources=[COUNTING, "github.com/kubeflow/website/pull/2460"],
    remedy="This is how Kubernetes is. Where it differs, something else counts these keys (HAMi does): spell quotas as "
    "that asks, and know that they hold nowhere else.",
)
def test_other_spellings_refuse_nobody(gpu: str, lab: RequirementLab) -> None:
    namespace = QuotaNamespace(lab, {gpu: 0, f"limits.{gpu}": 0})

    namespace.admits({gpu: 4}, because="neither key is spelled requests., so nothing is counted")
    expect(namespace.quota.used, namespace.quota).is_empty(because="a key that is not counted never appears here")


@requirement(
    "QUOTA-07",
    "GPUs under another name escape a quota of the plain name",
    level=MUST,
    effect=OWN_NAMESPACE,
    sources=[COUNTING, "github.com/NVIDIA/k8s-device-plugin: README, renaming of shared resources"],
    remedy="Give every name its own key in every team's quota (QUOTA-03).",
)
def test_renamed_gpus_escape_a_quota_of_the_plain_name(gpu: str, lab: RequirementLab) -> None:
    shared, slice_of_one = f"{gpu}.shared", f"{MIG_PREFIX}1g.10gb"
    plain = QuotaNamespace(lab, {quota_key(gpu): 0})

    plain.refuses({gpu: 1}, because="the quota is 0")
    plain.admits({shared: 1}, because="time-slicing and MPS use this name, and the quota has no key for it")
    plain.admits({slice_of_one: 1}, because="MIG devices have this name, and the quota has no key for it")

    every_name = QuotaNamespace(lab, {quota_key(name): 0 for name in (gpu, shared, slice_of_one)})
    every_name.refuses({shared: 1}, because="this name has a key of its own")
    every_name.refuses({slice_of_one: 1}, because="this name has a key of its own")


@requirement(
    "QUOTA-08",
    "A Deployment whose pods are refused says so in its condition, and has no pod",
    level=MUST,
    effect=OWN_NAMESPACE,
    sources=[QUOTAS, "kubernetes.io: Deployments, failed deployment"],
    remedy="Watch the condition ReplicaFailure of Deployments: there is no Pending pod to look at.",
)
def test_a_refused_deployment_says_so_and_has_no_pod(gpu: str, lab: RequirementLab) -> None:
    namespace = QuotaNamespace(lab, {quota_key(gpu): 0})

    deployment = lab.deployment(gpus=1, gated=True, namespace=namespace.name)

    deployment.wait_until_refused(because="the quota is 0")
    expect(deployment.pods(), deployment).is_empty(because="a quota refuses pods before they are created")


@requirement(
    "QUOTA-09",
    "Deleting a pod gives its GPUs back to the quota",
    level=MUST,
    effect=OWN_NAMESPACE,
    sources=[QUOTAS],
    remedy="See that the resourcequota controller runs and keeps up; pods that hang in Terminating hold their GPUs.",
)
def test_deleting_a_pod_gives_its_gpus_back(gpu: str, lab: RequirementLab) -> None:
    namespace = QuotaNamespace(lab, {quota_key(gpu): 1})
    holder = lab.pod(gpus=1, gated=True, namespace=namespace.name)
    namespace.refuses({gpu: 1}, because="the only GPU is used")

    holder.delete(wait=True)

    namespace.quota.wait_until_used({quota_key(gpu): 0}, because="its pod is deleted")
    namespace.admits({gpu: 1}, because="no pod uses it any more")


@requirement(
    "QUOTA-10",
    "A quota for a priority class counts the pods of that class and no others",
    level=MUST,
    effect=OWN_CLUSTER_OBJECTS,
    sources=["kubernetes.io: Resource Quotas, resource quota per PriorityClass"],
    remedy="Give each class a quota of its own, and one without scope for the sum: a scoped one leaves the rest free.",
)
def test_a_quota_for_a_class_counts_that_class_only(gpu: str, lab: RequirementLab) -> None:
    counted = lab.priority_class("counted", value=BELOW_ALL_PODS, preemption_policy="Never")
    other = lab.priority_class("other", value=BELOW_ALL_PODS - 1, preemption_policy="Never")
    namespace = QuotaNamespace(lab, {quota_key(gpu): 1}, priority_classes=[counted])

    namespace.admits({gpu: 2}, priority=other, because="the quota does not look at this class")
    namespace.admits({gpu: 1}, priority=counted, because="the quota is 1, and no other pod has this class")
    namespace.refuses({gpu: 1}, priority=counted, because="the only GPU of this class is used")


@requirement(
    "QUOTA-12",
    "A limit range with a maximum of GPUs harms the pods that ask for none",
    level=MUST,
    effect=OWN_NAMESPACE,
    sources=[DEFAULTING, "kubernetes: plugin/pkg/admission/limitranger, maxConstraint"],
    remedy="This is how Kubernetes is: keep GPUs out of limit ranges and cap them with a quota (QUOTA-11).",
)
def test_a_maximum_of_gpus_harms_pods_that_ask_for_none(gpu: str, lab: RequirementLab) -> None:
    per_container, per_pod = lab.namespace(), lab.namespace()
    lab.limit_range(per_container, [{"type": "Container", "max": {gpu: "2"}}])
    lab.limit_range(per_pod, [{"type": "Pod", "max": {gpu: "2"}}])

    given = lab.pod(gated=True, namespace=per_container)
    refused = lab.dry_run(never_starting({}, image=lab.pause_image, namespace=per_pod))

    expect(_requests(given.created).get(gpu), given).equals(
        "2", because="a maximum per container without default becomes the default"
    )
    expect(outcome(refused, BY_LIMIT_RANGE), "a pod without GPUs").equals(
        REFUSED, because="a maximum per pod refuses every pod that does not name the resource"
    )


def _requests(pod: dict[str, Any]) -> dict[str, str]:
    """The requests of a pod's only container, as it was admitted."""
    resources = pod["spec"]["containers"][0].get("resources") or {}
    return dict(resources.get("requests") or {})
