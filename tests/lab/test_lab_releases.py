"""A GPU stack that a run installed: on record before it is, and undone when the run was killed."""

from typing import Any

import msgspec
from lab_runs import RUN_ID, abandon, lab_on
from memory_cluster import QUICK, MemoryCluster, later

from conformance.deploy.helm.releases import Installed
from conformance.deploy.installing import InstallError, NotOurs
from conformance.kube.names import MANAGED_BY, REFERENCE_LABEL, RUN_LABEL
from conformance.lab import Lab, clean, find_leftovers
from conformance.lab.journal import owner_records

RELEASE = Installed("gpu-operator", "gpu-operator", "gpu-operator", "v26.7.0")
DRA = Installed("dra-driver-nvidia-gpu", "gpu-operator", "dra-driver-nvidia-gpu", "0.4.1")
OURS = {MANAGED_BY: "gpu-conformance", REFERENCE_LABEL: "default", RUN_LABEL: RUN_ID}


class Installer:
    """Removes releases, or cannot. ``strangers`` are releases that somebody else installed later."""

    def __init__(self, error: str = "", strangers: tuple[str, ...] = ()) -> None:
        self.error = error
        self.strangers = strangers
        self.removed: list[str] = []

    def install(self, *_: Any, **__: Any) -> None:
        raise AssertionError("cleaning installs nothing")

    def has(self, *_: Any, **__: Any) -> bool:
        raise AssertionError("cleaning installs nothing")

    def uninstall(self, client: Any, installed: Installed, timeouts: Any) -> None:
        if self.error:
            raise InstallError(self.error)
        if installed.name in self.strangers:
            raise NotOurs(installed)
        self.removed.append(installed.name)


def without_gpus(memory: MemoryCluster) -> None:
    """Nodes as they are without a stack."""
    for name in memory.of("Node"):
        memory.get("Node", name)["status"] = {}


def killed(memory: MemoryCluster) -> Lab:
    """A run that was killed after it had installed a stack."""
    without_gpus(memory)
    lab = lab_on(memory, RUN_ID)
    lab.begin()
    lab.journal.will_create(memory.add("Namespace", "gpu-operator", None, metadata={"labels": dict(OURS)}))
    lab.journal.will_install(RELEASE)
    lab.journal.will_install(DRA)
    abandon(lab)
    memory.clock = later(60)
    return lab


def test_a_release_is_on_record_before_it_is_installed(memory: MemoryCluster) -> None:
    lab = killed(memory)

    assert lab.journal.installed == (RELEASE, DRA)
    assert owner_records(memory.client())[RUN_ID].releases == (RELEASE, DRA)
    (found,) = find_leftovers(memory.client())
    assert "Helm release gpu-operator/gpu-operator (gpu-operator v26.7.0)" in str(found)


def test_a_release_that_is_gone_leaves_the_record(memory: MemoryCluster) -> None:
    lab = lab_on(memory, RUN_ID)
    lab.begin()
    lab.journal.will_install(RELEASE)
    lab.journal.will_install(DRA)

    lab.journal.uninstalled(RELEASE)

    assert lab.journal.installed == (DRA,)
    assert owner_records(memory.client())[RUN_ID].releases == (DRA,)


def test_the_stack_of_a_killed_run_is_taken_away_last_one_first(memory: MemoryCluster) -> None:
    without_gpus(memory)
    before = memory.everything()
    killed(memory)
    installer = Installer()

    cleaned = clean(memory.client(), installer=installer)

    assert installer.removed == ["dra-driver-nvidia-gpu", "gpu-operator"]
    assert cleaned.left == ()
    assert str(RELEASE) in cleaned.deleted
    assert memory.everything() == before


def test_where_nobody_can_remove_it_the_command_is_said_and_nothing_forgotten(memory: MemoryCluster) -> None:
    killed(memory)

    cleaned = clean(memory.client())

    assert any("run: helm uninstall gpu-operator --namespace gpu-operator" in words for words in cleaned.left)
    assert owner_records(memory.client())[RUN_ID].releases == (RELEASE, DRA)
    # The namespace holds what Helm knows of the release: without it nobody could uninstall.
    assert "Namespace gpu-operator" not in cleaned.deleted
    assert clean(memory.client(), installer=Installer()).left == ()


def test_a_failure_is_said_and_can_be_tried_again(memory: MemoryCluster) -> None:
    killed(memory)

    cleaned = clean(memory.client(), installer=Installer("timed out"))

    assert any("gpu-operator/gpu-operator" in words and "timed out" in words for words in cleaned.left)
    assert len(find_leftovers(memory.client())) == 1


def test_a_release_of_somebody_else_is_said_and_forgotten(memory: MemoryCluster) -> None:
    killed(memory)
    memory.get("Node", "gpu-1")["metadata"]["labels"]["nvidia.com/gpu.present"] = "true"

    cleaned = clean(memory.client(), installer=Installer(strangers=("gpu-operator",)))

    assert any("gpu-operator/gpu-operator is there that is not ours" in words for words in cleaned.left)
    assert str(RELEASE) not in cleaned.deleted
    assert str(DRA) in cleaned.deleted
    assert "nvidia.com/gpu.present" in memory.get("Node", "gpu-1")["metadata"]["labels"]
    assert find_leftovers(memory.client()) == []
    assert clean(memory.client()).left == ()


def test_the_copy_of_a_pull_secret_goes_and_secrets_of_others_stay(memory: MemoryCluster) -> None:
    memory.add(
        "Secret", "pull", "gpu-operator", metadata={"labels": {MANAGED_BY: "gpu-conformance", RUN_LABEL: RUN_ID}}
    )
    memory.add("Secret", "half", "gpu-operator", metadata={"labels": {RUN_LABEL: RUN_ID}})
    memory.add("Secret", "elsewhere", "team", metadata={"labels": {RUN_LABEL: RUN_ID}})
    memory.add("Secret", "theirs", "gpu-operator")
    killed(memory)

    cleaned = clean(memory.client(), installer=Installer())

    assert "Secret gpu-operator/pull" in cleaned.deleted
    assert sorted(memory.of("Secret")) == ["elsewhere", "half", "theirs"]


def test_records_without_releases_are_as_small_as_before() -> None:
    text = msgspec.json.encode(RELEASE).decode()

    assert "definitions" not in text
    assert "mark" not in text
    assert "token" not in text
    assert QUICK.stack > 0
