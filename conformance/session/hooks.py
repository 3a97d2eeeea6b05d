"""What pytest calls while a run is on. Registered by the plugin only when ``--cluster`` is given."""

import copy
import difflib
import fnmatch
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conformance.catalog import PROFILES, Requirement, requirement_of
from conformance.options import Settings
from conformance.progress import Progress, QuietProgress, TerminalProgress
from conformance.report.letters import LETTERS
from conformance.report.model import Report, Verdict
from conformance.report.story import details, heading, headline, why_not_judged
from conformance.report.visible import visible
from conformance.session import catalogue, fixtures, summary
from conformance.session.fixtures import JUDGE, LAB, RUN
from conformance.session.garbage import kept_from_the_collector
from conformance.session.judging import NotRun, verdict_on
from conformance.session.live import Live, LiveHooks, Way, stream_of_terminal, told, way_for
from conformance.session.refusals import refused
from conformance.session.run import Run
from conformance.session.scenarios import SCENARIO, ScenarioHooks, Scenarios, how_many_at_once
from conformance.session.streaming import StreamHooks
from conformance.shipped import shipped
from conformance.verdict import Judge, Status, judging, noting_containers

_WORKER = "gpu_conformance"
_VERDICT = "gpu_verdict"
_LEFT_OUT = "left out by the selection"

# Statuses that pytest counts as failed, so that a run which only knows pytest's counts is never fooled.
_COUNTS_AS_FAILED = (Status.FAILED, Status.ERROR, Status.UNKNOWN)


