"""Where a volume of a zone can be used, as kube-scheduler's VolumeZone decides it."""

from typing import Any

import pytest

from conformance.gpu.volume_places import Storage, VolumePlaces

ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"
OLD_ZONE = "failure-domain.beta.kubernetes.io/zone"
POD: dict[str, Any] = {
    "metadata": {"name": "train", "namespace": "team"},
    "spec": {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]},
}
CLAIM: dict[str, Any] = {"metadata": {"name": "data", "namespace": "team"}, "spec": {"volumeName": "disk"}}


def obstacles(of_volume: dict[str, str], of_node: dict[str, str]) -> list[str]:
    volume = {"metadata": {"name": "disk", "labels": of_volume}, "spec": {}}
    places = VolumePlaces(POD, Storage([CLAIM], [volume], []), [], {})
    return [*places.on({"metadata": {"name": "gpu-1", "labels": of_node}})]


@pytest.mark.parametrize(
    ("of_volume", "of_node"),
    [
        ({ZONE: "a"}, {ZONE: "a"}),
        ({ZONE: "a__b"}, {ZONE: "b"}),
        ({OLD_ZONE: "a"}, {ZONE: "a"}),
        ({ZONE: "a"}, {}),
        ({ZONE: "a"}, {"zone": "b"}),
        ({}, {ZONE: "a"}),
    ],
)
def test_a_volume_can_be_used_in_its_zone_and_on_nodes_that_say_no_zone_at_all(
    of_volume: dict[str, str], of_node: dict[str, str]
) -> None:
    assert obstacles(of_volume, of_node) == []


@pytest.mark.parametrize(
    ("of_volume", "of_node", "told"),
    [
        ({ZONE: "a"}, {ZONE: "b"}, "volume of claim data is in zone a, the node in b"),
        ({ZONE: "a"}, {REGION: "eu"}, "volume of claim data is in zone a, the node in none"),
        ({REGION: "eu"}, {REGION: "us"}, "volume of claim data is in region eu, the node in us"),
        ({OLD_ZONE: "a"}, {OLD_ZONE: "b", ZONE: "a"}, "volume of claim data is in zone a, the node in b"),
        ({ZONE: "a"}, {OLD_ZONE: "a"}, "volume of claim data is in zone a, the node in none"),
    ],
)
def test_a_volume_of_another_zone_or_region_keeps_the_pod_off(
    of_volume: dict[str, str], of_node: dict[str, str], told: str
) -> None:
    assert obstacles(of_volume, of_node) == [told]
