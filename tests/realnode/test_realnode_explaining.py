"""On a real kubelet the first cause of pods that do not start or do not last is the one that was made."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import two_gpus
from patience import PATIENCE
from real_containers import PODS
from two_gpus import NODE

from conformance.clusters.embedded.real import images
from conformance.explaining import Explanation, Stage
from conformance.kube.client import Client
from conformance.kube.waits import wait_for
from conformance.session.explaining_pods import explained_by
from conformance.simulator.hardware import HARDWARE

pytestmark = pytest.mark.cluster

GPU = "nvidia.com/gpu"
SLEEP = ["python3", "-c", "import time; time.sleep(600)"]


@pytest.fixture(scope="module")
def client(
    gpu_machine: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    with two_gpus.deployed(tmp_path_factory.mktemp("two-gpus"), request.config) as running, running.client() as found:
        yield found


@dataclass(frozen=True)
class Made:
    """A pod that does not run, and what is right about it."""

    stage: Stage
    says: tuple[str, ...]
    container: dict[str, Any]
    spec: dict[str, Any]
    remedy: str = ""


def _failing(kind: str, **more: Any) -> dict[str, Any]:
    probe = {"exec": {"command": ["python3", "-c", "raise SystemExit('no model yet')"]}, "periodSeconds": 1}
    return {"command": SLEEP, kind: {**probe, "failureThreshold": 1, **more}}


MADE = {
    "no-image": Made(
        Stage.STARTING, ("waits for its image", "no-such.example.invalid/train:1"),
        {"image": "no-such.example.invalid/train:1"}, {}, "registry",
    ),
    "no-handler": Made(
        Stage.STARTING, ("FailedCreatePodSandBox", "does not have the handler that the RuntimeClass names"),
        {"command": SLEEP}, {"runtimeClassName": "no-such"}, "toolkit",
    ),
    "no-config": Made(
        Stage.STARTING, ("FailedMount", 'configmap "no-such" not found'),
        {"command": SLEEP, "volumeMounts": [{"name": "config", "mountPath": "/config"}]},
        {"volumes": [{"name": "config", "configMap": {"name": "no-such"}}]},
    ),
    "no-secret": Made(
        Stage.STARTING, ("cannot be configured", 'secret "no-such" not found'),
        {"command": SLEEP, "env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "no-such", "key": "a"}}}]},
        {}, "Secret",
    ),
    "exit-code": Made(
        Stage.CRASHED, ("ended with exit code 7", "CUDA out of memory", "no OOMKilled"),
        {
            "command": ["python3", "-c", "print('torch.OutOfMemoryError: CUDA out of memory.'); raise SystemExit(7)"],
            "terminationMessagePolicy": "FallbackToLogsOnError",
        },
        {}, "smaller batch",
    ),
    "no-program": Made(
        Stage.CRASHED, ("could not be started", "no-such-program"), {"command": ["no-such-program"]}, {}
    ),
    "not-ready": Made(
        Stage.RUNNING, ("not ready", "Readiness probe failed", "no model yet"), _failing("readinessProbe"), {},
        "startupProbe",
    ),
    "not-alive": Made(
        Stage.CRASHED, ("exit code 137", "Liveness probe failed", "no model yet"), _failing("livenessProbe"),
        {"restartPolicy": "Never"}, "ended it for its probe",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_the_first_cause_is_the_one_that_was_made(client: Client, name: str) -> None:
    made = MADE[name]
    if "runtimeClassName" in made.spec:
        client.create("/apis/node.k8s.io/v1/runtimeclasses", {"metadata": {"name": "no-such"}, "handler": "no-such"})
    _create(client, name, made.container, made.spec)

    told = _told(
        client, name, lambda each: each.stage is made.stage and all(words in each.cause for words in made.says)
    )

    assert made.remedy in told.remedy
    client.delete(f"{PODS}/{name}")


def test_memory_beyond_the_limit_is_told_as_that(client: Client) -> None:
    eats = ["python3", "-c", "held = [bytearray(2**20) for _ in range(4096)]"]
    _create(client, "eats", {"command": eats, "resources": {"limits": {"memory": "64Mi"}}}, {})

    # A runtime that is busy can miss the kernel's word once; the container starts again, and ends again.
    told = _told(client, "eats", lambda each: each.stage is Stage.CRASHED and "OOMKilled" in each.cause)

    assert "not the GPU's" in told.remedy


def test_a_device_plugin_that_fails_to_allocate_is_told_with_its_words(client: Client) -> None:
    node = f"/api/v1/nodes/{NODE}"
    known = client.get(node)["metadata"]["annotations"][HARDWARE]
    broken = json.dumps({**json.loads(known), "broken": {"allocate-fails": "no answer"}})
    client.patch(node, {"metadata": {"annotations": {HARDWARE: broken}}})
    try:
        _create(client, "refused", {"command": SLEEP, "resources": {"limits": {GPU: "1"}}}, {})

        told = _told(client, "refused", lambda each: each.stage is Stage.REFUSED_BY_NODE)
    finally:
        client.patch(node, {"metadata": {"annotations": {HARDWARE: known}}})

    assert "UnexpectedAdmissionError" in told.cause
    assert "no answer" in told.cause
    assert "device plugin" in told.remedy


def _create(client: Client, name: str, container: dict[str, Any], spec: dict[str, Any]) -> None:
    body = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "nodeSelector": {"kubernetes.io/hostname": NODE},
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "main", "image": images.PROBE, **container}],
        **spec,
    }
    client.create(PODS, {"metadata": {"name": name}, "spec": body})


def _told(client: Client, name: str, until: Callable[[Explanation], bool]) -> Explanation:
    """What is told of the pod once it is told: a kubelet comes to its trouble after a while."""
    return wait_for(
        lambda: explained_by(client, "Pod", "default", name)[0],
        until,
        what=f"the trouble of pod {name} is told",
        timeout=PATIENCE,
        format_seen=lambda each: f"{each.stage}: {each.cause}",
    )
