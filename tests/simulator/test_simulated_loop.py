"""The loop that drives the parts: nothing is lost, nothing is done twice at once, and no part stops another."""

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE

from conformance.clusters.embedded import EmbeddedSpec
from conformance.simulator.actors import Loop
from conformance.simulator.devices import Registrations
from conformance.simulator.process import main
from conformance.simulator.roster import roster
from conformance.simulator.settings import PARTS, Settings
from conformance.simulator.world import World

CLIENT: Any = None  # no actor talks to a cluster before it has something to do

NODE = {"metadata": {"name": "n"}}


def test_every_part_has_its_name_in_the_settings_and_can_be_left_out(tmp_path: Path) -> None:
    def names(*without: str) -> tuple[str, ...]:
        actors = roster(World(CLIENT), Registrations(), Loop(), Settings(tmp_path, without=without))
        return tuple(actor.name for actor in actors)

    assert names() == PARTS
    assert set(PARTS) - set(names("operator", "upgrade")) == {"operator", "upgrade"}


def test_a_part_that_does_not_exist_is_refused_with_those_that_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="no part gpu: it has kubelet, nfd"):
        EmbeddedSpec(without_parts=("operator", "gpu"))
    with pytest.raises(ValueError, match="no simulator"):
        EmbeddedSpec(without_parts=("operator",), simulator=False)
    with pytest.raises(SystemExit):
        main(["--kubeconfig=none", "--logs=none", "--without=gpu"])
    assert "no part gpu" in capsys.readouterr().err


class Recording:
    """A part that says what it is asked, and does what a test wants."""

    watches = ("Node",)

    def __init__(self, name: str, does: Callable[[str], float | None] = lambda key: None) -> None:
        self.name = name
        self.does = does
        self.seen: list[str] = []

    def keys(self, kind: str, obj: dict[str, Any], deleted: bool) -> Iterable[str]:
        return (obj["metadata"]["name"],)

    def reconcile(self, key: str) -> float | None:
        self.seen.append(key)
        return self.does(key)


class Mistaken(Recording):
    def keys(self, kind: str, obj: dict[str, Any], deleted: bool) -> Iterable[str]:
        raise KeyError("spec")


def eventually(claim: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not claim() and time.monotonic() < deadline:
        time.sleep(0.01)
    return claim()


def test_a_part_that_misreads_an_object_keeps_it_from_no_other_part() -> None:
    good = Recording("good")
    loop = Loop([Mistaken("bad"), good])
    loop.start()

    loop.changed("Node", NODE, deleted=False)

    assert eventually(lambda: good.seen == ["n"])


def test_what_failed_is_tried_again() -> None:
    attempts = iter([ValueError("first"), None])

    def fail_once(key: str) -> None:
        if error := next(attempts):
            raise error

    part = Recording("part", fail_once)
    loop = Loop([part])
    loop.start()

    loop.wake("part", "n")

    assert eventually(lambda: part.seen == ["n", "n"])


def test_a_key_is_never_with_two_workers_and_a_change_meanwhile_is_not_lost() -> None:
    inside, most, gate = 0, 0, threading.Event()

    def count(key: str) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        gate.wait(10)
        inside -= 1

    part = Recording("part", count)
    loop = Loop([part])
    loop.start()

    loop.wake("part", "n")
    assert eventually(lambda: part.seen == ["n"])
    for _ in range(5):
        loop.wake("part", "n")
    time.sleep(0.1)
    assert part.seen == ["n"]
    gate.set()

    assert eventually(lambda: part.seen == ["n", "n"])
    assert most == 1


def test_a_part_is_asked_again_after_the_time_that_it_wants() -> None:
    part = Recording("part", lambda key: 0.05)
    loop = Loop([part])
    loop.start()

    loop.wake("part", "n")

    assert eventually(lambda: len(part.seen) >= 3)
