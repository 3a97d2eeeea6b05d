"""All pods of a cluster that wait or fail with GPUs: by owner and cause, and bounded."""

from datetime import UTC, datetime

import pytest
from manifests import job, node, owned, pod, quota, terminated, waiting

from conformance.explaining import Stage, overview, seen_from, waiting_pods

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
OLD, NEW = "2026-11-28T11:00:00Z", "2026-11-28T11:59:30Z"


def of(name: str, kind: str = "Job", owner: str = "train", *, made=None, created: str = OLD, **more):
    made = made or pod(name, **more)
    made["metadata"]["creationTimestamp"] = created
    made["metadata"]["ownerReferences"] = [{"kind": kind, "name": owner, "uid": f"{kind}-{owner}", "controller": True}]
    return made


def told(*objects, resources=(), unreadable=None):
    return waiting_pods(seen_from(objects, unreadable), resources, NOW)


def test_pods_of_one_owner_with_one_cause_are_one_group():
    found = told(
        node("gpu-1"), *(of(f"train-{number}", gpus=16) for number in range(5)), of("other", owner="b", gpus=16)
    )

    (first, second) = found.groups
    assert (first.owner.kind, first.owner.namespace, first.owner.name, first.pods) == ("Job", "team", "train", 5)
    assert first.stage is Stage.UNSCHEDULABLE
    assert "wants 16 nvidia.com/gpu" in first.cause
    assert (first.nearest, first.example) == ("gpu-1", "train-0")
    assert (second.owner.name, second.pods) == ("b", 1)
    assert found.pods == 6


def test_names_of_pods_and_nodes_part_no_group():
    lost = [{"type": "Ready", "status": "Unknown", "message": "silent"}]
    nodes = [node(name) for name in ("gpu-1", "gpu-2")]
    for each in nodes:
        each["status"]["conditions"] = lost
    bound = [
        of(f"train-{at}", on=each["metadata"]["name"], status={"phase": "Pending"}) for at, each in enumerate(nodes)
    ]

    (group,) = told(*nodes, *bound).groups

    assert group.pods == 2
    assert "not ready" in group.cause


def test_a_deployment_is_named_and_not_its_replica_set():
    between = {
        "kind": "ReplicaSet",
        "metadata": {
            "name": "server-7c",
            "namespace": "team",
            "uid": "ReplicaSet-server-7c",
            "ownerReferences": [{"kind": "Deployment", "name": "server", "uid": "d", "controller": True}],
        },
        "spec": {},
    }

    (group,) = told(node("gpu-1"), between, of("server-7c-x", "ReplicaSet", "server-7c", gpus=16)).groups

    assert str(group.owner) == "deployment team/server"


