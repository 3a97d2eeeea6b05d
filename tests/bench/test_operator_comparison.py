"""What bench/operator_comparison.py compares: that differences are seen, and that chance and words are none."""

import copy
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def bench():
    """The modules of the script, which finds them beside itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        yield tuple(map(importlib.import_module, ("operator_views", "operator_setups", "operator_clusters")))


@pytest.fixture
def views(bench):
    return bench[0]


@pytest.fixture
def objects():
    owner = {"kind": "ClusterPolicy", "name": "cluster-policy"}
    container = {
        "name": "plugin",
        "image": "registry.example.com/plugin:v1",
        "env": [
            {"name": "MIG_STRATEGY", "value": "single"},
            {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
    }
    pod = {
        "nodeSelector": {"nvidia.com/gpu.deploy.device-plugin": "true"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "initContainers": [{"name": "toolkit-validation", "image": "registry.example.com/operator:v1"}],
        "containers": [container],
    }
    daemon_set = {
        "metadata": {"name": "plugin", "labels": {"app": "plugin"}, "ownerReferences": [owner]},
        "spec": {
            "selector": {"matchLabels": {"app": "plugin"}},
            "updateStrategy": {"type": "RollingUpdate"},
            "template": {"metadata": {"labels": {"app": "plugin"}}, "spec": pod},
        },
        "status": {"desiredNumberScheduled": 2, "updatedNumberScheduled": 2},
    }
    node = {
        "metadata": {"name": "n1", "labels": {"nvidia.com/gpu.present": "true", "zone": "a"}},
        "spec": {"taints": [{"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}]},
    }
    ready = {"type": "Ready", "status": "True", "reason": "Reconciled", "message": "in NVIDIA's words"}
    policy = {"metadata": {"name": "cluster-policy"}, "status": {"state": "ready", "conditions": [ready]}}
    return {"DaemonSet": [daemon_set], "Node": [node], "ClusterPolicy": [policy]}


def compared(views, one, other):
    return views.differences(views.view(one), views.view(other))


def test_the_same_is_no_difference(views, objects):
    assert compared(views, objects, copy.deepcopy(objects)) == {}


def _pod(objects):
    return objects["DaemonSet"][0]["spec"]["template"]["spec"]


def _status(objects):
    return objects["ClusterPolicy"][0]["status"]


_NODE, _PLUGIN, _POLICY = "Node n1", "DaemonSet plugin", "ClusterPolicy cluster-policy"
CHANGES = {
    "a node label": (
        lambda made: made["Node"][0]["metadata"]["labels"].clear(),
        _NODE,
        "labels.nvidia.com/gpu.present",
    ),
    "a cordon": (lambda made: made["Node"][0]["spec"].update(unschedulable=True), _NODE, "cordoned"),
    "a taint": (lambda made: made["Node"][0]["spec"].update(taints=[]), _NODE, "taints"),
    "a node selector": (lambda made: _pod(made).update(nodeSelector={}), _PLUGIN, "nodeSelector"),
    "a toleration": (lambda made: _pod(made).update(tolerations=[]), _PLUGIN, "tolerations"),
    "an image": (lambda made: _pod(made)["containers"][0].update(image="x"), _PLUGIN, "containers.plugin.image"),
    "a variable": (lambda made: _pod(made)["containers"][0].update(env=[]), _PLUGIN, "env.MIG_STRATEGY"),
    "an init container": (lambda made: _pod(made).update(initContainers=[]), _PLUGIN, "order"),
    "a runtime class": (lambda made: _pod(made).update(runtimeClassName="x"), _PLUGIN, "runtimeClass"),
    "how many pods": (lambda made: made["DaemonSet"][0]["status"].clear(), _PLUGIN, "desired"),
    "a state": (lambda made: _status(made).update(state="notReady"), _POLICY, "state"),
    "a reason": (lambda made: _status(made)["conditions"][0].update(reason="None"), _POLICY, "conditions.Ready"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_difference_is_told_with_its_object_and_field(views, objects, what):
    change, name, place = CHANGES[what]
    simulated = copy.deepcopy(objects)
    change(simulated)

    found = compared(views, objects, simulated)

    assert list(found) == [name]
    assert any(place in line for line in found[name])


def test_an_object_that_one_of_them_lacks_is_told(views, objects):
    nothing = {**objects, "DaemonSet": []}

    assert compared(views, objects, nothing) == {"DaemonSet plugin": ["only the program has it"]}
    assert compared(views, nothing, objects) == {"DaemonSet plugin": ["only the simulator has it"]}


def test_what_is_not_the_operators_is_not_compared(views, objects):
    simulated = copy.deepcopy(objects)
    simulated["Node"][0]["metadata"]["labels"]["zone"] = "b"
    simulated["ClusterPolicy"][0]["status"]["conditions"][0]["message"] = "in ours"
    simulated["DaemonSet"].append({"metadata": {"name": "somebody's"}, "spec": {}})

    assert compared(views, objects, simulated) == {}


def test_names_that_are_drawn_by_chance_do_not_differ(views, objects):
    def driver(mark):
        made = copy.deepcopy(objects["DaemonSet"][0])
        name = f"nvidia-gpu-driver-ubuntu24.04-{mark}"
        made["metadata"].update(name=name, ownerReferences=[{"kind": "NVIDIADriver", "name": "default"}])
        made["spec"]["selector"] = {"matchLabels": {"app": name}}
        return {"DaemonSet": [made]}

    assert compared(views, driver("6f7d8"), driver("c0ffee")) == {}
    [name] = views.view(driver("6f7d8"))
    assert name == "DaemonSet nvidia-gpu-driver-ubuntu24.04-of-default"


def test_what_a_gpu_cluster_leads_to_is_compared(views, objects):
    owner = [{"kind": "GPUCluster", "name": "gpu-cluster"}]
    [made] = copy.deepcopy(objects["DaemonSet"])
    made["metadata"]["ownerReferences"] = owner
    made["spec"].update(replicas=1)
    made["spec"]["template"]["spec"]["resourceClaims"] = [{"name": "gpu", "resourceClaimTemplateName": "admin"}]
    claims = {"metadata": {"name": "admin", "ownerReferences": owner}, "spec": {"spec": {"devices": {}}}}
    status = {"metadata": {"name": "gpu-cluster"}, "status": {"state": "ready", "conditions": []}}
    real = {"Deployment": [made], "ResourceClaimTemplate": [claims], "GPUCluster": [status]}
    simulated = copy.deepcopy(real)
    simulated["Deployment"][0]["spec"]["template"]["spec"]["resourceClaims"] = []
    simulated["ResourceClaimTemplate"][0]["spec"] = {}
    simulated["GPUCluster"][0]["status"]["state"] = "notReady"

    found = compared(views, real, simulated)

    assert set(found) == {"Deployment plugin", "ResourceClaimTemplate admin", "GPUCluster gpu-cluster"}
    assert found["Deployment plugin"] == ["claims.gpu: program 'admin', simulator nothing"]


def test_a_node_is_given_back_what_it_had(bench):
    before = {"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {}}
    taints = [{"key": "dedicated", "effect": "NoSchedule"}]
    now = {
        "metadata": {"labels": {"b": "3", "c": "4"}, "annotations": {"d": "5"}},
        "spec": {"taints": taints, "unschedulable": True},
    }

    assert bench[2].undoing(before, now) == {
        "metadata": {"labels": {"a": "1", "b": "2", "c": None}, "annotations": {"d": None}},
        "spec": {"taints": None, "unschedulable": None},
    }
    assert bench[2].undoing(before, before) == {}


def test_each_kind_of_set_up_is_compared(bench):
    """The kinds that docs/simulator.md names."""
    every = {each.name: each for each in bench[1].every()}

    def texts():
        for each in every.values():
            yield each.name, str((each.values, each.before, each.then))

    for word in (
        "'driver': {'enabled': False}",
        "'toolkit': {'enabled': False}",
        "'cdi': {'enabled': False}",
        "nriPluginEnabled",
        "'strategy': 'mixed'",
        "'strategy': 'none'",
        "'default': 'shared'",
        "'default': ''",
        "tolerations",
        "'kind': 'ClusterPolicy'",
        "'kind': 'NVIDIADriver'",
        "'gpuCluster': {'deployCR': True}",
        "unschedulable",
        "upgradePolicy",
        "driver-upgrade.skip",
        "'drain': {'enable': True",
        "usePrecompiled",
    ):
        assert any(word in text for _, text in texts()), word
    assert any(each.gpus == 0 for each in every.values())


def test_at_least_twenty_set_ups_are_compared_and_their_names_are_their_own(bench):
    names = [each.name for each in bench[1].every()]

    assert len(names) == len(set(names)) >= 20


def test_the_shipped_set_ups_with_an_operator_are_compared(bench):
    setups = bench[1]
    texts = {
        place.parent.parent.name: place.read_text() for place in setups.FIXTURES.glob("setups/*/reference/setup.yaml")
    }
    operated = {name for name, text in texts.items() if "kind: gpu-operator" in text}
    fleets = {name for name in operated if (setups.FIXTURES / "setups" / name / "topology.yaml").exists()}

    assert fleets - {"thousand-nodes"} == set(setups.SHIPPED)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/bin/true", "nonsense"], "there is no set-up nonsense"),
        (["/bin/true", "--logs", "/tmp", "nonsense"], "there is no set-up nonsense"),
        (["/no/such/program"], "/no/such/program is no program"),
    ],
)
def test_bad_input_is_refused_before_a_cluster_starts(arguments, words):
    ended = subprocess.run(
        [sys.executable, str(BENCH / "operator_comparison.py"), *arguments], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 2
    assert words in ended.stderr
