"""One request: what is sent, what is tried again, and what an error says."""

import threading

import pytest
from fake_api import Answer, FakeApi, status

from conformance.kube.client import Client
from conformance.kube.connection import Connection
from conformance.kube.effects import Effect
from conformance.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unreachable,
)
from conformance.kube.guard import Guard
from conformance.kube.timeouts import Timeouts

POD = "/api/v1/namespaces/demo/pods/a"
PODS = "/api/v1/namespaces/demo/pods"


def test_the_user_agent_names_the_requirement(api: FakeApi, client: Client) -> None:
    client.get(POD)
    client.for_requirement("PRIO-03", Effect.READS).get(POD)

    plain, required = (asked.headers["user-agent"] for asked in api.asked)
    assert plain.startswith("gpu-conformance/")
    assert required == f"{plain} requirement/PRIO-03"


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (401, "Unauthorized", Unauthorized),
        (403, "Forbidden", Forbidden),
        (404, "NotFound", NotFound),
        (409, "AlreadyExists", AlreadyExists),
        (409, "Conflict", Conflict),
        (410, "Expired", Gone),
        (422, "Invalid", Invalid),
        (500, "InternalError", ApiError),
    ],
)
def test_errors_have_the_class_of_their_status_and_are_not_tried_again(
    api: FakeApi, client: Client, code: int, reason: str, kind: type[ApiError]
) -> None:
    api.script(status(code, reason, "the words of the server"))
    with pytest.raises(kind) as caught:
        client.get(POD)

    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.reason) == (code, reason)
    assert "the words of the server" in str(caught.value)
    assert POD in str(caught.value)
    assert len(api.asked) == 1


def test_an_error_lists_the_causes_that_the_server_gives(api: FakeApi, client: Client) -> None:
    causes = [{"field": "spec.containers", "message": "Required value"}, {"reason": "Odd"}, "odd"]
    api.script(status(422, "Invalid", details={"causes": causes}))
    with pytest.raises(Invalid) as caught:
        client.get(POD)

    assert caught.value.causes == ("spec.containers: Required value", "Odd")


@pytest.mark.parametrize("body", [b"<html>502 from a balancer</html>", b"[]", b"null", b'"text"', b"\xff\xfe"])
def test_an_error_that_is_no_status_object_is_still_an_error(api: FakeApi, client: Client, body: bytes) -> None:
    api.script(Answer(body, 502))
    with pytest.raises(ApiError) as caught:
        client.get(POD)

    assert caught.value.status == 502


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_an_overloaded_server_is_asked_again(api: FakeApi, client: Client, code: int, method: str) -> None:
    api.script(status(code, "Busy"), status(code, "Busy"), Answer({"done": True}))

    assert b"done" in client.request(method, PODS, body={})
    assert len(api.asked) == 3


def test_a_server_that_stays_overloaded_is_an_error_in_the_end(api: FakeApi, client: Client) -> None:
    api.script(status(429, "TooManyRequests"))
    with pytest.raises(TooManyRequests):
        client.get(POD)

    assert 2 <= len(api.asked) <= 6


def test_retry_after_is_honoured(api: FakeApi, client: Client) -> None:
    busy = status(429, "TooManyRequests")
    api.script(Answer(busy.body, 429, {"Retry-After": "0"}), Answer({"done": True}))

    assert client.get(POD) == {"done": True}


def test_a_retry_after_beyond_the_retry_time_is_not_waited_for(api: FakeApi, client: Client) -> None:
    busy = status(429, "TooManyRequests")
    api.script(Answer(busy.body, 429, {"Retry-After": "3600"}))
    with pytest.raises(TooManyRequests):
        client.get(POD)

    assert len(api.asked) == 1


def test_an_eviction_that_a_budget_forbids_is_an_answer_not_an_overload(api: FakeApi, client: Client) -> None:
    api.script(status(429, "TooManyRequests"))
    with pytest.raises(TooManyRequests):
        client.create(f"{POD}/eviction", {})

    assert len(api.asked) == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_cut_connection_is_tried_again_where_that_does_nothing_twice(
    api: FakeApi, client: Client, method: str
) -> None:
    api.script(Answer(cut=True), Answer({"done": True}))

    assert b"done" in client.request(method, POD)


def test_a_post_whose_connection_was_cut_is_not_sent_twice(api: FakeApi, client: Client) -> None:
    api.script(Answer(cut=True), Answer({"done": True}))
    with pytest.raises(Unreachable):
        client.create(PODS, {})

    assert len(api.asked) == 1


def test_a_json_patch_whose_connection_was_cut_is_not_sent_twice(api: FakeApi, client: Client) -> None:
    api.script(Answer(cut=True), Answer({"done": True}))
    with pytest.raises(Unreachable):
        client.patch(POD, [{"op": "add", "path": "/x/-", "value": 1}], kind="json")

    assert len(api.asked) == 1


