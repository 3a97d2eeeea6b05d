"""Short ways to pods on the real nodes of a test's cluster."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patience import PATIENCE

from conformance.clusters.embedded import EmbeddedCluster
from conformance.clusters.embedded.real import images
from conformance.kube.client import Client
from conformance.kube.waits import wait_for

Object = dict[str, Any]
PODS = "/api/v1/namespaces/default/pods"


@dataclass(frozen=True)
class Containers:
    """Pods on the real nodes of a cluster."""

    cluster: EmbeddedCluster
    client: Client

    def create(
        self, name: str, code: str = "", *, node: str = "real-1", image: str = images.PROBE, **spec: Any
    ) -> None:
        """A pod that runs Python code once, or what its image does."""
        container = {"name": "main", "image": image, **({"command": ["python3", "-c", code]} if code else {})}
        body = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 2,
            "nodeSelector": {"kubernetes.io/hostname": node},
            "tolerations": [{"operator": "Exists"}],
            "containers": [container],
            **spec,
        }
        self.client.create(PODS, {"metadata": {"name": name}, "spec": body})

    def wait(self, name: str, until: Callable[[Object], bool], what: str, timeout: float = PATIENCE) -> Object:
        return wait_for(lambda: self.client.get(f"{PODS}/{name}"), until, what=f"pod {name} {what}", timeout=timeout)

    def wait_phase(self, name: str, phase: str) -> Object:
        return self.wait(name, lambda pod: pod["status"]["phase"] == phase, f"is {phase}")

    def said(self, name: str) -> Any:
        """What a pod that has ended well printed, as JSON."""
        self.wait(name, lambda pod: pod["status"]["phase"] in ("Succeeded", "Failed"), "has ended")
        return json.loads(self.client.request("GET", f"{PODS}/{name}/log"))


def kubelet_of(node: str) -> int:
    """The process id of a node's kubelet on the machine; 0 while there is none. No other cluster has real nodes now."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"--hostname-override={node}".encode() in (process / "cmdline").read_bytes().split(b"\0"):
                return int(process.name)
    return 0
