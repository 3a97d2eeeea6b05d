"""How long suites take on kind, beside the same ones on an embedded cluster: the same set-up, the same requirements.

    python bench/kind_suites.py [--profiles pools,scheduling,tenancy,priorities,quota] [--image made-here]

Needs a Docker daemon (DOCKER_HOST). Compared is what pytest says that the tests took; the making of the clusters comes
before that, and is in the time of the whole run beside it. Ends with 1 when kind takes more than three times as long,
or when a run fails.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

MOST_TIMES = 3.0
HOME = Path(__file__).resolve().parent.parent
SETUP = HOME / "tests" / "containers" / "kind-reference.yaml"
# What is conclusive on a cluster of two nodes; 10 is for what could not be judged.
FINE = (0, 10)
_SHOWN = 6
_TOOK = re.compile(r" in ([0-9.]+)s ")


class Ran(NamedTuple):
    """Seconds of a whole run, of its tests, and of each requirement that passed."""

    whole: float
    suites: float
    passed: dict[str, float]


def ran(cluster: list[str], profiles: str, folder: Path) -> Ran:
    """Run the profiles on a cluster. Raises RuntimeError."""
    report = folder / cluster[1]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *cluster, "--gpu-reference", str(SETUP)]
    command += ["--gpu-profile", profiles, "--gpu-report", str(report), "--gpu-deploy"]
    began = time.monotonic()
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    whole = time.monotonic() - began
    if process.returncode not in FINE:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{process.stdout[-3000:]}")
    told = json.loads((report / "report.json").read_text(encoding="utf-8"))["requirements"]
    took = _TOOK.findall(process.stdout)
    passed = {each["requirement"]: float(each["duration"]) for each in told if each["status"] == "passed"}
    return Ran(whole, float(took[-1]), passed)


def main() -> int:
    """Run both, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profiles", default="pools,scheduling,tenancy,priorities,quota")
    parser.add_argument("--image", default="made-here", help="of the nodes of kind (%(default)s)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-kind-") as name:
        embedded = ran(["--cluster", "embedded", "--gpu-topology", "single"], chosen.profiles, Path(name))
        kind = ran(["--cluster", "kind", "--gpu-cluster-image", chosen.image], chosen.profiles, Path(name))
    for where, each in (("embedded", embedded), ("kind", kind)):
        passed = len(each.passed)
        print(f"{where:9} {each.suites:7.1f} s for the tests, {passed} passed; {each.whole:7.1f} s with the cluster")
    more = {name: took - embedded.passed.get(name, 0.0) for name, took in kind.passed.items()}
    dearest = sorted(more, key=lambda name: -more[name])[:_SHOWN]
    print("dearest on kind: " + ", ".join(f"{name} +{more[name]:.1f} s" for name in dearest))
    times = kind.suites / embedded.suites
    print(f"kind takes {times:.2f} times as long (at most {MOST_TIMES})")
    return int(times > MOST_TIMES)


if __name__ == "__main__":
    sys.exit(main())
