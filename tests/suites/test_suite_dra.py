"""Dynamic resource allocation, on objects made by hand: what is read, and what is reported as failed."""

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from conformance.facts import Facts, Node
from conformance.gpu.device_taints import DeviceTaint
from conformance.lab.podspec import Asked, pod_spec
from conformance.reference import Reference
from conformance.reference.model import Pool, Quota
from conformance.verdict import Inconclusive, Judge, NotApplicable, Unsupported, Waits
from suites import conftest
from suites._shared.node_gpus import shows_gpus
from suites._shared.pool_nodes import GpuPoolNode
from suites._shared.resource_slices import Device, Held, classes_asked, device_class, held_by, published
from suites.dra import test_dra, test_dra_claims
from suites.dra.device_claims import gpu_claims, gpu_classes, waiting_claims, why_deletion_is_stuck, why_not_allocated
from suites.dra.dra_nodes import declared_devices, driver_floor, format_devices, plugin_failure, version

Object = dict[str, Any]
NOW = datetime(2026, 9, 20, 12, tzinfo=UTC)
YESTERDAY = (NOW - timedelta(days=1)).isoformat()
JUST_NOW = (NOW - timedelta(seconds=30)).isoformat()
API = "resource.k8s.io/v1"


def device(number: int, **more: Any) -> Object:
    said = {
        "type": {"string": "gpu"},
        "uuid": {"string": f"GPU-{number}"},
        "productName": {"string": "NVIDIA H100 80GB HBM3"},
        "driverVersion": {"version": "580.95.5"},
    }
    return {"name": f"gpu-{number}", "attributes": said, "capacity": {"memory": {"value": "81559Mi"}}, **more}


def slice_of(node: str, *devices: Object, generation: int = 1, of: int = 1, name: str = "") -> Object:
    pool = {"name": node, "generation": generation, "resourceSliceCount": of}
    spec = {"driver": "gpu.nvidia.com", "nodeName": node, "pool": pool, "devices": list(devices)}
    metadata = {"name": name or f"{node}-{generation}"}
    return {"apiVersion": API, "kind": "ResourceSlice", "metadata": metadata, "spec": spec}


def class_of(name: str, expression: str, **more: Any) -> Object:
    spec = {"selectors": [{"cel": {"expression": expression}}], **more}
    return {"apiVersion": API, "kind": "DeviceClass", "metadata": {"name": name}, "spec": spec}


GPU_CLASS = class_of(
    "gpu.nvidia.com", "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'gpu'"
)
EIGHT = [device(number) for number in range(8)]


def claim(name: str, *chosen: str, asked: str = "gpu.nvidia.com", deleted: str = "", used_by: str = "") -> Object:
    results = [{"request": "r", "driver": "gpu.nvidia.com", "pool": "h100-dra-1", "device": each} for each in chosen]
    metadata: Object = {"name": name, "namespace": "ml", "creationTimestamp": YESTERDAY}
    if deleted:
        metadata |= {"deletionTimestamp": deleted, "finalizers": ["resource.kubernetes.io/delete-protection"]}
    status: Object = {"allocation": {"devices": {"results": results}}} if chosen else {}
    if used_by:
        status["reservedFor"] = [{"resource": "pods", "name": used_by, "uid": "u"}]
    spec = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": asked}}]}}
    return {"apiVersion": API, "kind": "ResourceClaim", "metadata": metadata, "spec": spec, "status": status}


def pod(name: str, *, node: str = "", used: str = "", phase: str = "Pending", created: str = YESTERDAY) -> Object:
    spec: Object = {"containers": [{"name": "c", "image": "i"}], "nodeName": node}
    if used:
        spec["resourceClaims"] = [{"name": "gpu", "resourceClaimName": used}]
    metadata = {"name": name, "namespace": "ml", "creationTimestamp": created}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": phase}}


def node(name: str = "h100-dra-1", allocatable: Object | None = None, **more: Any) -> Object:
    taints = [
        {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"},
        {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"},
    ]
    labels = {"eks.amazonaws.com/nodegroup": "h100-dra"}
    status = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "allocatable": allocatable or {},
        "capacity": allocatable or {},
        "nodeInfo": {"kubeletVersion": "v1.36.3"},
    }
    metadata = {"name": name, "labels": labels, "creationTimestamp": "2026-03-01T00:00:00Z"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": metadata,
        "spec": {"taints": taints, **more},
        "status": status,
    }


def plugin(
    *, root: str = "/", tolerations: bool = True, domains: bool = False, runs_on: tuple[str, ...] = ()
) -> list[Object]:
    name, namespace = "dra-driver-nvidia-gpu-kubelet-plugin", "nvidia-dra-driver-gpu"
    env = [{"name": "NVIDIA_DRIVER_ROOT", "value": root}]
    containers = [{"name": "gpus", "image": "dra:v0.4.1", "env": env}]
    containers += [{"name": "compute-domains", "image": "dra:v0.4.1", "env": env}] if domains else []
    tolerated = [{"operator": "Exists"}] if tolerations else []
    spec = {"containers": containers, "tolerations": tolerated}
    count = len(runs_on)
    made = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": "2026-03-01T00:00:00Z"},
        "spec": {"selector": {}, "template": {"spec": spec}},
        "status": {"desiredNumberScheduled": count, "currentNumberScheduled": count, "numberAvailable": count},
    }
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": name, "controller": True}
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"plugin-{each}", "namespace": namespace, "ownerReferences": [owner]},
            "spec": {**copy.deepcopy(spec), "nodeName": each},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        }
        for each in runs_on
    ]
    return [made, *pods]


