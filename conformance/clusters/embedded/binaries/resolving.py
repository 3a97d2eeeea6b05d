"""Asks the sources of binaries in order: assets folder, cache, download, ``go build``; or says why none helped."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from conformance.clusters.embedded.binaries import assets as assets_source
from conformance.clusters.embedded.binaries import building, toolchain
from conformance.clusters.embedded.binaries.cache import CACHE_VARIABLE, Cache, cache_root
from conformance.clusters.embedded.binaries.downloading import Downloader, Report
from conformance.clusters.embedded.binaries.failures import (
    BinariesUnavailable,
    BuildFailed,
    CacheUnusable,
    ChecksumMismatch,
    DownloadFailed,
    HostUnreachable,
    Lack,
    NoSpace,
    ToolchainMissing,
)
from conformance.clusters.embedded.binaries.upstream import MIRROR_VARIABLE, OFFLINE_VARIABLE
from conformance.clusters.embedded.binaries.versions import (
    CONTROL_PLANE,
    Artefact,
    Family,
    Platform,
    artefacts,
    release,
    this_platform,
)
from conformance.progress import Progress, SilentProgress

FAMILIES: tuple[Family, ...] = ("etcd", "kind", "cri-tools", "helm", "containerd", "kubernetes", "kwok")
"""The order in which families are made: the quick one first, so that a broken build shows early."""

SOURCES = ("assets folder", assets_source.ASSETS_VARIABLE, "cache", "download", "go build")
"""The sources in the order in which they are asked, by the names that errors use."""


def resolve(
    version: str,
    names: Sequence[str] = CONTROL_PLANE,
    *,
    assets: Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Give the path of each program of ``names`` for Kubernetes ``version`` (``1.36`` or ``1.36.3``).

    ``assets`` is a folder that is asked first (else ``KUBEBUILDER_ASSETS``), ``cache`` the root of the cache (else
    ``GPU_CONFORMANCE_CACHE``, else the XDG cache folder). The first call may build: ten minutes or more on two cores.

    Raises UnknownVersion, AssetsRefused, CacheUnusable, or BinariesUnavailable, which names every source and what it
    lacked; ValueError for a name that is not in the catalogue.
    """
    wanted = artefacts(version, names, this_platform())
    search = _Search(
        release(version), wanted, Cache(cache_root(cache, os.environ)), progress or SilentProgress(), os.environ
    )
    search.ask_assets(assets)
    search.ask_cache()
    families = search.families_to_make()
    for place, family in enumerate(families, start=1):
        if not search.make(family, (place, len(families))):
            break
    return search.outcome()


