"""Actor ``metrics``: dcgm-exporter, reached through a forwarded port as ``kubectl port-forward`` reaches it.

Each Ready exporter pod gets a loopback port of ours, and a PortForward of KWOK leads its port 9400 there. What is
answered is computed when somebody asks.
"""

from collections.abc import Iterable

from conformance.kube.errors import KubeError
from conformance.simulator.agents import driver_of, is_played, is_ready
from conformance.simulator.annotations import TELLING, allocation_of
from conformance.simulator.exporter_page import Holder, page
from conformance.simulator.geometry import geometry_of
from conformance.simulator.hardware import machine_of
from conformance.simulator.metrics_ports import MetricsPorts
from conformance.simulator.world import Object, World

EXPORTER = ("nvidia-dcgm-exporter", "nvidia-dcgm-exporter-dra", "dcgm-exporter")
PORT = 9400
_SHARE = "::"
_AGAIN = (0.5, 1.5)
"""Seconds after which KWOK is told of a forwarded port once more, if it has heard of no other one since."""
_FORWARDS = "/apis/kwok.x-k8s.io/v1alpha1/namespaces/{namespace}/portforwards"


class Metrics:
    """The exporters of all nodes; its keys are ``namespace/name`` of their pods."""

    name = "metrics"
    watches = ("Pod",)

    def __init__(self, world: World) -> None:
        self._world = world
        self._metrics_ports = MetricsPorts()
        # The open port of each pod. A key has one worker at a time, so nobody races for an entry.
        self._ports: dict[str, int] = {}
        self._latest = ("", 0)

    def keys(self, kind: str, obj: Object, deleted: bool) -> Iterable[str]:
        """The pod, if it is an exporter."""
        return (_key(obj),) if is_exporter(obj) else ()

    def reconcile(self, key: str) -> float | None:
        """Open the pod's port while it is Ready, and close it with the pod. Raises KubeError.

        KWOK can miss the last of several rules for as long as no other one changes (see TELLING).
        """
        namespace, _, name = key.partition("/")
        pod = self._world.get("Pod", name, namespace)
        open_now = pod is not None and is_ready(pod) and not pod["metadata"].get("deletionTimestamp")
        open_now = open_now and is_played(self._world, str((pod or {"spec": {}})["spec"].get("nodeName") or ""))
        if open_now and key not in self._ports:
            self._open(key, namespace, name)
            return self._told(key, 0)
        if not open_now and key in self._ports:
            self._close(key, namespace, name)
        elif open_now and self._latest[0] == key:
            telling = self._latest[1] + 1
            self._tell(namespace, name, self._ports[key], telling)
            return self._told(key, telling)
        return None

    def _told(self, key: str, telling: int) -> float | None:
        """Note who was told of last; in how many seconds to see whether that is so still."""
        self._latest = (key, telling) if telling < len(_AGAIN) else ("", 0)
        return _AGAIN[telling] if telling < len(_AGAIN) else None

    def _open(self, key: str, namespace: str, name: str) -> None:
        port = self._metrics_ports.open(lambda: self.text(namespace, name))
        try:
            self._tell(namespace, name, port, 0)
        except KubeError:
            self._metrics_ports.close(port)
            raise
        self._ports[key] = port

    def _tell(self, namespace: str, name: str, port: int, telling: int) -> None:
        forward = {"ports": [PORT], "target": {"address": "127.0.0.1", "port": port}}
        obj = {
            "apiVersion": "kwok.x-k8s.io/v1alpha1",
            "kind": "PortForward",
            "metadata": {"name": name, "namespace": namespace, "annotations": {TELLING: str(telling)}},
            "spec": {"forwards": [forward]},
        }
        self._world.client.apply(obj, manager="gpu-conformance-simulator", force=True)

    def _close(self, key: str, namespace: str, name: str) -> None:
        self._metrics_ports.close(self._ports.pop(key))
        self._world.client.delete(f"{_FORWARDS.format(namespace=namespace)}/{name}")

    def text(self, namespace: str, name: str) -> str | None:
        """What the exporter of a pod says now; None when it does not answer."""
        pod = self._world.get("Pod", name, namespace)
        node = self._world.get("Node", str(pod["spec"].get("nodeName") or "")) if pod is not None else None
        machine = machine_of(node) if node is not None else None
        if node is None or machine is None or machine.broken.get("exporter-silent"):
            return None
        node_name = node["metadata"]["name"]
        driver = driver_of(self._world, node_name, machine)
        if not driver:
            return None
        holders, busy = self._holders(node_name)
        named = {} if machine.broken.get("exporter-unattributed") else holders
        return page(node_name, machine, driver, geometry_of(node), named, busy)

    def _holders(self, node: str) -> tuple[dict[str, Holder], set[str]]:
        """Who has which device, by UUID, and the devices of running pods. Replicas of a GPU are attributed to none."""
        holders: dict[str, Holder] = {}
        busy: set[str] = set()
        for pod in self._world.pods_on(node):
            if (pod.get("status") or {}).get("phase") != "Running":
                continue
            metadata, allocation = pod["metadata"], allocation_of(pod)
            for container, uuids in allocation.uuids.items():
                busy.update(uuids)
                shared = any(_SHARE in each for each in allocation.devices.get(container, []))
                if not shared:
                    holder = Holder(metadata["namespace"], metadata["name"], container)
                    holders |= dict.fromkeys(uuids, holder)
        return holders, busy


def is_exporter(pod: Object) -> bool:
    """Whether a pod is dcgm-exporter."""
    return any(container["name"] in EXPORTER for container in pod["spec"]["containers"])


def _key(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
