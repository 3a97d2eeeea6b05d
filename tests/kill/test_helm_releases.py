"""Stacks installed by the real helm program: waited for, upgraded, withdrawn, and killed in between.

The chart is our own (charts/gpu-operator): a definition, the object that the simulated operator follows, workloads, and
hooks. helm is the one on PATH, else the one that the module of clusters/embedded/modules/helm is built to.
"""

import math
import os
import shutil
import signal
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
import yaml
from kubeconfigs import context_of
from test_killed_runs import clean, different, object_set, pytest_process, wait_until_controllers_have_seen_all_nodes

from conformance.clusters.embedded import EmbeddedSpec, start
from conformance.clusters.embedded.binaries import DEFAULT_MINOR, BinariesUnavailable, resolve
from conformance.deploy import deploy, withdraw
from conformance.deploy.helm.charts import Helm, HelmInstaller
from conformance.deploy.installing import InstallError
from conformance.deploy.node_marks import NodeRecords
from conformance.kube.client import Client
from conformance.kube.effects import Effect
from conformance.kube.guard import Guard
from conformance.kube.timeouts import EMBEDDED, Timeouts
from conformance.kube.waits import wait_for
from conformance.reference import load
from conformance.reference.model import Reference
from conformance.remains import Left

pytestmark = pytest.mark.cluster

CHARTS = Path(__file__).with_name("charts")
RELEASES = "/api/v1/secrets"
PATIENT = msgspec.structs.replace(EMBEDDED, stack=300, namespace_deleted=300, running=90)

PART_OF_ALL_KILLS = 5 / 6
"""How many of the session's kills are made here: ten of the usual twelve, beside those of test_killed_runs.py."""

# Feature discovery has been on these machines already: the chart brings none.
DISCOVERED = {
    "feature.node.kubernetes.io/pci-10de.present": "true",
    "feature.node.kubernetes.io/system-os_release.ID": "ubuntu",
    "feature.node.kubernetes.io/system-os_release.VERSION_ID": "24.04",
    "feature.node.kubernetes.io/kernel-version.full": "6.8.0-1035-aws",
}
GPU = {"product": "NVIDIA-L4", "count": 2, "memory_mib": 23034, "compute": "8.9", "brought_by": "stack"}
TOPOLOGY = {
    "name": "charted",
    "description": "two bare machines with GPUs, one without",
    "pools": [
        {"name": "gpu", "count": 2, "cpu": "32", "memory": "128Gi", "gpu": GPU, "labels": {"pool": "l4", **DISCOVERED}},
        {"name": "plain", "count": 1, "cpu": "8", "memory": "32Gi"},
    ],
}
SETUP = {
    "name": "charted",
    "stack": {"kind": "gpu-operator", "values": {"nfd": {"enabled": False}}},
    "pools": [
        {
            "name": "l4",
            "selector": {"pool": "l4"},
            "nodes": 2,
            "labels": {"gpu-type": "l4"},
            "gpu": {"model": "l4", "product": "NVIDIA-L4", "count": 2, "memory_mib": 23034},
        }
    ],
}


class Charted(NamedTuple):
    """A cluster without a stack, and the declared set-up whose stack a chart of ours brings."""

    client: Client
    kubeconfig: Path
    reference: Path
    helm: Helm

    @property
    def installer(self) -> HelmInstaller:
        return HelmInstaller(self.helm, charts=str(CHARTS))

    @property
    def run(self) -> list[str]:
        """The options of a run on it that deploys the stack."""
        given = ["--cluster", context_of(self.kubeconfig), "--gpu-kubeconfig", str(self.kubeconfig)]
        timeouts = ["--gpu-timeout", "lease=1,hold=1,stack=300,namespace_deleted=300"]
        return [*given, "--gpu-reference", str(self.reference), "--gpu-deploy", "--gpu-chart", str(CHARTS), *timeouts]

    @property
    def clean(self) -> list[str]:
        return ["--cluster", context_of(self.kubeconfig), "--kubeconfig", str(self.kubeconfig)]

    def declared(self, **values: object) -> Reference:
        """The set-up, its stack with further values of the chart."""
        reference = load(self.reference)
        assert reference.stack is not None
        stack = msgspec.structs.replace(reference.stack, values={**reference.stack.values, **values})
        return msgspec.structs.replace(reference, stack=stack)

    def releases(self) -> list[dict[str, str]]:
        """The labels of Helm's records: one for each revision of each release."""
        found = self.client.list(RELEASES, label_selector="owner=helm")
        return sorted((each["metadata"]["labels"] for each in found), key=lambda labels: int(labels["version"]))


