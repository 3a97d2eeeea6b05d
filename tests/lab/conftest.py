"""A cluster in memory, and scenarios on it."""

from collections.abc import Callable, Iterator

import pytest
from lab_runs import lab_on, rule
from memory_cluster import MemoryCluster

from conformance.kube.effects import Effect
from conformance.lab import Lab, RequirementLab, borrowing
from conformance.verdict import Judge, judging


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods are bound at once here."""
    monkeypatch.setattr(borrowing, "BINDING_SECONDS", 0.0)


@pytest.fixture
def memory() -> MemoryCluster:
    """Two GPU nodes with a taint, one ordinary node, a namespace of somebody else, and two classes."""
    cluster = MemoryCluster()
    for name in ("gpu-1", "gpu-2"):
        cluster.node(name, gpus=4, taints=({"key": "gpu", "value": "yes", "effect": "NoSchedule"},), pool="gpu")
    cluster.node("cpu-1")
    for namespace in ("default", "kube-system", "team"):
        cluster.add("Namespace", namespace)
    cluster.add("PriorityClass", "high", value=1000)
    cluster.add("PriorityClass", "patient", value=2000, preemptionPolicy="Never")
    return cluster


@pytest.fixture
def judge() -> Iterator[Judge]:
    """Collects the expectations of the test."""
    with judging(Judge()) as judge:
        yield judge


@pytest.fixture
def lab(memory: MemoryCluster) -> Iterator[Lab]:
    """A full run."""
    with lab_on(memory) as lab:
        yield lab


@pytest.fixture
def scenario(lab: Lab) -> Iterator[RequirementLab]:
    """The lab of a disruptive requirement."""
    with lab.for_requirement(rule()) as scenario:
        yield scenario


@pytest.fixture
def scenario_of(lab: Lab) -> Callable[[Effect], RequirementLab]:
    """The lab of a requirement with a given effect."""
    return lambda effect: lab.for_requirement(rule(effect))
