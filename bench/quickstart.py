"""How long the whole quickstart run takes once the binaries are there: wall seconds, minimum of several.

Usage: python bench/quickstart.py [runs]
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 90.0


def main() -> int:
    """Print each run and the minimum; 1 when the minimum is beyond the limit or a run was not green."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    taken = []
    for number in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            command = [sys.executable, "-m", "pytest", "--cluster", "embedded", "-q", "-p", "no:cacheprovider"]
            ended = subprocess.run(command, cwd=Path(folder), check=False, capture_output=True, text=True)
            taken.append(time.monotonic() - started)
        print(f"run {number + 1}: {taken[-1]:.1f} s, exit code {ended.returncode}")
        if ended.returncode:
            print(ended.stdout[-3000:])
            return 1
    print(f"minimum {min(taken):.1f} s (limit {LIMIT:.0f} s)")
    return int(min(taken) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
