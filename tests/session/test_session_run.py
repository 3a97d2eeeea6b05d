"""The end of a run that deployed: what interrupts it, and how what is left reaches whoever ran it."""

import gc
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest

from conformance.deploy import ForeignObject, Withdrawn
from conformance.facts import Facts
from conformance.kube.effects import Mode
from conformance.kube.errors import ApiError, WaitTimeout
from conformance.options import OPTIONS, Setting, Settings
from conformance.progress import SilentProgress
from conformance.remains import Left
from conformance.session import hooks
from conformance.session import run as running
from conformance.session.cluster import OpenCluster
from conformance.session.hooks import ConformanceHooks
from conformance.session.reporting import Reporting
from conformance.session.run import Run
from conformance.verdict import Inconclusive

SERVING = Left("Namespace ml-serving", "is not of this deployment")
RELABELLED = Left("node a100-1", "label node-type=fast was changed by somebody else")
SILENT = Left("node a100-1", "no answer")
RELEASE = "Helm release gpu-operator/gpu-operator (gpu-operator v26.7.0)"


class LabInMemory:
    """A lab without a cluster. ``finds`` is what it cannot undo, ``releases`` are those on record that stay."""

    finds: tuple[Left, ...] = ()
    releases: tuple[str, ...] = ()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.journal = SimpleNamespace(installed=self.releases)
        self.left_behind: list[Left] = []
        self.ended = False

    def __enter__(self) -> "LabInMemory":
        return self

    def __exit__(self, *error: object) -> None:
        self.ended = True
        self.left_behind += self.finds

    def what_is_left(self) -> str:
        return "left on the cluster: the set-up"


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What a run stands on, in memory: ``deploy`` and ``withdraw`` may be exchanged, ``lab`` is the class of labs."""
    lab = type("Lab", (LabInMemory,), {})
    world = SimpleNamespace(
        lab=lab, deploy=lambda: SimpleNamespace(notes=[]), withdraw=lambda: Withdrawn((), (), ())
    )  # fmt: skip

    @contextmanager
    def opened(*arguments: Any) -> Iterator[OpenCluster]:
        yield OpenCluster("staging", "kubeconfig", Mode.FULL)

    monkeypatch.setattr(running, "open_cluster", opened)
    monkeypatch.setattr(running, "Lab", lab)
    monkeypatch.setattr(running, "deploy", lambda *arguments, **named: world.deploy())
    monkeypatch.setattr(running, "withdraw", lambda *arguments, **named: world.withdraw())
    monkeypatch.setattr(running, "read", lambda *arguments, **named: Facts({}))
    monkeypatch.setattr(Run, "client", object())
    return world


def settings() -> Settings:
    names = {option.ini.removeprefix("gpu_"): () if option.many else None for option in OPTIONS}
    chosen: dict[str, Any] = names | {"cluster": "staging", "deploy": True}
    return Settings({name: Setting(value, "default") for name, value in chosen.items()})


def opened_run() -> Run:
    run = Run(settings(), writes_reports=False)
    run.open(SilentProgress())
    return run


@pytest.mark.parametrize("error", [None, Inconclusive("no nodes")], ids=["facts", "no facts"])
def test_the_garbage_collector_is_away_only_while_facts_are_read(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    seen = []

    def read(*arguments: Any, **named: Any) -> Any:
        seen.append(gc.isenabled())
        if error is not None:
            raise error
        return Facts({})

    monkeypatch.setattr(running, "read", read)
    with suppress(Inconclusive):
        opened_run()

    assert seen == [False]
    assert gc.isenabled()


def interrupted(times: int, done: list[str]) -> Callable[[], Withdrawn]:
    """Withdrawing during which Ctrl-C is pressed."""

    def withdraw() -> Withdrawn:
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        done.append("withdrawn")
        return Withdrawn((), (), (RELABELLED,))

    return withdraw


def test_an_interrupt_waits_until_the_set_up_is_withdrawn(world, capsys) -> None:
    done: list[str] = []
    world.withdraw = interrupted(1, done)
    run = opened_run()

    with pytest.raises(KeyboardInterrupt):
        run.clean_up()

    assert done == ["withdrawn"]
    assert run.left_behind == [RELABELLED]
    assert "withdrawing the reference set-up; press Ctrl-C again to abort that" in capsys.readouterr().err


def test_a_second_interrupt_aborts_it_says_what_is_left_and_the_lab_still_ends(world, capsys) -> None:
    done: list[str] = []
    world.withdraw = interrupted(2, done)
    run = opened_run()

    with pytest.raises(KeyboardInterrupt):
        run.clean_up()

    assert done == []
    assert "left on the cluster: the set-up" in capsys.readouterr().err
    assert run._lab is not None
    assert run._lab.ended  # type: ignore[attr-defined]


def test_what_withdrawing_leaves_is_left_behind_but_no_object_of_others(world) -> None:
    world.withdraw = lambda: Withdrawn((), (), (SERVING, RELABELLED))
    run = opened_run()

    run.clean_up()

    assert run.left_behind == [RELABELLED]


def test_what_the_lab_finds_again_is_told_once(world) -> None:
    world.withdraw, world.lab.releases = lambda: Withdrawn((), (), (Left(RELEASE, "timed out"),)), (RELEASE,)
    world.lab.finds = (Left(RELEASE, "run: helm uninstall gpu-operator"), Left("Namespace gpu-operator", "still there"))
    run = opened_run()

    run.clean_up()

    assert run.left_behind == [f"{RELEASE}: timed out", "Namespace gpu-operator: still there"]


def test_a_node_may_keep_one_thing_by_withdrawing_and_another_by_the_lab(world) -> None:
    world.withdraw, world.lab.finds = lambda: Withdrawn((), (), (RELABELLED,)), (SILENT,)
    run = opened_run()

    run.clean_up()

    assert run.left_behind == [RELABELLED, "node a100-1: no answer"]


def test_an_error_while_withdrawing_hides_nothing_that_the_lab_names(world) -> None:
    def withdraw() -> Withdrawn:
        raise ApiError(500, "InternalError", "etcd is gone", "GET", "/api/v1/nodes")

    world.withdraw, world.lab.finds = withdraw, (SILENT,)
    run = opened_run()

    run.clean_up()

    assert len(run.left_behind) == 2
    assert "etcd is gone" in run.left_behind[0]
    assert run.left_behind[1] == "node a100-1: no answer"


def test_what_is_still_going_is_left_to_the_lab_to_name(world) -> None:
    def withdraw() -> Withdrawn:
        raise WaitTimeout("everything is gone", 120, "Namespace ml-serving still there")

    world.withdraw = withdraw
    run = opened_run()

    run.clean_up()

    assert run.left_behind == []


# --- how it reaches the terminal ---------------------------------------------------------------------------------


def hooked(monkeypatch: pytest.MonkeyPatch) -> ConformanceHooks:
    """The hooks of a session that has nothing but them."""
    plugins = SimpleNamespace(register=lambda *plugin: None, getplugin=lambda name: None)
    config: Any = SimpleNamespace(
        stash={},
        pluginmanager=plugins,
        args=[],
        args_source=pytest.Config.ArgsSource.ARGS,
        option=SimpleNamespace(collectonly=False),
        get_verbosity=lambda *kind: -1,
    )
    monkeypatch.setattr(hooks, "Run", lambda settings, **named: Run(settings, writes_reports=False))
    return ConformanceHooks(config, settings())


def refuse() -> Any:
    raise ForeignObject("guide", ["Namespace ml-serving is there and not ours"])


def test_a_deployment_that_fails_says_what_it_leaves_and_how_to_remove_it(world, monkeypatch, capsys) -> None:
    world.deploy, world.lab.finds = refuse, (SILENT,)
    session = hooked(monkeypatch)

    with pytest.raises(pytest.UsageError, match="was not deployed"):
        session.pytest_sessionstart()
    session.pytest_unconfigure()

    said = capsys.readouterr().err
    assert f"node a100-1: no answer. Run: gpu-conformance clean --cluster staging {session.run.id}" in said


def test_a_deployment_that_fails_and_leaves_nothing_says_nothing_more(world, monkeypatch, capsys) -> None:
    world.deploy, world.withdraw = refuse, lambda: Withdrawn((), (), (SERVING,))
    session = hooked(monkeypatch)

    with suppress(pytest.UsageError):
        session.pytest_sessionstart()
    session.pytest_unconfigure()

    assert capsys.readouterr().err == ""


def test_an_interrupt_after_a_failed_deployment_does_not_hide_why_it_failed(world, monkeypatch, capsys) -> None:
    world.deploy, world.withdraw = refuse, interrupted(1, [])
    session = hooked(monkeypatch)
    with suppress(pytest.UsageError):
        session.pytest_sessionstart()

    session.pytest_unconfigure()

    assert RELABELLED in capsys.readouterr().err


def test_an_interrupted_clean_up_still_writes_the_report_and_names_what_is_left_once(
    world, monkeypatch, capsys
) -> None:
    world.withdraw = interrupted(1, [])
    session = hooked(monkeypatch)
    session.pytest_sessionstart()
    monkeypatch.setattr(Reporting, "report", lambda reporting, **named: SimpleNamespace(exit_code=1))
    monkeypatch.setattr(hooks.summary, "write", lambda *shown, **how: print(*session.reporting.notes))
    of_pytest: Any = SimpleNamespace(exitstatus=pytest.ExitCode.OK, items=[])

    session.pytest_sessionfinish(of_pytest)
    list(session.pytest_terminal_summary(SimpleNamespace()))  # type: ignore[arg-type]
    session.pytest_unconfigure()

    said = capsys.readouterr()
    assert of_pytest.exitstatus == pytest.ExitCode.INTERRUPTED
    assert f"{RELABELLED}. Run: gpu-conformance clean --cluster staging {session.run.id}" in said.out
    assert RELABELLED not in said.err


def test_without_a_summary_what_is_left_is_said_at_the_very_end(world, monkeypatch, capsys) -> None:
    world.withdraw = lambda: Withdrawn((), (), (RELABELLED,))
    session = hooked(monkeypatch)
    session.pytest_sessionstart()

    session.pytest_unconfigure()

    assert RELABELLED in capsys.readouterr().err