def facts(*objects: Object, version: str = "v1.36.3") -> Facts:
    return Facts.from_objects(objects, server_version=version, taken_at=NOW)


def sound(*more: Object) -> Facts:
    return facts(node(), slice_of("h100-dra-1", *EIGHT), GPU_CLASS, *plugin(runs_on=("h100-dra-1",)), *more)


def dra_nodes(reference: Reference, found: Facts) -> tuple[GpuPoolNode, ...]:
    pool = reference.pool("h100-dra")
    assert pool is not None
    assert pool.gpu is not None
    return tuple(GpuPoolNode(pool, each, pool.gpu) for each in found.nodes)


def judged(requirement: Any, reference: Reference, found: Facts, judge: Judge | None = None) -> dict[str, str]:
    """The broken subjects of a requirement, each with its story."""
    judge = judge or Judge()
    known = {
        "reference": reference,
        "facts": found,
        "judge": judge,
        "dra_nodes": dra_nodes(reference, found),
        "slices": published(each.body for each in found.resource_slices),
        "classes": gpu_classes(found),
    }
    names = requirement.__code__.co_varnames[: requirement.__code__.co_argcount]
    requirement(**{name: known[name] for name in names})
    if nothing := judge.nothing_judged():
        raise nothing
    return {str(each.subject): f"{each.actual} | {each.cause} | {each.remedy}" for each in judge.broken}


# --- reading ------------------------------------------------------------------------------------------------------


def test_only_the_newest_generation_of_a_pool_counts_and_missing_slices_are_counted() -> None:
    old = slice_of("n", device(0), device(1), generation=1)
    new = slice_of("n", device(0), generation=2, of=2)

    found = published([old, new])["n"]

    assert [each.name for each in found.devices] == ["gpu-0"]
    assert found.missing == 1
    assert found.described == "1 gpu"


def test_slices_of_other_drivers_are_ignored() -> None:
    other = slice_of("n", device(0))
    other["spec"]["driver"] = "dra.net"

    assert published([other]) == {}


def test_a_device_is_read_whatever_form_its_attributes_have() -> None:
    raw = device(3, taints=[{"key": "gpu.nvidia.com/xid", "effect": "NoSchedule"}], consumesCounters=[{}])
    raw["attributes"]["gpu.nvidia.com/profile"] = {"string": "1g.5gb"}

    [found] = published([slice_of("n", raw)])["n"].devices

    assert found == Device(
        node="n", pool="n", name="gpu-3", kind="gpu", uuid="GPU-3", product="NVIDIA H100 80GB HBM3", profile="1g.5gb",
        driver="580.95.5", memory_mib=81559, taints=(DeviceTaint("gpu.nvidia.com/xid", "", "NoSchedule"),),
        partition=True,
    )  # fmt: skip


def test_a_device_is_the_same_in_the_older_form_of_the_api() -> None:
    new = device(0, taints=[{"key": "gpu.nvidia.com/xid", "effect": "NoSchedule"}])
    older = {"name": new["name"], "basic": {key: value for key, value in new.items() if key != "name"}}

    assert published([slice_of("n", older)]) == published([slice_of("n", new)])


def test_a_class_has_driver_type_and_resource() -> None:
    found = device_class(class_of("c", 'device.driver == "gpu.nvidia.com" && x.type=="mig"', extendedResourceName="r"))

    assert (found.driver, found.kind, found.resource) == ("gpu.nvidia.com", "mig", "r")
    assert found.quota_key == "c.deviceclass.resource.k8s.io/devices"
    assert not found.may_choose(Device("n", "n", "gpu-0", kind="gpu"))
    assert device_class(class_of("every", "true")).may_choose(Device("n", "n", "gpu-0", kind="gpu"))


def test_who_only_looks_on_holds_nothing() -> None:
    looking = claim("a", "gpu-0")
    looking["status"]["allocation"]["devices"]["results"][0]["adminAccess"] = True

    assert held_by(looking) == []
    assert held_by(claim("b", "gpu-1")) == [Held("h100-dra-1", "gpu-1")]


