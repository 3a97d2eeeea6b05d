"""What the simulated charts create: names, defaults and contradictions as NVIDIA's charts have them."""

from collections.abc import Iterator
from typing import Any

import pytest

from conformance.clusters.embedded import EmbeddedSpec, start
from conformance.clusters.embedded.simulated_installer import SimulatedInstaller
from conformance.deploy import deploy, withdraw
from conformance.deploy.helm.releases import Release
from conformance.deploy.installing import InstallError, StackPresent
from conformance.deploy.node_marks import NodeRecords
from conformance.gpu.operator_stack import StackKind, detect
from conformance.kube.client import Client
from conformance.kube.errors import Invalid
from conformance.kube.timeouts import EMBEDDED
from conformance.reference import Reference
from conformance.reference.model import Gpu, Pool, PoolTaint
from conformance.reference.stack import PluginConfigs, Stack
from conformance.simulator.chart import ChartError, device_plugin, dra_driver, gpu_operator

OPERATOR_TOLERATION = {
    "key": "node-role.kubernetes.io/control-plane",
    "operator": "Equal",
    "value": "",
    "effect": "NoSchedule",
}
GPU = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
MINE = {"key": "dedicated", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}


def one(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [obj for obj in objects if (obj["kind"], obj["metadata"]["name"]) == (kind, name)]
    return found


def pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = workload["spec"]["template"]["spec"]
    return spec


def named(objects: list[dict[str, Any]], kind: str) -> list[str]:
    return [obj["metadata"]["name"] for obj in objects if obj["kind"] == kind]


def test_the_operator_chart_brings_operator_discovery_and_one_cluster_policy() -> None:
    objects = gpu_operator({})

    assert named(objects, "Deployment") == [
        "gpu-operator-node-feature-discovery-master",
        "gpu-operator-node-feature-discovery-gc",
        "gpu-operator",
    ]
    assert named(objects, "DaemonSet") == ["gpu-operator-node-feature-discovery-worker"]
    assert named(objects, "ClusterPolicy") == ["cluster-policy"]
    assert named(objects, "GPUCluster") == named(objects, "NVIDIADriver") == []
    assert {"clusterpolicies.nvidia.com", "gpuclusters.nvidia.com", "nvidiadrivers.nvidia.com"} <= set(
        named(objects, "CustomResourceDefinition")
    )


def test_the_namespace_allows_privileged_pods() -> None:
    labels = one(gpu_operator({}, namespace_name="gpus"), "Namespace", "gpus")["metadata"]["labels"]

    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"


def test_the_operator_itself_tolerates_the_control_plane_only() -> None:
    operator = one(gpu_operator({}), "Deployment", "gpu-operator")

    assert operator["spec"]["replicas"] == 1
    assert pod_of(operator)["tolerations"] == [OPERATOR_TOLERATION]
    assert operator["metadata"]["labels"]["nvidia.com/gpu-driver-upgrade-drain.skip"] == "true"


def test_by_default_only_the_gpu_taint_is_tolerated() -> None:
    objects = gpu_operator({})

    worker = one(objects, "DaemonSet", "gpu-operator-node-feature-discovery-worker")
    assert pod_of(worker)["tolerations"] == [OPERATOR_TOLERATION, GPU]
    assert one(objects, "ClusterPolicy", "cluster-policy")["spec"]["daemonsets"]["tolerations"] == [GPU]


def test_a_list_of_tolerations_replaces_the_default() -> None:
    values = {
        "daemonsets": {"tolerations": [MINE]},
        "node-feature-discovery": {"worker": {"tolerations": [MINE]}},
    }

    objects = gpu_operator(values)

    assert pod_of(one(objects, "DaemonSet", "gpu-operator-node-feature-discovery-worker"))["tolerations"] == [MINE]
    spec = one(objects, "ClusterPolicy", "cluster-policy")["spec"]
    assert spec["daemonsets"]["tolerations"] == [MINE]
    assert spec["daemonsets"]["rollingUpdate"] == {"maxUnavailable": "1"}


def test_the_cluster_policy_says_what_the_values_say() -> None:
    values = {
        "driver": {"version": "580.95.05"},
        "toolkit": {"enabled": False},
        "mig": {"strategy": "mixed"},
        "devicePlugin": {"config": {"name": "sharing", "default": "plain"}},
        "migManager": {"config": {"name": "layouts"}},
    }

    spec = one(gpu_operator(values, version="v26.3.1"), "ClusterPolicy", "cluster-policy")["spec"]

    assert (spec["driver"]["enabled"], spec["driver"]["version"]) == (True, "580.95.05")
    assert spec["toolkit"]["enabled"] is False
    assert spec["mig"] == {"strategy": "mixed"}
    assert spec["devicePlugin"]["config"] == {"name": "sharing", "default": "plain"}
    assert spec["migManager"]["config"] == {"name": "layouts", "default": "all-disabled"}
    assert spec["dcgm"]["enabled"] is spec["nodeStatusExporter"]["enabled"] is False
    assert spec["validator"]["version"] == "v26.3.1"
    assert spec["driver"]["upgradePolicy"]["podDeletion"] == {
        "force": False,
        "timeoutSeconds": 300,
        "deleteEmptyDir": False,
    }


def test_without_a_named_configuration_the_plugin_has_none() -> None:
    assert "config" not in one(gpu_operator({}), "ClusterPolicy", "cluster-policy")["spec"]["devicePlugin"]


def test_dra_has_an_operator_resource_of_its_own() -> None:
    driver = {"nvidiaDriverCRD": {"enabled": True}}
    values = {"clusterPolicy": {"deployCR": False}, "gpuCluster": {"deployCR": True}, "driver": driver}

    objects = gpu_operator(values)

    assert named(objects, "GPUCluster") == ["gpu-cluster"]
    assert named(objects, "ClusterPolicy") == []
    assert one(objects, "NVIDIADriver", "default")["spec"]["default"] is True


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"gpuCluster": {"deployCR": True}}, "only one of them can be"),
        ({"gpuCluster": {"deployCR": True}, "clusterPolicy": {"deployCR": False}}, "nvidiaDriverCRD.enabled"),
        ({"cdi": {"enabled": False, "nriPluginEnabled": True}}, "cdi.nriPluginEnabled"),
        ({"devicePlugin": {"config": {"create": True, "name": "x"}}}, "devicePlugin.config.data"),
    ],
)
def test_contradictions_are_refused_as_by_the_chart(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ChartError, match=says):
        gpu_operator(values)


