"""The image of scheduled runs without a builder of images: our wheel, what it needs, and this machine's Python.

What ci/in-cluster/image/Containerfile makes, as one OCI archive: the wheel is built and unpacked, what it depends on
is copied from the environment of the tests, and who runs, where, and what starts is read from that file.
"""

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from conformance.clusters.embedded.real import images, interpreter

CHECKOUT = Path(__file__).resolve().parents[2]
SHIPPED = CHECKOUT / "ci" / "in-cluster" / "image"
SITE = f"usr/local/lib/{interpreter.PYTHON}/site-packages"
COMMAND = "#!/usr/local/bin/python3\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"


def build(folder: Path, name: str) -> Path:
    """An archive in ``folder`` with the image, under this name."""
    contents = {**_wheel(folder), **_needed(), **_commands(folder)}
    linked = [file for file in contents.values() if file.suffix == ".so"]
    archive = folder / "nightly.tar"
    images.pack(archive, {**interpreter.files(linked), **contents}, {(name,): _settings()})
    return archive


def _wheel(folder: Path) -> dict[str, Path]:
    """What pip would install of our own wheel, and nothing of the checkout."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "site")
    return {f"{SITE}/{file.relative_to(folder / 'site')}": file for file in _files(folder / "site")}


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _needed() -> dict[str, Path]:
    """What is installed here of all that our wheel depends on."""
    found: dict[str, Path] = {}
    for each in _dependencies():
        for path in each.files or ():
            if ".." not in path.parts and path.suffix != ".pyc":
                found[f"{SITE}/{path}"] = Path(str(each.locate_file(path)))
    return found


def _dependencies() -> list[Distribution]:
    found: dict[str, Distribution] = {}
    asked = _requirements(distribution("gpu-conformance"))
    while asked:
        name = asked.pop()
        if name not in found:
            found[name] = distribution(name)
            asked += _requirements(found[name])
    return list(found.values())


def _requirements(of: Distribution) -> list[str]:
    asked = (Requirement(line) for line in of.requires or ())
    return [each.name.lower() for each in asked if each.marker is None or each.marker.evaluate({"extra": ""})]


def _commands(folder: Path) -> dict[str, Path]:
    """The commands that pip would make, and the program that the image starts."""
    made = {"usr/local/bin/gpu-conformance-nightly": _executable(folder, SHIPPED / "nightly.py")}
    for each in (*distribution("gpu-conformance").entry_points, *distribution("pytest").entry_points):
        if each.group == "console_scripts":
            script = folder / each.name
            script.write_text(COMMAND.format(module=each.module, function=each.attr))
            made[f"usr/local/bin/{each.name}"] = _executable(folder, script)
    return made


def _executable(folder: Path, script: Path) -> Path:
    text = script.read_text()
    assert text.startswith("#!")
    # There is no /usr/bin/env in an image that has only Python.
    made = folder / "bin" / script.name
    made.parent.mkdir(exist_ok=True)
    made.write_text(re.sub(r"^#!.*", "#!/usr/local/bin/python3", text))
    made.chmod(0o755)
    return made


def _settings() -> dict[str, Any]:
    """Variables, user, folder and program as the shipped file gives them to its last stage."""
    stage = (SHIPPED / "Containerfile").read_text().rpartition("\nFROM ")[2]
    said = dict(re.findall(r"^(ENV|WORKDIR|USER|ENTRYPOINT) (.+)$", stage, flags=re.MULTILINE))
    return {
        "Env": [f"PATH={images.PATH}", f"PYTHONPATH=/{SITE}", *said["ENV"].split()],
        "WorkingDir": said["WORKDIR"],
        "User": said["USER"],
        "Entrypoint": re.findall(r'"([^"]+)"', said["ENTRYPOINT"]),
    }
