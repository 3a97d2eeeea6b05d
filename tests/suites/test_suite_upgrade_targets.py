"""The next operator and the next Kubernetes: correct set-ups stay green, and what is unknown is no verdict."""

import pytest
from operated_cluster import Cluster, Outcome, made

from conformance.facts import Facts
from conformance.gpu.kubernetes_releases import containerd_in, release_in
from conformance.reference import Reference
from conformance.verdict import Judge, NotApplicable, Unsupported
from suites._shared.pool_nodes import GpuPoolNode
from suites.upgrade import test_target_kubernetes as kubernetes
from suites.upgrade import test_target_operator as operator

NODE = "t4-inference-1"


def facts_of(cluster: Cluster, server: str = "v1.35.4", kubelet: str = "v1.35.4") -> Facts:
    for each in cluster.objects:
        if each["kind"] == "Node":
            info = each["status"].setdefault("nodeInfo", {})
            info.setdefault("kubeletVersion", kubelet)
    return Facts.from_objects(cluster.objects, server_version=server)


def steps(cluster: Cluster, target: tuple[int, int], **versions: str) -> Outcome:
    judge = Judge()
    kubernetes.test_no_minor_release_is_skipped(facts_of(cluster, **versions), target, judge)
    return Outcome(judge, None)


@pytest.mark.parametrize("target", [(1, 35), (1, 36)])
def test_a_patch_and_the_next_minor_release_are_good(cluster, target):
    assert steps(cluster, target).passed


@pytest.mark.parametrize(
    ("target", "said"), [((1, 37), "it would skip 1 minor releases"), ((1, 34), "it would go back")]
)
def test_a_release_that_is_skipped_or_older_is_named(cluster, target, said):
    assert said in steps(cluster, target).broken["the API server"]


def test_a_server_that_tells_no_version_is_not_accused_of_skipping(cluster):
    outcome = steps(cluster, (1, 37), server="")

    assert not outcome.broken
    assert "the newest kubelet is of 1.35" in str(outcome.judge.unseen[0])


def test_a_kubelet_three_releases_behind_may_stay_and_one_of_four_may_not(cluster):
    cluster.node(NODE)["status"]["nodeInfo"] = {"kubeletVersion": "v1.33.9"}
    assert steps(cluster, (1, 36)).passed

    cluster.node(NODE)["status"]["nodeInfo"] = {"kubeletVersion": "v1.32.9"}
    assert "4 minor releases older" in steps(cluster, (1, 36)).broken[f"node {NODE}"]


def test_the_open_modules_by_both_fields_lose_nothing(cluster):
    operated = cluster.get("Deployment", "gpu-operator")
    operated["spec"]["template"]["spec"]["containers"][0]["image"] = "nvcr.io/nvidia/gpu-operator:v24.9.2"
    settings = cluster.policy()["spec"].setdefault("driver", {})
    settings |= {"useOpenKernelModules": True, "kernelModuleType": "open"}

    judge = Judge()
    operator.test_no_field_loses_its_effect(facts_of(cluster), cluster.reference, (25, 3, 4), judge)
    assert not judge.broken

    settings["kernelModuleType"] = "auto"
    judge = Judge()
    operator.test_no_field_loses_its_effect(facts_of(cluster), cluster.reference, (25, 3, 4), judge)
    assert [each.subject.field for each in judge.broken] == ["driver.useOpenKernelModules"]


def test_versions_of_any_distribution_are_read_and_others_are_unknown():
    assert release_in("v1.36.3-gke.100") == (1, 36)
    assert release_in("latest") is None
    assert containerd_in("containerd://2.1.5-k3s1") == (2, 1)
    assert containerd_in("cri-o://1.35.1") is None
    assert containerd_in("") is None


@pytest.mark.parametrize(
    ("target", "runtime", "verdict"),
    [
        ((26, 7, 0), "containerd://1.7.27", "unseen"),
        ((26, 7, 0), "containerd://1.6.39", "broken"),
        ((26, 7, 0), "containerd://2.1.5", "passed"),
        ((26, 3, 0), "containerd://1.7.27", "passed"),
    ],
)
def test_a_release_of_containerd_that_never_was_condemns_nobody(cluster, target, runtime, verdict):
    cluster.node(NODE)["status"].setdefault("nodeInfo", {})["containerRuntimeVersion"] = runtime
    facts = facts_of(cluster)
    (node,) = [each for each in facts.nodes if each.name == NODE]
    (pool,) = [each for each in cluster.reference.pools if each.name == "t4-inference"]
    judge = Judge()

    operator.test_the_target_was_validated_with_the_runtimes(
        facts, cluster.reference, (GpuPoolNode(pool, node, pool.gpu),), target, judge
    )

    assert ("broken" if judge.broken else "unseen" if judge.unseen else "passed") == verdict


def test_without_an_operator_none_is_judged(cluster):
    without = Reference(name="without-operator")

    with pytest.raises(NotApplicable):
        operator.test_the_target_was_validated_with_kubernetes(facts_of(cluster), without, (26, 7, 0), Judge())
    with pytest.raises(NotApplicable):
        operator.test_the_target_was_validated_with_the_runtimes(facts_of(cluster), without, (), (26, 7, 0), Judge())


def written_by(cluster: Cluster, target: tuple[int, int], *writers: dict[str, str]) -> Outcome:
    """What is said of a device class that programs wrote through API versions."""
    body = made("resource.k8s.io/v1", "DeviceClass", "gpu.nvidia.com", spec={})
    body["metadata"]["managedFields"] = list(writers)
    cluster.objects.append(body)
    judge = Judge()
    kubernetes.test_no_writer_of_dra_objects_needs_a_removed_api(facts_of(cluster), target, judge)
    return Outcome(judge, None)


HELM = {"manager": "helm", "apiVersion": "resource.k8s.io/v1beta1", "time": "2026-01-10T08:00:00Z"}


def test_a_program_that_writes_through_an_api_that_goes_is_named(cluster):
    outcome = written_by(cluster, (1, 38), HELM, {**HELM, "manager": "new", "apiVersion": "resource.k8s.io/v1"})

    [told] = outcome.broken.values()
    assert "helm writes it through resource.k8s.io/v1beta1, which Kubernetes 1.38 no longer serves" in told
    assert "new writes" not in told


def test_an_api_that_the_target_still_serves_is_no_finding(cluster):
    assert written_by(cluster, (1, 37), HELM).passed


def test_an_object_that_tells_no_writer_is_not_judged(cluster):
    outcome = written_by(cluster, (1, 38))

    assert not outcome.broken
    assert "no managed fields" in outcome.judge.unseen[0].why


def test_where_no_version_goes_on_the_way_nobody_has_to_know_the_writers(cluster):
    assert written_by(cluster, (1, 36)).passed


def test_a_version_that_went_before_is_no_use_of_today(cluster):
    assert written_by(cluster, (1, 36), {**HELM, "apiVersion": "resource.k8s.io/v1alpha3"}).passed


def test_what_a_kubernetes_beyond_the_tables_takes_away_is_unknown(cluster):
    with pytest.raises(Unsupported, match=r"1\.45"):
        written_by(cluster, (1, 45), HELM)
