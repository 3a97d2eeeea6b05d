"""Runs pytest in processes forked from one that has imported everything: each spares itself half a second of imports.

Reads a JSON line for each run (``arguments``, ``folder``, ``environment``, and ``output``, the file for what it says)
and answers with its exit code. A run is a process of its own as if it had been started anew: it shares neither memory
nor folder nor environment with those before it, and ends as Python ends.
"""

import json
import os
import sys
from typing import Any

import pytest

import conformance.session.hooks  # noqa: F401 - what every run imports


def main() -> None:
    """Fork for each line until there are no more."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(asked: dict[str, Any]) -> None:
    """Become what ``python -m pytest`` in the folder is. Raises SystemExit with pytest's exit code."""
    output = os.open(asked["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
        os.dup2(source, stream)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    # The first entry is the folder of the program; for ``-m`` it is where one stands.
    sys.path[0] = asked["folder"]
    sys.argv = ["pytest", *asked["arguments"]]
    sys.exit(pytest.main())


if __name__ == "__main__":
    main()
