"""Helm values of a declared stack: what owners would write by hand, and above all what they forget."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from conformance.deploy.helm.mirrors import mirrored
from conformance.deploy.helm.releases import releases
from conformance.deploy.helm.values import device_plugin_values, dra_driver_values, gpu_operator_values
from conformance.deploy.helm.values_text import values_text
from conformance.gpu.taints import Taint, tolerates, toleration_from
from conformance.reference import Reference, load
from conformance.reference.model import Gpu, Pool, PoolTaint
from conformance.reference.stack import DraDriver, MigLayouts, Stack
from conformance.reference.stack_objects import layouts_text, stack_objects
from conformance.shipped import shipped
from conformance.simulator.chart.defaults import GPU_OPERATOR

GPU = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
CONTROL_PLANE = {
    "key": "node-role.kubernetes.io/control-plane",
    "operator": "Equal",
    "value": "",
    "effect": "NoSchedule",
}


@pytest.fixture(scope="module")
def shipped_reference() -> Reference:
    return load(shipped("fixtures/reference"))


def declared(stack: Stack, *pools: Pool) -> Reference:
    return Reference("mine", stack=stack, pools=pools)


def pool(name: str, *taints: PoolTaint, allocated_by: Any = "device-plugin", labels: Any = None) -> Pool:
    gpu = Gpu("a100", 8, "NVIDIA-A100-SXM4-40GB", 40960, allocated_by=allocated_by)
    return Pool(name, {"pool": name, "size": "big"}, labels=labels or {}, taints=taints, gpu=gpu)


def both_lists(values: dict[str, Any]) -> list[list[dict[str, Any]]]:
    return [values["daemonsets"]["tolerations"], values["node-feature-discovery"]["worker"]["tolerations"]]


def test_the_five_switches_of_the_guide_are_set() -> None:
    values = gpu_operator_values(declared(Stack("gpu-operator")))

    assert {name for name in values if values[name].get("enabled") is True} == {
        "driver",
        "toolkit",
        "devicePlugin",
        "gfd",
        "dcgmExporter",
        "migManager",
    }


def test_what_the_owners_switch_off_is_off() -> None:
    stack = Stack("gpu-operator", driver="580.95.05", driver_managed=False, toolkit=False, mig_manager=False)

    values = gpu_operator_values(declared(stack))

    assert values["driver"] == {"enabled": False}
    assert (values["toolkit"], values["migManager"]) == ({"enabled": False}, {"enabled": False})


def test_every_taint_of_every_gpu_pool_is_tolerated_in_both_lists(shipped_reference: Reference) -> None:
    for tolerations in both_lists(gpu_operator_values(shipped_reference)):
        for each in shipped_reference.gpu_pools:
            for taint in each.taints:
                wanted = Taint(taint.key, taint.value, taint.effect)
                assert tolerates([toleration_from(one) for one in tolerations], wanted)


def test_overrides_repeat_what_they_replace() -> None:
    reference = declared(Stack("gpu-operator"), pool("a", PoolTaint("dedicated", "NoSchedule", "gpu")))

    operands, discovery = both_lists(gpu_operator_values(reference))

    ours = {"key": "dedicated", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}
    assert operands == [GPU, ours]
    assert discovery == [CONTROL_PLANE, GPU, ours]


def test_taints_of_several_pools_and_effects_are_each_tolerated_once() -> None:
    team, drain = PoolTaint("team", "NoExecute"), PoolTaint("nvidia.com/gpu", "NoExecute", "present")
    reference = declared(Stack("gpu-operator"), pool("a", team), pool("b", team, drain))

    operands, _ = both_lists(gpu_operator_values(reference))

    assert operands[1:] == [
        {"key": "team", "operator": "Exists", "effect": "NoExecute"},
        {"key": "nvidia.com/gpu", "operator": "Equal", "value": "present", "effect": "NoExecute"},
    ]


def test_declared_tolerations_take_the_place_of_computed_ones() -> None:
    everything = {"operator": "Exists"}
    stack = Stack("gpu-operator", tolerations=(everything,))

    operands, discovery = both_lists(gpu_operator_values(declared(stack, pool("a", PoolTaint("team", "NoExecute")))))

    assert operands == [GPU, everything]
    assert discovery == [CONTROL_PLANE, GPU, everything]


def test_configurations_are_named_and_not_created_by_the_chart(shipped_reference: Reference) -> None:
    values = gpu_operator_values(shipped_reference)

    assert values["devicePlugin"]["config"] == {"create": False, "name": "time-slicing-config", "default": "unshared"}
    assert values["migManager"]["config"] == {"create": False, "name": "mig-config"}


def test_what_node_feature_discovery_wrote_is_not_pruned_by_its_chart() -> None:
    assert gpu_operator_values(declared(Stack("gpu-operator")))["node-feature-discovery"]["postDeleteCleanup"] is False
    assert device_plugin_values(declared(Stack("device-plugin")))["nfd"]["postDeleteCleanup"] is False


def test_an_open_mig_strategy_is_written_so_that_the_default_of_the_chart_does_not_win() -> None:
    assert gpu_operator_values(declared(Stack("gpu-operator", mig_strategy="")))["mig"] == {"strategy": ""}
    assert "migStrategy" not in device_plugin_values(declared(Stack("device-plugin", mig_strategy="")))


def test_values_of_the_owners_are_merged_last() -> None:
    stack = Stack("gpu-operator", values={"driver": {"version": "595.91.07"}, "dcgm": {"enabled": True}}, driver="1.2")

    values = gpu_operator_values(declared(stack))

    assert values["driver"] == {"enabled": True, "version": "595.91.07"}
    assert values["dcgm"] == {"enabled": True}


def test_the_plugin_alone_brings_node_feature_discovery_and_keeps_off_dra_pools() -> None:
    taint = PoolTaint("dedicated", "NoSchedule", "gpu")
    stack = Stack("device-plugin", mig_strategy="mixed", dra=DraDriver())
    reference = declared(stack, pool("a", taint), pool("b", taint, allocated_by="dra"))

    values = device_plugin_values(reference)

    assert values["migStrategy"] == "mixed"
    assert values["nfd"]["enabled"] is True
    assert values["tolerations"][0] == {"key": "CriticalAddonsOnly", "operator": "Exists"}
    assert values["nfd"]["worker"]["tolerations"][-1]["key"] == "dedicated"
    terms = values["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    # Three ways to know a GPU node, two labels by which one can be outside of the pool.
    assert len(terms) == 6
    assert all(term["matchExpressions"][1]["operator"] == "NotIn" for term in terms)


def test_the_dra_driver_looks_for_the_driver_where_the_operator_leaves_it() -> None:
    dra = DraDriver(node_selector={"pool": "b"}, values={"resources": {"computeDomains": {"enabled": False}}})

    values = dra_driver_values(declared(Stack("gpu-operator", dra=dra), pool("a", PoolTaint("t", "NoSchedule"))))

    assert values["gpuResourcesEnabledOverride"] is True
    assert values["nvidiaDriverRoot"] == "/run/nvidia/driver"
    assert values["kubeletPlugin"]["nodeSelector"] == {"pool": "b"}
    assert [each["key"] for each in values["kubeletPlugin"]["tolerations"]] == ["nvidia.com/gpu", "t"]
    assert values["resources"] == {"computeDomains": {"enabled": False}}
    on_host = Stack("gpu-operator", driver_managed=False, dra=dra)
    assert dra_driver_values(declared(on_host))["nvidiaDriverRoot"] == "/"


def test_a_dra_pool_without_operands_has_its_driver_on_the_host() -> None:
    labels = {"nvidia.com/gpu.deploy.operands": "false"}
    stack = Stack("gpu-operator", dra=DraDriver())
    without = pool("a", allocated_by="dra", labels=labels)

    assert dra_driver_values(declared(stack, without))["nvidiaDriverRoot"] == "/"
    assert dra_driver_values(declared(stack, pool("b", allocated_by="dra")))["nvidiaDriverRoot"] != "/"


@pytest.mark.parametrize(
    ("stack", "expected"),
    [
        (Stack("gpu-operator"), [("gpu-operator", "v26.7.0", "https")]),
        (
            Stack("gpu-operator", version="26.3.1", dra=DraDriver(version="v0.4.1")),
            [("gpu-operator", "v26.3.1", "https"), ("dra-driver-nvidia-gpu", "0.4.1", "oci")],
        ),
        (
            Stack("device-plugin", dra=DraDriver(version="25.12.0")),
            [("nvidia-device-plugin", "0.20.0", "https"), ("nvidia-dra-driver-gpu", "25.12.0", "https")],
        ),
        (Stack("dra-driver", version="v0.4.0"), [("dra-driver-nvidia-gpu", "0.4.0", "oci")]),
    ],
)
def test_each_kind_of_stack_is_its_own_charts(stack: Stack, expected: list[tuple[str, str, str]]) -> None:
    found = releases(declared(stack))

    assert [(each.chart, each.version, each.repository.partition(":")[0]) for each in found] == expected


def test_a_set_up_without_a_stack_needs_no_release() -> None:
    assert releases(Reference("mine")) == ()
    with pytest.raises(ValueError, match="declares no GPU stack"):
        gpu_operator_values(Reference("mine"))


@pytest.mark.parametrize("chart", ["gpu-operator", "nvidia-device-plugin", "dra-driver-nvidia-gpu"])
def test_another_registry_replaces_the_registry_of_every_image(chart: str) -> None:
    values = mirrored(chart, "registry.example.com/mirror/", "pull")

    repositories = list(_repositories(values))
    assert repositories
    assert all(each.startswith("registry.example.com/mirror/") for each in repositories)
    assert not any("nvcr.io" in each or "registry.k8s.io" in each for each in repositories)


def test_each_component_keeps_the_path_of_its_image_under_another_registry() -> None:
    values = mirrored("gpu-operator", "registry.example.com", None)

    for name, block in GPU_OPERATOR.items():
        repository = block.get("repository") if isinstance(block, dict) else ""
        if repository:
            assert values[name]["repository"] == f"registry.example.com/{repository.partition('/')[2]}"
    image = values["node-feature-discovery"]["image"]["repository"]
    assert image == "registry.example.com/nfd/node-feature-discovery"


def test_pull_secrets_are_written_as_each_chart_reads_them() -> None:
    operator = mirrored("gpu-operator", None, "pull")

    assert operator["driver"] == {"imagePullSecrets": ["pull"]}
    assert operator["node-feature-discovery"] == {"imagePullSecrets": [{"name": "pull"}]}
    assert mirrored("nvidia-device-plugin", None, "pull")["imagePullSecrets"] == [{"name": "pull"}]
    assert mirrored("gpu-operator", None, None) == {}


def test_configurations_become_texts_under_their_keys(shipped_reference: Reference) -> None:
    made = {each["metadata"]["name"]: each for each in stack_objects(shipped_reference)}

    labels = made["gpu-operator"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"
    texts = made["time-slicing-config"]["data"]
    sharing = yaml.safe_load(texts["time-sliced"])["sharing"]["timeSlicing"]
    assert sharing["resources"] == [{"name": "nvidia.com/gpu", "replicas": 4}]
    assert list(made["mig-config"]["data"]) == ["config.yaml"]


def test_layouts_of_nvidia_that_are_needed_stand_beside_declared_ones() -> None:
    layouts = MigLayouts("mig", {"mine": ({"devices": "all", "mig-enabled": True, "mig-devices": {"1g.5gb": 7}},)})
    asks = pool("a", labels={"nvidia.com/mig.config": "all-2g.10gb"})
    reference = declared(Stack("gpu-operator", mig_layouts=layouts), asks)

    found = yaml.safe_load(layouts_text(reference, layouts))["mig-configs"]

    assert found["mine"] == [{"devices": "all", "mig-enabled": True, "mig-devices": {"1g.5gb": 7}}]
    assert found["all-2g.10gb"] == [{"devices": "all", "mig-enabled": True, "mig-devices": {"2g.10gb": 3}}]
    assert found["all-disabled"] == [{"devices": "all", "mig-enabled": False}]


def test_a_teams_namespace_is_not_made_twice(shipped_reference: Reference) -> None:
    team = shipped_reference.teams[0]
    stack = Stack("gpu-operator", namespace=team.namespace)

    made = stack_objects(msgspec.structs.replace(shipped_reference, stack=stack))

    assert made == []


def test_the_text_for_people_is_yaml_that_helm_and_kubectl_read(shipped_reference: Reference) -> None:
    objects, operator, dra = yaml.safe_load_all(values_text(shipped_reference))

    assert objects["kind"] == "List"
    assert operator == gpu_operator_values(shipped_reference)
    assert yaml.safe_load(values_text(shipped_reference, "dra-driver-nvidia-gpu")) == dra
    assert "helm install gpu-operator gpu-operator --repo https" in values_text(shipped_reference, "gpu-operator")
    with pytest.raises(ValueError, match="there are: objects, gpu-operator, dra-driver-nvidia-gpu"):
        values_text(shipped_reference, "operator")


def test_the_documented_values_are_those_of_the_shipped_set_up(shipped_reference: Reference) -> None:
    page = (Path(__file__).parents[2] / "docs" / "deploying-the-stack.md").read_text(encoding="utf-8")
    block = page.split("```yaml\n")[1].split("```")[0]

    assert yaml.safe_load(block) == gpu_operator_values(shipped_reference)


def _repositories(values: dict[str, Any]) -> Any:
    for key, value in values.items():
        if key == "repository":
            yield value
        elif isinstance(value, dict):
            yield from _repositories(value)
