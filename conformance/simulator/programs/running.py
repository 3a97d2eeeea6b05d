"""From the command of a container to what it prints and how it ends."""

import posixpath
import re
from collections.abc import Sequence

import msgspec

from conformance.simulator.programs import probing, smi
from conformance.simulator.programs.view import View

_PROBE = re.compile(r".*/probes/(?P<name>[a-z_]+)\.py")
_ADDED = 50000


class Ended(msgspec.Struct, frozen=True):
    """What a program printed, its exit code, and after how many seconds it ends."""

    text: str
    code: int
    after: float = 0.0


def run(view: View, command: Sequence[str]) -> Ended | None:
    """What becomes of a command in a container; None for one that is not known, which runs until it is stopped."""
    words = _words(command)
    if not words:
        return None
    name = posixpath.basename(words[0])
    if name == "nvidia-smi":
        code, text = smi.nvidia_smi(view, words[1:])
        return Ended(text, code)
    if name == "vectorAdd":
        code, text = _vector_add(view)
        return Ended(text, code)
    script = next((found for word in words if (found := _PROBE.fullmatch(word))), None)
    if script is not None and script["name"] in probing.NAMES:
        code, text = probing.probe(script["name"], view)
        return Ended(text, code, 0.0 if code else _held(words))
    return None


def _words(command: Sequence[str]) -> list[str]:
    """The words of a command, those of ``sh -c`` taken apart where they are plain words."""
    words = list(command)
    if len(words) == 3 and posixpath.basename(words[0]) in ("sh", "bash") and words[1] == "-c":
        return words[2].split()
    return words


def _held(words: Sequence[str]) -> float:
    """How long a probe stays after its line."""
    if "--hold" not in words:
        return 0.0
    at = list(words).index("--hold") + 1
    return float(words[at]) if at < len(words) else 0.0


def _vector_add(view: View) -> tuple[int, str]:
    """The CUDA sample of that name."""
    head = f"[Vector addition of {_ADDED} elements]"
    if not view.injected or not view.devices or not view.driver:
        words = "Failed to allocate device vector A (error code no CUDA-capable device is detected)!"
        return 1, f"{words}\n{head}"
    if view.broken("fabric-manager"):
        return 1, f"Failed to allocate device vector A (error code system not yet initialized)!\n{head}"
    if view.broken("wrong-results"):
        return 1, f"{head}\nResult verification failed at element 17!"
    return 0, f"{head}\nTest PASSED\nDone"
