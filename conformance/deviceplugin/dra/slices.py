"""The ResourceSlice of a node, kept as it has to be: kubelets that start, and those that miss a plugin, delete it.

Source: kubernetes/kubernetes, pkg/kubelet/cm/dra/plugin (wiping slices), and
staging/src/k8s.io/dynamic-resource-allocation/resourceslice.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from conformance.kube.errors import Conflict, KubeError
from conformance.kube.names import DOMAIN, SIMULATED_GPUS
from conformance.kube.paths import path
from conformance.simulator.dra_devices import DRIVER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from conformance.kube.client import Client

NOT_INJECTED = f"{DOMAIN}/not-injected"
"""The annotation of slices whose devices containers do not see; its value says why."""

_LONG = 10**9
_AGAIN = 0.5
_log = logging.getLogger(__name__)


class Slices:
    """The slice of one node. ``changed`` is called, from another thread, when somebody else has changed it."""

    def __init__(self, client: Client, node: str, changed: Callable[[], None]) -> None:
        self._client, self._node, self._changed = client, node, changed
        self._present: dict[str, dict[str, Any]] = {}
        # What was last sent and what the API server kept of it: it fills in defaults and drops fields that are off.
        self._sent: tuple[dict[str, Any], dict[str, Any], str] | None = None

    @property
    def name(self) -> str:
        """The name of the slice."""
        return f"{self._node}-{DRIVER}"

    def follow(self) -> None:
        """Hear of the slice for ever. Whatever goes wrong is tried again."""
        where, selector = path("ResourceSlice"), f"spec.nodeName={self._node}"
        while True:
            try:
                for event in self._client.watch(where, field_selector=selector, timeout=_LONG):
                    name = event.object["metadata"]["name"]
                    if event.type == "DELETED":
                        self._present.pop(name, None)
                    else:
                        self._present[name] = event.object
                    self._changed()
            except KubeError as error:
                _log.warning("the slices of node %s cannot be read: %s", self._node, error)
            time.sleep(_AGAIN)

    def keep(self, devices: Sequence[Mapping[str, Any]] | None, uid: str, *, why: str = "") -> None:
        """Have the slice say what the node has; None takes it away. ``why`` containers do not see what they claim.

        Raises KubeError.
        """
        present = self._present.get(self.name)
        if devices is None:
            if present is not None:
                self._client.delete(path("ResourceSlice", name=self.name))
                self._present.pop(self.name, None)
            return
        wanted = self._slice(devices, uid, why)
        if present is not None and self._sent is not None and self._sent == (wanted["spec"], present["spec"], why):
            return
        try:
            kept = self._write(wanted, present)
        except Conflict:
            # Somebody was quicker; the watch says what is there, and we are called again.
            return
        self._present[self.name] = kept
        self._sent = (wanted["spec"], kept["spec"], why)
        _log.info("published %d devices", len(devices))

    def _write(self, wanted: dict[str, Any], present: Mapping[str, Any] | None) -> dict[str, Any]:
        if present is None:
            return self._client.create(path("ResourceSlice"), wanted)
        version = {"resourceVersion": present["metadata"]["resourceVersion"]}
        pool = {**wanted["spec"]["pool"], "generation": present["spec"]["pool"]["generation"] + 1}
        body = {**wanted, "metadata": {**wanted["metadata"], **version}, "spec": {**wanted["spec"], "pool": pool}}
        return self._client.replace(path("ResourceSlice", name=self.name), body)

    def _slice(self, devices: Sequence[Mapping[str, Any]], uid: str, why: str) -> dict[str, Any]:
        owner = {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": uid, "controller": True}
        metadata: dict[str, Any] = {
            "name": self.name,
            "ownerReferences": [owner],
            "labels": {SIMULATED_GPUS: "true"},
            **({"annotations": {NOT_INJECTED: why}} if why else {}),
        }
        spec = {
            "driver": DRIVER,
            "nodeName": self._node,
            "pool": {"name": self._node, "generation": 1, "resourceSliceCount": 1},
            "devices": list(devices),
        }
        return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": metadata, "spec": spec}
