"""Pods that the simulator has fail and recover, where KWOK's stages come late."""

from typing import Any

import pytest

from conformance.simulator.agents import Agent
from conformance.simulator.annotations import WAITING_REASON
from conformance.simulator.pod_failures import show_failure

Object = dict[str, Any]


class Patches:
    """A client that keeps what it is told to change."""

    def __init__(self) -> None:
        self.statuses: list[Object] = []

    def patch(self, path: str, body: Object, **_: Any) -> None:
        if path.endswith("/status"):
            self.statuses.append(body["status"])


def plugin(phase: str, state: Object, annotations: dict[str, str] | None = None) -> Agent:
    container = {"name": "nvidia-device-plugin", "image": "i"}
    metadata = {"name": "plugin", "namespace": "gpu-operator", "uid": "u", "annotations": annotations or {}}
    status = {"phase": phase, "containerStatuses": [{"name": "nvidia-device-plugin", "state": state}]}
    return Agent({"metadata": metadata, "spec": {"containers": [container]}, "status": status}, container)


@pytest.mark.parametrize("reason", ["PodInitializing", "ContainerCreating"])
def test_a_pod_that_runs_and_says_that_it_waits_is_started_again(reason: str) -> None:
    client = Patches()

    show_failure(client, plugin("Running", {"waiting": {"reason": reason}}), None)  # type: ignore[arg-type]

    assert client.statuses == [{"phase": "Pending", "containerStatuses": None}]


@pytest.mark.parametrize(
    "agent",
    [
        plugin("Running", {"running": {}}),
        plugin("Running", {"waiting": {"reason": "CrashLoopBackOff"}}),
        plugin("Pending", {"waiting": {"reason": "PodInitializing"}}),
        plugin("Running", {"waiting": {"reason": "ContainerCreating"}}, {WAITING_REASON: "ContainerCreating"}),
    ],
    ids=["runs", "crashes", "has not started", "is told to wait"],
)
def test_every_other_pod_is_left_to_kwok(agent: Agent) -> None:
    client = Patches()

    show_failure(client, agent, None)  # type: ignore[arg-type]

    assert not client.statuses
