"""A run beside an audit, or one that was killed before it: named, and not judged as the cluster's."""

from types import SimpleNamespace

from lab_runs import RUN_ID, abandon, lab_on, rule
from memory_cluster import MemoryCluster, later

from conformance.facts import Facts
from conformance.kube.effects import Effect
from conformance.lab.other_runs import find_other_runs, without_runs
from conformance.lab.scenario import RequirementLab


def facts_of(memory: MemoryCluster) -> Facts:
    client = memory.client(None, Effect.READS)
    kinds = ("nodes", "pods", "namespaces", "resourcequotas")
    found = [obj for kind in kinds for obj in client.list(f"/api/v1/{kind}")]
    return Facts.from_objects([*found, *client.list("/apis/scheduling.k8s.io/v1/priorityclasses")])


def told_of(facts: Facts) -> list[tuple[str, ...]]:
    """What an audit could judge: names of all objects, labels and taints of nodes, what they offer."""
    named = [(type(each).__name__, getattr(each, "namespace", ""), each.name) for each in facts.every()]
    return sorted(named) + sorted(
        (node.name, *sorted(node.labels.items()), *map(str, node.taints), *sorted(node.allocatable))
        for node in facts.nodes
    )


def in_the_middle(scenario: RequirementLab) -> None:
    """A scenario that has borrowed a node, given it a fake GPU, a label and another taint, and made pods."""
    node = scenario.borrow(SimpleNamespace(name="gpu-1"), taints=())
    node.label(accelerator="fake", pool=None)
    scenario.fake_gpus(node, 4)
    scenario.namespace()


def test_what_a_run_has_on_the_cluster_is_left_out_while_it_is_going_on(memory: MemoryCluster) -> None:
    before = told_of(facts_of(memory))
    with lab_on(memory) as lab, lab.for_requirement(rule()) as scenario:
        in_the_middle(scenario)
        facts = facts_of(memory)
        [other] = find_other_runs(facts, (), memory.client(None, Effect.READS), 30)

        assert told_of(facts) != before
        assert without_home(told_of(without_runs(facts, [other]))) == before

        assert (other.run_id, other.alive, other.nodes) == (RUN_ID, True, ("gpu-1",))
        told = other.told("staging")
        assert f"run {RUN_ID} of somebody@somewhere, since 20" in told
        assert "mode full, is going on; this audit leaves out its 1 object and changes of node gpu-1" in told
        assert f"If it never ends, run: gpu-conformance clean --cluster staging {RUN_ID} --force" in told


def test_after_a_killed_run_the_command_that_cleans_up_is_named(memory: MemoryCluster) -> None:
    before = told_of(facts_of(memory))
    lab = lab_on(memory)
    lab.begin()
    in_the_middle(lab.for_requirement(rule()).__enter__())
    abandon(lab)
    memory.clock = later(60)

    facts = facts_of(memory)
    [other] = find_other_runs(facts, (), memory.client(None, Effect.READS), 30)

    assert without_home(told_of(without_runs(facts, [other]))) == before
    assert "has ended without cleaning up" in other.told("staging")
    assert other.told("staging").endswith(f"Run: gpu-conformance clean --cluster staging {RUN_ID}")


def test_a_runs_own_objects_are_none_of_another_run(memory: MemoryCluster) -> None:
    with lab_on(memory) as lab, lab.for_requirement(rule()) as scenario:
        in_the_middle(scenario)

        assert find_other_runs(facts_of(memory), {RUN_ID}, memory.client(None, Effect.READS), 30) == []


def test_a_cluster_without_runs_is_asked_nothing(memory: MemoryCluster) -> None:
    assert find_other_runs(facts_of(memory), (), None, 30) == []


def test_somebody_who_may_not_read_leases_is_told_so_and_judges_nothing_of_the_run(
    memory: MemoryCluster,
) -> None:
    with lab_on(memory) as lab, lab.for_requirement(rule()) as scenario:
        in_the_middle(scenario)
        facts = facts_of(memory)
        memory.forbidden |= {("GET", "ConfigMap"), ("GET", "Lease")}
        [other] = find_other_runs(facts, (), memory.client(None, Effect.READS), 30)

        assert other.alive is None
        assert "labels and taints that it changed are judged as yours" in other.told("staging")
        assert not [node for node in without_runs(facts, [other]).nodes if "gpu-conformance.io/lab" in node.labels]


def without_home(told: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The namespace of the records stays: a run of one's own has it, too."""
    return [each for each in told if each != ("Namespace", "", "gpu-conformance")]
