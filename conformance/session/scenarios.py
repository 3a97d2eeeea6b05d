"""Scenarios side by side: while one waits, others act on other nodes; what is reported keeps the order of the tests.

pytest sets a requirement up and tears it down in its turn, in the main thread. Of a scenario that declares where its
pods land (``@requirement(pods=...)``) the function itself then runs in a thread, which cleans its lab up at the end.
One whose cluster lets it wait long (``pause``) begins first, and is told when it has ended. All others wait until
nothing else acts. See docs/decisions/0012-scenarios-side-by-side.md.
"""

import contextvars
import inspect
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from conformance.catalog import requirement_of
from conformance.kube.effects import Landing
from conformance.lab.cleanup.undo import interrupts_deferred
from conformance.options import Settings

__all__ = ["SCENARIO", "Scenario", "ScenarioHooks", "Scenarios", "how_many_at_once"]

# On a cluster that is there for the run alone: an embedded one, and one in containers that the run makes.
AT_ONCE_ON_OWN = 4
_OWN = ("embedded", "container", "kind", "k3s")

# Those that no scenario with nodes of its own may be beside, in the order in which they come after all others.
_LAST: dict[Landing | None, int] = {Landing.WITHOUT_DEVICES: 1, Landing.ANYWHERE: 2}

# How pytest ends its loop where nobody pressed anything: --maxfail, and what other plugins ask for.
_ENDED_EARLY = (pytest.Session.Failed, pytest.Session.Interrupted)
_LOOK_AGAIN = 0.5
"""Seconds between two looks at the threads: whoever presses Ctrl-C meanwhile is heard at once."""


def how_many_at_once(config: pytest.Config, settings: Settings) -> int:
    """How many scenarios may act at the same time: as chosen, else several where the nodes are nobody's.

    One under xdist, whose workers take turns, and where a debugger wants the terminal. Raises UsageError for what is no
    number above 0.
    """
    chosen = settings.value("parallel_scenarios")
    if chosen is not None and not (str(chosen).isdecimal() and int(chosen) > 0):
        raise pytest.UsageError(f"--gpu-parallel-scenarios is {chosen!r}: give a number above 0, such as 4")
    if hasattr(config, "workerinput") or getattr(config.option, "usepdb", False):
        return 1
    if chosen is not None:
        return int(chosen)
    cluster = settings.value("cluster")
    return AT_ONCE_ON_OWN if cluster in _OWN or cluster.startswith("embedded:") else 1


class Scenario:
    """The function of one requirement in a thread of its own, and the clean-up that follows it."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self.raised: BaseException | None = None
        self.failed_to_close: BaseException | None = None
        self.started = self.stopped = 0.0
        self.ended = self.told = False
        self._on_end = on_end
        self._closing = ExitStack()
        self._handed_over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def acts(self) -> bool:
        """Whether it has been started and has not cleaned up yet."""
        return self._thread is not None and not self.ended

    def start(self, item: pytest.Function) -> None:
        """Call the test function with what pytest has set up for it; expectations find their judge as they do here."""
        arguments = {name: item.funcargs[name] for name in inspect.signature(item.obj).parameters}
        act = contextvars.copy_context().run
        self.started = time.time()
        self._thread = threading.Thread(
            target=self._act, args=(lambda: act(item.obj, **arguments),), name=item.name, daemon=True
        )
        self._thread.start()

    def closes(self, closing: ExitStack) -> None:
        """Leave to the thread what is to be closed after the function."""
        self._closing = closing
        self._handed_over.set()

    def nothing_to_close(self) -> None:
        """Let the thread end when the function does."""
        self._handed_over.set()

    def join(self) -> None:
        """Wait for its end."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(_LOOK_AGAIN)

    def _act(self, function: Callable[[], object]) -> None:
        try:
            self.raised = _raised_by(function)
            self.stopped = time.time()
            self._handed_over.wait()
            if not isinstance(self.raised, KeyboardInterrupt):
                # Of an interrupted one the run takes back what it did, in the main thread: see Lab.end.
                self.failed_to_close = _raised_by(self._closing.close)
        finally:
            self.ended = True
            self._on_end()


