"""The gpu-operator chart: the operator, Node Feature Discovery, and the object that tells the operator what to do."""

from collections.abc import Mapping

from conformance.simulator.chart import definitions, policy
from conformance.simulator.chart.defaults import GPU_OPERATOR
from conformance.simulator.chart.feature_discovery import feature_discovery
from conformance.simulator.chart.objects import (
    ChartError,
    Object,
    Release,
    Values,
    config_map,
    field_env,
    given,
    namespace,
    over,
    service_account,
    workload,
)

CHART = "gpu-operator"
VERSION = "v26.7.0"

_COMPONENT = {"app.kubernetes.io/component": CHART}
_SKIP_DRAIN = {"nvidia.com/gpu-driver-upgrade-drain.skip": "true"}


def gpu_operator(
    values: Values, *, namespace_name: str = CHART, version: str = VERSION, release_name: str = CHART
) -> list[Object]:
    """Everything that ``helm install --create-namespace`` of the chart creates. Raises ChartError as the chart does."""
    release = Release(release_name, CHART, namespace_name, version or VERSION)
    chosen = over(GPU_OPERATOR, values)
    _refuse_contradictions(chosen)
    made = [namespace(namespace_name), *definitions.of_operator()]
    if chosen["nfd"]["enabled"]:
        made += [*definitions.of_feature_discovery(), *feature_discovery(release, chosen["node-feature-discovery"])]
    made += [service_account(release, CHART, **_COMPONENT), *_config_maps(release, chosen), _operator(release, chosen)]
    if chosen["clusterPolicy"]["deployCR"]:
        made.append(policy.cluster_policy(release, chosen))
    if chosen["gpuCluster"]["deployCR"]:
        made.append(policy.gpu_cluster(release, chosen))
    driver = chosen["driver"]
    if driver["enabled"] and driver["nvidiaDriverCRD"]["enabled"] and driver["nvidiaDriverCRD"]["deployDefaultCR"]:
        made.append(policy.nvidia_driver(chosen))
    # The chart takes templates as well, as texts; they are beyond us.
    return [*made, *(dict(each) for each in chosen["extraObjects"] if isinstance(each, Mapping))]


def _refuse_contradictions(chosen: Values) -> None:
    driver, plugin, cdi = chosen["driver"], chosen["devicePlugin"]["config"], chosen["cdi"]
    dra = chosen["gpuCluster"]["deployCR"]
    if dra and chosen["clusterPolicy"]["deployCR"]:
        raise ChartError("clusterPolicy.deployCR and gpuCluster.deployCR are both true, and only one of them can be")
    if dra and driver["enabled"] and not driver["nvidiaDriverCRD"]["enabled"]:
        raise ChartError("gpuCluster.deployCR needs driver.nvidiaDriverCRD.enabled, or driver.enabled false")
    if cdi["nriPluginEnabled"] and not (cdi["enabled"] and chosen["toolkit"]["enabled"]):
        raise ChartError("cdi.nriPluginEnabled needs cdi.enabled and toolkit.enabled")
    if plugin["create"] and not (plugin["data"] and plugin["name"]):
        raise ChartError("devicePlugin.config.create needs devicePlugin.config.name and devicePlugin.config.data")


def _config_maps(release: Release, chosen: Values) -> list[Object]:
    blocks = (chosen["devicePlugin"]["config"], chosen["migManager"]["config"])
    return [
        config_map(release, block["name"], block["data"]) for block in blocks if block["create"] and block.get("data")
    ]


def _operator(release: Release, chosen: Values) -> Object:
    block = chosen["operator"]
    container = {
        "name": CHART,
        "image": _image(release, block),
        "imagePullPolicy": block["imagePullPolicy"],
        "command": [CHART],
        "args": ["--leader-elect"],
        "env": [
            {"name": "WATCH_NAMESPACE", "value": ""},
            field_env("OPERATOR_NAMESPACE", "metadata.namespace"),
            {"name": "DRIVER_MANAGER_IMAGE", "value": _image(release, chosen["driver"]["manager"])},
            {"name": "VALIDATOR_IMAGE", "value": _image(release, chosen["validator"])},
            *block["env"],
        ],
        "ports": [{"name": "metrics", "containerPort": 8080}],
        **given(block, "resources"),
    }
    pod = {
        "serviceAccountName": CHART,
        "containers": [container],
        **given(block, "priorityClassName", "nodeSelector", "affinity", "tolerations"),
    }
    if block.get("imagePullSecrets"):
        pod["imagePullSecrets"] = [{"name": name} for name in block["imagePullSecrets"]]
    marks = {**_COMPONENT, **_SKIP_DRAIN}
    return workload(
        "Deployment",
        release,
        CHART,
        selector={**_COMPONENT, "app": CHART},
        pod=pod,
        labels=marks,
        pod_labels={**release.labels, **_SKIP_DRAIN},
        annotations=block["annotations"],
        replicas=1,
    )


def _image(release: Release, block: Values) -> str:
    return f"{block['repository']}/{block['image']}:{block.get('version') or release.version}"
