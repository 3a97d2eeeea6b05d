"""``go build`` of the pinned modules: the last source, slow the first time, and the same binaries everywhere.

The module folders hold a go.mod and a go.sum and no code: Go's checksums decide what is compiled.
"""

import os
import re
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from conformance.clusters.embedded.binaries import go_command
from conformance.clusters.embedded.binaries.failures import BuildFailed, NoSpace
from conformance.clusters.embedded.binaries.toolchain import Toolchain
from conformance.clusters.embedded.binaries.versions import Artefact, Family

MODULES = Path(__file__).resolve().parent.parent / "modules"

SPACE_NEEDED: dict[Family, int] = {
    "etcd": 1 << 30, "kubernetes": 6 << 30, "kwok": 3 << 30, "kind": 1 << 30, "cri-tools": 2 << 30,
    "helm": 3 << 30, "containerd": 3 << 30,
}  # fmt: skip
"""Bytes that a cold build takes in Go's build and module caches and for the binaries (measured: 3.8 + 1.3 + 0.3 GB)."""
SPACE_AT_LEAST = 1 << 30
"""Bytes that must be free even when Go's caches seem to be full already."""

TAGS: dict[Family, tuple[str, ...]] = {"kubernetes": ("-tags", "grpcnotrace")}
"""``grpcnotrace`` is what the Kubernetes release builds with: without it the linker cannot drop unused methods."""

OUTPUT_LINES = 25
"""How many of the last lines of the compiler go into the error."""

Report = Callable[[str], None]
"""Called about every second with how far the build is, in words."""


def module_folder(artefact: Artefact) -> Path:
    """Give the folder whose go.mod pins what ``artefact`` is built from."""
    return MODULES / (f"kubernetes-{artefact.minor}" if artefact.family == "kubernetes" else artefact.family)


def go_needed(artefact: Artefact) -> str:
    """Give the oldest Go that the module accepts: the ``go`` line of its go.mod, such as ``1.26.0``.

    Raises BuildFailed when the installation lacks the module or its go.sum.
    """
    folder = module_folder(artefact)
    try:
        text = (folder / "go.mod").read_text(encoding="utf-8")
        if not (folder / "go.sum").stat().st_size:
            raise FileNotFoundError("go.sum is empty")
    except OSError as error:
        raise BuildFailed(str(artefact), f"{folder} is not whole ({error}): reinstall gpu-conformance", ()) from error
    line = re.search(r"^go (\S+)$", text, flags=re.MULTILINE)
    return line[1] if line else "1.24.0"


def build(
    artefacts: Sequence[Artefact], toolchain: Toolchain, into: Path, report: Report, *, offline: bool
) -> dict[str, Path]:
    """Build artefacts of one family with one ``go build`` into the empty folder ``into``; give the binary of each name.

    Raises BuildFailed or NoSpace. Offline, Go may use its module cache only.
    """
    folder = module_folder(artefacts[0])
    environment = _environment(toolchain, artefacts[0], offline=offline)
    require_space(artefacts[0].family, toolchain, environment, into)
    packages = [artefact.component.package for artefact in artefacts]
    run = _Run(toolchain, folder, environment, " and ".join(map(str, artefacts)))
    total = run.count_packages(packages, report)
    single = into / artefacts[0].name
    run.compile(_flags(artefacts[0]), packages, single if len(packages) == 1 else into, total, report)
    return {artefact.name: into / artefact.name for artefact in artefacts}


class _Run:
    """The go commands of one build and the end of their output."""

    def __init__(self, toolchain: Toolchain, folder: Path, environment: Mapping[str, str], what: str) -> None:
        self._go = str(toolchain.go)
        self._folder = folder
        self._environment = environment
        self._what = what
        self._output: deque[str] = deque(maxlen=OUTPUT_LINES)

    def count_packages(self, packages: Sequence[str], report: Report) -> int:
        """How many packages the programs consist of. This also brings the modules, which may take a minute."""
        names: set[str] = set()
        fetched = 0

        def listen(line: str) -> None:
            nonlocal fetched
            if _is_package(line):
                names.add(line)
            elif line.startswith("go: downloading"):
                fetched += 1
            else:
                self._output.append(line)

        self._run(
            ["list", "-mod=readonly", "-deps", *packages],
            listen,
            lambda: report(f"fetching modules, {fetched} so far" if fetched else "reading the module graph"),
        )
        return len(names)

    def compile(self, flags: Sequence[str], packages: Sequence[str], output: Path, total: int, report: Report) -> None:
        """Compile and link. The count stays below ``total`` where Go's cache has packages already."""
        compiled = 0

        def listen(line: str) -> None:
            nonlocal compiled
            if _is_package(line):
                compiled += 1
            else:
                self._output.append(line)

        target = str(output) if not output.is_dir() else f"{output}{os.sep}"
        self._run(
            ["build", "-v", *flags, "-o", target, *packages],
            listen,
            lambda: report(f"{compiled} of at most {total} packages"),
        )

    def _run(self, arguments: Sequence[str], listen: Callable[[str], None], tick: Callable[[], None]) -> None:
        try:
            status = go_command.run([self._go, *arguments], self._folder, self._environment, listen, tick)
        except OSError as error:
            raise BuildFailed(self._what, f"{self._go} does not run ({error})", ()) from error
        if status:
            reason = f"go {arguments[0]} in {self._folder} ended with status {status}"
            if any("no space left on device" in line for line in self._output):
                reason += ", because the disk is full"
            raise BuildFailed(self._what, reason, list(self._output))


