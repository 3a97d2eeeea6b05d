"""Whether the container toolkit was told where the containerd of k3s, RKE2 and k0s is, or how to read that of GKE."""

import pytest
from operator_chapters import A_NODE, COVERAGE


def crashing(cluster, owner, container):
    """A pod of an operand on the node whose container ends again and again."""
    pod = cluster.pod(owner, A_NODE)
    pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    pod["status"]["containerStatuses"] = [
        {"name": container, "ready": False, "restartCount": 9, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    ]


def node_of(cluster, kubelet, runtime, **toolkit):
    told = {"kubeletVersion": kubelet, "containerRuntimeVersion": runtime}
    cluster.node(A_NODE)["status"]["nodeInfo"] = {**cluster.node(A_NODE)["status"].get("nodeInfo", {}), **told}
    cluster.policy()["spec"]["toolkit"]["env"] = [{"name": name, "value": value} for name, value in toolkit.items()]


TOOLKIT = ("nvidia-container-toolkit-daemonset", "nvidia-container-toolkit-ctr")
K3S_SOCKET = "/run/k3s/containerd/containerd.sock"


@pytest.mark.parametrize(
    ("kubelet", "runtime", "remedy"),
    [
        ("v1.34.1+k3s1", "containerd://2.1.4-k3s1", f"Set CONTAINERD_SOCKET={K3S_SOCKET} in toolkit.env"),
        ("v1.34.1+rke2r1", "containerd://2.1.4-k3s1", f"Set CONTAINERD_SOCKET={K3S_SOCKET} in toolkit.env"),
        ("v1.34.1+k0s", "containerd://2.1.4", "CONTAINERD_CONFIG=/run/k0s/containerd-cri.toml"),
        ("v1.33.5-gke.1162000", "containerd://2.0.6", "Set RUNTIME_CONFIG_SOURCE=file in toolkit.env"),
    ],
)
def test_a_toolkit_that_looks_for_another_containerd_is_told_where_it_is(cluster, kubelet, runtime, remedy):
    node_of(cluster, kubelet, runtime)
    assert cluster.verdict(COVERAGE).passed

    crashing(cluster, *TOOLKIT)

    assert remedy in cluster.verdict(COVERAGE).judge.broken[0].remedy


@pytest.mark.parametrize(
    ("kubelet", "runtime", "toolkit"),
    [
        # Told where it is; another containerd than that of k3s; not from 1.33 on.
        ("v1.34.1+k3s1", "containerd://2.1.4-k3s1", {"CONTAINERD_SOCKET": K3S_SOCKET}),
        ("v1.34.1+k3s1", "containerd://2.1.4", {}),
        ("v1.34.1+k0s", "cri-o://1.34.0", {}),
        ("v1.33.5-gke.1162000", "containerd://2.0.6", {"RUNTIME_CONFIG_SOURCE": "file"}),
        ("v1.32.9-gke.1010000", "containerd://1.7.28", {}),
        ("v1.34.1", "containerd://2.1.4", {}),
    ],
)
def test_a_toolkit_that_ends_for_another_reason_is_read_in_its_log(cluster, kubelet, runtime, toolkit):
    node_of(cluster, kubelet, runtime, **toolkit)
    crashing(cluster, *TOOLKIT)

    assert cluster.verdict(COVERAGE).judge.broken[0].remedy.startswith("kubectl logs")


def test_a_toolkit_that_changes_no_configuration_needs_no_socket(cluster):
    node_of(cluster, "v1.34.1+rke2r1", "containerd://2.1.4-k3s1")
    cluster.policy()["spec"]["cdi"] = {"enabled": True, "nriPluginEnabled": True}
    crashing(cluster, *TOOLKIT)

    assert cluster.verdict(COVERAGE).judge.broken[0].remedy.startswith("kubectl logs")


def test_a_pod_whose_sandbox_is_not_made_tells_of_the_runtime_and_one_that_waits_does_not(cluster):
    node_of(cluster, "v1.34.1+rke2r1", "containerd://2.1.4-k3s1")
    plugin = cluster.pod("nvidia-device-plugin-daemonset", A_NODE)
    plugin["spec"]["runtimeClassName"] = "nvidia"
    plugin["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    plugin["status"]["initContainerStatuses"] = [
        {"name": "toolkit-validation", "ready": False, "state": {"waiting": {"reason": "PodInitializing"}}}
    ]
    plugin["status"]["containerStatuses"] = []
    assert "CONTAINERD_SOCKET" in cluster.verdict(COVERAGE).judge.broken[0].remedy

    plugin["status"]["initContainerStatuses"][0]["state"] = {"running": {"startedAt": "2026-03-01T00:00:00Z"}}
    assert "CONTAINERD_SOCKET" not in cluster.verdict(COVERAGE).judge.broken[0].remedy
