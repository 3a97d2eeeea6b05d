"""Preparing claims: which devices the scheduler has allocated, and the CDI specification that describes them.

The specification of a claim is also what is known of it: whoever starts the plugin anew finds what is prepared, and a
kubelet that asks twice gets the same answer. It is written in one step, and removed when the claim is unprepared.
Sources: kubernetes-sigs/dra-driver-nvidia-gpu v0.4.1, cmd/gpu-kubelet-plugin (cdi.go, device_state.go); cncf-tags/
container-device-interface, SPEC.md, version 0.6.0.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from conformance.deviceplugin import cdi
from conformance.deviceplugin.api import dra_pb2 as api
from conformance.deviceplugin.giving import ALLOCATE_FAILS, given
from conformance.kube.errors import KubeError
from conformance.kube.names import DOMAIN, SIMULATED_GPUS
from conformance.kube.paths import path
from conformance.simulator.devices import Device
from conformance.simulator.dra_devices import DRIVER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from conformance.deviceplugin.hostfiles import HostFiles
    from conformance.deviceplugin.inventory import Inventory
    from conformance.kube.client import Client

    from .runtimes import Injection

    Listed = tuple[Inventory, Sequence[Mapping[str, Any]], Injection]

CDI_KIND = "k8s.gpu.nvidia.com/claim"
_PREFIX = "gpu-conformance-claim-"
NOT_INJECTED = "DevicesNotInjected"
_CLAIM, _RESULTS = f"{DOMAIN}/claim", f"{DOMAIN}/results"
_log = logging.getLogger(__name__)


class NotPrepared(Exception):
    """A claim cannot be prepared; the text is told to the kubelet, which says it in an event of the pod."""


class Claims:
    """The claims that are prepared on one node.

    ``listed`` gives what the node has now, its devices as a ResourceSlice has them, and what the runtime does with CDI.
    """

    def __init__(
        self,
        client: Client,
        folder: Path,
        files: HostFiles,
        listed: Callable[[], Listed],
    ) -> None:
        self._client, self._folder, self._files = client, folder, files
        self._listed = listed
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def prepared(self) -> list[str]:
        """The UIDs of the claims that are prepared."""
        return sorted(
            each.name.removeprefix(_PREFIX).removesuffix(".json") for each in self._folder.glob(f"{_PREFIX}*")
        )

    def prepare(self, claim: api.Claim) -> list[api.Device]:
        """See services.Preparing. Raises NotPrepared, KubeError, OSError."""
        inventory, published, injected = self._listed()
        file = self._file(claim.uid)
        if not file.exists():
            found = self._read(claim)
            results = _results(found, inventory.node)
            self._write(file, self._specification(inventory, published, results, claim))
            self._tell_pods(found, inventory.node, injected)
            _log.info("prepared claim %s/%s: %s", claim.namespace, claim.name, _devices_of(results))
        results = json.loads(json.loads(file.read_text(encoding="utf-8"))["annotations"][_RESULTS])
        return [_answer(claim.uid, result, names=injected.names) for result in results]

    def unprepare(self, claim: api.Claim) -> None:
        """See services.Preparing. Raises OSError."""
        file = self._file(claim.uid)
        if file.exists():
            file.unlink()
            _log.info("unprepared claim %s/%s", claim.namespace, claim.name)

    def _file(self, uid: str) -> Path:
        if not uid or "/" in uid:
            raise NotPrepared(f"{uid!r} is no UID of a claim")
        return self._folder / f"{_PREFIX}{uid}.json"

    def _read(self, claim: api.Claim) -> dict[str, Any]:
        """The claim, allocated. Raises NotPrepared."""
        what = f"claim {claim.namespace}/{claim.name}"
        try:
            found = self._client.get(path("ResourceClaim", namespace=claim.namespace, name=claim.name))
        except KubeError as error:
            raise NotPrepared(f"{what} cannot be read: {error}") from None
        if found["metadata"]["uid"] != claim.uid:
            raise NotPrepared(f"{what} is another one than {claim.uid}")
        if not (found.get("status") or {}).get("allocation"):
            raise NotPrepared(f"{what} is allocated no device")
        return found

    def _tell_pods(self, claim: Mapping[str, Any], node: str, injected: Injection) -> None:
        """Say at each pod of a claim that its containers do not see what they were given."""
        for pod in (claim["status"].get("reservedFor") or ()) if not injected.names else ():
            if pod["resource"] == "pods":
                event = not_injected(pod["name"], pod["uid"], claim["metadata"]["namespace"], node, injected.why)
                try:
                    self._client.create(path("Event", namespace=claim["metadata"]["namespace"]), event)
                except KubeError as error:
                    _log.warning("pod %s is not told of what it lacks: %s", pod["name"], error)

    def _specification(
        self,
        inventory: Inventory,
        published: Sequence[Mapping[str, Any]],
        results: Sequence[Mapping[str, str]],
        claim: api.Claim,
    ) -> dict[str, Any]:
        if why := inventory.broken(ALLOCATE_FAILS):
            raise NotPrepared("the device is busy" if why is True else str(why))
        known = {each["name"]: each for each in published}
        if missing := [each["device"] for each in results if each["device"] not in known]:
            raise NotPrepared(f"this node has no device {', '.join(missing)}")
        devices = {each["device"]: _device(known[each["device"]]) for each in results}
        edits = {name: cdi.edits(given(inventory, self._files, [device])) for name, device in devices.items()}
        return {
            "cdiVersion": cdi.VERSION,
            "kind": CDI_KIND,
            "annotations": {
                SIMULATED_GPUS: "true",
                _CLAIM: f"{claim.namespace}/{claim.name}",
                _RESULTS: json.dumps(list(results)),
            },
            "devices": [{"name": f"{claim.uid}-{name}", "containerEdits": each} for name, each in edits.items()],
        }

    def _write(self, file: Path, specification: Mapping[str, Any]) -> None:
        half = self._folder / f".{file.name}.new"
        half.write_text(json.dumps(specification, indent=2), encoding="utf-8")
        half.rename(file)


def not_injected(pod: str, uid: str, namespace: str, node: str, why: str) -> dict[str, Any]:
    """The event of a pod whose containers see no device of its claims."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "metadata": {"generateName": f"{pod}.", "namespace": namespace, "labels": {SIMULATED_GPUS: "true"}},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": pod, "uid": uid},
        "type": "Warning",
        "reason": NOT_INJECTED,
        "message": why,
        "source": {"component": "gpu-conformance-simulated-dra-driver", "host": node},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }


