"""The image of the control-plane container: the embedded cluster's programs, and Python with this very package.

It is made of this machine's files, without a daemon and without a base image, and found by what it holds: an image of
other code has another name, so that a container never runs an older simulator than the tests that judge it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import conformance
from conformance.clusters.embedded.binaries import resolve
from conformance.clusters.embedded.binaries.cache import cache_root
from conformance.clusters.embedded.binaries.versions import CONTROL_PLANE, release, this_platform
from conformance.clusters.embedded.real import interpreter
from conformance.shipped import shipped

from .archive import ImageSpec, write
from .protocol import BINARIES_PATH, PORT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from conformance.progress import Progress

REPOSITORY = "gpu-conformance/control-plane"
LOCAL = f"localhost/{REPOSITORY}"
BINARIES = str(BINARIES_PATH).lstrip("/")
_FORMAT = 1  # raise it when what an image holds changes in a way that its files do not show
_DISTRIBUTIONS = ("msgspec", "urllib3", "PyYAML", "cryptography", "filelock", "packaging")
"""What the embedded cluster and the simulator import; what these need comes along."""
_KEPT = 3
"""How many archives stay in the cache."""
_SITE = f"usr/local/lib/{interpreter.PYTHON}/site-packages"


def spec(version: str, *, assets: Path | None, cache: Path | None, progress: Progress) -> ImageSpec:
    """The image for a Kubernetes version. Raises BinariesError and ImageError where its parts cannot be had."""
    binaries = resolve(version, CONTROL_PLANE, assets=assets, cache=cache, progress=progress)
    needed = dict(packages(_DISTRIBUTIONS))
    extensions = [file for file in needed.values() if file.suffix == ".so"]
    files = {
        **interpreter.files(extensions),
        **needed,
        **dict(own_files()),
        **{f"{BINARIES}/{name}": path for name, path in binaries.items()},
    }
    texts = {"etc/passwd": "root:x:0:0:root:/root:/bin/false\n", "etc/hosts": "127.0.0.1 localhost\n"}
    settings = {
        "Env": ["PATH=/usr/local/bin", "PYTHONDONTWRITEBYTECODE=1"],
        "Entrypoint": ["/usr/local/bin/python3", "-P", "-m", "conformance.clusters.docker.inside"],
        "ExposedPorts": {f"{PORT}/tcp": {}},
        "Labels": {"io.gpu-conformance.image": "control-plane", "io.gpu-conformance.kubernetes": release(version)},
    }
    key = key_of(files, texts, settings)
    return ImageSpec(
        name=f"{LOCAL}:{release(version)}-{key}",
        architecture=this_platform().arch,
        settings=settings,
        files=files,
        texts=texts,
        folders={"tmp": 0o1777, "root": 0o700, "run": 0o755, "state": 0o700},
    )


def archive(image: ImageSpec, cache: Path | None = None) -> Path:
    """The archive of an image, from the cache or made now."""
    folder = cache_root(cache, os.environ) / "images"
    path = folder / f"control-plane-{image.name.rpartition(':')[2]}.tar"
    if not path.exists():
        write(path, image)
        _prune(folder)
    os.utime(path)
    return path


def _prune(folder: Path) -> None:
    """Keep the few that were used last: each change of this package's code makes another, of 400 MB."""
    with contextlib.suppress(OSError):
        by_use = sorted(folder.glob("control-plane-*.tar"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in by_use[_KEPT:]:
            path.unlink(missing_ok=True)


def own_files() -> Iterator[tuple[str, Path]]:
    """The files of this very package: path in the image -> file."""
    home = Path(conformance.__file__).parent
    for file in sorted(home.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts and "_shipped" not in file.relative_to(home).parts:
            yield f"{_SITE}/conformance/{file.relative_to(home)}", file
    fixtures = shipped("fixtures/topologies")
    for file in sorted(fixtures.glob("*.yaml")):
        yield f"{_SITE}/conformance/_shipped/fixtures/topologies/{file.name}", file


def packages(names: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """The files of installed distributions and of all that they need."""
    pending, seen = list(names), set()
    while pending:
        name = pending.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        distribution = importlib.metadata.distribution(name)
        pending += _needed(distribution)
        for file in distribution.files or ():
            place = Path(str(distribution.locate_file(file)))
            if ".." not in file.parts and "__pycache__" not in file.parts and place.is_file():
                yield f"{_SITE}/{file}", place


def _needed(distribution: importlib.metadata.Distribution) -> Iterator[str]:
    from packaging.requirements import Requirement

    for line in distribution.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement.name


def key_of(files: Mapping[str, Path], texts: Mapping[str, str], settings: Mapping[str, object]) -> str:
    """What an image is found by: what its files hold, and what is said about them.

    The programs are told apart by size and time: hashing 300 MB at every start is not worth it.
    """
    parts: list[object] = [_FORMAT, dict(texts), dict(settings)]
    for name, file in sorted(files.items()):
        status = file.stat()
        same = status.st_mtime_ns if name.startswith(BINARIES) else hashlib.sha256(file.read_bytes()).hexdigest()
        parts.append([name, status.st_size, same])
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
