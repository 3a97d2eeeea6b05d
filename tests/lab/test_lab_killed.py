import signal
from types import SimpleNamespace

import pytest
from lab_runs import RUN_ID, abandon, lab_on, rule
from memory_cluster import Killed, MemoryCluster, killed_after

from conformance.gpu.taints import Taint
from conformance.lab import Lab, clean
from conformance.lab.pod_effects import SAFE_CEILING

GPU_NODE = SimpleNamespace(name="gpu-1")


def cluster() -> MemoryCluster:
    memory = MemoryCluster()
    memory.node("gpu-1", gpus=2, taints=({"key": "gpu", "value": "yes", "effect": "NoSchedule"},), tier="gold")
    memory.add("Namespace", "team")
    memory.add("ConfigMap", "theirs", "team", data={"a": "b"})
    return memory


def act(memory: MemoryCluster, lab: Lab) -> None:
    with lab, lab.for_requirement(rule()) as scenario:
        with scenario.borrow(GPU_NODE, taints=[Taint("gpu", "no", "NoSchedule")]) as node:
            low = scenario.priority_class("low", value=SAFE_CEILING - 1)
            scenario.fill(node, priority=low, held=True)
            node.label(tier=None, grade="a")
            resource = scenario.fake_gpus(node, 3)
            scenario.deployment(on=node, tolerates=node, gpus=1, resource=resource)
            memory.evict("gpuc-abcdefgh-prio-99-default-1", "filler-1")
        scenario.quota(scenario.namespace(), {"pods": 1})


def writes() -> list[int]:
    """The requests after which the cluster is not what it was before: a kill matters after these only."""
    memory = cluster()
    act(memory, lab_on(memory))
    return [number for number, request in enumerate(memory.requests) if not request.startswith("GET")]


WRITES = writes()


def test_an_undisturbed_run_leaves_everything_as_it_was() -> None:
    memory = cluster()
    before = memory.everything()

    act(memory, lab_on(memory))

    assert memory.everything() == before


@pytest.mark.parametrize("number", WRITES)
def test_clean_restores_everything_after_a_kill_at_any_write(number: int) -> None:
    memory = cluster()
    before = memory.everything()
    lab = lab_on(memory)
    memory.accident = killed_after(number)
    with pytest.raises(Killed):
        act(memory, lab)
    abandon(lab)
    memory.accident = lambda number, when: None

    cleaned = clean(memory.client(), RUN_ID, force=True)

    assert cleaned.left == ()
    assert memory.everything() == before
    assert clean(memory.client()).runs == ()


@pytest.mark.parametrize("number", WRITES)
def test_ctrl_c_after_any_write_restores_everything(number: int) -> None:
    memory = cluster()
    before = memory.everything()
    memory.accident = lambda now, when: signal.raise_signal(signal.SIGINT) if (now, when) == (number, "after") else None

    with pytest.raises(KeyboardInterrupt):
        act(memory, lab_on(memory))

    assert memory.everything() == before


def test_a_second_ctrl_c_aborts_and_says_what_is_left_and_how_to_remove_it(capsys: pytest.CaptureFixture[str]) -> None:
    memory = cluster()
    before = memory.everything()
    lab = lab_on(memory)

    def impatient(number: int, when: str) -> None:
        if memory.requests[-1].startswith("DELETE") and when == "before":
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    memory.accident = impatient
    with pytest.raises(KeyboardInterrupt):
        act(memory, lab)
    memory.accident = lambda number, when: None

    said = capsys.readouterr().err
    assert "press Ctrl-C again" in said
    assert f"gpu-conformance clean --cluster NAME {RUN_ID}" in said
    assert "priority class gpuc-abcdefgh-prio-99-low-1" in said
    abandon(lab)
    clean(memory.client(), RUN_ID, force=True)
    assert memory.everything() == before
