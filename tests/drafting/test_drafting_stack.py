"""The stack is read from what tells of it, and what nothing tells of is not declared."""

from fleet import T4, gpu_nodes, named, node, pod

NODES = gpu_nodes("t4", 2, {"agentpool": "t4", **T4})
SLICED = "version: v1\nsharing:\n  timeSlicing:\n    resources: [{name: nvidia.com/gpu, replicas: 4}]\n"


def operator(**spec):
    policy = named("ClusterPolicy", "cluster-policy", apiVersion="nvidia.com/v1", spec=spec)
    containers = [{"name": "gpu-operator", "image": "nvcr.io/nvidia/gpu-operator:v26.7.0"}]
    deployment = named(
        "Deployment",
        "gpu-operator",
        "nvidia",
        apiVersion="apps/v1",
        spec={"template": {"spec": {"containers": containers}}},
        status={"observedGeneration": 1, "availableReplicas": 1},
    )
    return [policy, deployment]


def config_map(name, **data):
    return named("ConfigMap", name, "nvidia", apiVersion="v1", data=data)


def test_switches_version_and_driver_come_from_the_cluster_policy(drafted):
    stack = drafted(
        NODES, operator(driver={"version": "580.95.05"}, dcgmExporter={"enabled": False}, mig={"strategy": "mixed"})
    ).reference.stack

    assert (stack.kind, stack.namespace, stack.version, stack.driver) == (
        "gpu-operator",
        "nvidia",
        "v26.7.0",
        "580.95.05",
    )
    assert (stack.dcgm_exporter, stack.toolkit, stack.mig_strategy) == (False, True, "mixed")


def test_a_plugin_that_the_operator_is_told_not_to_bring_stays_so(drafted):
    assert drafted(NODES, operator(devicePlugin={"enabled": False})).reference.stack.values == {
        "devicePlugin": {"enabled": False}
    }


def test_what_the_operator_is_told_outranks_what_a_node_has(drafted):
    made = drafted(NODES, operator(driver={"version": "595.91.07"}))

    assert made.reference.stack.driver == "595.91.07"
    assert made.reference.pool("t4").gpu.driver == "580.95.05"
    assert "whether this pool is meant to have another driver" in made.comments


def test_a_single_node_with_another_driver_contradicts_the_stack(drafted):
    late = {"agentpool": "t4", **T4, "nvidia.com/cuda.driver-version.full": "570.86.15"}
    made = drafted(NODES, gpu_nodes("late", 1, late), operator(driver={"version": "580.95.05"}))

    assert made.reference.pool("t4").gpu.driver == ""
    assert "late-1 has 570.86.15" in made.comments


def test_configurations_are_those_of_the_config_map(drafted):
    policy = operator(devicePlugin={"config": {"name": "sharing", "default": "sliced"}})
    configs = drafted(NODES, policy, config_map("sharing", sliced=SLICED)).reference.stack.plugin_configs

    assert (configs.config_map, configs.default) == ("sharing", "sliced")
    assert configs.configs["sliced"]["sharing"]["timeSlicing"]["resources"][0]["replicas"] == 4


def test_a_config_map_that_does_not_exist_is_told(drafted):
    made = drafted(NODES, operator(devicePlugin={"config": {"name": "sharing"}}))

    assert made.reference.stack.plugin_configs is None
    assert any("there is no such ConfigMap" in each for each in made.draft.contradictions)


def test_a_default_that_is_no_key_is_told_and_not_declared(drafted):
    policy = operator(devicePlugin={"config": {"name": "sharing", "default": "slice"}})
    made = drafted(NODES, policy, config_map("sharing", sliced=SLICED))

    assert made.reference.stack.plugin_configs.default == ""
    assert "the default slice is none of its keys" in made.comments


def test_a_configuration_that_is_refused_is_told_and_not_declared(drafted):
    policy = operator(devicePlugin={"config": {"name": "sharing"}})
    made = drafted(NODES, policy, config_map("sharing", good=SLICED, bad="version: v1\nsharing: [oh"))

    assert set(made.reference.stack.plugin_configs.configs) == {"good"}
    assert any("configuration bad" in each for each in made.draft.contradictions)


def test_layouts_of_the_owners_are_declared_and_those_of_the_operator_are_not(drafted):
    text = "version: v1\nmig-configs:\n  small:\n  - {devices: all, mig-enabled: true, mig-devices: {1g.5gb: 7}}\n"
    own = operator(migManager={"config": {"name": "layouts"}})
    made = drafted(NODES, own, config_map("layouts", **{"config.yaml": text}))

    assert set(made.reference.stack.mig_layouts.layouts) == {"small"}


def test_the_default_config_map_of_the_mig_manager_is_not_declared(drafted):
    made = drafted(NODES, operator(migManager={"config": {"name": "default-mig-parted-config"}}))

    assert made.reference.stack.mig_layouts is None


def test_a_device_plugin_alone_is_a_stack(drafted):
    container = {
        "name": "nvidia-device-plugin-ctr",
        "image": "nvcr.io/nvidia/k8s-device-plugin:v0.20.0",
        "env": [{"name": "MIG_STRATEGY", "value": "single"}],
    }
    plugin = named(
        "DaemonSet", "plugin", "nvidia", apiVersion="apps/v1", spec={"template": {"spec": {"containers": [container]}}}
    )
    stack = drafted(NODES, plugin).reference.stack

    assert (stack.kind, stack.version, stack.mig_strategy) == ("device-plugin", "v0.20.0", "single")
    assert (stack.driver_managed, stack.toolkit, stack.dcgm_exporter) == (False, False, False)


