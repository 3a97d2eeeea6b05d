"""What the API server says to an object: accepted as it then is, or rejected and why."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from conformance.kube.client import Client
from conformance.kube.errors import AlreadyExists, ApiError, Forbidden, Unauthorized
from conformance.kube.paths import Place, path, place
from conformance.verdict import Inconclusive

__all__ = ["Accepted", "Answer", "Rejected", "answer_to"]


class Accepted(msgspec.Struct, frozen=True):
    """The API server took the object; ``object`` is what admission and defaulting made of it."""

    object: dict[str, Any]

    def __bool__(self) -> bool:
        """True: accepted."""
        return True

    def __str__(self) -> str:
        return "accepted"


class Rejected(msgspec.Struct, frozen=True):
    """The API server refused the object, by validation, quota or another admission rule."""

    status: int
    reason: str
    message: str
    causes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """False: not accepted."""
        return False

    def __str__(self) -> str:
        return f"rejected with {self.status} {self.reason}: {self.message}"


Answer: TypeAlias = Accepted | Rejected


def answer_to(client: Client, obj: Mapping[str, Any], ask: Callable[[], dict[str, Any]]) -> Answer:
    """The server's answer to a create that ``ask`` sends.

    Raises Inconclusive when it is RBAC that refused us: that says nothing about the object. Errors that no
    admission gives (the server is overloaded, is broken, does not know us) pass through.
    """
    try:
        return Accepted(ask())
    except (AlreadyExists, Unauthorized):
        raise
    except Forbidden as error:
        if not _may_create(client, obj):
            raise Inconclusive(f"{error.message}; grant create on it, then run again") from error
        return _rejected(error)
    except ApiError as error:
        if error.status not in (400, 409, 422):
            raise
        return _rejected(error)


def _rejected(error: ApiError) -> Rejected:
    return Rejected(error.status, error.reason, error.message, error.causes)


def _may_create(client: Client, obj: Mapping[str, Any]) -> bool:
    where: Place = place(str(obj["kind"]), str(obj["apiVersion"]))
    attributes = {
        "verb": "create",
        "group": where.group_version.rpartition("/")[0],
        "resource": where.plural,
        "namespace": obj["metadata"].get("namespace") or "",
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return bool(client.create(path("SelfSubjectAccessReview"), review)["status"].get("allowed"))
