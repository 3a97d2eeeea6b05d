import time
from datetime import UTC, datetime, timedelta

import pytest
from lab_runs import OTHER_RUN, RUN_ID, abandon, lab_on, rule
from memory_cluster import MemoryCluster, later
from patience import PATIENCE

from conformance.kube.effects import Mode
from conformance.kube.waits import wait_for
from conformance.lab import LeaseHeld, clean, records_namespace
from conformance.lab.lease import FULL_RUN, Heartbeat, is_alive
from conformance.verdict import Inconclusive


def test_two_full_runs_are_kept_apart_and_the_second_one_leaves_no_trace(memory: MemoryCluster) -> None:
    with lab_on(memory):
        before = memory.everything()

        with pytest.raises(LeaseHeld) as refusal:
            lab_on(memory, OTHER_RUN).begin()

        assert memory.everything() == before
    assert refusal.value.run_id == RUN_ID
    assert "somebody@somewhere" in str(refusal.value)
    assert f"gpu-conformance clean --cluster NAME {RUN_ID} --force" in str(refusal.value)


def test_runs_that_change_no_nodes_go_on_side_by_side(memory: MemoryCluster) -> None:
    before = memory.everything()
    with lab_on(memory), lab_on(memory, OTHER_RUN, Mode.VERIFY) as other:
        other.for_requirement(rule()).namespace()

    assert memory.everything() == before


def test_a_killed_full_run_has_to_be_cleaned_up_after_first(memory: MemoryCluster) -> None:
    lab = lab_on(memory)
    lab.begin()
    abandon(lab)
    memory.clock = later(60)

    with pytest.raises(LeaseHeld, match=f"was killed.*gpu-conformance clean --cluster NAME {RUN_ID}"):
        lab_on(memory, OTHER_RUN).begin()
    clean(memory.client())
    with lab_on(memory, OTHER_RUN):
        pass


def test_a_run_is_alive_by_the_servers_clock_whatever_the_holders_says() -> None:
    now = datetime.now(UTC)
    spec = {"leaseDurationSeconds": 30, "renewTime": "2000-01-01T00:00:00.000000Z"}

    def written(ago: float) -> dict[str, object]:
        stamp = (now - timedelta(seconds=ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"metadata": {"managedFields": [{"time": stamp}]}, "spec": spec}

    assert is_alive(written(5), now, 30)
    assert not is_alive(written(40), now, 30)
    assert not is_alive({"metadata": {}, "spec": spec}, now, 30)


def test_leases_are_renewed_while_the_run_goes_on(memory: MemoryCluster) -> None:
    records_namespace.enter(memory.client(RUN_ID), RUN_ID, timeout=1)
    heartbeat = Heartbeat(memory.client(RUN_ID), RUN_ID, "somebody", full=True, duration=0.06)
    heartbeat.start()
    try:
        taken = memory.get("Lease", FULL_RUN, "gpu-conformance")["spec"]["renewTime"]
        wait_for(
            lambda: memory.get("Lease", FULL_RUN, "gpu-conformance")["spec"]["renewTime"],
            lambda renewed: renewed > taken,
            what="a renewal",
            timeout=PATIENCE,
        )
        assert heartbeat.lost is None
    finally:
        heartbeat.stop()


def test_a_run_that_lost_its_lease_may_not_act_any_more(memory: MemoryCluster) -> None:
    lab = lab_on(memory)
    lab.begin()
    lab._heartbeat.lost = "its Lease could not be renewed"

    with pytest.raises(Inconclusive, match="may not act any more"):
        lab.for_requirement(rule())
    lab.end()


@pytest.mark.parametrize("accident", ["taken", "unreachable"])
def test_a_lost_lease_is_noticed(memory: MemoryCluster, accident: str) -> None:
    records_namespace.enter(memory.client(RUN_ID), RUN_ID, timeout=1)
    heartbeat = Heartbeat(memory.client(RUN_ID), RUN_ID, "somebody", full=False, duration=0.03)
    heartbeat.start()
    if accident == "taken":
        memory.get("Lease", f"gpuc-{RUN_ID}", "gpu-conformance")["metadata"]["labels"] = {
            "gpu-conformance.io/run-id": OTHER_RUN
        }
    else:
        memory.forbidden.add(("PATCH", "Lease"))
    deadline = time.monotonic() + PATIENCE
    while heartbeat.lost is None and time.monotonic() < deadline:
        time.sleep(0.01)
    heartbeat.stop()

    assert heartbeat.lost is not None
    assert (OTHER_RUN if accident == "taken" else "could not be renewed") in heartbeat.lost


def test_the_home_namespace_goes_with_the_last_run_only(memory: MemoryCluster) -> None:
    with lab_on(memory):
        with lab_on(memory, OTHER_RUN, Mode.VERIFY):
            pass
        assert "gpu-conformance" in memory.of("Namespace")
    assert "gpu-conformance" not in memory.of("Namespace")


def test_a_home_namespace_that_an_administrator_made_stays(memory: MemoryCluster) -> None:
    memory.add("Namespace", "gpu-conformance")
    before = memory.everything()
    with lab_on(memory):
        pass

    assert memory.everything() == before | {
        ("Namespace", "", "gpu-conformance"): memory.everything()["Namespace", "", "gpu-conformance"]
    }
    assert memory.get("Namespace", "gpu-conformance")["metadata"]["annotations"] == {}


def test_a_home_namespace_in_which_somebody_keeps_something_stays(memory: MemoryCluster) -> None:
    with lab_on(memory):
        memory.add("Secret", "registry", "gpu-conformance")

    assert memory.of("Secret") == ["registry"]


def test_a_run_that_enters_while_the_last_one_leaves_keeps_its_home(memory: MemoryCluster) -> None:
    client = memory.client(OTHER_RUN)
    entered = []

    def enter(number: int, when: str) -> None:
        if memory.requests[-1] == "DELETE /api/v1/namespaces/gpu-conformance" and when == "before" and not entered:
            entered.append(True)
            records_namespace.enter(client, OTHER_RUN, timeout=1)

    with lab_on(memory):
        memory.accident = enter

    assert entered
    assert set(records_namespace.entered_at(client)) == {OTHER_RUN}


def test_entering_waits_for_a_namespace_that_is_going(memory: MemoryCluster) -> None:
    memory.add("Namespace", "gpu-conformance", metadata={"finalizers": ["slow"]})
    client = memory.client(RUN_ID)
    client.delete("/api/v1/namespaces/gpu-conformance")
    patches: list[int] = []

    def finish(number: int, when: str) -> None:
        patches.append(number)
        if len(patches) == 3:
            memory.objects.pop(("Namespace", "", "gpu-conformance"))

    memory.accident = finish
    records_namespace.enter(client, RUN_ID, timeout=2)

    assert "deletionTimestamp" not in memory.get("Namespace", "gpu-conformance")["metadata"]
