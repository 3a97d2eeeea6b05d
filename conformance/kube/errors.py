"""What can go wrong between us and an API server, in words that say what to do next."""

from collections.abc import Mapping
from typing import Any

import msgspec

from conformance.kube.effects import Effect

_LONGEST_FOREIGN_TEXT = 300


class KubeError(Exception):
    """Anything that kept a request to the API server from succeeding."""


class KubeconfigError(KubeError):
    """The kubeconfig cannot be used: a file, a context, a certificate or a credential plugin is wrong."""


class Unreachable(KubeError):
    """No answer came from the API server: refused, timed out, cut off, or its certificate is not trusted."""

    def __init__(self, server: str, what: str, advice: str = "") -> None:
        advice = advice or "Check that the server of this kubeconfig context is right and reachable from here."
        super().__init__(f"{server} could not be reached: {what}. {advice}")
        self.server = server
        self.what = what


class BrokenOff(KubeError):
    """An answer that was read while it came did not come to its end."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"the answer to GET {path} broke off: {what}")


class UnclearPath(KubeError):
    """A path that a server could read differently than the guard does. It is never sent."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path!r} is not sent: {why}. Build paths with conformance.kube.paths.")
        self.path = path


class EffectRefused(KubeError):
    """A request that would do more than the run may do. It was not sent."""

    def __init__(self, verb: str, path: str, needed: Effect, limit: Effect, requirement: str | None) -> None:
        who = f"requirement {requirement} declares" if requirement else "the mode of this run allows"
        super().__init__(
            f"{verb} {path} was not sent: its effect is {needed.label}, but {who} no more than {limit.label}."
        )
        self.verb = verb
        self.path = path
        self.needed = needed
        self.limit = limit
        self.requirement = requirement


class WaitTimeout(KubeError):
    """A wait that ran out, or that was given up because it could not come true any more."""

    def __init__(self, what: str, seconds: float, last_observation: str, *, gave_up: str = "") -> None:
        outcome = f"given up after {seconds:.1f} s, {gave_up}" if gave_up else f"not within {seconds:g} s"
        super().__init__(f"{what}: {outcome}; last seen: {last_observation}")
        self.what = what
        self.seconds = seconds
        self.last_observation = last_observation
        self.gave_up = gave_up


class ApiError(KubeError):
    """The API server answered with an error status."""

    def __init__(
        self, status: int, reason: str, message: str, verb: str, path: str, causes: tuple[str, ...] = ()
    ) -> None:
        super().__init__(f"{verb} {path}: {status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.verb = verb
        self.path = path
        self.causes = causes

    @staticmethod
    def from_response(status: int, body: bytes, verb: str, path: str) -> "ApiError":
        """Make the error of a response: its class by HTTP status, its words from the Status object if there is one."""
        return ApiError.from_status(_status_object(body), verb, path, code=status)

    @staticmethod
    def from_status(answer: Mapping[str, Any], verb: str, path: str, *, code: int | None = None) -> "ApiError":
        """Make the error of a ``Status`` object, as responses and the ERROR events of a watch carry it."""
        number = code if code is not None else int(answer.get("code") or 500)
        reason = str(answer.get("reason") or _REASONS.get(number, "Unknown"))
        message = str(answer.get("message") or "no message")
        kind = AlreadyExists if reason == "AlreadyExists" else _CLASSES.get(number, ApiError)
        return kind(number, reason, message, verb, path, _causes(answer))


class Unauthorized(ApiError):
    """401: the server does not know who asks."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.args = (f"{self.args[0]}. The credentials of this context have expired or are wrong: log in again.",)


class Forbidden(ApiError):
    """403: the server knows who asks and does not allow it, by RBAC, quota or an admission rule."""


class NotFound(ApiError):
    """404: no such object, or no such API."""


class AlreadyExists(ApiError):
    """409 on a create: an object of this name is there."""


class Conflict(ApiError):
    """409 on a change: somebody else changed the object, or owns the field."""


class Gone(ApiError):
    """410: the resource version or continue token has expired."""


class Invalid(ApiError):
    """422: the object is not valid; ``causes`` names the fields."""


class TooManyRequests(ApiError):
    """429: the server is overloaded, or an eviction would violate a disruption budget."""


_CLASSES: Mapping[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}
# What the server would have put in `reason`, for answers of proxies and load balancers in between.
_REASONS: Mapping[int, str] = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Gone",
    413: "RequestEntityTooLarge",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


def _status_object(body: bytes) -> Mapping[str, Any]:
    try:
        answer = msgspec.json.decode(body)
    except msgspec.DecodeError:
        answer = None
    if isinstance(answer, dict) and answer.get("kind") == "Status":
        return answer
    text = " ".join(body.decode("utf-8", "replace").split())
    return {"message": text[:_LONGEST_FOREIGN_TEXT] + ("…" if len(text) > _LONGEST_FOREIGN_TEXT else "")}


def _causes(answer: Mapping[str, Any]) -> tuple[str, ...]:
    details = answer.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    found = []
    for cause in causes if isinstance(causes, list) else ():
        if isinstance(cause, dict):
            parts = (cause.get("field"), cause.get("message") or cause.get("reason"))
            found.append(": ".join(str(part) for part in parts if part))
    return tuple(found)
