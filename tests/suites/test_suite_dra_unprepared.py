"""Pods that have devices and do not start, on objects made by hand."""

from typing import Any

import pytest

from conformance.reference import Reference
from suites.dra import test_dra_claims
from tests.suites.test_suite_dra import JUST_NOW, YESTERDAY, Object, claim, facts, judged, node, plugin, pod, sound

STARTED = test_dra_claims.test_every_pod_with_devices_is_started
CREATING = {"waiting": {"reason": "ContainerCreating"}}


def hanging(
    *, sandbox: bool | None = False, since: str = YESTERDAY, state: Object | None = None, **spec: Any
) -> Object:
    made = pod("train", node="h100-dra-1", used="c", created=since)
    made["spec"] |= spec
    made["status"] |= {
        "startTime": since,
        "containerStatuses": [{"name": "c", "ready": False, "restartCount": 0, "state": state or CREATING}],
        "conditions": [{"type": "PodReadyToStartContainers", "status": str(sandbox)}] if sandbox is not None else [],
    }
    return made


def told(reference: Reference, *objects: Object) -> str:
    found = sound(claim("c", "gpu-0", used_by="train"), *objects)
    return judged(STARTED, reference, found).get("pod ml/train", "")


def test_a_pod_without_sandbox_is_found(reference: Reference) -> None:
    story = told(reference, hanging())

    assert "gpu.nvidia.com has not prepared the devices of resource claim ml/c on h100-dra-1" in story
    assert "or the pod network does not work there" in story


def test_the_network_works_where_another_pod_has_started_since(reference: Reference) -> None:
    other = pod("other", node="h100-dra-1", phase="Running")
    other["status"]["containerStatuses"] = [{"name": "c", "ready": True, "state": {"running": {"startedAt": JUST_NOW}}}]

    assert "network" not in told(reference, hanging(), other)


def test_a_volume_that_may_be_missing_is_named(reference: Reference) -> None:
    data = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]

    assert "or volume data is not there" in told(reference, hanging(volumes=data))


def test_without_the_condition_an_image_may_still_be_pulled(reference: Reference) -> None:
    assert "or its image is still being pulled" in told(reference, hanging(sandbox=None))


@pytest.mark.parametrize(
    "waiting",
    [
        hanging(since=JUST_NOW),
        hanging(sandbox=True),
        hanging(state={"running": {"startedAt": YESTERDAY}}),
        hanging(state={"waiting": {"reason": "ImagePullBackOff"}}),
        pod("train", node="h100-dra-1", used="c", phase="Running"),
        pod("train", used="c"),
    ],
    ids=["new", "has its sandbox", "runs", "its image", "Running", "has no node"],
)
def test_pods_that_start_or_wait_for_something_else_are_not_found(reference: Reference, waiting: Object) -> None:
    assert told(reference, waiting) == ""


def test_a_pod_on_a_node_without_kubelet_plugin_is_not_told_twice(reference: Reference) -> None:
    found = facts(node(), claim("c", "gpu-0", used_by="train"), hanging(), *plugin(runs_on=()))

    assert judged(STARTED, reference, found) == {}


def test_a_pod_of_a_compute_domain_is_not_told_twice(reference: Reference) -> None:
    channel = claim("channel", "channel-0", used_by="train")
    channel["status"]["allocation"]["devices"]["results"][0]["driver"] = "compute-domain.nvidia.com"

    assert told(reference, hanging(), channel) == ""