def test_a_silent_server_is_unreachable_after_the_read_timeout(api: FakeApi, connection: Connection) -> None:
    api.script(Answer(hang=5))
    hasty = Client(connection, Guard(Effect.READS), Timeouts(read=0.1))
    with pytest.raises(Unreachable, match="read=SECONDS"):
        hasty.get(POD)

    assert len(api.asked) == 1


def test_a_refused_connection_names_the_server_and_what_to_check() -> None:
    with Connection("http://127.0.0.1:1") as nobody, pytest.raises(Unreachable) as caught:
        Client(nobody, Guard(Effect.READS), Timeouts(retry=0.5)).get(POD)

    assert "http://127.0.0.1:1" in str(caught.value)
    assert "refused" in str(caught.value)
    assert "kubeconfig" in str(caught.value)


def test_patches_say_which_kind_they_are(api: FakeApi, client: Client) -> None:
    client.patch(POD, {})
    client.patch(POD, {}, kind="strategic")
    client.patch(POD, [], kind="json")

    assert [asked.headers["content-type"] for asked in api.asked] == [
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/json-patch+json",
    ]


def test_apply_goes_to_the_objects_own_path_in_our_name(api: FakeApi, client: Client) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "gpu", "namespace": "demo"}}
    client.apply(quota)
    client.apply(quota, manager="other", force=True, dry_run=True)

    first, second = api.asked
    assert (first.method, first.path) == ("PATCH", "/api/v1/namespaces/demo/resourcequotas/gpu")
    assert first.query == {"fieldManager": "gpu-conformance"}
    assert first.headers["content-type"] == "application/apply-patch+yaml"
    assert first.body == quota
    assert second.query == {"fieldManager": "other", "force": "true", "dryRun": "All"}


def test_apply_finds_an_unknown_kind_by_asking_the_server_once(api: FakeApi, client: Client) -> None:
    widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "p"}}
    resources = [
        {"name": "widgets", "kind": "Widget", "namespaced": False},
        {"name": "widgets/status", "kind": "Widget", "namespaced": False},
    ]
    api.answer = lambda asked: Answer({"resources": resources} if asked.method == "GET" else widget)
    client.apply(widget)
    client.apply(widget)

    assert [asked.path for asked in api.asked] == [
        "/apis/example.com/v1",
        "/apis/example.com/v1/widgets/p",
        "/apis/example.com/v1/widgets/p",
    ]


def test_delete_says_whether_something_was_there(api: FakeApi, client: Client) -> None:
    assert client.delete(POD, grace_seconds=0, uid="u") is True
    assert api.asked[0].body == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Background",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": "u"},
    }
    api.script(status(404, "NotFound"))
    assert client.delete(POD) is False


def test_a_dry_run_is_asked_for_in_the_query(api: FakeApi, client: Client) -> None:
    client.create(PODS, {}, dry_run=True)
    client.patch(POD, {}, dry_run=True)

    assert [asked.query.get("dryRun") for asked in api.asked] == ["All", "All"]


def test_a_token_client_shows_its_token_and_nothing_of_ours(api: FakeApi) -> None:
    with Connection(api.url, headers=lambda: {"Authorization": "Bearer ours", "X-Ours": "1"}) as ours:
        client = Client(ours, Guard(Effect.READS))
        client.with_token("theirs").get(POD)
        client.get(POD)

    theirs, mine = api.asked
    assert theirs.headers["authorization"] == "Bearer theirs"
    assert "x-ours" not in theirs.headers
    assert mine.headers["authorization"] == "Bearer ours"


def test_expired_credentials_are_renewed_once(api: FakeApi) -> None:
    def renewed() -> Connection:
        return Connection(api.url, headers=lambda: {"Authorization": "Bearer fresh"})

    api.answer = lambda asked: (
        Answer({"done": True}) if asked.headers.get("authorization") == "Bearer fresh" else status(401, "Unauthorized")
    )
    with Connection(api.url, headers=lambda: {"Authorization": "Bearer stale"}, renew=renewed) as connection:
        client = Client(connection, Guard(Effect.READS))

        assert client.get(POD) == {"done": True}
        assert client.get(POD) == {"done": True}
    assert len(api.asked) == 3


def test_credentials_that_stay_refused_are_an_error_that_says_so(api: FakeApi) -> None:
    api.script(status(401, "Unauthorized"))
    with (
        Connection(api.url, renew=lambda: Connection(api.url)) as connection,
        pytest.raises(Unauthorized, match="log in again"),
    ):
        Client(connection, Guard(Effect.READS)).get(POD)

    assert len(api.asked) == 2


def test_many_threads_share_one_client(api: FakeApi, client: Client) -> None:
    api.answer = lambda asked: Answer({"path": asked.path})
    wrong: list[object] = []

    def ask(number: int) -> None:
        path = f"/api/v1/nodes/n{number}"
        wrong.extend(answer for _ in range(5) if (answer := client.get(path)) != {"path": path})

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert len(api.asked) == 60
