"""Credentials that stand in a kubeconfig as they are: certificates, and a token that nobody rotates.

The official client knows every way to get credentials, but importing it costs a quarter of a second of CPU, a seventh
of an audit of a small cluster. What stands in the file needs none of that. Whatever else an entry has is left to it.
"""

import base64
import binascii
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

_AS = ("as", "as-uid", "as-groups", "as-user-extra")


class _Entry(msgspec.Struct, forbid_unknown_fields=True, rename="kebab", kw_only=True):
    # Applications keep what they like in it.
    extensions: Any = None


class _Cluster(_Entry, kw_only=True):
    server: str
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None
    insecure_skip_tls_verify: bool = False
    tls_server_name: str | None = None
    proxy_url: str | None = None


class _User(_Entry, kw_only=True):
    client_certificate: str | None = None
    client_certificate_data: str | None = None
    client_key: str | None = None
    client_key_data: str | None = None
    token: str | None = None


class Plain(msgspec.Struct, frozen=True):
    """A cluster and a user that have nothing but what this module knows."""

    cluster: _Cluster
    user: _User

    @contextmanager
    def files(self) -> Iterator[tuple[str | None, str | None, str | None]]:
        """The files of authorities, certificate and key; those that were written for this are gone after the block."""
        cluster, user = self.cluster, self.user
        with tempfile.TemporaryDirectory(prefix="gpu-conformance-credentials-") as name:
            folder = Path(name)
            yield (
                _file(cluster.certificate_authority, cluster.certificate_authority_data, folder / "authorities"),
                _file(user.client_certificate, user.client_certificate_data, folder / "certificate"),
                _file(user.client_key, user.client_key_data, folder / "key"),
            )


def plain(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> Plain | None:
    """What two entries of a kubeconfig hold, None where they hold more, something odd, or the same thing twice."""
    acting = {name: value for name, value in user.items() if name not in _AS}
    try:
        found = Plain(msgspec.convert(cluster, _Cluster), msgspec.convert(acting, _User))
    except msgspec.ValidationError:
        return None
    of_cluster, of_user = found.cluster, found.user
    sound = (
        _is_one(of_cluster.certificate_authority, of_cluster.certificate_authority_data, optional=True)
        and (_has_no_certificate(of_user) or _has_certificate(of_user))
        and (of_user.token is None or (of_user.token.isascii() and of_user.token.isprintable()))
    )
    return found if sound and of_cluster.server and of_user.token != "" else None


def _has_certificate(user: _User) -> bool:
    return _is_one(user.client_certificate, user.client_certificate_data) and _is_one(
        user.client_key, user.client_key_data
    )


def _has_no_certificate(user: _User) -> bool:
    return not any((user.client_certificate, user.client_certificate_data, user.client_key, user.client_key_data))


def _is_one(file: str | None, data: str | None, *, optional: bool = False) -> bool:
    """Whether a thing is there once, in an absolute file or as base64: others are relative to the kubeconfig."""
    if file is None and data is None:
        return optional
    if file is not None and data is not None:
        return False
    return Path(file).is_absolute() if file is not None else _decoded(data or "") is not None


def _decoded(data: str) -> bytes | None:
    try:
        return base64.b64decode(data, validate=True) or None
    except (binascii.Error, ValueError):
        return None


def _file(file: str | None, data: str | None, made: Path) -> str | None:
    if data is None:
        return file
    # The folder is nobody else's.
    made.write_bytes(_decoded(data) or b"")
    return str(made)
