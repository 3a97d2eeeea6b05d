"""Pools are found by what marks node groups, and hold what most of their nodes say."""

import pytest
from fleet import GPU_TAINT, L4, T4, gpu_nodes, node

from conformance.drafting.node_groups import NODE_GROUPS

MIG_SINGLE = {
    **T4,
    "nvidia.com/gpu.product": "NVIDIA-A100-PCIE-40GB-MIG-1g.5gb",
    "nvidia.com/gpu.count": "14",
    "nvidia.com/gpu.memory": "4864",
    "nvidia.com/mig.config": "all-1g.5gb",
}


@pytest.mark.parametrize("label", NODE_GROUPS, ids=lambda label: label.key)
def test_the_label_of_every_platform_makes_a_pool(drafted, label):
    made = drafted(gpu_nodes("gpu", 2, {label.key: "workers", **T4}), node("cpu-1", {label.key: "plain"}))

    pool = made.pool("workers")
    assert pool.selector == {label.key: "workers"}
    assert pool.nodes == (0 if label.scales else 2)
    assert made.pool("plain").gpu is None
    assert label.source in made.comments


def test_a_pool_holds_what_its_nodes_have(drafted):
    labels = {"eks.amazonaws.com/nodegroup": "t4", "team": "vision", "topology.kubernetes.io/zone": "a", **T4}
    pool = drafted(gpu_nodes("t4", 3, labels, taints=[GPU_TAINT])).pool("t4")

    assert pool.labels == {"team": "vision"}
    assert [str(taint) for taint in pool.taints] == ["nvidia.com/gpu=present:NoSchedule"]
    assert (pool.gpu.model, pool.gpu.product, pool.gpu.count, pool.gpu.memory_mib) == ("t4", "Tesla-T4", 4, 15360)


@pytest.mark.parametrize(
    ("driver", "told"),
    [
        ("gpu.amd.com", True),
        ("tpu.google.com", True),
        ("hami-core-gpu.project-hami.io", True),
        ("dra.net", False),
        ("compute-domain.nvidia.com", False),
    ],
)
def test_accelerators_of_another_dra_driver_are_told_and_not_declared(drafted, driver, told):
    spec = {"driver": driver, "nodeName": "big-1", "pool": {"name": "big-1", "generation": 1, "resourceSliceCount": 1}}
    devices = [{"name": "one", "attributes": {}}]
    published = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": "big-1"},
        "spec": {**spec, "devices": devices},
    }

    made = drafted(node("big-1", {"pool": "big"}), node("cpu-1"), gpu_nodes("t4", 1, {"pool": "t4", **T4}), published)

    assert (f"DRA driver {driver} publishes them" in " ".join(made.comments.split())) is told
    assert [pool.name for pool in made.reference.pools if pool.gpu] == ["t4"]


def test_a_node_that_lost_a_taint_does_not_take_it_from_the_pool(drafted):
    group = {"eks.amazonaws.com/nodegroup": "t4", **T4}
    made = drafted(gpu_nodes("t4", 2, group, taints=[GPU_TAINT]), node("t4-3", group, {"nvidia.com/gpu": 4}))

    assert len(made.pool("t4").taints) == 1
    assert "t4-3 lacks nvidia.com/gpu=present:NoSchedule" in made.comments
    assert any("t4-3" in each for each in made.draft.contradictions)


def test_a_taint_of_one_node_is_its_own(drafted):
    group = {"eks.amazonaws.com/nodegroup": "t4", **T4}
    quarantine = {"key": "nvsentinel.dgxc.nvidia.com/quarantine", "effect": "NoSchedule"}
    made = drafted(gpu_nodes("t4", 2, group), node("t4-3", group, {"nvidia.com/gpu": 4}, [quarantine]))

    assert made.pool("t4").taints == ()
    assert "only t4-3: nvsentinel.dgxc.nvidia.com/quarantine:NoSchedule, left out" in made.comments


def test_of_two_layouts_the_one_that_is_applied_is_meant(drafted):
    asks = {"agentpool": "cut", **T4}
    one = node("cut-1", {**asks, "nvidia.com/mig.config": "all-balancd", "nvidia.com/mig.config.state": "failed"})
    two = node("cut-2", {**asks, "nvidia.com/mig.config": "all-balanced", "nvidia.com/mig.config.state": "success"})

    made = drafted(one, two)

    assert made.reference.pools[0].labels["nvidia.com/mig.config"] == "all-balanced"
    assert "cut-1 lacks nvidia.com/mig.config=all-balanced" in made.comments


