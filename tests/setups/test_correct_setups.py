"""Different correct set-ups, each a user's of its own kind, give no false alarm: see docs/setups.md."""

import json
from contextlib import contextmanager
from typing import NamedTuple

import jsonschema
import msgspec
import pytest
import seeded
import test_platform_setups as platforms
import yaml
from kubeconfigs import context_of
from multiplied import multiplied

from conformance.clusters.embedded import EmbeddedSpec, start
from conformance.clusters.embedded.simulated_installer import SimulatedInstaller
from conformance.clusters.embedded.topologies import load as load_topology
from conformance.deploy import deploy
from conformance.drafting import draft, write
from conformance.facts import snapshot
from conformance.kube.timeouts import EMBEDDED
from conformance.progress import SilentProgress
from conformance.reference import load
from conformance.reference.schema import json_schema
from conformance.shipped import shipped

SETUPS = shipped("fixtures/setups")

# Limits, no pauses: a run waits for as long as it has to, and a busy machine is no false alarm.
PATIENT = [f"--gpu-timeout={name}={seconds}" for name, seconds in (("stack", 300), ("scheduled", 90), ("running", 300))]


LIMITS = msgspec.structs.replace(EMBEDDED, stack=900)


class Setup(NamedTuple):
    """A set-up and the requirements that it is about: by these a test cannot pass by judging nothing."""

    name: str
    judges: str

    def __str__(self) -> str:
        return self.name

    @property
    def files(self) -> list[str]:
        """The options that name its files."""
        folder = SETUPS / self.name
        options = [f"--gpu-topology={folder / 'topology.yaml'}", f"--gpu-reference={folder / 'reference'}"]
        waivers = folder / "waivers.yaml"
        return [*options, f"--gpu-waivers={waivers}"] if waivers.exists() else options


DEPLOYED = "OPER-01 OPER-05 OPER-06 OPER-10 OPER-13 POOL-01 POOL-04 POOL-05 POOL-08 POOL-10 WORK-01 WORK-02 WORK-03 "
OPERATED = DEPLOYED + "OPER-02 OPER-03 OPER-04 OPER-11 OPER-12 OPER-14 OPER-15 OBS-01 OBS-02 OBS-05 WORK-04 "
OPERATED_OFFLINE = " ".join(f"OPER-{number:02}" for number in range(1, 18)) + " POOL-01 POOL-04 POOL-05 POOL-10 "
SLICED = OPERATED + "TS-01 TS-02 TS-03 TS-04 TS-05 TS-07 TS-08 TS-09 POOL-03 POOL-09 SCHED-01 SCHED-16 QUOTA-14 "
CUT = OPERATED + "MIG-01 MIG-03 MIG-04 MIG-05 MIG-06 MIG-07 MIG-08 MIG-09 MIG-10 POOL-03 POOL-09 QUOTA-14 "
BY_DRA = "OPER-01 OPER-05 OPER-06 OPER-10 OPER-13 POOL-01 POOL-04 POOL-08 POOL-09 QUOTA-14 " + " ".join(
    f"DRA-{number:02}" for number in range(1, 17)
)