def test_alternatives_of_a_request_are_classes_asked_for() -> None:
    request = {"name": "r", "firstAvailable": [{"name": "a", "deviceClassName": "x"}, {"deviceClassName": "y"}]}

    assert classes_asked({"devices": {"requests": [request]}}) == ["x", "y"]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("v1.34.1-gke.1400", (1, 34, 1)), ("580.95.05", (580, 95, 5)), ("565", (565, 0, 0)), ("", (0, 0, 0))],
)
def test_versions_are_compared_as_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert version(text) == numbers


def test_the_layout_of_a_pool_says_which_mig_devices_are_published(reference: Reference) -> None:
    mig = reference.pool("a100-mig")
    assert mig is not None
    assert format_devices(declared_devices(reference, mig)) == "32 mig 1g.5gb, 12 mig 2g.10gb"
    unknown = msgspec.structs.replace(mig, labels={**mig.labels, "nvidia.com/mig.config": "nobody-knows"})
    with pytest.raises(Inconclusive, match="nobody-knows"):
        declared_devices(reference, unknown)


def test_a_pod_of_the_lab_uses_the_claims_it_was_given() -> None:
    spec = pod_spec(Asked(claims={"gpu": {"resourceClaimTemplateName": "one"}}))

    assert spec["resourceClaims"] == [{"name": "gpu", "resourceClaimTemplateName": "one"}]
    assert spec["containers"][0]["resources"]["claims"] == [{"name": "gpu"}]
    assert "resourceClaims" not in pod_spec(Asked())


# --- judging ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "requirement",
    [
        test_dra.test_kubernetes_is_new_enough,
        test_dra.test_the_kubelet_plugin_covers_every_dra_node,
        test_dra.test_every_dra_node_publishes_its_devices,
        test_dra.test_the_gpu_driver_is_new_enough,
        test_dra.test_no_gpu_is_offered_twice,
        test_dra.test_device_classes_choose_their_devices,
        test_dra_claims.test_no_claim_is_stuck_in_its_deletion,
        test_dra_claims.test_no_pod_waits_for_a_claim,
    ],
    ids=lambda requirement: requirement.__name__,
)
def test_a_sound_cluster_passes(requirement: Any, reference: Reference) -> None:
    assert judged(requirement, reference, sound(claim("held", "gpu-0"))) == {}


def test_an_api_server_without_the_api_is_a_finding_and_everything_else_waits_for_it(reference: Reference) -> None:
    old = msgspec_less(sound())

    assert "resource.k8s.io/v1" in judged(test_dra.test_kubernetes_is_new_enough, reference, old)
    with pytest.raises(Waits, match=r"resource\.k8s\.io/v1") as raised:
        conftest.slices.__wrapped__(old, dra_nodes(reference, old))
    assert raised.value.requirement == "DRA-01"


def msgspec_less(found: Facts) -> Facts:
    """The same cluster with an API server that does not serve slices."""
    found.unserved = frozenset({"ResourceSlice"})
    return found


def test_too_old_an_api_server_is_named(reference: Reference) -> None:
    found = facts(node(), slice_of("h100-dra-1", *EIGHT), version="v1.34.1")

    assert list(judged(test_dra.test_kubernetes_is_new_enough, reference, found)) == ["the API server"]


def test_a_plugin_that_does_not_tolerate_the_node_is_reported(reference: Reference) -> None:
    found = facts(node(), GPU_CLASS, *plugin(tolerations=False))

    [story] = judged(test_dra.test_the_kubelet_plugin_covers_every_dra_node, reference, found).values()

    assert "nvidia.com/gpu=present:NoSchedule" in story
    assert "kubeletPlugin.tolerations" in story


def test_a_plugin_that_is_not_there_at_all_is_reported(reference: Reference) -> None:
    [story] = judged(test_dra.test_the_kubelet_plugin_covers_every_dra_node, reference, facts(node())).values()

    assert "no DaemonSet of the DRA driver" in story


def test_a_driver_that_nodes_run_by_themselves_is_not_missed(reference: Reference) -> None:
    of_the_platform = msgspec.structs.replace(reference, stack=None)
    found = facts(node(), slice_of("h100-dra-1", *EIGHT), second())

    with pytest.raises(Unsupported, match="outside Kubernetes"):
        judged(COVERED, of_the_platform, found)
    assert set(judged(PUBLISHED, of_the_platform, found)) == {"node h100-dra-2"}
    assert "has published none of this one" in judged(PUBLISHED, of_the_platform, found)["node h100-dra-2"]
    assert "no DaemonSet of the DRA driver" in judged(COVERED, reference, found)["node h100-dra-2"]
    assert judged(PUBLISHED, of_the_platform, facts(node(), slice_of("h100-dra-1", *EIGHT))) == {}


def test_a_node_that_runs_the_driver_itself_has_time_to_publish(reference: Reference) -> None:
    of_the_platform = msgspec.structs.replace(reference, stack=None)
    new = second(metadata={"creationTimestamp": JUST_NOW})
    judge = Judge()

    assert judged(PUBLISHED, of_the_platform, facts(node(), slice_of("h100-dra-1", *EIGHT), new), judge) == {}
    assert [str(each.subject) for each in judge.unseen] == ["node h100-dra-2"]