def test_a_layout_of_few_nodes_is_not_that_of_their_pool(drafted):
    plain = [node(f"cut-{number}", {"agentpool": "cut", **T4}) for number in (1, 2, 3)]
    plain[0]["metadata"]["labels"] |= {
        "nvidia.com/mig.config": "all-disabled",
        "nvidia.com/mig.config.state": "success",
    }

    assert "nvidia.com/mig.config" not in drafted(plain).reference.pools[0].labels


def test_a_cordon_is_no_taint_of_the_owners(drafted):
    cordon = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    made = drafted(gpu_nodes("t4", 2, {"agentpool": "t4", **T4}, taints=[cordon]))

    assert made.pool("t4").taints == ()


def test_a_node_with_fewer_gpus_contradicts_its_pool(drafted):
    group = {"agentpool": "t4", **T4}
    made = drafted(gpu_nodes("t4", 2, group), node("t4-3", group, {"nvidia.com/gpu": 3}))

    assert made.pool("t4").gpu.count == 4
    assert "t4-3 offers 3 nvidia.com/gpu" in made.comments


def test_a_node_without_labels_of_gpu_feature_discovery_is_named(drafted):
    made = drafted(
        gpu_nodes("t4", 2, {"agentpool": "t4", **T4}), node("t4-3", {"agentpool": "t4"}, {"nvidia.com/gpu": 4})
    )

    assert "GPU Feature Discovery does not label t4-3" in made.comments


def test_without_a_node_group_a_label_of_the_owners_parts_the_nodes(drafted):
    made = drafted(
        gpu_nodes("a", 2, {"example.com/rack": "r1", "asset": "77", **T4}),
        gpu_nodes("b", 2, {"example.com/rack": "r2", "asset": "78", **L4}),
        node("cpu-1", {"example.com/rack": "r3"}),
    )

    assert {pool.selector["example.com/rack"] for pool in made.reference.pools} == {"r1", "r2", "r3"}
    assert "a node that lost it is not found" in made.comments