def _is_package(line: str) -> bool:
    # A bare import path; whatever a compiler complains about has a blank or a colon in it.
    return bool(line) and not re.search(r"[\s:]", line) and not line.startswith("#")


def _flags(artefact: Artefact) -> list[str]:
    return [
        "-mod=readonly",
        "-trimpath",
        *TAGS.get(artefact.family, ()),
        "-ldflags",
        " ".join(["-s", "-w", *_stamps(artefact)]),
    ]


def _stamps(artefact: Artefact) -> list[str]:
    """Linker flags that make the program say its version; unstamped, Kubernetes says v0.0.0-master.

    Source: the variables in k8s.io/component-base/version/base.go, sigs.k8s.io/kwok/pkg/consts,
    helm.sh/helm/v3/internal/version and github.com/containerd/containerd/v2/version.
    etcd and kind have their version in their code.
    """
    if artefact.family == "kwok":
        return [f"-X sigs.k8s.io/kwok/pkg/consts.Version=v{artefact.version}"]
    if artefact.family == "cri-tools":
        return [f"-X sigs.k8s.io/cri-tools/pkg/version.Version={artefact.version}"]
    if artefact.family == "helm":
        return [f"-X helm.sh/helm/v3/internal/version.version=v{artefact.version}"]
    if artefact.family == "containerd":
        return [f"-X github.com/containerd/containerd/v2/version.Version={artefact.version}"]
    if artefact.family in ("etcd", "kind"):
        return []
    major, minor, _ = artefact.version.split(".")
    said = {
        "gitVersion": f"v{artefact.version}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": "unknown",
        # A fixed date: two builds of the same pins give the same bytes.
        "buildDate": "1970-01-01T00:00:00Z",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return [f"-X {package}.{name}={value}" for package in packages for name, value in said.items()]


def _environment(toolchain: Toolchain, artefact: Artefact, *, offline: bool) -> dict[str, str]:
    """Give the user's environment (GOPROXY, GOFLAGS, GOCACHE hold) without what would change the outcome."""
    environment = {name: value for name, value in os.environ.items() if name not in ("GOROOT", "GOARM64", "GOAMD64")}
    environment |= toolchain.environment
    environment |= {
        "CGO_ENABLED": "0",
        "GO111MODULE": "on",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOOS": artefact.platform.os,
        "GOARCH": artefact.platform.arch,
    }
    if offline:
        environment["GOPROXY"] = "off"
    return environment


def require_space(family: Family, toolchain: Toolchain, environment: Mapping[str, str], into: Path) -> None:
    """Raise NoSpace when the disk of Go's build cache or of ``into`` is too full for a build of ``family``."""
    build_cache = Path(_go_variable("GOCACHE", toolchain, environment) or into)
    for place in (build_cache, into):
        free = shutil.disk_usage(_nearest_existing(place)).free
        needed = SPACE_NEEDED[family]
        if free < needed:
            # What earlier builds left in Go's caches need not be made again.
            have = _size_of(build_cache, at_most=needed)
            needed = max(SPACE_AT_LEAST, needed - have)
        if free < needed:
            raise NoSpace(
                f"building {family} needs about {needed / 1e9:.1f} GB for Go's caches and the binaries, "
                f"the disk of {place} has {free / 1e9:.1f} GB free"
            )


def _go_variable(name: str, toolchain: Toolchain, environment: Mapping[str, str]) -> str:
    ran = subprocess.run(
        [toolchain.go, "env", name], capture_output=True, text=True, check=False, timeout=60, env=dict(environment)
    )
    return ran.stdout.strip()


def _nearest_existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def _size_of(folder: Path, *, at_most: int) -> int:
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            size += os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118 - 50,000 files: Path is the slower half
        if size >= at_most:
            break
    return size