def test_the_wrong_driver_root_is_reported_where_the_plugin_is_not_ready() -> None:
    objects = plugin(root="/run/nvidia/driver", runs_on=("h100-dra-1",))
    objects[1]["status"] = {"phase": "Pending"}
    found = facts(node(), *objects)

    failure = plugin_failure(found, found.nodes[0])

    assert failure is not None
    assert "NVIDIA_DRIVER_ROOT is /run/nvidia/driver, and the host itself has the driver at /" in failure.cause
    assert "nvidiaDriverRoot" in failure.remedy


@pytest.mark.parametrize("root", ["/home/kubernetes/bin/nvidia", "/opt/nvidia"])
def test_a_driver_root_of_a_platform_is_not_called_wrong(root: str) -> None:
    objects = plugin(root=root, runs_on=("h100-dra-1",))
    objects[1]["status"] = {"phase": "Pending"}
    found = facts(node(), *objects)

    failure = plugin_failure(found, found.nodes[0])

    assert failure is not None
    assert "NVIDIA_DRIVER_ROOT" not in failure.cause
    assert "nvidiaDriverRoot" not in failure.remedy


def test_a_node_without_its_devices_says_what_comes_first(reference: Reference) -> None:
    seven = facts(node(), slice_of("h100-dra-1", *EIGHT[:7]), *plugin(runs_on=("h100-dra-1",)))
    none = facts(node(), *plugin(runs_on=("h100-dra-1",)))
    rule = test_dra.test_every_dra_node_publishes_its_devices

    assert "lists 7 gpu" in judged(rule, reference, seven)["node h100-dra-1"]
    assert "has published nothing" in judged(rule, reference, none)["node h100-dra-1"]


COVERED, PUBLISHED = (
    test_dra.test_the_kubelet_plugin_covers_every_dra_node,
    test_dra.test_every_dra_node_publishes_its_devices,
)


def second(**changed: Any) -> Object:
    """Another node of the pool, with other metadata, labels or conditions."""
    made = node("h100-dra-2")
    made["metadata"] |= changed.get("metadata", {})
    made["metadata"]["labels"] |= changed.get("labels", {})
    made["status"]["conditions"] = [{"type": "Ready", "status": changed.get("ready", "True")}]
    return made


def passed_over(requirement: Any, reference: Reference, *objects: Object) -> dict[str, str]:
    """The nodes that a requirement passes over beside a sound one, with the reasons."""
    first = [node(), slice_of("h100-dra-1", *EIGHT), GPU_CLASS, *plugin(runs_on=("h100-dra-1",))]
    judge = Judge()
    assert judged(requirement, reference, facts(*first, *objects), judge) == {}
    return {str(each.subject): each.why for each in judge.unseen}


def starting() -> Object:
    """A pod of the plugin on the second node, a moment old."""
    made = plugin(runs_on=("h100-dra-2",))[1]
    made["metadata"]["creationTimestamp"] = JUST_NOW
    made["status"] = {"phase": "Pending"}
    return made


@pytest.mark.parametrize("requirement", [COVERED, PUBLISHED], ids=["DRA-02", "DRA-03"])
def test_what_cannot_be_there_yet_is_not_missed(requirement: Any, reference: Reference) -> None:
    new = passed_over(requirement, reference, second(metadata={"creationTimestamp": JUST_NOW}))
    young_pod = passed_over(requirement, reference, second(), starting())
    dead = passed_over(requirement, reference, second(ready="Unknown"))

    assert [list(each) for each in (new, young_pod, dead)] == [["node h100-dra-2"]] * 3
    assert "it is starting: " in new["node h100-dra-2"]
    assert "it is starting: pod nvidia-dra-driver-gpu/plugin-h100-dra-2" in young_pod["node h100-dra-2"]
    assert dead["node h100-dra-2"] == "the node is not Ready"


@pytest.mark.parametrize("requirement", [COVERED, PUBLISHED], ids=["DRA-02", "DRA-03"])
def test_lasting_failures_on_a_new_node_are_reported(requirement: Any, reference: Reference) -> None:
    new = second(metadata={"creationTimestamp": JUST_NOW})
    refused = facts(node(), new, slice_of("h100-dra-1", *EIGHT), *plugin(tolerations=False, runs_on=("h100-dra-1",)))

    assert set(judged(requirement, reference, refused)) == {"node h100-dra-2"}


def test_a_slice_that_is_not_whole_on_a_new_node_is_reported(reference: Reference) -> None:
    new = second(metadata={"creationTimestamp": JUST_NOW})
    found = sound(new, slice_of("h100-dra-2", *EIGHT[:7]))

    assert set(judged(PUBLISHED, reference, found)) == {"node h100-dra-2"}