def test_a_role_of_openshift_is_a_selector(drafted):
    made = drafted(gpu_nodes("gpu", 2, {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/gpu": "", **T4}))

    assert made.pool("gpu").selector == {"node-role.kubernetes.io/gpu": ""}


def test_nodes_that_nobody_marked_are_found_by_their_product_and_that_is_said(drafted):
    made = drafted(gpu_nodes("gpu", 2, {"node.kubernetes.io/instance-type": "k3s", **T4}), node("cpu", {}))

    (pool,) = made.reference.pools
    assert pool.holds({"node.kubernetes.io/instance-type": "k3s", **T4})
    assert "give the nodes a label where they are made" in made.comments


def test_a_group_of_two_instance_types_becomes_two_pools(drafted):
    group = {"karpenter.sh/nodepool": "gpu"}
    kind = "node.kubernetes.io/instance-type"
    made = drafted(
        gpu_nodes("a", 1, {**group, kind: "g4dn.12xlarge", **T4}),
        gpu_nodes("b", 2, {**group, kind: "g6.12xlarge", **L4}),
    )

    assert {(pool.selector[kind], pool.gpu.product) for pool in made.reference.pools} == {
        ("g4dn.12xlarge", "Tesla-T4"),
        ("g6.12xlarge", "NVIDIA-L4"),
    }


def test_a_single_wrong_card_stays_in_its_pool(drafted):
    group = {"agentpool": "t4"}
    made = drafted(gpu_nodes("t4", 3, {**group, **T4}), gpu_nodes("odd", 1, {**group, **L4}))

    assert [pool.gpu.product for pool in made.reference.pools] == ["Tesla-T4"]


def test_replicas_are_told_apart_from_gpus(drafted):
    labels = {
        "agentpool": "t4",
        **T4,
        "nvidia.com/gpu.replicas": "3",
        "nvidia.com/gpu.sharing-strategy": "time-slicing",
    }
    gpu = drafted(gpu_nodes("t4", 2, labels, {"nvidia.com/gpu.shared": 12})).pool("t4").gpu

    assert (gpu.count, gpu.replicas, gpu.shared_by, gpu.resource) == (4, 3, "time-slicing", "nvidia.com/gpu.shared")


def test_time_sharing_of_gke_is_read_from_its_labels(drafted):
    labels = {
        "cloud.google.com/gke-nodepool": "l4",
        "cloud.google.com/gke-accelerator": "nvidia-l4",
        "cloud.google.com/gke-gpu-sharing-strategy": "time-sharing",
        "cloud.google.com/gke-max-shared-clients-per-gpu": "4",
    }
    gpu = drafted(gpu_nodes("l4", 2, labels, {"nvidia.com/gpu": 8})).pool("l4").gpu

    assert (gpu.model, gpu.count, gpu.replicas, gpu.shared_by) == ("l4", 2, 4, "time-slicing")


def test_replicas_of_which_no_label_tells_are_left_to_decide(drafted):
    made = drafted(gpu_nodes("p5", 1, {"eks.amazonaws.com/nodegroup": "p5"}, {"nvidia.com/gpu.shared": 128}))

    gpu = made.pool("p5").gpu
    assert (gpu.count * gpu.replicas, gpu.resource, gpu.shared_by) == (128, "nvidia.com/gpu.shared", "other")
    assert "decide: count, the GPUs of a node, and replicas" in made.comments


@pytest.mark.parametrize(
    "registered",
    [
        "GPU-1,10,46068,100,NVIDIA-NVIDIA A40,0,true:GPU-2,10,46068,100,NVIDIA-NVIDIA A40,0,true:",
        '[{"id": "GPU-1", "count": 10, "devmem": 46068}, {"id": "GPU-2", "count": 10, "devmem": 46068}]',
    ],
    ids=["text", "JSON"],
)
def test_replicas_of_hami_are_read_from_its_register_and_left_to_it(drafted, registered):
    nodes = gpu_nodes("a40", 2, {"agentpool": "a40"}, {"nvidia.com/gpu": 20})
    for each in nodes:
        each["metadata"]["annotations"] = {"hami.io/node-nvidia-register": registered}

    made = drafted(nodes)

    gpu = made.pool("a40").gpu
    assert (gpu.count, gpu.replicas, gpu.shared_by) == (2, 10, "other")
    assert "shared by HAMi" in made.comments


def test_memory_that_alibabas_plugin_offers_is_parts_of_the_gpus_that_it_counts(drafted):
    made = drafted(gpu_nodes("v100", 2, {"agentpool": "v100"}, {"aliyun.com/gpu-mem": 60, "aliyun.com/gpu-count": 4}))

    gpu = made.pool("v100").gpu
    assert (gpu.resource, gpu.count, gpu.replicas, gpu.shared_by) == ("aliyun.com/gpu-mem", 4, 15, "other")
    assert not made.draft.contradictions


def test_by_what_an_exporter_watches_gpus_is_no_gpu(drafted):
    offered = {"gpu.intel.com/i915": 2, "gpu.intel.com/i915_monitoring": 1}
    made = drafted(
        gpu_nodes("flex", 1, {"agentpool": "flex"}, offered),
        gpu_nodes("igpu", 1, {"agentpool": "igpu"}, {"gpu.intel.com/i915_monitoring": 1}),
    )

    assert (made.pool("flex").gpu.resource, made.pool("flex").gpu.count) == ("gpu.intel.com/i915", 2)
    assert made.pool("igpu").gpu is None


@pytest.mark.parametrize("registered", ["", "odd", "[1]", '{"a": 1}'])
def test_a_register_of_hami_that_cannot_be_read_makes_no_replicas(drafted, registered):
    nodes = gpu_nodes("a40", 1, {"agentpool": "a40"}, {"nvidia.com/gpu": 2})
    nodes[0]["metadata"]["annotations"] = {"hami.io/node-nvidia-register": registered}

    gpu = drafted(nodes).pool("a40").gpu

    assert (gpu.count, gpu.replicas) == (2, 1)


def test_network_devices_of_nvidia_are_no_gpus(drafted):
    with_gpus = gpu_nodes("h100", 2, {"agentpool": "h100"}, {"nvidia.com/gpu": 8, "nvidia.com/sriov_rdma_vf": 16})
    storage = gpu_nodes("storage", 2, {"agentpool": "storage"}, {"nvidia.com/hostdev": 2})

    made = drafted(with_gpus, storage)

    assert made.pool("h100").gpu.count == 8
    assert made.pool("storage").gpu is None
    assert not made.draft.contradictions


@pytest.mark.parametrize(
    "label",
    ["backend.coreweave.cloud/fabric", "gpu.nvidia.com/class", "nebius.com/gpu-name", "kmm.node.kubernetes.io/x.ready"],
)
def test_what_a_platform_writes_on_its_nodes_is_not_declared(drafted, label):
    assert drafted(gpu_nodes("gpu", 2, {"agentpool": "gpu", label: "x"})).pool("gpu").labels == {}


def test_a_group_that_the_platform_makes_for_pods_may_be_gone_tomorrow(drafted):
    made = drafted(gpu_nodes("g", 2, {"cloud.google.com/gke-nodepool": "nap-g2-standard-12-gpu1-1f2e", **T4}))

    assert made.pool("nap-g2-standard-12-gpu1-1f2e").nodes == 0
    assert "the platform makes such groups and removes them" in " ".join(made.comments.split())


@pytest.mark.parametrize(
    ("labels", "count"),
    [
        ({"cloud.google.com/gke-accelerator": "nvidia-l4"}, 1),
        ({"karpenter.k8s.aws/instance-gpu-name": "l4", "karpenter.k8s.aws/instance-gpu-count": "4"}, 4),
        ({"karpenter.k8s.aws/instance-gpu-name": "v520", "karpenter.k8s.aws/instance-gpu-manufacturer": "amd"}, None),
        ({}, None),
    ],
)
def test_gpus_that_the_platform_names_are_drafted_where_none_is_offered(drafted, labels, count):
    made = drafted(gpu_nodes("l4", 2, {"agentpool": "l4", **labels}, {}))

    gpu = made.pool("l4").gpu
    assert (gpu and gpu.count) == count
    assert bool(made.draft.contradictions) is (count is not None)


def karpenter(prefix: str, instance: str, *gpus: int) -> list:
    labels = {"karpenter.sh/nodepool": "gpu", "node.kubernetes.io/instance-type": instance}
    return [node(f"{prefix}-{at}", labels, {"nvidia.com/gpu": count}) for at, count in enumerate(gpus)]


def test_a_node_pool_of_several_instance_types_is_a_pool_for_each_number_of_gpus(drafted):
    made = drafted(karpenter("small", "g6.xlarge", 1, 1), karpenter("big", "g6.12xlarge", 4))

    assert {pool.name: pool.gpu.count for pool in made.reference.pools} == {"gpu-g6-xlarge": 1, "gpu-g6-12xlarge": 4}
    assert "which other instance types the group may take" in made.comments
    assert not made.draft.contradictions


def test_a_node_that_lost_a_gpu_is_no_other_kind_of_machine(drafted):
    made = drafted(karpenter("big", "g6.12xlarge", 4, 4, 3), karpenter("other", "g6e.12xlarge", 4))

    assert [pool.name for pool in made.reference.pools] == ["gpu"]
    assert any("big-2 offers 3" in each for each in made.draft.contradictions)


def test_nodes_are_not_selected_by_the_version_of_an_extension_of_talos(drafted):
    labels = {"extensions.talos.dev/nonfree-kmod-nvidia-production": "570.195.03-v1.11.2", **T4}

    (pool,) = drafted(gpu_nodes("gpu", 2, labels)).reference.pools

    assert pool.selector == {"nvidia.com/gpu.product": "Tesla-T4"}
    assert pool.labels == {}


def test_under_the_strategy_single_the_label_counts_mig_devices(drafted):
    labels = {"agentpool": "a100", **MIG_SINGLE}
    pool = drafted(gpu_nodes("a100", 2, labels, {"nvidia.com/gpu": 14})).pool("a100")

    assert (pool.gpu.count, pool.gpu.product) == (2, "NVIDIA-A100-PCIE-40GB")
    assert pool.labels == {"nvidia.com/mig.config": "all-1g.5gb"}


def test_a_layout_that_nobody_knows_contradicts_the_pool(drafted):
    labels = {"agentpool": "a100", **MIG_SINGLE, "nvidia.com/mig.config": "of-our-own"}
    made = drafted(gpu_nodes("a100", 2, labels, {"nvidia.com/gpu": 14}))

    assert "the layout of-our-own is neither declared nor one of the MIG manager's own" in made.comments


def test_mig_devices_of_which_no_label_names_the_layout_are_declared_under_their_name(drafted):
    made = drafted(gpu_nodes("mig", 2, {"agentpool": "mig"}, {"nvidia.com/mig-1g.10gb": 7}))
    pool = made.pool("mig")

    assert (pool.gpu.resource, pool.gpu.count) == ("nvidia.com/mig-1g.10gb", 7)
    assert "no label nvidia.com/mig.config names a layout" in made.comments
    assert "as well" not in made.comments


def test_a_second_profile_of_such_a_pool_contradicts_it(drafted):
    offers = {"nvidia.com/mig-1g.10gb": 4, "nvidia.com/mig-3g.40gb": 1}
    made = drafted(gpu_nodes("mig", 2, {"agentpool": "mig"}, offers))

    assert "the nodes offer nvidia.com/mig-1g.10gb as well, and a pool declares one resource" in made.comments


def test_a_layout_that_the_operator_writes_by_itself_is_no_choice(drafted):
    made = drafted(gpu_nodes("t4", 2, {"agentpool": "t4", **T4, "nvidia.com/mig.config": "all-disabled"}))

    assert made.pool("t4").labels == {}


def test_gpus_that_dra_gives_out_are_counted_in_resource_slices(drafted):
    devices = [
        {
            "name": f"gpu-{number}",
            "attributes": {
                "type": {"string": "gpu"},
                "productName": {"string": "NVIDIA H100 80GB HBM3"},
                "driverVersion": {"version": "580.95.5"},
            },
            "capacity": {"memory": {"value": "81559Mi"}},
        }
        for number in range(8)
    ]
    body = {"driver": "gpu.nvidia.com", "nodeName": "h100-1", "pool": {"name": "h100-1", "generation": 1}}
    piece = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": "h100-1"},
        "spec": {**body, "devices": devices},
    }
    driver = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "dra-driver-nvidia-gpu-kubelet-plugin", "namespace": "dra"},
        "spec": {"template": {"spec": {"containers": [{"name": "gpus", "image": "dra:v0.4.1"}]}}},
    }
    made = drafted(node("h100-1", {"agentpool": "h100"}), piece, driver)

    gpu = made.pool("h100").gpu
    assert (gpu.allocated_by, gpu.count, gpu.product, gpu.memory_mib) == ("dra", 8, "NVIDIA-H100-80GB-HBM3", 81559)
    assert made.reference.stack.kind == "dra-driver"
    assert made.reference.stack.driver == "580.95.05"


