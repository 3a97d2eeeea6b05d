"""The API server: whether it answers, as whom, in which version, and what its clock says."""

import re
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from conformance.doctor.answers import Answer, State
from conformance.kube.client import Client
from conformance.kube.errors import ApiError, Forbidden, KubeError, NotFound, Unauthorized, Unreachable
from conformance.kube.paths import path

OLDEST, NEWEST = (1, 34), (1, 37)
"""The Kubernetes minors that the suites are tried on (conformance/clusters/embedded/binaries/versions.py)."""

# How OpenSSL names what the other side says; see RFC 8446, section 6.2 (bad_certificate, certificate_expired, ...).
_REFUSAL = " alert "
_ANONYMOUS = "system:anonymous"
_VERSION = re.compile(r"v?(\d+)\.(\d+)")
# Requests with a deadline, tokens and certificates stand this much.
_SKEW_TO_NAME, _SKEW_TO_MEND = 5.0, 120.0
_RESOLVE = (
    "Check the server of the context (kubectl config view --minify); where it is private, connect to its network."
)
_TRUST = "Check certificate-authority-data and tls-server-name of the context, or fetch the kubeconfig anew."


class Reached(NamedTuple):
    """How the first request ended: the version of the server, None where there was no answer to go on with."""

    answer: Answer
    version: str | None


def reach(client: Client) -> Reached:
    """Ask for the server's version, and tell why there is none: name, connection, TLS, credentials, rights."""
    server = client.connection.server
    via = " through a proxy" if client.connection.proxy else ""
    try:
        version = str(client.get("/version").get("gitVersion") or "")
    except Unreachable as error:
        return Reached(_unreachable(error), None)
    except Unauthorized:
        text = f"{server} answers 401: it does not know these credentials"
        remedy = "Log in again, or fetch the kubeconfig anew: they have expired or belong to another cluster."
        return Reached(Answer("server", State.BLOCKED, text, remedy), None)
    except Forbidden:
        # Who may not even ask for the version may still list what an audit reads.
        return Reached(Answer("server", State.NOTE, f"{server} answers{via}; 403 for /version"), "")
    except (ApiError, msgspec.DecodeError) as error:
        told = f"{error.status} {error.reason}" if isinstance(error, ApiError) else "no JSON"
        text = f"{server} answers {told} for /version: that is no API server, or something in front of one"
        return Reached(Answer("server", State.BLOCKED, text, _RESOLVE), None)
    except KubeError as error:
        return Reached(Answer("server", State.BLOCKED, str(error), "Check the credentials of the context."), None)
    return Reached(Answer("server", State.OK, f"{server} answers{via}"), version)


def version(told: str) -> Answer:
    """Whether the suites are tried on the server's version."""
    found = _VERSION.match(told)
    if found is None:
        return Answer("version", State.NOTE, f"the server tells no version ({told or 'nothing'})")
    minor = (int(found[1]), int(found[2]))
    tried = f"the suites are tried on {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
    if minor < OLDEST:
        remedy = "DRA and newer APIs are not served in the version that is asked for: what needs them is unsupported."
        return Answer("version", State.ATTENTION, f"Kubernetes {told}; {tried}", remedy)
    if minor > NEWEST:
        return Answer("version", State.NOTE, f"Kubernetes {told}; {tried}")
    return Answer("version", State.OK, f"Kubernetes {told}")


class Identity(NamedTuple):
    """As whom the server knows us, and the answer that says so. ``user`` is empty where it does not tell."""

    answer: Answer
    user: str


def identity(client: Client) -> Identity:
    """Ask the server who we are to it."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        told = client.create(path("SelfSubjectReview"), review)
    except (Forbidden, NotFound):
        return Identity(Answer("identity", State.NOTE, "the server does not tell who we are to it"), "")
    except Unauthorized:
        text = "the server knows nobody by these credentials (401)"
        return Identity(Answer("identity", State.BLOCKED, text, "Log in again, or fetch the kubeconfig anew."), "")
    user = str(((told.get("status") or {}).get("userInfo") or {}).get("username") or "")
    if user == _ANONYMOUS:
        text = "the context has no credentials: to the server we are system:anonymous"
        return Identity(Answer("identity", State.BLOCKED, text, "Give the context's user a credential."), user)
    return Identity(Answer("identity", State.OK, user), user)


def clock(client: Client, now: datetime | None = None) -> Answer:
    """How far this machine's clock is from the server's, by the answers so far."""
    skew = ((now or datetime.now(UTC)) - client.server_time()).total_seconds()
    if abs(skew) < _SKEW_TO_NAME:
        return Answer("clock", State.OK, "this machine and the server agree within 5 s")
    text = f"this machine is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server"
    if abs(skew) < _SKEW_TO_MEND:
        return Answer("clock", State.NOTE, f"{text}; verdicts go by the server's clock")
    remedy = (
        "Set it (NTP): tokens and certificates are taken for expired or not yet valid; verdicts go by the server's."
    )
    return Answer("clock", State.ATTENTION, text, remedy)


def _unreachable(error: Unreachable) -> Answer:
    told = {
        NameResolutionError: ("its name is not known here (DNS)", _RESOLVE),
        SSLError: ("", _TRUST),
        ProxyError: ("", "Check proxy-url of the context, HTTPS_PROXY and NO_PROXY."),
        # A refused connection is filed below timeouts in urllib3.
        NewConnectionError: ("", "Nothing listens there, or a firewall refuses: is the cluster up? " + _RESOLVE),
        ConnectTimeoutError: (
            "no connection came about in time",
            f"A firewall drops it, or the address is wrong. {_RESOLVE}",
        ),
        ReadTimeoutError: ("it took the connection and was silent", "A proxy in between, or an overloaded server."),
    }
    cause = error.__cause__
    if isinstance(cause, SSLError) and _REFUSAL in error.what:
        text = f"{error.server} refuses the certificate that the context shows ({error.what})"
        return Answer(
            "server", State.BLOCKED, text, "It has expired or is of another cluster: fetch the kubeconfig anew."
        )
    text, remedy = next((each for kind, each in told.items() if isinstance(cause, kind)), ("", _RESOLVE))
    return Answer("server", State.BLOCKED, f"{error.server} cannot be reached: {text or error.what}", remedy)