@pytest.mark.parametrize("requirement", [COVERED, PUBLISHED], ids=["DRA-02", "DRA-03"])
def test_where_every_node_is_new_nothing_is_known_yet(requirement: Any, reference: Reference) -> None:
    new = second(metadata={"creationTimestamp": JUST_NOW})

    with pytest.raises(Inconclusive, match="it is starting"):
        judged(requirement, reference, facts(new, *plugin()))


def test_compute_domains_need_a_newer_driver(reference: Reference) -> None:
    old = [copy.deepcopy(each) for each in EIGHT]
    for each in old:
        each["attributes"]["driverVersion"]["version"] = "570.86.15"
    objects = [node(), slice_of("h100-dra-1", *old)]
    with_domains = facts(*objects, *plugin(domains=True, runs_on=("h100-dra-1",)))
    without = facts(*objects, *plugin(runs_on=("h100-dra-1",)))
    rule = test_dra.test_the_gpu_driver_is_new_enough

    assert judged(rule, reference, without) == {}
    assert "570.86.15" in judged(rule, reference, with_domains)["node h100-dra-1"]
    assert driver_floor(with_domains, with_domains.nodes[0])[0] == "570.158.01"


def test_an_unknown_driver_is_not_judged(reference: Reference) -> None:
    silent = copy.deepcopy(EIGHT[0])
    del silent["attributes"]["driverVersion"]

    with pytest.raises(Inconclusive):
        judged(test_dra.test_the_gpu_driver_is_new_enough, reference, facts(node(), slice_of("h100-dra-1", silent)))


def test_a_gpu_that_is_counted_and_published_is_offered_twice(reference: Reference) -> None:
    both = facts(node(allocatable={"nvidia.com/gpu": "8"}), slice_of("h100-dra-1", *EIGHT))

    assert "8 nvidia.com/gpu" in judged(test_dra.test_no_gpu_is_offered_twice, reference, both)["node h100-dra-1"]


def without_dra(reference: Reference) -> Reference:
    """A set-up whose GPUs are all allocated by device plugins."""
    pools = tuple(pool for pool in reference.pools if pool.gpu is None or pool.gpu.allocated_by != "dra")
    return msgspec.structs.replace(reference, pools=pools)


def test_a_gpu_is_offered_twice_also_where_no_dra_is_declared(reference: Reference) -> None:
    both = facts(node(allocatable={"nvidia.com/gpu": "8"}), slice_of("h100-dra-1", *EIGHT))

    assert "node h100-dra-1" in _offered_twice(without_dra(reference), both)


@pytest.mark.parametrize("unreadable", [{}, {"ResourceSlice": "Forbidden: no"}])
def test_where_no_dra_is_declared_and_nothing_is_published_nothing_is_offered_twice(
    reference: Reference, unreadable: dict[str, str]
) -> None:
    found = Facts.from_objects([node(allocatable={"nvidia.com/gpu": "8"})], unreadable, taken_at=NOW)

    with pytest.raises(NotApplicable):
        _offered_twice(without_dra(reference), found)


def _offered_twice(reference: Reference, found: Facts) -> dict[str, str]:
    judge = Judge()
    test_dra.test_no_gpu_is_offered_twice(reference, found, judge)
    return {str(each.subject): each.cause for each in judge.broken}


def test_a_node_whose_gpus_are_in_slices_only_shows_gpus(reference: Reference) -> None:
    plain, published_node = node(), facts(node(), slice_of("h100-dra-1", *EIGHT))
    plain["metadata"]["labels"] = {}
    silent = facts(plain)

    assert shows_gpus(published_node.nodes[0], reference, published_node)
    assert not shows_gpus(silent.nodes[0], reference, silent)


@pytest.mark.parametrize(
    ("partition", "broken"), [({}, True), ({"consumesCounters": [{"counterSet": "gpu-0-counter-set"}]}, False)]
)
def test_a_mig_device_beside_its_gpu_is_twice_unless_they_share_counters(
    reference: Reference, partition: Object, broken: bool
) -> None:
    part = device(9)
    part["attributes"] |= {"type": {"string": "mig"}, "parentUUID": {"string": "GPU-0"}, "uuid": {"string": "MIG-0"}}
    found = facts(node(), slice_of("h100-dra-1", {**device(0), **partition}, part))

    assert bool(judged(test_dra.test_no_gpu_is_offered_twice, reference, found)) is broken


def test_a_class_that_chooses_something_else_is_reported(reference: Reference) -> None:
    every = class_of("gpu.nvidia.com", "device.driver == 'gpu.nvidia.com'")
    found = facts(node(), slice_of("h100-dra-1", *EIGHT), every)
    rule = test_dra.test_device_classes_choose_their_devices

    assert list(judged(rule, reference, found)) == ["device class gpu.nvidia.com"]
    assert "does not exist" in judged(rule, reference, facts(node()))["device class gpu.nvidia.com"]