WHOLE_RUNS = [
    Setup("one-gpu", OPERATED + "TS-06 QUOTA-14 TEN-06 WORK-07 WORK-08 ISO-01"),
    Setup("time-sliced-everywhere", SLICED),
    Setup("time-sliced-where-labelled", SLICED + "TS-06 TS-10 QUOTA-03 WORK-06"),
    Setup("mps", OPERATED + "MPS-01 MPS-02 MPS-03 MPS-04 MPS-05 MPS-06 MPS-07 MPS-08 MPS-09 QUOTA-03 SCHED-16"),
    Setup("mig-single", CUT),
    Setup("mig-mixed", CUT + "MIG-02 MIG-11 QUOTA-03 SCHED-16 WORK-05 WORK-12"),
    Setup("mig-time-sliced", CUT + " ".join(f"TS-{number:02}" for number in range(1, 11)) + " MIG-02 QUOTA-03 WORK-07"),
    Setup("device-plugin-alone", DEPLOYED + "OPER-15 SCHED-07 SCHED-16 TS-06 WORK-04 WORK-05 WORK-06 WORK-12 ISO-04"),
    Setup("dra-driver-alone", BY_DRA),
    Setup("bare-metal", OPERATED + "TS-06 POOL-03 POOL-09 OPER-19 PRIO-03 SCHED-07 SCHED-16 QUOTA-03 WORK-05 WORK-12"),
    Setup("k3s", DEPLOYED + "OPER-07 OPER-15 POOL-03 POOL-09 SCHED-07 SCHED-16 QUOTA-03 WORK-04 WORK-15"),
    Setup("mixed-fleet", SLICED + "TS-06 TS-10 POOL-07 PRIO-01 PRIO-03 TEN-05 TEN-06 QUOTA-03 SCHED-13 WORK-05"),
]
AUDITED = Setup(
    "thousand-nodes",
    "POOL-01 POOL-02 POOL-03 POOL-04 POOL-05 POOL-06 POOL-07 POOL-08 POOL-09 POOL-10 QUOTA-01 QUOTA-03 QUOTA-04 "
    "PRIO-01 PRIO-02 PRIO-13 SCHED-13 SCHED-15 SCHED-16 TEN-01 TEN-02 TEN-06 WORK-10 WORK-11",
)


def gives_no_alarm(outcome, setup):
    assert outcome.ids("failed") == set(), outcome.output
    assert outcome.ids("error") == set(), outcome.output
    assert outcome.ids("unknown") == set(), outcome.output
    assert outcome.exit_code == 0, outcome.output
    assert set(setup.judges.split()) - outcome.ids("passed") == set(), outcome.output


@pytest.mark.cluster
@pytest.mark.parametrize("setup", WHOLE_RUNS, ids=lambda setup: f"{setup}@alone")
def test_a_correct_setup_gives_no_alarm(setup, conform):
    outcome = conform("--cluster", "embedded", *setup.files, *PATIENT)

    gives_no_alarm(outcome, setup)


@contextmanager
def deployed(name):
    """A cluster on which a set-up stands, as its owners would have deployed it, and a client of it."""
    folder = SETUPS / name
    with (
        start(EmbeddedSpec(topology=str(folder / "topology.yaml")), SilentProgress()) as running,
        running.client() as client,
    ):
        result = deploy(client, load(folder / "reference"), timeouts=LIMITS, installer=SimulatedInstaller())
        assert result.not_allocatable == result.not_ready == ()
        yield running, client


def audited(conform, file, objects, name):
    """The outcome of an audit of some objects, saved as a snapshot that is an hour old, against a set-up."""
    snapshot.save(seeded.an_hour_later(snapshot.Snapshot.of(objects)), file)
    return conform("--cluster", f"snapshot:{file}", "--gpu-reference", str(SETUPS / name / "reference"))


@pytest.fixture(scope="module")
def standing():
    """The objects of a cluster on which a set-up stands; each is deployed once, for all tests that only look at it."""
    taken = {}

    def objects_of(name):
        if name not in taken:
            with deployed(name) as (_, client):
                taken[name] = list(snapshot.take(client).plain_objects())
        return taken[name]

    return objects_of


@pytest.mark.cluster
def test_an_audit_of_a_thousand_living_nodes_gives_no_alarm(conform, monkeypatch):
    monkeypatch.setenv("GPU_CONFORMANCE_START_TIMEOUT", "600")
    with deployed(AUDITED.name) as (running, _):
        outcome = conform(
            "--cluster", context_of(running.kubeconfig), "--gpu-kubeconfig", str(running.kubeconfig),
            "--gpu-mode", "audit", "--gpu-reference", str(SETUPS / AUDITED.name / "reference"),
        )  # fmt: skip

    gives_no_alarm(outcome, AUDITED)


@pytest.mark.cluster
def test_an_audit_of_a_stack_on_a_thousand_nodes_gives_no_alarm(conform, tmp_path, standing):
    """Deploying on so many simulated nodes takes two cores many minutes; five of them show what the others would do."""
    name = "time-sliced-where-labelled"
    outcome = audited(conform, tmp_path / "thousand.json.gz", multiplied(standing(name), 200), name)

    gives_no_alarm(outcome, Setup(name, OPERATED_OFFLINE + "TS-01 TS-02 TS-03 TS-04 TS-05 TS-06 TS-09 TS-10 QUOTA-03"))
    assert outcome.verdict("OPER-13")["judged"] == 800


