"""The volume of a pod's API token in JSON: it has another name in every pod, and without that name pods are alike.

The ServiceAccount admission plugin names it ``kube-api-access-`` and five characters and mounts it in each container
(https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-token-volume).
"""

TOKEN_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - the path, not the token
"""Where the ServiceAccount admission plugin mounts a pod's API token."""

_BEGINNING = b'"kube-api-access-'


def without_name(text: bytes, follows: bytes) -> tuple[bytes, str]:
    """The text with an empty name for the token's volume wherever ``follows`` comes after it, and the name itself.

    The name is empty where the text has none. What has another order than the API server writes stays as it is.
    """
    begin = text.find(_BEGINNING)
    if begin < 0:
        return text, ""
    name = text[begin : text.find(b'"', begin + 1) + 1]
    return text.replace(name + follows, b'""' + follows), name[1:-1].decode()


def is_alike(text: bytes) -> bool:
    """Whether other pods may have the same text: no name of a token's volume is left in it."""
    return _BEGINNING not in text
