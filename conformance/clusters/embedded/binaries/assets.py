"""Binaries that are there already: a folder as kubebuilder's setup-envtest fills it, or one of the user's own.

A program is taken only after it said a version that fits: another Kubernetes minor would test something else.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from conformance.clusters.embedded.binaries.failures import AssetsRefused, Lack
from conformance.clusters.embedded.binaries.versions import OLDEST_ACCEPTED, Artefact
from conformance.progress import Progress

ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"
VERSION_WITHIN = 20.0
"""Seconds in which a program must say its version."""


@dataclass(frozen=True)
class AssetsFolder:
    """A folder with binaries. ``strict``: someone named it for this run, so a wrong binary in it is an error."""

    path: Path
    origin: str
    strict: bool


def assets_folder(option: Path | None, environ: Mapping[str, str]) -> AssetsFolder | None:
    """Give the folder of the option, else of ``KUBEBUILDER_ASSETS``, else None.

    Raises AssetsRefused when the option names something that is no folder.
    """
    if option is not None:
        path = option.expanduser().absolute()
        if not path.is_dir():
            raise AssetsRefused(
                path, "there is no such folder", "Name a folder that holds etcd, kube-apiserver and so on."
            )
        return AssetsFolder(path, "assets folder", strict=True)
    if named := environ.get(ASSETS_VARIABLE):
        return AssetsFolder(Path(named).expanduser().absolute(), ASSETS_VARIABLE, strict=False)
    return None


def take(folder: AssetsFolder, wanted: Sequence[Artefact], progress: Progress) -> tuple[dict[str, Path], list[Lack]]:
    """Give what the folder has of ``wanted``, and why it does not have the rest.

    Raises AssetsRefused for an unfit binary in a strict folder; elsewhere it is a warning and the next source is asked.
    """
    found: dict[str, Path] = {}
    lacks: list[Lack] = []
    absent = [artefact.name for artefact in wanted if not (folder.path / artefact.name).is_file()]
    for artefact in wanted:
        if artefact.name in absent:
            continue
        binary = folder.path / artefact.name
        if not (reason := _unfit(binary, artefact)):
            found[artefact.name] = binary
        elif folder.strict:
            raise AssetsRefused(
                folder.path, reason, f"Put {artefact} there, or take that file away to get it elsewhere."
            )
        else:
            progress.warn(f"{folder.origin}={folder.path}: {reason}; it is not used")
            lacks.append(Lack(folder.origin, reason))
    if absent:
        lacks.append(Lack(folder.origin, f"{folder.path} has no {', '.join(absent)}"))
    return found, lacks


def put(found: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """Copy programs into a folder that can be an assets folder then; each appears there in one step. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for name, program in found.items():
        made[name] = folder.absolute() / name
        half = folder / f".{name}.new"
        shutil.copy(program, half)
        half.replace(made[name])
    return made


def _unfit(binary: Path, artefact: Artefact) -> str:
    """Why ``binary`` cannot stand for ``artefact``; empty when it can."""
    if not os.access(binary, os.X_OK):
        return f"{binary.name} is not executable"
    try:
        said = said_version(binary, artefact)
    except (OSError, subprocess.SubprocessError) as error:
        return f"{binary.name} does not run here ({error})"
    if said is None:
        return f"{binary.name} says no version"
    oldest = OLDEST_ACCEPTED.get(artefact.family)
    if oldest is None:
        fits, need = ".".join(said.split(".")[:2]) == artefact.minor, f"Kubernetes {artefact.minor} is wanted"
    else:
        fits, need = _pair(said) >= oldest, f"{artefact.family} {oldest[0]}.{oldest[1]} or newer is wanted"
    return "" if fits else f"{binary.name} is {said}, {need}"


def said_version(binary: Path, artefact: Artefact) -> str | None:
    """``1.36.3`` as the program itself says it; None when its output has no version.

    Raises OSError or subprocess.SubprocessError when it cannot be run.
    """
    ran = subprocess.run(
        [binary, *artefact.component.version_arguments],
        capture_output=True,
        text=True,
        errors="replace",
        check=True,
        timeout=VERSION_WITHIN,
    )
    version = re.search(r"\bv?(\d+\.\d+\.\d+)", ran.stdout + ran.stderr)
    return version[1] if version else None


def _pair(version: str) -> tuple[int, int]:
    major, minor, *_ = version.split(".")
    return int(major), int(minor)