SCENARIO = pytest.StashKey[Scenario]()


@dataclass(eq=False)
class _Turn:
    """One item and its reports, which are told when all before it have been told, but for what ``pauses``."""

    item: pytest.Item
    landing: Landing | None = None
    pauses: bool = False
    reports: list[pytest.TestReport] = field(default_factory=list)
    scenario: Scenario | None = None
    ready: bool = False
    announced: bool = False


class Scenarios:
    """Runs the items of a session: at most ``most`` scenarios at once, which send nothing while ``stopped`` is set."""

    def __init__(self, most: int, stopped: threading.Event) -> None:
        self._most = most
        self._stopped = stopped
        self._turns: deque[_Turn] = deque()
        self._changed = threading.Condition()

    def run(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """Set one item up, run it or let it begin, tear it down, and tell what is known by then, in order."""
        landing = _landing(item)
        turn = _Turn(item, landing, pauses=_pause(item) > 0)
        if landing is not None:
            self._wait_until_it_may_begin(landing)
            self._tell()
            _stop_where_asked(item.session)
        if landing not in (None, Landing.ANYWHERE):
            turn.scenario = item.stash[SCENARIO] = Scenario(self._wake)
        self._turns.append(turn)
        self._tell()
        try:
            turn.reports = runtestprotocol(item, log=False, nextitem=nextitem)
        finally:
            if turn.scenario is not None:
                turn.scenario.nothing_to_close()
        turn.ready = True
        self._tell()
        if nextitem is None:
            self.finish()

    def finish(self) -> None:
        """Wait for every scenario that has begun, and tell how it ended."""
        self._wait_while(lambda: any(turn.ready for turn in self._turns))

    def stop(self) -> None:
        """Let scenarios send nothing more, and wait until they have ended; what they did is still to be undone."""
        self._stopped.set()
        for turn in self._turns:
            if turn.scenario is not None:
                turn.scenario.nothing_to_close()
                turn.scenario.join()
        self._turns.clear()
        self._stopped.clear()

    def _wait_until_it_may_begin(self, landing: Landing) -> None:
        self._wait_while(lambda: not self._may_begin(landing))

    def _may_begin(self, landing: Landing) -> bool:
        acting = [turn.landing for turn in self._turns if turn.scenario is not None and turn.scenario.acts]
        return not acting or (len(acting) < self._most and all(other and landing.allows(other) for other in acting))

    def _wait_while(self, condition: Callable[[], bool]) -> None:
        while True:
            self._tell()
            with self._changed:
                if not condition():
                    return
                if not self._news():
                    self._changed.wait(_LOOK_AGAIN)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _news(self) -> bool:
        """Whether one of the next items could be told of."""
        return any(_is_over(turn) for turn in self._next())

    def _next(self) -> list[_Turn]:
        """The items of which one may be told before all others: those that pause, up to the first that does not."""
        first = next((at for at, turn in enumerate(self._turns) if not turn.pauses), len(self._turns))
        return list(self._turns)[: first + 1]

    def _tell(self) -> None:
        """Report what has ended, up to the first item that has not."""
        while following := self._next():
            turn = next((turn for turn in following if _is_over(turn)), following[-1])
            hook, where = turn.item.ihook, {"nodeid": turn.item.nodeid, "location": turn.item.location}
            if not turn.announced:
                turn.announced = True
                hook.pytest_runtest_logstart(**where)
            if not _is_over(turn):
                return
            self._turns.remove(turn)
            for report in _reports(turn):
                hook.pytest_runtest_logreport(report=report)
            hook.pytest_runtest_logfinish(**where)


class ScenarioHooks:
    """What pytest calls while several scenarios may act at once; registered only then.

    ``what_is_left`` tells whoever aborts the stopping what is still there.
    """

    def __init__(
        self,
        scenarios: Scenarios,
        uncaptured: Callable[[], AbstractContextManager[object]],
        what_is_left: Callable[[], str],
    ) -> None:
        self._scenarios = scenarios
        self._uncaptured = uncaptured
        self._what_is_left = what_is_left

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Let the longest pause begin first, so that most fits into it, and those come last that need to be alone.

        Each of these in between would end what acts side by side. So would one without devices among those with nodes
        of their own, and the other way round.
        """
        items.sort(key=lambda item: (_LAST.get(_landing(item), 0), -_pause(item)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run the item beside scenarios that act meanwhile."""
        self._scenarios.run(item, nextitem)
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """Let a scenario that may have others beside it act in a thread of its own."""
        scenario = pyfuncitem.stash.get(SCENARIO, None)
        if scenario is None:
            return None
        scenario.start(pyfuncitem)
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, Any, Any]:
        """Leave no scenario behind: one that has begun is told of or, when somebody interrupts, stopped."""
        _let_loggers_come()
        try:
            return (yield)
        except _ENDED_EARLY:
            self._scenarios.finish()
            raise
        except BaseException:
            with self._uncaptured(), interrupts_deferred("stopping what is being tried", self._what_is_left):
                self._scenarios.stop()
            raise


