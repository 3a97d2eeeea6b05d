import json
import threading

import pytest
from lab_runs import OTHER_RUN, RUN_ID
from memory_cluster import Killed, MemoryCluster, killed_after

from conformance.gpu.taints import Taint
from conformance.kube.nodechange import NodeChange
from conformance.lab.journal import Journal, owner_records


@pytest.fixture
def journal(memory: MemoryCluster) -> Journal:
    memory.add("Namespace", "gpu-conformance")
    journal = Journal(memory.client(RUN_ID), RUN_ID)
    journal.open(holder="somebody@somewhere", mode="full")
    return journal


def change(number: int) -> NodeChange:
    labels: dict[str, str | None] = {"gpu-type": "nvidia-a100", "workload-class": "training-large-model"}
    before: dict[str, str | None] = {"gpu-type": None, "workload-class": None}
    taints = (Taint("nvidia.com/gpu", "present", "NoSchedule"), Taint("workload-class", "training", "NoSchedule"))
    return NodeChange(f"ip-10-0-{number // 256}-{number % 256}.eu-central-1.compute.internal", before, labels, taints)


def test_a_record_says_who_runs_and_what_it_is_about_to_do(journal: Journal, memory: MemoryCluster) -> None:
    journal.will_create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a"}})
    journal.will_change_node(change(1))

    record = owner_records(memory.client())[RUN_ID]

    assert record.owner is not None
    assert (record.owner.holder, record.owner.mode) == ("somebody@somewhere", "full")
    assert record.node_changes == (change(1),)
    assert [str(each) for each in record.created] == ["Namespace team-a"]


def test_what_was_taken_back_is_no_longer_on_record(journal: Journal, memory: MemoryCluster) -> None:
    journal.will_change_node(change(1))
    journal.will_change_node(change(2))
    journal.took_back(change(1))
    journal.took_back(change(1))

    assert journal.outstanding == (change(2),)
    assert owner_records(memory.client())[RUN_ID].node_changes == (change(2),)


def test_an_entry_is_on_record_before_the_call_returns(journal: Journal, memory: MemoryCluster) -> None:
    seen = []
    for number in range(3):
        journal.will_change_node(change(number))
        seen.append(len(owner_records(memory.client())[RUN_ID].node_changes))

    assert seen == [1, 2, 3]


def test_a_large_fleet_changed_by_many_threads_fits_below_the_limit_of_one_object(
    journal: Journal, memory: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A tenth of everything: 500 nodes for 5,000, and 100 KiB for the 1 MiB that etcd and the API server allow.
    monkeypatch.setattr("conformance.lab.journal.SHARD_BYTES", 70_000)

    def work(start: int) -> None:
        for number in range(start, 500, 16):
            journal.will_change_node(change(number))

    threads = [threading.Thread(target=work, args=(start,)) for start in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    record = owner_records(memory.client())[RUN_ID]
    assert sorted(each.node for each in record.node_changes) == sorted(change(number).node for number in range(500))
    sizes = [len(json.dumps(obj)) for (kind, _, _), obj in memory.objects.items() if kind == "ConfigMap"]
    assert max(sizes) < 2**20 / 10
    assert len(sizes) < 5


def test_a_failed_write_is_tried_again_by_the_next_one(journal: Journal, memory: MemoryCluster) -> None:
    memory.forbidden.add(("PATCH", "ConfigMap"))
    with pytest.raises(Exception, match="cannot PATCH"):
        journal.will_change_node(change(1))
    memory.forbidden.clear()

    journal.will_change_node(change(2))

    assert owner_records(memory.client())[RUN_ID].node_changes == (change(1), change(2))


def test_the_records_of_runs_are_kept_apart(journal: Journal, memory: MemoryCluster) -> None:
    journal.will_change_node(change(1))
    other = Journal(memory.client(OTHER_RUN), OTHER_RUN)
    other.open(holder="another", mode="verify")

    assert set(owner_records(memory.client())) == {RUN_ID, OTHER_RUN}
    assert owner_records(memory.client())[OTHER_RUN].node_changes == ()


def test_a_run_killed_before_it_said_who_it_is_has_a_record_without_owner(
    journal: Journal, memory: MemoryCluster
) -> None:
    other = Journal(memory.client(OTHER_RUN), OTHER_RUN)
    memory.accident = killed_after(len(memory.requests))
    with pytest.raises(Killed):
        other.will_change_node(change(1))
    memory.accident = lambda number, when: None

    record = owner_records(memory.client())[OTHER_RUN]
    assert record.owner is None
    assert record.node_changes == ()
