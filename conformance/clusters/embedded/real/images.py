"""Container images of our own: one layer, an OCI layout in one tar file, made with the standard library.

Format: OCI image layout 1.0 (opencontainers/image-spec); containerd names what it imports by the annotation
``io.containerd.image.name`` of an entry of index.json, so one image may have many names.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import platform
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.deviceplugin.standins import program
from conformance.realnode import oci

from . import interpreter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UNUSED = 14 * 24 * 3600.0  # seconds
_FORMAT = 4  # raise it when what an archive holds changes
_NAME = "io.containerd.image.name"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_NOBODY = 65535
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FOLDERS = {"tmp": 0o1777, "etc": 0o755, "probes": 0o755}

PAUSE = "localhost/gpu-conformance/pause:1"
"""What holds a pod's namespaces, and what pods run that only hold a place."""
PROBE = "localhost/gpu-conformance/python:1"
"""Python with its standard library, for the programs that run in pods."""

STAND_IN = "localhost/gpu-conformance/stand-in:1"
"""What nodes with GPUs run in place of an image that they cannot have (conformance/realnode/registry.py)."""

# It ends at once when it is told to, and leaves no dead child behind where it is the first process of a whole pod.
_PAUSING = (
    "import signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); signal.pause()"
)
_PROGRAM = "usr/local/lib/gpu-conformance/program.py"
_ENTRY = {PAUSE: ["/usr/local/bin/python3", "-I", "-S", "-c", _PAUSING], PROBE: None, STAND_IN: oci.PROGRAM}


def archive(cache: Path, names: Mapping[str, Sequence[str]]) -> Path:
    """The archive with all images, from ``cache`` or made now; ``names`` gives each of them more names.

    Names are references as a kubelet asks for them; one with a digest has no tag. Raises ImageError.
    """
    contents = {**interpreter.files(), _PROGRAM: Path(program.__file__)}
    path = cache / f"{_key(contents, names)}.tar"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache, prefix=".making-", delete=False) as made:
            try:
                write(made.name, contents, names)
                Path(made.name).rename(path)
            except BaseException:
                Path(made.name).unlink(missing_ok=True)
                raise
        _prune(cache)
    os.utime(path)
    return path


def _prune(cache: Path) -> None:
    """Remove archives that nobody has used for long, and what a killed process left half made."""
    for path in cache.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _UNUSED:
                path.unlink()


def write(path: str | Path, contents: Mapping[str, Path], names: Mapping[str, Sequence[str]]) -> None:
    """Write an OCI archive with the images PAUSE, PROBE and STAND_IN, all of one layer with these files."""
    images = {(own, *names.get(own, ())): _settings(own, entrypoint) for own, entrypoint in _ENTRY.items()}
    pack(path, contents, images)


def pack(path: str | Path, contents: Mapping[str, Path], images: Mapping[tuple[str, ...], Mapping[str, Any]]) -> None:
    """Write an OCI archive with images of one layer with these files.

    ``images`` has the names of each, and what runs in it: ``config`` of OCI's image specification (Env, Entrypoint).
    """
    layer = _layer(contents)
    blobs = [layer]
    entries = []
    for names, settings in images.items():
        config = _json(_config(layer, settings))
        manifest = _json(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": _descriptor(config, _CONFIG),
                "layers": [_descriptor(layer, _LAYER)],
            }
        )
        blobs += [config, manifest]
        entries += [{**_descriptor(manifest, _MANIFEST), "annotations": {_NAME: name}} for name in names]
    with tarfile.open(path, "w") as tar:
        _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", _json({"schemaVersion": 2, "manifests": entries}))
        for blob in blobs:
            _add(tar, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)


def _layer(contents: Mapping[str, Path]) -> bytes:
    """One layer as a tar: the files, and the folders that they need. Everything belongs to root, at time 0."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, mode in _FOLDERS.items():
            _add_folder(tar, name, mode)
        seen = set(_FOLDERS)
        users = f"root:x:0:0:root:/:/bin/false\nnobody:x:{_NOBODY}:{_NOBODY}:nobody:/:/bin/false\n".encode()
        _add(tar, "etc/passwd", users, mode=0o644)
        for name, file in sorted(contents.items()):
            for folder in reversed(Path(name).parents[:-1]):
                if str(folder) not in seen:
                    seen.add(str(folder))
                    _add_folder(tar, str(folder), 0o755)
            executable = os.access(file, os.X_OK)
            _add(tar, name, file.read_bytes(), mode=0o755 if executable else 0o644)
    return made.getvalue()


def _settings(own: str, entrypoint: list[str] | None) -> dict[str, Any]:
    settings: dict[str, Any] = {"Env": [f"PATH={PATH}", "PYTHONDONTWRITEBYTECODE=1"]}
    if own == STAND_IN:
        settings["Env"].append(oci.MARK)
        # Some of the pods whose image it stands in for may not run as root.
        settings["User"] = f"{_NOBODY}:{_NOBODY}"
    return settings | ({"Entrypoint": entrypoint} if entrypoint else {"Cmd": ["python3"]})


def _config(layer: bytes, settings: Mapping[str, Any]) -> dict[str, Any]:
    machine = platform.machine()
    return {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": dict(settings),
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }


def _key(contents: Mapping[str, Path], names: Mapping[str, Sequence[str]]) -> str:
    """What an archive is found by: its files as they are on the machine, its entry points and its names."""
    parts: list[Any] = [_FORMAT, _ENTRY, {own: list(more) for own, more in names.items()}]
    for name, file in sorted(contents.items()):
        status = file.stat()
        parts.append([name, str(file), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(_json(parts)).hexdigest()[:24]


def _descriptor(blob: bytes, kind: str) -> dict[str, Any]:
    return {"mediaType": kind, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _json(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    tar.addfile(member, io.BytesIO(content))


def _add_folder(tar: tarfile.TarFile, name: str, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, mode
    tar.addfile(member)
