"""Deploying: what is written, in which order, what is never overwritten, and what a second time changes."""

from typing import Any

import msgspec
import pytest

from conformance.deploy import ForeignObject, deploy, foresee
from conformance.deploy.node_marks import RECORD
from conformance.kube.errors import Conflict, Forbidden, Invalid
from conformance.kube.names import MANAGED_BY, REFERENCE_LABEL, RUN_LABEL
from conformance.kube.nodechange import NodeChange
from conformance.reference import Reference, load, objects
from conformance.reference.model import PoolTaint
from conformance.shipped import shipped

NODES = "/api/v1/nodes"
SERVING = "/api/v1/namespaces/ml-serving"
CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
DEPLOYMENT = "/apis/apps/v1/namespaces/ml-serving/deployments/llm-inference-server"
RUN = "a1234567"


@pytest.fixture(scope="module")
def reference() -> Reference:
    return load(shipped("fixtures/reference"))


class JournalInMemory:
    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.outstanding: list[NodeChange] = []

    def will_create(self, obj: dict[str, Any]) -> None:
        self.created.append(obj)

    def will_change_node(self, change: NodeChange) -> None:
        self.outstanding.append(change)

    def took_back(self, change: NodeChange) -> None:
        self.outstanding.remove(change)


def test_nodes_get_the_labels_and_taints_of_their_pool(fleet, reference) -> None:
    deploy(fleet, reference)

    node = fleet.get(f"{NODES}/a100-training-1")
    labels = node["metadata"]["labels"]
    assert (labels["gpu-type"], labels["workload-class"], labels["node-type"]) == ("a100", "training", "gpu")
    assert node["spec"]["taints"] == [
        {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"},
        {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"},
    ]
    assert not fleet.get(f"{NODES}/cpu-1")["spec"].get("taints")


def test_taints_of_others_stay(fleet, reference) -> None:
    theirs = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    fleet.node("t4-inference-2", "t4-inference", taints=[theirs])

    deploy(fleet, reference)

    assert theirs in fleet.get(f"{NODES}/t4-inference-2")["spec"]["taints"]


def test_a_node_of_no_pool_is_left_alone(fleet, reference) -> None:
    before = fleet.node("other-1", "other")

    deploy(fleet, reference)

    assert fleet.get(f"{NODES}/other-1") == before


def test_everything_carries_whose_it_is(fleet, reference) -> None:
    deploy(fleet, reference, JournalInMemory(), RUN)

    for made in objects(reference):
        labels = fleet.get(fleet.path_of(made))["metadata"]["labels"]
        assert labels[MANAGED_BY] == "gpu-conformance"
        assert labels[REFERENCE_LABEL] == "corrected-guide"
        assert labels[RUN_LABEL] == RUN


def test_without_a_run_nothing_carries_one(fleet, reference) -> None:
    deploy(fleet, reference)

    assert not [place for place, obj in fleet.objects.items() if RUN_LABEL in obj["metadata"].get("labels", {})]


def test_what_others_stand_on_is_written_first(fleet, reference) -> None:
    deploy(fleet, reference)

    applied = fleet.writes("apply")
    assert max(map(applied.index, (SERVING, f"{CLASSES}/inference-critical"))) < applied.index(
        f"{SERVING}/serviceaccounts/inference-server"
    )
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/ml-serving"
    assert applied.index(f"{rbac}/roles/inference-role") < applied.index(f"{rbac}/rolebindings/inference-rolebinding")
    assert applied.index(f"{SERVING}/resourcequotas/gpus") < applied.index(DEPLOYMENT)


def test_changes_are_recorded_before_they_are_made(fleet, reference) -> None:
    journal = JournalInMemory()

    deployed = deploy(fleet, reference, journal, RUN)

    assert {change.node for change in journal.outstanding} == set(deployed.nodes)
    assert len(journal.created) == len(objects(reference))
    assert all(RECORD not in node["metadata"].get("annotations", {}) for node in fleet.list(NODES))


def test_a_set_up_that_stays_keeps_its_records_on_the_nodes(fleet, reference) -> None:
    deploy(fleet, reference)

    text = fleet.get(f"{NODES}/t4-notebook-1")["metadata"]["annotations"][RECORD]
    (change,) = msgspec.json.decode(text, type=list[NodeChange])
    assert change.labels_after["workload-class"] == "notebook"


def test_deploying_again_changes_nothing(fleet, reference) -> None:
    deploy(fleet, reference)
    before = {place: obj["metadata"]["resourceVersion"] for place, obj in fleet.objects.items()}

    again = deploy(fleet, reference)

    assert {place: obj["metadata"]["resourceVersion"] for place, obj in fleet.objects.items()} == before
    assert (again.nodes, again.created, again.updated) == ((), (), ())
    assert len(again.unchanged) == len(objects(reference))


def test_a_run_does_not_take_over_what_is_there_to_stay(fleet, reference) -> None:
    deploy(fleet, reference)

    deploy(fleet, reference, JournalInMemory(), RUN)

    assert RUN_LABEL not in fleet.get(SERVING)["metadata"]["labels"]


def test_drift_of_our_own_objects_is_put_right(fleet, reference) -> None:
    deploy(fleet, reference)
    fleet.objects[f"{SERVING}/resourcequotas/gpus"]["spec"]["hard"]["requests.nvidia.com/gpu"] = "64"

    again = deploy(fleet, reference)

    assert again.updated == ("ResourceQuota ml-serving/gpus",)
    assert fleet.get(f"{SERVING}/resourcequotas/gpus")["spec"]["hard"]["requests.nvidia.com/gpu"] == "8"


def test_every_foreign_object_is_named_and_nothing_is_written(fleet, reference) -> None:
    fleet.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ml-serving"}})
    fleet.add({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "training-normal"}})
    before = dict(fleet.objects)

    with pytest.raises(ForeignObject) as raised:
        deploy(fleet, reference)

    assert [conflict.partition(" is there")[0] for conflict in raised.value.conflicts] == [
        "Namespace ml-serving",
        "PriorityClass training-normal",
    ]
    assert (fleet.requests, fleet.objects) == ([], before)


def ours(name: str, **labels: str) -> dict[str, Any]:
    marks = {MANAGED_BY: "gpu-conformance", REFERENCE_LABEL: "corrected-guide", **labels}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": marks}}


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({REFERENCE_LABEL: "another"}, "belongs to the set-up another: withdraw that one first"),
        ({RUN_LABEL: "b7654321"}, "belongs to run b7654321"),
    ],
)
def test_what_belongs_to_another_deployment_is_not_taken(fleet, reference, labels, told) -> None:
    fleet.add(ours("ml-serving", **labels))

    with pytest.raises(ForeignObject, match=told):
        deploy(fleet, reference, JournalInMemory(), RUN)


