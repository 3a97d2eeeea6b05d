"""Reading a metrics page through a forwarded port: the guard, the protocol, and what can go wrong."""

import base64
import contextlib
import hashlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from conformance.kube.client import Client
from conformance.kube.connection import Connection
from conformance.kube.effects import Effect
from conformance.kube.errors import EffectRefused, Forbidden, Unreachable
from conformance.kube.guard import Guard
from conformance.kube.scraping import ScrapeFailed, scrape
from conformance.kube.timeouts import Timeouts

PORT = 9400
_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Forwarder:
    """An API server that forwards a port as the kubelet's protocol asks, once for each call."""

    def __init__(self, answer: bytes, *, error: bytes = b"", refuse: bytes = b"") -> None:
        self.answer, self.error, self.refuse = answer, error, refuse
        self.heard = b""
        self.head = ""
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.listening.getsockname()[1]}"

    def _serve(self) -> None:
        try:
            caller, _ = self.listening.accept()
        except OSError:
            return
        with caller:
            head = b""
            while b"\r\n\r\n" not in head:
                head += caller.recv(4096)
            self.head = head.decode()
            if self.refuse:
                caller.sendall(self.refuse)
                return
            key = next(
                line.split(": ")[1] for line in self.head.split("\r\n") if line.lower().startswith("sec-websocket-key")
            )
            accept = base64.b64encode(hashlib.sha1((key + _MAGIC).encode()).digest()).decode()
            caller.sendall(
                f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n".encode()
            )
            for channel in (0, 1):
                caller.sendall(_frame(bytes([channel]) + struct.pack("<H", PORT)))
            self.heard = _unmasked(caller)
            if self.error:
                caller.sendall(_frame(b"\x01" + self.error))
            for at in range(0, len(self.answer), 50):
                caller.sendall(_frame(b"\x00" + self.answer[at : at + 50]))
            caller.sendall(b"\x88\x00")

    def close(self) -> None:
        with contextlib.suppress(OSError):  # wakes whoever still waits for a caller
            self.listening.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)
        self.listening.close()


def _frame(content: bytes) -> bytes:
    return bytes([0x82, len(content)]) + content if len(content) < 126 else b""


def _unmasked(caller: socket.socket) -> bytes:
    head = caller.recv(2)
    length = head[1] & 0x7F
    if length == 126:
        (length,) = struct.unpack(">H", caller.recv(2))
    mask = caller.recv(4)
    content = b""
    while len(content) < length:
        content += caller.recv(length - len(content))
    return bytes(byte ^ mask[at % 4] for at, byte in enumerate(content))


@pytest.fixture
def asking() -> Iterator[Callable[..., tuple[Client, Forwarder]]]:
    opened: list[Forwarder] = []
    connections: list[Connection] = []

    def make(answer: bytes = b"", *, limit: Effect = Effect.OWN_NAMESPACE, **how: bytes) -> tuple[Client, Forwarder]:
        forwarder = Forwarder(answer, **how)
        opened.append(forwarder)
        connection = Connection(forwarder.address, headers=lambda: {"Authorization": "Bearer t"})
        connections.append(connection)
        return Client(connection, Guard(limit, None), Timeouts(read=2)), forwarder

    yield make
    for connection in connections:
        connection.close()
    for forwarder in opened:
        forwarder.close()


def test_a_page_is_read_with_one_get(asking: Callable[..., tuple[Client, Forwarder]]) -> None:
    page = "up 1\n" * 100
    client, server = asking(f"HTTP/1.1 200 OK\r\nContent-Length: {len(page)}\r\n\r\n{page}".encode())

    assert scrape(client, "gpu-operator", "exporter-x", PORT) == page
    assert server.heard.startswith(b"\x00GET /metrics HTTP/1.0\r\n")
    assert "GET /api/v1/namespaces/gpu-operator/pods/exporter-x/portforward?ports=9400" in server.head
    assert "Authorization: Bearer t" in server.head


def test_a_page_without_length_ends_with_the_connection(asking: Callable[..., tuple[Client, Forwarder]]) -> None:
    client, _ = asking(b"HTTP/1.0 200 OK\r\n\r\nup 1\n")

    assert scrape(client, "n", "p", PORT) == "up 1\n"


def test_an_audit_opens_no_connection_to_anybodys_pod(asking: Callable[..., tuple[Client, Forwarder]]) -> None:
    client, server = asking(b"", limit=Effect.READS)

    with pytest.raises(EffectRefused, match="its effect is own-namespace"):
        scrape(client, "n", "p", PORT)
    assert server.head == ""


def test_no_other_page_than_metrics_is_asked_for(asking: Callable[..., tuple[Client, Forwarder]]) -> None:
    client, _ = asking(b"", limit=Effect.PATCHES_NODES)

    with pytest.raises(EffectRefused, match="its effect is disruptive"):
        scrape(client, "n", "p", PORT, "/-/quit")


def test_whoever_may_not_forward_learns_it(asking: Callable[..., tuple[Client, Forwarder]]) -> None:
    body = b'{"kind":"Status","reason":"Forbidden","message":"cannot create pods/portforward","code":403}'
    client, _ = asking(refuse=b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    with pytest.raises(Forbidden, match="cannot create pods/portforward"):
        scrape(client, "n", "p", PORT)


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        (b"", b"connection refused inside the pod", "connection refused inside the pod"),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", b"", "status 503"),
        (b"SSH-2.0-OpenSSH", b"", "the answer is no HTTP"),
        (b"", b"", "the answer is no HTTP"),
    ],
)
def test_what_a_pod_does_not_give_is_told(
    asking: Callable[..., tuple[Client, Forwarder]], answer: bytes, error: bytes, told: str
) -> None:
    client, _ = asking(answer, error=error)

    with pytest.raises(ScrapeFailed, match=told):
        scrape(client, "n", "p", PORT)


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as once:
        address = f"http://127.0.0.1:{once.getsockname()[1]}"
    with Connection(address) as connection, pytest.raises(Unreachable, match="forwarding a port failed"):
        scrape(Client(connection, Guard(Effect.DISRUPTIVE, None)), "n", "p", PORT)