def test_accelerators_of_others_are_pools_too(drafted):
    made = drafted(gpu_nodes("mi300", 2, {"agentpool": "mi300"}, {"amd.com/gpu": 8}))

    assert (made.pool("mi300").gpu.resource, made.pool("mi300").gpu.count) == ("amd.com/gpu", 8)
    assert made.reference.gpu_resource == "amd.com/gpu"


def test_a_name_that_the_kubelet_only_remembers_is_not_offered(drafted):
    nodes = gpu_nodes("t4", 2, {"agentpool": "t4", **T4}, {"nvidia.com/gpu": 4})
    for each in nodes:
        each["status"]["capacity"]["nvidia.com/gpu.shared"] = "12"
        each["status"]["allocatable"]["nvidia.com/gpu.shared"] = "0"
    gpu = drafted(nodes).pool("t4").gpu

    assert (gpu.resource, gpu.count) == ("nvidia.com/gpu", 4)


def test_a_cluster_without_gpus_gives_a_set_up_that_loads(drafted):
    made = drafted(node("cpu-1", {"agentpool": "cpu"}), node("control", {"node-role.kubernetes.io/control-plane": ""}))

    assert [pool.gpu for pool in made.reference.pools] == [None]
    assert "control" in made.comments


def test_a_label_by_which_people_name_pools_comes_before_one_that_describes_gpus(drafted):
    made = drafted(
        gpu_nodes("spot", 2, {"accelerator": "t4", "example.com/pool": "spot", **T4}),
        gpu_nodes("own", 2, {"accelerator": "l4", **L4}),
        node("cpu-1", {"example.com/pool": "system"}),
    )

    assert {pool.name: pool.selector for pool in made.reference.pools} == {
        "spot": {"example.com/pool": "spot"},
        "l4": {"accelerator": "l4"},
        "system": {"example.com/pool": "system"},
    }