def test_a_namespace_on_its_way_out_is_waited_for_by_the_user(fleet, reference) -> None:
    going = ours("ml-serving")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    fleet.add(going)

    with pytest.raises(ForeignObject, match="Namespace ml-serving is being deleted"):
        deploy(fleet, reference)


def test_a_priority_class_that_cannot_become_the_declared_one_is_named(fleet, reference) -> None:
    deploy(fleet, reference)
    fleet.objects[f"{CLASSES}/training-normal"]["value"] = 1

    with pytest.raises(ForeignObject, match="training-normal has value 1, declared is 500000"):
        deploy(fleet, reference)


def test_a_second_default_class_is_found_before_anything_is_written(fleet, reference) -> None:
    theirs = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "theirs"}}
    fleet.add({**theirs, "globalDefault": True})

    with pytest.raises(ForeignObject, match="PriorityClass theirs already is"):
        deploy(fleet, reference)

    assert not fleet.requests


EXISTS = {"operator": "Exists"}
PODS = "/api/v1/pods"


@pytest.fixture
def evicting(reference) -> Reference:
    """The set-up with a taint on the training pool that evicts."""
    taint = PoolTaint(key="training", value="only", effect="NoExecute")
    pools = [
        msgspec.structs.replace(pool, taints=(*pool.taints, taint)) if pool.name == "a100-training" else pool
        for pool in reference.pools
    ]
    return msgspec.structs.replace(reference, pools=tuple(pools))


