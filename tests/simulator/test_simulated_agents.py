"""NVIDIA's node agents on a real control plane: what appears on a node when their pods run there, and what does not."""

import itertools
import json
import re
from collections.abc import Iterator

import pytest
from agent_stack import CONFIG, GPU, NODE, Object, Stack, offered, ready, waits_for
from patience import PATIENCE

from conformance.clusters.embedded import EmbeddedCluster, EmbeddedSpec, start
from conformance.kube.client import Client
from conformance.kube.waits import holds, wait_for
from conformance.simulator.annotations import MIG_GEOMETRY, WAITING_REASON, annotation
from conformance.simulator.mig import CHANGE
from conformance.simulator.pod_failures import POD_FAILURE

pytestmark = pytest.mark.cluster

MIG_CONFIG, MIG_STATE = "nvidia.com/mig.config", "nvidia.com/mig.config.state"
_NUMBERS = itertools.count(1)

FLEET = """
name: agents
description: bare machines with a driver on the host
pools:
  - name: a100
    count: 1
    cpu: "96"
    memory: 1152Gi
    gpu: {product: NVIDIA-A100-SXM4-40GB, compute: "8.0", count: 2, memory_mib: 40960, driver: 580.95.05,
          mig_capable: true, brought_by: stack}
  - name: t4
    count: 1
    cpu: "16"
    memory: 64Gi
    gpu: {product: Tesla-T4, compute: "7.5", count: 2, memory_mib: 15360, brought_by: stack}
"""

TIME_SLICED = "version: v1\nsharing:\n  timeSlicing:\n    resources:\n    - {name: nvidia.com/gpu, replicas: 4}\n"
MPS = TIME_SLICED.replace("timeSlicing", "mps")
WRONG = "version: v9\n"


@pytest.fixture(scope="module")
def agents_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    fleet = tmp_path_factory.mktemp("fleet") / "agents.yaml"
    fleet.write_text(FLEET)
    with start(EmbeddedSpec(topology=fleet)) as running:
        yield running


@pytest.fixture(scope="module")
def admin(agents_cluster: EmbeddedCluster) -> Iterator[Client]:
    with agents_cluster.client() as client:
        yield client


