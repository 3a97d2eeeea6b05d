"""The stages that play kubelets, one behaviour after the other, on a control plane that is real."""

import socketserver
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from embedded_pods import Pods, condition
from patience import PATIENCE

from conformance.clusters.embedded import EmbeddedCluster
from conformance.clusters.embedded.annotations import (
    BACKOFF_SECONDS,
    EXIT_CODE,
    NOT_READY,
    RUN_SECONDS,
    STOP_SECONDS,
    UNREACHABLE,
    WAITING_REASON,
)
from conformance.clusters.embedded.fleet import break_node, repair_node
from conformance.kube.client import Client
from conformance.kube.waits import holds, wait_for

pytestmark = pytest.mark.cluster


def test_every_node_is_ready_reachable_and_known_as_simulated(client: Client, embedded: EmbeddedCluster) -> None:
    nodes = client.list("/api/v1/nodes")

    assert len(nodes) == 13
    for node in nodes:
        assert condition(node, "Ready") == "True"
        assert node["metadata"]["annotations"]["kwok.x-k8s.io/node"] == "fake"
        assert node["spec"]["providerID"] == f"kwok://{node['metadata']['name']}"
        assert {each["type"]: each["address"] for each in node["status"]["addresses"]} == {
            "InternalIP": "127.0.0.1",
            "Hostname": node["metadata"]["name"],
        }
        assert node["status"]["nodeInfo"]["kubeletVersion"] == embedded.version


def test_gpus_are_allocatable_as_the_topology_says(client: Client) -> None:
    gpus = {
        node["metadata"]["name"]: node["status"]["allocatable"].get("nvidia.com/gpu")
        for node in client.list("/api/v1/nodes")
    }

    assert gpus["a100-training-1"] == "8"
    assert gpus["t4-inference-3"] == "4"
    assert gpus["cpu-1"] is None


def test_a_scheduled_pod_runs_with_addresses_and_ready_containers(pods: Pods) -> None:
    pods.create("plain")

    pod = pods.wait_phase("plain", "Running")

    assert pod["status"]["podIP"] == pod["status"]["podIPs"][0]["ip"]
    assert pod["status"]["podIP"].startswith("10.")
    assert [condition(pod, kind) for kind in ("Initialized", "ContainersReady", "Ready")] == ["True"] * 3
    (container,) = pod["status"]["containerStatuses"]
    assert container["ready"]
    assert "running" in container["state"]


def test_init_containers_have_completed_and_sidecars_run(pods: Pods) -> None:
    image = "registry.k8s.io/pause:3.10"
    pods.create(
        "composed",
        initContainers=[
            {"name": "prepare", "image": image},
            {"name": "sidecar", "image": image, "restartPolicy": "Always"},
        ],
    )

    pod = pods.wait_phase("composed", "Running")

    states = {each["name"]: each["state"] for each in pod["status"]["initContainerStatuses"]}
    assert states["prepare"]["terminated"]["exitCode"] == 0
    assert "running" in states["sidecar"]


def test_two_pods_never_share_an_address(pods: Pods) -> None:
    for number in range(5):
        pods.create(f"p{number}")

    addresses = {pods.wait_phase(f"p{number}", "Running")["status"]["podIP"] for number in range(5)}

    assert len(addresses) == 5


def test_a_pod_without_exit_code_never_ends(pods: Pods) -> None:
    pods.create("endless", restartPolicy="Never")
    pods.wait_phase("endless", "Running")

    assert (
        holds(lambda: pods.read("endless")["status"]["phase"], lambda phase: phase == "Running", window=1, what="")
        is None
    )


@pytest.mark.parametrize(("code", "phase"), [("0", "Succeeded"), ("3", "Failed")])
def test_exit_code_ends_pod_that_never_restarts(pods: Pods, code: str, phase: str) -> None:
    pods.create("ends", {EXIT_CODE: code}, restartPolicy="Never")

    pod = pods.wait_phase("ends", phase)

    (container,) = pod["status"]["containerStatuses"]
    assert container["state"]["terminated"]["exitCode"] == int(code)
    assert condition(pod, "Ready") == "False"


def test_run_seconds_delay_the_exit(pods: Pods) -> None:
    pods.create("later", {EXIT_CODE: "0", RUN_SECONDS: "2"}, restartPolicy="Never")

    pod = pods.wait_phase("later", "Succeeded")

    # Both times are recorded to the second.
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    ran = datetime.fromisoformat(ended["finishedAt"]) - datetime.fromisoformat(ended["startedAt"])
    assert ran >= timedelta(seconds=1)