def test_the_plugin_chart_runs_without_an_operator() -> None:
    values = {"gfd": {"enabled": True}, "migStrategy": "mixed", "config": {"name": "sharing", "default": "plain"}}

    objects = device_plugin(values)

    assert named(objects, "DaemonSet") == [
        "nvidia-device-plugin-node-feature-discovery-worker",
        "nvidia-device-plugin",
        "nvidia-device-plugin-mps-control-daemon",
        "nvidia-device-plugin-gpu-feature-discovery",
    ]
    sidecar, plugin = pod_of(one(objects, "DaemonSet", "nvidia-device-plugin"))["containers"]
    assert {"name": "DEFAULT_CONFIG", "value": "plain"} in sidecar["env"]
    assert {"name": "MIG_STRATEGY", "value": "mixed"} in plugin["env"]
    assert named(objects, "ConfigMap")[2:] == []
    assert detect(objects).stack is StackKind.DEVICE_PLUGIN


@pytest.mark.parametrize(
    ("values", "rights"),
    [
        ({"migStrategy": "none"}, {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}),
        ({"migStrategy": "single"}, {"capabilities": {"add": ["SYS_ADMIN"]}}),
    ],
)
def test_a_plugin_that_looks_at_no_mig_devices_has_no_capability(values: dict[str, Any], rights: object) -> None:
    plugin = pod_of(one(device_plugin(values), "DaemonSet", "nvidia-device-plugin"))["containers"][-1]

    assert plugin["securityContext"] == rights