def test_without_a_class_for_a_resource_counting_is_not_supported(reference: Reference) -> None:
    with pytest.raises(Unsupported, match=r"nvidia\.com/gpu get no device"):
        judged(test_dra.test_a_resource_stands_for_one_class, reference, sound())


def test_two_classes_for_one_resource_are_named(reference: Reference) -> None:
    one = copy.deepcopy(GPU_CLASS)
    one["spec"]["extendedResourceName"] = "nvidia.com/gpu"
    other = class_of("other", "true", extendedResourceName="nvidia.com/gpu")
    found = facts(node(), slice_of("h100-dra-1", *EIGHT), one, other)

    [story] = judged(test_dra.test_a_resource_stands_for_one_class, reference, found).values()

    assert "device class gpu.nvidia.com, device class other" in story


@pytest.mark.parametrize(
    ("stuck", "more", "says"),
    [
        (claim("c", "gpu-0", deleted=YESTERDAY, used_by="p"), [], "has not taken the reservation away"),
        (claim("c", "gpu-0", deleted=YESTERDAY, used_by="p"), [pod("p", node="n", phase="Running")], "still uses it"),
        (claim("c", "gpu-0", deleted=YESTERDAY), [], "its finalizers are not removed"),
    ],
)
def test_a_claim_that_does_not_go_says_what_keeps_it(
    reference: Reference, stuck: Object, more: list[Object], says: str
) -> None:
    found = sound(stuck, *more)

    broken = judged(test_dra_claims.test_no_claim_is_stuck_in_its_deletion, reference, found)

    assert says in broken["resource claim ml/c"]
    assert why_deletion_is_stuck(gpu_claims(found)[0], found) in broken["resource claim ml/c"]


def test_a_claim_that_was_deleted_a_moment_ago_is_only_going(reference: Reference) -> None:
    going = sound(claim("c", "gpu-0", deleted=JUST_NOW, used_by="p"))

    assert judged(test_dra_claims.test_no_claim_is_stuck_in_its_deletion, reference, going) == {}


def test_claims_of_other_drivers_are_no_claims_of_gpus() -> None:
    assert gpu_claims(sound(claim("net", asked="dra.net"))) == ()


@pytest.mark.parametrize(
    ("asked", "taken", "says"),
    [
        ("h100", (), "there is no device class h100"),
        ("mig.nvidia.com", (), "no node publishes a device of mig.nvidia.com"),
        ("gpu.nvidia.com", ("gpu-0",), "7 of 8 devices of gpu.nvidia.com are free"),
    ],
)
def test_a_claim_without_device_says_why(reference: Reference, asked: str, taken: tuple[str, ...], says: str) -> None:
    mig = class_of("mig.nvidia.com", "device.driver == 'gpu.nvidia.com' && device.attributes['x'].type == 'mig'")
    held = [claim("held", *taken)] if taken else []
    found = sound(mig, *held, claim("wanted", asked=asked), pod("p", used="wanted"))

    assert says in judged(test_dra_claims.test_no_pod_waits_for_a_claim, reference, found)["pod ml/p"]
    [waiting] = waiting_claims(found)
    assert says in why_not_allocated(waiting.claim, found)


def test_a_pod_of_a_moment_ago_is_not_waiting_yet() -> None:
    assert not list(waiting_claims(sound(claim("wanted"), pod("p", used="wanted", created=JUST_NOW))))


def test_a_claim_of_two_drivers_waits_for_the_one_that_publishes_nothing(reference: Reference) -> None:
    both = claim("both")
    nic = {"name": "nic", "exactly": {"deviceClassName": "rdma"}}
    both["spec"]["devices"]["requests"].append(nic)
    found = sound(class_of("rdma", "device.driver == 'dra.net'"), both, pod("train", used="both"))

    broken = judged(test_dra_claims.test_no_pod_waits_for_a_claim, reference, found)

    assert "no node publishes a device of driver dra.net, of which device class rdma is" in broken["pod ml/train"]


TAINTED = {"taints": [{"key": "ops.example.com/rma", "effect": "NoSchedule"}]}


@pytest.mark.parametrize(
    ("devices", "held", "says"),
    [
        (EIGHT, "gpu-3", ""),
        (EIGHT, "", "something else keeps the pod off their nodes"),
        ([*EIGHT[:7], device(7, **TAINTED)], "gpu-3", "no node has them without taint: gpu h100-dra-1/gpu-7"),
    ],
)
def test_a_claim_of_all_devices_of_a_node_waits_for_the_last_of_them(
    reference: Reference, devices: list[Object], held: str, says: str
) -> None:
    every = claim("all")
    every["spec"]["devices"]["requests"][0]["exactly"]["allocationMode"] = "All"
    others = [claim("one", held)] if held else []
    slices = slice_of("h100-dra-1", *devices)
    found = facts(node(), slices, GPU_CLASS, every, *others, pod("train", used="all"))

    broken = judged(test_dra_claims.test_no_pod_waits_for_a_claim, reference, found)

    assert [says in story for subject, story in broken.items() if subject == "pod ml/train"] == [True] * bool(says)