class _Loggers(dict[str, Any]):
    """The loggers of this process by name, of which more may come while somebody looks through them."""

    def values(self) -> list[Any]:  # type: ignore[override]
        return list(super().values())


def _let_loggers_come() -> None:
    """Let threads import modules that make loggers at any time.

    pytest 9.2 looks through all loggers in each phase of each test (_pytest/logging.py, catching_logs): a requirement
    failed with "dictionary changed size during iteration" because a scenario beside it imported something.
    """
    manager = logging.root.manager
    if not isinstance(manager.loggerDict, _Loggers):
        manager.loggerDict = _Loggers(manager.loggerDict)


def _landing(item: pytest.Item) -> Landing | None:
    """Where the pods of an item may land; None for one that does nothing to the cluster."""
    rule = requirement_of(getattr(item, "function", None))
    if rule is None or "lab" not in getattr(item, "fixturenames", ()):
        return None
    return rule.pods


def _pause(item: pytest.Item) -> float:
    """How many seconds the cluster lets an item wait while others may act; 0 for one that needs to be alone."""
    rule = requirement_of(getattr(item, "function", None))
    return rule.pause if rule is not None and _landing(item) not in (None, Landing.ANYWHERE) else 0.0


def _stop_where_asked(session: pytest.Session) -> None:
    """Raise what pytest's loop raises before an item, for one that waited while others failed (--maxfail) or ended."""
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)


def _is_over(turn: _Turn) -> bool:
    return turn.ready and (turn.scenario is None or not turn.scenario.acts)


def _reports(turn: _Turn) -> list[pytest.TestReport]:
    """The reports of an item, those of a scenario's own phases made from how its thread ended."""
    scenario = turn.scenario
    if scenario is None or not scenario.ended:
        return turn.reports
    ended = {"call": scenario.raised, "teardown": scenario.failed_to_close}
    return [
        report
        if report.when not in ended or (report.when == "teardown" and not scenario.failed_to_close)
        else _report(turn.item, report.when, ended[report.when], scenario)
        for report in turn.reports
    ]


def _report(item: pytest.Item, when: Any, raised: BaseException | None, scenario: Scenario) -> pytest.TestReport:
    scenario.told = True
    call: pytest.CallInfo[None] = pytest.CallInfo.from_call(lambda: _raise(raised), when=when)
    if when == "call":
        call.start, call.stop, call.duration = scenario.started, scenario.stopped, scenario.stopped - scenario.started
    report: pytest.TestReport = item.ihook.pytest_runtest_makereport(item=item, call=call)
    return report


def _raised_by(act: Callable[[], object]) -> BaseException | None:
    try:
        act()
    except BaseException as error:
        return error
    return None


def _raise(error: BaseException | None) -> None:
    if error is not None:
        raise error
