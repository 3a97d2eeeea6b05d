"""The kubelet's gRPC services: which methods they have, with which messages, at which socket.

Source: kubernetes/kubelet, pkg/apis/deviceplugin/v1beta1 and pkg/apis/podresources/v1.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from .api import deviceplugin_pb2 as api
from .api import podresources_pb2 as resources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION = "v1beta1"
KUBELET_SOCKET = "kubelet.sock"
_REGISTER = "/v1beta1.Registration/Register"
_PLUGIN = "v1beta1.DevicePlugin"
_LIST = "/v1.PodResourcesLister/List"
# Each stream to a kubelet holds a thread for as long as it lasts; an old one ends after the new one has begun.
_WORKERS = 8
_STOP_SECONDS = 0.5


class DevicePlugin(Protocol):
    """What a device plugin answers; ``context`` is that of the call (grpc.ServicerContext)."""

    def list_and_watch(self, context: grpc.ServicerContext) -> Iterator[api.ListAndWatchResponse]:
        """The devices now, and again with each change."""

    def preferred(self, request: api.PreferredAllocationRequest) -> api.PreferredAllocationResponse:
        """Which of the free devices suit best."""

    def allocate(self, request: api.AllocateRequest, context: grpc.ServicerContext) -> api.AllocateResponse:
        """What a container needs to use its devices."""


def serve(plugin: DevicePlugin, socket: Path) -> grpc.Server:
    """Serve a plugin at a socket file, which is replaced; stop() ends it. Raises RuntimeError for a path too long."""
    socket.unlink(missing_ok=True)
    server = grpc.server(ThreadPoolExecutor(_WORKERS))
    methods = {
        "GetDevicePluginOptions": unary(api.Empty, lambda request, context: options()),
        "ListAndWatch": grpc.unary_stream_rpc_method_handler(
            lambda request, context: plugin.list_and_watch(context),
            request_deserializer=api.Empty.FromString,
            response_serializer=api.ListAndWatchResponse.SerializeToString,
        ),
        "GetPreferredAllocation": unary(
            api.PreferredAllocationRequest, lambda request, context: plugin.preferred(request)
        ),
        "Allocate": unary(api.AllocateRequest, plugin.allocate),
        "PreStartContainer": unary(
            api.PreStartContainerRequest, lambda request, context: api.PreStartContainerResponse()
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_PLUGIN, methods),))
    server.add_insecure_port(f"unix://{socket}")
    server.start()
    return server


def stop(server: grpc.Server) -> None:
    """End a server and its streams; its socket is gone then."""
    server.stop(_STOP_SECONDS).wait()


def options() -> api.DevicePluginOptions:
    """What our plugins want to be asked."""
    return api.DevicePluginOptions(get_preferred_allocation_available=True)


def register(folder: Path, endpoint: str, resource: str, *, timeout: float = 10.0) -> None:
    """Tell the kubelet of ``folder`` that ``resource`` is served at the socket ``endpoint`` there.

    Raises grpc.RpcError when it refuses or does not answer within ``timeout`` seconds.
    """
    request = api.RegisterRequest(version=VERSION, endpoint=endpoint, resource_name=resource, options=options())
    with grpc.insecure_channel(f"unix://{folder / KUBELET_SOCKET}") as channel:
        call = channel.unary_unary(
            _REGISTER,
            request_serializer=api.RegisterRequest.SerializeToString,
            response_deserializer=api.Empty.FromString,
        )
        call(request, timeout=timeout)


def pod_resources(socket: Path, *, timeout: float = 10.0) -> resources.ListPodResourcesResponse:
    """What a kubelet says that it has given to the containers of its pods.

    Raises grpc.RpcError when it does not answer within ``timeout`` seconds.
    """
    with grpc.insecure_channel(f"unix://{socket}") as channel:
        call = channel.unary_unary(
            _LIST,
            request_serializer=resources.ListPodResourcesRequest.SerializeToString,
            response_deserializer=resources.ListPodResourcesResponse.FromString,
        )
        return call(resources.ListPodResourcesRequest(), timeout=timeout)


def unary(request: Any, answer: Any) -> grpc.RpcMethodHandler[Any, Any]:
    """A method that takes one message of the type ``request``; ``answer`` makes another of it and of the context."""
    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=request.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
