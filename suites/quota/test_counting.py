"""Counting: how Kubernetes counts GPUs against a ResourceQuota, and which ones it does not count.

The rules of the chapter on quota rest on what is shown here, in namespaces of the scenarios' own: what a ResourceQuota
counts, what it takes without counting, what becomes of a pod that it refuses, and what a LimitRange does to pods that
want no GPU. Not one scenario needs a GPU: a quota counts when a pod is created, long before the scheduler looks for a
node, and these pods are gated, so that it never does.
"""

from typing import Any

import pytest

from conformance.catalog import MUST, ON_NO_NODE, OWN_CLUSTER_OBJECTS, OWN_NAMESPACE, requirement
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
    refused_in_time,
)

BELOW_ALL_PODS = -1_500_000_000


@pytest.fixture
def gpu(reference: Reference) -> str:
    """The GPU resource, where quotas of it are declared."""
    declared_gpu_quotas(reference)
    return reference.gpu_resource


@requirement(
    "QUOTA-05",
    "A ResourceQuota counts the GPUs that pods request, and refuses pods beyond its limit",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    sources=["k8s-quotas", "k8s-code-quota-pods"],
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
    "ResourceQuota keys for GPUs without the prefix requests. are accepted and limit nothing",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    sources=["k8s-code-quota-pods", "kubeflow-website-2460"],
    remedy="This is the behaviour of Kubernetes. Where it differs, another component counts these keys (HAMi does): "
    "follow its spelling, and use requests.<resource> in other clusters.",
)
def test_other_spellings_refuse_nobody(gpu: str, lab: RequirementLab) -> None:
    namespace = QuotaNamespace(lab, {gpu: 0, f"limits.{gpu}": 0})

    namespace.admits({gpu: 4}, because="neither key is spelled requests., so nothing is counted")
    expect(namespace.quota.used, namespace.quota).is_empty(because="a key that is not counted never appears here")


@requirement(
    "QUOTA-07",
    "A ResourceQuota on requests.nvidia.com/gpu does not count renamed GPUs (.shared) or MIG devices",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    sources=["k8s-code-quota-pods", "device-plugin-sharing"],
    remedy="Give every GPU resource its own key requests.<resource> in every team's quota (QUOTA-03).",
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
    "A Deployment whose pods a ResourceQuota refuses has the condition ReplicaFailure and no pod",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    sources=["k8s-quotas", "k8s-deployment-failed"],
    remedy="Watch the condition ReplicaFailure of Deployments: a refused pod is never created, so none is Pending.",
)
def test_a_refused_deployment_says_so_and_has_no_pod(gpu: str, lab: RequirementLab) -> None:
    namespace = QuotaNamespace(lab, {quota_key(gpu): 0})

    deployment = lab.deployment(gpus=1, gated=True, namespace=namespace.name)

    deployment.wait_until_refused(because="the quota is 0")
    expect(deployment.pods(), deployment).is_empty(because="a quota refuses pods before they are created")


@requirement(
    "QUOTA-09",
    "Deleting a pod frees its GPUs in the ResourceQuota's status.used",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    sources=["k8s-quotas"],
    remedy="Check that the resourcequota controller runs; pods stuck in Terminating still count.",
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
    "A ResourceQuota with a PriorityClass scope counts the pods of that class and no others",
    level=MUST,
    effect=OWN_CLUSTER_OBJECTS,
    pods=ON_NO_NODE,
    sources=["k8s-quotas-priority"],
    remedy="Give each class a quota of its own, and one without scope for the sum: a scoped quota does not limit "
    "other pods.",
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
    "A LimitRange max of GPUs becomes the default request (type Container) or refuses pods without GPUs (type Pod)",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    sources=["k8s-code-limit-defaults", "k8s-code-limit-ranger"],
    remedy="This is the behaviour of Kubernetes: keep GPUs out of LimitRanges and use a ResourceQuota (QUOTA-11).",
)
def test_a_maximum_of_gpus_harms_pods_that_ask_for_none(gpu: str, lab: RequirementLab) -> None:
    per_container, per_pod = lab.namespace(), lab.namespace()
    lab.limit_range(per_container, [{"type": "Container", "max": {gpu: "2"}}])
    lab.limit_range(per_pod, [{"type": "Pod", "max": {gpu: "2"}}])

    # The later of the two is asked for first: who has heard of it has heard of the other.
    refused = refused_in_time(lab, never_starting({}, image=lab.pause_image, namespace=per_pod))
    given = lab.pod(gated=True, namespace=per_container)

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
