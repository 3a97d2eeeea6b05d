"""Reading the metrics page of one pod through the API server: a forwarded port, one GET, and nothing else.

A forwarded port could carry anything to somebody's pod, so nobody gets one: what is offered here is the GET of a
metrics page, and that is what the guard judges (Guard.effect_of_scrape).
Protocol: WebSocket subprotocol v4.channel.k8s.io; each forwarded port has a channel for data and one for errors, each
of which begins with the port as two bytes, little-endian (k8s.io/kubelet, pkg/cri/streaming/portforward/websocket.go).
"""

import contextlib
import http.client
import io
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from conformance.kube.client import Client
from conformance.kube.errors import ApiError, KubeError, Unreachable
from conformance.kube.paths import path

if TYPE_CHECKING:
    from websocket import WebSocket

__all__ = ["ScrapeFailed", "scrape"]

_SUBPROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1
# Seconds; what Prometheus waits for a page by default.
_PATIENCE = 10.0
_LONGEST_PAGE = 64 * 1024 * 1024


class ScrapeFailed(KubeError):
    """The pod gave no metrics page: nobody listens on the port, the answer is no HTTP, or its status is not 200."""

    def __init__(self, namespace: str, pod: str, port: int, what: str) -> None:
        super().__init__(f"pod {namespace}/{pod} gave no metrics on port {port}: {what}")
        self.what = what


def scrape(client: Client, namespace: str, pod: str, port: int, page: str = "/metrics") -> str:
    """The metrics page of a pod as text.

    Raises EffectRefused when the guard does not let it pass, ApiError when the API server refuses to forward (the
    right is ``create`` on ``pods/portforward``), Unreachable, and ScrapeFailed for what the pod answered.
    """
    client.guard.check_scrape(namespace, pod, page)
    place = path("Pod", namespace=namespace, name=pod, subresource="portforward")
    socket = _forwarded(client, f"{place}?ports={port}")
    try:
        raw = _exchange(socket, page, lambda what: ScrapeFailed(namespace, pod, port, what))
    finally:
        _hang_up(socket)
    return _page(raw, lambda what: ScrapeFailed(namespace, pod, port, what))


def _forwarded(client: Client, place: str) -> "WebSocket":
    from websocket import WebSocketBadStatusException, WebSocketException, create_connection

    connection = client.connection
    for attempt in (1, 2):
        credentials = connection.headers
        headers = {**credentials(), "User-Agent": client.agent}
        try:
            return create_connection(
                f"{connection.server.replace('http', 'ws', 1)}{place}",
                timeout=min(client.timeouts.read, _PATIENCE),
                header=[f"{name}: {value}" for name, value in headers.items()],
                subprotocols=[_SUBPROTOCOL],
                sslopt=_tls(connection.ssl_context, connection.tls_server_name),
                **_proxy(connection.proxy),
            )
        except WebSocketBadStatusException as error:
            if error.status_code == 401 and attempt == 1 and connection.renew(credentials):
                continue
            body = error.resp_body or b""
            raise ApiError.from_response(error.status_code, bytes(body), "GET", place) from error
        except (WebSocketException, OSError) as error:
            raise Unreachable(connection.server, f"forwarding a port failed: {error}") from error
    raise AssertionError("the second attempt returns or raises")


def _hang_up(socket: "WebSocket") -> None:
    """Say that we are done and close the socket, whether or not the other side has closed its own."""
    from websocket import WebSocketException

    with contextlib.suppress(WebSocketException, OSError):
        socket.send_close()
    socket.shutdown()  # type: ignore[no-untyped-call]


def _tls(context: ssl.SSLContext | None, server_name: str | None) -> dict[str, Any]:
    options: dict[str, Any] = {} if context is None else {"context": context}
    return options | ({"server_hostname": server_name} if server_name else {})


def _proxy(proxy: str | None) -> dict[str, Any]:
    if not proxy:
        return {}
    parts = urlsplit(proxy)
    known = {"http_proxy_host": parts.hostname, "http_proxy_port": parts.port, "proxy_type": parts.scheme}
    return known | ({"http_proxy_auth": (parts.username, parts.password or "")} if parts.username else {})


def _exchange(socket: "WebSocket", page: str, failed: Callable[[str], ScrapeFailed]) -> bytes:
    """Send the GET and return all that comes back until the other side ends it."""
    from websocket import WebSocketException

    request = f"GET {page} HTTP/1.0\r\nHost: localhost\r\nAccept: text/plain\r\nConnection: close\r\n\r\n"
    received, greeted = bytearray(), set()
    try:
        socket.send_binary(bytes([_DATA]) + request.encode("ascii"))
        while len(received) < _LONGEST_PAGE and not _complete(received):
            message = socket.recv()
            if not message:
                break
            frame = message.encode() if isinstance(message, str) else message
            channel, content = frame[0], frame[1:]
            if channel not in greeted:
                greeted.add(channel)
                content = content[2:]
            if channel == _ERROR and content:
                raise failed(content.decode("utf-8", "replace").strip())
            if channel == _DATA:
                received += content
    except (WebSocketException, OSError) as error:
        if not received:
            raise failed(str(error) or type(error).__name__) from error
    return bytes(received)


def _complete(received: bytearray) -> bool:
    """Whether a whole answer with a stated length is there, so that nobody need wait for the end of the connection."""
    head, blank, body = bytes(received).partition(b"\r\n\r\n")
    for line in head.lower().splitlines():
        if blank and line.startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    return False


class _Received:
    """What was received, as http.client reads a socket."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._raw)


def _page(raw: bytes, failed: Callable[[str], ScrapeFailed]) -> str:
    answer = http.client.HTTPResponse(_Received(raw))  # type: ignore[arg-type]
    try:
        answer.begin()
        body = answer.read()
    except http.client.HTTPException as error:
        raise failed(f"the answer is no HTTP ({type(error).__name__})") from error
    if answer.status != 200:
        raise failed(f"status {answer.status} {answer.reason}")
    return body.decode("utf-8", "replace")
