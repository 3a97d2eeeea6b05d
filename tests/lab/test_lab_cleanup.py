from types import SimpleNamespace
from typing import Any

import pytest
from lab_runs import OTHER_RUN, RUN_ID, abandon, lab_on, rule
from memory_cluster import QUICK, MemoryCluster, later

from conformance.kube.effects import Mode
from conformance.kube.names import HOME_NAMESPACE, MANAGED_BY, REFERENCE_LABEL, RUN_LABEL
from conformance.lab import Lab, clean, find_leftovers, records_namespace
from conformance.lab.belongings import Belongings
from conformance.lab.cleanup.deletion import wait_until_gone

GPU_1 = SimpleNamespace(name="gpu-1")
OURS = {MANAGED_BY: "gpu-conformance", REFERENCE_LABEL: "default", RUN_LABEL: RUN_ID}


def killed(memory: MemoryCluster, run_id: str = RUN_ID, mode: Mode = Mode.FULL, *, dead: bool = True) -> Lab:
    """A run that borrowed a node and was killed; its Lease has run out if it is ``dead``."""
    lab = lab_on(memory, run_id, mode)
    lab.begin()
    scenario = lab.for_requirement(rule())
    if mode is Mode.FULL:
        scenario.fill(scenario.borrow(GPU_1))
    else:
        scenario.pod()
    abandon(lab)
    if dead:
        memory.clock = later(60)
    return lab


def deployed(memory: MemoryCluster, lab: Lab) -> None:
    """What deploying a reference set-up for a run makes, a part of it in a namespace that was there before."""
    places: list[tuple[str, str, str | None, dict[str, Any]]] = [
        ("Namespace", "ml-serving", None, {}),
        ("PriorityClass", "training-normal", None, {"value": 5}),
        ("ClusterRole", "ml", None, {}),
        ("ServiceAccount", "bot", "ml-serving", {}),
        ("ResourceQuota", "gpus", "team", {"spec": {"hard": {}}}),
        ("Deployment", "serving", "team", {"spec": {"replicas": 0}}),
    ]
    for kind, name, namespace, parts in places:
        lab.journal.will_create(memory.add(kind, name, namespace, metadata={"labels": dict(OURS)}, **parts))


def test_a_killed_run_is_found_and_removed(memory: MemoryCluster) -> None:
    before = memory.everything()
    killed(memory)

    (found,) = find_leftovers(memory.client())
    cleaned = clean(memory.client())

    assert (found.run_id, found.alive, found.holder) == (RUN_ID, False, "somebody@somewhere")
    assert {change.node for change in found.node_changes} == {"gpu-1"}
    assert f"Namespace gpuc-{RUN_ID}-prio-99-default-1" in found.objects
    assert "has ended without cleaning up" in str(found)
    assert (cleaned.runs, cleaned.nodes, cleaned.left, cleaned.namespace_removed) == ((RUN_ID,), ("gpu-1",), (), True)
    assert memory.everything() == before


def test_a_living_run_is_left_alone_and_said_to_be(memory: MemoryCluster) -> None:
    with lab_on(memory) as lab, lab.for_requirement(rule()) as scenario:
        scenario.fill(scenario.borrow(GPU_1))
        before = memory.everything()

        for cleaned in (clean(memory.client()), clean(memory.client(), RUN_ID), clean(memory.client(), force=True)):
            assert cleaned.runs == ()
            assert f"run {RUN_ID} of somebody@somewhere" in cleaned.skipped[0]
            assert "is going on" in cleaned.skipped[0]
            assert cleaned.skipped[0].endswith(
                f"wait for its end, or gpu-conformance clean --cluster NAME {RUN_ID} --force"
            )
        assert memory.everything() == before


def test_only_the_dead_are_cleaned_up_after(memory: MemoryCluster) -> None:
    killed(memory, OTHER_RUN, Mode.VERIFY)
    with lab_on(memory) as lab, lab.for_requirement(rule()) as scenario:
        scenario.fill(scenario.borrow(GPU_1))

        cleaned = clean(memory.client())

        assert cleaned.runs == (OTHER_RUN,)
        assert len(cleaned.skipped) == 1
        assert not cleaned.namespace_removed
        assert HOME_NAMESPACE in memory.of("Namespace")
        assert not [name for name in memory.of("Namespace") if OTHER_RUN in name]
    assert not [key for key in memory.objects if RUN_ID in str(key)]


def test_a_named_run_is_cleaned_alone(memory: MemoryCluster) -> None:
    killed(memory, OTHER_RUN, Mode.VERIFY)
    killed(memory, RUN_ID, Mode.VERIFY)

    cleaned = clean(memory.client(), OTHER_RUN)

    assert cleaned.runs == (OTHER_RUN,)
    assert [leftovers.run_id for leftovers in find_leftovers(memory.client())] == [RUN_ID]


