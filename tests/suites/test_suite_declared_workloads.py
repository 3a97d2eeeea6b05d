"""Declared workloads: what an empty node lacks for one, and what is told of one that is not there."""

import msgspec

from conformance.facts import Facts
from conformance.reference.model import Pool, Reference, Workload
from conformance.verdict import Judge
from suites._shared.declared_workloads import declared_in, lacking, placed_in, without_any
from suites.priorities import test_priorities
from suites.scheduling import test_placement as placement
from suites.tenancy import test_tenancy


def test_what_only_hamis_scheduler_counts_is_lacking_nowhere() -> None:
    limits = {"nvidia.com/gpu": "2", "nvidia.com/gpumem": "8000", "nvidia.com/gpucores": "30"}
    template = {"spec": {"containers": [{"name": "main", "image": "x", "resources": {"limits": limits}}]}}
    facts = Facts.from_objects(
        [
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "8"}}},
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "notebook", "namespace": "lab"},
                "spec": {"replicas": 1, "template": template},
            },
        ]
    )

    assert list(lacking(facts.workloads[0].template, facts.nodes[0])) == ["nvidia.com/gpu"]


ABSENT = Workload(
    role="training",
    kind="Job",
    namespace="ml",
    name="finetune",
    pools=("a100",),
    priority_class="high",
    service_account="trainer",
)
MINE = Reference(name="mine", pools=(Pool(name="a100", selector={"pool": "a100"}),), workloads=(ABSENT,))


def test_a_job_that_is_not_there_is_told_once() -> None:
    facts = Facts.from_objects([])
    told = [Judge(), Judge(), Judge()]

    placement.test_declared_workloads_run_where_they_were_declared_to(
        placed_in(MINE, facts), MINE, facts, lambda _: (), told[0]
    )
    test_priorities.test_declared_workloads_carry_their_class((ABSENT,), facts, told[1])
    test_tenancy.test_declared_workloads_run_as_their_service_account(MINE, facts, told[2])

    assert [len(judge.broken) for judge in told] == [1, 0, 0]
    assert "ttlSecondsAfterFinished" in told[0].broken[0].remedy
    assert [str(judge.nothing_judged()) for judge in told[1:]] == ["job ml/finetune: it is not deployed"] * 2
    assert declared_in(MINE, facts) == ()
    assert str(without_any([ABSENT], facts)) == "job ml/finetune is not deployed"


def test_the_manifest_of_a_workload_that_is_not_deployed_is_judged() -> None:
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "finetune", "namespace": "ml"},
        "spec": {"template": {"spec": {"containers": [{"name": "main", "image": "x"}]}}},
    }
    declared = msgspec.structs.replace(ABSENT, manifest=manifest)
    reference = msgspec.structs.replace(MINE, workloads=(declared,))

    assert [each.declared for each in declared_in(reference, Facts.from_objects([]))] == [declared]


def test_the_class_of_a_workload_of_no_pool_is_judged_where_nobody_else_misses_it() -> None:
    judge = Judge()

    test_priorities.test_declared_workloads_carry_their_class(
        (msgspec.structs.replace(ABSENT, pools=()),), Facts.from_objects([]), judge
    )

    assert [each.actual for each in judge.broken] == ["no such workload"]
