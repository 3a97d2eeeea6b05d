"""Objects that are kept whole, and kinds that an API server may lack."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from paged_server import PagedServer, node

from conformance.facts import Facts, read
from conformance.facts.kinds import KINDS, kind_of
from conformance.facts.snapshot import Snapshot
from conformance.kube.errors import Forbidden, NotFound
from conformance.kube.paths import PLACES
from conformance.verdict import Inconclusive

OPTIONAL = [name for name, kind in KINDS.items() if kind.optional]

POLICY = {
    "apiVersion": "nvidia.com/v1",
    "kind": "ClusterPolicy",
    "metadata": {
        "name": "cluster-policy",
        "uid": "u-1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "deletionTimestamp": "2026-01-05T00:00:00Z",
        "finalizers": ["nvidia.com/keep"],
        "labels": {"app": "gpu-operator"},
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{...}", "owner": "ml"},
        "managedFields": [
            {"manager": "helm", "time": "2026-01-02T00:00:00Z"},
            {"manager": "kubectl", "time": "2026-01-03T00:00:00Z"},
            {"manager": "gpu-operator", "time": "2026-01-04T00:00:00Z", "subresource": "status"},
        ],
    },
    "spec": {"mig": {"strategy": "mixed"}, "memberOfTomorrow": [1]},
    "status": {"state": "ready"},
}


def crd(kind: str, **spec: Any) -> dict[str, Any]:
    place = PLACES[kind]
    group = place.group_version.partition("/")[0]
    return {
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{place.plural}.{group}", "annotations": {"long": "text"}},
        "spec": {"group": group, "names": {"kind": kind, "plural": place.plural}, **spec},
    }


def test_a_resource_is_whole_and_its_head_is_ready() -> None:
    (policy,) = Facts.from_objects([POLICY]).cluster_policies

    assert str(policy) == "cluster policy cluster-policy"
    assert (policy.api_version, policy.namespace, policy.uid) == ("nvidia.com/v1", "", "u-1")
    assert policy.labels == {"app": "gpu-operator"}
    assert policy.finalizers == ("nvidia.com/keep",)
    assert policy.created == datetime(2026, 1, 1, tzinfo=UTC)
    assert policy.deletion == datetime(2026, 1, 5, tzinfo=UTC)
    assert policy.spec == {"mig": {"strategy": "mixed"}, "memberOfTomorrow": [1]}
    assert policy.status == {"state": "ready"}


def test_what_the_operator_writes_into_the_status_does_not_count_as_a_change() -> None:
    (policy,) = Facts.from_objects([POLICY]).cluster_policies
    (untouched,) = Facts.from_objects(
        [{"kind": "Queue", "metadata": {"name": "q", "creationTimestamp": "2026-01-01T00:00:00Z"}}]
    ).queues

    assert policy.changed == datetime(2026, 1, 3, tzinfo=UTC)
    assert untouched.changed == untouched.created == datetime(2026, 1, 1, tzinfo=UTC)


def test_who_writes_an_object_through_which_api_version_is_told_and_a_snapshot_keeps_the_versions() -> None:
    written = [
        {"manager": "helm", "apiVersion": "resource.k8s.io/v1beta1", "time": "2026-01-02T00:00:00Z"},
        {"manager": "kubectl", "apiVersion": "resource.k8s.io/v1", "time": "2026-01-03T00:00:00Z"},
    ]
    body = {"kind": "DeviceClass", "metadata": {"name": "gpu.nvidia.com", "managedFields": written}}
    (read,) = Facts.from_objects([body]).device_classes
    (kept,) = Facts.from_objects(Snapshot.of([body]).plain_objects()).device_classes

    assert read.writers == (("resource.k8s.io/v1", "kubectl"), ("resource.k8s.io/v1beta1", "helm"))
    assert kept.writers == (("resource.k8s.io/v1", ""), ("resource.k8s.io/v1beta1", ""))
    assert kept.changed == read.changed


def test_copies_of_the_object_inside_it_are_not_kept() -> None:
    (policy,) = Facts.from_objects([POLICY]).cluster_policies

    assert "managedFields" not in policy.body["metadata"]
    assert policy.annotations == policy.body["metadata"]["annotations"] == {"owner": "ml"}


def test_objects_of_a_list_have_the_kind_and_version_that_the_list_leaves_out(server: PagedServer) -> None:
    server.objects.append({"kind": "PodGroup", "metadata": {"name": "gang", "namespace": "ml"}, "spec": None})
    (gang,) = read(server).pod_groups

    assert (gang.body["kind"], gang.body["apiVersion"]) == ("PodGroup", "scheduling.run.ai/v2alpha2")
    assert str(gang) == "pod group ml/gang"
    assert gang.spec == {}
    assert gang.status == {}


def test_a_definition_is_kept_without_its_schemas(server: PagedServer) -> None:
    server.objects.append(crd("ClusterPolicy", versions=[{"name": "v1", "schema": {"long": "x" * 1000}}]))
    (definition,) = read(server).crds

    assert str(definition) == "CRD clusterpolicies.nvidia.com"
    assert definition.spec == {"group": "nvidia.com", "names": {"kind": "ClusterPolicy", "plural": "clusterpolicies"}}
    assert definition.body["metadata"] == {"name": "clusterpolicies.nvidia.com"}


def test_an_odd_resource_costs_only_itself(server: PagedServer) -> None:
    server.objects += [
        {"kind": "ResourceSlice", "metadata": {"name": "good"}, "spec": "no mapping"},
        {"kind": "ResourceSlice", "metadata": {}},
        {"kind": "ResourceSlice", "metadata": {"name": "worse", "labels": "none"}},
        {"kind": "CustomResourceDefinition", "metadata": {"name": "odd"}, "spec": {"names": 5}},
    ]
    facts = read(server)

    assert [each.name for each in facts.resource_slices] == ["good"]
    assert facts.resource_slices[0].spec == {}
    assert [each.name for each in facts.odd] == ["without a name", "worse", "odd"]
    assert "$.metadata.labels" in facts.odd[1].reason


@pytest.mark.parametrize("kind", OPTIONAL)
def test_a_kind_of_an_optional_api_that_is_not_served_is_empty_and_no_error(server: PagedServer, kind: str) -> None:
    served = read(server)
    server.unserved = {kind}
    facts = read(server)

    assert served.serves(kind)
    assert not facts.serves(kind)
    assert facts._of(kind) == ()
    assert facts.unreadable == {}


@pytest.mark.parametrize("kind", ["Pod", "RuntimeClass", "CustomResourceDefinition", "DaemonSet"])
def test_a_kind_that_every_api_server_has_is_missed_when_it_is_not_found(server: PagedServer, kind: str) -> None:
    server.unserved = {kind}
    facts = read(server)

    with pytest.raises(Inconclusive, match="could not be read: NotFound: the server could not find"):
        facts.serves(kind)


def test_optional_are_the_kinds_of_gpu_stacks_of_dra_and_of_quota_systems_and_policies_of_1_36_only() -> None:
    optional = {name: kind.group for name, kind in KINDS.items() if kind.optional}
    groups = {group for name, group in optional.items() if not name.startswith("MutatingAdmissionPolicy")}

    quotas = {"scheduling.run.ai", "kueue.x-k8s.io", "quota.openshift.io", "scheduling.volcano.sh"}
    assert groups == {"nvidia.com", "resource.nvidia.com", "resource.k8s.io"} | quotas


@pytest.mark.parametrize(("release", "served"), [("1.37", "v1"), ("1.36", "v1beta2"), ("1.34", "v1alpha3"), ("", "")])
def test_rules_that_taint_devices_are_read_in_the_version_that_is_served(
    server: PagedServer, release: str, served: str
) -> None:
    rule = {"kind": "DeviceTaintRule", "metadata": {"name": "rma"}, "spec": {"taint": {"key": "a", "effect": "None"}}}
    server.objects.append(rule)
    paths = {each: f"/apis/resource.k8s.io/{each}/devicetaintrules" for each in ("v1", "v1beta2", "v1alpha3")}
    server.unserved_paths = set(paths.values()) - {paths.get(served)}

    facts = read(server)

    assert [each.name for each in facts.device_taint_rules] == (["rma"] if served else []), release
    assert facts.serves("DeviceTaintRule") == bool(served)


def test_kinds_of_kueue_are_read_in_the_version_that_is_served(server: PagedServer) -> None:
    queue = {"kind": "LocalQueue", "metadata": {"name": "gpus", "namespace": "ml"}, "spec": {"clusterQueue": "all"}}
    server.objects.append(queue | {"apiVersion": "kueue.x-k8s.io/v1beta2"})
    server.unserved_paths = {"/apis/kueue.x-k8s.io/v1beta1/localqueues"}

    (found,) = read(server).local_queues

    assert (str(found), found.spec["clusterQueue"]) == ("local queue ml/gpus", "all")
    server.unserved = {"LocalQueue"}
    assert not read(server).serves("LocalQueue")


def test_whether_a_forbidden_kind_is_served_is_not_known(server: PagedServer) -> None:
    server.failures["ClusterPolicy"] = Forbidden(403, "Forbidden", "ann may not", "GET", "/apis/nvidia.com/v1")

    with pytest.raises(Inconclusive, match=r"ann may not; grant list on clusterpolicies of API group nvidia\.com"):
        read(server).serves("ClusterPolicy")


def test_an_api_that_goes_away_in_the_middle_of_a_list_leaves_nothing_of_it(server: PagedServer) -> None:
    server.objects += [{"kind": "Queue", "metadata": {"name": name}} for name in ("a", "b", "c")]
    server.failures["Queue"] = NotFound(404, "NotFound", "gone", "GET", "/apis/scheduling.run.ai/v2/queues")
    facts = read(server)

    assert facts.queues == ()
    assert not facts.serves("Queue")


def test_plain_objects_serve_the_custom_kinds_that_they_are_of_or_define() -> None:
    facts = Facts.from_objects([POLICY, crd("NVIDIADriver"), node("a")])

    assert facts.serves("ClusterPolicy")
    assert facts.serves("NVIDIADriver")
    assert facts.serves("ResourceSlice")
    assert not facts.serves("GPUCluster")
    assert not facts.serves("Queue")


def test_objects_of_another_group_with_the_same_kind_are_passed_over() -> None:
    other = {"apiVersion": "scheduling.example.com/v1", "kind": "Queue", "metadata": {"name": "default"}}
    older = {"apiVersion": "resource.k8s.io/v1beta1", "kind": "DeviceClass", "metadata": {"name": "gpu"}}

    assert kind_of(other) is None
    assert Facts.from_objects([other]).queues == ()
    assert Facts.from_objects([older]).device_classes[0].api_version == "resource.k8s.io/v1beta1"


def test_volcano_has_kinds_of_its_own_that_are_called_as_those_of_kai_are() -> None:
    queue = {"apiVersion": "scheduling.volcano.sh/v1beta1", "kind": "Queue", "metadata": {"name": "default"}}
    facts = Facts.from_objects([queue])

    assert facts.queues == ()
    assert [str(each) for each in facts.volcano_queues] == ["Volcano queue default"]
    assert facts.volcano_queues[0].body["kind"] == "Queue"


def test_five_thousand_slices_are_read_one_page_after_the_other() -> None:
    raw = msgspec.json.encode({"items": [{"metadata": {"name": f"s-{n}"}, "spec": {"pool": {}}} for n in range(500)]})
    server = PagedServer([])
    server.raw["ResourceSlice"] = [raw] * 10

    assert len(read(server).resource_slices) == 5000
