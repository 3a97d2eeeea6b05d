"""What can go wrong on the way to the binaries. Each text says what is wrong, where, and what to do next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from conformance.clusters.errors import ClusterError


class BinariesError(ClusterError):
    """The binaries of the embedded cluster cannot be had as asked."""


class UnknownVersion(BinariesError):
    """Someone asked for a Kubernetes version that is not pinned here."""

    def __init__(self, version: str, pins: Mapping[str, str], *, near: str | None = None) -> None:
        have = ", ".join(f"{minor} ({pinned})" for minor, pinned in pins.items())
        hint = f" Did you mean {near}?" if near else ""
        super().__init__(f"No embedded Kubernetes '{version}'. There is: {have}.{hint}")


class AssetsRefused(BinariesError):
    """The assets folder that was named explicitly does not hold what it should."""

    def __init__(self, folder: Path, reason: str, remedy: str) -> None:
        super().__init__(f"The assets folder {folder} cannot be used: {reason}. {remedy}")


class CacheUnusable(BinariesError):
    """The cache folder cannot be written."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"The cache folder {folder} cannot be written: {reason}. "
            "Set GPU_CONFORMANCE_CACHE to a folder of yours with room, or bring the binaries with KUBEBUILDER_ASSETS."
        )


class DownloadFailed(BinariesError):
    """A download did not give the file. ``code`` tells the ways apart, ``url`` says which request it was."""

    code = "failed"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url}: {reason}")
        self.url = url
        self.reason = reason


class HostUnreachable(DownloadFailed):
    """No answer from the host: no network, no name, a firewall, a dead mirror."""

    code = "unreachable"

    @property
    def host(self) -> str:
        """Which host it was: what all its addresses have in common."""
        return urlsplit(self.url).netloc


class NotPublished(DownloadFailed):
    """The host answered that there is no such file."""

    code = "not-published"


class RequestRefused(DownloadFailed):
    """The host answered with another status than 200 and 404."""

    code = "refused"


class Truncated(DownloadFailed):
    """The connection ended before the whole file was there."""

    code = "truncated"


class ChecksumMismatch(DownloadFailed):
    """The file is not the one that its publisher's checksum describes, or there is no such checksum."""

    code = "checksum"


class ToolchainMissing(BinariesError):
    """There is no Go toolchain that is new enough, and none could be installed."""


class NoSpace(BinariesError):
    """The disk lacks the space that a build needs."""


class BuildFailed(BinariesError):
    """``go build`` failed; the text ends with the end of its output."""

    def __init__(self, what: str, reason: str, output: Sequence[str]) -> None:
        tail = "".join(f"\n    {line}" for line in output)
        super().__init__(f"building {what} failed: {reason}" + (f"; the end of the output:{tail}" if tail else ""))


@dataclass(frozen=True)
class Lack:
    """Why one source did not give something."""

    source: str
    reason: str


class BinariesUnavailable(BinariesError):
    """No source had some of the binaries. The one error that a user sees, with all sources and what each lacked."""

    def __init__(self, wanted: str, missing: Sequence[str], lacks: Sequence[Lack], remedies: Sequence[str]) -> None:
        lines = [f"{wanted}: no source has {', '.join(missing)}."]
        width = max((len(lack.source) for lack in lacks), default=0)
        lines += [f"  {lack.source:<{width}}  {lack.reason}" for lack in lacks]
        lines += ["Any one of these helps:", *(f"  - {remedy}" for remedy in remedies)]
        super().__init__("\n".join(lines))
        self.missing = tuple(missing)
        self.lacks = tuple(lacks)
