"""What a service account may do: asked of the authorizer, and tried with a token of the account itself."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

from conformance.kube.client import Client
from conformance.kube.errors import ApiError, Forbidden, NotFound, Unauthorized
from conformance.kube.paths import PLACES, Place, path
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive

__all__ = ["Account", "ServiceAccountView", "can", "view_as"]

# Kubernetes refuses tokens that live less than ten minutes.
_TOKEN_SECONDS = 600
_NOBODY = "gpuc-nobody"
_NO_UID = "00000000-0000-0000-0000-000000000000"


@runtime_checkable
class NamedAccount(Protocol):
    """Anything that names a service account, such as one of the facts."""

    @property
    def name(self) -> str:
        """The account's name."""

    @property
    def namespace(self) -> str:
        """The account's namespace."""


Account: TypeAlias = NamedAccount | tuple[str, str] | str
"""A service account of the facts, ``(namespace, name)``, or ``namespace/name``."""


def can(
    client: Client,
    subject: Account,
    verb: str,
    resource: str,
    *,
    group: str = "",
    namespace: str = "",
    name: str = "",
    subresource: str = "",
) -> bool:
    """Whether the authorizer allows it to the account; an empty namespace means the whole cluster.

    Raises Inconclusive when we may not ask, ValueError when ``subject`` names no account.
    """
    account_namespace, account_name = _parts(subject)
    attributes = {
        "verb": verb,
        "group": group,
        "resource": resource,
        "subresource": subresource,
        "namespace": namespace,
        "name": name,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{account_namespace}:{account_name}",
            "groups": [
                "system:serviceaccounts",
                f"system:serviceaccounts:{account_namespace}",
                "system:authenticated",
            ],
            "resourceAttributes": attributes,
        },
    }
    try:
        answer = client.create(path("SubjectAccessReview"), review)
    except Forbidden as error:
        raise Inconclusive(f"{error.message}; grant create on subjectaccessreviews") from error
    return bool(answer["status"].get("allowed"))


def view_as(client: Client, namespace: str, name: str) -> "ServiceAccountView":
    """The cluster as the service account sees it, through a token that lives ten minutes and is stored nowhere.

    Raises Inconclusive when we may not ask for a token or the account does not exist.
    """
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": _TOKEN_SECONDS},
    }
    target = path("ServiceAccount", namespace=namespace, name=name, subresource="token")
    try:
        answer = client.create(target, request)
    except NotFound as error:
        raise Inconclusive(f"there is no service account {namespace}/{name}") from error
    except Forbidden as error:
        raise Inconclusive(f"{error.message}; grant create on serviceaccounts/token") from error
    return ServiceAccountView(client.with_token(str(answer["status"]["token"])), namespace, name)


class ServiceAccountView:
    """Asks the API server as the account. Nothing that it asks can change anything, whatever the account may do."""

    def __init__(self, client: Client, namespace: str, name: str) -> None:
        self._client = client
        self.namespace = namespace
        self.name = name

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("ServiceAccount", self.name, namespace=self.namespace)

    def __str__(self) -> str:
        return f"service account {self.namespace}/{self.name}"

    def allowed(
        self, verb: str, kind: str, namespace: str | None = None, name: str = "", *, subresource: str = ""
    ) -> bool:
        """Whether a real request of this verb gets past authorization; ``kind`` is a Kind or a plural.

        Authorization comes before the body is looked at, so writes carry a body that no server accepts.
        Raises Inconclusive when the token itself is refused, ValueError for an unknown verb or kind.
        """
        ask = _ASKING.get(verb)
        if ask is None:
            raise ValueError(f"verb {verb!r} cannot be tried; one of {', '.join(_ASKING)} can")
        where = _place(kind)
        within = namespace if where.namespaced else None
        named = name or (_NOBODY if verb in _NEED_NAME or subresource else None)
        target = where.path(namespace=within, name=named, subresource=subresource or None)
        try:
            ask(self._client, target)
        except Forbidden:
            return False
        except Unauthorized as error:
            raise Inconclusive(f"the token of {self} was refused: {error.message}") from error
        except ApiError:
            # Not found, not valid, not supported: it was let in and then failed on what it asked.
            return True
        return True


def _get(client: Client, target: str) -> None:
    client.request("GET", target)


def _list(client: Client, target: str) -> None:
    client.request("GET", target, query={"limit": "1"})


def _watch(client: Client, target: str) -> None:
    client.request("GET", target, query={"watch": "1", "timeoutSeconds": "1", "limit": "1"})


def _write(method: str) -> Callable[[Client, str], None]:
    def write(client: Client, target: str) -> None:
        # A JSON array is no object of any kind: the decoder refuses it before admission could act.
        client.request(method, target, query={"dryRun": "All"}, body=[])

    return write


def _patch(client: Client, target: str) -> None:
    content_type = "application/merge-patch+json"
    client.request("PATCH", target, query={"dryRun": "All"}, body=[], content_type=content_type)


def _delete(client: Client, target: str) -> None:
    options: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "dryRun": ["All"],
        # A second lock: no object has this uid.
        "preconditions": {"uid": _NO_UID},
    }
    client.request("DELETE", target, body=options)


_ASKING: dict[str, Callable[[Client, str], None]] = {
    "get": _get,
    "list": _list,
    "watch": _watch,
    "create": _write("POST"),
    "update": _write("PUT"),
    "patch": _patch,
    "delete": _delete,
}
_NEED_NAME = {"get", "update", "patch", "delete"}


def _place(kind: str) -> Place:
    if kind in PLACES:
        return PLACES[kind]
    for place in PLACES.values():
        if place.plural == kind:
            return place
    raise ValueError(f"{kind!r} is no kind or plural that can be tried")


def _parts(subject: Account) -> tuple[str, str]:
    if isinstance(subject, NamedAccount):
        return subject.namespace, subject.name
    namespace, name = subject.split("/") if isinstance(subject, str) else subject
    return namespace, name