class _Search:
    """What is found so far, what each source lacked, and what is still missing."""

    def __init__(
        self, kubernetes: str, wanted: Sequence[Artefact], cache: Cache, progress: Progress, environ: Mapping[str, str]
    ) -> None:
        self._kubernetes = kubernetes
        self._wanted = wanted
        self._cache = cache
        self._progress = progress
        self._environ = environ
        self._offline = environ.get(OFFLINE_VARIABLE, "").lower() not in ("", "0", "no", "false")
        self._downloader = Downloader(environ.get(MIRROR_VARIABLE))
        self._found: dict[str, Path] = {}
        self._lacks: list[Lack] = []

    def ask_assets(self, option: Path | None) -> None:
        """Take what an assets folder has."""
        folder = assets_source.assets_folder(option, self._environ)
        if folder is None:
            self._lack(assets_source.ASSETS_VARIABLE, "is not set, and no assets folder was named")
            return
        found, lacks = assets_source.take(folder, self._wanted, self._progress)
        self._found |= found
        self._lacks += lacks

    def ask_cache(self) -> None:
        """Take what the cache has, and remember what it lacks."""
        self._look_into_cache(self._missing())
        if missing := self._missing():
            self._lack("cache", self._cache.describe_absence(missing))

    def families_to_make(self) -> list[Family]:
        """List the families of which something is missing still."""
        return [family for family in FAMILIES if self._missing(family)]

    def make(self, family: Family, place: tuple[int, int]) -> bool:
        """Download or build what is missing of ``family``; False when a build broke, so that we stop here.

        ``place`` is which step of how many this is.
        """
        missing = self._missing(family)
        try:
            with self._cache.locked(missing, self._progress):
                # Whoever held the lock before us may have made them.
                self._look_into_cache(missing)
                with self._cache.workshop() as workshop:
                    self._download(family, workshop)
                    return self._build(family, workshop, place)
        except OSError as error:
            raise CacheUnusable(self._cache.root, error.strerror or str(error)) from error

    def outcome(self) -> dict[str, Path]:
        """All that was asked for. Raises BinariesUnavailable when something is missing."""
        if missing := self._missing():
            wanted = (
                "Helm" if {one.family for one in missing} == {"helm"} else f"Embedded Kubernetes {self._kubernetes}"
            )
            subject = f"{wanted} on {missing[0].platform}"
            # Families took turns at the sources; the reader wants the sources in their order.
            lacks = sorted(self._lacks, key=lambda lack: SOURCES.index(lack.source))
            raise BinariesUnavailable(subject, [str(one) for one in missing], lacks, self._remedies(missing))
        return {artefact.name: self._found[artefact.name] for artefact in self._wanted}

    def _look_into_cache(self, artefacts: Sequence[Artefact]) -> None:
        for artefact in artefacts:
            if (path := self._cache.find(artefact)) is not None:
                self._found[artefact.name] = path

    def _download(self, family: Family, workshop: Path) -> None:
        missing = self._missing(family)
        if missing and self._offline:
            self._lack("download", f"was left out: {OFFLINE_VARIABLE} is set")
            return
        for artefact in missing:
            try:
                made, url = self._downloader.fetch(artefact, workshop, _megabytes(self._progress, artefact))
            except ChecksumMismatch as error:
                self._progress.warn(f"{error}")
                self._lack("download", str(error))
            except HostUnreachable as error:
                self._lack("download", f"{error.host} {error.reason}")
            except DownloadFailed as error:
                self._lack("download", str(error))
            else:
                self._found[artefact.name] = self._cache.admit(artefact, made, url)
                self._progress.note(f"Downloaded {artefact}, checksum verified")

    def _build(self, family: Family, workshop: Path, place: tuple[int, int]) -> bool:
        if not (missing := self._missing(family)):
            return True
        what = ", ".join(artefact.name for artefact in missing)
        step = f"Building {what} {missing[0].version}"
        try:
            go = toolchain.find(building.go_needed(missing[0]), self._cache.root, self._progress, offline=self._offline)
            folder = workshop / "build"
            folder.mkdir()
            made = building.build(
                missing,
                go,
                folder,
                lambda far: self._progress.step(step, *place, detail=far),
                offline=self._offline,
            )
        except ToolchainMissing as error:
            self._lack("go build", str(error))
            return True
        except (BuildFailed, NoSpace) as error:
            self._lack("go build", str(error))
            return False
        origin = f"go{go.version} build of {building.module_folder(missing[0]).name}"
        for artefact in missing:
            self._found[artefact.name] = self._cache.admit(artefact, made[artefact.name], origin)
        self._progress.note(f"Built {what} {missing[0].version} with Go {go.version}")
        return True

    def _missing(self, family: Family | None = None) -> list[Artefact]:
        return [one for one in self._wanted if one.name not in self._found and family in (None, one.family)]

    def _lack(self, source: str, reason: str) -> None:
        # The families ask the same source one after another: the same answer is said once.
        if (lack := Lack(source, reason)) not in self._lacks:
            self._lacks.append(lack)

    def _remedies(self, missing: Sequence[Artefact]) -> list[str]:
        names = ", ".join(artefact.name for artefact in missing)
        return [
            f"point {assets_source.ASSETS_VARIABLE} or --gpu-assets at a folder that holds {names}",
            f"set {CACHE_VARIABLE} to a copy of the cache of another {missing[0].platform} machine",
            _network_remedy(missing[0].platform),
            "install Go 1.26 or newer, or pip install 'gpu-conformance[go]'; a build needs a Go module proxy and 6 GB",
        ]


def _megabytes(progress: Progress, artefact: Artefact) -> Report:
    """Turn the bytes of a download into a step of the progress."""

    def report(done: int, total: int | None) -> None:
        far = f"{done / 1e6:.0f}" + (f" of {total / 1e6:.0f}" if total else "")
        progress.step(f"Downloading {artefact}", detail=f"{far} MB")

    return report


def _network_remedy(where: Platform) -> str:
    reach = (
        f"let this machine reach dl.k8s.io and github.com, or set {MIRROR_VARIABLE} (docs/binaries.md has its layout)"
    )
    return reach if where.os == "linux" else f"{reach}; the Kubernetes servers are published for Linux only"
