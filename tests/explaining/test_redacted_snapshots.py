"""Of a redacted snapshot explain-pod tells the same, with the replaced names."""

from collections.abc import Iterator
from typing import Any

import pytest
from waiting_pods import objects_of, situations

from conformance.explaining import Explanation
from conformance.facts.redacting import redacted
from conformance.facts.snapshot import Snapshot
from conformance.kube.paths import PLACES
from conformance.redaction import Redactor
from conformance.session.explaining_pods import held_in, parsed, told

TRIES = 500


@pytest.mark.parametrize("name", situations())
def test_a_redacted_snapshot_tells_the_same(name: str) -> None:
    objects = [{"apiVersion": PLACES[each["kind"]].group_version, **each} for each in objects_of(situations()[name])]
    snapshot = Snapshot.of(objects)
    redactor = _that_keeps_the_order(sorted(each["metadata"]["name"] for each in objects if each["kind"] == "Node"))
    kind, namespace, of = parsed(situations()[name]["explain"].replace(" ", "/"))

    hidden = told(held_in(redacted(snapshot, redactor)), kind, redactor.text(namespace), redactor.text(of))

    for before, after in zip(told(held_in(snapshot), kind, namespace, of), hidden, strict=True):
        assert list(_words(after)) == [redactor.text(words) for words in _words(before)]


def test_what_is_told_of_a_redacted_snapshot_names_no_node() -> None:
    objects: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "dgx-berlin-7"}, "spec": {}, "status": {}},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "train-dgx-berlin-7", "namespace": "ml"},
            "spec": {"containers": [{"name": "main", "image": "i", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]},
        },
    ]
    redactor = Redactor(b"k" * 32)
    held = held_in(redacted(Snapshot.of(objects), redactor))

    (explained,) = told(held, "Pod", "ml", redactor.text("train-dgx-berlin-7"))

    assert explained.nearest == redactor.text("dgx-berlin-7")
    assert "berlin" not in str(explained)


def _words(explained: Explanation) -> Iterator[str]:
    yield from (explained.subject, explained.stage, explained.cause, explained.remedy, explained.inspect)
    yield from (explained.node, explained.nearest, explained.eviction, *explained.missing, *explained.not_computed)
    for group in explained.groups:
        yield from (*group.reasons, *group.nodes)


def _that_keeps_the_order(names: list[str]) -> Redactor:
    """Of nodes that are alike the first by name is told; so a key is taken by which they are in the same order."""
    for number in range(TRIES):
        redactor = Redactor(str(number).zfill(32).encode())
        redactor.learn("node", names)
        if [redactor.text(each) for each in names] == sorted(redactor.text(each) for each in names):
            return redactor
    raise AssertionError(f"no key of {TRIES} keeps the order of {names}")
