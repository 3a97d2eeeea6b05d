"""Credentials from a kubeconfig or a pod's service account, by way of the official client's loaders.

That client knows exec plugins, OIDC and the rest; importing it costs seconds of CPU, so it happens only here.
Its loaders log a failed plugin and go on anonymously, which is caught here and said.
"""

import importlib
import ipaddress
import logging
import os
import re
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import yaml

from conformance.kube.connection import Connection, Headers, load_certificate, trusting
from conformance.kube.errors import KubeconfigError

# The context that means the service account of the pod we run in, unless a kubeconfig has one of that name.
IN_CLUSTER = "in-cluster"
# The one in C is ten times as fast; PyYAML has it where it was built with libyaml.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_USUAL = "~/.kube/config"
_NAME_ONE = "Name one with --gpu-kubeconfig FILE (gpu-conformance: --kubeconfig FILE) or with KUBECONFIG."
_NAME_ANOTHER = (
    "Correct the option --gpu-kubeconfig (gpu-conformance: --kubeconfig) or the cluster's entry in clusters.yaml."
)


def connect(path: Path | str | None = None, context: str | None = None) -> Connection:
    """Connect to the server of a context; None means KUBECONFIG or ~/.kube/config, and its current context.

    Inside a pod without any kubeconfig it is the pod's own service account. Raises KubeconfigError.
    """
    merged = _Merged(path)
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ
    if context == IN_CLUSTER and context not in merged.contexts:
        return connect_in_cluster()
    if not merged.files:
        if path is None and context is None and in_pod:
            return connect_in_cluster()
        raise KubeconfigError(_missing(path))
    user = merged.user_of(context)
    impersonated = _impersonation(user)

    def load(configuration: Any) -> None:
        with _complaints() as said:
            _loaders().load_kube_config(
                config_file=os.pathsep.join(str(file) for file in merged.files),
                context=context or merged.current,  # Merging several files, the client takes the last one's.
                client_configuration=configuration,
                persist_config=False,
            )
        _require_credentials(configuration, user, context, said)

    return _connect(load, proxy=merged.cluster_of(context).get("proxy-url"), impersonated=impersonated)


def connect_in_cluster() -> Connection:
    """Connect to the cluster in which this process runs as a pod. Raises KubeconfigError elsewhere."""

    def load(configuration: Any) -> None:
        _loaders().load_incluster_config(client_configuration=configuration)

    return _connect(load)


def contexts(path: Path | str | None = None) -> list[str]:
    """List the contexts of a kubeconfig, in file order; empty when there is no such file.

    Costs no import of the Kubernetes client. Raises KubeconfigError for a file that is no kubeconfig.
    """
    return list(_Merged(path).contexts)


def why_missing(path: Path | str | None = None) -> str:
    """That there is no kubeconfig, where it was looked for, and what to do; empty where there is one."""
    return "" if _Merged(path).files else _missing(path)


def _missing(path: Path | str | None) -> str:
    if path is not None:
        return f"There is no kubeconfig {path}. {_NAME_ANOTHER}"
    variable = os.environ.get("KUBECONFIG")
    if variable:
        return f"There is no kubeconfig {variable} (from the environment variable KUBECONFIG). {_NAME_ONE}"
    return f"There is no kubeconfig {_USUAL}, and the environment variable KUBECONFIG names none. {_NAME_ONE}"


def current_context(path: Path | str | None) -> str | None:
    """Name the current context, None when there is none."""
    return _Merged(path).current


class ExecPlugin(NamedTuple):
    """A program that a kubeconfig names for credentials. A ``command`` with a slash is relative to ``folder``."""

    command: str
    install_hint: str
    folder: Path


def exec_plugin(path: Path | str | None, context: str | None) -> ExecPlugin | None:
    """The program that gives the credentials of a context, None where none does. Raises KubeconfigError."""
    merged = _Merged(path)
    settings = merged.user_of(context).get("exec") if merged.files else None
    if not isinstance(settings, dict) or not settings.get("command"):
        return None
    user = str(merged.contexts[context or merged.current or ""].get("user"))
    file = next(file for file in merged.files if user in _entries([_parsed(file)], "users", "user"))
    hint = " ".join(str(settings.get("installHint") or "").split())
    return ExecPlugin(str(settings["command"]), hint, file.parent)