def test_configurations_in_the_values_become_a_config_map() -> None:
    objects = device_plugin({"config": {"map": {"default": "version: v1"}}})

    assert one(objects, "ConfigMap", "nvidia-device-plugin-configs")["data"] == {"default": "version: v1"}
    with pytest.raises(ChartError, match="none is the default"):
        device_plugin({"config": {"map": {"a": "version: v1", "b": "version: v1"}}})


def test_the_dra_chart_needs_the_word_of_its_owner() -> None:
    with pytest.raises(ChartError, match="gpuResourcesEnabledOverride"):
        dra_driver({})


def test_the_dra_chart_brings_plugin_controller_and_device_classes() -> None:
    selector = {"pool": "dra"}
    objects = dra_driver({"gpuResourcesEnabledOverride": True, "kubeletPlugin": {"nodeSelector": selector}})

    plugin = pod_of(one(objects, "DaemonSet", "dra-driver-nvidia-gpu-kubelet-plugin"))
    assert [each["name"] for each in plugin["containers"]] == ["compute-domains", "gpus"]
    assert (plugin["nodeSelector"], plugin["tolerations"]) == (selector, [GPU])
    assert named(objects, "Deployment") == ["dra-driver-nvidia-gpu-controller"]
    assert one(objects, "DeviceClass", "gpu.nvidia.com")["spec"]["extendedResourceName"] == "nvidia.com/gpu"
    assert "extendedResourceName" not in one(objects, "DeviceClass", "mig.nvidia.com")["spec"]
    assert detect(objects).stack is StackKind.DRA_DRIVER


def test_older_resource_apis_have_no_extended_resources() -> None:
    values = {"gpuResourcesEnabledOverride": True, "resourceApiVersion": "resource.k8s.io/v1beta1"}

    gpu = one(dra_driver(values), "DeviceClass", "gpu.nvidia.com")

    assert gpu["apiVersion"] == "resource.k8s.io/v1beta1"
    assert "extendedResourceName" not in gpu["spec"]


def test_the_dra_driver_under_its_former_name_tolerated_nothing() -> None:
    objects = dra_driver({"gpuResourcesEnabledOverride": True}, version="v25.12.0")

    plugin = pod_of(one(objects, "DaemonSet", "nvidia-dra-driver-gpu-kubelet-plugin"))
    assert "tolerations" not in plugin


TOPOLOGY = """
name: bare
description: one bare machine with GPUs and one without
pools:
  - name: gpu
    count: 1
    cpu: "48"
    memory: 192Gi
    labels: {pool: gpu}
    gpu: {product: Tesla-T4, family: turing, compute: "7.5", count: 4, memory_mib: 15360, brought_by: stack}
  - {name: cpu, count: 1, cpu: "16", memory: 64Gi, labels: {pool: cpu}}
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A cluster whose nodes have no stack: those of the shared one bring their GPUs along."""
    file = tmp_path_factory.mktemp("topology") / "bare.yaml"
    file.write_text(TOPOLOGY)
    with start(EmbeddedSpec(topology=file)) as running, running.client() as client:
        yield client


@pytest.fixture
def reference(client: Client) -> Iterator[Reference]:
    """A set-up with a stack and a pool behind a taint of its own; whatever it deploys is withdrawn."""
    configs = PluginConfigs("plugin-configs", {"plain": {"version": "v1"}}, "plain")
    pool = Pool("gpu", {"pool": "gpu"}, taints=(PoolTaint("dedicated", "NoSchedule", "gpu"),), gpu=Gpu("t4", 4))
    reference = Reference("chart-tests", stack=Stack("gpu-operator", plugin_configs=configs), pools=(pool,))
    try:
        yield reference
    finally:
        withdraw(client, reference, timeouts=EMBEDDED, installer=SimulatedInstaller())


