"""What an empty node lacks for a declared workload: what nodes count, not what HAMi's scheduler alone counts."""

from conformance.facts import Facts
from suites._shared.declared_workloads import lacking


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