class ConformanceHooks:
    """One pytest session's side of a run."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self.config = config
        self.worker = hasattr(config, "workerinput")
        self.settings = settings
        self.run = Run(settings, writes_reports=not self.worker)
        self.reporting = self.run.reporting
        self.opened = False
        self.told = False
        self.finished: Report | None = None
        self.other_failures = False
        self.live = LiveHooks(Live(Way.NONE, None))
        config.stash[RUN] = self.run
        config.pluginmanager.register(fixtures, "gpu-conformance-fixtures")
        if not self.worker:
            config.pluginmanager.register(StreamHooks(self.reporting), "gpu-conformance-stream")
        if config.args_source is not pytest.Config.ArgsSource.ARGS:
            config.args[:] = [str(shipped("suites"))]
        config.args += self._own_suites()

    # --- the session ---------------------------------------------------------------------------------------------

    def pytest_report_header(self) -> list[str]:
        """Say what was set, to what, and by whom."""
        shown = {name: setting for name, setting in self.settings.by_name.items() if setting.source != "default"}
        told = ", ".join(f"{n}={s.value} (from {s.source})" for n, s in shown.items())
        lines = [self.reporting.shown(f"gpu-conformance: {told}")]
        return [
            *lines,
            *(
                [self.reporting.shown(self.run.held_to.description)]
                if self.opened and self.run.held_to.is_foreign
                else []
            ),
        ]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Open the run; a cluster that cannot be opened is one usage error, not an error for each requirement."""
        if self._all_are_shipped():
            self._check_profiles()
        if self.config.option.collectonly or getattr(self.config.option, "setupplan", False):
            return
        handed_down = getattr(self.config, "workerinput", {}).get(_WORKER)
        with self._uncaptured(), refused(), self._progress() as progress:
            most = how_many_at_once(self.config, self.settings)
            self.run.open(progress, handed_down)
            self.opened = True
            self._show_progress()
        if most > 1 and self.run.cluster.snapshot is None:
            beside = ScenarioHooks(Scenarios(most, self.run.lab.stopped), self._uncaptured, self.run.lab.what_is_left)
            self.config.pluginmanager.register(beside, "gpu-conformance-scenarios")

    @contextmanager
    def _progress(self) -> Iterator[Progress]:
        if self.config.get_verbosity() < 0:
            yield QuietProgress()
            return
        with TerminalProgress() as progress, told(progress):
            yield progress

    def _show_progress(self) -> None:
        """Say from now on how far the run is, in pytest's own place where there is a terminal."""
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        if self.worker or reporter is None:
            return
        way = way_for(self.config.get_verbosity(pytest.Config.VERBOSITY_TEST_CASES), terminal=_rewrites(reporter))
        self.live = LiveHooks(Live(way, stream_of_terminal(), self.reporting.shown))
        self.config.pluginmanager.register(self.live, "gpu-conformance-live")
        if self.live.live.way is Way.LINE:
            # Letters by file and a percentage are what the line takes the place of.
            reporter.showfspath = False
            reporter._show_progress_info = False

    def _own_suites(self) -> list[str]:
        """Where requirements of the owners are; a path that is not there is told before anything begins."""
        named = [Path(each) for each in self.settings.value("suites")]
        for path in named:
            if not path.exists():
                raise pytest.UsageError(f"--gpu-suites: {path} is not there; name a folder or file of requirements")
        return [str(path.resolve()) for path in named]

    def _all_are_shipped(self) -> bool:
        """Whether every profile is known before anything is collected: suites of one's own may declare some."""
        return self.config.args == [str(shipped("suites"))]

    def _check_profiles(self) -> None:
        there = list(PROFILES.values())
        unknown = [name for name in self.settings.value("profile") if name not in there]
        if unknown:
            raise pytest.UsageError(
                f"no profile named {', '.join(unknown)}{_nearest(unknown, there)}; there are: {', '.join(there)}"
            )

    def _uncaptured(self) -> Any:
        capture = self.config.pluginmanager.getplugin("capturemanager")
        return capture.global_and_fixture_disabled() if capture is not None else nullcontext()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell an xdist worker which cluster this controller owns, and where scenarios take turns."""
        if self.opened:
            node.workerinput[_WORKER] = self.run.handed_down()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take in what an xdist worker could not put back."""
        for note in getattr(node, "workeroutput", {}).get(_WORKER, ()):
            self._take_note(note)

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        """Collect requirements without looking for garbage: what is imported and collected stays."""
        with kept_from_the_collector():
            return (yield)

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Module | None:
        """Collect the shipped suites even where the user's own ``python_files`` names no ``test_*.py``."""
        if not file_path.is_relative_to(shipped("suites")) or not fnmatch.fnmatch(file_path.name, "test_*.py"):
            return None
        if any(fnmatch.fnmatch(file_path.name, pattern) for pattern in self.config.getini("python_files")):
            return None
        return pytest.Module.from_parent(parent, path=file_path)

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what the selection does not name; an id that no requirement has is a usage error."""
        self._check_profiles()
        _check_unique(items)
        profiles, ids = set(self.settings.value("profile")), set(self.settings.value("requirement"))
        asked = self.run.asked
        if refusal := asked.refusal(profiles, ids):
            raise pytest.UsageError(refusal)
        there = {rule.id for item in items if (rule := _rule(item))}
        missing = sorted(ids - there)
        if missing:
            raise pytest.UsageError(
                f"no requirement {', '.join(missing)} is collected{_nearest(missing, sorted(there))}; "
                "`gpu-conformance catalog` lists them"
            )
        kept = [item for item in items if (r := _rule(item)) is None or asked.admits(r)]
        if profiles or ids or asked:
            named = ((item, rule) for item in kept if (rule := _rule(item)))
            kept = [item for item, r in named if r.profile in profiles or r.id in ids or asked.names(r)]
        if len(kept) < len(items):
            config.hook.pytest_deselected(items=[item for item in items if item not in kept])
            items[:] = kept

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a file that could not be collected: nobody knows what it would have said, so the run is not green."""
        self.other_failures |= report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Put everything back, write the reports, and set the exit code that they explain."""
        if not self.opened:
            return
        self._clean_up(session)
        if self.worker:
            self.config.workeroutput[_WORKER] = self.reporting.notes  # type: ignore[attr-defined]
            self.told = True
            return
        self._leave_out(session)
        self.finished = self.reporting.report(other_failures=self.other_failures)
        if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = self.finished.exit_code

    def _leave_out(self, session: pytest.Session) -> None:
        """Give a verdict to what did not run, so that part of a profile never stands for the whole.

        Under xdist only the workers know what the selection left of the catalogue.
        """
        selected = [rule for item in session.items if (rule := _rule(item))]
        self.reporting.leave_out(selected, "the session ended before its turn")
        profiles = {verdict.profile for verdict in self.reporting.verdicts.values()}
        others = [rule for rule in catalogue.requirements() if rule.profile in profiles and self.run.asked.admits(rule)]
        self.reporting.leave_out(
            others, _LEFT_OUT if selected else f"{_LEFT_OUT}, or the session ended before its turn"
        )

    def _clean_up(self, session: pytest.Session) -> None:
        """Put everything back. Somebody who interrupts that is told all the same what is left, and gets the reports."""
        failures: list[str] = []
        try:
            with self._uncaptured():
                self.run.clean_up()
        except KeyboardInterrupt:
            session.exitstatus = pytest.ExitCode.INTERRUPTED
        except Exception as error:
            failures = [str(error)]
        if left := [*self.run.left_behind, *failures]:
            self._take_note(summary.left_behind(left, self.run.clean_command))

    def _take_note(self, note: str) -> None:
        """Something is wrong that no requirement tells: the report says it, and the run is not green."""
        self.reporting.notes.append(note)
        self.other_failures = True

    def pytest_unconfigure(self) -> None:
        """Let go of the cluster, however the session ended, and say what is left on it where no summary has said it."""
        self.live.live.close()
        try:
            with self._uncaptured():
                self.run.close()
        except KeyboardInterrupt:
            # The session has ended without a run: why it could not begin must still reach the terminal.
            if self.opened:
                raise
        finally:
            if not self.told and self.run.left_behind:
                words = summary.left_behind(self.run.left_behind, self.run.clean_command)
                print(f"gpu-conformance: {words}", file=sys.stderr)

    # --- one requirement -----------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Stop what the run may not do before any fixture is set up for it; note what containers fixtures run."""
        rule = _rule(item)
        if rule is None:
            return (yield)
        item.stash[JUDGE] = Judge()
        self.run.admit(rule, asks_server="lab" in getattr(item, "fixturenames", ()))
        with noting_containers(item.stash[JUDGE]):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Let expectations find the judge of the requirement that is running."""
        if _rule(item) is None:
            return (yield)
        with judging(item.stash[JUDGE]):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Turn the way a phase ended into the requirement's verdict."""
        if call.excinfo is not None and isinstance(call.excinfo.value, NotRun):
            # pytest would make a text of where it was raised, and the verdict takes the text's place.
            call.excinfo.traceback = call.excinfo.traceback[:0]
        report = yield
        rule = _judged(item, call)
        if rule is None:
            return report
        raised = call.excinfo.value if call.excinfo is not None else None
        judge = item.stash[JUDGE] if call.when != "teardown" else Judge()
        verdict = verdict_on(
            rule, judge, raised, evidence=self.run.evidence, duration=call.duration,
            is_of_the_platform=self.run.is_of_the_platform,
        )  # fmt: skip
        verdict = _with_timeline(verdict, item)
        _retell(report, verdict if self.worker else self.reporting.record(verdict))
        return report

    @pytest.hookimpl(specname="pytest_runtest_makereport", tryfirst=True)
    def pytest_runtest_makereport_quietly(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> pytest.TestReport | None:
        """Give a report as if nothing had been raised: the verdict tells what was, and in its own words.

        pytest would parse the whole source file for each requirement that raises, to show a traceback that nobody sees:
        on a cluster where most requirements do not apply, more than all else that an audit does.
        """
        if call.excinfo is None or _judged(item, call) is None:
            return None
        quiet = copy.copy(call)
        quiet.excinfo = None
        return pytest.TestReport.from_item_and_call(item, quiet)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note failures of tests that are no requirements; under xdist, take in the workers' verdicts.

        Waivers are applied here and not by workers, so that one of them is not stale for each worker it did not meet.
        """
        given = getattr(report, _VERDICT, None)
        if given is None:
            self.other_failures |= report.failed
            return
        if hasattr(report, "node"):
            verdict = self.reporting.record(msgspec.convert(given, Verdict))
            _retell(report, verdict)
            given = getattr(report, _VERDICT)
        self.live.judged(
            report.nodeid, Status(given["status"]), f"{given['requirement']} {given['level']}  {given['title']}"
        )

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Use the statuses' own words and letters."""
        told = getattr(report, _VERDICT, None)
        if told is None:
            return None
        status = Status(told["status"])
        category = "error" if status in (Status.ERROR, Status.UNKNOWN) else str(status)
        if self.live.live.way is Way.LINE:
            return category, "", ""
        return category, LETTERS[status], status.upper()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Generator[None]:
        """Print what the verdicts add up to and where the reports are, below all else that pytest has to tell."""
        yield
        if self.finished is not None:
            summary.write(terminalreporter, self.finished, self.reporting.files, verbosity=self.config.get_verbosity())
            # A command that names a cluster by what stands for it cannot be run.
            self.told = not self.reporting.redacts


def _rewrites(reporter: Any) -> bool:
    return bool(reporter.isatty) and os.environ.get("TERM", "dumb") != "dumb"


def _nearest(unknown: Sequence[str], there: Sequence[str]) -> str:
    """What was perhaps meant, as the end of a sentence; empty where nothing is near."""
    known = {name.casefold(): name for name in there}
    near = [match for name in unknown for match in difflib.get_close_matches(name.casefold(), known, n=1)]
    return f" (did you mean {', '.join(known[name] for name in near)}?)" if near else ""


def _rule(item: pytest.Item) -> Requirement | None:
    return requirement_of(getattr(item, "function", None))


def _check_unique(items: Sequence[pytest.Item]) -> None:
    """Two tests of one id would tell one verdict for both."""
    first: dict[str, pytest.Item] = {}
    for item in items:
        rule = _rule(item)
        if rule is None:
            continue
        other = first.setdefault(rule.id, item)
        if getattr(other, "function", None) is not getattr(item, "function", None):
            raise pytest.UsageError(
                f"requirement {rule.id} is tested twice: {other.nodeid} and {item.nodeid}; give yours an id of "
                "its own, with a prefix from declare_profile()"
            )


def _judged(item: pytest.Item, call: pytest.CallInfo[None]) -> Requirement | None:
    """The requirement on which this phase's end is a verdict; an interrupt is none, and a quiet setup says nothing."""
    ended = None if call.excinfo is None else call.excinfo.value
    if isinstance(ended, (KeyboardInterrupt, pytest.exit.Exception)) or (ended is None and call.when != "call"):
        return None
    scenario = item.stash.get(SCENARIO, None)
    if scenario is not None and call.when == "call" and not scenario.told:
        return None
    return _rule(item)


def _with_timeline(verdict: Verdict, item: pytest.Item) -> Verdict:
    """The verdict with what its scenario did and saw."""
    lab = item.stash.get(LAB, None)
    if lab is None:
        return verdict
    return msgspec.structs.replace(verdict, timeline=lab.watch.steps, steps_left=lab.watch.timeline.left_out)


def _retell(report: pytest.TestReport, verdict: Verdict) -> None:
    """Make pytest's report say what the verdict says, in its outcome, its heading and its text.

    pytest puts FAILED or ERROR before the heading itself, and writes what it is given to the terminal as it is.
    """
    setattr(report, _VERDICT, msgspec.to_builtins(verdict))
    file, line, _ = report.location
    says_itself = verdict.status in (Status.FAILED, Status.ERROR)
    report.location = (file, line, heading(verdict) if says_itself else headline(verdict))
    if verdict.status in _COUNTS_AS_FAILED:
        report.outcome, report.longrepr = "failed", visible(details(verdict))
    elif verdict.status is Status.PASSED:
        report.outcome, report.longrepr = "passed", None
    else:
        report.outcome, report.longrepr = "skipped", (file, line or 0, visible(why_not_judged(verdict)))
