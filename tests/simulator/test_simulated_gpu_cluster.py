"""What a GPUCluster leads to, by the manifests of the program and as the program was seen to deploy them."""

from typing import Any

import pytest

from conformance.simulator.chart import gpu_operator
from conformance.simulator.gpucluster import CONTROLLER, DCGM, EXPORTER, KUBELET_PLUGIN, VALIDATOR, Cluster

Object = dict[str, Any]
CHART = {
    "clusterPolicy": {"deployCR": False},
    "gpuCluster": {"deployCR": True},
    "driver": {"nvidiaDriverCRD": {"enabled": True}},
}


def cluster(**values: Any) -> Object:
    """The GPUCluster of the chart with further values."""
    made = gpu_operator({**CHART, **values})
    return next(each for each in made if each["kind"] == "GPUCluster")


def wanted(obj: Object) -> dict[tuple[str, str], Object]:
    """What is to be there for a GPUCluster, by kind and name."""
    return {(each["kind"], each["metadata"]["name"]): each for each in Cluster(obj, "gpu-operator").wanted()}


def daemon_set(name: str, **values: Any) -> Object:
    return wanted(cluster(**values))["DaemonSet", name]


def pod_of(workload: Object) -> Object:
    pod = workload["spec"]["template"]["spec"]
    assert isinstance(pod, dict)
    return pod


def variables(container: Object) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in container["env"]}


def test_metrics_come_where_the_object_has_a_block_for_them() -> None:
    bare = {"metadata": {"name": "gpu-cluster", "uid": "u"}, "spec": {"draDriver": {}}}

    assert ("DaemonSet", EXPORTER) in wanted(cluster())
    assert ("DaemonSet", DCGM) not in wanted(cluster())
    assert ("DaemonSet", EXPORTER) not in wanted(bare)
    assert ("DaemonSet", EXPORTER) in wanted({**bare, "spec": {"draDriver": {}, "dcgmExporter": {}}})
    assert ("DaemonSet", EXPORTER) in Cluster(bare, "gpu-operator").unwanted()


def test_the_exporter_asks_the_host_engine_where_there_is_one() -> None:
    told = "DCGM_REMOTE_HOSTENGINE_INFO"

    assert told not in variables(pod_of(daemon_set(EXPORTER))["containers"][0])
    with_engine = variables(pod_of(daemon_set(EXPORTER, dcgm={"enabled": True}))["containers"][0])
    assert with_engine[told] == "nvidia-dcgm-dra:5555"


def test_drivers_and_validators_are_replaced_all_at_once_and_metrics_one_by_one() -> None:
    at_once = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}}

    for name in (KUBELET_PLUGIN, VALIDATOR):
        assert daemon_set(name)["spec"]["updateStrategy"] == at_once
    assert daemon_set(EXPORTER)["spec"]["updateStrategy"] == {"type": "RollingUpdate"}


def test_only_the_driver_has_the_priority_that_is_asked_for() -> None:
    priority = {"daemonsets": {"priorityClassName": "mine"}}

    assert pod_of(daemon_set(KUBELET_PLUGIN, **priority))["priorityClassName"] == "mine"
    for name in (VALIDATOR, EXPORTER):
        assert pod_of(daemon_set(name, **priority))["priorityClassName"] == "system-node-critical"


def test_the_label_of_a_validators_pods_is_not_that_of_their_daemon_set() -> None:
    made = daemon_set(VALIDATOR)

    assert made["metadata"]["labels"]["app"] == VALIDATOR
    assert made["spec"]["template"]["metadata"]["labels"]["app"] == "nvidia-operator-validator"


def test_each_workload_is_labelled_with_the_state_that_it_belongs_to() -> None:
    made = wanted(cluster(dcgm={"enabled": True}))
    states = {
        name: each["metadata"]["labels"]["nvidia.com/gpu-operator.state"]
        for (kind, name), each in made.items()
        if kind in ("DaemonSet", "Deployment")
    }

    assert states == {
        KUBELET_PLUGIN: "state-dra-driver",
        CONTROLLER: "state-dra-driver",
        VALIDATOR: "state-dra-validation",
        DCGM: "state-dcgm",
        EXPORTER: "state-dcgm-exporter",
    }


def test_the_host_engine_is_reached_on_its_own_node_only() -> None:
    made = wanted(cluster(dcgm={"enabled": True}))

    assert made["Service", DCGM]["spec"]["internalTrafficPolicy"] == "Local"
    assert made["Service", EXPORTER]["spec"]["internalTrafficPolicy"] == "Cluster"


def test_the_controller_stays_beside_the_control_plane_and_tolerates_what_operands_do() -> None:
    pod = pod_of(wanted(cluster())["Deployment", CONTROLLER])

    assert {each["key"] for each in pod["tolerations"]} == {
        "node-role.kubernetes.io/control-plane",
        "node-role.kubernetes.io/master",
        "CriticalAddonsOnly",
        "nvidia.com/gpu",
    }
    assert ("ServiceAccount", "compute-domain-daemon-service-account") in wanted(cluster())


@pytest.mark.parametrize(
    ("driver", "port"), [({}, "51516"), ({"gpus": {"kubeletPlugin": {"healthcheck": {"enabled": False}}}}, "-1")]
)
def test_the_driver_is_told_its_gates_its_paths_and_its_port(driver: Object, port: str) -> None:
    gates = {"featureGates": {"MPSSupport": True, "DynamicMIG": False}}
    told = variables(pod_of(daemon_set(KUBELET_PLUGIN, draDriver={**gates, **driver}))["containers"][0])

    assert told["FEATURE_GATES"] == "DynamicMIG=false,MPSSupport=true"
    assert told["KUBELET_PLUGINS_DIRECTORY_PATH"] == "/var/lib/kubelet/plugins"
    assert told["HEALTHCHECK_PORT"] == port


def test_without_compute_domains_the_driver_serves_gpus_only() -> None:
    made = wanted(cluster(draDriver={"computeDomains": {"enabled": False}}))

    assert [each["name"] for each in pod_of(made["DaemonSet", KUBELET_PLUGIN])["containers"]] == ["gpus"]
    assert {name for kind, name in made if kind == "DeviceClass"} == {
        "gpu.nvidia.com",
        "mig.nvidia.com",
        "vfio.gpu.nvidia.com",
    }
    assert ("Deployment", CONTROLLER) not in made
    assert ("ServiceAccount", "compute-domain-daemon-service-account") not in made
