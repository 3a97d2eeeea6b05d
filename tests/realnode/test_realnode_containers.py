"""Real nodes: containers run, what they print can be read, and nothing of them reaches beyond the machine."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from patience import PATIENCE
from real_containers import Containers, kubelet_of

from conformance.clusters.embedded.real import images, settings
from conformance.kube.waits import wait_for
from conformance.lab.images import Images

pytestmark = pytest.mark.cluster

_WHO = "import json, os, socket, sys; print(json.dumps([socket.gethostname(), os.getpid(), sys.version]))"
_ASK = """
import errno, json, socket, time
def tried(address, port):
    with socket.socket() as sock:
        sock.settimeout(5)
        started = time.monotonic()
        try:
            sock.connect((address, port))
            return "connected", time.monotonic() - started
        except OSError as error:
            return errno.errorcode.get(error.errno, str(error)), time.monotonic() - started
print(json.dumps({f"{address}:{port}": tried(address, port) for address, port in %s}))
"""
# A service without translation, a simulated pod, a pod of another cluster, documentation (RFC 5737), a name server.
_NOWHERE = [("10.96.77.7", 80), ("10.128.0.9", 80), ("10.201.3.4", 80), ("203.0.113.9", 443), ("198.51.100.1", 53)]
_API = ("10.96.0.1", 443)
_REFUSED = ("EHOSTUNREACH", "EACCES", "ENETUNREACH")


def test_a_program_runs_in_a_container_and_its_output_is_its_log(containers: Containers) -> None:
    for node in ("real-1", "real-2"):
        containers.create(f"who-{node}", _WHO, node=node)

    said = {node: containers.said(f"who-{node}") for node in ("real-1", "real-2")}

    for node, (host, pid, version) in said.items():
        assert (host, pid) == (f"who-{node}", 1)
        assert version.startswith("3.")


def test_a_node_says_how_much_storage_it_has_and_a_pod_may_ask_for_some(containers: Containers) -> None:
    folder = containers.cluster.folder
    machine = os.statvfs(folder)
    asked = {"name": "main", "image": images.PROBE, "command": ["python3", "-c", _WHO]}
    asked["resources"] = {"limits": {"ephemeral-storage": "1Gi"}}
    containers.create("stores", containers=[asked])

    containers.wait_phase("stores", "Succeeded")
    capacity = containers.client.get("/api/v1/nodes/real-1")["status"]["capacity"]
    assert capacity["ephemeral-storage"] == f"{machine.f_blocks * machine.f_frsize // 1024}Ki"


def test_the_images_of_the_lab_are_there_under_the_names_that_its_pods_give(containers: Containers) -> None:
    for key in ("pause", "python"):
        containers.create(f"lab-{key}", "" if key == "pause" else _WHO, image=Images().reference(key))

    containers.wait_phase("lab-pause", "Running")
    containers.wait_phase("lab-python", "Succeeded")


def test_an_image_that_is_not_on_the_node_is_refused_and_not_fetched(containers: Containers) -> None:
    containers.create("absent", image="registry.example.com/absent:1")

    def reason(pod: dict) -> str:
        statuses = pod["status"].get("containerStatuses") or [{}]
        return str(((statuses[0].get("state") or {}).get("waiting") or {}).get("reason"))

    containers.wait("absent", lambda pod: reason(pod) in ("ErrImagePull", "ImagePullBackOff"), "cannot be pulled")


@contextmanager
def _overheard() -> Iterator[list[bytes]]:
    """The IPv4 packets that leave or enter by any of the machine's own interfaces: not the cables to real nodes."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003)) as sock:
        sock.setblocking(False)
        yield heard
        while True:
            try:
                frame, (interface, *_) = sock.recvfrom(1 << 16)
            except BlockingIOError:
                return
            if not interface.startswith("gpc") and frame[12:14] == b"\x08\x00":
                heard.append(frame[14:])


@pytest.mark.parametrize("host_network", [False, True], ids=["pod", "pod-on-the-nodes-network"])
def test_what_nothing_translates_is_refused_in_the_node_at_once(containers: Containers, host_network: bool) -> None:
    name = f"nowhere-{str(host_network).lower()}"
    with _overheard() as heard:
        containers.create(name, _ASK % [_API, *_NOWHERE], hostNetwork=host_network)
        said = containers.said(name)

    assert said.pop(":".join(map(str, _API)))[0] == "connected"
    assert set(said) == {f"{address}:{port}" for address, port in _NOWHERE}
    for address, (outcome, seconds) in said.items():
        assert outcome in _REFUSED, (address, outcome)
        assert seconds < 1.0, address
    nowhere = {socket.inet_aton(address) for address, _ in _NOWHERE}
    assert not [packet for packet in heard if packet[12:16] in nowhere or packet[16:20] in nowhere]


def test_names_are_asked_of_nobody(containers: Containers) -> None:
    code = """
import json, socket
try:
    socket.getaddrinfo("example.com", 80)
except OSError as error:
    print(json.dumps(str(error)))
"""
    with _overheard() as heard:
        containers.create("names", code)
        said = containers.said("names")

    assert said
    assert not [packet for packet in heard if b"\x07example\x03com" in packet]


def test_a_program_in_a_pod_reaches_the_api_server_by_its_service(containers: Containers) -> None:
    code = """
import json, os, ssl, urllib.request
home = "/var/run/secrets/kubernetes.io/serviceaccount/"
trust = ssl.create_default_context(cafile=home + "ca.crt")
url = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}/version"
request = urllib.request.Request(url, headers={"Authorization": "Bearer " + open(home + "token").read()})
print(json.dumps(json.load(urllib.request.urlopen(request, context=trust, timeout=60))["gitVersion"]))
"""
    containers.create("asks", code)

    assert containers.said("asks") == containers.cluster.version


def test_a_kubelet_that_is_killed_comes_back_and_its_pods_have_not_noticed(containers: Containers) -> None:
    containers.create("survivor", image=images.PAUSE)
    before = containers.wait_phase("survivor", "Running")["status"]["containerStatuses"][0]
    kubelet = kubelet_of("real-1")
    assert kubelet

    os.kill(kubelet, signal.SIGKILL)

    wait_for(lambda: kubelet_of("real-1"), lambda pid: pid not in (0, kubelet), what="a new kubelet", timeout=PATIENCE)
    containers.create("after", _WHO)
    containers.said("after")
    after = containers.wait_phase("survivor", "Running")["status"]["containerStatuses"][0]
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)
    containers.cluster.check()


def test_the_machine_keeps_its_settings_and_its_folders(containers: Containers) -> None:
    """What a kubelet sets on a machine of its own, it finds set here: the true values are those of before."""
    code = "import json; print(json.dumps({name: open('/proc/sys/' + name).read().strip() for name in %s}))"
    containers.create("looks", code % list(settings.TUNABLES))
    seen_inside = containers.said("looks")  # a container has a /proc of its own, without what covers the node's

    assert seen_inside == {name: Path("/proc/sys", name).read_text().strip() for name in settings.TUNABLES}
    # Something else, such as a kubelet in a container, may have set them before: then only the log tells.
    log = (containers.cluster.folder / "real-nodes" / "real-1" / "kubelet.log").read_text()
    assert "Updating kernel flag" not in log
    assert not Path("/var/lib/kubelet/device-plugins/kubelet.sock").exists()
