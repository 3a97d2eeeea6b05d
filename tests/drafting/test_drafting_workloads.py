"""Priority classes of the owners, and workloads where nothing but their own template decides."""

import pytest
from fleet import GPU_TAINT, L4, T4, gpu_nodes, named, node, pod, pod_template, workload

T4S = gpu_nodes("t4", 2, {"agentpool": "t4", "gpu": "t4", **T4}, taints=[GPU_TAINT])
L4S = gpu_nodes("l4", 2, {"agentpool": "l4", "gpu": "l4", **L4})
FLEET = [*T4S, *L4S, node("cpu-1", {"agentpool": "cpu"})]
TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists"}


def priority_class(name, value, **members):
    return named("PriorityClass", name, apiVersion="scheduling.k8s.io/v1", value=value, **members)


def test_classes_of_platforms_are_left_out_and_named(drafted):
    made = drafted(FLEET, priority_class("mine", 10), priority_class("gmp-critical", 1000000000))

    assert [each.name for each in made.reference.priority_classes] == ["mine"]
    assert "gmp-critical: value 1000000000; it belongs to GKE" in made.comments


def test_whom_a_class_can_evict_is_left_to_decide(drafted):
    made = drafted(
        FLEET, priority_class("high", 10), priority_class("low", 1, preemptionPolicy="Never", globalDefault=True)
    )

    high, low = made.reference.priority_classes
    assert (high.preempts, low.global_default, low.preemption_policy) == ((), True, "Never")
    assert "It can evict pods of low; name in preempts those you rely on" in made.comments


def test_of_two_classes_with_one_value_the_one_in_use_is_declared(drafted):
    carried = pod("vision", "p", priorityClassName="b")
    made = drafted(FLEET, priority_class("a", 5), priority_class("b", 5), carried)

    assert [each.name for each in made.reference.priority_classes] == ["b"]
    assert "its value 5 is that of b" in made.comments


def test_of_two_defaults_the_one_that_counts_is_declared(drafted):
    made = drafted(FLEET, priority_class("a", 5, globalDefault=True), priority_class("b", 6, globalDefault=True))

    assert made.reference.default_priority_class.name == "a"
    assert any("the default as well" in each for each in made.draft.contradictions)


def test_a_workload_that_is_confined_belongs_to_its_pools(drafted):
    template = pod_template(nodeSelector={"gpu": "t4"}, tolerations=[TOLERATION], priorityClassName="high")
    made = drafted(FLEET, priority_class("high", 10), workload("Deployment", "vision", "detector", template))

    (found,) = made.reference.workloads
    assert (found.role, found.pools, found.priority_class) == ("inference", ("t4",), "high")


def test_a_workload_that_only_what_it_asks_for_confines_has_every_pool_that_offers_it(drafted):
    made = drafted(FLEET, workload("Deployment", "vision", "detector", pod_template(tolerations=[TOLERATION])))

    assert made.reference.workloads[0].pools == ("l4", "t4")
    assert "only what it asks for, which all of these offer" in made.comments


def test_a_workload_that_asks_for_what_nobody_offers_is_left_to_decide(drafted):
    asking = pod_template(resource="nvidia.com/mig-1g.5gb", tolerations=[TOLERATION])
    made = drafted(FLEET, workload("Deployment", "vision", "detector", asking))

    assert made.reference.workloads[0].pools == ()
    assert "no drafted pool offers what it asks for" in made.comments


def test_a_workload_that_waits_shows_its_pools_so_that_it_is_judged(drafted):
    owner = workload("StatefulSet", "vision", "detector", pod_template(nodeSelector={"gpu": "t4"}))
    waiting = {**pod("vision", "detector-0", ("StatefulSet", "detector")), "status": {"phase": "Pending"}}
    made = drafted(FLEET, owner, waiting)

    assert made.reference.workloads[0].pools == ("t4",)
    assert any("does not tolerate the taints of t4" in each for each in made.draft.contradictions)


@pytest.mark.parametrize(
    ("kind", "name", "role"),
    [("Deployment", "llm", "inference"), ("StatefulSet", "jupyter", "notebook"), ("Job", "tune", "training")],
)
def test_a_role_is_guessed_from_kind_and_name(drafted, kind, name, role):
    assert drafted(FLEET, workload(kind, "vision", name)).reference.workloads[0].role == role


def test_what_others_make_again_and_again_is_left_out(drafted):
    made_by = [{"kind": "CronJob", "name": "nightly", "controller": True}]
    made = drafted(
        FLEET, workload("Job", "vision", "nightly-1", ownerReferences=made_by), workload("Job", "vision", "tune")
    )

    assert [each.name for each in made.reference.workloads] == ["tune"]
    assert "CronJob nightly makes it, and makes others after it" in made.comments


def test_owners_of_other_kinds_are_drafted_from_their_pods(drafted):
    confined = {"nodeSelector": {"gpu": "t4"}, "tolerations": [TOLERATION], "priorityClassName": "high"}
    workers = [pod("vision", f"w-{number}", ("PyTorchJob", "bert"), nodeName="t4-1", **confined) for number in (0, 1)]
    made = drafted(FLEET, priority_class("high", 10), *workers)

    (found,) = made.reference.workloads
    assert (found.role, found.kind, found.name) == ("training", "PyTorchJob", "bert")
    assert (found.pools, found.priority_class) == (("t4",), "high")
    assert "derived from: the selector, affinity and tolerations of its pods" in made.comments


def test_what_makes_pods_through_jobs_is_drafted_instead_of_them(drafted):
    made_by = [{"kind": "JobSet", "name": "tune", "controller": True}]
    job = workload("Job", "vision", "tune-0", ownerReferences=made_by)
    made = drafted(FLEET, job, pod("vision", "tune-0-x", ("Job", "tune-0"), nodeName="l4-1"))

    assert [(each.kind, each.name, each.pools) for each in made.reference.workloads] == [("JobSet", "tune", ("l4",))]
    assert "JobSet tune makes it" not in made.comments


def test_a_service_of_knative_is_drafted_with_its_api_group(drafted):
    served = pod("vision", "rank-1", ("Revision", "rank-00001"), nodeName="l4-1")
    served["metadata"]["labels"] = {"serving.knative.dev/service": "rank"}

    (found,) = drafted(FLEET, served).reference.workloads

    assert (found.kind, found.name, found.resource) == ("Service", "rank", "service.v1.serving.knative.dev")


def test_pods_of_one_owner_with_two_classes_get_none(drafted):
    made = drafted(
        FLEET,
        priority_class("high", 10),
        priority_class("low", 1),
        pod("vision", "head", ("RayCluster", "ray"), priorityClassName="high"),
        pod("vision", "worker", ("RayCluster", "ray"), priorityClassName="low"),
    )

    assert [(each.kind, each.priority_class) for each in made.reference.workloads] == [("RayCluster", None)]
    assert "priority_class: its pods have high and low" in made.comments


def test_a_pod_without_owner_is_left_out(drafted):
    made = drafted(FLEET, pod("vision", "alone"))

    assert "Pod vision/alone: it has no owner that would make it again" in made.comments


def test_an_account_that_is_not_there_is_not_declared(drafted):
    made = drafted(FLEET, workload("Deployment", "vision", "d", pod_template(serviceAccountName="gone")))

    assert made.reference.workloads[0].service_account is None
    assert any("service account gone" in each for each in made.draft.contradictions)