RMA = {"key": "ops.example.com/rma", "value": "4711", "effect": "NoSchedule"}


def taint_rule(selector: Object | None = None, **taint: str) -> Object:
    """A DeviceTaintRule, of Kubernetes 1.36 and for every device where no selector is given."""
    spec = {"deviceSelector": {} if selector is None else selector, "taint": {**RMA, **taint}}
    return {
        "apiVersion": "resource.k8s.io/v1beta2",
        "kind": "DeviceTaintRule",
        "metadata": {"name": "rma"},
        "spec": spec,
    }


def waiting_beside(reference: Reference, rule: Object, *more: Object, **request: Any) -> str:
    """What is said of a pod that waits for one device of eight; empty where nothing is."""
    wanted = claim("wanted")
    wanted["spec"]["devices"]["requests"][0]["exactly"] |= request
    found = sound(wanted, pod("train", used="wanted"), rule, *more)
    return judged(test_dra_claims.test_no_pod_waits_for_a_claim, reference, found).get("pod ml/train", "")


@pytest.mark.parametrize(
    "rule",
    [
        taint_rule(),
        taint_rule({"driver": "gpu.nvidia.com"}, effect="NoExecute"),
        {**taint_rule({"deviceClassName": "gpu.nvidia.com"}), "apiVersion": "resource.k8s.io/v1alpha3"},
    ],
    ids=["every device", "of the driver", "of a class, as in Kubernetes 1.34"],
)
def test_a_rule_that_taints_all_devices_is_why_a_claim_waits(reference: Reference, rule: Object) -> None:
    told = waiting_beside(reference, rule)

    assert "0 at most without taint: gpu h100-dra-1/gpu-0 (ops.example.com/rma=4711:No" in told
    assert "of DeviceTaintRule rma" in told
    assert "Delete a rule that is no longer needed" in told


@pytest.mark.parametrize(
    "rule",
    [
        taint_rule(effect="None"),
        taint_rule({"pool": "h100-dra-1", "device": "gpu-0"}),
        taint_rule({"driver": "dra.net"}),
        taint_rule({"deviceClassName": "no-such-class"}),
    ],
    ids=["effect None", "one device", "another driver", "a class that is not there"],
)
def test_a_rule_that_leaves_devices_is_not_why_a_claim_waits(reference: Reference, rule: Object) -> None:
    told = waiting_beside(reference, rule)

    assert "devices of gpu.nvidia.com are free: something else keeps the pod off their nodes" in told
    assert "DeviceTaintRule" not in told


def test_a_claim_that_tolerates_the_taint_of_a_rule_has_the_devices(reference: Reference) -> None:
    tolerated = {"tolerations": [{"key": RMA["key"], "operator": "Exists"}]}
    other = {"tolerations": [{"key": RMA["key"], "value": "another", "effect": "NoSchedule"}]}

    assert "8 of 8 devices of gpu.nvidia.com are free" in waiting_beside(reference, taint_rule(), **tolerated)
    assert "of DeviceTaintRule rma" in waiting_beside(reference, taint_rule(), **other)


def test_a_pod_whose_devices_others_hold_is_queued_although_one_is_tainted(reference: Reference) -> None:
    rule = taint_rule({"pool": "h100-dra-1", "device": "gpu-0"})
    others = claim("held", *(f"gpu-{at}" for at in range(1, 8)))

    assert waiting_beside(reference, rule, others) == ""


def test_rules_that_could_not_be_read_may_be_why_a_claim_waits(reference: Reference) -> None:
    objects = (node(), slice_of("h100-dra-1", *EIGHT), GPU_CLASS, claim("wanted"), pod("train", used="wanted"))
    found = Facts.from_objects(objects, {"DeviceTaintRule": "Forbidden: no"}, taken_at=NOW)

    told = judged(test_dra_claims.test_no_pod_waits_for_a_claim, reference, found)["pod ml/train"]

    assert "or a DeviceTaintRule taints them: these were not read" in told


def test_a_class_that_no_quota_counts_is_named_for_each_team(reference: Reference) -> None:
    broken = judged(test_dra_claims.test_every_device_class_is_covered_by_quotas, reference, sound())

    assert len(broken) == len(reference.teams)
    assert "requests.nvidia.com/gpu does not count them" in broken["namespace ml-serving, device class gpu.nvidia.com"]


def with_quota(reference: Reference, **hard: str) -> Reference:
    team = msgspec.structs.replace(reference.teams[0], quotas=(Quota(name="q", hard=hard),))
    return msgspec.structs.replace(reference, teams=(team,))


