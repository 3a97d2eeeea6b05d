"""A snapshot that somebody wrote or changed by hand: one message that names what is wrong, never a traceback."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from manifests import node, pod
from waiting_pods import situations

from conformance import cli
from conformance.explaining import waiting_pods
from conformance.facts.snapshot import Snapshot, SnapshotError, open_file, save
from conformance.session.explaining_pods import NoSuchPod, explanations, held_in, parsed, told, understood

ODD = (None, "one", 7, -1, [], {}, True, 1.5, "", ["x"], {"a": 1}, [None], [7], {"a": None}, 10**30)
REMOVED = object()
NAMED = [
    (("spec", "containers", 0, "resources", "limits", "nvidia.com/gpu"), "one", "'one' is not a Kubernetes quantity"),
    (("spec", "containers"), "main", "`$.spec.containers`"),
    (("metadata", "labels"), ["a"], "`$.metadata.labels`"),
    (("status", "conditions"), [7], "`$.status.conditions[0]`"),
    (("metadata", "creationTimestamp"), "yesterday", "`$.metadata.creationTimestamp`"),
]


@pytest.mark.parametrize(("at", "value", "says"), NAMED, ids=[str(at[-1]) for at, *_ in NAMED])
def test_the_object_and_the_member_are_named(tmp_path: Path, at: tuple[Any, ...], value: Any, says: str):
    wrong = pod("train", status={"phase": "Pending", "conditions": []})
    _put(wrong, at, value)
    save(Snapshot.of([each | {"apiVersion": "v1"} for each in (node("a100-1"), wrong)]), tmp_path / "s")

    seen = held_in(open_file(tmp_path / "s"))

    with pytest.raises(SnapshotError) as refused, understood(seen, "prod.json.gz"):
        raise TypeError("as explaining does where it is looked at")

    assert str(refused.value).startswith("the snapshot prod.json.gz has an object that is not as an API server has it")
    assert "pod team/train: " in str(refused.value)
    assert says in str(refused.value)


def test_the_command_ends_with_one_message_and_the_code_of_usage_errors(tmp_path: Path, capsys):
    wrong = node("a100-1")
    wrong["status"]["allocatable"]["nvidia.com/gpu"] = "one"
    save(Snapshot.of([each | {"apiVersion": "v1"} for each in (wrong, pod("train"))]), tmp_path / "s")

    code = cli.main(["explain-pod", "--cluster", f"snapshot:{tmp_path / 's'}", "team/train"])

    said = capsys.readouterr()
    assert (code, said.out) == (4, "")
    assert said.err.startswith("gpu-conformance: the snapshot ")
    assert "node a100-1: 'one' is not a Kubernetes quantity" in said.err
    assert said.err.count("\n") == 1


@given(st.integers(0, 2**32))
def test_whatever_is_changed_in_a_snapshot_there_is_an_explanation_or_a_message(seed: int):
    chance = random.Random(seed)
    situation = chance.choice(list(situations().values()))
    whole = [{"apiVersion": "v1", "kind": each["kind"], **each} for each in situation["objects"]]
    file = msgspec.json.decode(msgspec.json.encode(Snapshot.of(whole)))
    _put(file, chance.choice([at for at in _places(file) if at[:1] == ("objects",)]), chance.choice((*ODD, REMOVED)))
    kind, _, name = situation["explain"].partition(" ")

    try:
        held = msgspec.json.decode(msgspec.json.encode(file), type=Snapshot)
    except msgspec.ValidationError:
        return  # open_file says so
    seen = held_in(held)
    for explain in (
        lambda: told(seen, *parsed(name if kind == "pod" else f"{kind}/{name}")),
        lambda: waiting_pods(seen, (), datetime.now(UTC)),
    ):
        try:
            with understood(seen, "prod.json.gz"):
                assert explain() is not None
        except (SnapshotError, NoSuchPod):
            continue  # one message


def test_a_file_that_is_no_snapshot_is_told_as_that(tmp_path: Path):
    (tmp_path / "s").write_bytes(b"no gzip")

    with pytest.raises(SnapshotError, match="cannot be read"):
        explanations(f"snapshot:{tmp_path / 's'}", "team/train", None, None)


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if at:
        yield at
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield from _places(member, (*at, key))


def _put(root: Any, at: tuple[Any, ...], value: Any) -> None:
    for key in at[:-1]:
        root = root[key]
    if value is REMOVED:
        del root[at[-1]]
    else:
        root[at[-1]] = value
