"""Suites on a real node: all is well, and a device plugin that is broken in each of its ways is noticed."""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
INCONCLUSIVE = 10  # docs/exit-codes.md


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

    def judged(self, folder: Path, profiles: str = "", *, requirements: Iterable[str] = ()) -> Outcome:
        """A full run of some profiles, or of some requirements."""
        chosen = ["--gpu-profile", profiles] if profiles else ["--gpu-requirement", ",".join(requirements)]
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
    with two_gpus.deployed(folder, request.config, two_gpus.PRIORITIES) as running, running.client() as client:
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


WRAPPER = ["python3", "-I", "-S", "-c", "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"]
"""What a shell is to the program that it waits for: a container's first process, which hands no signal on."""
NOT_MIRRORED = "example.com/mirror/library/python:none"
POLICIES = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies"
END_BY_THEMSELVES = ("PRIO-11", "SCHED-03")
"""The requirements whose victims are programs that take a second to end, as one does that saves a checkpoint."""


def replacing(field: str, value: str) -> dict[str, Any]:
    """A policy that replaces a field of the container of every pod that says what it runs; ``value`` is CEL."""
    created = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    patch = f'[JSONPatch{{op: "replace", path: "/spec/containers/0/{field}", value: {value}}}]'
    return {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConstraints": {"resourceRules": [created]},
        "matchConditions": [{"name": "has-a-command", "expression": "has(object.spec.containers[0].command)"}],
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}],
    }


@contextmanager
def in_effect(client: Client, policy: dict[str, Any], field: str, value: object) -> Iterator[None]:
    """A policy for the time of a block, in which ``field`` of new containers has ``value``."""
    bindings = f"{POLICIES[: -len('policies')]}policybindings"
    container = {"name": "main", "image": "never-pulled", "command": ["sleep"]}
    pod = {"metadata": {"name": "looks"}, "spec": {"containers": [container]}}

    def is_in_effect() -> bool:
        seen = client.create("/api/v1/namespaces/default/pods", pod, dry_run=True)
        return bool(seen["spec"]["containers"][0][field] == value)

    client.create(POLICIES, {"metadata": {"name": "replaces"}, "spec": policy})
    client.create(bindings, {"metadata": {"name": "replaces"}, "spec": {"policyName": "replaces"}})
    try:
        wait_for(is_in_effect, bool, what="the policy is in effect", timeout=90)
        yield
    finally:
        client.delete(f"{bindings}/replaces")
        client.delete(f"{POLICIES}/replaces")
        wait_for(is_in_effect, lambda still: not still, what="the policy is gone", timeout=90)


@pytest.fixture
def wrapped(sound: Deployed) -> Iterator[Deployed]:
    """A policy puts something around every program, which hands no signal on."""
    around = f"{json.dumps(WRAPPER)} + object.spec.containers[0].command"
    with in_effect(sound.client, replacing("command", around), "command", [*WRAPPER, "sleep"]):
        yield sound


@pytest.fixture
def without_python(sound: Deployed) -> Iterator[Deployed]:
    """The registry has no image that programs could run in."""
    with in_effect(sound.client, replacing("image", json.dumps(NOT_MIRRORED)), "image", NOT_MIRRORED):
        yield sound


def test_an_evicted_program_gets_the_signal_and_the_time_to_end(sound: Deployed, tmp_path: Path) -> None:
    outcome = sound.judged(tmp_path / "report", requirements=END_BY_THEMSELVES)

    assert outcome.ids("passed") == set(END_BY_THEMSELVES), outcome.output
    assert {outcome.verdict(each)["evidence"] for each in END_BY_THEMSELVES} == {"container"}


def test_a_policy_that_keeps_signals_from_programs_is_noticed(wrapped: Deployed, tmp_path: Path) -> None:
    outcome = wrapped.judged(tmp_path / "report", requirements=END_BY_THEMSELVES)

    assert outcome.ids("failed") == set(END_BY_THEMSELVES), (outcome.ids("error"), outcome.output)
    for each in END_BY_THEMSELVES:
        assert "exit code 137" in outcome.told(each)
        assert "SIGTERM did not reach its program" in outcome.told(each)


def test_without_the_image_of_its_programs_a_requirement_is_inconclusive_and_says_what_is_missing(
    without_python: Deployed, tmp_path: Path
) -> None:
    outcome = without_python.judged(tmp_path / "report", requirements=END_BY_THEMSELVES)

    assert outcome.ids("error") == set(END_BY_THEMSELVES), (outcome.ids("failed"), outcome.output)
    assert outcome.exit_code == INCONCLUSIVE
    for each in END_BY_THEMSELVES:
        reason = outcome.verdict(each)["reason"]
        assert f"for image {NOT_MIRRORED}. Name a registry that the node can reach" in reason


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
