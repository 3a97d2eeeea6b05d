"""``--processes N``: tests run in N processes that are forked from the one that collected them.

Collecting takes seconds of CPU, which each process of xdist pays again, and its reports go through a serializer written
in Python: for tests that take milliseconds, both cost more than the tests. Here they are collected once, each process
inherits them, and reports come back through a pipe. The processes take groups (side_by_side.py) off one list; a process
that dies costs the test that it ran, and another one takes its place.
"""

import itertools
import os
import sys
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, NoReturn

import pytest
from side_by_side import group_of, processes_without_clusters

Location = tuple[str, int | None, str]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option to those of the project's own tests."""
    parser.getgroup("tests of gpu-conformance").addoption(
        "--processes",
        metavar="N",
        type=lambda text: processes_without_clusters() if text == "auto" else int(text),
        default=None,
        help="run tests in N processes forked after collection (auto: for tests that need no cluster)",
    )


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run what was collected; None where pytest, or xdist, is to do that."""
    option = session.config.option
    if not option.processes or option.collectonly or getattr(option, "numprocesses", None) is not None:
        return None
    if session.testsfailed and not option.continue_on_collection_errors:
        raise session.Interrupted(f"{session.testsfailed} files cannot be collected")
    _Processes(session).run(option.processes)
    return True


@dataclass
class _Process:
    """One of the processes, as the collecting one knows it: what is left of its groups, and the test that it is at."""

    pid: int
    pipe: Connection
    left: deque[int]
    at: tuple[str, Location] | None = None


@dataclass
class _Processes:
    """The collecting process: deals groups, and hears what became of their tests."""

    session: pytest.Session
    groups: deque[list[int]] = field(init=False)
    alive: dict[Connection, _Process] = field(default_factory=dict)

    def __post_init__(self) -> None:
        found: dict[str, list[int]] = {}
        for at, item in enumerate(self.session.items):
            found.setdefault(group_of(item.nodeid), []).append(at)
        self.groups = deque(found.values())

    def run(self, count: int) -> None:
        # The folder is made once, so that the processes number theirs below it.
        _folders(self.session.config).getbasetemp()
        # Files take turns too quickly for a line of each.
        self.session.config.pluginmanager.getplugin("terminalreporter").showfspath = False
        try:
            for _ in range(min(count, len(self.groups))):
                self._begin(self.groups.popleft())
            while self.alive:
                for pipe in wait([*self.alive]):
                    self._hear(self.alive[pipe])  # type: ignore[index]
        finally:
            for process in self.alive.values():
                process.pipe.close()
                os.waitpid(process.pid, 0)
        if self.session.shouldfail:
            raise self.session.Failed(self.session.shouldfail)
        if self.session.shouldstop:
            raise self.session.Interrupted(self.session.shouldstop)

    def _begin(self, group: Sequence[int]) -> None:
        ours, theirs = Pipe()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        pid = os.fork()
        if pid == 0:
            for process in self.alive.values():
                process.pipe.close()
            ours.close()
            _work(self.session, theirs, group)
        theirs.close()
        self.alive[ours] = _Process(pid, ours, deque(group))

    def _hear(self, process: _Process) -> None:
        hook = self.session.config.hook
        try:
            what, told = process.pipe.recv()
        except (EOFError, ConnectionError):
            self._bury(process)
            return
        if what == "began":
            process.at = told
            process.left.popleft()
            hook.pytest_runtest_logstart(nodeid=told[0], location=told[1])
        elif what == "report":
            report = hook.pytest_report_from_serializable(config=self.session.config, data=told)
            hook.pytest_runtest_logreport(report=report)
        elif what == "ended":
            process.at = None
            hook.pytest_runtest_logfinish(nodeid=told[0], location=told[1])
        else:
            process.left.extend(group := self._next())
            process.pipe.send(group)

    def _next(self) -> list[int]:
        stopped = self.session.shouldfail or self.session.shouldstop
        return [] if stopped or not self.groups else self.groups.popleft()

    def _bury(self, process: _Process) -> None:
        """End with a process. If it died, the test that it was at failed, and another process does what it left."""
        process.pipe.close()
        del self.alive[process.pipe]
        _, status = os.waitpid(process.pid, 0)
        if status == 0:
            return
        if process.at is not None:
            nodeid, location = process.at
            said = f"the process ended (exit code {os.waitstatus_to_exitcode(status)}) while it ran {nodeid}"
            died = pytest.TestReport(nodeid, location, {}, "failed", said, "call")
            self.session.config.hook.pytest_runtest_logreport(report=died)
        if left := list(process.left) or self._next():
            self._begin(left)


class _Teller:
    """In a process: tells the collecting one what it would say itself."""

    def __init__(self, config: pytest.Config, pipe: Connection) -> None:
        self._config, self._pipe = config, pipe

    def pytest_runtest_logstart(self, nodeid: str, location: Location) -> None:
        self._pipe.send(("began", (nodeid, location)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._pipe.send(("report", data))

    def pytest_runtest_logfinish(self, nodeid: str, location: Location) -> None:
        self._pipe.send(("ended", (nodeid, location)))


def _work(session: pytest.Session, pipe: Connection, group: Sequence[int]) -> NoReturn:
    """Be one of the processes until there is no group left. Nothing of the collecting one is undone at the end."""
    code = 1
    try:
        _become(session, pipe)
        for item, following in _with_following(session.items, pipe, group):
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.shouldfail or session.shouldstop:
                session._setupstate.teardown_exact(None)
                break
        code = 0
    except (KeyboardInterrupt, ConnectionError):
        pass  # the collecting process was interrupted as well, or is no more
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _become(session: pytest.Session, pipe: Connection) -> None:
    """Have a folder, a capture of output and a listener of one's own; the terminal is the collecting process's."""
    config = session.config
    manager = config.pluginmanager
    manager.unregister(name="terminalreporter")
    manager.register(_Teller(config, pipe))
    folders = _folders(config)
    folders._basetemp = folders.getbasetemp() / f"process-{os.getpid()}"
    folders._basetemp.mkdir()
    # Its files would be those of all processes.
    if capture := manager.getplugin("capturemanager"):
        capture.stop_global_capturing()
        capture.start_global_capturing()
        capture.suspend_global_capture(in_=True)


def _with_following(
    items: Sequence[pytest.Item], pipe: Connection, group: Sequence[int]
) -> Iterator[tuple[pytest.Item, pytest.Item | None]]:
    """Each test with the one after it, whose fixtures stay: the next group is asked for before the last test of one."""
    while group:
        for at, after in itertools.pairwise(group):
            yield items[at], items[after]
        pipe.send(("next", None))
        last, group = group[-1], pipe.recv()
        yield items[last], items[group[0]] if group else None


def _folders(config: pytest.Config) -> Any:
    return config._tmp_path_factory  # type: ignore[attr-defined]
