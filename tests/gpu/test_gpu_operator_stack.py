"""The GPU stack of a cluster, told from the objects that are there."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.gpu.operator_stack import Fault, StackKind, detect

Object = dict[str, Any]


def crd(plural: str) -> Object:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.nvidia.com"},
    }


def policy(name: str = "cluster-policy", created: str = "2026-01-01T00:00:00Z", state: str = "", **spec: Any) -> Object:
    return {
        "apiVersion": "nvidia.com/v1",
        "kind": "ClusterPolicy",
        "metadata": {"name": name, "creationTimestamp": created},
        "spec": spec,
        "status": {"state": state} if state else {},
    }


def gpu_cluster(name: str = "gpu-cluster") -> Object:
    return {"apiVersion": "nvidia.com/v1alpha1", "kind": "GPUCluster", "metadata": {"name": name}}


def driver(name: str = "a100") -> Object:
    return {"apiVersion": "nvidia.com/v1alpha1", "kind": "NVIDIADriver", "metadata": {"name": name}}


def operator(**status: int) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "gpu-operator", "namespace": "gpu-operator", "labels": {"app": "gpu-operator"}},
        "status": status,
    }


def daemonset(name: str, *containers: str, namespace: str = "kube-system", owner: str = "") -> Object:
    owners = [{"kind": owner, "name": "cluster-policy"}] if owner else []
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": namespace, "ownerReferences": owners},
        "spec": {"template": {"spec": {"containers": [{"name": container} for container in containers]}}},
    }


CRDS = [crd("clusterpolicies"), crd("gpuclusters"), crd("nvidiadrivers")]
RUNNING = operator(observedGeneration=1, availableReplicas=1)
OPERAND = daemonset(
    "nvidia-device-plugin-daemonset", "nvidia-device-plugin", namespace="gpu-operator", owner="ClusterPolicy"
)
PLAIN = daemonset("nvidia-device-plugin-daemonset", "nvidia-device-plugin-ctr")
CHART = daemonset("nvdp-nvidia-device-plugin", "nvidia-device-plugin-ctr", namespace="nvidia-device-plugin")
RENAMED_DRA = daemonset("dra-driver-nvidia-gpu-kubelet-plugin", "gpus", namespace="dra-driver-nvidia-gpu")
DRA = daemonset("nvidia-dra-driver-gpu-kubelet-plugin", "compute-domains", "gpus", namespace="nvidia-dra-driver-gpu")


@pytest.mark.parametrize(
    ("objects", "stack"),
    [
        ([*CRDS, policy(), RUNNING, OPERAND], StackKind.CLUSTER_POLICY),
        ([*CRDS, policy("gpu-cluster-policy"), RUNNING, OPERAND], StackKind.CLUSTER_POLICY),
        ([*CRDS, gpu_cluster(), driver(), RUNNING, DRA], StackKind.GPU_CLUSTER),
        ([PLAIN], StackKind.DEVICE_PLUGIN),
        ([daemonset("nvidia-gpu-device-plugin-small-cos", "nvidia-gpu-device-plugin")], StackKind.DEVICE_PLUGIN),
        ([DRA], StackKind.DRA_DRIVER),
        ([], StackKind.NONE),
        ([daemonset("nvdp-gpu-feature-discovery", "gpu-feature-discovery-ctr")], StackKind.NONE),
        ([daemonset("nvdp-mps-control-daemon", "mps-control-daemon-ctr")], StackKind.NONE),
        ([daemonset("nvidia-dra-driver-kubelet-plugin", "compute-domains")], StackKind.NONE),
        ([daemonset("hami-dra-driver-kubelet-plugin", "gpus", "monitor")], StackKind.NONE),
    ],
)
def test_a_complete_stack_is_told_without_findings(objects: list[Object], stack: StackKind) -> None:
    detection = detect(objects)
    assert detection.stack is stack
    assert detection.findings == ()
    assert not detection.half_installed


def test_the_objects_that_tell_of_the_stack_are_named() -> None:
    detection = detect(
        [*CRDS, policy(driver={"useNvidiaDriverCRD": True}), driver("a100"), driver("h100"), RUNNING, OPERAND]
    )
    assert detection.policy == "cluster-policy"
    assert detection.drivers == ("a100", "h100")
    assert detection.operators == ("gpu-operator/gpu-operator",)
    assert detection.device_plugins == ("gpu-operator/nvidia-device-plugin-daemonset",)
    assert detection.findings == ()


def test_of_several_policies_the_oldest_is_followed_and_the_others_are_ignored() -> None:
    young, old = policy("a", "2026-02-01T00:00:00Z"), policy("b", "2026-01-01T00:00:00Z")
    detection = detect([*CRDS, young, old, RUNNING])
    assert (detection.policy, detection.ignored_policies) == ("b", ("a",))
    (finding,) = detection.findings
    assert finding.fault is Fault.IGNORED
    assert str(finding).startswith("ClusterPolicy a: is ignored: the operator follows ClusterPolicy b only")


def test_a_policy_that_says_ignored_is_not_the_one() -> None:
    first, second = policy("a", "2026-01-01T00:00:00Z", "ignored"), policy("b", "2026-02-01T00:00:00Z", "ready")
    assert detect([*CRDS, first, second, RUNNING]).policy == "b"


@pytest.mark.parametrize(
    ("version", "crds", "missing"),
    [
        ("v25.10.1", [crd("clusterpolicies")], True),
        ("v25.10.1", CRDS, False),
        ("v23.6.1", [crd("clusterpolicies")], False),
        ("", [crd("clusterpolicies")], False),
    ],
)
def test_an_operator_that_lacks_a_crd_of_its_release_is_told_so(
    version: str, crds: list[Object], missing: bool
) -> None:
    down = operator(observedGeneration=1)
    down["metadata"]["labels"]["app.kubernetes.io/version"] = version

    (finding,) = detect([*crds, policy(), down]).findings

    assert finding.fault is Fault.OPERATOR_DOWN
    assert ("CRD nvidiadrivers.nvidia.com is missing" in finding.text) == missing
    assert ("apply the CRDs" in finding.remedy) == missing


@pytest.mark.parametrize(
    ("objects", "fault", "says", "half"),
    [
        ([*CRDS, policy(), gpu_cluster(), RUNNING], Fault.TWO_OPERATOR_RESOURCES, "keeps both at notReady", False),
        ([*CRDS, gpu_cluster("mine"), RUNNING], Fault.WRONG_NAME, "it must be gpu-cluster", False),
        ([*CRDS, policy(state="ignored"), RUNNING], Fault.IGNORED, "none is followed", False),
        (CRDS, Fault.NO_OPERATOR_RESOURCE, "left behind", True),
        ([*CRDS, RUNNING], Fault.NO_OPERATOR_RESOURCE, "has nothing to do", True),
        ([*CRDS, PLAIN], Fault.NO_OPERATOR_RESOURCE, "left behind", True),
        ([*CRDS, policy(), OPERAND], Fault.NO_OPERATOR, "nobody acts on it", True),
        ([*CRDS, gpu_cluster()], Fault.NO_OPERATOR, "nobody acts on it", True),
        ([RUNNING], Fault.NO_CRD, "without the CRDs", True),
        ([*CRDS, policy(), operator(observedGeneration=1)], Fault.OPERATOR_DOWN, "no available pod", True),
        ([*CRDS, policy(), RUNNING, driver()], Fault.DRIVER_NOT_USED, "driver.useNvidiaDriverCRD", False),
        (
            [*CRDS, policy(driver={"useNvidiaDriverCRD": True, "enabled": False}), RUNNING, driver()],
            Fault.DRIVER_NOT_USED,
            "driver.enabled",
            False,
        ),
        (
            [*CRDS, policy(driver={"useNvidiaDriverCRD": True}), RUNNING],
            Fault.DRIVER_MISSING,
            "no driver is deployed",
            False,
        ),
        ([*CRDS, policy(), RUNNING, OPERAND, PLAIN], Fault.TWO_PLUGINS, "second device plugin", False),
        ([*CRDS, policy(), RUNNING, OPERAND, DRA], Fault.TWO_ALLOCATORS, "each GPU twice", False),
        ([PLAIN, CHART], Fault.TWO_PLUGINS, "beside daemonset", False),
        ([PLAIN, DRA], Fault.TWO_ALLOCATORS, "each GPU twice", False),
        ([DRA, RENAMED_DRA], Fault.TWO_DRA_DRIVERS, "beside daemonset nvidia-dra-driver-gpu/nvidia-dra-driver", False),
    ],
)
def test_what_is_wrong_has_its_own_finding(objects: list[Object], fault: Fault, says: str, half: bool) -> None:
    detection = detect(objects)
    (finding,) = detection.findings
    assert finding.fault is fault
    assert says in finding.text
    assert finding.remedy
    assert detection.half_installed is half


def test_both_roots_are_no_valid_stack() -> None:
    assert detect([*CRDS, policy(), gpu_cluster(), RUNNING]).stack is StackKind.INVALID


def test_a_left_behind_crd_does_not_hide_the_plain_plugin() -> None:
    assert detect([*CRDS, PLAIN]).stack is StackKind.DEVICE_PLUGIN


def test_an_operator_whose_status_is_not_told_is_not_blamed() -> None:
    assert detect([*CRDS, policy(), operator()]).findings == ()


@pytest.mark.parametrize(
    ("objects", "unread", "stack"),
    [
        ([*CRDS, policy(), RUNNING], ["GPUCluster"], StackKind.UNKNOWN),
        ([PLAIN], ["ClusterPolicy"], StackKind.UNKNOWN),
        ([], ["DaemonSet"], StackKind.UNKNOWN),
        ([*CRDS, policy()], ["Deployment"], StackKind.CLUSTER_POLICY),
        ([RUNNING], ["CustomResourceDefinition"], StackKind.NONE),
        ([*CRDS, policy(driver={"useNvidiaDriverCRD": True}), RUNNING], ["NVIDIADriver"], StackKind.CLUSTER_POLICY),
        ([policy(), RUNNING], ["DaemonSet"], StackKind.CLUSTER_POLICY),
    ],
)
def test_what_could_not_be_read_is_not_judged(objects: list[Object], unread: list[str], stack: StackKind) -> None:
    detection = detect(objects, unread)
    assert detection.stack is stack
    assert detection.findings == ()
    assert detection.unread == tuple(unread)


def test_a_cluster_policy_of_another_product_is_none_of_ours() -> None:
    kyverno = {"apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "require-labels"}}
    assert detect([kyverno]).stack is StackKind.NONE


ODD = st.recursive(
    st.none() | st.integers() | st.sampled_from(["ClusterPolicy", "DaemonSet", "nvidia.com/v1", "gpu-operator"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kind", "apiVersion", "metadata", "name", "spec", "status", "template", "containers"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(st.lists(ODD, max_size=4), ODD)
def test_odd_objects_are_passed_over(objects: list[object], spec: object) -> None:
    known = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "x", "ownerReferences": spec},
        "spec": spec,
    }
    assert detect([*objects, known]).stack in StackKind
