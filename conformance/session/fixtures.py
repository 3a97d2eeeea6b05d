"""What suites ask for by name: facts, reference, judge, lab, timeouts. There only while a run is on."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from conformance.catalog import requirement_of
from conformance.facts import Facts
from conformance.gpu.drivers import DriverVersion
from conformance.kube.timeouts import Timeouts
from conformance.lab import RequirementLab
from conformance.reference import Reference
from conformance.session.run import Run
from conformance.session.scenarios import SCENARIO
from conformance.upgrading.baseline import Baseline
from conformance.verdict import Judge

RUN = pytest.StashKey[Run]()
JUDGE = pytest.StashKey[Judge]()
LAB = pytest.StashKey[RequirementLab]()


@pytest.fixture(scope="session")
def facts(pytestconfig: pytest.Config) -> Facts:
    """What was read from the cluster before the first requirement: immutable, indexed, never refreshed."""
    return pytestconfig.stash[RUN].facts


@pytest.fixture(scope="session")
def reference(pytestconfig: pytest.Config) -> Reference:
    """The declared set-up that the cluster is held to."""
    return pytestconfig.stash[RUN].held_to


@pytest.fixture(scope="session")
def timeouts(pytestconfig: pytest.Config) -> Timeouts:
    """The named timeouts of this run, in seconds."""
    return pytestconfig.stash[RUN].timeouts


@pytest.fixture(scope="session")
def target_driver(pytestconfig: pytest.Config) -> DriverVersion:
    """The driver that is to be installed; only requirements of such a run ask for it (--gpu-pre-upgrade)."""
    return pytestconfig.stash[RUN].asked.required_driver


@pytest.fixture(scope="session")
def target_operator(pytestconfig: pytest.Config) -> tuple[int, int, int]:
    """The GPU Operator that is to be installed; only requirements of such a run ask for it."""
    return pytestconfig.stash[RUN].asked.required_operator


@pytest.fixture(scope="session")
def target_kubernetes(pytestconfig: pytest.Config) -> tuple[int, int]:
    """The Kubernetes that is to be installed; only requirements of such a run ask for it."""
    return pytestconfig.stash[RUN].asked.required_kubernetes


@pytest.fixture(scope="session")
def before(pytestconfig: pytest.Config) -> Baseline:
    """What the cluster had before its upgrade; only requirements of such a run ask for it (--gpu-post-upgrade)."""
    return pytestconfig.stash[RUN].asked.required_baseline


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Judge:
    """Judges one subject after the other: ``judge(node, expected=..., actual=..., ok=...)``."""
    return request.node.stash[JUDGE]  # type: ignore[no-any-return]


@pytest.fixture
def lab(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Iterator[RequirementLab]:
    """The only way in which a requirement changes the cluster; it cleans everything up."""
    rule = requirement_of(getattr(request.node, "function", None))
    if rule is None:
        raise pytest.UsageError(f"{request.node.nodeid} uses the lab but is no @requirement, so nothing bounds it")
    with ExitStack() as closing:
        bench = closing.enter_context(pytestconfig.stash[RUN].lab_for(rule))
        request.node.stash[LAB] = bench
        yield bench
        scenario = request.node.stash.get(SCENARIO, None)
        if scenario is not None and scenario.acts:
            scenario.closes(closing.pop_all())
