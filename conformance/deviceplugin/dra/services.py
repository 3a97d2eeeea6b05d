"""The gRPC services by which a kubelet finds a DRA plugin and has it prepare claims.

Source: kubernetes/kubelet, pkg/apis/pluginregistration/v1 and pkg/apis/dra/v1.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from conformance.deviceplugin.api import dra_pb2 as api
from conformance.deviceplugin.api import pluginregistration_pb2 as registration
from conformance.deviceplugin.services import unary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

PLUGIN_TYPE, SUPPORTED = "DRAPlugin", ("v1.DRAPlugin",)
_PLUGIN = "k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin"
_REGISTRATION = "pluginregistration.Registration"
_WORKERS = 4
_log = logging.getLogger(__name__)


class Preparing(Protocol):
    """What a DRA plugin does for its kubelet, one claim at a time. Whatever it raises is told to the kubelet."""

    def prepare(self, claim: api.Claim) -> Iterable[api.Device]:
        """The devices of a claim, ready for containers. Asked again, it answers the same."""

    def unprepare(self, claim: api.Claim) -> None:
        """Take back what prepare() did; nothing is wrong where nothing was done."""


def serve_plugin(plugin: Preparing, socket: Path, failures: tuple[type[Exception], ...]) -> grpc.Server:
    """Serve a plugin at a socket file, which is replaced. ``failures`` are told of the one claim that they befell."""

    def prepared(request: api.NodePrepareResourcesRequest, _: object) -> api.NodePrepareResourcesResponse:
        answer = api.NodePrepareResourcesResponse()
        for claim in request.claims:
            one = answer.claims[claim.uid]
            try:
                one.devices.extend(plugin.prepare(claim))
            except failures as failure:
                _log.warning("claim %s/%s cannot be prepared: %s", claim.namespace, claim.name, failure)
                one.error = str(failure)
        return answer

    def unprepared(request: api.NodeUnprepareResourcesRequest, _: object) -> api.NodeUnprepareResourcesResponse:
        answer = api.NodeUnprepareResourcesResponse()
        for claim in request.claims:
            one = answer.claims[claim.uid]
            try:
                plugin.unprepare(claim)
            except failures as failure:
                _log.warning("claim %s/%s cannot be unprepared: %s", claim.namespace, claim.name, failure)
                one.error = str(failure)
        return answer

    methods = {
        "NodePrepareResources": unary(api.NodePrepareResourcesRequest, prepared),
        "NodeUnprepareResources": unary(api.NodeUnprepareResourcesRequest, unprepared),
    }
    return _served(_PLUGIN, methods, socket)


def serve_registration(driver: str, endpoint: Path, socket: Path, told: Callable[[bool, str], None]) -> grpc.Server:
    """Serve, in the kubelet's folder of registrations, where a driver's plugin is; ``told`` hears what came of it."""
    info = registration.PluginInfo(
        type=PLUGIN_TYPE, name=driver, endpoint=str(endpoint), supported_versions=list(SUPPORTED)
    )

    def notified(status: registration.RegistrationStatus, _: object) -> registration.RegistrationStatusResponse:
        told(status.plugin_registered, status.error)
        return registration.RegistrationStatusResponse()

    methods = {
        "GetInfo": unary(registration.InfoRequest, lambda request, context: info),
        "NotifyRegistrationStatus": unary(registration.RegistrationStatus, notified),
    }
    return _served(_REGISTRATION, methods, socket)


def _served(service: str, methods: dict[str, grpc.RpcMethodHandler[Any, Any]], socket: Path) -> grpc.Server:
    socket.parent.mkdir(parents=True, exist_ok=True)
    socket.unlink(missing_ok=True)
    server = grpc.server(ThreadPoolExecutor(_WORKERS))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    server.add_insecure_port(f"unix://{socket}")
    server.start()
    return server
