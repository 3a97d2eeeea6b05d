"""Runs pytest in processes forked from one that has run it once: none of them imports anything again.

Reads a JSON line for each run (``arguments``, ``folder``, ``environment``, and ``output``, the file for what it says)
and answers with its exit code. A run is a process of its own as if it had been started anew: it shares neither memory
nor folder nor environment with those before it. It ends as Python ends, but for one thing: nobody takes modules apart
that the next run needs as well, which would copy all of their memory.
"""

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import sys
import tempfile
import threading
from typing import Any, NoReturn

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
        asked = json.loads(line)
        if "--gpu-kubeconfig" in asked["arguments"]:
            # Whoever speaks to a living cluster needs it, and it takes as long as half of all others.
            importlib.import_module("kubernetes.config")
        child = os.fork()
        if child == 0:
            run(asked)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(asked: dict[str, Any]) -> NoReturn:
    """Become what ``python -m pytest`` in the folder is, and end with pytest's exit code."""
    output = os.open(asked["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
        os.dup2(source, stream)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    # The first entry is the folder of the program; for ``-m`` it is where one stands.
    sys.path[0] = asked["folder"]
    sys.argv = ["pytest", *asked["arguments"]]
    try:
        code = int(pytest.main())
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    # What the interpreter does at its end, in its order: threads that are to end do, then what was registered for it.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
