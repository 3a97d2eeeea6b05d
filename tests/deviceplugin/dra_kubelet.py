"""A kubelet as far as a DRA plugin can tell, and an API server as far as that plugin asks one."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc

from conformance.deviceplugin.api import dra_pb2 as api
from conformance.deviceplugin.api import pluginregistration_pb2 as registration
from conformance.kube.errors import Conflict, NotFound

PLUGIN = "k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
Object = dict[str, Any]


class DraKubelet:
    """Finds plugins by their sockets below its root folder, as the kubelet's plugin watcher does."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def sockets(self) -> list[Path]:
        return sorted((self._root / "plugins_registry").glob("*.sock"))

    def register(self) -> Any:
        """What the one plugin that is there says of itself; it is told that it is registered."""
        (socket,) = self.sockets()
        info = _ask(
            socket, "pluginregistration.Registration/GetInfo", registration.InfoRequest(), registration.PluginInfo
        )
        status = registration.RegistrationStatus(plugin_registered=True)
        answer = registration.RegistrationStatusResponse
        _ask(socket, "pluginregistration.Registration/NotifyRegistrationStatus", status, answer)
        return info

    def prepare(self, *claims: Object) -> dict[str, Any]:
        """What the plugin answers for each claim, by its UID."""
        request = api.NodePrepareResourcesRequest(claims=[_named(each) for each in claims])
        return dict(self._plugin("NodePrepareResources", request, api.NodePrepareResourcesResponse).claims)

    def unprepare(self, *claims: Object) -> dict[str, Any]:
        request = api.NodeUnprepareResourcesRequest(claims=[_named(each) for each in claims])
        return dict(self._plugin("NodeUnprepareResources", request, api.NodeUnprepareResourcesResponse).claims)

    def _plugin(self, method: str, request: Any, answer: Any) -> Any:
        return _ask(Path(self.register().endpoint), f"{PLUGIN}/{method}", request, answer)


def _named(claim: Object) -> api.Claim:
    metadata = claim["metadata"]
    return api.Claim(namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"])


def _ask(socket: Path, method: str, request: Any, answer: Any) -> Any:
    with grpc.insecure_channel(f"unix://{socket}") as channel:
        call = channel.unary_unary(
            f"/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        # A socket is there a moment before anybody listens.
        return call(request, timeout=60, wait_for_ready=True)


class FewObjects:
    """ResourceSlices, claims and events, with resource versions; a watch tells what there is, and ends when told to."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.events: list[Object] = []
        self._version = 0
        self._told: list[Any] = []

    def get(self, path: str) -> Object:
        if path not in self.objects:
            raise NotFound(404, "NotFound", "not there", "GET", path)
        return self.objects[path]

    def create(self, path: str, body: Object) -> Object:
        if path.endswith("/events"):
            self.events.append(body)
            return body
        return self._keep(f"{path}/{body['metadata']['name']}", body, "ADDED")

    def replace(self, path: str, body: Object) -> Object:
        if self.objects[path]["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", "another version", "PUT", path)
        return self._keep(path, body, "MODIFIED")

    def delete(self, path: str) -> bool:
        gone = self.objects.pop(path, None)
        if gone is not None:
            self._told.append(SimpleNamespace(type="DELETED", object=gone))
        return gone is not None

    def watch(self, path: str, **_: Any) -> Iterator[Any]:
        assert path == SLICES
        yield from self._told
        self._told.clear()

    def _keep(self, path: str, body: Object, event: str) -> Object:
        self._version += 1
        metadata = {**body["metadata"], "resourceVersion": str(self._version)}
        self.objects[path] = {**body, "metadata": metadata}
        self._told.append(SimpleNamespace(type=event, object=self.objects[path]))
        return self.objects[path]

    @property
    def slices(self) -> list[Object]:
        return [each for path, each in self.objects.items() if path.startswith(SLICES)]
