"""Scenarios side by side under pytest: who may act beside whom, what is told in which order, and how it all ends."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from conformance.kube.effects import Landing
from conformance.session.scenarios import SCENARIO, ScenarioHooks, Scenarios, how_many_at_once

SOON = 90

HEAD = """
import threading, time
from conformance.catalog import *
import pytest

def scenario(id, **more):
    return requirement(id, "A rule", level=MUST, sources=["guide-1"], remedy="Mend it.", **more)

def reached(event):
    assert event.wait(90), "nobody came"
"""


class Plugin(ScenarioHooks):
    """A session without a cluster; the lab notes what happens to it."""

    def __init__(self, most: int) -> None:
        self.stopped = threading.Event()
        super().__init__(Scenarios(most, self.stopped), nullcontext, str)
        self.told: list[str] = []
        self.happened: list[str] = []
        self.events = {name: threading.Event() for name in ("one", "other", "begun", "audited")}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.rpartition("::")[2]
        if report.when == "call" or report.failed:
            self.told.append(f"{name} {report.when} {report.outcome}")
        if name == "test_audit":
            self.events["audited"].set()

    @pytest.fixture
    def world(self) -> SimpleNamespace:
        return SimpleNamespace(happened=self.happened, stopped=self.stopped, **self.events)

    @pytest.fixture
    def lab(self, request: pytest.FixtureRequest, world: SimpleNamespace) -> Iterator[SimpleNamespace]:
        lab = SimpleNamespace(closes=lambda: None)
        with ExitStack() as closing:
            closing.callback(lambda: (world.happened.append(f"{request.node.name} closed"), lab.closes()))
            yield lab
            scenario = request.node.stash.get(SCENARIO, None)
            if scenario is not None and scenario.acts:
                scenario.closes(closing.pop_all())


@pytest.fixture
def ran(pytester: pytest.Pytester) -> Callable[..., tuple[Plugin, Any]]:
    def run(text: str, *arguments: str, most: int = 4) -> tuple[Plugin, Any]:
        plugin = Plugin(most)
        pytester.makepyfile(HEAD + text)
        result = pytester.inline_run("-p", "no:cacheprovider", *arguments, plugins=[plugin], no_reraise_ctrlc=True)
        return plugin, result

    return run


BESIDE = """
@scenario("PRIO-96", pods=ON_BORROWED_NODES)
def test_one(lab, world):
    reached(world.other)
    world.happened.append("one")

@scenario("PRIO-97", pods=ON_NO_NODE)
def test_other(lab, world):
    world.other.set()

def test_audit(world):
    world.happened.append("audit")

@scenario("PRIO-98")
def test_alone(lab, world):
    world.happened.append("alone")
"""


def test_scenarios_that_say_where_their_pods_land_act_at_the_same_time_and_are_told_of_in_order(ran) -> None:
    plugin, _ = ran(BESIDE)

    assert plugin.told == [f"test_{name} call passed" for name in ("one", "other", "audit", "alone")]


def test_scenarios_that_need_the_cluster_to_themselves_come_last(ran) -> None:
    plugin, _ = ran("""
@scenario("PRIO-98")
def test_alone(lab): pass

@scenario("PRIO-96", pods=ON_BORROWED_NODES)
def test_one(lab, world):
    reached(world.other)

@scenario("PRIO-99")
def test_alone_too(lab): pass

@scenario("PRIO-97", pods=ON_NO_NODE)
def test_other(lab, world):
    world.other.set()