@pytest.mark.parametrize(
    "fine",
    [
        pod("ready", on="gpu-1", status={"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}),
        pod("done", on="gpu-1", status={"phase": "Succeeded"}),
        pod("no-gpu", 0, nodeSelector={"a": "b"}),
        of("young", gpus=16, created=NEW),
        pod("loading", on="gpu-1", status={"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}),
        {**pod("leaves", on="gpu-1"), "metadata": {"name": "l", "namespace": "a", "deletionTimestamp": NEW}},
        {**pod("ours", 16), "metadata": {"name": "o", "namespace": "a", "labels": {"gpu-conformance.io/run-id": "x"}}},
    ],
    ids=lambda each: each["metadata"]["name"],
)
def test_what_runs_has_ended_or_has_just_begun_is_left_out(fine):
    assert told(node("gpu-1"), fine).groups == ()


def test_failed_pods_count_until_their_owner_has_another_or_their_job_has_ended_well():
    failed = [of("a", "ReplicaSet", "rs", made=pod("a", on="gpu-1", status=terminated(1, "Error")))]
    another = of(
        "b",
        "ReplicaSet",
        "rs",
        on="gpu-1",
        status={"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    )
    done = job() | {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    retried = owned(pod("c", on="gpu-1", status=terminated(1, "Error")))

    assert [each.stage for each in told(node("gpu-1"), *failed).groups] == [Stage.CRASHED]
    assert told(node("gpu-1"), *failed, another).groups == ()
    assert told(node("gpu-1"), retried, done).groups == ()
    assert len(told(node("gpu-1"), retried, job()).groups) == 1


def test_pods_that_are_not_made_are_told_of_their_workload():
    (group,) = told(node("gpu-1"), job(pods=3, gpus=2), quota("4", "4")).groups

    assert (group.pods, group.stage, group.example) == (3, Stage.REFUSED, "")
    assert "quota" in group.cause


def test_a_container_that_waits_is_told_with_what_to_do():
    (group,) = told(node("gpu-1"), of("a", on="gpu-1", status=waiting("ImagePullBackOff"))).groups

    assert group.stage is Stage.STARTING
    assert "ImagePullBackOff" in group.cause
    assert group.remedy


def test_other_resources_claims_and_fractions_are_gpus_too():
    amd = of("amd", gpus=0)
    amd["spec"]["containers"][0]["resources"] = {"limits": {"amd.com/gpu": "1"}}
    fraction = of("fraction", owner="f", gpus=0, nodeSelector={"a": "b"})
    fraction["metadata"]["annotations"] = {"gpu-fraction": "0.5"}
    claim = of("claim", owner="c", gpus=0, resourceClaims=[{"name": "one", "resourceClaimName": "gone"}])

    assert {each.owner.name for each in told(node("gpu-1"), amd, fraction, claim).groups} == {"f", "c"}
    assert len(told(node("gpu-1"), amd, fraction, claim, resources=("amd.com/gpu",)).groups) == 3


def test_nodes_are_judged_once_for_pods_that_are_alike(monkeypatch):
    asked = []
    monkeypatch.setattr(overview, "explain", lambda seen, pod: asked.append(pod) or explain(seen, pod))
    from conformance.explaining import explain

    found = told(node("gpu-1"), *(of(f"t-{number}", owner=f"job-{number}", gpus=16) for number in range(50)))

    assert len(asked) == 1
    assert len(found.groups) == 50


def test_pods_that_anti_affinity_of_others_tells_apart_are_not_alike():
    apart = [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "one"}}}]
    alone = pod(
        "alone", on="gpu-1", affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": apart}}
    )
    waiting_ones = [of(name, owner=name, gpus=16) for name in ("one", "two")]

    causes = {each.owner.name: each.missing for each in told(node("gpu-1"), alone, *waiting_ones).groups}

    assert any("may not share" in each for each in causes["one"])
    assert not any("may not share" in each for each in causes["two"])


def test_what_is_computed_and_told_is_bounded_and_counted(monkeypatch):
    monkeypatch.setattr(overview, "MOST_JUDGEMENTS", 4)
    monkeypatch.setattr(overview, "MOST_GROUPS", 3)
    nodes = [node(f"gpu-{number}") for number in range(4)]
    many = [of(f"many-{number}", owner="many", gpus=9) for number in range(3)]
    said = {"type": "PodScheduled", "status": "False", "message": "0/4 nodes are available"}
    few = [
        of(f"few-{at}", owner=f"few-{at}", gpus=10 + at, status={"phase": "Pending", "conditions": [said]})
        for at in range(5)
    ]

    found = told(*nodes, *many, *few)

    assert (found.pods, found.groups_left, found.pods_left, found.not_computed) == (8, 3, 3, 5)
    assert "wants 9" in found.groups[0].cause
    assert "the scheduler says: 0/4 nodes are available" in found.groups[1].cause
    assert "explain-pod" in found.groups[1].inspect


def test_what_could_not_be_read_is_said():
    assert told(node("gpu-1"), unreadable={"Event": "you may not"}).unreadable == {"Event": "you may not"}


def test_what_most_pods_ask_for_is_not_looked_at_while_they_run(monkeypatch):
    asked = []
    monkeypatch.setattr(overview, "_asks", lambda each, _: bool(asked.append(each["metadata"]["name"])))
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}

    told(node("gpu-1"), *(pod(f"runs-{at}", on="gpu-1", status=ready) for at in range(9)), of("waits", gpus=16))

    assert asked == ["waits"]


def _custom(kind: str, spec, name: str = "train", **metadata):
    return {
        "kind": kind,
        "metadata": {"name": name, "namespace": "team", "uid": f"{kind}-{name}", "creationTimestamp": OLD, **metadata},
        "spec": spec,
    }


_WORKER = {"spec": {"containers": [{"name": "w", "image": "i", "resources": {"limits": {"nvidia.com/gpu": "8"}}}]}}
_SUSPENDED = {
    "PyTorchJob": {"runPolicy": {"suspend": True}, "pytorchReplicaSpecs": {"Worker": {"template": _WORKER}}},
    "JobSet": {"suspend": True, "replicatedJobs": [{"name": "w", "template": {"spec": {"template": _WORKER}}}]},
    "RayCluster": {"suspend": True, "workerGroupSpecs": [{"groupName": "g", "template": _WORKER}]},
    "TrainJob": {"suspend": True, "trainer": {"resourcesPerNode": {"limits": {"nvidia.com/gpu": "8"}}}},
}


@pytest.mark.parametrize("kind", _SUSPENDED)
def test_a_custom_workload_that_kueue_holds_is_told_with_the_pods_that_it_asks_for(kind):
    held = _custom(kind, _SUSPENDED[kind])
    workload = _custom("Workload", {"podSets": [{"name": "main", "count": 4}]}, "kueue-train")
    workload["metadata"]["ownerReferences"] = [{"kind": kind, "name": "train"}]
    workload["status"] = {"conditions": [{"type": "QuotaReserved", "status": "False", "message": "no quota is left"}]}

    (group,) = told(node("gpu-1"), held, workload).groups

    assert (group.owner.kind, group.owner.name, group.pods, group.stage) == (kind, "train", 4, Stage.QUEUED)
    assert "no quota is left" in group.cause


def test_a_custom_workload_is_told_once_whoever_made_it_and_not_without_gpus():
    job_of_ray = _custom("RayJob", {"suspend": True, "rayClusterSpec": _SUSPENDED["RayCluster"]})
    owner = [{"kind": "RayJob", "name": "train", "uid": "RayJob-train", "controller": True}]
    cluster = _custom("RayCluster", _SUSPENDED["RayCluster"], "train-x", ownerReferences=owner)
    without = _custom("PyTorchJob", {"runPolicy": {"suspend": True}, "pytorchReplicaSpecs": {}}, "cpu")

    (group,) = told(node("gpu-1"), job_of_ray, cluster, without).groups

    assert (group.owner.kind, group.owner.name, group.pods) == ("RayJob", "train", 1)
