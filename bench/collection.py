"""What the plugin costs a session that does not use it: `pytest --co` with it, as a ratio of the same without it.

Runs alternate in one process tree, and minimums are compared, because the machines that run this are shared.
Usage: python bench/collection.py [runs]
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 1.05
TESTS = 200


def seconds(folder: Path, *arguments: str) -> float:
    """CPU seconds of one `pytest --co` in ``folder``, children included."""
    before = os.times()
    command = [sys.executable, "-m", "pytest", "--co", "-q", "-p", "no:cacheprovider", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    after = os.times()
    return (after.children_user + after.children_system) - (before.children_user + before.children_system)


def main() -> int:
    """Print both minimums and their ratio; 1 when the ratio is beyond the limit."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.joinpath("test_many.py").write_text("".join(f"def test_{n}(): pass\n" for n in range(TESTS)))
        seconds(folder)
        with_plugin, without = [], []
        for _ in range(runs):
            with_plugin.append(seconds(folder))
            without.append(seconds(folder, "-p", "no:gpu-conformance"))
    ratio = min(with_plugin) / min(without)
    print(f"with the plugin     {min(with_plugin):.3f} s CPU (minimum of {runs})")
    print(f"without the plugin  {min(without):.3f} s CPU (minimum of {runs})")
    print(f"ratio               {ratio:.3f} (limit {LIMIT})")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    start = time.monotonic()
    code = main()
    print(f"took {time.monotonic() - start:.0f} s")
    sys.exit(code)
