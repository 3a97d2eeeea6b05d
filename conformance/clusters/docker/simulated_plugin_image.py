"""The image of the simulated device plugin: Python with this package and gRPC, and what stands in for the driver.

It is made of this machine's files, as the control plane's image is, for nodes with the machine's kind of processor.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from conformance.clusters.embedded.binaries.cache import cache_root
from conformance.clusters.embedded.binaries.versions import this_platform
from conformance.clusters.embedded.real import interpreter
from conformance.deviceplugin.library import compile_library
from conformance.reference.simulated_plugin import IMAGE

from .archive import ImageSpec, write
from .control_plane_image import key_of, own_files, packages

if TYPE_CHECKING:
    from pathlib import Path

LABEL = "io.gpu-conformance.image"
DIGEST = "io.gpu-conformance.content"
"""The label that tells two images of this one name apart."""
_DISTRIBUTIONS = ("msgspec", "urllib3", "PyYAML", "grpcio", "protobuf")
_LIBRARY = "usr/local/lib/gpu-conformance/driver.so"
_KEPT = 2


def spec(cache: Path | None = None) -> ImageSpec:
    """The image. Raises ImageError, LibraryError and PackageNotFoundError where its parts cannot be had."""
    needed = dict(packages(_DISTRIBUTIONS))
    extensions = [file for file in needed.values() if file.suffix == ".so"]
    files = {**interpreter.files(extensions), **needed, **dict(own_files())}
    entrypoint = ["/usr/local/bin/python3", "-P", "-m", "conformance.deviceplugin"]
    library = compile_library(cache_root(cache, os.environ) / "images")
    if library is not None:
        files[_LIBRARY] = library
        entrypoint.append(f"--library=/{_LIBRARY}")
    settings = {"Env": ["PATH=/usr/local/bin", "PYTHONDONTWRITEBYTECODE=1"], "Entrypoint": entrypoint}
    texts = {"etc/passwd": "root:x:0:0:root:/root:/bin/false\n"}
    labels = {LABEL: "simulated-plugin", DIGEST: key_of(files, texts, settings)}
    return ImageSpec(
        name=IMAGE,
        architecture=this_platform().arch,
        settings={**settings, "Labels": labels},
        files=files,
        texts=texts,
        folders={"tmp": 0o1777, "root": 0o700},
    )


def archive(image: ImageSpec, cache: Path | None = None) -> Path:
    """The archive of an image, from the cache or made now."""
    folder = cache_root(cache, os.environ) / "images"
    path = folder / f"simulated-plugin-{content_of(image)}.tar"
    if not path.exists():
        write(path, image)
        _prune(folder)
    os.utime(path)
    return path


def _prune(folder: Path) -> None:
    """Keep the few that were made last; another process may do the same now."""
    with contextlib.suppress(OSError):
        for other in sorted(folder.glob("simulated-plugin-*.tar"), key=lambda each: -each.stat().st_mtime)[_KEPT:]:
            other.unlink(missing_ok=True)


def content_of(image: ImageSpec) -> str:
    """What tells this image from another one of its name."""
    return str(image.settings["Labels"][DIGEST])
