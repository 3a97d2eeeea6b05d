"""Lists: pages, and a continue token that expires in the middle."""

import json

import pytest
from fake_api import Answer, Asked, FakeApi, pod, pod_list, status

from conformance.kube.client import Client
from conformance.kube.errors import Forbidden, Gone

PODS = "/api/v1/pods"


def names(pages: list[bytes]) -> list[str]:
    return [item["metadata"]["name"] for page in pages for item in json.loads(page)["items"]]


class Expiring:
    """Two pages; the first use of the continue token comes too late, and the list has changed by then."""

    def __init__(self) -> None:
        self.expired = False

    def __call__(self, asked: Asked) -> Answer:
        if "continue" not in asked.query:
            return pod_list(pod("b" if self.expired else "a"), token="next")
        if not self.expired:
            self.expired = True
            return status(410, "Expired")
        return pod_list(pod("c"))


def test_pages_are_followed_with_the_same_selectors(api: FakeApi, client: Client) -> None:
    api.script(pod_list(pod("a"), token="one"), pod_list(pod("b"), token="two"), pod_list(pod("c")))
    pages = list(client.pages(PODS, label_selector="app=x", field_selector="spec.nodeName=n", limit=1))

    assert names(pages) == ["a", "b", "c"]
    same = {"labelSelector": "app=x", "fieldSelector": "spec.nodeName=n", "limit": "1"}
    assert [asked.query for asked in api.asked] == [same, {**same, "continue": "one"}, {**same, "continue": "two"}]


def test_a_page_is_the_servers_own_bytes(api: FakeApi, client: Client) -> None:
    raw = b'{"kind": "PodList",  "metadata": {}, "items": [{"field_of_a_later_version": 1}]}'
    api.script(Answer(raw))

    assert list(client.pages(PODS)) == [raw]


@pytest.mark.parametrize(
    "first",
    [
        b'{"kind":"PodList","apiVersion":"v1","metadata":{"continue":"next"},"items":[{"metadata":{"continue":"no"}}]}',
        b'{"apiVersion":"a/v1","items":[{"spec":{"metadata":{"continue":"no"},"items":[1]}}],"metadata":{"continue":"next"}}',
        b'{"kind":"PodList", "metadata":{"continue":"next"}, "items":[]}',
    ],
    ids=["before the items", "behind them", "with blanks"],
)
def test_the_continue_token_is_found_wherever_the_list_has_its_metadata(
    api: FakeApi, client: Client, first: bytes
) -> None:
    api.script(Answer(first), pod_list())
    list(client.pages(PODS))

    assert [asked.query.get("continue") for asked in api.asked] == [None, "next"]


def test_an_expired_list_starts_again_and_nothing_is_seen_twice(api: FakeApi, client: Client) -> None:
    api.answer = Expiring()

    assert names(list(client.pages(PODS))) == ["b", "c"]


def test_who_wants_pages_at_once_is_told_when_they_are_void(api: FakeApi, client: Client) -> None:
    api.answer = Expiring()
    seen: list[bytes] = []
    restarts = []

    def restarted() -> None:
        restarts.append(names(seen))
        seen.clear()

    for page in client.pages(PODS, restarted=restarted):
        seen.append(page)

    assert restarts == [["a"]]
    assert names(seen) == ["b", "c"]


def test_a_page_is_asked_for_while_the_one_before_is_looked_at(api: FakeApi, client: Client) -> None:
    api.script(pod_list(pod("a"), token="one"), pod_list(pod("b")))
    pages = client.pages(PODS, restarted=lambda: None)

    assert names([next(pages)]) == ["a"]
    assert [asked.query.get("continue") for asked in api.asked] == [None, "one"]
    assert names(list(pages)) == ["b"]


def test_a_page_that_breaks_off_while_nobody_reads_it_is_asked_for_again(api: FakeApi, client: Client) -> None:
    cut = Answer(lines=(b'{"kind": "PodList", "items": [',))
    api.script(pod_list(pod("a"), token="one"), cut, pod_list(pod("b")))

    assert names(list(client.pages(PODS))) == ["a", "b"]
    assert [asked.query.get("continue") for asked in api.asked] == [None, "one", "one"]


def test_a_refusal_of_the_next_page_comes_after_the_one_before(api: FakeApi, client: Client) -> None:
    api.script(pod_list(pod("a"), token="one"), status(403, "Forbidden"))
    pages = client.pages(PODS, restarted=lambda: None)

    assert names([next(pages)]) == ["a"]
    with pytest.raises(Forbidden):
        next(pages)


def test_a_list_that_is_gone_from_its_first_page_is_an_error(api: FakeApi, client: Client) -> None:
    api.script(status(410, "Expired"))
    with pytest.raises(Gone):
        list(client.pages(PODS))


def test_items_get_the_kind_that_the_server_leaves_to_the_list(api: FakeApi, client: Client) -> None:
    api.script(pod_list(pod("a"), {"kind": "Other", "metadata": {"name": "b"}}))
    first, second = client.list(PODS)

    assert (first["apiVersion"], first["kind"]) == ("v1", "Pod")
    assert second["kind"] == "Other"


@pytest.mark.parametrize("items", [None, []])
def test_a_list_of_nothing_is_empty(api: FakeApi, client: Client, items: object) -> None:
    api.script(Answer({"kind": "PodList", "apiVersion": "v1", "metadata": {"continue": ""}, "items": items}))

    assert client.list(PODS) == []


def test_a_list_restarted_in_the_middle_has_only_the_new_items(api: FakeApi, client: Client) -> None:
    api.answer = Expiring()

    assert [item["metadata"]["name"] for item in client.list(PODS)] == ["b", "c"]


def test_a_forbidden_list_is_forbidden(api: FakeApi, client: Client) -> None:
    api.script(status(403, "Forbidden"))
    with pytest.raises(Forbidden):
        client.list(PODS)