def test_on_failure_restarts_after_an_error_and_stays_running(pods: Pods) -> None:
    pods.create("crashes", {EXIT_CODE: "1", BACKOFF_SECONDS: "0.1"}, restartPolicy="OnFailure")

    pod = pods.wait("crashes", lambda pod: _restarts(pod) >= 2, "restarted twice")

    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 1


def test_on_failure_ends_after_success(pods: Pods) -> None:
    pods.create("done", {EXIT_CODE: "0"}, restartPolicy="OnFailure")

    pods.wait_phase("done", "Succeeded")


def test_always_restarts_even_after_success(pods: Pods) -> None:
    pods.create("server", {EXIT_CODE: "0", BACKOFF_SECONDS: "0.1"}, restartPolicy="Always")

    pods.wait("server", lambda pod: _restarts(pod) >= 1, "restarted")


def test_a_crashing_container_waits_in_back_off(pods: Pods) -> None:
    pods.create("backs-off", {EXIT_CODE: "1", BACKOFF_SECONDS: "60"}, restartPolicy="Always")

    pod = pods.wait("backs-off", lambda pod: _restarts(pod) == 1 and "waiting" in _state(pod), "waits again")

    assert _state(pod)["waiting"]["reason"] == "CrashLoopBackOff"
    assert condition(pod, "Ready") == "False"


def test_waiting_reason_keeps_pod_pending_until_it_is_taken_away(pods: Pods, client: Client) -> None:
    pods.create("no-image", {WAITING_REASON: "ImagePullBackOff"})
    pod = pods.wait("no-image", lambda pod: bool(_state(pod).get("waiting")), "waits")
    assert pod["status"]["phase"] == "Pending"
    assert _state(pod)["waiting"]["reason"] == "ImagePullBackOff"

    client.patch(f"{pods.path}/no-image", {"metadata": {"annotations": {WAITING_REASON: None}}})

    pods.wait_phase("no-image", "Running")


def test_a_job_completes_only_when_its_pods_are_told_to_end(pods: Pods, client: Client) -> None:
    jobs = f"/apis/batch/v1/namespaces/{pods.namespace}/jobs"
    for name, annotations in (("told", {EXIT_CODE: "0"}), ("untold", {})):
        client.create(jobs, _job(name, annotations))

    wait_for(
        lambda: client.get(f"{jobs}/told"),
        lambda job: condition(job, "Complete") == "True",
        what="done",
        timeout=PATIENCE,
    )

    assert condition(client.get(f"{jobs}/untold"), "Complete") == ""
    assert client.get(f"{jobs}/untold")["status"]["active"] == 1


def test_a_failing_job_uses_up_its_backoff_limit(pods: Pods, client: Client) -> None:
    jobs = f"/apis/batch/v1/namespaces/{pods.namespace}/jobs"
    client.create(jobs, _job("fails", {EXIT_CODE: "1"}))

    wait_for(
        lambda: client.get(f"{jobs}/fails"),
        lambda job: condition(job, "Failed") == "True",
        what="failed",
        timeout=PATIENCE,
    )


def test_a_deleted_pod_runs_until_its_grace_period_is_over(pods: Pods) -> None:
    pods.create("graceful", terminationGracePeriodSeconds=3)
    pods.wait_phase("graceful", "Running")
    began = time.monotonic()

    pods.delete("graceful")

    while "graceful" in pods.present() and time.monotonic() - began < 1.5:
        assert pods.read("graceful")["status"]["phase"] == "Running"
    assert pods.read("graceful")["metadata"]["deletionTimestamp"]
    pods.wait_gone("graceful")
    assert time.monotonic() - began >= 1.9  # deletionTimestamp is to the second


def test_stop_seconds_end_a_pod_before_its_grace_period(pods: Pods) -> None:
    pods.create("quick", {STOP_SECONDS: "0"}, terminationGracePeriodSeconds=300)
    pods.wait_phase("quick", "Running")

    pods.delete("quick")

    pods.wait_gone("quick")


def test_grace_zero_and_force_remove_a_pod_at_once(pods: Pods) -> None:
    pods.create("forced", terminationGracePeriodSeconds=300)
    pods.wait_phase("forced", "Running")

    pods.delete("forced", grace_seconds=0)

    pods.wait_gone("forced")


def test_a_deleted_job_pod_counts_as_failed_and_is_replaced(pods: Pods, client: Client) -> None:
    client.create(f"/apis/batch/v1/namespaces/{pods.namespace}/jobs", _job("again", {}))
    first = wait_for(lambda: sorted(pods.present()), bool, what="the job has a pod", timeout=PATIENCE)[0]
    pods.wait_phase(first, "Running")

    pods.delete(first)

    pods.wait_gone(first)
    wait_for(pods.present, lambda there: bool(there - {first}), what="another pod", timeout=PATIENCE)


