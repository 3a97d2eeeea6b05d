"""What a node of a GPU pool must offer: every declared resource by its name, and nothing beside it."""

import msgspec
import pytest
from operated_cluster import made
from sharing_cluster import SharingCluster

from conformance.reference import Reference
from conformance.verdict import Inconclusive, UnknownAccelerator
from suites.pools.test_pools import test_every_gpu_node_advertises_its_gpus as every_gpu_node_advertises_its_gpus
from suites.pools.test_pools import test_every_node_with_gpus_belongs_to_one_pool as every_node_belongs_to_one_pool


@pytest.fixture
def cluster(reference):
    return SharingCluster(reference)


def broken(cluster: SharingCluster) -> dict[str, str]:
    return cluster.verdict(every_gpu_node_advertises_its_gpus).broken


def with_layout(reference: Reference, layout: str, **gpu: object) -> Reference:
    pools = [
        msgspec.structs.replace(
            pool,
            labels={**pool.labels, "nvidia.com/mig.config": layout},
            gpu=msgspec.structs.replace(pool.gpu, **gpu),
        )
        if pool.name == "a100-mig"
        else pool
        for pool in reference.pools
    ]
    return msgspec.structs.replace(reference, pools=tuple(pools))


def test_every_kind_of_pool_offers_what_it_declares(cluster):
    outcome = cluster.verdict(every_gpu_node_advertises_its_gpus)

    assert outcome.passed, (outcome.ended, outcome.broken)
    assert {"node t4-shared-1", "node a100-mig-1", "node l4-mps-1", "node h100-dra-1"} <= set(outcome.subjects)


def test_a_device_plugin_on_a_node_of_dra_is_a_second_allocator(cluster):
    cluster.offer("h100-dra-1", gpu=8)

    assert "two allocators a GPU is allocated twice" in broken(cluster)["node h100-dra-1"]


def test_a_resource_beside_the_declared_ones_is_reported(cluster):
    cluster.offer("t4-inference-1", gpu=4, gpu_shared=1)

    assert "1 nvidia.com/gpu.shared more than were declared" in broken(cluster)["node t4-inference-1"]


@pytest.mark.parametrize(
    ("node", "judged_by", "offered"),
    [
        ("t4-shared-1", "TS-04", {"gpu": 2}),
        ("t4-shared-1", "TS-04", {"gpu_shared": 4}),
        ("l4-mps-1", "MPS-06", {"gpu": 4}),
        # None at all, or those of one GPU less: that is no matter of replicas.
        ("t4-shared-1", "", {}),
        ("t4-shared-1", "", {"gpu_shared": 0}),
    ],
)
def test_other_replicas_than_declared_are_told_under_their_own_requirement_alone(cluster, node, judged_by, offered):
    cluster.offer(node, **offered)

    outcome = cluster.verdict(every_gpu_node_advertises_its_gpus)

    assert [*outcome.broken] == ([] if judged_by else [f"node {node}"])
    assert [str(each) for each in outcome.judge.unseen] == (
        [f"node {node}: it offers other replicas than declared ({judged_by})"] if judged_by else []
    )


def test_an_unhealthy_mig_device_is_reported_by_its_name(cluster):
    cluster.node("a100-mig-1")["status"]["allocatable"]["nvidia.com/mig-2g.10gb"] = "11"

    assert "reports 1 of 12 nvidia.com/mig-2g.10gb as unhealthy" in broken(cluster)["node a100-mig-1"]


def test_resources_of_which_a_node_has_none_do_not_count(cluster):
    cluster.node("a100-mig-1")["status"]["capacity"]["nvidia.com/gpu"] = "0"
    cluster.node("a100-mig-1")["status"]["allocatable"]["nvidia.com/gpu"] = "0"

    assert not broken(cluster)


@pytest.mark.parametrize(
    ("layout", "gpu", "ends"),
    [("theirs", {}, Inconclusive), ("all-1g.5gb", {"product": "NVIDIA-Z1000"}, UnknownAccelerator)],
)
def test_an_offer_that_is_not_known_is_not_guessed_and_the_others_are_judged(layout, gpu, ends, cluster, reference):
    outcome = cluster.verdict(every_gpu_node_advertises_its_gpus, with_layout(reference, layout, **gpu))

    assert isinstance(outcome.ended, ends)
    assert not outcome.broken
    assert "node t4-shared-1" in outcome.subjects
    assert "node a100-mig-1" not in outcome.subjects


def test_selectors_that_overlap_are_named_as_the_mistake_of_the_set_up(cluster, reference):
    pool, other = reference.pool("t4-inference"), reference.pool("t4-notebook")
    wide = msgspec.structs.replace(other, name="wide", selector={"rack": "1"}, gpu=pool.gpu)
    overlapping = msgspec.structs.replace(reference, pools=(*reference.pools, wide))
    cluster.label("t4-inference-1", {"rack": "1"})

    outcome = cluster.verdict(every_node_belongs_to_one_pool, overlapping)

    (text,) = outcome.broken.values()
    assert list(outcome.broken) == ["node t4-inference-1"]
    assert f"selectors of pool t4-inference ({pool.selector_text}) and pool wide (rack=1) overlap" in text
    assert "a mistake of the set-up, not of the cluster" in text


@pytest.mark.parametrize(
    "label",
    [
        {"nvidia.com/gpu.present": "true"},
        {"cloud.google.com/gke-accelerator": "nvidia-l4"},
        {"karpenter.k8s.aws/instance-gpu-manufacturer": "nvidia"},
    ],
)
def test_a_node_of_no_pool_is_named_though_no_driver_has_shown_its_gpus(cluster, label):
    cluster.objects.append(made("v1", "Node", "stray", labels=label, status={}))

    assert list(cluster.verdict(every_node_belongs_to_one_pool).broken) == ["node stray"]


@pytest.mark.parametrize(("node_pool", "told"), [("gpu", "seen"), ("other", "broken"), (None, "broken")])
def test_another_instance_type_of_a_declared_node_pool_of_karpenter_is_named_and_not_blamed(
    cluster, reference, node_pool, told
):
    declared = msgspec.structs.replace(
        reference.gpu_pools[0],
        name="karpenter-g6-xlarge",
        selector={"karpenter.sh/nodepool": "gpu", "node.kubernetes.io/instance-type": "g6.xlarge"},
        nodes=0,
    )
    labels = {"nvidia.com/gpu.present": "true", "node.kubernetes.io/instance-type": "g6.12xlarge"}
    if node_pool:
        labels["karpenter.sh/nodepool"] = node_pool
    cluster.objects.append(made("v1", "Node", "taken", labels=labels, status={}))

    outcome = cluster.verdict(
        every_node_belongs_to_one_pool, msgspec.structs.replace(reference, pools=(*reference.pools, declared))
    )

    assert [*outcome.broken] == (["node taken"] if told == "broken" else [])
    assert [str(each) for each in outcome.judge.unseen] == (
        [
            "node taken: it is of Karpenter's NodePool gpu with node.kubernetes.io/instance-type=g6.12xlarge, for "
            "which no pool is declared: declare one, or allow the NodePool only what is declared"
        ]
        if told == "seen"
        else []
    )