def test_audit(): pass
""")

    assert plugin.told == [f"test_{name} call passed" for name in ("one", "other", "audit", "alone", "alone_too")]


@pytest.mark.parametrize(
    ("one", "beside"),
    [
        ("NOWHERE", {"NOWHERE", "ON_BORROWED_NODES", "ON_PICKED_NODES", "WITHOUT_DEVICES"}),
        ("ON_BORROWED_NODES", {"NOWHERE", "ON_BORROWED_NODES", "ON_PICKED_NODES"}),
        ("ON_PICKED_NODES", {"NOWHERE", "ON_BORROWED_NODES", "ON_PICKED_NODES"}),
        ("WITHOUT_DEVICES", {"NOWHERE", "WITHOUT_DEVICES"}),
        ("ANYWHERE", set()),
    ],
)
def test_who_may_act_beside_whom(one: str, beside: set[str]) -> None:
    assert {other.name for other in Landing if Landing[one].allows(other)} == beside


def test_scenarios_without_devices_act_at_the_same_time_and_only_when_those_with_nodes_have_ended(ran) -> None:
    plugin, _ = ran("""
@scenario("PRIO-98")
def test_alone(lab, world):
    world.happened.append("alone")

@scenario("PRIO-94", pods=WITHOUT_DEVICES)
def test_one(lab, world):
    world.happened.append("one")
    reached(world.other)

@scenario("PRIO-96", pods=ON_PICKED_NODES)
def test_with_nodes(lab, world):
    time.sleep(0.05)
    world.happened.append("with nodes")

@scenario("PRIO-95", pods=WITHOUT_DEVICES)
def test_other(lab, world):
    world.other.set()
""")

    assert plugin.told == [f"test_{name} call passed" for name in ("with_nodes", "one", "other", "alone")]
    acts = [each for each in plugin.happened if each != "test_other closed"]
    assert acts == ["with nodes", "test_with_nodes closed", "one", "test_one closed", "alone", "test_alone closed"]


PAUSE = """
@scenario("PRIO-95", pods=ON_NO_NODE)
def test_one(lab, world):
    world.happened.append("one")

@scenario("PRIO-98", pause=90)
def test_alone(lab, world): pass

@scenario("PRIO-96", pods=ON_NO_NODE, pause=10)
def test_long(lab, world):
    world.happened.append("long")
    reached(world.other)

def test_audit(): pass

@scenario("PRIO-97", pods=ON_NO_NODE)
def test_last(lab, world):
    reached(world.audited)
    world.other.set()
"""

FAILING_AUDIT = """
def test_audit(world):
    world.other.set()
    raise ValueError
"""


def test_a_scenario_that_the_cluster_lets_wait_begins_first_and_keeps_back_no_verdict_of_others(ran) -> None:
    plugin, _ = ran(PAUSE)

    assert plugin.happened[0] == "long"
    told = [each.split()[0] for each in plugin.told]
    assert told.index("test_long") > told.index("test_audit")
    assert [each for each in told if each != "test_long"] == ["test_one", "test_audit", "test_last", "test_alone"]
    assert len(told) == len(set(told)) == 5
    assert all(each.endswith("passed") for each in plugin.told)


def test_a_pause_that_has_begun_is_told_of_when_the_run_ends_early(ran) -> None:
    plugin, _ = ran(PAUSE.replace("def test_audit(): pass", FAILING_AUDIT), "--maxfail=1")

    assert set(plugin.told) == {"test_one call passed", "test_audit call failed", "test_long call passed"}


def test_a_scenario_whose_pods_land_anywhere_begins_when_all_others_have_cleaned_up(ran) -> None:
    plugin, _ = ran(BESIDE)

    at = plugin.happened.index("alone")
    assert {"one", "test_one closed", "test_other closed"} <= set(plugin.happened[:at])
    assert plugin.happened[at:] == ["alone", "test_alone closed"]


def test_no_more_act_at_once_than_is_allowed(ran) -> None:
    more = "".join(
        f"""
@scenario("PRIO-9{number}", pods=ON_NO_NODE)
def test_{number}(lab, world):
    world.happened.append("in")
    time.sleep(0.02)
    world.happened.append("out")
"""
        for number in range(4)
    )

    plugin, _ = ran(more, most=1)

    assert [each for each in plugin.happened if "closed" not in each] == ["in", "out"] * 4


def test_what_a_scenario_and_its_clean_up_raise_is_told_of_them(ran) -> None:
    plugin, result = ran("""
@scenario("PRIO-96", pods=ON_NO_NODE)
def test_wrong(lab):
    raise ValueError("not as expected")

