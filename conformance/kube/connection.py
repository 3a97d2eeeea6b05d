"""Connections to an API server: where it is, how to trust it, and who we are to it."""

import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import urllib3
from urllib3.util.ssl_ import ALPN_PROTOCOLS

from conformance.kube.clock import ServerClock
from conformance.kube.errors import KubeconfigError

Headers: TypeAlias = dict[str, str]

# Connections that are kept: one for each kind listed at the same time, and some for pods made in parallel.
_POOL_SIZE = 32


class Connection:
    """A pool of connections to one API server. Whoever opens it closes it, as a context manager or by ``close``.

    ``server`` is a URL that may have a path below which the API lives. ``headers`` gives the credentials of every
    request, freshly. ``renew`` is asked once when the server answers 401: it may return a connection with new
    credentials, which then takes this one's place. ``clock`` is the server's, as its answers tell it.
    """

    def __init__(
        self,
        server: str,
        ssl_context: ssl.SSLContext | None = None,
        headers: Callable[[], Headers] = dict,
        *,
        proxy: str | None = None,
        tls_server_name: str | None = None,
        anonymous_context: ssl.SSLContext | None = None,
        renew: "Callable[[], Connection] | None" = None,
    ) -> None:
        parts = urlsplit(server)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise KubeconfigError(f"{server!r} is no address of an API server: expected https://HOST:PORT")
        self.server = server.rstrip("/")
        self.ssl_context = ssl_context
        self.headers = headers
        self.proxy = proxy
        self.is_local = _is_local(parts.hostname)
        self.tls_server_name = tls_server_name
        self.clock = ServerClock()
        self._anonymous_context = anonymous_context
        self._renew = renew
        self._renewing = threading.Lock()
        self._parent: Connection | None = None
        self._anonymous: urllib3.PoolManager | None = None
        self.pool = _pool(ssl_context, proxy, tls_server_name)

    @classmethod
    def from_certificates(
        cls, server: str, ca_file: Path | str, cert_file: Path | str, key_file: Path | str
    ) -> "Connection":
        """Connect with a client certificate. No proxy is used: this is for servers of our own."""
        own = trusting(ca_file)
        load_certificate(own, cert_file, key_file)
        return cls(server, own, anonymous_context=trusting(ca_file))

    def with_token(self, token: str) -> "Connection":
        """Connect to the same server as whoever the token says, showing no certificate and no other credential.

        Its connections belong to this one and are closed with it.
        """
        family = self._parent or self
        if family._anonymous is None:
            family._anonymous = _pool(family._anonymous_context, family.proxy, family.tls_server_name)
        child = object.__new__(Connection)
        child.__dict__ |= family.__dict__
        child.ssl_context = family._anonymous_context
        child.headers = lambda: {"Authorization": f"Bearer {token}"}
        child.pool = family._anonymous
        child._renew = None
        child._parent = family
        return child

    def renew(self, refused: Callable[[], Headers]) -> bool:
        """Get new credentials after a 401, and say whether there are others now than the ``refused`` ones.

        Raises KubeconfigError when what gave the old ones fails.
        """
        # Many threads get their 401 at the same time; the first renews, the others use what it got.
        with self._renewing:
            if self.headers is refused:
                if self._renew is None:
                    return False
                fresh = self._renew()
                self.pool, old = fresh.pool, self.pool
                self.ssl_context, self.headers = fresh.ssl_context, fresh.headers
                old.clear()
            return True

    def close(self) -> None:
        """Close all connections. A connection made by with_token leaves that to the one it was made from."""
        if self._parent is None:
            self.pool.clear()
            if self._anonymous is not None:
                self._anonymous.clear()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def trusting(ca_file: Path | str | None = None, *, insecure: bool = False) -> ssl.SSLContext:
    """Make a TLS context that trusts one bundle of authorities, the system's if None, anybody if ``insecure``.

    Raises KubeconfigError for a file that cannot be read as certificates.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise KubeconfigError(f"{ca_file} cannot be read as certificates of authorities: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # As Go, and so kubectl, verify: an intermediate in the bundle is an anchor, and the authorities of older
    # clusters may lack extensions that OpenSSL's strict mode wants (Python turns it on from 3.13).
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    _fix_protocols(context)
    return context


def _fix_protocols(context: ssl.SSLContext) -> None:
    """Set what is offered by ALPN once and for all.

    urllib3 sets it again for each connection (util/ssl_.py, ssl_wrap_socket), which frees what a handshake in another
    thread may be reading: once in many starts an API server answered with the alert decode_error.
    """
    context.set_alpn_protocols(ALPN_PROTOCOLS)
    context.set_alpn_protocols = _keep_protocols  # type: ignore[method-assign]


def _keep_protocols(alpn_protocols: Iterable[str]) -> None:
    """Nothing: they are set already."""


def load_certificate(context: ssl.SSLContext, cert_file: Path | str, key_file: Path | str | None) -> None:
    """Show a client certificate. Raises KubeconfigError for files that are no certificate and its key."""
    try:
        context.load_cert_chain(str(cert_file), str(key_file) if key_file else None)
    except (OSError, ssl.SSLError) as error:
        raise KubeconfigError(f"{cert_file} and {key_file} are no certificate and its key: {error}") from error


def _pool(context: ssl.SSLContext | None, proxy: str | None, tls_server_name: str | None) -> urllib3.PoolManager:
    options: dict[str, Any] = {"maxsize": _POOL_SIZE, "num_pools": 2}
    if context is not None:
        options["ssl_context"] = context
        if context.verify_mode == ssl.CERT_NONE:
            options["cert_reqs"] = "CERT_NONE"
            # The kubeconfig asks for it, and the warning would come with every single request.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    if tls_server_name:
        options["server_hostname"] = tls_server_name
    if not proxy:
        return urllib3.PoolManager(**options)
    return _proxy_pool(proxy, options)


def _proxy_pool(proxy: str, options: Mapping[str, Any]) -> urllib3.PoolManager:
    parts = urlsplit(proxy)
    if parts.scheme not in {"http", "https"}:
        raise KubeconfigError(
            f"proxy {parts.scheme}://{parts.hostname} cannot be used: only http and https proxies can"
        )
    headers = None
    if parts.username:
        headers = urllib3.make_headers(proxy_basic_auth=f"{parts.username}:{parts.password or ''}")
    where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return urllib3.ProxyManager(where, proxy_headers=headers, **options)


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
