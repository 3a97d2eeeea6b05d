"""Declared workloads of kinds that nobody reads, judged by their pods; and work that Kueue holds back."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from conformance.facts import Facts
from conformance.reference.model import Pool, Reference
from conformance.verdict import Inconclusive, Judge, NotApplicable, Unsupported
from suites._shared.declared_workloads import declared_in, placed_in
from suites.priorities.test_priorities import test_declared_workloads_carry_their_class as carry_their_class
from suites.scheduling import test_placement as placement
from suites.tenancy.test_tenancy import test_declared_workloads_run_as_their_service_account as run_as_their_account

CONFINED, PREFERENCES, FITS, PLACED = (
    placement.test_declared_workloads_can_run_in_their_pools_only,
    placement.test_every_preference_can_be_met,
    placement.test_every_declared_workload_fits_a_node,
    placement.test_declared_workloads_run_where_they_were_declared_to,
)
ALL = [CONFINED, FITS, PLACED, carry_their_class, run_as_their_account]
TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
ADMISSION = [{"name": "kueue.x-k8s.io/admission"}]

Object = dict[str, Any]


def node(name: str, gpus: int) -> Object:
    amounts = {"cpu": "64", "memory": "512Gi", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    metadata = {"name": name, "labels": {"pool": "gpu" if gpus else "cpu"}}
    status = {"capacity": amounts, "allocatable": amounts, "conditions": [{"type": "Ready", "status": "True"}]}
    return {"kind": "Node", "metadata": metadata, "spec": {"taints": [TAINT] if gpus else []}, "status": status}


NODES = [node("gpu-0", 8), node("gpu-1", 8), node("cpu-0", 0)]
CLASS = {"kind": "PriorityClass", "metadata": {"name": "training"}, "value": 1000}


def pod(name: str, on: str = "gpu-0", gpus: int = 8, owner: str = "PyTorchJob/llm", **spec: Any) -> Object:
    """A pod of the workload as it has to be; ``spec`` replaces members, also phase and labels."""
    kind, _, made_by = owner.partition("/")
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {}
    phase = spec.pop("phase", "Running" if on else "Pending")
    metadata = {
        "name": name,
        "namespace": "ml",
        "labels": spec.pop("labels", {}),
        "ownerReferences": [{"kind": kind, "name": made_by, "controller": True}] if kind else [],
    }
    whole = {
        "containers": [{"name": "main", "image": "app", "resources": resources}],
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "priorityClassName": "training",
        "priority": 1000,
        "serviceAccountName": "trainer",
        **({"nodeName": on} if on else {}),
    }
    return {"kind": "Pod", "metadata": metadata, "spec": {**whole, **spec}, "status": {"phase": phase}}


def set_up(kind: str = "PyTorchJob", **workload: Any) -> Reference:
    plain = {
        "name": "research",
        "pools": [
            {
                "name": "gpu",
                "selector": {"pool": "gpu"},
                "nodes": 2,
                "taints": [TAINT],
                "gpu": {"model": "h100", "count": 8},
            },
            {"name": "cpu", "selector": {"pool": "cpu"}, "nodes": 1},
        ],
        "workloads": [
            {
                "role": "training",
                "kind": kind,
                "namespace": "ml",
                "name": "llm",
                "pools": ["gpu"],
                "priority_class": "training",
                "service_account": "trainer",
                **workload,
            }
        ],
    }
    return msgspec.convert(plain, Reference)


class Ended:
    """How a requirement ended."""

    def __init__(self, requirement: Any, reference: Reference, *objects: Object) -> None:
        facts, self.judge = Facts.from_objects([*NODES, CLASS, *objects]), Judge()
        declared = declared_in(reference, facts)
        known = {
            "facts": facts,
            "reference": reference,
            "judge": self.judge,
            "members": lambda pool: facts.nodes_with(pool.selector),
            "declared_workloads": declared,
            "gpu_workloads": tuple(each for each in declared if each.is_for_gpus(reference, facts)),
            "placed_workloads": placed_in(reference, facts),
            "classified": reference.workloads,
        }
        names = requirement.__code__.co_varnames[: requirement.__code__.co_argcount]
        self.why: Exception | None = None
        try:
            requirement(**{name: known[name] for name in names})
            self.why = self.judge.nothing_judged()
        except (Inconclusive, NotApplicable, Unsupported) as why:
            self.why = why

    @property
    def passed(self) -> bool:
        return self.why is None and not self.judge.broken

    @property
    def broken(self) -> dict[str, str]:
        return {str(each.subject): f"{each.actual}; {each.cause}" for each in self.judge.broken}


@pytest.mark.parametrize("requirement", ALL, ids=lambda each: each.__name__)
@pytest.mark.parametrize(
    ("reference", "objects"),
    [
        (set_up(), [pod("llm-0"), pod("llm-1", "gpu-1")]),
        (set_up(api_version="kubeflow.org/v1"), [pod("llm-0")]),
        (set_up("Job", api_version="batch.volcano.sh/v1alpha1"), [pod("llm-0", owner="Job/llm")]),
        (set_up("ModelRun", selector={"run": "llm"}), [pod("x", owner="", labels={"run": "llm"})]),
        (
            set_up("MPIJob"),
            [
                pod("llm-launcher", "cpu-0", 0, "Job/llm-launcher", nodeSelector={}, tolerations=[]),
                {"kind": "Job", "metadata": {"name": "llm-launcher", "namespace": "ml", "ownerReferences": [
                    {"kind": "MPIJob", "name": "llm"}]}},
                pod("llm-worker-0", owner="MPIJob/llm"),
            ],
        ),
    ],
    ids=["owned", "with api_version", "Job of Volcano", "by selector", "launcher without GPU"],
)  # fmt: skip
def test_a_workload_of_another_kind_is_judged_by_its_pods(requirement, reference, objects):
    ended = Ended(requirement, reference, *objects)

    assert ended.passed, (ended.why, ended.broken)
    assert not ended.judge.unseen


@pytest.mark.parametrize(
    ("requirement", "wrong", "says"),
    [
        (CONFINED, {"tolerations": []}, "nvidia.com/gpu=present:NoSchedule"),
        (FITS, {"gpus": 16}, "16 nvidia.com/gpu requested"),
        (PLACED, {"on": "cpu-0"}, "cpu-0 is in another pool"),
        (PLACED, {"on": ""}, "nothing prevents it"),
        (carry_their_class, {"priorityClassName": "", "priority": 0}, "no class"),
        (run_as_their_account, {"serviceAccountName": "default"}, "runs as default"),
    ],
)
def test_what_is_wrong_with_its_pods_is_reported(requirement, wrong, says):
    ended = Ended(requirement, set_up(), pod("llm-0", "gpu-1"), pod("llm-1", **wrong))

    assert len(ended.broken) == 1
    assert says in str(ended.broken)
    assert "llm-1" in next(iter(ended.broken))


def test_what_pods_ask_for_keeps_them_off_nodes_without_it():
    pods = pod("llm-0", "gpu-1"), pod("llm-1", nodeSelector={})
    spare = node("spare-0", 8)
    spare["metadata"]["labels"] = {"pool": "spare"}

    assert Ended(CONFINED, set_up(), *pods).passed
    assert "spare-0" in str(Ended(CONFINED, set_up(), *pods, spare).broken)


def test_each_sort_of_pods_tolerates_the_taints_of_its_own_pools():
    two = set_up("RayCluster", pools=["gpu", "spare"])
    taint = {"key": "example.com/spare", "effect": "NoSchedule"}
    gpu = {"model": "t4", "count": 1}
    plain = {"name": "spare", "selector": {"pool": "spare"}, "nodes": 1, "taints": [taint], "gpu": gpu}
    spare = msgspec.convert(plain, Pool)
    nodes = node("spare-0", 1)
    nodes["metadata"]["labels"]["pool"], nodes["spec"]["taints"] = "spare", [taint]
    on_spare = {"nodeSelector": {"pool": "spare"}, "gpus": 1, "owner": "RayCluster/llm"}
    tolerant = pod("b", "spare-0", tolerations=[{"key": "example.com/spare", "operator": "Exists"}], **on_spare)
    both = msgspec.structs.replace(two, pools=(*two.pools, spare))

    right = Ended(CONFINED, both, nodes, pod("a", owner="RayCluster/llm"), tolerant)
    wrong = Ended(CONFINED, both, nodes, pod("a", owner="RayCluster/llm"), pod("b", "spare-0", **on_spare))

    assert right.passed, right.broken
    assert list(wrong.broken) == ["raycluster ml/llm, pods like b"]


def test_equal_pods_are_one_sort():
    ended = Ended(FITS, set_up(), *(pod(f"llm-{number}", "gpu-1") for number in range(64)))

    assert len(ended.judge.findings) == 1


@pytest.mark.parametrize(
    "requirement", [PLACED, carry_their_class, run_as_their_account], ids=lambda each: each.__name__
)
@pytest.mark.parametrize("objects", [[], [pod("llm-0", phase="Succeeded")]], ids=["no pods", "ended"])
def test_one_without_living_pods_is_not_known_and_no_failure(requirement, objects):
    ended = Ended(requirement, set_up(), *objects)

    if objects and requirement is run_as_their_account:
        assert ended.passed
        return
    assert isinstance(ended.why, Unsupported)
    assert "no unfinished pod belongs to pytorchjob ml/llm" in str(ended.why)


def test_one_without_pods_beside_others_is_not_looked_at():
    both = set_up()
    other = msgspec.structs.replace(both.workloads[0], name="eval")
    ended = Ended(PLACED, msgspec.structs.replace(both, workloads=(*both.workloads, other)), pod("llm-0"))

    assert ended.passed
    assert [str(each.subject) for each in ended.judge.unseen] == ["pytorchjob ml/eval"]


# --- What Kueue holds back -----------------------------------------------------------------------------------------


def controller(kind: str, replicas: int, available: int = 0, **spec: Any) -> Object:
    template = {"spec": {key: pod("x")["spec"][key] for key in ("containers", "nodeSelector", "tolerations")}}
    counts = {"parallelism": replicas} if kind == "Job" else {"replicas": replicas}
    return {
        "apiVersion": "batch/v1" if kind == "Job" else "apps/v1",
        "kind": kind,
        "metadata": {"name": "llm", "namespace": "ml"},
        "spec": {**counts, "template": template, **spec},
        "status": {"availableReplicas": available, "ready": available},
    }


REPLICA_SET = {
    "kind": "ReplicaSet",
    "metadata": {"name": "llm-1", "namespace": "ml", "ownerReferences": [{"kind": "Deployment", "name": "llm"}]},
}


@pytest.mark.parametrize(
    ("kind", "objects"),
    [
        ("PyTorchJob", [pod("llm-0", "", schedulingGates=ADMISSION)]),
        ("JobSet", [{"kind": "Job", "metadata": {"name": "llm-0", "namespace": "ml", "ownerReferences": [
            {"kind": "JobSet", "name": "llm"}]}, "spec": {"suspend": True}}]),
        ("Job", [controller("Job", 2, suspend=True)]),
        (
            "StatefulSet",
            [controller("StatefulSet", 4), pod("llm-0", "", owner="StatefulSet/llm", schedulingGates=ADMISSION)],
        ),
        (
            "Deployment",
            [
                controller("Deployment", 2, available=1),
                REPLICA_SET,
                pod("llm-1-a", owner="ReplicaSet/llm-1"),
                pod("llm-1-b", "", owner="ReplicaSet/llm-1", schedulingGates=[{"name": "kueue.x-k8s.io/topology"}]),
            ],
        ),
    ],
    ids=["gated", "suspended below", "suspended", "first of a StatefulSet", "one of two"],
)  # fmt: skip
def test_what_kueue_has_not_admitted_is_queued_and_not_broken(kind, objects):
    ended = Ended(PLACED, set_up(kind), *objects)

    assert ended.passed, (ended.why, ended.broken)


def test_a_job_that_another_controller_runs_elsewhere_is_not_missed_here():
    away = controller("Job", 2, managedBy="kueue.x-k8s.io/multikueue")
    own = controller("Job", 2, managedBy="kubernetes.io/job-controller")

    assert "leaves it to kueue.x-k8s.io/multikueue" in str(Ended(PLACED, set_up("Job"), away).why)
    assert list(Ended(PLACED, set_up("Job"), own).broken) == ["job ml/llm"]
    assert "cpu-0" in str(Ended(PLACED, set_up("Job"), away, pod("a", "cpu-0", owner="Job/llm")).broken)


def test_a_scheduler_with_queues_of_its_own_is_named_where_nothing_else_prevents_a_pod():
    ended = Ended(PLACED, set_up(), pod("llm-0", "", schedulerName="volcano"))

    assert "nothing prevents it, volcano, which goes by queues" in str(ended.broken)


def test_a_gate_that_nobody_knows_is_an_obstacle():
    ended = Ended(PLACED, set_up(), pod("llm-0", "", schedulingGates=[{"name": "example.com/forgotten"}]))

    assert "scheduling gate example.com/forgotten" in str(ended.broken)


def test_a_replica_that_is_missing_beside_queued_ones_is_missed():
    objects = [
        controller("Deployment", 3, available=1),
        REPLICA_SET,
        pod("llm-1-a", owner="ReplicaSet/llm-1"),
        pod("llm-1-b", "", owner="ReplicaSet/llm-1", schedulingGates=ADMISSION),
    ]

    assert "1 queued by Kueue" in Ended(PLACED, set_up("Deployment"), *objects).broken["deployment ml/llm"]


# --- Jobs that go to their end ---------------------------------------------------------------------------------------


def job(parallelism: int, running: int, *, completions: int | None = None, **status: Any) -> Object:
    """A Job of which so many pods run."""
    made = controller("Job", parallelism, running, **({"completions": completions} if completions else {}))
    made["status"] |= status
    return made


@pytest.mark.parametrize(("completions", "succeeded"), [(10, 8), (None, 2)], ids=["two left", "work queue"])
def test_a_job_that_nears_its_end_needs_fewer_pods_than_run_side_by_side(completions, succeeded):
    pods = [pod(f"llm-{index}", owner="Job/llm") for index in range(2)]
    ended = Ended(PLACED, set_up("Job"), job(4, 2, completions=completions, succeeded=succeeded), *pods)

    assert ended.passed, (ended.why, ended.broken)


def test_a_job_lacks_the_pods_that_were_never_made():
    ended = Ended(PLACED, set_up("Job"), job(4, 2, completions=10, succeeded=6), pod("llm-0", owner="Job/llm"))

    assert "were never created" in ended.broken["job ml/llm"]


def test_a_job_that_failed_is_told_as_that_and_not_as_refused():
    given_up = job(1, 0, failed=7, conditions=[{"type": "Failed", "status": "True"}])
    assert "has failed with 7 failed pods" in Ended(PLACED, set_up("Job"), given_up).broken["job ml/llm"]

    assert "waits before it makes the next" in Ended(PLACED, set_up("Job"), job(1, 0, failed=2)).broken["job ml/llm"]


def test_what_the_api_server_said_to_a_refused_pod_is_the_cause():
    said = 'admission webhook "validation.gatekeeper.sh" denied the request:\n[limits] <main> has no cpu limit'
    failing = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": said}
    refused = controller("Deployment", 2, 0)
    refused["status"]["conditions"] = [failing]

    cause = Ended(PLACED, set_up("Deployment"), refused).broken["deployment ml/llm"]

    assert (
        '2 pods were never created: admission webhook "validation.gatekeeper.sh" denied the request: [limits]' in cause
    )


def queue(kind: str, name: str, **active: Any) -> Object:
    conditions = [{"type": "Active", **active}] if active else []
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta1",
        "kind": kind,
        "metadata": {"name": name} | ({"namespace": "ml"} if kind == "LocalQueue" else {}),
        "spec": {"clusterQueue": "all"} if kind == "LocalQueue" else {},
        "status": {"conditions": conditions},
    }


LOCAL, OPEN = queue("LocalQueue", "mine"), queue("ClusterQueue", "all", status="True", reason="Ready")
NO_FLAVOR = {"status": "False", "reason": "FlavorNotFound", "message": "references missing ResourceFlavor(s): h100"}


def selecting(labels: dict[str, str]) -> Object:
    made = queue("ClusterQueue", "all", status="True", reason="Ready")
    return {**made, "spec": {"namespaceSelector": {"matchLabels": labels} if labels else {}}}


NAMESPACE = {"kind": "Namespace", "metadata": {"name": "ml", "labels": {"team": "ml"}}}


def suspended(name: str = "mine") -> Object:
    made = controller("Job", 2, suspend=True)
    made["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": name}
    return made


@pytest.mark.parametrize(
    ("objects", "says"),
    [
        ([LOCAL, queue("ClusterQueue", "all", **NO_FLAVOR)], "not active: references missing ResourceFlavor(s): h100"),
        ([LOCAL, queue("ClusterQueue", "other")], "names ClusterQueue all, which does not exist"),
        ([queue("LocalQueue", "theirs"), OPEN], "there is no LocalQueue mine of Kueue in namespace ml"),
        ([LOCAL, NAMESPACE, selecting({"team": "cv"})], "cluster queue all of Kueue takes nothing of namespace ml"),
    ],
)
def test_a_queue_that_admits_nothing_is_no_reason_to_wait(objects, says):
    ended = Ended(PLACED, set_up("Job"), suspended(), *objects)

    assert says in ended.broken["job ml/llm"]


@pytest.mark.parametrize(
    "objects",
    [
        [LOCAL, OPEN],
        [LOCAL, queue("ClusterQueue", "all", status="False", reason="Stopped")],
        [],
        [LOCAL, NAMESPACE, selecting({"team": "ml"})],
        [LOCAL, NAMESPACE, selecting({"kubernetes.io/metadata.name": "ml"})],
        [LOCAL, NAMESPACE, selecting({})],
        [LOCAL, selecting({"team": "cv"})],
    ],
    ids=["open", "stopped by its owners", "not read", "selected", "by name", "all selected", "namespace not read"],
)
def test_a_job_waits_in_a_queue_that_admits_others(objects):
    ended = Ended(PLACED, set_up("Job"), suspended(), *objects)

    assert ended.passed, (ended.why, ended.broken)


def test_a_job_waits_in_a_queue_that_has_been_closed_just_now():
    closed = queue("ClusterQueue", "all", **NO_FLAVOR, lastTransitionTime=datetime.now(UTC).isoformat())
    ended = Ended(PLACED, set_up("Job"), suspended(), LOCAL, closed)

    assert ended.passed, (ended.why, ended.broken)


def test_a_pod_that_kueue_holds_back_in_a_closed_queue_is_told_so():
    labels = {"kueue.x-k8s.io/queue-name": "mine"}
    held = pod("llm-0", "", owner="StatefulSet/llm", schedulingGates=ADMISSION, labels=labels)
    closed = [LOCAL, queue("ClusterQueue", "all", **NO_FLAVOR)]

    ended = Ended(PLACED, set_up("StatefulSet"), controller("StatefulSet", 1), held, *closed)

    assert "references missing ResourceFlavor" in ended.broken["pod ml/llm-0"]
