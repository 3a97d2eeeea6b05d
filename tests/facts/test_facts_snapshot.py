"""Snapshots: the same facts later, and nothing that should not leave the cluster."""

import gzip
import stat
from pathlib import Path

import msgspec
import pytest
from paged_server import PagedServer, pod

from conformance.facts import Facts, read, snapshot
from conformance.facts.hiding import HIDDEN, presentable
from conformance.kube.errors import Forbidden
from conformance.kube.paths import PLACES
from conformance.verdict import Inconclusive


def test_a_snapshot_gives_the_facts_of_the_cluster_that_it_was_taken_of(server: PagedServer, tmp_path: Path) -> None:
    taken = snapshot.take(server)
    snapshot.save(taken, tmp_path / "prod.json.gz")
    facts, live = snapshot.load(tmp_path / "prod.json.gz"), read(server)

    assert facts.nodes == live.nodes
    assert facts.pods == live.pods
    assert facts.server_version == "v1.36.3"
    assert facts.taken_at == taken.taken_at


def test_what_could_not_be_read_stays_unread_in_the_snapshot(server: PagedServer, tmp_path: Path) -> None:
    server.failures["Pod"] = Forbidden(403, "Forbidden", "ann cannot list pods", "GET", "/api/v1/pods")
    snapshot.save(snapshot.take(server), tmp_path / "s")

    with pytest.raises(Inconclusive, match="ann cannot list pods; grant list on pods"):
        _ = snapshot.load(tmp_path / "s").pods


def test_a_kind_that_an_older_snapshot_never_held_is_not_taken_for_empty(server: PagedServer, tmp_path: Path) -> None:
    taken = snapshot.take(server)
    del taken.objects["ResourceQuota"]
    snapshot.save(taken, tmp_path / "s")

    with pytest.raises(Inconclusive, match="resource quotas could not be read: the snapshot does not hold them"):
        _ = snapshot.load(tmp_path / "s").quotas


def test_objects_come_back_whole_with_their_kind(server: PagedServer) -> None:
    server.objects[0]["spec"]["fieldOfTomorrow"] = {"kept": [1]}
    objects = list(snapshot.take(server).plain_objects())

    (gpu_1,) = [each for each in objects if each["metadata"]["name"] == "gpu-1"]
    assert (gpu_1["apiVersion"], gpu_1["kind"]) == ("v1", "Node")
    assert gpu_1["spec"]["fieldOfTomorrow"] == {"kept": [1]}


def test_a_snapshot_of_plain_objects_has_what_was_given_and_knows_the_rest_is_empty(server: PagedServer) -> None:
    facts = snapshot.Snapshot.of(server.objects, unreadable={"nodes": "Forbidden: no"}).facts()

    assert [each.name for each in facts.pods] == ["train-a", "train-b", "train-done"]
    assert facts.quotas == ()
    with pytest.raises(Inconclusive):
        _ = facts.nodes


def test_only_its_owner_can_read_the_file_and_nothing_unfinished_is_left(server: PagedServer, tmp_path: Path) -> None:
    snapshot.save(snapshot.take(server), tmp_path / "s")

    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["s"]