def _results(claim: Mapping[str, Any], node: str) -> list[dict[str, str]]:
    """Which devices of a node are allocated to a claim, with the request that each is for."""
    results = (claim["status"]["allocation"].get("devices") or {}).get("results") or []
    # A request with alternatives is known to the kubelet by its own name, without that of the alternative.
    return [
        {"request": each["request"].partition("/")[0], "pool": each["pool"], "device": each["device"]}
        for each in results
        if each["driver"] == DRIVER and each["pool"] == node
    ]


def _answer(uid: str, result: Mapping[str, str], *, names: bool) -> api.Device:
    return api.Device(
        request_names=[result["request"]],
        pool_name=result["pool"],
        device_name=result["device"],
        cdi_device_ids=[f"{CDI_KIND}={uid}-{result['device']}"] if names else [],
    )


def _device(published: Mapping[str, Any]) -> Device:
    """A device of a slice as the device plugin knows it; its name begins with gpu-<index>."""
    said = published["attributes"]
    uuid = said["uuid"]["string"]
    profile = said.get("profile", {}).get("string", "")
    return Device(uuid, uuid, int(published["name"].split("-")[1]), profile)


def _devices_of(results: Sequence[Mapping[str, str]]) -> str:
    return ", ".join(each["device"] for each in results) or "no device of this node"