def test_force_cleans_after_a_run_that_seems_alive(memory: MemoryCluster) -> None:
    before = memory.everything()
    killed(memory, dead=False)

    assert clean(memory.client(), RUN_ID).skipped
    assert clean(memory.client(), RUN_ID, force=True).runs == (RUN_ID,)
    assert memory.everything() == before


def test_a_run_that_has_just_entered_counts_as_alive(memory: MemoryCluster) -> None:

    records_namespace.enter(memory.client(RUN_ID), RUN_ID, timeout=1)

    assert clean(memory.client()).skipped
    assert clean(memory.client(), RUN_ID, force=True).namespace_removed


def test_how_long_ago_a_run_entered_is_told_by_the_servers_clock(memory: MemoryCluster) -> None:
    memory.clock = later(3600)
    records_namespace.enter(memory.client(RUN_ID), RUN_ID, timeout=1)
    assert clean(memory.client()).skipped

    memory.clock = later(3600 + 90)

    assert clean(memory.client()).namespace_removed


def test_a_deployed_set_up_of_a_run_goes_wherever_it_lies(memory: MemoryCluster) -> None:
    before = memory.everything()
    deployed(memory, killed(memory))

    cleaned = clean(memory.client())

    assert cleaned.left == ()
    assert memory.everything() == before


def test_the_end_of_a_run_removes_what_it_deployed(memory: MemoryCluster) -> None:
    before = memory.everything()
    with lab_on(memory) as lab:
        deployed(memory, lab)

    assert lab.left_behind == []
    assert memory.everything() == before


def test_a_set_up_that_was_deployed_to_stay_stays(memory: MemoryCluster) -> None:
    memory.add("Namespace", "ml-serving", metadata={"labels": {MANAGED_BY: "gpu-conformance", REFERENCE_LABEL: "x"}})
    before = memory.everything()
    killed(memory)
    clean(memory.client())

    assert memory.everything() == before


def test_a_namespace_in_which_others_keep_something_is_left_and_named(memory: MemoryCluster) -> None:
    lab = killed(memory)
    deployed(memory, lab)
    memory.add("ConfigMap", "precious", "ml-serving")

    cleaned = clean(memory.client())

    assert cleaned.left == ("Namespace ml-serving: others keep things in it: configmaps/precious",)
    assert memory.get("ConfigMap", "precious", "ml-serving")
    assert "bot" not in memory.of("ServiceAccount")


def test_kinds_that_may_not_be_listed_are_named_and_the_rest_is_cleaned(memory: MemoryCluster) -> None:
    before = memory.everything()
    killed(memory)
    memory.forbidden.add(("GET", "ClusterRole"))

    cleaned = clean(memory.client())

    assert cleaned.left == ("ClusterRole: could not be looked for: cannot GET ClusterRole",)
    assert memory.everything() == before


def test_a_node_that_cannot_be_restored_keeps_the_record_for_another_try(memory: MemoryCluster) -> None:
    before = memory.everything()
    killed(memory)
    memory.forbidden.add(("PATCH", "Node"))

    first = clean(memory.client())
    memory.forbidden.clear()
    second = clean(memory.client())

    assert "node gpu-1" in first.left[0]
    assert second.left == ()
    assert memory.everything() == before


def test_an_end_that_could_not_take_everything_back_keeps_the_record(memory: MemoryCluster) -> None:
    before = memory.everything()
    lab = lab_on(memory)
    with lab, lab.for_requirement(rule()) as scenario:
        scenario.borrow(GPU_1)
        memory.forbidden.add(("PATCH", "Node"))
    memory.forbidden.clear()

    assert any("gpu-1" in words for words in lab.left_behind)
    memory.clock = later(60)
    assert clean(memory.client()).left == ()
    assert memory.everything() == before


def test_what_somebody_changed_meanwhile_is_theirs(memory: MemoryCluster) -> None:
    killed(memory)
    memory.get("Node", "gpu-1")["metadata"]["labels"]["gpu-conformance.io/lab"] = "theirs"

    cleaned = clean(memory.client())

    assert cleaned.left == ()
    assert memory.get("Node", "gpu-1")["metadata"]["labels"]["gpu-conformance.io/lab"] == "theirs"
    assert memory.get("Node", "gpu-1")["spec"]["taints"] == [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]


def test_nothing_to_clean_is_no_error(memory: MemoryCluster) -> None:
    before = memory.everything()

    assert find_leftovers(memory.client()) == []
    assert clean(memory.client()).runs == ()
    assert clean(memory.client(), RUN_ID).left == ()
    assert memory.everything() == before