def test_a_finished_pod_goes_at_once(pods: Pods) -> None:
    pods.create("finished", {EXIT_CODE: "0"}, restartPolicy="Never", terminationGracePeriodSeconds=300)
    pods.wait_phase("finished", "Succeeded")

    pods.delete("finished")

    pods.wait_gone("finished")


def test_a_pod_that_goes_is_removed_once(pods: Pods, client: Client) -> None:
    names = [f"leaves-{number}" for number in range(5)]
    for name in names:
        pods.create(name, terminationGracePeriodSeconds=1)
    for name in names:
        pods.wait_phase(name, "Running")
    before = _removed_in_vain(client)

    for name in names:
        pods.delete(name)
    for name in names:
        pods.wait_gone(name)

    assert holds(lambda: _removed_in_vain(client), lambda count: count == before, window=1, what="") is None


def test_a_higher_priority_pod_evicts_exactly_what_it_needs(pods: Pods, client: Client) -> None:
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    client.create(classes, {"metadata": {"name": "stages-high"}, "value": 1000})
    where = {"nodeSelector": {"kubernetes.io/hostname": "a100-training-1"}}
    for number in range(8):
        pods.create(f"low-{number}", **where, containers=[_gpus(1)])
    for number in range(8):
        pods.wait_phase(f"low-{number}", "Running")

    pods.create("high", **where, containers=[_gpus(3)], priorityClassName="stages-high")

    pods.wait_phase("high", "Running")
    assert len(pods.present() - {"high"}) == 5
    client.delete(f"{classes}/stages-high")


def test_a_node_told_to_be_not_ready_is_tainted_until_it_is_mended(client: Client) -> None:
    break_node(client, "cpu-2", "container runtime is down")

    node = _wait_ready_is(client, "cpu-2", "False")
    message = next(each["message"] for each in node["status"]["conditions"] if each["type"] == "Ready")
    assert message == "container runtime is down"
    _wait_tainted(client, "cpu-2", "node.kubernetes.io/not-ready")
    repair_node(client, "cpu-2")
    assert condition(client.get("/api/v1/nodes/cpu-2"), "Ready") == "True"


def test_pods_of_an_unreachable_node_are_not_ready_until_it_is_mended(pods: Pods, client: Client) -> None:
    pods.create("there", nodeSelector={"kubernetes.io/hostname": "cpu-3"})
    pods.wait_phase("there", "Running")

    break_node(client, "cpu-3", UNREACHABLE)

    _wait_ready_is(client, "cpu-3", "Unknown")
    _wait_tainted(client, "cpu-3", "node.kubernetes.io/unreachable")
    assert condition(pods.read("there"), "Ready") == "False"
    repair_node(client, "cpu-3")
    assert condition(pods.read("there"), "Ready") == "True"


def test_a_node_without_our_annotation_is_left_alone(client: Client) -> None:
    node = {"metadata": {"name": "real-1"}, "status": {"capacity": {"cpu": "4", "memory": "8Gi", "pods": "10"}}}
    client.create("/api/v1/nodes", node)

    seen = holds(
        lambda: client.get("/api/v1/nodes/real-1"), lambda node: condition(node, "Ready") == "", window=1, what=""
    )

    client.delete("/api/v1/nodes/real-1")
    assert seen is None


def test_a_bare_simulated_node_gets_something_to_run_pods_on(client: Client) -> None:
    annotations = {"kwok.x-k8s.io/node": "fake"}
    client.create("/api/v1/nodes", {"metadata": {"name": "bare", "annotations": annotations}})

    node = _wait_ready_is(client, "bare", "True")

    client.delete("/api/v1/nodes/bare")
    assert node["status"]["allocatable"]["cpu"] == "16"
    assert NOT_READY not in node["metadata"]["annotations"]


