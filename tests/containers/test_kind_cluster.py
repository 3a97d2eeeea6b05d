"""``--cluster kind`` against a real Docker daemon, with a node image made on this machine."""

import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker_daemon
import pytest
from leftovers import kill_a_run, new, runs, things, until_nothing_is_left

from conformance.cli import main
from conformance.clusters.docker.daemon import reached
from conformance.clusters.docker.images import MADE_HERE
from conformance.clusters.docker.kind import NODE_LABEL, KindCluster, KindSpec, running
from conformance.clusters.embedded.real import images as pod_images
from conformance.kube.client import Client
from conformance.kube.effects import Effect
from conformance.kube.guard import Guard
from conformance.kube.kubeconfig import connect
from conformance.kube.waits import wait_for
from conformance.progress import SilentProgress

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("docker_host")]
USAGE = 4
PATIENCE = 180.0
REFERENCE = Path(__file__).with_name("kind-reference.yaml")
SIMULATED_PLUGIN = Path(__file__).with_name("kind-simulated-plugin.yaml")
PODS = "/api/v1/namespaces/default/pods"
Object = dict[str, Any]
SYS_RESOURCE = 24  # linux/capability.h
# An address that no service has, one of a pod on a node that is not there, and one outside (RFC 5737).
NOWHERE = ["10.96.77.77", "10.244.200.9", "192.0.2.1"]
DIAL = """
import socket, sys
for address in sys.argv[1:]:
    try:
        socket.create_connection((address, 443), timeout=20).close()
        print(address, "answered")
    except ConnectionRefusedError:
        print(address, "refused")
    except TimeoutError:
        print(address, "silent")
    except OSError as error:
        print(address, "refused" if error.errno in (101, 113) else error)
"""


@pytest.fixture(scope="module", autouse=True)
def can_make_nodes() -> None:
    if lacks := docker_daemon.lacks_for_nodes():
        pytest.skip(f"NOT TESTED, kind clusters: {'; '.join(lacks)}. 'ci/containers' installs what they need")


def nodes_left() -> list[str]:
    with reached() as client:
        return [
            node.name for node in client.containers.list(all=True, ignore_removed=True, filters={"label": NODE_LABEL})
        ]


@pytest.fixture(scope="module")
def made(docker_host: str) -> Iterator[KindCluster]:
    spec = KindSpec(name="shared", topology="single", image=MADE_HERE, version="1.36")
    with running(spec, SilentProgress()) as cluster:
        yield cluster
    assert nodes_left() == []


@pytest.fixture
def api(made: KindCluster) -> Iterator[Client]:
    with connect(made.kubeconfig, None) as connection:
        yield Client(connection, Guard(Effect.DISRUPTIVE, None))


def run_pod(api: Client, name: str, code: str, *arguments: str, **spec: Any) -> str:
    """What a pod that runs Python code prints; the pod is deleted."""
    container = {"name": "main", "image": pod_images.PROBE, "command": ["python3", "-c", code, *arguments]}
    body = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container], **spec}
    api.create(PODS, {"metadata": {"name": name}, "spec": body})
    try:
        wait_for(
            lambda: api.get(f"{PODS}/{name}"),
            lambda pod: pod["status"]["phase"] in ("Succeeded", "Failed"),
            what=f"pod {name} has ended",
            timeout=PATIENCE,
        )
        return api.request("GET", f"{PODS}/{name}/log").decode()
    finally:
        api.delete(f"{PODS}/{name}")


def test_nodes_are_those_of_the_topology_with_gpus_that_say_they_are_simulated(made: KindCluster, api: Client) -> None:
    nodes = {node["metadata"]["name"]: node for node in api.list("/api/v1/nodes")}
    worker = nodes["shared-worker"]

    assert set(nodes) == {"shared-control-plane", "shared-worker", "shared-worker2"}
    assert made.ours
    assert worker["status"]["allocatable"]["nvidia.com/gpu"] == "8"
    assert worker["metadata"]["labels"]["gpu-conformance.io/simulated-gpus"] == "true"
    assert worker["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://1.6")