def runs_on(fleet, name: str, node: str = "a100-training-1", *, phase: str = "Running", **parts: Any) -> None:
    """Put a pod on a node. A cluster in memory lists one place at a time: here the one of all namespaces."""
    metadata = {"name": name, "namespace": "team", **parts.pop("metadata", {})}
    spec = {"nodeName": node, **parts}
    fleet.objects[f"{PODS}/{name}"] = {"metadata": metadata, "spec": spec, "status": {"phase": phase}}


def test_pods_that_a_declared_taint_would_evict_are_named_and_nothing_is_written(fleet, evicting) -> None:
    for number in range(5):
        runs_on(fleet, f"train-{number}", tolerations=[{**EXISTS, "effect": "NoSchedule"}])

    with pytest.raises(ForeignObject) as raised:
        deploy(fleet, evicting)

    (conflict,) = raised.value.conflicts
    assert conflict.startswith("node a100-training-1: taint training=only:NoExecute would evict pods")
    assert "team/train-0, team/train-1, team/train-2 and 2 more; drain the node" in conflict
    assert not fleet.requests


@pytest.mark.parametrize(
    "parts",
    [
        {"tolerations": [EXISTS]},
        {"tolerations": [{"key": "training", "value": "only"}]},
        {"phase": "Succeeded"},
        {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
        {"node": "t4-inference-1"},
    ],
)
def test_pods_that_stay_or_go_by_themselves_are_not_in_the_way(fleet, evicting, parts) -> None:
    runs_on(fleet, "train-0", **parts)

    deploy(fleet, evicting)

    assert fleet.get(f"{NODES}/a100-training-1")["spec"]["taints"][-1]["effect"] == "NoExecute"


@pytest.mark.parametrize(
    "parts",
    [
        {"tolerations": [{**EXISTS, "tolerationSeconds": 300}]},
        {"metadata": {"ownerReferences": [{"kind": "DaemonSet", "name": "agent"}]}},
        {"metadata": {"namespace": "ml-training", "labels": {MANAGED_BY: "gpu-conformance"}}},
        {"phase": "Pending"},
    ],
)
def test_whoever_does_not_tolerate_the_taint_for_good_is_in_the_way(fleet, evicting, parts) -> None:
    runs_on(fleet, "train-0", **parts)

    with pytest.raises(ForeignObject, match="/train-0; drain the node"):
        deploy(fleet, evicting)


def test_nobody_is_in_the_way_of_a_taint_that_is_there_already_or_does_not_evict(fleet, reference, evicting) -> None:
    deploy(fleet, evicting)
    runs_on(fleet, "train-0")
    runs_on(fleet, "serve-0", "t4-inference-1")

    assert deploy(fleet, evicting).nodes == ()
    assert deploy(fleet, reference).nodes == ()


def test_evictions_are_told_together_with_every_other_conflict(fleet, evicting) -> None:
    fleet.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ml-serving"}})
    runs_on(fleet, "train-0")

    with pytest.raises(ForeignObject) as raised:
        deploy(fleet, evicting)

    assert len(raised.value.conflicts) == 2


def test_a_namespace_that_is_not_known_everywhere_yet_is_tried_again(fleet, reference) -> None:
    quota = f"{SERVING}/resourcequotas/gpus"
    fleet.errors[quota] = [Forbidden(403, "Forbidden", "unable to create new content", "PATCH", quota)]

    deploy(fleet, reference)

    assert fleet.writes("apply").count(quota) == 2


@pytest.mark.parametrize(
    "error",
    [
        Invalid(422, "Invalid", "no", "PATCH", SERVING),
        Conflict(409, "Conflict", "another manager", "PATCH", SERVING, ("spec.hard: kubectl",)),
    ],
)
def test_an_error_that_does_not_pass_is_raised_at_once(fleet, reference, error) -> None:
    fleet.errors[SERVING] = [error]

    with pytest.raises(type(error)):
        deploy(fleet, reference)


def test_workloads_that_do_not_run_are_reported_and_not_raised(fleet, reference) -> None:
    fleet.workloads_run = False

    deployed = deploy(fleet, reference)

    assert deployed.not_ready == (
        "deployment ml-serving/llm-inference-server: its pods are not ready",
        "job ml-training/model-finetuning: its pods are not ready",
    )
    assert "5 nodes changed" in str(deployed)


def test_quotas_that_are_not_counted_are_reported(fleet, reference) -> None:
    fleet.quotas_count = False

    deployed = deploy(fleet, reference)

    quotas = [f"resourcequota {team.namespace}/{quota.name}" for team in reference.teams for quota in team.quotas]
    assert deployed.not_ready == tuple(f"{each}: it has not been counted, and so limits nothing yet" for each in quotas)
    assert quotas


def test_what_is_foreseen_is_what_deploying_then_does(fleet, reference) -> None:
    foreseen = foresee(fleet, reference, None)
    assert not fleet.requests

    done = deploy(fleet, reference, JournalInMemory(), RUN)

    assert foreseen.created
    assert sorted(foreseen.created) == sorted(done.created)
    assert sorted(foreseen.nodes) == sorted(done.nodes)
    assert (foreseen.updated, foreseen.refused, foreseen.releases, foreseen.definitions) == ((), (), (), ())


def test_what_an_earlier_deployment_left_is_foreseen_as_brought_up_to_date(fleet, reference) -> None:
    kept = deploy(fleet, reference)

    foreseen = foresee(fleet, reference, None)

    assert (foreseen.created, foreseen.nodes) == ((), ())
    assert sorted(foreseen.updated) == sorted(kept.created)


def test_what_deploying_would_refuse_is_foreseen_and_nothing_is_written(fleet, reference) -> None:
    fleet.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ml-serving"}})
    fleet.requests.clear()

    foreseen = foresee(fleet, reference, None)

    assert [each for each in foreseen.refused if "ml-serving is there and not ours" in each]
    assert not fleet.requests


class _Helm:
    """An installer that nobody may ask: a plan only reads."""


def test_releases_and_the_crds_that_stay_are_foreseen(fleet) -> None:
    operated = load(shipped("fixtures/setups") / "bare-metal" / "reference")
    crd = {"kind": "CustomResourceDefinition", "spec": {"group": "nvidia.com"}}
    name = "clusterpolicies.nvidia.com"
    place = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    fleet.objects[f"{place}/{name}"] = {**crd, "metadata": {"name": name}}
    fleet.objects[f"{place}/others.example.com"] = {"metadata": {"name": "others.example.com"}, "spec": {"group": "x"}}

    foreseen = foresee(fleet, operated, _Helm())

    assert [each for each in foreseen.releases if "gpu-operator" in each]
    assert foreseen.definitions == (name,)


def test_a_stack_that_is_there_is_foreseen_to_be_left_alone(fleet) -> None:
    operated = load(shipped("fixtures/setups") / "bare-metal" / "reference")
    fleet.objects["/apis/nvidia.com/v1/clusterpolicies/theirs"] = {
        "apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "metadata": {"name": "theirs"},
    }  # fmt: skip

    foreseen = foresee(fleet, operated, _Helm())

    assert "theirs" in foreseen.left_alone
    assert not foreseen.releases