@pytest.fixture(scope="module")
def helm_on_path():
    """A helm program on PATH, for us and for all that we start."""
    if shutil.which("helm"):
        yield
        return
    try:
        program = resolve(DEFAULT_MINOR, ["helm"])["helm"]
    except BinariesUnavailable as error:
        warnings.warn(f"NOT TESTED: deployments with the real helm, which cannot be had here: {error}", stacklevel=1)
        pytest.skip(f"helm is neither on PATH nor can it be had: {error}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        yield


@pytest.fixture(scope="module")
def charted(helm_on_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("charted")
    topology, reference = folder / "topology.yaml", folder / "reference.yaml"
    topology.write_text(yaml.safe_dump(TOPOLOGY))
    reference.write_text(yaml.safe_dump(SETUP))
    with start(EmbeddedSpec(topology=topology)) as running, running.connection() as connection:
        client = Client(connection, Guard(Effect.DISRUPTIVE, None), PATIENT, "gpu-conformance-tests")
        wait_until_controllers_have_seen_all_nodes(client)
        yield Charted(client, running.kubeconfig, reference, Helm(running.kubeconfig))


@pytest.fixture
def before(charted):
    """What the cluster holds; after the test it holds that again, without a trace of Helm."""
    held = object_set(charted.client)
    yield held
    left = different(object_set(charted.client), held)
    assert not left, left
    assert charted.releases() == []


def withdrawn(charted: Charted, reference: Reference, timeouts: Timeouts = PATIENT) -> tuple[Left, ...]:
    """Take a deployed set-up away again; what was left."""
    records = NodeRecords(charted.client)
    return withdraw(charted.client, reference, records, timeouts=timeouts, installer=charted.installer).left


def test_a_chart_is_installed_waited_for_upgraded_and_taken_away(charted, before):
    first = charted.declared()
    deployed = deploy(charted.client, first, timeouts=PATIENT, installer=charted.installer)
    again = charted.declared(dcgmExporter={"enabled": False})
    upgraded = deploy(charted.client, again, timeouts=PATIENT, installer=charted.installer)

    assert deployed.not_allocatable == upgraded.not_allocatable == ()
    assert [each["status"] for each in charted.releases()] == ["superseded", "deployed"]
    policy = charted.client.get("/apis/nvidia.com/v1/clusterpolicies/cluster-policy")
    assert policy["spec"]["dcgmExporter"]["enabled"] is False
    assert policy["spec"]["gfd"]["enabled"] is True
    assert withdrawn(charted, again) == ()


def test_a_hook_that_never_ends_does_not_keep_a_release(charted, before):
    reference = charted.declared(hooks={"end": False})
    impatient = msgspec.structs.replace(PATIENT, stack=8, namespace_deleted=30)
    with pytest.raises(InstallError, match=r"(?s)installing Helm release .* failed"):
        deploy(charted.client, reference, timeouts=impatient, installer=charted.installer)

    assert [each["status"] for each in charted.releases()] == ["failed"]
    assert withdrawn(charted, reference, impatient) == ()


def test_clean_takes_a_release_away_whenever_the_run_that_installs_it_is_killed(
    charted, before, tmp_path, kills, chance, monkeypatch
):
    """Every second time helm is killed with the run, as by a supervisor; else the run alone, and helm ends with it."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    moments = math.ceil(kills * PART_OF_ALL_KILLS)
    began = time.monotonic()
    whole = pytest_process(tmp_path, *charted.run, "--gpu-mode", "full", "--gpu-requirement", "POOL-01")
    first = _until(charted, whole, there=True) - began
    lived = _until(charted, whole, there=False) - began - first
    assert whole.wait(timeout=600) == 0, (tmp_path / "output.txt").read_text()
    assert not different(object_set(charted.client), before)
    assert charted.releases() == []

    states = []
    for number in range(moments):
        run = pytest_process(tmp_path, *charted.run, "--gpu-mode", "full", "--gpu-requirement", "POOL-01")
        # One in four before there is a release, the others evenly over the time from its first record on.
        if number % 4 == 0:
            moment = first * chance.random()
        else:
            _until(charted, run, there=True)
            moment = lived * (number + chance.random()) / moments
        time.sleep(moment)
        kill = os.killpg if number % 2 else os.kill
        kill(run.pid, signal.SIGKILL)
        run.wait()
        states.append([each["status"] for each in charted.releases()])
        cleaned = clean(charted)

        said = f"kill {number} after {moment:.2f} s, releases {states[-1]}\n{cleaned.stdout}{cleaned.stderr}"
        left = different(object_set(charted.client), before)
        assert not left, f"{said}left\n{left}"
        assert charted.releases() == [], said
        assert cleaned.returncode == 0, said
        assert not list(temporary.glob("gpu-conformance-helm-*")), said
    print(f"releases when runs were killed, {first:.0f} s before it and in its {lived:.0f} s: {states}")
    assert moments == 1 or any(states), "no kill met a release: they are not where they should be"


def _until(charted, run, *, there):
    """When a run has its release on record, or no longer, in seconds of time.monotonic()."""
    what = "helm has a record of the release" if there else "helm has no record of the release"
    wait_for(lambda: bool(charted.releases()) == there or run.poll() is not None, bool, what=what, timeout=300)
    return time.monotonic()