def search(path: Path | str | None) -> tuple[list[Path], list[Path]]:
    """The kubeconfig files of a search path that are there, and those that are not."""
    listed = _listed(path)
    return [file for file in listed if file.is_file()], [file for file in listed if not file.is_file()]


def server_of(path: Path | str | None = None, context: str | None = None) -> str | None:
    """Name the server of a context, the current one if None; None when the kubeconfig does not say.

    Costs no import of the Kubernetes client. Raises KubeconfigError for a file that is no kubeconfig.
    """
    return _Merged(path).server_of(context)


def _loaders() -> Any:
    # As Any: some releases of the client are typed and some are not.
    return importlib.import_module("kubernetes.config")


def _connect(
    load: Callable[[Any], None], *, proxy: str | None = None, impersonated: Headers | None = None
) -> Connection:
    configuration: Any = importlib.import_module("kubernetes.client").Configuration()
    try:
        load(configuration)
    except (_loaders().ConfigException, OSError, TypeError, KeyError, ValueError) as error:
        raise KubeconfigError(f"the kubeconfig cannot be used: {_without_secrets(str(error))}") from None
    server = str(configuration.host)
    return Connection(
        server,
        _tls(configuration, with_certificate=True),
        _credentials(configuration, impersonated or {}),
        # Not what the client says: older releases ignore proxy-url, and take the environment's for any server.
        proxy=proxy or _environment_proxy(server),
        tls_server_name=getattr(configuration, "tls_server_name", None) or None,
        anonymous_context=_tls(configuration, with_certificate=False),
        renew=lambda: _connect(load, proxy=proxy, impersonated=impersonated),
    )


def _without_secrets(text: str) -> str:
    # The client names a place in a kubeconfig by quoting the whole entry, tokens and all.
    return re.sub(r"\{.*\}", "{…}", text, flags=re.DOTALL)


def _tls(configuration: Any, *, with_certificate: bool) -> Any:
    if urlsplit(str(configuration.host)).scheme != "https":
        return None
    context = trusting(configuration.ssl_ca_cert or None, insecure=not configuration.verify_ssl)
    if with_certificate and configuration.cert_file:
        load_certificate(context, configuration.cert_file, configuration.key_file)
    return context


def _credentials(configuration: Any, impersonated: Headers) -> Callable[[], Headers]:
    lock = threading.Lock()

    def headers() -> Headers:
        # The hook runs an expired exec plugin or rereads a rotated token file; both are not made for threads.
        with lock, _complaints():
            if configuration.refresh_api_key_hook is not None:
                configuration.refresh_api_key_hook(configuration)
            token = _token(configuration)
        return {**({"Authorization": token} if token else {}), **impersonated}

    return headers


def _impersonation(user: dict[str, Any]) -> Headers:
    """The headers that say as whom a user of a kubeconfig acts; the client library knows nothing of them.

    Source: kubernetes.io, Authenticating, "User impersonation". It repeats a header for each further value, which
    Headers cannot hold. Raises KubeconfigError rather than act with other rights than kubectl has in the context.
    """
    extra = user.get("as-user-extra") or {}
    fields = {
        "Impersonate-User": ("as", user.get("as")),
        "Impersonate-Uid": ("as-uid", user.get("as-uid")),
        "Impersonate-Group": ("as-groups", user.get("as-groups")),
        **{f"Impersonate-Extra-{quote(str(key), safe='')}": ("as-user-extra", extra[key]) for key in extra},
    }
    headers = {name: _single(field, value) for name, (field, value) in fields.items() if value}
    if headers and "Impersonate-User" not in headers:
        raise KubeconfigError("the kubeconfig's user has as-uid, as-groups or as-user-extra without the field `as`")
    return headers


def _single(field: str, value: Any) -> str:
    values = value if isinstance(value, list) else [value]
    if len(values) != 1:
        raise KubeconfigError(
            f"the kubeconfig's user has {len(values)} values in {field}, and only one can be sent. "
            "Name a context whose user acts as one with a single group, or as itself."
        )
    return str(values[0])


def _token(configuration: Any) -> str | None:
    # 37 files the bearer token under the name of the API's security scheme, older releases under the header's.
    token: str | None = configuration.api_key.get("BearerToken") or configuration.api_key.get("authorization")
    return token


