"""A list that comes in one answer: cut into lists of whole items, and never taken for a shorter one."""

import json

import pytest
from fake_api import Answer, FakeApi, pod, status

from conformance.kube.client import Client
from conformance.kube.errors import BrokenOff, Forbidden
from conformance.kube.pieces import pieces

PODS = "/api/v1/pods"
NAMES = [f"pod-{number}" for number in range(9)]
HEAD = {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}}


def written(names: list[str] = NAMES, **more: object) -> bytes:
    """As an API server writes it: without blanks, an item's metadata first."""
    return json.dumps({**HEAD, "items": [{**pod(name), **more} for name in names]}, separators=(",", ":")).encode()


def parts(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


def names(found: list[bytes]) -> list[str]:
    return [item["metadata"]["name"] for piece in found for item in json.loads(piece)["items"]]


@pytest.mark.parametrize("size", [1, 7, 40, 100, 1000, 100_000])
def test_every_piece_is_a_list_and_together_they_have_every_item_once(size: int) -> None:
    found = list(pieces(parts(written(), size), PODS))

    assert names(found) == NAMES
    assert all({key: json.loads(piece)[key] for key in HEAD} == HEAD for piece in found)


def test_pieces_come_before_the_answer_has_ended() -> None:
    content = written()
    coming = pieces(iter(parts(content, len(content) // 2 + 1)), PODS)

    assert 0 < len(names([next(coming)])) < len(NAMES)


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"<html>log in</html>",
        b'{"items": null}',
        b'{"apiVersion":"v1","items":[],"metadata":{}}',
        json.dumps({"metadata": {}, "items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]}).encode(),
    ],
)
def test_what_is_written_in_another_way_comes_in_one_piece(content: bytes) -> None:
    assert list(pieces(parts(content, 5), PODS)) == [content]


def test_a_cut_within_an_item_leaves_no_list() -> None:
    content = written(["a"], claims=[{"metadata": {"name": "x"}}, {"metadata": {"name": "y"}}])
    first, *_ = pieces(parts(content, len(content) - 3), PODS)

    with pytest.raises(json.JSONDecodeError):
        json.loads(first)


def test_a_list_that_goes_on_elsewhere_is_not_taken_for_all() -> None:
    content = written().replace(b'"resourceVersion":"7"', b'"resourceVersion":"7","continue":"next"')

    with pytest.raises(BrokenOff, match="only a part"):
        list(pieces([content], PODS))


def test_a_client_asks_once_and_for_no_page(api: FakeApi, client: Client) -> None:
    api.script(Answer(written()))

    assert names(list(client.pieces(PODS))) == NAMES
    assert [(asked.path, asked.query) for asked in api.asked] == [(PODS, {})]


def test_an_answer_that_ends_early_is_broken_off(api: FakeApi, client: Client) -> None:
    api.script(Answer(lines=(written()[:-40],)))

    with pytest.raises(BrokenOff, match=r"the answer to GET /api/v1/pods broke off"):
        list(client.pieces(PODS))


def test_a_refusal_is_the_servers_own(api: FakeApi, client: Client) -> None:
    api.script(status(403, "Forbidden"))

    with pytest.raises(Forbidden):
        list(client.pieces(PODS))
