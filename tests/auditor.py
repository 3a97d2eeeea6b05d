"""Audits one snapshot after another in one process, which spares each audit the start of an interpreter.

Reads a JSON line for each (``id``, ``snapshot``, ``folder``, ``reference`` where it is not the shipped one, and further
``options``) and answers with one (``id``, ``exit_code``, ``output``).
"""

import contextlib
import gc
import io
import json
import sys

import pytest

from conformance.session.set_up import SHIPPED_REFERENCE


def main() -> None:
    answers = sys.stdout
    for line in sys.stdin:
        asked = json.loads(line)
        reference = ["--gpu-reference", asked.get("reference", SHIPPED_REFERENCE)]
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = pytest.main(
                [
                    "-p",
                    "no:cacheprovider",
                    "-p",
                    "no:hypothesispytest",
                    "--cluster",
                    f"snapshot:{asked['snapshot']}",
                    "--gpu-report",
                    asked["folder"],
                    *reference,
                    *asked.get("options", []),
                ]
            )
        if not gc.get_freeze_count():
            # Every audit collects garbage several times; the modules that the first one imported are none.
            gc.collect()
            gc.freeze()
        answer = {"id": asked["id"], "exit_code": int(code), "output": said.getvalue()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
