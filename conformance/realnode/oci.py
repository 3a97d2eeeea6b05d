"""Before a container is created: ``python oci.py ARGUMENTS OF runc``. Only containers of stand-in images are changed.

A node without a way out has no image of NVIDIA's and none of a workload. What stands in for them is one image of ours
under all their names, and whatever their containers were told to run becomes the program of that image, which is told
the container's name, its image, and the command (conformance/deviceplugin/standins/program.py).
"""

import json
import sys
from pathlib import Path

MARK = "GPU_CONFORMANCE_STAND_IN=1"
"""The variable of a stand-in image's configuration."""

PROGRAM = ["/usr/local/bin/python3", "-I", "-S", "/usr/local/lib/gpu-conformance/program.py"]
_NEEDED = ("/usr/local/bin", "/usr/local/lib", "/usr/lib", "/lib64", "/lib")
_NAME, _IMAGE = "io.kubernetes.cri.container-name", "io.kubernetes.cri.image-name"


def change(specification: dict) -> bool:  # type: ignore[type-arg]
    """Put the stand-in's program into an OCI runtime specification; whether it was one of a stand-in's."""
    process, annotations = specification["process"], specification.get("annotations") or {}
    if MARK not in (process.get("env") or ()):
        return False
    told = [annotations.get(_NAME, ""), annotations.get(_IMAGE, "")]
    process["args"] = [*PROGRAM, *told, *(process.get("args") or ())]
    process["cwd"] = "/"
    mounts = specification.get("mounts") or []
    specification["mounts"] = [each for each in mounts if not _hides(each["destination"])]
    return True


def _hides(place: str) -> bool:
    """Whether a mount, such as an operand's of the host's /usr/local, would hide what the program needs."""
    return any(f"{needed}/".startswith(f"{place.rstrip('/')}/") for needed in _NEEDED)


def main(arguments: list[str]) -> None:
    """Change the specification in the folder that ``--bundle`` names."""
    at = arguments.index("--bundle") + 1
    file = Path(arguments[at]) / "config.json"
    specification = json.loads(file.read_bytes())
    if change(specification):
        file.write_text(json.dumps(specification), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
