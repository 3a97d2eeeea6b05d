"""Suites on a real node: all is well, and a device plugin that is broken in each of its ways is noticed."""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import two_gpus
from kubeconfigs import context_of
from outcomes import Outcome, environment
from real_containers import kubelet_of
from two_gpus import NODE

from conformance.kube.client import Client
from conformance.kube.waits import wait_for
from conformance.simulator.hardware import HARDWARE

pytestmark = pytest.mark.cluster

GPU = "nvidia.com/gpu"


@dataclass(frozen=True)
class Deployed:
    """A cluster with one real node, and its set-up."""

    client: Client
    kubeconfig: Path
    reference: Path

    def breaks(self, **changes: Any) -> None:
        node = self.client.get(f"/api/v1/nodes/{NODE}")
        known = json.loads(node["metadata"]["annotations"][HARDWARE])
        whole = {key: value for key, value in known.items() if key not in ("unhealthy", "missing", "broken")}
        change = {"metadata": {"annotations": {HARDWARE: json.dumps({**whole, **changes})}}}
        self.client.patch(f"/api/v1/nodes/{NODE}", change)

    def wait_offered(self, count: str) -> None:
        def offered() -> Any:
            return self.client.get(f"/api/v1/nodes/{NODE}")["status"]["allocatable"].get(GPU)

        wait_for(offered, lambda found: found == count, what=f"{NODE} offers {count} GPUs", timeout=90)

    def judged(self, folder: Path, profiles: str = "", *, requirement: str = "") -> Outcome:
        """A full run of some profiles, or of one requirement."""
        chosen = ["--gpu-requirement", requirement] if requirement else ["--gpu-profile", profiles]
        arguments = [
            "--cluster", context_of(self.kubeconfig), "--gpu-kubeconfig", str(self.kubeconfig), "--gpu-mode", "full",
            "--gpu-reference", str(self.reference), *chosen,
            "--gpu-timeout", "running=20", "--gpu-timeout", "condition=20", "--gpu-timeout", "hold=1",
            "--gpu-timeout", "scheduled=10", "--gpu-report", str(folder),
        ]  # fmt: skip
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
            capture_output=True, text=True, cwd=folder.parent, env=environment(), check=False,
        )  # fmt: skip
        return Outcome.of(ran.returncode, ran.stdout + ran.stderr, folder)


