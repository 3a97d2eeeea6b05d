"""Every requirement notices its fault, and its neighbours do not."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import seeded
from audits import audits
from kubeconfigs import context_of
from patience import PATIENCE

from conformance.catalog import PROFILES
from conformance.clusters.embedded import EmbeddedCluster, EmbeddedSpec, start
from conformance.clusters.embedded.components import SCHEDULER, Components
from conformance.clusters.embedded.control_plane import trust
from conformance.clusters.embedded.simulated_installer import SimulatedInstaller
from conformance.deploy import deploy
from conformance.doctor.needs import NEEDS
from conformance.facts import snapshot
from conformance.facts.kinds import KINDS
from conformance.kube.client import Client
from conformance.kube.timeouts import EMBEDDED
from conformance.progress import SilentProgress, TerminalProgress
from conformance.reference import load
from conformance.session import catalogue
from conformance.session.scenarios import AT_ONCE_ON_OWN
from conformance.shipped import shipped

pytestmark = pytest.mark.cluster

# What the default set-up leaves out (KAI, a RuntimeClass, ComputeDomains), and what stacks lack by default or no
# version has yet.
_OF_DRA = {"DRA-17", "DRA-18", "DRA-19"}
NOT_JUDGED = {"OBS-07", "WORK-16", "WORK-17", *_OF_DRA, *(f"GANG-0{number}" for number in range(1, 6))}

# No scheduler evicts anybody for DRA devices yet, so there is nothing that could be broken (KEP-5690).
WITHOUT_FAULT = {"DRA-17"}

SIDE_BY_SIDE = 2

# Among how many clusters the faults of living clusters are dealt out, where tests run side by side. All of one are in
# one process; each cluster is shown to be sound again after its last fault, by a whole run: more of them cost more.
CLUSTERS = 2 if "PYTEST_XDIST_WORKER" in os.environ else 1

EVERY = [*seeded.faults("static"), *seeded.faults("live")]


def living_faults():
    """Each fault that shows only in action; the id says on which cluster, or with whom it has one (side_by_side.py)."""
    own = [each for each in seeded.faults("live") if each.needs_own_cluster]
    first = {each.own_cluster: each.id for each in reversed(own)}
    apart = [pytest.param(each, id=f"{each.id}@cluster of {first[each.own_cluster]}") for each in own]
    shared = [each for each in seeded.faults("live") if not each.needs_own_cluster]
    dealt = [pytest.param(each, id=f"{each.id}@{cluster(number)}") for number, each in enumerate(shared)]
    return [*dealt, *apart]


def cluster(number):
    return f"cluster {number % CLUSTERS + 1}"


@pytest.fixture(scope="module")
def deployed(request):
    """A cluster of bare machines with the reference set-up deployed for good, as its owners would have it."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        running = start(EmbeddedSpec(topology="guide"), TerminalProgress())
    with running, running.client() as client:
        result = deploy(client, load(shipped("fixtures/reference")), timeouts=EMBEDDED, installer=SimulatedInstaller())
        assert not result.not_ready
        assert not result.notes
        yield Deployed(client, running)


@pytest.fixture(scope="module")
def sound_objects(deployed):
    return list(snapshot.take(deployed.client).plain_objects())


@dataclass(frozen=True)
class Deployed:
    client: Client
    running: EmbeddedCluster

    @property
    def kubeconfig(self) -> Path:
        return self.running.kubeconfig

    @contextmanager
    def scheduling(self, overlay):
        """With a scheduler whose configuration is overlaid, afterwards with its own again."""
        if overlay is None:
            yield
            return
        usual = self._scheduler_configuration.read_text()
        overlaid = Components({}, self.running.layout, EmbeddedSpec(scheduler_config=overlay))
        self._restart_scheduler(json.dumps(overlaid.scheduler_configuration()))
        try:
            yield
        finally:
            self._restart_scheduler(usual)

    @property
    def _scheduler_configuration(self) -> Path:
        return self.running.folder / "scheduler.yaml"

    def _restart_scheduler(self, configuration):
        processes = self.running.processes
        scheduler = processes.components[SCHEDULER]
        processes.stop(SCHEDULER)
        self._scheduler_configuration.write_text(configuration)
        processes.start(scheduler)
        processes.wait_ready([scheduler], trust(self.running.layout), deadline=time.monotonic() + PATIENCE)


class OwnClusters:
    """The cluster that the last fault with flags needed: the next with the same flags finds it there."""

    def __init__(self, held):
        self._held = held
        self._made_of = ""
        self._last = None

    def of(self, fault):
        if self._made_of != fault.own_cluster:
            self._made_of = ""
            self._held.close()
            spec = EmbeddedSpec(
                topology=fault.given.topology,
                apiserver_flags=fault.apiserver,
                controller_manager_flags=fault.controllers,
            )
            running = self._held.enter_context(start(spec, SilentProgress()))
            client = self._held.enter_context(running.client())
            deploy(client, load(shipped(f"fixtures/{fault.given.reference}")), installer=SimulatedInstaller())
            self._made_of, self._last = fault.own_cluster, Deployed(client, running)
        return self._last


@pytest.fixture(scope="module")
def own_clusters():
    with ExitStack() as held:
        yield OwnClusters(held)


