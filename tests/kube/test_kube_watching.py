"""Watches: what happens meanwhile is told, whatever the server and the network do."""

import time
from typing import Any

import pytest
from fake_api import Answer, Asked, FakeApi, pod, pod_list, status

from conformance.kube.client import Client
from conformance.kube.errors import Forbidden, Unreachable

PODS = "/api/v1/namespaces/demo/pods"
LONG_ENOUGH = 5.0


def event(kind: str, obj: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": obj}


def error(code: int, reason: str) -> dict[str, Any]:
    return event("ERROR", {"kind": "Status", "code": code, "reason": reason, "message": "as the test wants it"})


class Script:
    """Lists and watches, each with its own answers in turn; the last one repeats."""

    def __init__(self, *, lists: list[Answer] = (), watches: list[Answer]) -> None:  # type: ignore[assignment]
        self.lists, self.watches = list(lists), list(watches)
        self.watched: list[Asked] = []

    def __call__(self, asked: Asked) -> Answer:
        if "watch" in asked.query:
            self.watched.append(asked)
        answers = self.watches if "watch" in asked.query else self.lists
        return answers.pop(0) if len(answers) > 1 else answers[0]


QUIET = Answer(lines=(), hang=30)


def told(client: Client, count: int, **options: Any) -> list[tuple[str, str]]:
    """The first ``count`` events, as (type, name)."""
    found = []
    for seen in client.watch(PODS, timeout=LONG_ENOUGH, **options):
        found.append((seen.type, seen.object["metadata"]["name"]))
        if len(found) == count:
            break
    return found


def test_what_is_there_comes_first_and_then_what_happens(api: FakeApi, client: Client) -> None:
    script = Script(
        lists=[pod_list(pod("a"), version=7)],
        watches=[
            Answer(lines=(event("MODIFIED", pod("a", 8)), event("ADDED", pod("b", 9)), event("DELETED", pod("a", 10))))
        ],
    )
    api.answer = script

    assert told(client, 4, label_selector="app=x") == [
        ("ADDED", "a"),
        ("MODIFIED", "a"),
        ("ADDED", "b"),
        ("DELETED", "a"),
    ]
    query = script.watched[0].query
    assert query["resourceVersion"] == "7"
    assert query["allowWatchBookmarks"] == "true"
    assert query["labelSelector"] == "app=x"


def test_a_given_version_is_watched_from_without_a_list(api: FakeApi, client: Client) -> None:
    api.answer = script = Script(watches=[Answer(lines=(event("ADDED", pod("b", 9)),))])

    assert told(client, 1, resource_version="7") == [("ADDED", "b")]
    assert [asked.query.get("watch") for asked in api.asked] == ["true"]
    assert script.watched[0].query["resourceVersion"] == "7"


def test_after_a_disconnect_the_watch_goes_on_from_the_last_version(api: FakeApi, client: Client) -> None:
    api.answer = script = Script(
        watches=[Answer(lines=(event("ADDED", pod("a", 8)),)), Answer(lines=(event("ADDED", pod("b", 9)),))]
    )

    assert told(client, 2, resource_version="7") == [("ADDED", "a"), ("ADDED", "b")]
    assert script.watched[1].query["resourceVersion"] == "8"


def test_a_bookmark_moves_the_version_and_is_not_told(api: FakeApi, client: Client) -> None:
    bookmark = event("BOOKMARK", {"metadata": {"resourceVersion": "50"}})
    api.answer = script = Script(watches=[Answer(lines=(bookmark,)), Answer(lines=(event("ADDED", pod("b", 51)),))])

    assert told(client, 1, resource_version="7") == [("ADDED", "b")]
    assert script.watched[1].query["resourceVersion"] == "50"


@pytest.mark.parametrize("gone", [Answer(lines=(error(410, "Expired"),)), status(410, "Gone")])
def test_an_expired_version_is_bridged_by_events_for_what_changed(api: FakeApi, client: Client, gone: Answer) -> None:
    api.answer = script = Script(
        lists=[
            pod_list(pod("stays"), pod("changes"), pod("goes"), pod("replaced"), version=7),
            pod_list(pod("stays"), pod("changes", 5), pod("comes", 6), pod("replaced", 9, uid="other"), version=60),
        ],
        watches=[gone, Answer(lines=(event("MODIFIED", pod("stays", 61)),))],
    )
    before = [("ADDED", name) for name in ("stays", "changes", "goes", "replaced")]
    bridge = [
        ("DELETED", "goes"),
        ("DELETED", "replaced"),
        ("MODIFIED", "changes"),
        ("ADDED", "comes"),
        ("ADDED", "replaced"),
    ]

    assert told(client, 10) == [*before, *bridge, ("MODIFIED", "stays")]
    assert script.watched[1].query["resourceVersion"] == "60"


def test_a_deletion_that_nobody_saw_is_told_with_the_last_known_object(api: FakeApi, client: Client) -> None:
    known = pod("a", 3)
    api.answer = Script(lists=[pod_list(known), pod_list()], watches=[Answer(lines=(error(410, "Expired"),))])
    events = client.watch(PODS, timeout=LONG_ENOUGH)

    assert next(events).type == "ADDED"
    gone = next(events)
    assert (gone.type, gone.object["metadata"]) == ("DELETED", known["metadata"])


def test_a_passing_error_event_is_outlived(api: FakeApi, client: Client) -> None:
    api.answer = Script(
        watches=[Answer(lines=(error(500, "InternalError"),)), Answer(lines=(event("ADDED", pod("a", 8)),))]
    )

    assert told(client, 1, resource_version="7") == [("ADDED", "a")]


def test_an_error_event_that_cannot_pass_is_raised(api: FakeApi, client: Client) -> None:
    api.answer = Script(watches=[Answer(lines=(error(403, "Forbidden"),))])
    with pytest.raises(Forbidden):
        told(client, 1, resource_version="7")


def test_half_an_event_before_a_disconnect_is_forgotten(api: FakeApi, client: Client) -> None:
    api.answer = script = Script(
        watches=[
            Answer(lines=(event("ADDED", pod("a", 8)), b'{"type": "ADDED", "object": {"metada')),
            Answer(lines=(event("ADDED", pod("b", 9)),)),
        ]
    )

    assert told(client, 2, resource_version="7") == [("ADDED", "a"), ("ADDED", "b")]
    assert script.watched[1].query["resourceVersion"] == "8"


def test_events_may_arrive_in_pieces(api: FakeApi, client: Client) -> None:
    pieces = (
        b'{"type": "ADDED", "obj',
        b'ect": {"metadata": {"name": "a"}}}\n{"type": "DELETED"',
        b', "object": {"metadata": {"name": "a"}}}\n',
    )
    api.answer = Script(watches=[Answer(lines=pieces)])

    assert told(client, 2, resource_version="7") == [("ADDED", "a"), ("DELETED", "a")]


def test_a_quiet_watch_ends_at_its_deadline_without_an_error(api: FakeApi, client: Client) -> None:
    api.answer = Script(lists=[pod_list()], watches=[QUIET])
    began = time.monotonic()

    assert list(client.watch(PODS, timeout=0.2)) == []
    assert 0.2 <= time.monotonic() - began < 2


def test_a_server_that_ends_every_watch_at_once_is_not_asked_in_a_tight_loop(api: FakeApi, client: Client) -> None:
    api.answer = script = Script(watches=[Answer(lines=())])

    assert list(client.watch(PODS, resource_version="7", timeout=0.5)) == []
    assert 2 <= len(script.watched) <= 6


def test_a_server_that_always_says_expired_is_not_asked_in_a_tight_loop(api: FakeApi, client: Client) -> None:
    api.answer = script = Script(lists=[pod_list()], watches=[status(410, "Gone")])

    assert list(client.watch(PODS, timeout=0.5)) == []
    assert len(script.watched) <= 6


def test_a_forbidden_watch_is_an_error_at_once(api: FakeApi, client: Client) -> None:
    api.answer = Script(lists=[pod_list()], watches=[status(403, "Forbidden")])
    with pytest.raises(Forbidden):
        list(client.watch(PODS, timeout=LONG_ENOUGH))


def test_a_server_that_goes_away_is_not_mistaken_for_a_quiet_one(api: FakeApi, client: Client) -> None:
    api.answer = Script(watches=[Answer(lines=(event("ADDED", pod("a", 8)),)), Answer(cut=True)])
    events = client.watch(PODS, resource_version="7", timeout=0.5)

    assert next(events).type == "ADDED"
    with pytest.raises(Unreachable):
        list(events)