def test_logs_come_through_the_api_server(
    pods: Pods, client: Client, embedded: EmbeddedCluster, tmp_path: Path
) -> None:
    log = tmp_path / "smi.log"
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000000000Z")
    log.write_text(f"{now} stdout F Tesla T4, 580.95.05\n")
    pods.create("talks")
    pods.wait_phase("talks", "Running")
    rules = f"/apis/kwok.x-k8s.io/v1alpha1/namespaces/{pods.namespace}/logs"
    rule = {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Logs", "metadata": {"name": "talks"}}
    client.create(rules, rule | {"spec": {"logs": [{"containers": ["main"], "logsFile": str(log)}]}})

    said = wait_for(
        lambda: _log(client, pods), lambda text: "Tesla" in text, what="the log is served", timeout=PATIENCE
    )

    assert said == "Tesla T4, 580.95.05\n"


def test_ports_of_a_pod_lead_where_a_rule_says(pods: Pods, client: Client, embedded: EmbeddedCluster) -> None:
    pods.create("serves")
    pods.wait_phase("serves", "Running")
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        target = {"address": "127.0.0.1", "port": server.server_address[1]}
        rule = {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "PortForward", "metadata": {"name": "serves"}}
        rules = f"/apis/kwok.x-k8s.io/v1alpha1/namespaces/{pods.namespace}/portforwards"
        client.create(rules, rule | {"spec": {"forwards": [{"ports": [9400], "target": target}]}})

        answered = wait_for(
            lambda: _forwarded(embedded, pods.namespace, 9400), bool, what="the port is forwarded", timeout=PATIENCE
        )
        server.shutdown()

    assert answered == b"heard: metrics"


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"heard: " + self.request.recv(100))


def _forwarded(embedded: EmbeddedCluster, namespace: str, port: int) -> bytes:
    """What the server behind a pod's port answers, by way of the API server and KWOK; empty when nobody does."""
    import websocket

    address = f"{embedded.server.replace('https', 'wss')}/api/v1/namespaces/{namespace}/pods/serves/portforward"
    identity = {"ca_certs": embedded.ca_file, "certfile": embedded.cert_file, "keyfile": embedded.key_file}
    stream = websocket.create_connection(
        f"{address}?ports={port}",
        sslopt={name: str(file) for name, file in identity.items()},
        subprotocols=["v4.channel.k8s.io"],
        timeout=PATIENCE,
    )
    try:
        opened = {bytes(stream.recv()) for _ in range(2)}  # one message for data, one for errors, each with the port
        assert opened == {channel + port.to_bytes(2, "little") for channel in (b"\0", b"\1")}
        stream.send_binary(b"\0metrics")
        answer = bytes(stream.recv())
        return answer[1:] if answer[:1] == b"\0" else b""
    finally:
        stream.close()


def test_everything_listens_on_the_loopback_address_only(embedded: EmbeddedCluster) -> None:
    assert embedded.processes is not None
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout.splitlines()
    ours = [line for line in listening if any(f"pid={pid}," in line for pid in embedded.processes.pids.values())]

    assert len(ours) >= 6
    assert [line for line in ours if "127.0.0.1:" not in line.split()[3]] == []


def _log(client: Client, pods: Pods) -> str:
    from conformance.kube.errors import ApiError

    try:
        return client.request("GET", f"{pods.path}/talks/log").decode()
    except ApiError as error:  # KWOK has not read the rule yet
        return str(error)


def _removed_in_vain(client: Client) -> float:
    """How often somebody has asked the API server to delete a pod that was not there."""
    wanted = ('code="404"', 'resource="pods"', 'verb="DELETE"')
    lines = client.request("GET", "/metrics").decode().splitlines()
    counted = [line for line in lines if line.startswith("apiserver_request_total{")]
    assert counted
    return sum(float(line.split()[-1]) for line in counted if all(part in line for part in wanted))


def _restarts(pod: dict) -> int:
    return sum(each["restartCount"] for each in pod["status"].get("containerStatuses", []))


def _state(pod: dict) -> dict:
    return (pod["status"].get("containerStatuses") or [{}])[0].get("state", {})


def _gpus(count: int) -> dict:
    return {"name": "main", "image": "registry.k8s.io/pause:3.10", "resources": {"limits": {"nvidia.com/gpu": count}}}


def _job(name: str, annotations: dict[str, str]) -> dict:
    container = {"name": "main", "image": "registry.k8s.io/pause:3.10"}
    spec = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
    template = {"metadata": {"annotations": annotations}, "spec": spec}
    return {"metadata": {"name": name}, "spec": {"template": template, "backoffLimit": 1}}


def _wait_ready_is(client: Client, name: str, status: str) -> dict:
    return wait_for(
        lambda: client.get(f"/api/v1/nodes/{name}"),
        lambda node: condition(node, "Ready") == status,
        what=f"node {name} has Ready={status}",
        timeout=PATIENCE,
    )


def _wait_tainted(client: Client, name: str, key: str) -> None:
    wait_for(
        lambda: {taint["key"] for taint in client.get(f"/api/v1/nodes/{name}")["spec"].get("taints", [])},
        lambda keys: key in keys,
        what=f"node {name} has taint {key}",
        timeout=PATIENCE,
    )