@scenario("PRIO-97", pods=ON_NO_NODE)
def test_untidy(lab):
    def closes():
        raise ValueError("cannot be undone")
    lab.closes = closes
""")

    assert plugin.told == ["test_wrong call failed", "test_untidy call passed", "test_untidy teardown failed"]
    failed = [report for report in result.getreports("pytest_runtest_logreport") if report.failed]
    assert "not as expected" in failed[0].longreprtext
    assert "cannot be undone" in failed[1].longreprtext


def test_a_scenario_that_cannot_be_set_up_never_begins(ran) -> None:
    plugin, _ = ran("""
@pytest.fixture
def node(lab):
    raise ValueError("no node")

@scenario("PRIO-96", pods=ON_NO_NODE)
def test_one(node, world):
    world.happened.append("begun")
""")

    assert plugin.told == ["test_one setup failed"]
    assert plugin.happened == ["test_one closed"]


def test_after_the_first_failure_those_that_have_begun_are_told_of_and_no_others_begin(ran) -> None:
    plugin, _ = ran(
        """
@scenario("PRIO-96", pods=ON_NO_NODE)
def test_wrong(lab, world):
    reached(world.begun)
    raise ValueError

@scenario("PRIO-97", pods=ON_NO_NODE)
def test_begun(lab, world):
    world.begun.set()

@scenario("PRIO-98")
def test_next(lab, world):
    world.happened.append("next")
""",
        "--maxfail=1",
    )

    assert plugin.told == ["test_wrong call failed", "test_begun call passed"]
    assert "next" not in plugin.happened


def test_who_interrupts_stops_what_acts_and_leaves_its_clean_up_to_the_run(ran) -> None:
    plugin, result = ran("""
@scenario("PRIO-96", pods=ON_NO_NODE)
def test_one(lab, world):
    world.begun.set()
    reached(world.stopped)
    raise KeyboardInterrupt

def test_pressed(world):
    reached(world.begun)
    raise KeyboardInterrupt
""")

    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert plugin.told == []
    assert plugin.happened == []
    assert not plugin.stopped.is_set()
    assert not [each for each in threading.enumerate() if each.name == "test_one"]


def settings(cluster: str, chosen: str | None = None) -> Any:
    return SimpleNamespace(value={"cluster": cluster, "parallel_scenarios": chosen}.get)


def test_nodes_of_others_are_borrowed_by_one_scenario_at_a_time_unless_more_are_allowed() -> None:
    plain = SimpleNamespace(option=SimpleNamespace())

    assert how_many_at_once(plain, settings("staging")) == 1
    assert how_many_at_once(plain, settings("staging", "3")) == 3
    assert how_many_at_once(plain, settings("kind:theirs")) == 1
    assert all(how_many_at_once(plain, settings(own)) > 1 for own in ("embedded", "embedded:kept", "kind", "k3s"))
    assert how_many_at_once(plain, settings("embedded", "1")) == 1
    debugged = SimpleNamespace(option=SimpleNamespace(usepdb=True))
    assert how_many_at_once(debugged, settings("embedded", "3")) == 1
    assert how_many_at_once(SimpleNamespace(workerinput={}, option=SimpleNamespace()), settings("embedded")) == 1


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "1.5"])
def test_a_number_of_scenarios_that_is_none_is_a_usage_error(wrong: str) -> None:
    with pytest.raises(pytest.UsageError, match=rf"--gpu-parallel-scenarios is '{wrong}': give a number above 0"):
        how_many_at_once(SimpleNamespace(option=SimpleNamespace()), settings("embedded", wrong))


LOGGING = """
import logging

def test_audit(world):
    loggers = logging.root.manager.loggerDict
    for number, _ in zip(range(3), loggers.values()):
        logging.getLogger(f"of a scenario beside it {number}")
    assert "of a scenario beside it 2" in loggers
"""


def test_a_scenario_may_make_loggers_while_pytest_looks_through_them(ran):
    _, result = ran(LOGGING)

    result.assertoutcome(passed=1)
