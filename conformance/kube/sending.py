"""Getting one request to the API server and its answer back: credentials, deadlines, and attempts that are safe."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from urllib.parse import urlencode

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from conformance.kube.connection import Connection
from conformance.kube.errors import ApiError, BrokenOff, KubeError, Unreachable
from conformance.kube.timeouts import Timeouts

_TRY_AGAIN = frozenset({429, 503})
_ATTEMPTS = 6
# Each failed connect can last its whole timeout, and a wrong address does not get better.
_CONNECT_ATTEMPTS = 3
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "PATCH"})
_JSON_PATCH = "application/json-patch+json"


@dataclass(frozen=True)
class Request:
    """One request that the guard has let pass. Only a client makes these."""

    method: str
    path: str
    query: dict[str, str]
    content: bytes | None
    content_type: str

    @property
    def can_be_repeated(self) -> bool:
        """Whether sending it twice does no more than sending it once: not so for POST and for JSON patches."""
        return self.method in _IDEMPOTENT and self.content_type != _JSON_PATCH


class Sender:
    """Sends requests over one connection, in one name."""

    def __init__(self, connection: Connection, timeouts: Timeouts, agent: str) -> None:
        self._connection = connection
        self._timeouts = timeouts
        self._agent = agent

    def send(self, request: Request, timeout: float | None = None) -> bytes:
        """Return the body of the answer; ``timeout`` is the longest silence (s). Raises ApiError and Unreachable."""
        with self._answered(request, timeout, preload=True) as response:
            return response.data

    @contextmanager
    def ahead(self, request: Request) -> Iterator[Callable[[], bytes]]:
        """Send a request whose answer is taken later, by calling the result; the server writes it meanwhile.

        The call raises what ``send`` raises. An answer that breaks off while nobody reads it is asked for again, so the
        request has to be one that can be repeated.
        """
        with ExitStack() as held:
            try:
                response = held.enter_context(self.stream(request, self._timeouts.read))
            except (KubeError, HTTPError, OSError) as error:
                yield _raising(error)
                return

            def content() -> bytes:
                try:
                    return response.data
                except (HTTPError, OSError):
                    return self.send(request)

            yield content

    def parts(self, request: Request, size: int) -> Iterator[bytes]:
        """Yield an answer in parts of ``size`` bytes while it comes. Raises BrokenOff where it does not end."""
        with self.stream(request, self._timeouts.read) as response:
            while True:
                try:
                    part = response.read(size)
                except (HTTPError, OSError) as error:
                    raise BrokenOff(request.path, _plain(error)) from error
                if not part:
                    return
                yield part

    @contextmanager
    def stream(self, request: Request, silence: float) -> Iterator[urllib3.BaseHTTPResponse]:
        """Open an answer that is read while it comes; ``silence`` is the longest one in seconds."""
        with self._answered(request, silence, preload=False) as response:
            yield response

    @contextmanager
    def _answered(
        self, request: Request, timeout: float | None, *, preload: bool
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        attempts = _Attempts(request, self._timeouts.retry)
        renewed = False
        while True:
            credentials = self._connection.headers
            try:
                response = self._exchange(request, timeout, preload)
            except (HTTPError, OSError) as error:
                attempts.pause_after_error(error, self._connection.server)
                continue
            if response.status == 401 and not renewed:
                renewed = True
                if self._connection.renew(credentials):
                    _discard(response)
                    continue
            if response.status in _TRY_AGAIN and attempts.pause_after_refusal(response):
                _discard(response)
                continue
            break
        try:
            if not 200 <= response.status < 300:
                raise ApiError.from_response(response.status, response.data, request.method, request.path)
            yield response
        finally:
            if not preload:
                # What is left of a watch never ends; its connection cannot be used again.
                response.close()
                response.release_conn()

    def _exchange(self, request: Request, timeout: float | None, preload: bool) -> urllib3.BaseHTTPResponse:
        query = f"?{urlencode(request.query)}" if request.query else ""
        response = self._connection.pool.urlopen(
            request.method,
            f"{self._connection.server}{request.path}{query}",
            body=request.content,
            headers=self._headers(request),
            timeout=urllib3.Timeout(connect=self._timeouts.connect, read=timeout or self._timeouts.read),
            # Both would send what the guard has not seen, or more often than we count.
            redirect=False,
            retries=False,
            preload_content=preload,
        )
        self._connection.clock.hear(response.headers.get("Date"))
        return response

    def _headers(self, request: Request) -> dict[str, str]:
        headers = {"User-Agent": self._agent, "Accept": "application/json", **self._connection.headers()}
        if request.content is not None:
            headers["Content-Type"] = request.content_type
        if not self._connection.is_local:
            headers["Accept-Encoding"] = "gzip"
        return headers


class _Attempts:
    """How often one request is tried, and how long we pause between."""

    def __init__(self, request: Request, budget: float) -> None:
        self._request = request
        self._budget = budget
        self._made = 0

    def pause_after_error(self, error: Exception, server: str) -> None:
        """Pause before another attempt, or raise Unreachable."""
        unreachable = Unreachable(server, *_describe(error))
        unsent = isinstance(_root(error), NewConnectionError | ConnectTimeoutError)
        lost = isinstance(error, ProtocolError) and self._request.can_be_repeated
        if not (unsent or lost) or not self._pause(_CONNECT_ATTEMPTS, None):
            raise unreachable from error

    def pause_after_refusal(self, response: urllib3.BaseHTTPResponse) -> bool:
        """Pause before another attempt, or say that this answer is the last one."""
        # For an eviction 429 is an answer: a disruption budget forbids it.
        if self._request.path.endswith("/eviction"):
            return False
        return self._pause(_ATTEMPTS, _retry_after(response))

    def _pause(self, most: int, wanted: float | None) -> bool:
        self._made += 1
        growing = min(_FIRST_PAUSE * 2 ** (self._made - 1), _LONGEST_PAUSE)
        seconds = wanted if wanted is not None else growing * random.uniform(0.75, 1.25)  # noqa: S311 - not a secret
        if self._made >= most or seconds > self._budget:
            return False
        self._budget -= seconds
        time.sleep(seconds)
        return True


def _raising(error: Exception) -> Callable[[], bytes]:
    def content() -> bytes:
        raise error

    return content


def _retry_after(response: urllib3.BaseHTTPResponse) -> float | None:
    # Kubernetes sends seconds; a date would come from something in between and is not worth trusting.
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


def _discard(response: urllib3.BaseHTTPResponse) -> None:
    response.drain_conn()
    response.release_conn()


def _root(error: Exception) -> BaseException:
    return error.original_error if isinstance(error, ProxyError) else error


def _describe(error: Exception) -> tuple[str, str]:
    """Say what happened, and what to do about it if that is special."""
    if isinstance(error, SSLError):
        advice = "Check certificate-authority-data and tls-server-name of the cluster in the kubeconfig."
        return f"its certificate is not accepted ({_plain(error)})", advice
    if isinstance(error, ProxyError):
        return (
            f"the proxy failed ({_plain(_root(error))})",
            "Check proxy-url in the kubeconfig, HTTPS_PROXY and NO_PROXY.",
        )
    if isinstance(error, ReadTimeoutError):
        return (
            "it was silent for longer than the read timeout",
            "Raise it with the timeout read=SECONDS if the server is slow.",
        )
    # A refused connection is filed below timeouts in urllib3.
    if isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
        return "it did not accept a connection within the connect timeout", ""
    return _plain(error), ""


def _plain(error: BaseException) -> str:
    cause = error.__cause__ or error.__context__ or error
    return str(cause) or type(cause).__name__