def test_a_node_lowers_scores_unless_root_may_not(made: KindCluster, docker_host: str) -> None:
    """The tests' own daemon hands on what root has: nothing is worked round where that is everything."""
    lacks = bool(docker_daemon.missing_capabilities() >> SYS_RESOURCE & 1)
    with reached() as client:
        node = client.containers.get("shared-worker")
        runtime = node.exec_run("containerd config dump").output.decode()
    assert f"restrict_oom_score_adj = {str(lacks).lower()}" in runtime
    assert ("20-oom-scores.conf" in settings_of("shared-worker")) is lacks


def test_a_node_measures_its_storage_unless_its_kubelet_cannot_find_it(made: KindCluster, api: Client) -> None:
    """What cAdvisor does not find is a btrfs whose device the node does not have: everything else is measured."""
    with reached() as client:
        node = client.containers.get("shared-worker")
        kind_of_file_system = node.exec_run("stat --file-system --format=%T /var/lib/kubelet").output.decode().strip()
    measures = "30-local-storage.conf" not in settings_of("shared-worker")
    capacity = api.get("/api/v1/nodes/shared-worker")["status"]["capacity"]

    assert measures or kind_of_file_system == "btrfs"
    assert ("ephemeral-storage" in capacity) is measures


def settings_of(node: str) -> list[str]:
    """The files with which a node's kubelet is set, beside kubeadm's."""
    with reached() as client:
        container = client.containers.get(node)
        return str(container.exec_run("ls /etc/kubernetes/kubelet.conf.d").output.decode()).split()


def test_no_packet_leaves_the_machine_from_a_pod_or_from_a_node(made: KindCluster, api: Client) -> None:
    for name, spec in (("from-pod", {}), ("from-node", {"hostNetwork": True})):
        said = run_pod(api, name, DIAL, *NOWHERE, **spec)
        assert said.splitlines() == [f"{address} refused" for address in NOWHERE], name


def test_services_with_two_endpoints_work_across_nodes(made: KindCluster, api: Client) -> None:
    """kube-proxy needs libm for its extension statistic as soon as a service has two endpoints."""
    serving = "import http.server as s; s.HTTPServer(('', 8080), s.SimpleHTTPRequestHandler).serve_forever()"
    place = "/api/v1/namespaces/default/services"
    for number, node in enumerate(("shared-worker", "shared-worker2"), start=1):
        pod = {
            "metadata": {"name": f"server-{number}", "labels": {"app": "server"}},
            "spec": {
                "nodeName": node,
                "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "main", "image": pod_images.PROBE, "command": ["python3", "-c", serving]}],
            },
        }
        api.create(PODS, pod)
    try:
        port = {"port": 80, "targetPort": 8080}
        service = api.create(
            place, {"metadata": {"name": "server"}, "spec": {"selector": {"app": "server"}, "ports": [port]}}
        )
        get = (
            "import sys, time, urllib.request as r\n"
            "for _ in range(400):\n"
            "    try:\n"
            "        print([r.urlopen(f'http://{sys.argv[1]}/', timeout=5).status for _ in range(8)]); break\n"
            "    except OSError: time.sleep(0.25)\n"
        )
        assert run_pod(api, "client", get, service["spec"]["clusterIP"]).strip() == str([200] * 8)
    finally:
        for path in (f"{place}/server", f"{PODS}/server-1", f"{PODS}/server-2"):
            api.delete(path)


