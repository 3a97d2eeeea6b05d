"""What we say about API servers, asked of a real one."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from conformance.kube.client import Client
from conformance.kube.effects import Effect
from conformance.kube.errors import AlreadyExists, ApiError, Conflict, EffectRefused, Forbidden, Invalid, NotFound
from conformance.kube.guard import Guard
from conformance.kube.paths import PLACES, path
from conformance.kube.pieces import pieces
from conformance.kube.waits import wait_for

pytestmark = pytest.mark.cluster

RUN_ID = "kubetest"
NAMESPACE = f"gpuc-{RUN_ID}-client"
CONFIG_MAPS = path("ConfigMap", namespace=NAMESPACE)


def config_map(name: str, **content: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "data": content,
    }


@pytest.fixture(scope="module")
def kube(cluster: Any) -> Iterator[Client]:
    """A client that may change nothing but its own namespace, which it has."""
    everything: Client = cluster.client
    client = Client(everything.connection, Guard(Effect.OWN_NAMESPACE, RUN_ID), everything.timeouts)
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    # Without the account that a controller makes, admission refuses every pod before the API server looks at it.
    accounts = path("ServiceAccount", namespace=NAMESPACE)
    wait_for(lambda: client.list(accounts), bool, what="the default service account is there", timeout=60)
    yield client
    client.delete(path("Namespace", name=NAMESPACE))


def comes_with_kubernetes(collection: str) -> bool:
    """Whether the group of a path is one of a bare API server: those of others have a domain that is theirs."""
    group = collection.removeprefix("/apis/").partition("/")[0]
    return "." not in group or group.endswith(".k8s.io")


# By kind, the minor version of Kubernetes since which it is served without being switched on.
SINCE = {"DeviceTaintRule": 37}


def test_every_kind_of_kubernetes_itself_is_served(kube: Client) -> None:
    minor = int(kube.get("/version")["minor"])
    there = [kind for kind in PLACES if SINCE.get(kind, 0) <= minor]
    asked = [kind for kind in there if comes_with_kubernetes(PLACES[kind].path())]

    for kind in asked:
        if not kind.endswith("Review"):
            assert b"items" in kube.request("GET", PLACES[kind].path(), query={"limit": "1"})
    assert {"Pod", "Lease", "ResourceSlice", "APIService"} <= {*asked}


def test_pages_and_list_agree(kube: Client) -> None:
    for number in range(7):
        kube.apply(config_map(f"page-{number}"))

    assert len(list(kube.pages(CONFIG_MAPS, limit=3))) >= 3
    names = [item["metadata"]["name"] for item in kube.list(CONFIG_MAPS, limit=3)]
    assert names == sorted(set(names))
    assert {f"page-{number}" for number in range(7)} <= set(names)


def test_one_answer_is_cut_between_items_and_agrees_with_pages(kube: Client) -> None:
    roles = path("ClusterRole")
    answer = kube.request("GET", roles)
    found = list(pieces((answer[start : start + 4096] for start in range(0, len(answer), 4096)), roles))
    names = [item["metadata"]["name"] for piece in found for item in json.loads(piece)["items"]]

    assert len(found) > 5
    assert names == [item["metadata"]["name"] for item in kube.list(roles, limit=7)]
    assert names == [item["metadata"]["name"] for piece in kube.pieces(roles) for item in json.loads(piece)["items"]]


def test_a_watch_tells_what_happens(kube: Client) -> None:
    kube.apply(config_map("watched", a="1"))
    events = kube.watch(CONFIG_MAPS, field_selector="metadata.name=watched", timeout=20)

    assert next(events).type == "ADDED"
    kube.patch(f"{CONFIG_MAPS}/watched", {"data": {"a": "2"}})
    changed = next(events)
    assert (changed.type, changed.object["data"]) == ("MODIFIED", {"a": "2"})
    kube.delete(f"{CONFIG_MAPS}/watched")
    assert next(events).type == "DELETED"


def test_applying_twice_changes_nothing_and_foreign_fields_conflict(kube: Client) -> None:
    first = kube.apply(config_map("applied", a="1"))
    second = kube.apply(config_map("applied", a="1"))
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]

    with pytest.raises(Conflict) as caught:
        kube.apply(config_map("applied", a="2"), manager="somebody")
    assert ".data.a" in caught.value.causes[0]
    assert kube.apply(config_map("applied", a="2"), manager="somebody", force=True)["data"] == {"a": "2"}


def test_a_dry_run_leaves_nothing(kube: Client) -> None:
    kube.apply(config_map("dry"), dry_run=True)

    with pytest.raises(NotFound):
        kube.get(f"{CONFIG_MAPS}/dry")


def test_a_delete_takes_its_dry_run_from_the_body_if_there_is_one(kube: Client) -> None:
    """Why the guard does not trust ``?dryRun=All`` beside delete options."""
    kube.apply(config_map("doomed"))
    kube.request("DELETE", f"{CONFIG_MAPS}/doomed", query={"dryRun": "All"})
    kube.request("DELETE", f"{CONFIG_MAPS}/doomed", body={"kind": "DeleteOptions", "dryRun": ["All"]})
    assert kube.get(f"{CONFIG_MAPS}/doomed")

    kube.request("DELETE", f"{CONFIG_MAPS}/doomed", query={"dryRun": "All"}, body={"kind": "DeleteOptions"})
    with pytest.raises(NotFound):
        kube.get(f"{CONFIG_MAPS}/doomed")


def test_errors_are_told_apart(kube: Client) -> None:
    kube.apply(config_map("there"))
    with pytest.raises(AlreadyExists):
        kube.create(CONFIG_MAPS, config_map("there"))
    with pytest.raises(Conflict):
        kube.delete(f"{CONFIG_MAPS}/there", uid="another")
    with pytest.raises(Invalid) as caught:
        kube.create(path("Pod", namespace=NAMESPACE), {"metadata": {"name": "p"}, "spec": {"containers": []}})
    assert caught.value.causes[0].startswith("spec.containers")


def test_a_token_of_a_service_account_is_that_account_and_no_administrator(kube: Client) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "team", "namespace": NAMESPACE}}
    kube.apply(account)
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    token = kube.create(f"{kube.path_of(account)}/token", asked)["status"]["token"]

    team = kube.with_token(token)
    question = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    user = team.create(path("SelfSubjectReview"), question)["status"]["userInfo"]["username"]
    assert user == f"system:serviceaccount:{NAMESPACE}:team"
    with pytest.raises(Forbidden):
        team.list(path("Node"))


def test_the_guard_stands_before_a_real_server_too(kube: Client) -> None:
    node = kube.list(path("Node"))[0]["metadata"]
    with pytest.raises(EffectRefused):
        kube.patch(path("Node", name=node["name"]), {"metadata": {"labels": {"x": "y"}}})

    assert kube.get(path("Node", name=node["name"]))["metadata"]["labels"] == node["labels"]


def test_the_namespace_of_a_deleted_run_is_gone_in_time(kube: Client) -> None:
    name = f"gpuc-{RUN_ID}-gone"
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    assert kube.delete(path("Namespace", name=name)) is True

    def status() -> int:
        try:
            kube.get(path("Namespace", name=name))
        except ApiError as error:
            return error.status
        return 200

    wait_for(status, lambda seen: seen == 404, what=f"namespace {name} is gone", timeout=60)
