"""Reading a cluster once: every kind listed page by page, kinds side by side, ConfigMaps of the stack last."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeVar

import msgspec

from conformance.facts.collection import Facts
from conformance.facts.decoding import Harvest
from conformance.facts.kinds import EVERYWHERE, KINDS, paths_of
from conformance.facts.stack import yunikorn_namespaces
from conformance.gpu.labels import YUNIKORN_CONFIGS
from conformance.kube.client import Client
from conformance.kube.errors import ApiError, BrokenOff, KubeError, NotFound
from conformance.kube.paths import path
from conformance.verdict import Inconclusive

CONFIG_MAP = "ConfigMap"
_T = TypeVar("_T")

# Decoding holds the interpreter, waiting does not: more workers than this only queue up at the server.
_AT_ONCE = 6

LONG = ("Pod", "Node")
"""The kinds whose lists are long in every large cluster."""


class Gatherer(Protocol):
    """What takes in the pages of one kind's list."""

    def add_page(self, page: bytes) -> None:
        """Take in one page of a list. Raises msgspec.DecodeError when the page is no list in JSON."""

    def clear(self) -> None:
        """Forget the pages so far: the list starts again, or could not be read to its end."""


class Missing(msgspec.Struct, frozen=True):
    """What reading did not give: reasons by kind for what is ``unreadable``, and kinds that are ``unserved``."""

    unreadable: dict[str, str]
    unserved: tuple[str, ...]


def read(client: Client, config_namespaces: Iterable[str] = ()) -> Facts:
    """All facts of a cluster.

    ConfigMaps are read in the namespaces of the GPU stack and in ``config_namespaces``, nowhere else. A kind that
    cannot be read is remembered with the reason, and only whoever asks for it is told. ``taken_at`` is the
    API server's time, whatever our own clock says. Raises Unreachable when already the first request finds no server
    to talk to.
    """
    version = server_version(client)
    taken_at = client.server_time()
    harvests = {name: Harvest(kind) for name, kind in KINDS.items()}
    whole = LONG if writes_item_by_item(version) else ()
    missing = gather(client, {name: harvests[name] for name in EVERYWHERE}, whole)
    seen = Facts.from_harvests(harvests.values(), unreadable=missing.unreadable)
    namespaces = tuple(sorted({*seen.stack_namespaces, *config_namespaces}))
    unreadable = missing.unreadable | gather_config_maps(client, harvests[CONFIG_MAP], namespaces)
    gather_queues_of_yunikorn(client, harvests[CONFIG_MAP], set(_namespaces_of_yunikorn(seen)) - {*namespaces})
    return Facts.from_harvests(
        harvests.values(),
        unreadable=unreadable,
        unserved=missing.unserved,
        config_namespaces=namespaces,
        server_version=version,
        taken_at=taken_at,
    )


def in_served_version(kind: str, read_list: Callable[[str], _T]) -> _T:
    """What ``read_list`` gives for the path of a kind's first version that is served. Raises NotFound where none is."""
    first, *others = paths_of(kind)
    try:
        return read_list(first)
    except NotFound:
        for other in others:
            with suppress(NotFound):
                return read_list(other)
        raise


def server_version(client: Client) -> str:
    """The gitVersion of the API server, such as ``v1.36.3``; empty when it does not say. Raises Unreachable."""
    try:
        return str(client.get("/version").get("gitVersion") or "")
    except (ApiError, msgspec.DecodeError):
        return ""


def writes_item_by_item(server_version: str) -> bool:
    """Whether an API server answers even the longest list cheaply: from its cache, and encoding item after item.

    Both are stable since Kubernetes 1.34, and what is read is as new as what etcd has. An older server makes the whole
    answer in memory before it sends the first byte, so that it is asked for pages.
    Sources: https://kubernetes.io/blog/2025/05/09/kubernetes-v1-33-streaming-list-responses/ and
    https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list
    """
    found = re.match(r"v(\d+)\.(\d+)", server_version)
    return found is not None and (int(found[1]), int(found[2])) >= (1, 34)


def gather(client: Client, gatherers: Mapping[str, Gatherer], whole: Collection[str] = ()) -> Missing:
    """List the kinds of all namespaces side by side into their gatherers, and tell what is missing.

    The kinds in ``whole`` come in one answer each, all others in pages. Only kinds of optional APIs are unserved when
    the API server answers 404; of all others that is an error.
    """

    def listed(name: str) -> Exception | None:
        gatherer = gatherers[name]

        try:
            in_served_version(name, partial(_gather_list, client, gatherer, whole=name in whole))
        except (KubeError, msgspec.DecodeError) as error:
            gatherer.clear()
            return error
        return None

    with ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="facts") as workers:
        errors = dict(zip(gatherers, workers.map(listed, gatherers), strict=True))
    unserved = [name for name, error in errors.items() if isinstance(error, NotFound) and KINDS[name].optional]
    unreadable = {name: _reason(error) for name, error in errors.items() if error and name not in unserved}
    return Missing(unreadable, tuple(unserved))


def _namespaces_of_yunikorn(seen: Facts) -> tuple[str, ...]:
    try:
        return yunikorn_namespaces(each for each in seen.workloads if each.kind == "Deployment")
    except Inconclusive:
        return ()


def _gather_list(client: Client, gatherer: Gatherer, path: str, *, whole: bool) -> None:
    gatherer.clear()
    if whole:
        try:
            for piece in client.pieces(path):
                gatherer.add_page(piece)
            return
        except (BrokenOff, msgspec.DecodeError):
            # A server gives up on an answer after a minute, proxies sooner: pages are short.
            gatherer.clear()
    for page in client.pages(path, restarted=gatherer.clear):
        gatherer.add_page(page)


def gather_config_maps(client: Client, gatherer: Gatherer, namespaces: Iterable[str]) -> dict[str, str]:
    """List the ConfigMaps of each namespace. Returns the reason by kind when one of the lists could not be read."""
    for namespace in namespaces:
        try:
            for page in client.pages(path(CONFIG_MAP, namespace=namespace)):
                gatherer.add_page(page)
        except (KubeError, msgspec.DecodeError) as error:
            gatherer.clear()
            return {CONFIG_MAP: f"{_reason(error)} (namespace {namespace})"}
    return {}


def gather_queues_of_yunikorn(client: Client, gatherer: Gatherer, namespaces: Iterable[str]) -> None:
    """Read the ConfigMaps with YuniKorn's queues and no others; where that is refused, nobody misses them."""
    for namespace in sorted(namespaces):
        for name in YUNIKORN_CONFIGS:
            with suppress(KubeError, msgspec.DecodeError):
                for page in client.pages(path(CONFIG_MAP, namespace=namespace), field_selector=f"metadata.name={name}"):
                    gatherer.add_page(page)


def _reason(error: Exception) -> str:
    if isinstance(error, ApiError):
        return f"{error.reason}: {error.message}"
    if isinstance(error, msgspec.DecodeError):
        return f"the answer is no list in JSON: {error}"
    return str(error)
