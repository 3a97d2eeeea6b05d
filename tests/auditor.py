"""Audits one snapshot after another, each in a process forked from one that has collected the requirements once.

Reads a JSON line for each (``id``, ``snapshot``, ``folder``, ``reference`` where it is not the shipped one, and further
``options``) and answers with one (``id``, ``exit_code``, ``output``). An audit of a small cluster is for the most part
pytest's start and collection, which are the same for all of them.
"""

import contextlib
import gc
import io
import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterable
from typing import Any

import junit_xml  # noqa: F401 - what every audit imports at its end
import pytest

from conformance import options
from conformance.session.hooks import ConformanceHooks
from conformance.session.set_up import SHIPPED_REFERENCE

# What pytest has for tests of other kinds. Requirements use none of it, and most is asked in each of their phases.
UNUSED = (
    "cacheprovider", "doctest", "faulthandler", "hypothesispytest", "junitxml", "logging", "pastebin", "setuponly",
    "setupplan", "stepwise", "threadexception", "unittest", "unraisableexception", "xdist", "xdist.looponfail",
)  # fmt: skip

# What the session that collects was asked for, and audits are not.
SET_ANEW = ("collectonly", "file_or_dir", "gpu_cluster")

# What the plugin registers for a run; each audit registers its own.
RUN_PLUGINS = ("gpu-conformance-run", "gpu-conformance-fixtures", "gpu-conformance-stream")


class Forks:
    """In a session that collects and contacts nobody: forks it for each audit that is asked for."""

    def __init__(self, asked: Iterable[str], said: io.StringIO) -> None:
        self.asked = asked
        self.said = said
        self.items: list[pytest.Item] = []
        self.answer: dict[str, Any] | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep what was collected for the audits, each of which selects from it."""
        if not self.items:
            self.items = list(items)
            items.clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Fork for each audit and wait for it; the forked process goes on from here as the session of its audit."""
        for item in self.items:
            # Worked out once and kept; each process would do so for itself.
            _ = item.location
        # Who collects garbage writes to all that was ever made, and would copy the memory that processes share.
        gc.collect()
        gc.freeze()
        for line in self.asked:
            child = os.fork()
            if child == 0:
                asked = json.loads(line)
                self.answer = {"id": asked["id"]}
                self._become(session, ["--cluster", f"snapshot:{asked['snapshot']}", *_more(asked)])
                return
            _, status = os.waitpid(child, 0)
            if status != 0:
                raise RuntimeError(f"an audit ended with {os.waitstatus_to_exitcode(status)}: {line}")

    def _become(self, session: pytest.Session, arguments: list[str]) -> None:
        """Do what a session with these arguments has done when its tests begin to run, except for collecting."""
        self.said.seek(0)
        self.said.truncate()
        config, items = session.config, session.items
        usual = {name: value for name, value in vars(config.option).items() if name not in SET_ANEW}
        config.option = config._parser.parse(arguments, Namespace(**usual))
        for name in RUN_PLUGINS:
            config.pluginmanager.unregister(name=name)
        hooks = ConformanceHooks(config, options.resolve(config))
        config.pluginmanager.register(hooks, RUN_PLUGINS[0])
        hooks.pytest_sessionstart()
        items[:] = self.items
        config.hook.pytest_collection_modifyitems(session=session, config=config, items=items)
        config.hook.pytest_collection_finish(session=session)
        session.testscollected = len(items)


def _more(asked: dict[str, Any]) -> list[str]:
    reference = asked.get("reference", SHIPPED_REFERENCE)
    return ["--gpu-report", asked["folder"], "--gpu-reference", reference, *asked.get("options", [])]


def main() -> None:
    """Answer each line, until there are no more."""
    answers, said = sys.stdout, io.StringIO()
    # All at once: what pytest captures, it gives nothing to read.
    forks = Forks(sys.stdin.readlines(), said)
    left_out = [argument for name in UNUSED for argument in ("-p", f"no:{name}")]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = int(pytest.main([*left_out, "--cluster", "embedded", "--collect-only"], [forks]))
    if forks.answer is None:
        if code != pytest.ExitCode.NO_TESTS_COLLECTED:
            sys.exit(said.getvalue())
        return
    print(json.dumps({**forks.answer, "exit_code": code, "output": said.getvalue()}), file=answers, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
