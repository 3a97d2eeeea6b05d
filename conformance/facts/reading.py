"""Reading a cluster once: every kind listed page by page, kinds side by side."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from conformance.facts.collection import Facts
from conformance.facts.decoding import Harvest
from conformance.facts.kinds import KINDS
from conformance.kube.client import Client
from conformance.kube.errors import ApiError, KubeError

# Decoding holds the interpreter, waiting does not: more workers than this only queue up at the server.
_AT_ONCE = 6


class Gatherer(Protocol):
    """What takes in the pages of one kind's list."""

    def add_page(self, page: bytes) -> None:
        """Take in one page of a list. Raises msgspec.DecodeError when the page is no list in JSON."""

    def clear(self) -> None:
        """Forget the pages so far: the list starts again, or could not be read to its end."""


def read(client: Client) -> Facts:
    """All facts of a cluster.

    A kind that cannot be read is remembered with the reason, and only whoever asks for it is told. Raises
    Unreachable when already the first request finds no server to talk to.
    """
    taken_at = datetime.now(UTC)
    version = server_version(client)
    harvests = {name: Harvest(kind) for name, kind in KINDS.items()}
    unreadable = gather(client, harvests)
    return Facts.from_harvests(harvests.values(), unreadable=unreadable, server_version=version, taken_at=taken_at)


def server_version(client: Client) -> str:
    """The gitVersion of the API server, such as ``v1.36.3``; empty when it does not say. Raises Unreachable."""
    try:
        return str(client.get("/version").get("gitVersion") or "")
    except (ApiError, msgspec.DecodeError):
        return ""


def gather(client: Client, gatherers: Mapping[str, Gatherer]) -> dict[str, str]:
    """List the kinds side by side into their gatherers. Returns the kinds that could not be read, with the reason."""

    def listed(name: str) -> str:
        gatherer = gatherers[name]
        try:
            for page in client.pages(KINDS[name].path, restarted=gatherer.clear):
                gatherer.add_page(page)
        except (KubeError, msgspec.DecodeError) as error:
            gatherer.clear()
            return _reason(error)
        return ""

    with ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="facts") as workers:
        reasons = dict(zip(gatherers, workers.map(listed, gatherers), strict=True))
    return {name: reason for name, reason in reasons.items() if reason}


def _reason(error: Exception) -> str:
    if isinstance(error, ApiError):
        return f"{error.reason}: {error.message}"
    if isinstance(error, msgspec.DecodeError):
        return f"the answer is no list in JSON: {error}"
    return str(error)