def test_among_few_nodes_a_label_with_another_value_on_each_names_groups(drafted):
    made = drafted(gpu_nodes("gpu", 1, {"ng": "rtx", **T4}), node("cpu-1", {"ng": "cpu"}))

    assert {pool.name for pool in made.reference.pools} == {"rtx", "cpu"}


def test_a_quarantine_reserves_no_node(drafted):
    quarantine = {"key": "AggregatedNodeHealth", "value": "false", "effect": "NoSchedule"}
    made = drafted(gpu_nodes("t4", 1, {"agentpool": "t4", **T4}, taints=[quarantine]))

    assert made.pool("t4").taints == ()
    assert "only t4-1: AggregatedNodeHealth=false:NoSchedule, left out" in made.comments


@pytest.mark.parametrize(
    ("product", "model"),
    [
        ("NVIDIA-A100-SXM4-40GB", "a100"),
        ("Tesla-T4", "t4"),
        ("NVIDIA-H100-80GB-HBM3", "h100"),
        ("NVIDIA-GeForce-RTX-2080-Ti", "rtx-2080-ti"),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", "rtx-pro-6000"),
        ("NVIDIA-GB200", "gb200"),
    ],
)
def test_a_model_has_a_short_name(drafted, product, model):
    made = drafted(gpu_nodes("gpu", 2, {"agentpool": "gpu", **T4, "nvidia.com/gpu.product": product}))

    assert made.pool("gpu").gpu.model == model