def _require_credentials(configuration: Any, user: dict[str, Any], context: str | None, said: list[str]) -> None:
    plugin = next((kind for kind in ("exec", "auth-provider") if user.get(kind)), None)
    if plugin is None or _token(configuration) or configuration.cert_file:
        return
    settings = user[plugin]
    name = (settings.get("command") or settings.get("name")) if isinstance(settings, dict) else settings
    where = f"context {context}" if context else "the current context"
    why = "; ".join(said) or "it said nothing"
    raise KubeconfigError(f"the {plugin} plugin {name!r} of {where} gave no credentials: {why}. Run it by hand to see.")


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect what the loaders log instead of raising it."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    listener = Listener(logging.ERROR)
    logging.getLogger().addHandler(listener)
    try:
        yield said
    finally:
        logging.getLogger().removeHandler(listener)


def _environment_proxy(server: str) -> str | None:
    parts = urlsplit(server)
    proxies = urllib.request.getproxies()
    if urllib.request.proxy_bypass(parts.netloc) or _in_ranges(parts.hostname or "", proxies.get("no", "")):
        return None
    return proxies.get(parts.scheme)


def _in_ranges(host: str, no_proxy: str) -> bool:
    """Whether ``host`` is an address in a range of ``no_proxy``. Clients in Go know ranges, and urllib does not."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address in network for entry in no_proxy.split(",") if (network := _network(entry.strip())))


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _listed(path: Path | str | None) -> list[Path]:
    return [Path(part).expanduser() for part in _search_path(path).split(os.pathsep) if part]


def _search_path(path: Path | str | None) -> str:
    return str(path) if path is not None else os.environ.get("KUBECONFIG") or _USUAL


class _Merged:
    """The kubeconfig files of a search path, as kubectl merges them: the first to say a thing wins."""

    def __init__(self, path: Path | str | None) -> None:
        self.files = [file for file in _listed(path) if file.is_file()]
        contents = [_parsed(file) for file in self.files]
        self.current = next((str(name) for content in contents if (name := content.get("current-context"))), None)
        self.contexts = _entries(contents, "contexts", "context")
        self._clusters = _entries(contents, "clusters", "cluster")
        self._users = _entries(contents, "users", "user")

    def user_of(self, context: str | None) -> dict[str, Any]:
        """Return the user of a context. Raises KubeconfigError for one that is not there."""
        wanted = context or self.current
        where = ", ".join(str(file) for file in self.files)
        names = ", ".join(self.contexts) or "none"
        if wanted is None:
            raise KubeconfigError(f"{where} has no current context. Choose one of its contexts: {names}.")
        if wanted not in self.contexts:
            raise KubeconfigError(f"{where} has no context {wanted!r}, only: {names}.")
        return self._users.get(str(self.contexts[wanted].get("user")), {})

    def server_of(self, context: str | None) -> str | None:
        """Return the server of a context, None when it is not there or has none."""
        server = self.cluster_of(context).get("server")
        return str(server).rstrip("/") if server else None

    def cluster_of(self, context: str | None) -> dict[str, Any]:
        """Return the cluster of a context, empty when it is not there."""
        cluster = self.contexts.get(context or self.current or "", {}).get("cluster")
        return self._clusters.get(str(cluster), {})


def _parsed(file: Path) -> dict[str, Any]:
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _LOADER)  # noqa: S506 - both are safe
    except (OSError, UnicodeDecodeError) as error:
        raise KubeconfigError(f"{file} cannot be read as a kubeconfig: {error}") from error
    except yaml.YAMLError as error:
        # Its own words quote the line, which may hold a token.
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        raise KubeconfigError(f"{where} cannot be read as a kubeconfig: this is not YAML") from None
    if not isinstance(content, dict):
        raise KubeconfigError(f"{file} is no kubeconfig: expected clusters, contexts and users")
    return content


def _entries(contents: list[dict[str, Any]], section: str, member: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for content in contents:
        for entry in content.get(section) or ():
            if isinstance(entry, dict) and entry.get("name"):
                value = entry.get(member)
                found.setdefault(str(entry["name"]), value if isinstance(value, dict) else {})
    return found
