"""Dynamic resource allocation where devices are unhealthy, MIG devices on demand, or all allocated."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest

from conformance.kube.errors import NotFound
from conformance.reference import Reference
from conformance.verdict import Inconclusive, Judge
from suites._shared.resource_slices import Device, DeviceClass, Held, device_class, published, still_free
from suites.dra import test_dra, test_dra_claims
from suites.dra.device_claims import free_devices
from tests.suites.test_suite_dra import (
    EIGHT,
    GPU_CLASS,
    Object,
    claim,
    class_of,
    device,
    facts,
    judged,
    node,
    plugin,
    pod,
    slice_of,
    sound,
)

PUBLISHED = test_dra.test_every_dra_node_publishes_its_devices
WAITING = test_dra_claims.test_no_pod_waits_for_a_claim
ALL = tuple(f"gpu-{number}" for number in range(8))
COUNTERS = [{"counterSet": "gpu-counter-set"}]
CUTTABLE = [device(number, consumesCounters=COUNTERS) for number in range(8)]


def part(gpu: int, start: int) -> Object:
    """A MIG device that the driver would make on demand: it has no UUID before."""
    made = device(gpu, name=f"gpu-{gpu}-mig-1g10gb-19-{start}", consumesCounters=COUNTERS)
    del made["attributes"]["uuid"]
    made["attributes"] |= {
        "type": {"string": "mig"},
        "parentUUID": {"string": f"GPU-{gpu}"},
        "profile": {"string": "1g.10gb"},
    }
    return made


PARTS = [part(gpu, start) for gpu in range(8) for start in range(7)]


def publishing(*devices: Object) -> Any:
    return facts(node(), slice_of("h100-dra-1", *devices), GPU_CLASS, *plugin(runs_on=("h100-dra-1",)))


# --- ill devices --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", ["NoSchedule", "NoExecute"])
def test_a_gpu_that_is_tainted_by_the_driver_is_missing(reference: Reference, effect: str) -> None:
    lost = device(3, taints=[{"key": "gpu.nvidia.com/gpu-lost", "effect": effect}])

    story = judged(PUBLISHED, reference, publishing(*EIGHT[:3], lost, *EIGHT[4:]))["node h100-dra-1"]

    assert "8 gpu, 1 of them tainted" in story
    assert "gpu h100-dra-1/gpu-3 with gpu.nvidia.com/gpu-lost" in story


@pytest.mark.parametrize(
    "taint",
    [
        {"key": "gpu.nvidia.com/unmonitored", "effect": "None"},
        {"key": "gpu.nvidia.com/xid", "value": "31", "effect": "None"},
        {"key": "example.com/repair", "effect": "NoSchedule"},
    ],
    ids=["unmonitored", "xid of a program", "cordon"],
)
def test_taints_that_only_inform_and_those_of_owners_do_not_make_a_gpu_unhealthy(
    reference: Reference, taint: Object
) -> None:
    assert judged(PUBLISHED, reference, publishing(*EIGHT[:7], device(7, taints=[taint]))) == {}


def test_a_device_with_a_taint_that_only_informs_is_free() -> None:
    told = device(0, taints=[{"key": "gpu.nvidia.com/unmonitored", "effect": "None"}])
    kept = device(1, taints=[{"key": "gpu.nvidia.com/xid", "effect": "NoSchedule"}])

    assert [each.name for each in still_free(published([slice_of("n", told, kept)])["n"].devices, ())] == ["gpu-0"]


# --- MIG devices on demand ----------------------------------------------------------------------------------------


def test_parts_that_a_gpu_may_be_cut_into_are_no_layout(reference: Reference) -> None:
    assert judged(PUBLISHED, reference, publishing(*CUTTABLE, *PARTS)) == {}
    assert "lists 7 gpu" in judged(PUBLISHED, reference, publishing(*CUTTABLE[:7], *PARTS[:49]))["node h100-dra-1"]


def test_mig_devices_that_are_there_where_whole_gpus_are_declared_are_reported(reference: Reference) -> None:
    made = part(7, 0)
    del made["consumesCounters"]

    assert "1 mig 1g.10gb" in judged(PUBLISHED, reference, publishing(*EIGHT[:7], made))["node h100-dra-1"]


def test_gpus_that_are_published_in_parts_alone_are_counted_and_not_judged(reference: Reference) -> None:
    with pytest.raises(Inconclusive, match="8 of its GPUs are published as MIG devices on demand only"):
        judged(PUBLISHED, reference, publishing(*PARTS))
    assert set(judged(PUBLISHED, reference, publishing(*PARTS[:49]))) == {"node h100-dra-1"}


def test_a_gpu_of_which_a_part_is_held_is_not_free() -> None:
    devices = published([slice_of("n", *CUTTABLE[:2], part(0, 0), part(0, 1), part(1, 0))])["n"].devices

    cut = still_free(devices, {Held("n", "gpu-0-mig-1g10gb-19-0")})
    whole = still_free(devices, {Held("n", "gpu-1")})

    assert [each.name for each in cut] == ["gpu-1", "gpu-1-mig-1g10gb-19-0"]
    assert "gpu-1-mig-1g10gb-19-0" not in [each.name for each in whole]


def test_mig_devices_of_one_gpu_that_are_there_are_free_each_for_itself() -> None:
    devices = [Device("n", "n", name, kind="mig", uuid=name, parent="GPU-0") for name in ("a", "b")]

    assert still_free(devices, {Held("n", "a")}) == (devices[1],)


def freely(chosen: DeviceClass, *devices: Object, held: str, rules: tuple[Object, ...] = ()) -> list[str]:
    """The devices that a scenario gets from an API server of Kubernetes 1.36 that serves rules where there are some."""
    api = "/apis/resource.k8s.io"
    listed = {
        f"{api}/v1/resourceslices": [slice_of("h100-dra-1", *devices)],
        f"{api}/v1/resourceclaims": [claim("held", held)],
        f"{api}/v1/deviceclasses": [GPU_CLASS],
        **({f"{api}/v1beta2/devicetaintrules": list(rules)} if rules else {}),
    }

    def served(path: str) -> list[Object]:
        if path not in listed:
            raise NotFound(404, "NotFound", "the server could not find the requested resource", "GET", path)
        return listed[path]

    lab: Any = SimpleNamespace(client=SimpleNamespace(list=served))
    return [each.name for each in free_devices(lab, facts(node()).nodes[0], chosen)]


def test_a_scenario_gets_devices_that_it_can_choose_and_know_again() -> None:
    any_device = device_class(class_of("any", "device.driver == 'gpu.nvidia.com'"))

    assert freely(device_class(GPU_CLASS), *CUTTABLE[:2], part(0, 0), held="gpu-0-mig-1g10gb-19-0") == ["gpu-1"]
    assert freely(any_device, *CUTTABLE[:2], part(1, 0), held="gpu-0") == ["gpu-1"]


def test_a_scenario_gets_no_device_that_a_rule_taints() -> None:
    rule = {
        "metadata": {"name": "rma"},
        "spec": {"deviceSelector": {"device": "gpu-1"}, "taint": {"key": "ops.example.com/rma", "effect": "NoExecute"}},
    }

    assert freely(device_class(GPU_CLASS), *EIGHT[:3], held="gpu-0", rules=(rule,)) == ["gpu-2"]


def test_another_product_in_parts_alone_is_reported(reference: Reference) -> None:
    other = copy.deepcopy(PARTS)
    other[0]["attributes"]["productName"] = {"string": "NVIDIA A100-SXM4-80GB"}

    assert "NVIDIA A100-SXM4-80GB" in judged(PUBLISHED, reference, publishing(*other))["node h100-dra-1"]


# --- waiting for a turn -------------------------------------------------------------------------------------------


def wanted(*, count: int = 1, selecting: str = "", name: str = "wanted", chosen: tuple[str, ...] = ()) -> Object:
    made = claim(name, *chosen)
    exactly = made["spec"]["devices"]["requests"][0]["exactly"]
    exactly |= {"count": count}
    if selecting:
        exactly["selectors"] = [{"cel": {"expression": selecting}}]
    return made


@pytest.mark.parametrize(
    ("name", "driver"), [("dranet.io", "dra.net"), ("compute-domain-default-channel", "compute-domain.nvidia.com")]
)
def test_claims_that_are_no_gpus_are_left_to_others(reference: Reference, name: str, driver: str) -> None:
    other = class_of(name, f"device.driver == '{driver}'")
    found = sound(other, claim("wanted", asked=name), pod("p", used="wanted"))

    assert judged(WAITING, reference, found) == {}


def test_a_class_that_names_the_driver_with_an_attribute_alone_is_one_of_gpus(reference: Reference) -> None:
    large = class_of("large", "device.attributes['gpu.nvidia.com'].productName == 'NVIDIA B200'")

    assert "pod ml/p" in judged(WAITING, reference, sound(large, claim("w", asked="large"), pod("p", used="w")))


@pytest.mark.parametrize(("count", "held"), [(1, ALL), (8, ("gpu-0",))], ids=["one of none", "all of seven"])
def test_a_pod_that_waits_for_its_turn_is_no_finding(reference: Reference, count: int, held: tuple[str, ...]) -> None:
    judge = Judge()
    found = sound(claim("held", *held), wanted(count=count), pod("p", used="wanted"))

    assert judged(WAITING, reference, found, judge) == {}
    assert not judge.unseen


def test_free_devices_on_nodes_where_the_pod_may_not_go_end_no_turn(reference: Reference) -> None:
    elsewhere = node("other-1")
    elsewhere["metadata"]["labels"] = {}
    chosen = pod("p", used="wanted")
    chosen["spec"]["nodeSelector"] = {"eks.amazonaws.com/nodegroup": "h100-dra"}

    found = sound(elsewhere, slice_of("other-1", *EIGHT), claim("held", *ALL), wanted(), chosen)

    assert "pod ml/p" not in judged(WAITING, reference, found)


def test_more_devices_than_a_node_has_come_in_no_turn(reference: Reference) -> None:
    found = sound(claim("held", *ALL), wanted(count=9), pod("p", used="wanted"))

    assert "no node has 9 devices" in judged(WAITING, reference, found)["pod ml/p"]


def test_tainted_devices_come_in_no_turn(reference: Reference) -> None:
    ill = copy.deepcopy(EIGHT[0]) | {"taints": [{"key": "gpu.nvidia.com/xid", "effect": "NoSchedule"}]}
    found = facts(node(), slice_of("h100-dra-1", ill), GPU_CLASS, wanted(), pod("p", used="wanted"))

    assert "without taint: gpu h100-dra-1/gpu-0 (" in judged(WAITING, reference, found)["pod ml/p"]


def test_selectors_are_taken_for_right_where_another_claim_has_devices_by_them(reference: Reference) -> None:
    by_product = "device.attributes['gpu.nvidia.com'].productName == 'NVIDIA H100 80GB HBM3'"
    waits = [wanted(selecting=by_product), pod("p", used="wanted")]
    tried, untried = Judge(), Judge()

    assert judged(WAITING, reference, sound(wanted(name="held", selecting=by_product, chosen=ALL), *waits), tried) == {}
    assert judged(WAITING, reference, sound(claim("held", *ALL), *waits), untried) == {}
    assert not tried.unseen
    assert [str(each.subject) for each in untried.unseen] == ["pod ml/p"]