@pytest.fixture(scope="module")
def deployed(
    gpu_machine: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("two-gpus")
    with two_gpus.deployed(folder, request.config) as running, running.client() as client:
        yield Deployed(client, running.kubeconfig, folder / "reference")


@pytest.fixture
def sound(deployed: Deployed) -> Iterator[Deployed]:
    deployed.wait_offered("2")
    yield deployed
    deployed.breaks()
    deployed.wait_offered("2")


def test_all_is_well_and_containers_are_the_evidence(sound: Deployed, tmp_path: Path) -> None:
    outcome = sound.judged(tmp_path / "report", "pools,workloads,isolation")

    assert not outcome.ids("failed") | outcome.ids("error"), outcome.output
    assert outcome.exit_code == 0
    evidence = {each["requirement"]: each["evidence"] for each in outcome.report["requirements"]}
    # WORK-02 and WORK-05 use the results of pods that were started for WORK-01 and WORK-04.
    assert {evidence[each] for each in ("ISO-01", "WORK-01", "WORK-02", "WORK-04", "WORK-05")} == {"container"}
    assert evidence["POOL-01"] == "simulated"


DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
POLICIES = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies"
WRAPS = {
    "failurePolicy": "Fail",
    "reinvocationPolicy": "Never",
    "matchConstraints": {
        "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    },
    "matchConditions": [{"name": "has-a-command", "expression": "has(object.spec.containers[0].command)"}],
    "mutations": [
        {
            "patchType": "JSONPatch",
            "jsonPatch": {
                "expression": '[JSONPatch{op: "replace", path: "/spec/containers/0/command", '
                f'value: ["python3", "-c", "{DEAF}"]}}]'
            },
        }
    ],
}
"""A policy that puts something around every program, which hands no signal on."""


@pytest.fixture
def wrapped(sound: Deployed) -> Iterator[Deployed]:
    client, bindings = sound.client, f"{POLICIES[: -len('policies')]}policybindings"
    client.create(POLICIES, {"metadata": {"name": "wraps"}, "spec": WRAPS})
    client.create(bindings, {"metadata": {"name": "wraps"}, "spec": {"policyName": "wraps"}})
    container = {"name": "main", "image": "never-pulled", "command": ["sleep"]}
    pod = {"metadata": {"name": "looks"}, "spec": {"containers": [container]}}

    def command() -> list[str]:
        seen = client.create("/api/v1/namespaces/default/pods", pod, dry_run=True)
        return list(seen["spec"]["containers"][0]["command"])

    try:
        wait_for(command, lambda found: DEAF in found, what="the policy is in effect", timeout=90)
        yield sound
    finally:
        client.delete(f"{bindings}/wraps")
        client.delete(f"{POLICIES}/wraps")
        wait_for(command, lambda found: DEAF not in found, what="the policy is gone", timeout=90)


def test_an_evicted_program_gets_the_signal_and_the_time_to_end(sound: Deployed, tmp_path: Path) -> None:
    outcome = sound.judged(tmp_path / "report", requirement="SCHED-03")

    assert outcome.ids("passed") == {"SCHED-03"}, outcome.output
    assert outcome.verdict("SCHED-03")["evidence"] == "container"


def test_a_policy_that_keeps_signals_from_programs_is_noticed(wrapped: Deployed, tmp_path: Path) -> None:
    outcome = wrapped.judged(tmp_path / "report", requirement="SCHED-03")

    assert outcome.ids("failed") == {"SCHED-03"}, (outcome.ids("error"), outcome.output)
    assert "exit code 137" in outcome.told("SCHED-03")
    assert "SIGTERM did not reach its program" in outcome.told("SCHED-03")


FAULTS = {
    "sick-gpu": ({"unhealthy": [1]}, "1", "pools", {"POOL-04": "reports 1 of 2 nvidia.com/gpu as unhealthy"}),
    "lost-gpu": ({"missing": [1]}, "1", "pools", {"POOL-04": "registered only 1 nvidia.com/gpu"}),
    "wrong-count": (
        {"broken": {"plugin-miscounts": 1}}, "3", "pools,workloads",
        {"POOL-04": "the device plugin offers GPUs that are not there", "WORK-05": "2 devices reached the container"},
    ),
    "allocate-fails": (
        {"broken": {"allocate-fails": "no answer"}}, "2", "workloads",
        {"WORK-01": "UnexpectedAdmissionError", "WORK-07": "UnexpectedAdmissionError"},
    ),
    "stale-allocation": (
        {"broken": {"stale-allocation": True}}, "2", "workloads", {"WORK-06": "was allocated to both pods"},
    ),
}  # fmt: skip
"""What is broken, how many GPUs are offered then, what is judged, and what fails with which words."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_device_plugin_is_noticed(sound: Deployed, fault: str, tmp_path: Path) -> None:
    broken, offered, profiles, fails = FAULTS[fault]
    sound.breaks(**broken)
    sound.wait_offered(offered)

    outcome = sound.judged(tmp_path / "report", profiles)

    assert outcome.ids("failed") == set(fails), (outcome.ids("error"), outcome.output)
    for requirement, words in fails.items():
        assert words in outcome.told(requirement)


def test_a_plugin_that_crashes_again_and_again_is_noticed(sound: Deployed, tmp_path: Path) -> None:
    """Between two crashes all is there for a moment, so that one look may find nothing."""
    sound.breaks(broken={"plugin-crashes": True})
    sound.wait_offered("0")
    numbers = itertools.count()

    def failed() -> set[str]:
        return sound.judged(tmp_path / f"report-{next(numbers)}", "pools").ids("failed")

    assert wait_for(failed, bool, what="a run fails", timeout=90) == {"POOL-04"}


def restart_kubelet() -> None:
    kubelet = kubelet_of(NODE)
    os.kill(kubelet, signal.SIGKILL)
    wait_for(lambda: kubelet_of(NODE), lambda pid: pid not in (0, kubelet), what="a new kubelet", timeout=90)


def test_a_kubelet_that_starts_again_is_no_fault(sound: Deployed, tmp_path: Path) -> None:
    restart_kubelet()

    outcome = sound.judged(tmp_path / "report", "workloads")

    assert not outcome.ids("failed"), outcome.output


def test_a_plugin_that_does_not_register_with_the_next_kubelet_is_noticed(sound: Deployed, tmp_path: Path) -> None:
    """The plugin runs on, and nothing but the count of GPUs shows that the kubelet has never heard of it."""
    sound.breaks(unhealthy=[1], broken={"plugin-registers-once": True})
    sound.wait_offered("1")  # the plugin has heard
    restart_kubelet()
    sound.wait_offered("0")

    outcome = sound.judged(tmp_path / "report", "pools")

    assert outcome.ids("failed") == {"POOL-04"}, (outcome.ids("error"), outcome.output)
    assert "no device plugin has registered GPUs with the kubelet" in outcome.told("POOL-04")
