"""The stand-in of the driver's libraries, compiled where there is a C compiler. Without one containers get none."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path

COMPILERS = ("cc", "gcc", "clang")


class LibraryError(Exception):
    """The compiler of this machine does not compile the library; the text is what it says."""


def compiler() -> str | None:
    """The path of a C compiler; None without one."""
    return next((found for name in COMPILERS if (found := shutil.which(name))), None)


def compile_library(cache: Path) -> Path | None:
    """The compiled library, from ``cache`` or made now; None where there is no C compiler. Raises LibraryError."""
    source = resources.files("conformance.deviceplugin") / "standins" / "driver.c"
    program = compiler()
    if program is None:
        return None
    cache.mkdir(parents=True, exist_ok=True)
    made = cache / f"driver-{hashlib.sha256(source.read_bytes() + program.encode()).hexdigest()[:16]}.so"
    if made.exists():
        return made
    with resources.as_file(source) as file, tempfile.TemporaryDirectory(dir=cache) as folder:
        half = Path(folder) / "driver.so"
        command = [program, "-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-o", str(half), str(file)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise LibraryError(f"{' '.join(command)} ended with {ran.returncode}: {ran.stderr.strip()}")
        half.rename(made)
    return made