def test_a_quota_of_classes_alone_is_a_quota_of_gpus(reference: Reference) -> None:
    limited = with_quota(reference, **{"gpu.nvidia.com.deviceclass.resource.k8s.io/devices": "4"})
    large = class_of("large", "device.driver == 'gpu.nvidia.com' && device.capacity['gpu.nvidia.com'].memory > x")
    other = class_of("nics", "device.driver == 'dra.net'")
    found = sound(large, other)

    broken = judged(test_dra_claims.test_every_device_class_is_covered_by_quotas, limited, found)

    assert {subject.rpartition(" ")[2] for subject in broken} == {"gpu.nvidia.com", "large"}


def quota_in(namespace: str, key: str, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "q", "namespace": namespace},
        "spec": {"hard": {key: "4"}, **spec},
        "status": {"hard": {key: "4"}, "used": {key: "0"}},
    }


BY_CLASS = "gpu.nvidia.com.deviceclass.resource.k8s.io/devices"
IMPLICIT = "requests.deviceclass.resource.kubernetes.io/gpu.nvidia.com"
OF_BATCH = {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["b"]}]}}


@pytest.mark.parametrize(
    ("key", "spec", "resource", "says"),
    [
        (BY_CLASS, {}, "", ""),
        ("requests.nvidia.com/gpu", {}, "", "requests.nvidia.com/gpu does not count them"),
        ("requests.nvidia.com/gpu", {}, "nvidia.com/gpu", ""),
        ("requests.nvidia.com/gpu", {}, "example.com/gpu", "requests.nvidia.com/gpu does not count them"),
        (IMPLICIT, {}, "", ""),
        (IMPLICIT, {}, "nvidia.com/gpu", ""),
        ("cpu", {}, "nvidia.com/gpu", "no quota of the namespace has one of these keys"),
        (BY_CLASS, OF_BATCH, "", "ResourceClaims have no scope"),
        ("requests.nvidia.com/gpu", OF_BATCH, "nvidia.com/gpu", "ResourceClaims have no scope"),
        (BY_CLASS, {"scopes": ["NotTerminating"]}, "", "ResourceClaims have no scope"),
    ],
)
def test_claims_are_counted_by_keys_of_their_class_and_by_no_quota_with_scopes(
    reference: Reference, key: str, spec: Object, resource: str, says: str
) -> None:
    """As the API server of 1.36.3 was seen to count them."""
    limited = with_quota(reference, **{"requests.nvidia.com/gpu": "4"})
    chosen = copy.deepcopy(GPU_CLASS)
    chosen["spec"] |= {"extendedResourceName": resource} if resource else {}
    quota = quota_in(limited.teams[0].namespace, key, **spec)
    found = facts(node(), slice_of("h100-dra-1", *EIGHT), chosen, quota)

    broken = judged(test_dra_claims.test_every_device_class_is_covered_by_quotas, limited, found)

    assert [says in story for story in broken.values()] == ([True] if says else [])


def test_a_class_of_a_product_that_the_cluster_has_not_needs_no_quota(reference: Reference) -> None:
    product = "device.attributes['gpu.nvidia.com'].productName == 'NVIDIA A100-SXM4-80GB'"
    found = sound(class_of("a100", f"device.driver == 'gpu.nvidia.com' && {product}"))

    broken = judged(test_dra_claims.test_every_device_class_is_covered_by_quotas, reference, found)

    assert not [subject for subject in broken if subject.endswith("a100")]


def test_nothing_is_judged_where_no_pool_is_given_out_by_dra(reference: Reference) -> None:
    without = msgspec.structs.replace(
        reference, pools=tuple(pool for pool in reference.pools if pool.name != "h100-dra")
    )

    with pytest.raises(NotApplicable, match="allocated by DRA"):
        conftest.dra_nodes.__wrapped__(without, (), lambda _: ())


def test_a_pool_without_nodes_waits_for_its_nodes(reference: Reference) -> None:
    def others_have_nodes(pool: Pool) -> tuple[Node, ...]:
        return () if pool.name == "h100-dra" else (Facts.from_objects([node()]).nodes[0],)

    with pytest.raises(Waits, match="pool h100-dra has no node") as raised:
        conftest.dra_nodes.__wrapped__(reference, (), others_have_nodes)

    assert raised.value.requirement == "POOL-01"


@pytest.mark.parametrize(("server", "error"), [("v1.36.3", Unsupported), ("", Inconclusive)])
def test_preemption_is_said_to_be_unsupported_before_the_version_that_has_it(
    reference: Reference, server: str, error: type[Exception]
) -> None:
    found = facts(node(), version=server)

    with pytest.raises(error):
        test_dra_claims.test_a_higher_pod_preempts_for_devices((), None, found, None)  # type: ignore[arg-type]


def test_where_daemon_sets_cannot_be_read_nobody_knows_whether_the_plugin_is_there():
    found = Facts.from_objects([node()], {"DaemonSet": "Forbidden: no"}, taken_at=NOW)

    with pytest.raises(Waits, match="daemon sets could not be read"):
        plugin_failure(found, found.nodes[0])
