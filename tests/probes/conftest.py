"""Probes run as pods run them, with a driver that is made up: two libraries from C and an nvidia-smi from shell."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from conformance import probes

SOURCE = Path(__file__).with_name("fake_driver.c")
PROGRAMS = Path(probes.__file__).parent
SMI = """#!/bin/sh
[ -n "$FAKE_SMI_HANGS" ] && exec sleep 600
[ -n "$FAKE_SMI_EXIT" ] && { echo "Failed to initialize NVML"; exit "$FAKE_SMI_EXIT"; }
if [ "$1" = -L ]; then
  echo "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-00000000-0000-0000-0000-000000000000)"
  number=0
  while [ "$number" -lt "${FAKE_MIG:-0}" ]; do
    echo "  MIG 1g.5gb      Device  $number: (UUID: MIG-00000000-0000-0000-0000-00000000001$number)"
    number=$((number + 1))
  done
else
  echo "a table"
fi
"""


HURRIED = """
import importlib, json, sys
module = importlib.import_module(f"conformance.probes.{sys.argv[1]}")
vars(module).update(json.loads(sys.argv[2]))
sys.exit(module.main(sys.argv[3:]))
"""


class Said(NamedTuple):
    """What a probe's process said."""

    code: int
    record: dict[str, Any]
    output: str


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the libraries of a driver."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the made-up driver with")
    folder = tmp_path_factory.mktemp("driver")
    library = folder / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
    shutil.copy(library, folder / "libnvidia-ml.so.1")
    smi = folder / "nvidia-smi"
    smi.write_text(SMI)
    smi.chmod(0o755)
    return folder


class Running(NamedTuple):
    """A probe that has been started."""

    process: subprocess.Popen[str]

    def said(self, timeout: float = 60) -> Said:
        """What it says in the end, of which one line is marked."""
        try:
            output, errors = self.process.communicate(timeout=timeout)
        finally:
            self.stop()
        lines = [line for line in output.splitlines() if line.startswith("GPU-CONFORMANCE-PROBE ")]
        assert len(lines) == 1, output + errors
        return Said(self.process.returncode, json.loads(lines[0].partition(" ")[2]), output + errors)

    def stop(self) -> None:
        """End it, if it has not ended."""
        with self.process:
            self.process.kill()


def start(probe: str, *arguments: str, patience: dict[str, float] | None = None, **variables: str) -> Running:
    """Start a probe; ``patience`` are names of its module and the seconds, or rounds, that they stand for."""
    program = [str(PROGRAMS / f"{probe}.py")] if patience is None else ["-c", HURRIED, probe, json.dumps(patience)]
    process = subprocess.Popen(
        [sys.executable, *program, *arguments],
        env={"PATH": os.environ["PATH"], **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return Running(process)


@pytest.fixture(scope="session")
def said() -> Callable[..., Said]:
    """Run a probe without any driver, with these arguments and variables; its one marked line is read."""
    return lambda probe, *arguments, **options: start(probe, *arguments, **options).said()


@pytest.fixture(scope="session")
def started_with_driver(driver: Path) -> Callable[..., Running]:
    """Start a probe with the driver; FAKE_ variables say what is wrong with it."""
    found = {"LD_LIBRARY_PATH": str(driver), "PATH": f"{driver}:{os.environ['PATH']}"}
    return lambda probe, *arguments, **options: start(probe, *arguments, **{**found, **options})


@pytest.fixture(scope="session")
def with_driver(started_with_driver: Callable[..., Running]) -> Callable[..., Said]:
    """Run a probe with the driver to its end."""
    return lambda probe, *arguments, **options: started_with_driver(probe, *arguments, **options).said()