def test_no_secret_reaches_the_file(server: PagedServer, tmp_path: Path) -> None:
    leaky = pod("leaky", annotations={"kubectl.kubernetes.io/last-applied-configuration": "hunter2"})
    leaky["metadata"]["managedFields"] = [{"manager": "hunter2"}]
    leaky["metadata"]["annotations"] |= {
        "example.org/api-token": "hunter2",
        "example.org/config": '{"user": "u", "password": "hunter2"}',
        "example.org/source": "https://u:hunter2@git.example.org/x",
    }
    ended = {"exitCode": 1, "message": "login failed: password=hunter2"}
    leaky["status"] = {"containerStatuses": [{"name": "main", "lastState": {"terminated": ended}}]}
    probe = {"httpGet": {"path": "/", "httpHeaders": [{"name": "Authorization", "value": "Bearer hunter2"}]}}
    leaky["spec"]["containers"][0]["readinessProbe"] = probe
    leaky["spec"]["volumes"] = [{"name": "share", "csi": {"driver": "d", "volumeAttributes": {"key": "hunter2"}}}]
    leaky["spec"]["containers"][0] |= {
        "env": [
            {"name": "DB_URL", "value": "postgres://u:hunter2@db"},
            {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "k"}}},
        ],
        "command": ["serve", "--hf-token", "hunter2", "--api-key=hunter2", "--port=80"],
        "args": ["-c", "export WANDB_API_KEY='hunter2'; PASSWORD=hunter2 run"],
    }
    secret = {"kind": "Secret", "metadata": {"name": "s"}, "data": {"p": "hunter2"}, "stringData": {"q": "hunter2"}}
    taken = snapshot.Snapshot.of([*server.objects, leaky, secret])
    snapshot.save(taken, tmp_path / "s")

    assert b"hunter2" not in gzip.decompress((tmp_path / "s").read_bytes())
    container = next(each for each in taken.plain_objects() if each["metadata"]["name"] == "leaky")["spec"][
        "containers"
    ]
    assert container[0]["env"][0]["value"] == HIDDEN
    assert container[0]["env"][1]["value"] == "all"
    assert container[0]["env"][2]["valueFrom"]["secretKeyRef"]["name"] == "keys"
    assert container[0]["command"][-1] == "--port=80"


def test_hiding_leaves_the_object_that_it_was_given_alone() -> None:
    given = {"kind": "Pod", "spec": {"containers": [{"env": [{"name": "A", "value": "b"}]}]}}
    presentable(given)

    assert given["spec"]["containers"][0]["env"][0]["value"] == "b"


@pytest.mark.parametrize("silent", [True, False])
def test_when_a_taint_was_written_is_kept_where_the_taint_does_not_say_it(silent: bool) -> None:
    written = {"time": "2026-03-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:taints": {}, "f:unschedulable": {}}}}
    status = {"time": "2026-09-01T00:00:00Z", "subresource": "status", "fieldsV1": {"f:status": {}}}
    taint = {"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}
    taint |= {} if silent else {"timeAdded": "2026-02-01T00:00:00Z"}
    metadata = {"name": "n", "managedFields": [written, status]}

    kept = presentable({"kind": "Node", "metadata": metadata, "spec": {"taints": [taint]}})

    assert ("managedFields" in kept["metadata"]) is silent
    facts = Facts.from_objects([kept])
    assert f"{facts.nodes[0].tainted['karpenter.sh/disrupted']:%m}" == ("03" if silent else "02")


def test_what_only_explanations_look_at_is_held_and_what_may_not_be_read_is_said(server: PagedServer) -> None:
    claim = {"kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "a"}, "spec": {}}
    server.objects.append(claim)
    server.failures["Event"] = Forbidden(403, "Forbidden", "no events for you", "GET", PLACES["Event"].path())
    server.unserved.add("Workload")

    taken = snapshot.take(server)

    assert [msgspec.json.decode(raw)["metadata"]["name"] for raw in taken.objects["PersistentVolumeClaim"]] == ["data"]
    assert taken.objects["Workload"] == []
    assert "no events for you" in taken.without["events"]
    assert "Event" not in taken.objects


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"plain text", "cannot be read"),
        (gzip.compress(b"{}"), "damaged or no snapshot"),
        (gzip.compress(b"{}")[:-9], "cannot be read"),
        (gzip.compress(msgspec.json.encode({"format": 99})), "has format 99, this version reads 1: take it again"),
    ],
    ids=["no-gzip", "other-json", "cut-off", "from-the-future"],
)
def test_a_file_that_is_no_snapshot_is_refused_in_words(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)

    with pytest.raises(snapshot.SnapshotError, match=f"{path}.*{told}"):
        snapshot.load(path)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(snapshot.SnapshotError, match="make one with `gpu-conformance snapshot`"):
        snapshot.open_file(tmp_path / "none")
