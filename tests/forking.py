"""Runs pytest in processes forked from one that has run it once: none of them imports anything again.

Reads a JSON line for each run (``arguments``, ``folder``, ``environment``, and ``output``, the file for what it says)
and answers with its exit code. A run is a process of its own as if it had been started anew: it shares neither memory
nor folder nor environment with those before it, and ends as Python ends.
"""

import contextlib
import gc
import io
import json
import os
import sys
import tempfile
from typing import Any

import pytest

import conformance.session.hooks  # noqa: F401 - what every run imports

# Collecting the shipped suites imports what a run imports, and contacts nobody.
COLLECT = ["--cluster", "embedded", "--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]


def import_everything() -> None:
    """Do what each run would do again, and leave no trace but modules. Raises SystemExit where that cannot be done."""
    path, said = list(sys.path), io.StringIO()
    with tempfile.TemporaryDirectory() as nowhere, contextlib.chdir(nowhere), contextlib.redirect_stdout(said):
        code = pytest.main(COLLECT)
    sys.path[:] = path
    if code != pytest.ExitCode.OK:
        sys.exit(f"the shipped suites cannot be collected:\n{said.getvalue()}")


def main() -> None:
    """Fork for each line until there are no more."""
    import_everything()
    # pytest collects garbage several times at its end, and each time looks at all that was ever imported; in a forked
    # process that copies its memory besides.
    gc.collect()
    gc.freeze()
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
