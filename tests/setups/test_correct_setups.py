"""Ten different correct set-ups, each a user's of its own kind, give no false alarm: see docs/setups.md."""

import json
from typing import NamedTuple

import msgspec
import pytest
from kubeconfigs import context_of

from conformance.clusters.embedded import EmbeddedSpec, start
from conformance.clusters.embedded.installing import SimulatedInstaller
from conformance.clusters.embedded.topologies import load as load_topology
from conformance.facts import snapshot
from conformance.kube.timeouts import EMBEDDED
from conformance.progress import SilentProgress
from conformance.reference import deploy, load
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
    Setup("device-plugin-alone", DEPLOYED + "OPER-15 SCHED-07 SCHED-16 TS-06 WORK-04 WORK-05 WORK-06 WORK-12 ISO-04"),
    Setup("dra-driver-alone", BY_DRA),
    Setup("mixed-fleet", SLICED + "TS-06 TS-10 POOL-07 PRIO-01 PRIO-03 TEN-05 TEN-06 QUOTA-03 SCHED-13 WORK-05"),
]
AUDITED = Setup(
    "thousand-nodes",
    "OPER-01 OPER-02 OPER-03 OPER-04 OPER-05 OPER-10 OPER-11 OPER-12 OPER-13 OPER-14 OPER-15 POOL-01 POOL-02 POOL-03 "
    "POOL-04 POOL-05 POOL-06 POOL-07 POOL-09 POOL-10 QUOTA-01 QUOTA-03 TS-01 TS-02 TS-03 TS-04 TS-05 TS-06 TS-10",
)


def gives_no_alarm(outcome, setup):
    assert outcome.ids("failed") == set(), outcome.output
    assert outcome.ids("error") == set(), outcome.output
    assert outcome.ids("unknown") == set(), outcome.output
    assert outcome.exit_code == 0, outcome.output
    assert set(setup.judges.split()) - outcome.ids("passed") == set(), outcome.output


@pytest.mark.cluster
@pytest.mark.parametrize("setup", WHOLE_RUNS, ids=str)
def test_a_correct_setup_gives_no_alarm(setup, conform):
    outcome = conform("--cluster", "embedded", *setup.files, *PATIENT)

    gives_no_alarm(outcome, setup)


@pytest.mark.cluster
def test_an_audit_of_a_thousand_correct_nodes_gives_no_alarm(conform, monkeypatch):
    monkeypatch.setenv("GPU_CONFORMANCE_START_TIMEOUT", "600")
    folder = SETUPS / AUDITED.name
    with start(EmbeddedSpec(topology=str(folder / "topology.yaml")), SilentProgress()) as running:
        with running.client() as client:
            deployed = deploy(client, load(folder / "reference"), timeouts=LIMITS, installer=SimulatedInstaller())
        outcome = conform(
            "--cluster", context_of(running.kubeconfig), "--gpu-kubeconfig", str(running.kubeconfig),
            "--gpu-mode", "audit", "--gpu-reference", str(folder / "reference"),
        )  # fmt: skip

    assert deployed.notes == []
    gives_no_alarm(outcome, AUDITED)


@pytest.mark.cluster
def test_a_cluster_policy_may_have_the_name_that_openshift_gives_it(conform, tmp_path):
    folder = SETUPS / "one-gpu"
    with (
        start(EmbeddedSpec(topology=str(folder / "topology.yaml")), SilentProgress()) as running,
        running.client() as client,
    ):
        deploy(client, load(folder / "reference"), timeouts=LIMITS, installer=SimulatedInstaller())
        told = json.dumps(list(snapshot.take(client).plain_objects()))
    renamed = json.loads(told.replace('"cluster-policy"', '"gpu-cluster-policy"'))
    file = tmp_path / "openshift.json.gz"
    snapshot.save(snapshot.Snapshot.of(renamed), file)

    outcome = conform("--cluster", f"snapshot:{file}", "--gpu-reference", str(folder / "reference"))

    gives_no_alarm(outcome, Setup("one-gpu", "OPER-01 OPER-02 OPER-03 OPER-04 OPER-10 OPER-13 OPER-14 OPER-15"))
    assert "gpu-cluster-policy" in json.dumps(outcome.verdict("OPER-02"))


def test_every_setup_is_tried_and_described():
    there = {folder.name for folder in SETUPS.iterdir() if folder.is_dir()}
    described = shipped("docs/setups.md").read_text(encoding="utf-8")

    assert {setup.name for setup in (*WHOLE_RUNS, AUDITED)} == there
    assert {name for name in there if f"fixtures/setups/{name}" not in described} == set()


@pytest.mark.parametrize("setup", [*WHOLE_RUNS, AUDITED], ids=str)
def test_topology_and_reference_go_together(setup):
    folder = SETUPS / setup.name
    topology, reference = load_topology(folder / "topology.yaml"), load(folder / "reference")

    assert topology.name == reference.name == setup.name
    for pool in reference.pools:
        found = [each for each in topology.pools if pool.holds(each.labels)]
        assert sum(each.count for each in found) >= pool.nodes, pool
        assert {each.gpu.product for each in found if each.gpu} <= {pool.gpu.product if pool.gpu else ""}, pool