@pytest.mark.cluster
def test_a_deployed_stack_brings_the_gpus_and_withdrawn_it_leaves_nothing(client: Client, reference: Reference) -> None:
    installer = SimulatedInstaller()
    before = _what_is_there(client)

    deployed = deploy(client, reference, timeouts=EMBEDDED, installer=installer)

    assert deployed.not_allocatable == ()
    assert deployed.releases == ("Helm release gpu-operator/gpu-operator (gpu-operator v26.7.0)",)
    (recorded,) = NodeRecords(client).installed
    assert (recorded.name, recorded.marked) == ("gpu-operator", False)
    again = deploy(client, reference, timeouts=EMBEDDED, installer=installer)
    assert (again.created, again.updated, again.left_alone) == ((), (), "")
    release = Release("gpu-operator", "gpu-operator", "", "v26.7.0", "gpu-operator")
    with pytest.raises(StackPresent, match="is in namespace gpu-operator already"):
        installer.install(client, release, EMBEDDED)
    _is_left_alone_by_others(client)

    withdrawn = withdraw(client, reference, timeouts=EMBEDDED, installer=installer)

    assert withdrawn.left == ()
    assert _what_is_there(client) == before


@pytest.mark.cluster
def test_what_the_definitions_of_nvidia_refuse_is_refused(client: Client, reference: Reference) -> None:
    deploy(client, reference, timeouts=EMBEDDED, installer=SimulatedInstaller())

    odd = {"apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "metadata": {"name": "odd"}}
    with pytest.raises(Invalid, match="Unsupported value"):
        client.apply({**odd, "spec": {"mig": {"strategy": "double"}}})
    cluster_ = {"apiVersion": "nvidia.com/v1alpha1", "kind": "GPUCluster", "metadata": {"name": "other"}}
    with pytest.raises(Invalid, match="gpu-cluster"):
        client.apply({**cluster_, "spec": {"draDriver": {}}})
    with pytest.raises(Invalid, match=r"spec\.draDriver: Required"):
        client.apply({**cluster_, "metadata": {"name": "gpu-cluster"}, "spec": {}})


@pytest.mark.cluster
def test_a_contradiction_in_the_values_is_an_error_of_the_set_up(client: Client) -> None:
    values = {"gpuCluster": {"deployCR": True}}
    release = Release("gpu-operator", "gpu-operator", "", "v26.7.0", "gpu-operator", values)

    with pytest.raises(InstallError, match="only one of them can be"):
        SimulatedInstaller().install(client, release, EMBEDDED)


def _is_left_alone_by_others(client: Any) -> None:
    """A run that did not install the stack does not touch it."""

    class NothingOnRecord(NodeRecords):
        installed = ()  # type: ignore[assignment]

    other = Reference("other", stack=Stack("gpu-operator", namespace="elsewhere"))
    done = deploy(client, other, NothingOnRecord(client), timeouts=EMBEDDED, installer=SimulatedInstaller())
    assert "ClusterPolicy cluster-policy" in done.left_alone
    assert done.releases == ()


def _what_is_there(client: Any) -> dict[str, Any]:
    """Everything that a stack could leave: definitions, namespaces, classes, and what stands on nodes."""
    kinds = {
        "definitions": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        "namespaces": "/api/v1/namespaces",
        "device classes": "/apis/resource.k8s.io/v1/deviceclasses",
        "config maps": "/api/v1/configmaps",
    }
    found: dict[str, Any] = {
        what: sorted(
            f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"
            for obj in client.list(path)
            if not obj["metadata"]["name"].startswith("kube-")
        )
        for what, path in kinds.items()
    }
    prefixes = ("nvidia.com/", "feature.node.kubernetes.io/")
    found["labels"] = sorted(
        f"{node['metadata']['name']} {key}"
        for node in client.list("/api/v1/nodes")
        for key in node["metadata"]["labels"]
        if key.startswith(prefixes)
    )
    return found
