"""A kubelet as far as a device plugin can tell: it takes registrations and asks the plugin what a kubelet asks."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from conformance.deviceplugin import services
from conformance.deviceplugin.api import deviceplugin_pb2 as api


class FakeKubelet:
    """Serves Registration in a folder; keeps what plugins listed, by resource."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registered: list[str] = []
        self.listed: dict[str, list[dict[str, str]]] = {}
        self.lost: list[str] = []
        self._endpoints: dict[str, str] = {}
        self._channels: list[grpc.Channel] = []
        folder.mkdir(exist_ok=True)
        for socket in folder.glob("*.sock"):  # as a kubelet does that starts
            socket.unlink()
        register = grpc.unary_unary_rpc_method_handler(
            self._register,
            request_deserializer=api.RegisterRequest.FromString,
            response_serializer=api.Empty.SerializeToString,
        )
        self._server = grpc.server(ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("v1beta1.Registration", {"Register": register}),)
        )
        self._server.add_insecure_port(f"unix://{folder / services.KUBELET_SOCKET}")
        self._server.start()

    def close(self) -> None:
        for channel in self._channels:
            channel.close()
        services.stop(self._server)

    def _register(self, request: Any, context: Any) -> Any:
        self.registered.append(request.resource_name)
        self._endpoints[request.resource_name] = request.endpoint
        threading.Thread(target=self._watch, args=(request.resource_name,), daemon=True).start()
        return api.Empty()

    def _watch(self, resource: str) -> None:
        call = self._channel(resource).unary_stream(
            "/v1beta1.DevicePlugin/ListAndWatch",
            request_serializer=api.Empty.SerializeToString,
            response_deserializer=api.ListAndWatchResponse.FromString,
        )
        try:
            for answer in call(api.Empty()):
                self.listed[resource] = [
                    {"id": each.ID, "health": each.health, "numa": each.topology.nodes[0].ID} for each in answer.devices
                ]
        except (grpc.RpcError, ValueError):
            pass
        self.lost.append(resource)

    def allocate(self, resource: str, *ids: str) -> Any:
        """The answer for one container. Raises grpc.RpcError."""
        request = api.AllocateRequest(container_requests=[api.ContainerAllocateRequest(devices_ids=ids)])
        answer = self._ask(resource, "Allocate", request, api.AllocateResponse)
        return answer.container_responses[0]

    def preferred(self, resource: str, free: list[str], count: int, needed: list[str] | None = None) -> list[str]:
        each = api.ContainerPreferredAllocationRequest(
            available_deviceIDs=free, must_include_deviceIDs=needed or [], allocation_size=count
        )
        request = api.PreferredAllocationRequest(container_requests=[each])
        answer = self._ask(resource, "GetPreferredAllocation", request, api.PreferredAllocationResponse)
        return list(answer.container_responses[0].deviceIDs)

    def _ask(self, resource: str, method: str, request: Any, answer: Any) -> Any:
        call = self._channel(resource).unary_unary(
            f"/v1beta1.DevicePlugin/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return call(request, timeout=30)

    def _channel(self, resource: str) -> grpc.Channel:
        channel = grpc.insecure_channel(f"unix://{self.folder / self._endpoints[resource]}")
        self._channels.append(channel)
        return channel


@contextmanager
def kubelet(folder: Path) -> Iterator[FakeKubelet]:
    running = FakeKubelet(folder)
    try:
        yield running
    finally:
        running.close()
