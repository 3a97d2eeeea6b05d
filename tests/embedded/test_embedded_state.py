"""State folders: private, locked, removed only when abandoned."""

import os
import stat
import time
from pathlib import Path

import pytest

from conformance.clusters.embedded import state
from conformance.clusters.embedded.state import StateError


def test_a_state_folder_is_private(tmp_path: Path) -> None:
    folder = state.make(root=tmp_path)

    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_an_owned_folder_is_never_swept(tmp_path: Path) -> None:
    folder = state.make(root=tmp_path)

    assert state.remove_abandoned(tmp_path) == []

    assert folder.path.exists()
    folder.remove()


def test_an_orphan_is_swept_and_a_strange_folder_is_not(tmp_path: Path) -> None:
    orphan = state.make(root=tmp_path)
    orphan.release()
    strange = tmp_path / f"gpu-conformance-{os.getuid() + 1}-run-1"
    strange.mkdir()

    assert state.remove_abandoned(tmp_path) == [orphan.path]

    assert strange.exists()


def test_a_folder_that_is_just_being_made_is_left_alone(tmp_path: Path) -> None:
    newborn = tmp_path / f"gpu-conformance-{os.getuid()}-new-1"
    newborn.mkdir()
    assert state.remove_abandoned(tmp_path) == []
    os.utime(newborn, (time.time() - 120, time.time() - 120))

    assert state.remove_abandoned(tmp_path) == [newborn]


def test_the_same_name_is_refused_while_its_cluster_lives_and_free_afterwards(tmp_path: Path) -> None:
    first = state.make(kept="dev", root=tmp_path)

    with pytest.raises(StateError, match="'dev' is up already"):
        state.make(kept="dev", root=tmp_path)

    assert state.kept_folders(tmp_path) == {"dev": first.path}
    first.release()
    second = state.make(kept="dev", root=tmp_path)
    assert second.path == first.path
    second.remove()


@pytest.mark.parametrize("name", ["", "Dev", "a/b", "../x", "-a", "a" * 41])
def test_names_that_could_leave_their_folder_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot name a cluster"):
        state.make(kept=name, root=tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_small_ram_disk_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, roomy = tmp_path / "small", tmp_path / "roomy"
    small.mkdir()
    roomy.mkdir()
    monkeypatch.setattr(state, "_places", lambda: [small, roomy])
    monkeypatch.setattr(state, "_free", lambda place: 0 if place == small else 2**40)

    folder = state.make()

    assert folder.path.parent == roomy
    folder.remove()


def test_no_room_anywhere_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_places", lambda: [tmp_path])
    monkeypatch.setattr(state, "_free", lambda _: 0)

    with pytest.raises(StateError, match="512 MiB"):
        state.make()


def test_a_folder_whose_removal_was_killed_is_removed_by_the_next_start(tmp_path: Path) -> None:
    """The lock may go first of all that is in it; keys would stay in memory for good."""
    half = tmp_path / f"gpu-conformance-{os.getuid()}-run-12345678"
    (half / "pki").mkdir(parents=True)
    (half / "pki" / "admin.key").touch()

    assert state.remove_abandoned(tmp_path) == [half]
    assert not half.exists()