def living(kubeconfig, *more):
    """The arguments of a full run on a cluster that lives on, with waits as short as its control plane is quick.

    Its nodes are nobody's: scenarios act side by side, as on embedded clusters that a run starts for itself.
    """
    return [
        "--cluster", context_of(kubeconfig), "--gpu-kubeconfig", str(kubeconfig), "--gpu-mode", "full",
        "--gpu-reference", "corrected-guide", "--gpu-timeout", "hold=1",
        "--gpu-timeout", "running=10", "--gpu-timeout", "scheduled=10", "--gpu-timeout", "evicted=10",
        "--gpu-timeout", "condition=10", "--gpu-timeout", "quota_counted=6",
        "--gpu-parallel-scenarios", str(AT_ONCE_ON_OWN), *more,
    ]  # fmt: skip


def noticed(outcome, fault):
    assert outcome.report, outcome.output
    assert outcome.ids("failed") == set(fault.fails), outcome.output
    assert outcome.ids("error") == set(fault.errors), outcome.output
    assert outcome.ids("waiting") == set(fault.waits), outcome.output
    for requirement in fault.fails:
        told = outcome.told(requirement)
        assert fault.says.lower() in told.lower(), f"{requirement} does not say {fault.says!r}: {told}"
    assert outcome.not_advised(fault.advises) == {}


@pytest.fixture(scope="module")
def audited(request, sound_objects, tmp_path_factory):
    """The outcome of auditing each static fault that was selected, by its id; several audits run side by side."""
    selected = {item.callspec.params["fault"].id for item in request.session.items if is_static(item)}
    folder = tmp_path_factory.mktemp("audits")
    asked = []
    for fault in seeded.faults("static"):
        if fault.id in selected:
            broken = folder / f"{fault.id}.json.gz"
            snapshot.save(seeded.an_hour_later(snapshot.Snapshot.of(seeded.broken(sound_objects, fault))), broken)
            options = fault.options(sound_objects, folder)
            asked.append({"id": fault.id, "snapshot": str(broken), "options": options})
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        shares = pool.map(lambda share: audits(share, folder), [asked[at::SIDE_BY_SIDE] for at in range(SIDE_BY_SIDE)])
    return {id: outcome for share in shares for id, outcome in share.items()}


def is_static(item):
    return item.name.startswith(test_a_fault_that_can_be_read_is_noticed_offline.__name__)


@pytest.mark.parametrize("fault", seeded.faults("static"), ids=lambda fault: fault.id)
def test_a_fault_that_can_be_read_is_noticed_offline(fault, audited):
    noticed(audited[fault.id], fault)


@contextmanager
def broken_down(fault, request):
    """A living cluster that has the fault: the shared one, or one of those where flags make it."""
    if fault.needs_own_cluster:
        deployed = request.getfixturevalue("own_clusters").of(fault)
    else:
        deployed = request.getfixturevalue("deployed")
    with deployed.scheduling(fault.scheduler_config), seeded.broken_cluster(deployed.client, fault):
        yield deployed.kubeconfig


@pytest.mark.any_order
@pytest.mark.parametrize("fault", living_faults())
def test_a_fault_that_shows_only_in_action_is_noticed(fault, request, conform_forked):
    with broken_down(fault, request) as kubeconfig:
        outcome = conform_forked(*living(kubeconfig, "--gpu-profile", PROFILES[fault.profile_prefix]))

    noticed(outcome, fault)


@pytest.mark.parametrize("which", [f"@{cluster(number)}" for number in range(CLUSTERS)])
def test_the_sound_cluster_is_green_again_after_all_faults(deployed, conform, which):
    outcome = conform(*living(deployed.kubeconfig))

    assert outcome.exit_code == 0, outcome.output
    assert set(outcome.statuses) - outcome.ids("passed") == NOT_JUDGED, outcome.output


def test_every_requirement_has_a_fault_that_it_notices():
    of_platforms = [seeded.read(file) for file in sorted(shipped("fixtures/setups").glob("*/faults/*.yaml"))]
    noticed_by = {requirement for fault in (*EVERY, *of_platforms) for requirement in fault.fails}

    assert {rule.id for rule in catalogue.requirements()} - noticed_by == WITHOUT_FAULT


def test_faults_name_only_requirements_that_exist():
    assert {r for fault in EVERY for r in fault.fails} <= {rule.id for rule in catalogue.requirements()}


def test_the_doctor_knows_what_each_kind_is_needed_for(sound_objects, tmp_path):
    measured = needed(sound_objects, tmp_path)

    table = "\n".join(f'    "{kind}": "{" ".join(ids)}",' for kind, ids in measured.items())
    assert measured == dict(NEEDS), f"write into conformance/doctor/needs.py:\n{table}"


def needed(objects, folder):
    """By kind: the requirements that hold on a sound cluster and cannot be judged where the kind cannot be listed."""
    asked = []
    for kind in ("", *KINDS):
        kept = [each for each in objects if each["kind"] != kind]
        taken = snapshot.Snapshot.of(kept, unreadable={kind: "Forbidden: as the test wants it"} if kind else {})
        file = folder / f"{kind}.json.gz"
        snapshot.save(seeded.an_hour_later(taken), file)
        asked.append({"id": kind, "snapshot": str(file)})
    outcomes = audits(asked, folder)
    judged = outcomes.pop("").ids("passed")
    return {kind: tuple(sorted(judged & (each.ids("error") | each.ids("waiting")))) for kind, each in outcomes.items()}