def test_a_disposable_cluster_is_not_waited_for(memory: MemoryCluster) -> None:
    lab = Lab(memory.client(RUN_ID), RUN_ID, disposable=True)
    with lab, lab.for_requirement(rule()) as scenario:
        scenario.pod()
    requests = len(memory.requests)
    lab.end()

    assert len(memory.requests) == requests
    assert memory.of("Pod") == []


def disposable(memory: MemoryCluster) -> Lab:
    return Lab(memory.client(RUN_ID), RUN_ID, QUICK, mode=Mode.FULL, disposable=True)


def test_on_a_disposable_cluster_namespaces_are_emptied_and_left_to_go_with_it(memory: MemoryCluster) -> None:
    with disposable(memory) as lab, lab.for_requirement(rule()) as scenario:
        scenario.pod()
        scenario.job(parallelism=2)
        namespace = scenario.namespace()
        scenario.quota(namespace, {"pods": 1})
        own = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own", "namespace": namespace}}
        scenario.create_or_refusal(own)
        before = set(memory.of("Namespace"))

    assert [memory.of(kind) for kind in ("Pod", "Job", "ResourceQuota")] == [[], [], []]
    assert "own" not in memory.of("ConfigMap")
    assert set(memory.of("Namespace")) == before


def test_pods_go_where_something_else_of_a_scenario_does_not(memory: MemoryCluster) -> None:
    memory.forbidden.add(("DELETE", "ResourceQuota"))
    with disposable(memory) as lab:
        with lab.for_requirement(rule()) as scenario:
            namespace = scenario.namespace()
            scenario.pod(namespace=namespace)
            scenario.quota(namespace, {"pods": 1})
        left = [str(each) for each in lab.left_behind]

    assert memory.of("Pod") == []
    assert [namespace in each and "cannot DELETE ResourceQuota" in each for each in left] == [True]


def test_a_namespace_with_a_controller_of_pods_is_deleted_even_on_a_disposable_cluster(memory: MemoryCluster) -> None:
    """Its ReplicaSet outlives it for a moment, in which it would replace the pods that are deleted."""
    with disposable(memory) as lab, lab.for_requirement(rule()) as scenario:
        scenario.deployment(namespace=(namespace := scenario.namespace()))

    assert namespace not in memory.of("Namespace")
    assert memory.of("Pod") == []


def test_a_namespace_with_something_whose_name_the_server_chose_is_deleted() -> None:
    made = Belongings()
    for namespace, identity in (("one", {"name": "a"}), ("two", {"generateName": "b-"})):
        made.add({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": namespace, **identity}})

    assert made.can_be_removed("one")
    assert not made.can_be_removed("two")


@pytest.mark.parametrize("label", ["", "not-a-run", "../../x"])
def test_objects_with_a_label_that_is_no_run_id_are_not_ours(memory: MemoryCluster, label: str) -> None:
    memory.add("ConfigMap", "odd", "team", metadata={"labels": {RUN_LABEL: label}})

    assert clean(memory.client()).runs == ()
    assert memory.of("ConfigMap") == ["odd"]


def test_a_run_killed_on_its_last_step_leaves_a_home_that_clean_removes(
    memory: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = memory.everything()
    lab = lab_on(memory)
    lab.begin()
    with monkeypatch.context() as killed_before_the_deletion:
        killed_before_the_deletion.setattr(records_namespace, "_delete", lambda *_: None)
        lab.end()
    assert HOME_NAMESPACE in memory.of("Namespace")

    assert clean(memory.client()).namespace_removed
    assert memory.everything() == before


def test_a_home_that_an_administrator_made_stays(memory: MemoryCluster) -> None:
    memory.add("Namespace", HOME_NAMESPACE)

    assert not clean(memory.client()).namespace_removed
    assert HOME_NAMESPACE in memory.of("Namespace")


def test_namespaces_that_are_going_are_asked_for_in_one_list(memory: MemoryCluster) -> None:
    held = {"labels": dict(OURS), "finalizers": ["somebody/holds-it"]}
    going = [memory.add("Namespace", f"ns-{number}", metadata=dict(held)) for number in range(5)]
    other = memory.add("PriorityClass", "class", metadata=dict(held), value=5)
    memory.objects["Namespace", "", "ns-0"]["metadata"]["labels"] = {}
    del memory.objects["Namespace", "", "ns-4"]

    left = wait_until_gone(memory.client(RUN_ID), [*going, other], 0.001)

    assert [each.what for each in left] == [*(f"Namespace ns-{number}" for number in range(4)), "PriorityClass class"]
    looks = memory.requests.count("GET /api/v1/namespaces")
    assert looks
    assert {each: memory.requests.count(each) for each in memory.requests if "ns-" in each} == {
        "GET /api/v1/namespaces/ns-0": looks,  # somebody took its label: it is there nevertheless
        "GET /api/v1/namespaces/ns-4": 1,  # gone
    }