def test_the_device_plugin_of_gke_is_the_platforms(drafted):
    container = {"name": "nvidia-gpu-device-plugin", "image": "gke.gcr.io/nvidia-gpu-device-plugin"}
    spec = {"template": {"spec": {"containers": [container]}}}
    made = drafted(NODES, named("DaemonSet", "plugin", "kube-system", apiVersion="apps/v1", spec=spec))

    assert made.reference.stack is None
    assert "belongs to the platform (GKE)" in made.comments


def test_without_a_trace_of_a_stack_none_is_declared_and_that_is_said(drafted):
    made = drafted(NODES)

    assert made.reference.stack is None
    assert "declare kind: device-plugin" in made.comments


def test_a_policy_without_operator_is_told_as_what_is_wrong(drafted):
    policy = named("ClusterPolicy", "cluster-policy", apiVersion="nvidia.com/v1", spec={})
    made = drafted(NODES, node("cpu"), policy)

    assert any("nobody acts on it" in each for each in made.draft.contradictions)


def test_where_every_gpu_is_shared_metrics_are_of_no_pod(drafted):
    labels = {"agentpool": "t4", **T4, "nvidia.com/gpu.replicas": "4", "nvidia.com/gpu.sharing-strategy": "mps"}
    made = drafted(gpu_nodes("t4", 2, labels, {"nvidia.com/gpu": 16}), operator())

    assert made.reference.stack.metrics.per_pod is False


def test_queues_of_kai_are_declared_with_their_limits(drafted):
    def queue(name, **spec):
        return named("Queue", name, apiVersion="scheduling.run.ai/v2", spec=spec)

    limits = {"gpu": {"quota": 4, "limit": -1}}
    made = drafted(
        NODES, queue("all"), queue("team", parentQueue="all", resources=limits), queue("lost", parentQueue="none")
    )

    assert {each.name: (each.parent, each.gpu_quota, each.gpu_limit) for each in made.reference.kai.queues} == {
        "all": (None, None, None),
        "team": ("all", 4, -1),
    }
    assert any("its parent none does not exist" in each for each in made.draft.contradictions)


def test_queues_of_run_ai_are_declared_with_its_scheduler_and_label(drafted):
    queue = named("Queue", "nlp", apiVersion="scheduling.run.ai/v2", spec={"resources": {"gpu": {"limit": 8}}})
    made = drafted(NODES, queue, pod("runai-nlp", "train-0", schedulerName="runai-scheduler"))

    kai = made.reference.kai
    assert (kai.namespace, kai.scheduler, kai.queue_label) == ("runai", "runai-scheduler", "runai/queue")


def test_an_operator_that_gives_gpus_out_by_dra_is_declared_with_its_driver(drafted):
    cluster = named("GPUCluster", "gpu-cluster", apiVersion="nvidia.com/v1alpha1", spec={})
    devices = [{"name": "gpu-0", "attributes": {"type": {"string": "gpu"}}}]
    spec = {"driver": "gpu.nvidia.com", "nodeName": "h100", "pool": {"name": "h100"}, "devices": devices}
    made = drafted(
        node("h100", {"agentpool": "h100"}),
        cluster,
        operator()[1],
        named("ResourceSlice", "h100", apiVersion="resource.k8s.io/v1", spec=spec),
    )

    assert made.reference.stack.dra.namespace == "nvidia"
    assert made.reference.stack.dcgm_exporter is False
    assert made.reference.stack.values == {"gpuCluster": {"deployCR": True}}
    assert made.pool("h100").gpu.allocated_by == "dra"


def test_mig_devices_that_are_time_sliced_agree_with_their_nodes(drafted):
    labels = {
        "agentpool": "h100",
        **T4,
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
        "nvidia.com/gpu.count": "2",
        "nvidia.com/mig.config": "ours",
        "nvidia.com/device-plugin.config": "small-shared",
        "nvidia.com/mig-1g.10gb.replicas": "3",
        "nvidia.com/mig-1g.10gb.sharing-strategy": "time-slicing",
        "nvidia.com/mig-3g.40gb.replicas": "1",
        "nvidia.com/mig-3g.40gb.sharing-strategy": "none",
    }
    layouts = (
        "version: v1\nmig-configs:\n  ours:\n"
        "  - {devices: all, mig-enabled: true, mig-devices: {3g.40gb: 1, 1g.10gb: 4}}\n"
    )
    sharing = (
        "version: v1\nsharing:\n  timeSlicing:\n    renameByDefault: true\n"
        "    resources: [{name: nvidia.com/mig-1g.10gb, replicas: 3}]\n"
    )
    told = operator(
        mig={"strategy": "mixed"},
        migManager={"config": {"name": "layouts"}},
        devicePlugin={"config": {"name": "sharing"}},
    )
    made = drafted(
        gpu_nodes("h100", 2, labels, {"nvidia.com/mig-3g.40gb": 2, "nvidia.com/mig-1g.10gb.shared": 24}),
        told,
        config_map("layouts", **{"config.yaml": layouts}),
        config_map("sharing", **{"small-shared": sharing}),
    )

    gpu = made.pool("h100").gpu
    assert (gpu.count, gpu.replicas, gpu.shared_by, gpu.resource) == (2, 3, "time-slicing", "nvidia.com/gpu")
    assert made.draft.contradictions == ()
