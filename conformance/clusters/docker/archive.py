"""Image archives that ``docker load`` and ``ctr images import`` both take, written without a daemon.

An archive is an OCI image layout (opencontainers/image-spec 1.0) with Docker's older ``manifest.json`` beside it: a
daemon of 2022 reads only that one, containerd the other.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class ImageSpec:
    """An image of one layer. ``settings`` is the ``config`` of the OCI image configuration (``Env``, ``Entrypoint``).

    ``files`` gives the machine's file of each path in the image, ``texts`` the content of those that have none,
    ``folders`` the mode of folders that shall be there; all paths without the leading slash.
    """

    name: str
    architecture: str
    settings: Mapping[str, Any]
    files: Mapping[str, Path] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, int] = field(default_factory=dict)


def write(path: Path, image: ImageSpec) -> None:
    """Write the archive of ``image`` to ``path``, which appears when it is whole. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as folder:
        layer, made = Path(folder) / "layer.tar", Path(folder) / "image.tar"
        write_layer(layer, image)
        write_archive(made, image, layer)
        made.rename(path)


def write_layer(path: Path, image: ImageSpec) -> None:
    """Write the files of an image as a tar. Everything belongs to root, at time 0: the same files, the same bytes."""
    with tarfile.open(path, "w") as tar:
        seen: set[str] = set()
        for name, mode in image.folders.items():
            _add_folders(tar, name, seen, mode)
        for name in sorted([*image.files, *image.texts]):
            _add_folders(tar, str(Path(name).parent), seen)
            if name in image.texts:
                add(tar, name, image.texts[name].encode())
            else:
                _add_file(tar, name, image.files[name])


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, as images name it."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def add(tar: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    """Add a file with this content."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    tar.addfile(member, io.BytesIO(content))


def write_archive(path: Path, image: ImageSpec, layer: Path) -> None:
    """Write the archive of an image whose one layer is this tar, whatever its ``files`` say. Raises OSError."""
    digest = digest_of(layer)
    config = _json(
        {
            "architecture": image.architecture,
            "os": "linux",
            "config": dict(image.settings),
            "rootfs": {"type": "layers", "diff_ids": [digest]},
        }
    )
    layers = [{"mediaType": _LAYER, "digest": digest, "size": layer.stat().st_size}]
    manifest = _json(
        {"schemaVersion": 2, "mediaType": _MANIFEST, "config": _descriptor(config, _CONFIG), "layers": layers}
    )
    entry = {**_descriptor(manifest, _MANIFEST), "annotations": {"io.containerd.image.name": image.name}}
    docker = [{"Config": _blob(config), "RepoTags": [image.name], "Layers": [_place(digest)]}]
    with tarfile.open(path, "w") as tar:
        add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        add(tar, "index.json", _json({"schemaVersion": 2, "manifests": [entry]}))
        add(tar, "manifest.json", _json(docker))
        for blob in (config, manifest):
            add(tar, _blob(blob), blob)
        _add_file(tar, _place(digest), layer)


def _add_file(tar: tarfile.TarFile, name: str, file: Path) -> None:
    member = tarfile.TarInfo(name)
    member.size = file.stat().st_size
    member.mode = 0o755 if os.access(file, os.X_OK) else 0o644
    with file.open("rb") as content:
        tar.addfile(member, content)


def _add_folders(tar: tarfile.TarFile, name: str, seen: set[str], mode: int = 0o755) -> None:
    """Add a folder that is not there yet, and those above it."""
    above: Sequence[Path] = [Path(name), *Path(name).parents]
    for folder in reversed([each for each in above if str(each) not in (".", "/")]):
        if str(folder) not in seen:
            seen.add(str(folder))
            member = tarfile.TarInfo(str(folder))
            member.type, member.mode = tarfile.DIRTYPE, mode if str(folder) == name else 0o755
            tar.addfile(member)


def _descriptor(blob: bytes, kind: str) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(blob).hexdigest()}", "size": len(blob)}


def _blob(content: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"


def _place(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _json(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True).encode()