@pytest.mark.cluster
def test_a_cluster_policy_may_have_the_name_that_openshift_gives_it(conform, tmp_path, standing):
    renamed = json.loads(json.dumps(standing("one-gpu")).replace('"cluster-policy"', '"gpu-cluster-policy"'))

    outcome = audited(conform, tmp_path / "openshift.json.gz", renamed, "one-gpu")

    gives_no_alarm(outcome, Setup("one-gpu", OPERATED_OFFLINE))
    assert "gpu-cluster-policy" in outcome.told("OPER-02")


@pytest.mark.cluster
@pytest.mark.parametrize(
    "setup",
    [
        Setup("one-gpu", OPERATED_OFFLINE + "TEN-01 TEN-02 QUOTA-01 QUOTA-03"),
        Setup("time-sliced-where-labelled", OPERATED_OFFLINE + "TS-01 TS-02 TS-04 TS-06 QUOTA-03 SCHED-13 SCHED-16"),
        Setup("bare-metal", OPERATED_OFFLINE + "POOL-03 TS-06 QUOTA-03 SCHED-13 SCHED-16"),
        Setup("k3s", "POOL-01 POOL-03 POOL-04 OPER-01 OPER-07 OPER-10 OPER-13 OPER-15 QUOTA-03 SCHED-13 WORK-15"),
    ],
    ids=str,
)
def test_a_cluster_is_green_under_the_set_up_that_is_drafted_from_it(conform, tmp_path, standing, setup):
    file, folder = tmp_path / "cluster.json.gz", tmp_path / "drafted"
    snapshot.save(snapshot.Snapshot.of(standing(setup.name)), file)
    drafted = draft(snapshot.load(file), setup.name)
    write(drafted, folder)

    outcome = conform("--cluster", f"snapshot:{file}", "--gpu-reference", str(folder))

    assert drafted.contradictions == ()
    gives_no_alarm(outcome, setup)


PLAYED_FAULTS = [
    (name, seeded.read(file)) for name in ("bare-metal", "k3s") for file in sorted((SETUPS / name / "faults").iterdir())
]


@pytest.mark.cluster
@pytest.mark.parametrize(("name", "fault"), PLAYED_FAULTS, ids=lambda each: getattr(each, "id", each))
def test_a_fault_of_a_platform_that_is_played_is_told_in_words_that_fit_there(conform, tmp_path, standing, name, fault):
    outcome = audited(conform, tmp_path / "broken.json.gz", seeded.broken(standing(name), fault), name)

    platforms.is_told(outcome, fault)


def test_every_setup_is_tried_and_described():
    there = {folder.name for folder in SETUPS.iterdir() if folder.is_dir()}
    described = shipped("docs/setups.md").read_text(encoding="utf-8")

    assert {setup.name for setup in (*WHOLE_RUNS, AUDITED)} | set(platforms.JUDGED) == there
    assert {name for name in there if f"fixtures/setups/{name}" not in described} == set()


@pytest.mark.parametrize("setup", sorted(folder.name for folder in SETUPS.iterdir()))
def test_an_editor_that_knows_the_schema_accepts_every_file(setup):
    for file in (SETUPS / setup / "reference").glob("*.yaml"):
        jsonschema.Draft202012Validator(json_schema()).validate(yaml.safe_load(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize("setup", [*WHOLE_RUNS, AUDITED], ids=str)
def test_topology_and_reference_go_together(setup):
    folder = SETUPS / setup.name
    topology, reference = load_topology(folder / "topology.yaml"), load(folder / "reference")

    assert topology.name == reference.name == setup.name
    for pool in reference.pools:
        found = [each for each in topology.pools if pool.holds(each.labels)]
        assert sum(each.count for each in found) >= pool.nodes, pool
        assert {each.gpu.product for each in found if each.gpu} <= {pool.gpu.product if pool.gpu else ""}, pool