@pytest.fixture
def stack(admin: Client, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """An empty namespace; afterwards its pods are gone and the nodes are as they came."""
    # Namespaces of tests with one name go slowly, so each gets a number.
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-") + f"-{next(_NUMBERS)}"
    admin.create("/api/v1/namespaces", {"metadata": {"name": name}})
    nodes = admin.list("/api/v1/nodes")
    for node in nodes:
        deploys = ("device-plugin", "gpu-feature-discovery", "mps-control-daemon")
        operands = {f"nvidia.com/gpu.deploy.{each}": "true" for each in deploys}
        admin.patch(NODE.format(node["metadata"]["name"]), {"metadata": {"labels": operands}})
    yield Stack(admin, name)
    for daemon_set in admin.list(f"/apis/apps/v1/namespaces/{name}/daemonsets"):
        admin.delete(f"/apis/apps/v1/namespaces/{name}/daemonsets/{daemon_set['metadata']['name']}")
    wait_for(
        lambda: admin.list(f"/api/v1/namespaces/{name}/pods"),
        lambda pods: not pods,
        what="no pods are left",
        timeout=60,
    )
    admin.delete(f"/api/v1/namespaces/{name}")
    for node in nodes:
        put_back(admin, node)


def put_back(admin: Client, before: Object) -> None:
    metadata = before["metadata"]
    now = admin.get(NODE.format(metadata["name"]))["metadata"]
    change = {
        part: {name: None for name in now.get(part) or {} if name not in (metadata.get(part) or {})} | metadata[part]
        for part in ("labels", "annotations")
    }
    admin.patch(NODE.format(metadata["name"]), {"metadata": change})


# --- device plugin ------------------------------------------------------------------------------------------------


def test_gpus_are_offered_only_while_the_plugin_runs(stack: Stack) -> None:
    stack.plugin("a100-1")
    stack.offers("a100-1", gpu=2)

    stack.client.delete(f"{stack.path('daemonsets', 'apis/apps/v1')}/nvidia-device-plugin-daemonset")

    stack.offers("a100-1")
    stack.offers("t4-1")


def test_nothing_is_offered_before_the_node_has_a_driver(stack: Stack) -> None:
    stack.plugin("t4-1")
    stack.pod("nvidia-device-plugin-daemonset", ready, "is ready")
    assert offered(stack.node("t4-1")) == {}

    stack.daemon_set("nvidia-driver-daemonset", "nvidia-driver-ctr", "t4-1", env={"DRIVER_VERSION": "580.95.05"})

    stack.offers("t4-1", gpu=2)


def test_a_named_config_map_without_default_shares_nothing(stack: Stack) -> None:
    stack.config_map("sharing", sliced=TIME_SLICED)
    stack.plugin("a100-1", "sharing")

    stack.offers("a100-1", gpu=2)  # F42

    stack.change("a100-1", {"labels": {CONFIG: "sliced"}})
    stack.offers("a100-1", gpu=8)


def test_a_default_is_taken_and_a_label_outranks_it(stack: Stack) -> None:
    stack.config_map("sharing", sliced=TIME_SLICED, whole="version: v1\n")
    stack.plugin("a100-1", "sharing", "sliced")
    stack.offers("a100-1", gpu=8)

    stack.change("a100-1", {"labels": {CONFIG: "whole"}})

    stack.offers("a100-1", gpu=2)


def test_a_key_that_does_not_exist_takes_all_gpus_away(stack: Stack) -> None:
    stack.config_map("sharing", sliced=TIME_SLICED)
    stack.plugin("a100-1", "sharing", "missing")

    pod = stack.pod("nvidia-device-plugin-daemonset", waits_for("CrashLoopBackOff", "initContainerStatuses"), "fails")

    assert pod["status"]["phase"] == "Pending"
    assert "does not exist" in pod["status"]["initContainerStatuses"][0]["lastState"]["terminated"]["message"]
    assert offered(stack.node("a100-1")) == {}  # F43

    stack.change("a100-1", {"labels": {CONFIG: "sliced"}})
    stack.offers("a100-1", gpu=8)


def test_a_plugin_that_runs_goes_on_when_its_label_names_a_missing_key(stack: Stack) -> None:
    stack.config_map("sharing", sliced=TIME_SLICED)
    stack.plugin("a100-1", "sharing", "sliced")
    stack.offers("a100-1", gpu=8)

    stack.change("a100-1", {"labels": {CONFIG: "missing"}})
    stack.pod("nvidia-device-plugin-daemonset", waits_for("CrashLoopBackOff"), "is not ready")
    assert offered(stack.node("a100-1")) == {GPU: 8}

    stack.restart("nvidia-device-plugin-daemonset")
    stack.offers("a100-1")


def test_a_pod_waits_for_its_config_map(stack: Stack) -> None:
    stack.plugin("a100-1", "sharing", "sliced")
    stack.pod("nvidia-device-plugin-daemonset", waits_for("ContainerCreating"), "waits")
    assert offered(stack.node("a100-1")) == {}  # F43

    stack.config_map("sharing", sliced=TIME_SLICED)

    stack.pod("nvidia-device-plugin-daemonset", ready, "is ready")
    stack.offers("a100-1", gpu=8)


def test_a_pod_that_is_held_back_by_others_stays_so_after_its_own_failures(stack: Stack) -> None:
    stack.plugin("a100-1", "sharing", "sliced", annotations={"gpu-conformance.io/waiting-reason": "PodInitializing"})
    stack.pod("nvidia-device-plugin-daemonset", waits_for("ContainerCreating"), "waits for its volume")

    stack.config_map("sharing", wrong=WRONG)

    held = stack.pod("nvidia-device-plugin-daemonset", lambda pod: not annotation(pod, POD_FAILURE), "has its volume")
    assert annotation(held, WAITING_REASON) == "PodInitializing"
    assert held["status"]["phase"] == "Pending"
    where = f"{stack.path('pods')}/{held['metadata']['name']}"
    stack.client.patch(where, {"metadata": {"annotations": {WAITING_REASON: None}}})
    stack.pod("nvidia-device-plugin-daemonset", waits_for("CrashLoopBackOff", "initContainerStatuses"), "fails")


def test_an_edited_config_map_counts_after_a_restart(stack: Stack) -> None:
    stack.config_map("sharing", sliced=TIME_SLICED)
    stack.plugin("a100-1", "sharing", "sliced")
    stack.discovery("a100-1", "sharing", "sliced")
    stack.offers("a100-1", gpu=8)
    stack.labelled("a100-1", gpu_replicas="4")

    stack.config_map("sharing", sliced=TIME_SLICED.replace("4", "10"))
    stack.change("a100-1", {"labels": {"poke": "1"}})
    stack.pod("nvidia-device-plugin-daemonset", ready, "is ready")
    assert offered(stack.node("a100-1")) == {GPU: 8}  # F44

    stack.restart("nvidia-device-plugin-daemonset")
    stack.offers("a100-1", gpu=20)
    stack.labelled("a100-1", gpu_replicas="4")


def test_a_config_map_that_is_deleted_changes_nothing_for_a_plugin_that_runs(stack: Stack) -> None:
    stack.config_map("sharing", sliced=TIME_SLICED)
    stack.plugin("a100-1", "sharing", "sliced")
    stack.offers("a100-1", gpu=8)

    stack.client.delete(f"{stack.path('configmaps')}/sharing")
    stack.change("a100-1", {"labels": {"poke": "1"}})
    found = holds(lambda: stack.pods("nvidia-device-plugin-daemonset")[0], ready, window=2, what="the plugin goes on")
    assert found is None
    assert offered(stack.node("a100-1")) == {GPU: 8}

    stack.restart("nvidia-device-plugin-daemonset")
    stack.pod("nvidia-device-plugin-daemonset", waits_for("ContainerCreating"), "waits for its volume")


def test_what_a_plugin_has_read_survives_a_restart_of_the_simulator(
    agents_cluster: EmbeddedCluster, stack: Stack
) -> None:
    stack.config_map("sharing", sliced=TIME_SLICED)
    stack.plugin("a100-1", "sharing", "sliced")
    stack.offers("a100-1", gpu=8)
    assert agents_cluster.processes is not None
    component = agents_cluster.processes.components["simulator"]

    agents_cluster.processes.stop("simulator")
    stack.config_map("sharing", sliced=TIME_SLICED.replace("4", "10"))
    stack.hardware("a100-1", unhealthy=(1,))
    agents_cluster.processes.start(component)

    stack.offers("a100-1", gpu=4)  # what has happened meanwhile is seen, the new text is not
    assert stack.node("a100-1")["status"]["capacity"][GPU] == "8"


def test_a_refused_configuration_ends_the_plugin_again_and_again(stack: Stack) -> None:
    stack.config_map("sharing", wrong=WRONG)
    stack.plugin("a100-1", "sharing", "wrong")

    pod = stack.pod("nvidia-device-plugin-daemonset", waits_for("CrashLoopBackOff"), "crashes")

    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 1
    assert offered(stack.node("a100-1")) == {}


def test_an_ill_gpu_stays_ill_until_the_plugin_is_restarted(stack: Stack) -> None:
    stack.plugin("a100-1")
    stack.offers("a100-1", gpu=2)

    stack.hardware("a100-1", unhealthy=(0,))
    stack.offers("a100-1", gpu=1)
    assert stack.node("a100-1")["status"]["capacity"][GPU] == "2"  # F34

    stack.hardware("a100-1", unhealthy=())
    stack.change("a100-1", {"labels": {"poke": "1"}})
    assert offered(stack.node("a100-1")) == {GPU: 1}
    stack.restart("nvidia-device-plugin-daemonset")
    stack.offers("a100-1", gpu=2)


def test_a_plugin_without_the_driver_s_libraries_runs_and_offers_nothing(stack: Stack) -> None:
    stack.hardware("a100-1", broken={"plugin-blind": True})
    stack.plugin("a100-1")

    stack.pod("nvidia-device-plugin-daemonset", ready, "is ready")

    assert offered(stack.node("a100-1")) == {}  # F25


# --- MPS ----------------------------------------------------------------------------------------------------------


def test_mps_needs_the_control_daemon_which_needs_the_label_of_discovery(stack: Stack) -> None:
    stack.config_map("sharing", mps=MPS)
    stack.plugin("a100-1", "sharing", "mps")
    stack.pod("nvidia-device-plugin-daemonset", ready, "is ready")
    assert offered(stack.node("a100-1")) == {}  # F48
    capable = {"selector": {"nvidia.com/mps.capable": "true"}}
    name = "nvidia-device-plugin-mps-control-daemon"
    stack.configured(name, "mps-control-daemon-ctr", "a100-1", "sharing", "mps", {}, **capable)
    stack.discovery("a100-1", "sharing", "mps")

    stack.offers("a100-1", gpu=8)

    stack.labelled("a100-1", mps_capable="true", gpu_replicas="4")
    assert stack.node("a100-1")["metadata"]["labels"]["nvidia.com/gpu.sharing-strategy"] == "mps"

    # The plugin looks for the daemon when it starts, and not again.
    stack.client.delete(f"{stack.path('daemonsets', 'apis/apps/v1')}/{name}")
    wait_for(lambda: stack.pods(name), lambda pods: not pods, what="the daemon is gone", timeout=PATIENCE)
    stack.change("a100-1", {"labels": {"poke": "1"}})
    assert offered(stack.node("a100-1")) == {GPU: 8}
    stack.restart("nvidia-device-plugin-daemonset")
    stack.offers("a100-1")


# --- GPU Feature Discovery ----------------------------------------------------------------------------------------


def test_labels_outlive_the_pod_of_discovery_and_go_with_its_daemon_set(stack: Stack) -> None:
    stack.discovery("a100-1")
    stack.labelled("a100-1", gpu_count="2", gpu_family="ampere")

    stack.change("a100-1", {"labels": {"nvidia.com/gpu.deploy.gpu-feature-discovery": "false"}})
    wait_for(
        lambda: stack.pods("gpu-feature-discovery"), lambda pods: not pods, what="the pod is gone", timeout=PATIENCE
    )
    stack.labelled("a100-1", gpu_count="2")

    stack.client.delete(f"{stack.path('daemonsets', 'apis/apps/v1')}/gpu-feature-discovery")
    stack.labelled("a100-1", gpu_count=None, gpu_product=None, mig_capable=None, vgpu_present=None)


# --- MIG manager --------------------------------------------------------------------------------------------------


def geometry(node: Object) -> dict[str, dict[str, int]]:
    return json.loads(annotation(node, MIG_GEOMETRY) or "{}")


def test_a_label_cuts_the_gpus_and_the_operands_come_back(stack: Stack) -> None:
    stack.plugin("a100-1", MIG_STRATEGY="mixed")
    stack.discovery("a100-1", MIG_STRATEGY="mixed")
    stack.mig_manager("a100-1")
    stack.offers("a100-1", gpu=2)
    before = stack.pod("nvidia-device-plugin-daemonset", ready, "is ready")["metadata"]["uid"]

    stack.change("a100-1", {"labels": {MIG_CONFIG: "all-balanced"}})

    wait_for(
        lambda: offered(stack.node("a100-1")),
        lambda found: found == {"nvidia.com/mig-1g.5gb": 4, "nvidia.com/mig-2g.10gb": 2, "nvidia.com/mig-3g.20gb": 2},
        what="the MIG devices are offered",
        timeout=PATIENCE,
    )
    labels = stack.node("a100-1")["metadata"]["labels"]
    assert labels[MIG_STATE] == "success"
    assert labels["nvidia.com/gpu.deploy.device-plugin"] == "true"
    assert stack.pod("nvidia-device-plugin-daemonset", ready, "is ready")["metadata"]["uid"] != before
    assert "all-1g.5gb" in stack.client.get(f"{stack.path('configmaps')}/a100-1-mig-config")["data"]["config.yaml"]


def state(stack: Stack, node: str, wanted: str) -> Object:
    return wait_for(
        lambda: stack.node(node),
        lambda found: (
            found["metadata"]["labels"].get(MIG_STATE) == wanted and '"done":true' in annotation(found, CHANGE)
        ),
        what=f"MIG state {wanted}",
        timeout=PATIENCE,
    )


def test_a_node_that_is_already_as_asked_succeeds_without_a_pause(stack: Stack) -> None:
    stack.plugin("a100-1")
    uid = stack.pod("nvidia-device-plugin-daemonset", ready, "is ready")["metadata"]["uid"]
    stack.mig_manager("a100-1")

    stack.change("a100-1", {"labels": {MIG_CONFIG: "all-disabled"}})

    state(stack, "a100-1", "success")
    assert stack.pod("nvidia-device-plugin-daemonset", ready, "is ready")["metadata"]["uid"] == uid


def custom(**layouts: str) -> str:
    lines = [f"  {name}: [{{devices: all, mig-enabled: true, mig-devices: {what}}}]" for name, what in layouts.items()]
    return "\n".join(["version: v1", "mig-configs:", *lines]) + "\n"


def custom_manager(stack: Stack, key: str, text: str, **env: str) -> None:
    stack.config_map("layouts", **{key: text})
    mounts = [{"name": "mig-parted-config", "mountPath": "/mig-parted-config"}]
    volumes = [{"name": "mig-parted-config", "configMap": {"name": "layouts"}}]
    told = {"CONFIG_FILE": "/mig-parted-config/config.yaml", **env}
    stack.mig_manager("a100-1", env=told, mounts=mounts, volumes=volumes)


def test_an_impossible_layout_fails_and_leaves_a_gpu_without_devices(stack: Stack) -> None:
    custom_manager(stack, "config.yaml", custom(fine='{"2g.10gb": 3}', toomany='{"2g.10gb": 4}'))
    stack.change("a100-1", {"labels": {MIG_CONFIG: "fine"}})
    state(stack, "a100-1", "success")

    stack.change("a100-1", {"labels": {MIG_CONFIG: "toomany"}})

    assert geometry(state(stack, "a100-1", "failed")) == {"0": {}, "1": {"2g.10gb": 3}}

    stack.change("a100-1", {"labels": {MIG_CONFIG: "unheard-of"}})
    wait_for(
        lambda: annotation(stack.node("a100-1"), CHANGE),
        lambda text: "unheard-of" in text,
        what="it looks",
        timeout=PATIENCE,
    )
    assert geometry(state(stack, "a100-1", "failed")) == {"0": {}, "1": {"2g.10gb": 3}}


def test_a_config_map_with_another_key_is_not_read(stack: Stack) -> None:
    custom_manager(stack, "layouts.yaml", custom(fine='{"2g.10gb": 3}'))

    stack.pod("nvidia-mig-manager", waits_for("CrashLoopBackOff"), "crashes")  # F51


def test_gpus_in_use_keep_their_cut(stack: Stack) -> None:
    stack.plugin("a100-1")
    stack.offers("a100-1", gpu=2)
    limits = {"limits": {GPU: "1"}}
    user = {"containers": [{"name": "main", "image": "i", "resources": limits}], "terminationGracePeriodSeconds": 0}
    stack.client.create(stack.path("pods"), {"metadata": {"name": "user", "labels": {"app": "user"}}, "spec": user})
    stack.pod("user", ready, "runs")
    stack.mig_manager("a100-1")

    stack.change("a100-1", {"labels": {MIG_CONFIG: "all-1g.5gb"}})

    assert geometry(state(stack, "a100-1", "failed")) == {}  # F49
    stack.client.delete(f"{stack.path('pods')}/user", grace_seconds=0)


@pytest.mark.parametrize(
    ("broken", "env", "expected"),
    [
        ("mig-busy", {}, "failed"),
        ("mig-reboots", {}, "success"),
        ("mig-reboots", {"WITH_REBOOT": "false"}, "failed"),
    ],
)
def test_machines_that_are_busy_or_need_a_reboot(stack: Stack, broken: str, env: dict[str, str], expected: str) -> None:
    stack.hardware("a100-1", broken={broken: True})
    stack.mig_manager("a100-1", env=env)

    stack.change("a100-1", {"labels": {MIG_CONFIG: "all-1g.5gb"}})

    if expected == "success":
        stack.labelled("a100-1", mig_config_state="rebooting")
    found = geometry(state(stack, "a100-1", expected))
    assert found == ({"0": {"1g.5gb": 7}, "1": {"1g.5gb": 7}} if expected == "success" else {})


def test_a_reboot_that_nobody_does_never_ends(stack: Stack) -> None:
    stack.hardware("a100-1", broken={"mig-never-reboots": True})
    stack.mig_manager("a100-1")
    stack.change("a100-1", {"labels": {MIG_CONFIG: "all-1g.5gb"}})

    stack.labelled("a100-1", mig_config_state="rebooting")

    assert geometry(stack.node("a100-1")) == {}
