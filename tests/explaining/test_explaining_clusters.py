"""The command explain-pod on a live cluster and on a snapshot: what it reads, and what it does without."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from manifests import node, pod

from conformance.explaining import Stage
from conformance.facts.snapshot import Snapshot, open_file, save
from conformance.kube.errors import Forbidden, NotFound
from conformance.kube.paths import PLACES
from conformance.session import explaining_pods
from conformance.session.rights import audit_role, explaining_role

CLAIM = {"kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "team"}, "spec": {}}
WITH_VOLUME = {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}


class Server:
    """Lists objects by their path; knows no custom kinds, and forbids what it is told to."""

    def __init__(self, *objects: dict[str, Any], forbidden: tuple[str, ...] = ()) -> None:
        self.objects, self.forbidden, self.asked = objects, forbidden, []

    def list(self, path: str, *, field_selector: str | None = None) -> list[dict[str, Any]]:
        self.asked.append((path, field_selector))
        kind = next((name for name, place in PLACES.items() if place.plural == path.rpartition("/")[2]), "")
        if "run.ai" in path or "kueue" in path:
            raise NotFound(404, "NotFound", "no such kind", "GET", path)
        if kind in self.forbidden:
            raise Forbidden(403, "Forbidden", f"you may not list {kind}", "GET", path)
        return [each for each in self.objects if each["kind"] == kind]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch):
    def ask(server: Server, asked: str):
        @contextmanager
        def access(*_: object) -> Iterator[Server]:
            yield server

        monkeypatch.setattr(explaining_pods, "reading_access", access)
        return explaining_pods.explanations("prod", asked, None, None)

    return ask


def test_a_cluster_is_read_for_what_an_explanation_takes(told):
    server = Server(node("a100-1"), pod("train", 16))

    (explained,) = told(server, "team/train")

    assert explained.stage is Stage.UNSCHEDULABLE
    assert "wants 16 nvidia.com/gpu" in explained.cause
    assert ("/api/v1/namespaces/team/events", "type=Warning") in server.asked
    assert not any("secrets" in path for path, _ in server.asked)


def test_what_may_not_be_read_is_said_where_it_decides(told):
    wanted = pod("train", **WITH_VOLUME)

    (explained,) = told(Server(node("a100-1"), wanted, CLAIM, forbidden=("PersistentVolume",)), "team/train")

    assert explained.stage is Stage.SCHEDULABLE
    assert "you may not list PersistentVolume" in explained.not_computed[0]


def test_without_the_right_to_read_nodes_there_is_no_explanation(told):
    with pytest.raises(Forbidden):
        told(Server(pod("train"), forbidden=("Node",)), "team/train")


def test_a_snapshot_that_holds_no_volumes_decides_none(tmp_path: Path):
    objects = [each | {"apiVersion": "v1"} for each in (node("a100-1"), pod("train", **WITH_VOLUME))]
    save(Snapshot.of(objects), tmp_path / "s")
    save(
        Snapshot.of([*objects, *map(_empty, ("PersistentVolumeClaim", "PersistentVolume", "StorageClass"))]),
        tmp_path / "t",
    )

    (without,) = explaining_pods.explanations(f"snapshot:{tmp_path / 's'}", "team/train", None, None)
    (held,) = explaining_pods.explanations(f"snapshot:{tmp_path / 't'}", "team/train", None, None)

    assert without.stage is Stage.SCHEDULABLE
    assert "not read" in without.not_computed[0]
    assert held.cause == "there is no PersistentVolumeClaim data in its namespace"


def _empty(kind: str) -> dict[str, Any]:
    """An object that nobody asks about, so that its kind counts as read."""
    return {
        "apiVersion": PLACES[kind].group_version,
        "kind": kind,
        "metadata": {"name": "x", "namespace": "y"},
        "spec": {},
    }


@pytest.mark.parametrize("all_pods", [True, False], ids=["all pods", "one pod"])
def test_what_is_read_takes_the_rights_of_an_audit_and_those_of_explaining_and_no_more(all_pods):
    server = Server(node("a100-1"), pod("train"))

    if all_pods:
        explaining_pods.read_everything(server)
    else:
        explaining_pods.explained_by(server, "Pod", "team", "train")

    asked = {_right(path) for path, _ in server.asked}
    audit, explaining = _granted(audit_role()), _granted(explaining_role())
    assert asked - audit == explaining
    assert not audit & explaining


def _right(path: str) -> tuple[str, str]:
    group = path.split("/")[2] if path.startswith("/apis/") else ""
    return group, path.rpartition("/")[2]


def _granted(role: dict[str, Any]) -> set[tuple[str, str]]:
    return {
        (group, resource)
        for rule in role["rules"]
        if "list" in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


VOLCANO = "scheduling.volcano.sh/v1beta1"
OF_KAI = {"apiVersion": "scheduling.run.ai/v2", "kind": "Queue", "metadata": {"name": "research"}, "spec": {}}
OF_VOLCANO = {"apiVersion": VOLCANO, "kind": "Queue", "metadata": {"name": "batch"}, "status": {"state": "Closed"}}


def test_a_snapshot_keeps_the_queues_of_kai_and_of_volcano_apart(tmp_path: Path):
    waits = pod("train", schedulerName="volcano") | {"apiVersion": "v1"}
    waits["metadata"]["annotations"] = {"scheduling.volcano.sh/queue-name": "batch"}
    save(Snapshot.of([OF_KAI, OF_VOLCANO, node("a100-1") | {"apiVersion": "v1"}, waits]), tmp_path / "s")

    (explained,) = explaining_pods.explanations(f"snapshot:{tmp_path / 's'}", "team/train", None, None)

    held = explaining_pods.held_in(open_file(tmp_path / "s"))
    assert [each["metadata"]["name"] for each in held.of("Queue")] == ["research"]
    assert [(each["kind"], each["metadata"]["name"]) for each in held.of("VolcanoQueue")] == [("Queue", "batch")]
    assert explained.cause == "Volcano queue batch is Closed: it takes no PodGroup"


@pytest.mark.parametrize("kind", ["VolcanoQueue", "VolcanoPodGroup", "NodePool", "NodeClaim"])
def test_a_kind_that_is_not_served_or_may_not_be_read_is_done_without(told, kind):
    class Without(Server):
        def list(self, path: str, *, field_selector: str | None = None) -> list[dict[str, Any]]:
            if path == PLACES[kind].path():
                raise refusal("GET", path)
            return super().list(path, field_selector=field_selector)

    for error, code in ((NotFound, 404), (Forbidden, 403)):
        refusal = partial(error, code, error.__name__, "no")
        (explained,) = told(Without(node("a100-1"), pod("train", 16)), "team/train")
        assert "wants 16 nvidia.com/gpu" in explained.cause