def test_pods_wait_for_gpus_that_are_taken(made: KindCluster, api: Client) -> None:
    def pod(name: str, gpus: str) -> Object:
        container = {"name": "main", "image": pod_images.PAUSE, "resources": {"limits": {"nvidia.com/gpu": gpus}}}
        return {"metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}}

    try:
        api.create(PODS, pod("first", "6"))
        wait_for(
            lambda: api.get(f"{PODS}/first"),
            lambda seen: seen["status"]["phase"] == "Running",
            what="pod first runs",
            timeout=PATIENCE,
        )
        api.create(PODS, pod("second", "6"))
        refused = wait_for(
            lambda: api.get(f"{PODS}/second")["status"].get("conditions", ()),
            lambda seen: any(each.get("reason") == "Unschedulable" for each in seen),
            what="pod second has no place",
            timeout=PATIENCE,
        )
        assert "Insufficient nvidia.com/gpu" in refused[0]["message"]
    finally:
        for name in ("first", "second"):
            api.delete(f"{PODS}/{name}")


def test_a_cluster_that_is_there_is_audited_and_stays(made: KindCluster, conform) -> None:
    outcome = conform("--cluster", "kind:shared", "--gpu-reference", str(REFERENCE), "--gpu-profile", "pools")

    assert outcome.report["run"]["mode"] == "audit", outcome.output
    assert outcome.report["cluster"]["kind"] == "kind"
    assert len(nodes_left()) == 3


def test_a_run_that_is_killed_on_a_cluster_that_was_there_leaves_the_cluster(
    made: KindCluster, api: Client, tmp_path: Path, chance: random.Random
) -> None:
    """What the run has made there, clean takes away; the cluster is its owner's."""
    nodes, objects = nodes_left(), of_runs(api)

    def wait(run: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + PATIENCE
        while of_runs(api) == objects:
            assert run.poll() is None, (tmp_path / "output").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(chance.uniform(0.0, 5.0))

    arguments = ["--gpu-reference", str(REFERENCE), "--gpu-deploy", "--gpu-requirement", "PRIO-03"]
    kill_a_run(tmp_path, chance, wait, "--cluster", "kind:shared", "--gpu-mode", "full", *arguments)

    # Once the run counts as dead.
    wait_for(
        lambda: (main(["clean", "--cluster", "kind:shared"]), of_runs(api)),
        lambda seen: seen == (0, objects),
        what="clean has left nothing of the run",
        timeout=PATIENCE,
    )
    assert nodes_left() == nodes


def of_runs(api: Client) -> set[str]:
    """The namespaces and priority classes that runs have made, and teams' namespaces that they have deployed."""
    places = ("/api/v1/namespaces", "/apis/scheduling.k8s.io/v1/priorityclasses")
    found = {each["metadata"]["name"] for place in places for each in api.list(place)}
    return {name for name in found if name.startswith("gpuc-") or name in ("lab", "normal", "low")}


def test_a_run_makes_a_cluster_judges_it_and_leaves_nothing(conform) -> None:
    before = nodes_left()
    outcome = conform(
        "--cluster", "kind", "--gpu-cluster-image", MADE_HERE, "--gpu-deploy", "--gpu-reference", str(REFERENCE),
        "--gpu-requirement", "POOL-01,PRIO-03,PRIO-10,TEN-03",
    )  # fmt: skip

    assert outcome.report["cluster"]["evidence"] == "simulated", outcome.output
    assert outcome.ids("failed") == outcome.ids("error") == set(), outcome.output
    # PRIO-10 preempts on the worker's kubelet.
    assert {"PRIO-03", "PRIO-10", "TEN-03"} <= outcome.ids("passed"), outcome.output
    assert nodes_left() == before


def test_the_simulated_plugin_gives_gpus_to_containers(conform) -> None:
    """POOL-04: as many as declared. WORK-01 and WORK-05: a pod sees the devices that it asked for, and no others.

    On the other worker the DaemonSet is a DRA driver, whose devices are published (DRA-03), and whose claims are
    allocated, prepared and given back (DRA-13 to DRA-15). The containerd of these nodes has no CDI, so containers see
    no device of a claim: DRA-12 says that, and nothing else does.
    """
    before = nodes_left()
    outcome = conform(
        "--cluster", "kind", "--gpu-cluster-image", MADE_HERE, "--gpu-deploy", "--gpu-reference", str(SIMULATED_PLUGIN),
        "--gpu-profile", "pools,workloads,isolation,operator,dra",
    )  # fmt: skip

    assert outcome.report["cluster"]["evidence"] == "simulated", outcome.output
    assert outcome.ids("failed") == {"DRA-12"}, outcome.output
    assert outcome.ids("error") == set(), outcome.output
    assert "its claim requests one device" in outcome.told("DRA-12")
    evidence = {each["requirement"]: each["evidence"] for each in outcome.report["requirements"]}
    assert {"POOL-04", "WORK-01", "WORK-05", "WORK-06", "WORK-07", "OPER-01"} <= outcome.ids("passed"), outcome.output
    assert {f"DRA-{each:02}" for each in (2, 3, 5, 6, 13, 14, 15)} <= outcome.ids("passed"), outcome.output
    assert {evidence["WORK-01"], evidence["WORK-05"], evidence["ISO-01"], evidence["DRA-13"]} == {"container"}
    assert nodes_left() == before


STAGES = {
    "starting": (2.0, ""),
    "making": (40.0, "Making the kind cluster"),
    "loading": (8.0, "into the nodes"),
    "deploying": (5.0, "Deploying the reference set-up"),
    "testing": (20.0, "Reading the cluster"),
    "deleting": (2.0, ""),
}
"""What a run does one after the other: how many seconds it may take, and what the run prints when it begins."""
WITH_NODES = ("loading", "deploying", "testing")


def begun(stage: str, output: Path) -> bool:
    """Whether a run that prints into this file has come to the stage."""
    if stage == "deleting":
        return runs("kind", "delete", "cluster")
    return STAGES[stage][1] in output.read_text()


@pytest.mark.kills_in(12)
def test_a_killed_run_leaves_nothing(
    tmp_path: Path, kill: int, chance: random.Random, pytestconfig: pytest.Config
) -> None:
    """At a random moment of a stage: the first run in one that chance decides, each other one in the next."""
    before, stage = things(), list(STAGES)[(pytestconfig.option.seed + kill) % len(STAGES)]
    moment = chance.uniform(0.0, STAGES[stage][0])

    def wait(run: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 2 * PATIENCE
        while not begun(stage, tmp_path / "output"):
            assert run.poll() is None, (tmp_path / "output").read_text()
            assert time.monotonic() < deadline, (stage, (tmp_path / "output").read_text())
            time.sleep(0.1)
        if stage in WITH_NODES:
            found = {each.partition(" ")[0] for each in new(before)}
            assert found >= {"container", "volume", "network", "process", "mount", "control", "folder"}, found
        time.sleep(moment)

    arguments = ["--gpu-cluster-image", MADE_HERE, "--gpu-deploy", "--gpu-reference", str(SIMULATED_PLUGIN)]
    kill_a_run(tmp_path, chance, wait, "--cluster", "kind", *arguments, "--gpu-requirement", "POOL-01,POOL-04,PRIO-03")

    assert until_nothing_is_left(before) == set(), f"killed {moment:.2f} s after it began with {stage}"


def test_an_image_that_is_not_there_is_told(conform) -> None:
    # A registry on this machine's loopback address, where nobody listens: nothing is asked outside.
    outcome = conform("--cluster", "kind", "--gpu-cluster-registry", "localhost:1/mirror")

    assert outcome.exit_code == USAGE
    assert "Docker has no image localhost:1/mirror/kindest/node:v1.37.0@sha256:" in outcome.output


def test_a_command_makes_no_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    before = nodes_left()

    assert main(["clean", "--dry-run", "--cluster", "kind:nobodys"]) == USAGE
    assert "there is no kind cluster named nobodys; there are: " in capsys.readouterr().err
    assert nodes_left() == before
