"""The files of a container image with Python: this machine's interpreter, its standard library, and what they link to.

Nothing is pulled and nothing is compiled: an image for the machine on which it is made.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.clusters.embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
# What no program in a pod of ours imports, and what takes most of the room.
_LEFT_OUT = (
    "site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip",
    "distutils", "pydoc_data", "__pycache__", "venv", "msilib",
)  # fmt: skip
_LEFT_OUT_PREFIX = "config-"
_LIBRARY = re.compile(r"(?:=>\s*)?(/\S+)\s+\(0x")
_MISSING = re.compile(r"^\s*(\S+)\s+=>\s+not found", flags=re.MULTILINE)
_EXTENSIONS = "lib-dynload"
# Extension modules that may link to what the machine lacks, or that bring libraries which nobody needs.
_NO_EXTENSION = ("_tkinter", "_test", "_xx", "xx", "_dbm", "_gdbm", "readline", "_curses", "nis", "_sqlite3")


class ImageError(EmbeddedError):
    """An image cannot be made of this machine's Python."""


def files(more: Iterable[Path] = ()) -> dict[str, Path]:
    """Which file of the machine is which file of the image: path in the image, without the leading slash -> file.

    ``more`` are extension modules of somebody else's, whose shared libraries come along.
    Raises ImageError where there is no interpreter of our own to copy, or a library that it needs is not found.
    """
    program = Path(sys.base_prefix) / "bin" / PYTHON
    if not program.exists():
        program = Path(sys.executable).resolve()
    library = Path(sysconfig.get_paths()["stdlib"])
    if not program.is_file() or not (library / "os.py").is_file():
        raise ImageError(f"{sys.executable} has no interpreter and standard library that could go into an image")
    found = {f"usr/local/bin/{PYTHON}": program.resolve(), "usr/local/bin/python3": program.resolve()}
    extensions = []
    for file in _library_files(library):
        found[f"usr/local/lib/{PYTHON}/{file.relative_to(library)}"] = file
        if file.parent.name == _EXTENSIONS:
            extensions.append(file)
    return found | _linked([program, *extensions, *more])


def _library_files(library: Path) -> Iterator[Path]:
    pending = [library]
    while pending:
        for entry in sorted(pending.pop().iterdir()):
            if entry.name in _LEFT_OUT or entry.name.startswith(_LEFT_OUT_PREFIX):
                continue
            if entry.is_dir():
                pending.append(entry)
            elif entry.suffix in (".py", ".so") and not entry.name.startswith(_NO_EXTENSION):
                yield entry


def _linked(programs: Iterable[Path]) -> dict[str, Path]:
    """The shared libraries of programs. All lie in one folder where every loader looks; the loader where it must be."""
    ran = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False)
    if missing := sorted(set(_MISSING.findall(ran.stdout))):
        raise ImageError(f"this machine's Python needs {', '.join(missing)}, which the machine does not have")
    found = {}
    for name in sorted(set(_LIBRARY.findall(ran.stdout))):
        path = Path(name)
        loader = path.name.startswith("ld-")
        found[name.lstrip("/") if loader else f"usr/lib/{path.name}"] = path.resolve()
    return found