def test_gpus_that_nobody_counts_are_declared_so_that_they_are_missed(drafted):
    made = drafted(gpu_nodes("gpu", 2, {"agentpool": "gpu", "feature.node.kubernetes.io/pci-10de.present": "true"}, {}))

    assert made.pool("gpu").gpu.count == 1
    assert any("no node tells how many GPUs it has" in each for each in made.draft.contradictions)


def test_mig_devices_that_dra_gives_out_are_of_as_many_gpus_as_they_name(drafted):
    def device(number, parent):
        attributes = {"type": {"string": "mig"}, "parentUUID": {"string": parent}}
        return {"name": f"mig-{number}", "attributes": attributes}

    body = {"driver": "gpu.nvidia.com", "nodeName": "h100-1", "pool": {"name": "h100-1", "generation": 1}}
    devices = [device(1, "GPU-a"), device(2, "GPU-a"), device(3, "GPU-b")]
    piece = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": "h100-1"},
        "spec": {**body, "devices": devices},
    }
    driver = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "dra-driver-nvidia-gpu-kubelet-plugin", "namespace": "dra"},
        "spec": {"template": {"spec": {"containers": [{"name": "gpus", "image": "dra:v0.4.1"}]}}},
    }

    assert drafted(node("h100-1", {"agentpool": "h100"}), piece, driver).pool("h100").gpu.count == 2


def test_no_node_is_in_two_drafted_pools(drafted):
    nodes = [
        *gpu_nodes("managed", 2, {"eks.amazonaws.com/nodegroup": "t4", "team": "a", **T4}),
        *gpu_nodes("own", 2, {"team": "a", "rack": "r1", **T4}),
        *gpu_nodes("bare", 2, {"node.kubernetes.io/instance-type": "metal", **L4}),
        *gpu_nodes("more", 2, {"eks.amazonaws.com/nodegroup": "l4", "node.kubernetes.io/instance-type": "metal", **L4}),
    ]
    pools = drafted(nodes).reference.pools

    for each in nodes:
        assert len([pool for pool in pools if pool.holds(each["metadata"]["labels"])]) == 1, each["metadata"]["name"]


@pytest.mark.parametrize(("instance_type", "model"), [("k3s", "unknown"), ("p4d.24xlarge", "p4d.24xlarge")])
def test_a_model_is_named_after_an_instance_type_only_where_that_tells_something(drafted, instance_type, model):
    """k3s gives every machine the instance type k3s."""
    labels = {"pool": "cards", "node.kubernetes.io/instance-type": instance_type}

    made = drafted(*gpu_nodes("gpu", 2, labels), node("cpu", {"pool": "cpu"}))

    assert [pool.gpu.model for pool in made.reference.pools if pool.gpu] == [model]


@pytest.mark.parametrize(("value", "declared"), [("nvidia", {}), ("a100", {"accelerator": "a100"})])
def test_a_label_that_aks_writes_is_not_the_owners(drafted, value, declared):
    made = drafted(gpu_nodes("gpu", 2, {"kubernetes.azure.com/agentpool": "gpu", "accelerator": value}))

    assert made.pool("gpu").labels == declared
