"""The labels of GPU Feature Discovery: a node that lost them is reported, one that cannot have them is not."""

import msgspec
import pytest
from operated_cluster import JUST_NOW, Cluster, unready
from operator_chapters import A_NODE, COVERAGE, DEFECTS, FULL, MAINTAINED, VERSION, other

from conformance.reference import Reference
from conformance.verdict import Unsupported
from suites.pools.test_pools import test_site_labels_agree_with_the_hardware as labels_agree

PRODUCT = "nvidia.com/gpu.product"


def broken(cluster: Cluster, **more: object) -> dict[str, str]:
    return cluster.verdict(labels_agree, **more).broken


def test_a_node_whose_labels_are_gone_is_reported(cluster):
    assert not broken(cluster)
    cluster.label(A_NODE, {PRODUCT: None})

    assert "is Ready, and the labels that it set are gone" in broken(cluster)[f"node {A_NODE}"]


def test_a_count_that_is_less_than_what_is_offered_means_two_models(cluster):
    cluster.label(A_NODE, {"nvidia.com/gpu.count": "3"})
    assert "only 3 of them are Tesla-T4: it has two models" in broken(cluster)[f"node {A_NODE}"]

    cluster.node(A_NODE)["status"]["allocatable"]["nvidia.com/gpu"] = "3"
    assert not broken(cluster)


def test_a_missing_pod_of_discovery_is_the_cause(cluster):
    cluster.label(A_NODE, {PRODUCT: None})
    cluster.remove(cluster.pod("gpu-feature-discovery", A_NODE))

    assert "no pod of GPU Feature Discovery" in broken(cluster)[f"node {A_NODE}"]


def test_labels_that_wait_for_an_operand_are_judged_with_that_operand(cluster):
    # NVIDIA/gpu-operator issue 2911: one container of the driver pod fails, and all other operands of the node wait.
    unready(cluster.pod("nvidia-driver-daemonset", A_NODE), reason="CrashLoopBackOff", restarts=37)
    unready(cluster.pod("gpu-feature-discovery", A_NODE), init="toolkit-validation")
    cluster.label(A_NODE, {PRODUCT: None, FULL: None})

    for requirement in (labels_agree, VERSION, MAINTAINED, DEFECTS):
        outcome = cluster.verdict(requirement)

        assert not outcome.broken
        assert [(str(each.subject), str(each.why)) for each in outcome.judge.unseen] == [
            (f"node {A_NODE}", "the driver does not work (OPER-13)")
        ]
    assert cluster.verdict(COVERAGE).broken.keys() == {f"node {A_NODE}"}


def test_a_discovery_that_no_operator_deploys_is_judged_here(cluster, reference):
    unready(cluster.pod("gpu-feature-discovery", A_NODE), reason="CrashLoopBackOff", restarts=37)
    cluster.label(A_NODE, {PRODUCT: None})
    alone = other(reference, kind="device-plugin")

    assert "of GPU Feature Discovery is not Ready" in broken(cluster, reference=alone)[f"node {A_NODE}"]
    [found] = cluster.verdict(labels_agree, alone).judge.broken
    assert "CrashLoopBackOff" in found.cause
    assert found.remedy.startswith("kubectl logs -n gpu-operator gpu-feature-discovery-")


def test_a_node_of_a_moment_ago_and_one_that_is_upgraded_have_them_later(cluster):
    cluster.label(A_NODE, {PRODUCT: None})
    cluster.node(A_NODE)["metadata"]["creationTimestamp"] = JUST_NOW
    cluster.label("t4-inference-2", {PRODUCT: None, "nvidia.com/gpu-driver-upgrade-state": "drain-required"})

    outcome = cluster.verdict(labels_agree)

    assert not outcome.broken
    assert {str(each.subject) for each in outcome.judge.unseen} == {f"node {A_NODE}", "node t4-inference-2"}


def test_a_discovery_of_a_moment_ago_has_not_written_its_labels_again(cluster):
    cluster.label(A_NODE, {PRODUCT: None})
    cluster.pod("gpu-feature-discovery", A_NODE)["metadata"]["creationTimestamp"] = JUST_NOW

    outcome = cluster.verdict(labels_agree)

    assert not outcome.broken
    assert "has just been started" in str(outcome.judge.unseen[0])


def test_a_discovery_that_does_not_become_ready_is_no_excuse(cluster):
    cluster.label(A_NODE, {PRODUCT: None})
    pod = cluster.pod("gpu-feature-discovery", A_NODE)
    pod["metadata"]["creationTimestamp"] = JUST_NOW
    unready(pod, reason="CrashLoopBackOff", restarts=9)

    assert "is not Ready" in broken(cluster)[f"node {A_NODE}"]


def test_a_node_without_the_worker_of_node_feature_discovery_gets_no_labels(cluster):
    cluster.label(A_NODE, {PRODUCT: None})
    cluster.remove(cluster.pod("gpu-operator-node-feature-discovery-worker", A_NODE))

    [finding] = cluster.verdict(labels_agree).judge.broken

    assert "Node Feature Discovery does not run on the node" in finding.cause
    assert "delete" not in finding.remedy


@pytest.mark.parametrize(
    "label",
    [
        {"nvidia.com/gpu.workload.config": "vm-passthrough"},
        {"nvidia.com/gpu.deploy.gpu-feature-discovery": "paused-for-driver-upgrade"},
    ],
    ids=["virtual-machines", "paused"],
)
def test_a_label_that_keeps_discovery_off_is_told_elsewhere(cluster, label):
    cluster.label(A_NODE, {PRODUCT: None, **label})

    outcome = cluster.verdict(labels_agree)

    assert not outcome.broken
    assert "keeps GPU Feature Discovery off it (OPER-12)" in str(outcome.judge.unseen[0])


@pytest.mark.parametrize(
    "gpu",
    [{"resource": "amd.com/gpu"}, {"resource": "nvidia.com/pgpu"}, {"allocated_by": "dra"}],
    ids=["other-vendor", "virtual-machines", "dra"],
)
def test_labels_that_nobody_sets_are_not_missed(cluster, reference, gpu):
    cluster.label(A_NODE, {PRODUCT: None})

    assert not broken(cluster, reference=of_inference(reference, gpu=gpu))


def test_labels_that_the_owners_keep_off_are_not_missed(cluster, reference):
    cluster.label(A_NODE, {PRODUCT: None})

    assert not broken(cluster, reference=of_inference(reference, labels={"nvidia.com/gpu.deploy.operands": "false"}))


def test_without_declared_discovery_and_labels_nothing_is_judged(cluster, reference):
    for each in cluster.objects:
        if each["kind"] == "Node":
            each["metadata"]["labels"].pop(PRODUCT, None)
    stack = msgspec.structs.replace(reference.stack, gpu_feature_discovery=False)

    ended = cluster.verdict(labels_agree, msgspec.structs.replace(reference, stack=stack)).ended

    assert isinstance(ended, Unsupported)


def of_inference(reference: Reference, gpu: dict[str, object] | None = None, **more: object) -> Reference:
    pools = tuple(
        msgspec.structs.replace(pool, gpu=msgspec.structs.replace(pool.gpu, **(gpu or {})), **more)
        if pool.name == "t4-inference"
        else pool
        for pool in reference.pools
    )
    return msgspec.structs.replace(reference, pools=pools)
