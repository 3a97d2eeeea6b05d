"""What covers GPUs in a namespace, and what does not although it looks so."""

from typing import Any

import pytest

from conformance.facts import Facts
from conformance.reference import Reference
from conformance.reference.model import Quota, Team, Workload
from conformance.verdict import Inconclusive, Judge, NotApplicable, Unsupported, Waits
from suites._shared.quota_coverage import coverage, gpu_coverage
from suites.quota import test_quota

GPU = "nvidia.com/gpu"
TWO_TEAMS = Reference("cluster", teams=(Team("ml"), Team("cv")))


def quota(name: str, *, key: str = f"requests.{GPU}", counted: bool = True, **spec: Any) -> dict[str, Any]:
    return {
        "kind": "ResourceQuota",
        "metadata": {"name": name, "namespace": "ml"},
        "spec": {"hard": {key: "4"}, **spec},
        "status": {"used": {key: "0"} if counted else {}},
    }


def of_classes(operator: str, *classes: str) -> dict[str, Any]:
    term = {"scopeName": "PriorityClass", "operator": operator, "values": list(classes)}
    return {"scopeSelector": {"matchExpressions": [term]}}


def priority_class(name: str, *, default: bool = False) -> dict[str, Any]:
    return {"kind": "PriorityClass", "metadata": {"name": name}, "value": 1, "globalDefault": default}


SYSTEM = priority_class("system-node-critical")
HIGH, LOW = priority_class("high"), priority_class("low")
DEFAULT = priority_class("low", default=True)


@pytest.mark.parametrize(
    ("objects", "gap"),
    [
        ([quota("all")], ""),
        ([quota("all", counted=False)], "no quota counts it"),
        ([quota("all", key=f"limits.{GPU}", counted=False)], "no quota counts it"),
        ([quota("other", key="requests.nvidia.com/gpu.shared")], "no quota counts it"),
        ([quota("high", **of_classes("In", "high")), SYSTEM, HIGH], "a pod with no priority class is counted by none"),
        ([quota("high", **of_classes("In", "high")), SYSTEM, HIGH, DEFAULT], "a pod with priority class low"),
        ([quota("both", **of_classes("In", "high", "low")), SYSTEM, HIGH, DEFAULT], ""),
        ([quota("a", **of_classes("In", "high")), quota("b", **of_classes("NotIn", "high")), HIGH, LOW], ""),
        ([quota("a", **of_classes("Exists")), quota("b", **of_classes("DoesNotExist")), HIGH], ""),
        ([quota("ending", scopes=["Terminating"])], "counts Terminating Exists"),
        ([quota("ending", scopes=["Terminating"]), quota("serving", scopes=["NotTerminating"])], ""),
        ([quota("ending", scopes=["Terminating"]), quota("all")], ""),
        ([quota("far", scopes=["CrossNamespacePodAffinity"])], "a pod with no priority class"),
    ],
)
def test_scopes_cover_all_pods_that_could_be_made_or_leave_a_gap(objects: list[dict[str, Any]], gap: str) -> None:
    found = coverage("ml", [GPU], Facts.from_objects(objects))

    assert bool(found) == (not gap)
    assert gap in found.gap


@pytest.mark.parametrize(("given", "gap"), [({"gpu": "1"}, True), ({"memory": "1Gi"}, False)])
def test_no_pod_is_best_effort_where_a_limit_range_gives_every_container_memory(given, gap) -> None:
    items = [{"type": "Container", "defaultRequest": given}]
    limits = {"kind": "LimitRange", "metadata": {"name": "usual", "namespace": "ml"}, "spec": {"limits": items}}

    found = coverage("ml", [GPU], Facts.from_objects([quota("serious", scopes=["NotBestEffort"]), limits]))

    assert ("no requests of CPU and memory" in found.gap) is gap


@pytest.mark.parametrize(
    ("classes", "live", "scope"),
    [
        ((), {}, ""),
        ((), {"scopes": ["NotTerminating"]}, "NotTerminating Exists"),
        ((), of_classes("Exists"), "PriorityClass Exists"),
        ((), {"scopeSelector": {"matchExpressions": [{"scopeName": "Terminating"}]}}, "Terminating Exists"),
        (("high",), of_classes("In", "high"), ""),
        (("high",), of_classes("NotIn", "high"), "PriorityClass NotIn (high)"),
        (("high",), {}, "every pod"),
        (("high",), {**of_classes("In", "high"), "scopes": ["BestEffort"]}, "BestEffort Exists and PriorityClass In"),
    ],
)
def test_a_quota_of_another_scope_is_not_the_declared_one(classes, live, scope) -> None:
    declared = Quota(name="gpus", hard={f"requests.{GPU}": "4"}, priority_classes=classes)
    team, judge = Team(namespace="ml", quotas=(declared,)), Judge()

    test_quota.test_declared_quotas_exist_with_their_limits(
        ((team, declared),), Reference(name="mine", teams=(team,)), Facts.from_objects([quota("gpus", **live)]), judge
    )

    assert [scope in each.actual and "its scope" in each.cause for each in judge.broken] == [True] * bool(scope)


@pytest.mark.parametrize("by_rancher", [True, False])
def test_a_quota_that_rancher_writes_is_to_be_changed_in_rancher(by_rancher: bool) -> None:
    declared = Quota(name="default-k9v2x", hard={f"requests.{GPU}": "8"})
    team, judge = Team(namespace="ml", quotas=(declared,)), Judge()
    live = quota("default-k9v2x")
    if by_rancher:
        live["metadata"]["labels"] = {"resourcequota.management.cattle.io/default-resource-quota": "true"}

    test_quota.test_declared_quotas_exist_with_their_limits(
        ((team, declared),), Reference(name="mine", teams=(team,)), Facts.from_objects([live]), judge
    )

    assert [each.remedy.startswith("Set the limits in Rancher") for each in judge.broken] == [by_rancher]


def openshift(*namespaces: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "quota.openshift.io/v1",
        "kind": "ClusterResourceQuota",
        "metadata": {"name": "team-a"},
        "spec": {"quota": {"hard": {f"requests.{GPU}": "4"}, **spec}},
        "status": {
            "total": {"used": {f"requests.{GPU}": "1"}},
            "namespaces": [{"namespace": each} for each in namespaces],
        },
    }


def test_a_cluster_resource_quota_covers_the_namespaces_that_it_selects() -> None:
    facts = Facts.from_objects([openshift("ml", "dev")])

    assert coverage("ml", [GPU], facts).by == ("cluster resource quota team-a",)
    assert not coverage("other", [GPU], facts)
    assert (
        "counts Terminating" in coverage("ml", [GPU], Facts.from_objects([openshift("ml", scopes=["Terminating"])])).gap
    )


def kueue(*covered: str, queue: str = "all") -> list[dict[str, Any]]:
    head = {"apiVersion": "kueue.x-k8s.io/v1beta1"}
    return [
        head | {"kind": "LocalQueue", "metadata": {"name": "q", "namespace": "ml"}, "spec": {"clusterQueue": queue}},
        head
        | {
            "kind": "ClusterQueue",
            "metadata": {"name": "all"},
            "spec": {"resourceGroups": [{"coveredResources": list(covered)}]},
        },
    ]


def test_a_cluster_queue_covers_the_resources_that_it_names_through_a_local_queue() -> None:
    assert coverage("ml", [GPU], Facts.from_objects(kueue("cpu", GPU))).by == (
        "cluster queue all of Kueue, through local queue ml/q",
    )
    assert not coverage("ml", [GPU], Facts.from_objects(kueue("cpu")))
    assert not coverage("ml", [GPU], Facts.from_objects(kueue(GPU, queue="gone")))
    assert not coverage("elsewhere", [GPU], Facts.from_objects(kueue(GPU)))


def test_hamis_keys_count_where_hami_manages_devices_and_nowhere_else() -> None:
    limits = quota("cores", key="limits.nvidia.com/gpumem", counted=False)
    node = {"kind": "Node", "metadata": {"name": "n", "annotations": {"hami.io/node-nvidia-register": "..."}}}

    assert "which HAMi holds" in coverage("ml", [GPU], Facts.from_objects([limits, node])).by[0]
    assert not coverage("ml", [GPU], Facts.from_objects([limits]))


def test_a_kind_that_may_not_be_read_is_none_where_nothing_defines_it() -> None:
    refused = {"ClusterResourceQuota": "Forbidden: no", "LocalQueue": "Forbidden: no"}
    definition = {"kind": "CustomResourceDefinition", "metadata": {"name": "localqueues.kueue.x-k8s.io"}}

    assert not coverage("ml", [GPU], Facts.from_objects([], unreadable=refused))
    with pytest.raises(Inconclusive, match="grant list on localqueues"):
        coverage("ml", [GPU], Facts.from_objects([definition], unreadable=refused))
    assert coverage("ml", [GPU], Facts.from_objects([definition, quota("all")], unreadable=refused))


@pytest.mark.parametrize(("driver", "covers"), [("gpu.nvidia.com", True), ("dra.net", False)])
def test_a_quota_of_claims_covers_gpus_unless_its_class_is_of_something_else(
    reference: Reference, driver: str, covers: bool
) -> None:
    selects = {"selectors": [{"cel": {"expression": f'device.driver == "{driver}"'}}]}
    chosen = {"kind": "DeviceClass", "metadata": {"name": "any"}, "spec": selects}
    claims = quota("claims", key="any.deviceclass.resource.k8s.io/devices")

    assert bool(gpu_coverage("ml", reference, Facts.from_objects([chosen, claims]))) is covers


def judged(requirement: Any, **known: Any) -> Judge:
    judge = Judge()
    requirement(judge=judge, **known)
    return judge


HAMI_NODE = {"kind": "Node", "metadata": {"name": "n", "annotations": {"hami.io/node-nvidia-register": "..."}}}


BY_CLASS = "gpu.nvidia.com.deviceclass.resource.k8s.io/devices"


@pytest.mark.parametrize(
    ("quotas", "access", "gap"),
    [
        ([quota("requests")], {}, "no quota counts claims: no quota has gpu.nvidia.com.deviceclass"),
        ([quota("requests"), quota("claims", key=BY_CLASS)], {}, ""),
        ([quota("claims", key=BY_CLASS)], {}, ""),
        ([quota("claims", key=BY_CLASS, scopes=["NotTerminating"])], {}, "has scopes, and claims have none"),
        ([quota("of another class", key=BY_CLASS.replace("gpu.", "mig.", 1))], {}, "no quota has gpu.nvidia.com.dev"),
        ([quota("requests")], {"adminAccess": True}, ""),
    ],
)
def test_what_counts_requests_covers_no_pods_that_claim(quotas, access, gap) -> None:
    request = {"name": "gpu", "exactly": {"deviceClassName": "gpu.nvidia.com", **access}}
    pod = {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one"}], "containers": []}
    selector = {"cel": {"expression": "device.driver == 'gpu.nvidia.com'"}}
    objects = [
        *quotas,
        {"kind": "DeviceClass", "metadata": {"name": "gpu.nvidia.com"}, "spec": {"selectors": [selector]}},
        {
            "kind": "ResourceClaimTemplate",
            "metadata": {"name": "one", "namespace": "ml"},
            "spec": {"spec": {"devices": {"requests": [request]}}},
        },
        {"kind": "Pod", "metadata": {"name": "p", "namespace": "ml"}, "spec": pod, "status": {"phase": "Running"}},
    ]
    for each in objects[len(quotas) : -1]:
        each["apiVersion"] = "resource.k8s.io/v1"

    found = gpu_coverage("ml", TWO_TEAMS, Facts.from_objects(objects))

    assert bool(found) == (not gap)
    assert gap in found.gap


@pytest.mark.parametrize("watches", [True, False])
def test_a_namespace_that_only_watches_gpus_needs_no_quota(watches: bool) -> None:
    """As dcgm-exporter does where DRA gives out the GPUs: claims with adminAccess take no device from anybody."""
    request = {"name": "all", "exactly": {"deviceClassName": "gpu.nvidia.com", "adminAccess": watches}}
    spec = {"resourceClaims": [{"name": "all", "resourceClaimName": "all"}], "containers": []}
    selector = {"cel": {"expression": "device.driver == 'gpu.nvidia.com'"}}
    claim = {"metadata": {"name": "all", "namespace": "monitoring"}, "spec": {"devices": {"requests": [request]}}}
    chosen = {"metadata": {"name": "gpu.nvidia.com"}, "spec": {"selectors": [selector]}}
    facts = Facts.from_objects(
        [
            {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", **claim},
            {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", **chosen},
            {
                "kind": "Pod",
                "metadata": {"name": "exporter", "namespace": "monitoring"},
                "spec": spec,
                "status": {"phase": "Running"},
            },
        ]
    )
    requirement = test_quota.test_every_namespace_with_gpu_workloads_has_a_gpu_quota

    if watches:
        with pytest.raises(NotApplicable, match="no namespace has or declares workloads that request GPUs"):
            judged(requirement, reference=TWO_TEAMS, facts=facts)
    else:
        assert judged(requirement, reference=TWO_TEAMS, facts=facts).broken


def test_a_declared_key_that_counts_nothing_is_the_mistake_of_the_set_up(reference: Reference) -> None:
    team = Team("ml", quotas=(Quota("gpus", {f"limits.{GPU}": "4"}),))

    (finding,) = judged(
        test_quota.test_declared_quotas_exist_with_their_limits,
        quotas=((team, team.quotas[0]),),
        reference=reference,
        facts=Facts.from_objects([]),
    ).broken

    assert "a mistake of" in finding.cause
    assert finding.remedy.startswith(f"Declare requests.{GPU} instead of limits.{GPU}")


@pytest.mark.parametrize(("others", "ok"), [([HAMI_NODE], True), ([], False)])
def test_a_key_that_hami_holds_is_spelled_right_where_hami_is(
    reference: Reference, others: list[dict[str, Any]], ok: bool
) -> None:
    facts = Facts.from_objects([quota("gpus", key=f"limits.{GPU}", counted=False), *others])

    judge = judged(test_quota.test_every_limit_on_gpus_is_spelled_so_that_it_counts, reference=reference, facts=facts)

    assert [each.ok for each in judge.findings] == [ok]


@pytest.mark.parametrize(
    ("scheduler", "label", "limit", "covered"),
    [
        ("kai-scheduler", "kai.scheduler/queue", 8, True),
        ("runai-scheduler", "runai/queue", 8, True),
        ("runai-scheduler", "runai/queue", -1, False),
        ("runai-scheduler", "kai.scheduler/queue", 8, False),
        ("default-scheduler", "runai/queue", 8, False),
    ],
)
def test_a_queue_of_kai_or_run_ai_covers_the_pods_of_its_scheduler(
    scheduler: str, label: str, limit: int, covered: bool
) -> None:
    queue = kai_queue("nlp", quota=-1, limit=limit)
    pod = kai_pod("nlp", scheduler, label)

    assert bool(gpu_coverage("ml", Reference("cluster"), Facts.from_objects([queue, pod]))) is covered


def kai_queue(name: str, *, quota: float = 0, limit: float = -1, parent: str = "") -> dict[str, Any]:
    resources = {"gpu": {"quota": quota, "limit": limit, "overQuotaWeight": 1}}
    return {
        "apiVersion": "scheduling.run.ai/v2",
        "kind": "Queue",
        "metadata": {"name": name},
        "spec": {"resources": resources, **({"parentQueue": parent} if parent else {})},
    }


def kai_pod(queue: str, scheduler: str = "kai-scheduler", label: str = "kai.scheduler/queue") -> dict[str, Any]:
    container = {"name": "main", "image": "x", "resources": {"limits": {GPU: "1"}}}
    return {
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "ml", "labels": {label: queue}},
        "spec": {"schedulerName": scheduler, "containers": [container]},
    }


# What KAI's chart makes where nobody says otherwise.
KAI_DEFAULTS = [kai_queue("default-parent-queue"), kai_queue("nlp", parent="default-parent-queue")]


@pytest.mark.parametrize(
    ("queues", "by"),
    [
        # Run:ai: one department without bound, projects with what they deserve.
        ([kai_queue("all", quota=-1), kai_queue("nlp", quota=4, parent="all"), kai_queue("cv", parent="all")], "nlp"),
        ([kai_queue("nlp", quota=4)], "nlp"),
        ([kai_queue("dept", quota=8), kai_queue("nlp", quota=-1, parent="dept")], "dept"),
        # All that a queue without quota has is taken back for the others.
        ([kai_queue("dept"), kai_queue("nlp", parent="dept"), kai_queue("cv", quota=8, parent="dept")], "nlp"),
        ([kai_queue("spare"), kai_queue("nlp", quota=2, parent="mine"), kai_queue("mine", quota=-1)], "nlp"),
        (KAI_DEFAULTS, ""),
        ([kai_queue("nlp", quota=-1)], ""),
        # Nothing is taken back from a department without bound, for a department that was promised GPUs.
        ([kai_queue("a", quota=-1), kai_queue("nlp", quota=4, parent="a"), kai_queue("b", quota=8)], ""),
        ([kai_queue("nlp", quota=-1), kai_queue("cv", quota=4)], ""),
    ],
)
def test_a_quota_of_kai_bounds_what_a_queue_keeps_when_others_ask(queues: list[dict[str, Any]], by: str) -> None:
    judge = Judge()
    facts = Facts.from_objects([*queues, kai_pod("nlp")])
    test_quota.test_every_namespace_with_gpu_workloads_has_a_gpu_quota(TWO_TEAMS, facts, judge)

    (found,) = judge.findings
    assert found.ok is bool(by)
    assert (
        (f"queue {by} of KAI, quota" in found.actual) if by else found.remedy.startswith("Give nlp of KAI, or a queue")
    )


def counts_memory(namespace: str, **more: str) -> dict[str, Any]:
    hard = {"limits.memory": "64Gi", **more}
    metadata = {"name": "memory", "namespace": namespace}
    return {"kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}, "status": {"used": hard}}


def test_defaults_of_memory_are_asked_for_where_gpus_are_and_nowhere_else() -> None:
    gpus = {f"requests.{GPU}": "4"}
    facts = Facts.from_objects([counts_memory("web"), counts_memory("ml"), counts_memory("cv", **gpus), kai_pod("nlp")])
    reference, judge = Reference("c", teams=(Team("declared"),)), Judge()

    test_quota.test_where_a_quota_counts_cpu_or_memory_a_limit_range_supplies_them(reference, facts, judge)

    assert [str(each.subject) for each in judge.broken] == ["quota ml/memory", "quota cv/memory"]
    with pytest.raises(NotApplicable, match="no namespace that has or declares GPUs"):
        test_quota.test_where_a_quota_counts_cpu_or_memory_a_limit_range_supplies_them(
            reference, Facts.from_objects([counts_memory("web")]), Judge()
        )


def placed_by(scheduler: str, name: str = "p", namespace: str = "ml", **labels: str) -> dict[str, Any]:
    container = {"name": "main", "image": "x", "resources": {"limits": {GPU: "1"}}}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    spec = {"schedulerName": scheduler, "containers": [container]}
    return {"kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": "Running"}}


def quotas_judged(*objects: dict[str, Any]) -> Judge:
    judge = Judge()
    test_quota.test_every_namespace_with_gpu_workloads_has_a_gpu_quota(TWO_TEAMS, Facts.from_objects(objects), judge)
    return judge


def run_by(kind: str, *, labelled: str = "", name: str = "llm") -> list[dict[str, Any]]:
    """A running GPU pod and what makes it, whose metadata, template or pod names a queue of Kueue."""
    queue = {"kueue.x-k8s.io/queue-name": "q"}
    own = {label: queue if labelled == label else {} for label in ("workload", "template", "pod")}
    pod = placed_by("", **own["pod"])
    pod["spec"]["nodeName"] = "gpu-1"
    if not kind:
        return [pod]
    pod["metadata"]["ownerReferences"] = [{"kind": kind, "name": name, "controller": True}]
    template = {"metadata": {"labels": own["template"]}, "spec": pod["spec"]}
    metadata = {"name": "llm", "namespace": "ml", "labels": own["workload"]}
    return [pod, {"kind": kind, "metadata": metadata, "spec": {"template": template}}]


@pytest.mark.parametrize("kind", ["", "Job", "StatefulSet"])
def test_pods_that_no_queue_of_kueue_has_admitted_are_not_covered_by_it(kind: str) -> None:
    (found,) = quotas_judged(*kueue(GPU), *run_by(kind)).broken

    assert "pod ml/p runs without having been admitted" in found.cause
    assert "manageJobsWithoutQueueName" in found.remedy
    assert not quotas_judged(*kueue(GPU), *run_by(kind), quota("gpus")).broken


@pytest.mark.parametrize(
    "objects",
    [
        *(run_by("Job", labelled=where) for where in ("workload", "template", "pod")),
        run_by("", labelled="pod"),
        run_by("PyTorchJob"),
        run_by("Job", name="of-another-group"),
        [*run_by("Job"), {**kueue(GPU)[0], "metadata": {"name": "default", "namespace": "ml"}}],
        [placed_by("")],
    ],
    ids=["job", "template", "its pod", "bare pod", "kind that is not read", "other Job", "default queue", "not placed"],
)
def test_pods_that_kueue_admits_or_may_have_admitted_are(objects: list[dict[str, Any]]) -> None:
    assert not quotas_judged(*kueue(GPU), *objects).broken


@pytest.mark.parametrize(("scheduler", "name"), [("yunikorn", "YuniKorn"), ("slurm-bridge-scheduler", "Slurm")])
def test_limits_that_are_in_no_object_are_named_and_taken_neither_for_some_nor_for_none(
    scheduler: str, name: str
) -> None:
    with pytest.raises(Unsupported, match=f"namespace ml: {name} places its pods within limits"):
        quotas_judged(placed_by(scheduler))

    beside_another = quotas_judged(placed_by(scheduler), placed_by("", namespace="cv"))
    assert [str(each.subject) for each in beside_another.unseen] == ["namespace ml"]
    assert [str(each.subject) for each in beside_another.broken] == ["namespace cv"]


@pytest.mark.parametrize(("scheduler", "told"), [("binpacking", True), ("yunikorn", True), ("", False)])
def test_a_pod_that_goes_by_no_limits_breaks_and_other_schedulers_are_named(scheduler: str, told: bool) -> None:
    (found,) = quotas_judged(placed_by(scheduler), placed_by("", "q")).broken

    assert (f"Limits of {scheduler}" in found.remedy and "waive" in found.remedy) is told


@pytest.mark.parametrize(
    ("quota_said", "queue", "holds"),
    [
        ('{"cpu": "64", "nvidia.com/gpu": "8"}', "", True),
        ('{"nvidia.com/gpu": "8"}', "root.ml", True),
        ('{"nvidia.com/gpu": "8"}', "root.shared", False),
        ('{"cpu": "64"}', "", False),
        ("8 GPUs", "", False),
    ],
)
def test_an_annotation_bounds_the_namespace_where_yunikorn_places_all_in_its_queue(
    quota_said: str, queue: str, holds: bool
) -> None:
    annotations = {"yunikorn.apache.org/namespace.quota": quota_said}
    namespace = {"kind": "Namespace", "metadata": {"name": "ml", "annotations": annotations}}
    pod = placed_by("yunikorn", **({"queue": queue} if queue else {}))
    if not holds:
        with pytest.raises(Unsupported):
            quotas_judged(namespace, pod)
        return

    (found,) = quotas_judged(namespace, pod).findings
    assert found.ok
    assert "namespace.quota of namespace ml" in found.actual

    assert quotas_judged(namespace, pod, placed_by("", "q")).broken


@pytest.mark.parametrize(
    ("image", "priority", "asked_for"),
    [
        ("registry.k8s.io/pause:3.9", -10, False),
        ("registry.k8s.io/pause:3.9", 0, True),
        ("vllm/vllm-openai:v0.11.0", -10, True),
    ],
)
def test_pods_that_keep_nodes_warm_and_yield_to_everybody_need_no_quota(
    image: str, priority: int, asked_for: bool
) -> None:
    warm = placed_by("")
    warm["spec"] |= {"priority": priority, "containers": [{**warm["spec"]["containers"][0], "image": image}]}
    bounded = {**quota("gpus"), "metadata": {"name": "gpus", "namespace": "cv"}}

    found = quotas_judged(warm, placed_by("", namespace="cv"), bounded)

    assert [str(each.subject) for each in found.broken] == (["namespace ml"] if asked_for else [])
    assert found.findings


def volcano_queue(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "scheduling.volcano.sh/v1beta1",
        "kind": "Queue",
        "metadata": {"name": name},
        "spec": {"weight": 1, "reclaimable": True, **spec},
    }


def volcano_pod(**metadata: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "x", "resources": {"limits": {GPU: "1"}}}
    return {
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "ml", **metadata},
        "spec": {"schedulerName": "volcano", "containers": [container]},
    }


# A pod of a Job of Volcano, and one that only its group puts into a queue.
IN_NLP = volcano_pod(annotations={"volcano.sh/queue-name": "nlp"})
GROUPED = volcano_pod(annotations={"scheduling.k8s.io/group-name": "g"})
GROUP = {
    "apiVersion": "scheduling.volcano.sh/v1beta1",
    "kind": "PodGroup",
    "metadata": {"name": "g", "namespace": "ml"},
    "spec": {"minMember": 1, "queue": "nlp"},
}
OPEN = volcano_queue("default")
RESERVED = volcano_queue("serving", guarantee={"resource": {GPU: "8"}})


@pytest.mark.parametrize(
    ("objects", "by"),
    [
        ([volcano_queue("nlp", capability={GPU: 8}), IN_NLP], "Volcano queue nlp, capability 8"),
        ([volcano_queue("nlp", capability={GPU: "8"}), GROUP, GROUPED], "Volcano queue nlp, capability 8"),
        ([volcano_queue("nlp", capability={GPU: "0"}), IN_NLP], "Volcano queue nlp, capability 0"),
        (
            [volcano_queue("root", capability={GPU: "8"}), volcano_queue("nlp", parent="root"), IN_NLP],
            "Volcano queue root, capability 8",
        ),
        ([volcano_queue("nlp"), RESERVED, IN_NLP], "guaranteed: Volcano queue serving 8"),
        ([volcano_queue("nlp", capability={"cpu": "64"}), IN_NLP], ""),
        ([volcano_queue("nlp", guarantee={"resource": {GPU: "4"}}), IN_NLP], ""),
        ([volcano_queue("nlp", capability={GPU: 8}), OPEN, volcano_pod()], ""),
        ([OPEN, IN_NLP], ""),
        # A limit that leaves room for pods that do not go through Volcano bounds nobody.
        ([volcano_queue("nlp", capability={GPU: 8}), IN_NLP, kai_pod("nlp", "default-scheduler")], ""),
    ],
)
def test_a_queue_of_volcano_covers_what_its_capability_or_the_guarantees_of_others_bound(
    objects: list[dict[str, Any]], by: str
) -> None:
    judge = Judge()
    test_quota.test_every_namespace_with_gpu_workloads_has_a_gpu_quota(TWO_TEAMS, Facts.from_objects(objects), judge)

    (found,) = judge.findings
    assert found.ok is bool(by)
    assert by in found.actual


def test_what_a_queue_of_volcano_deserves_is_no_verdict() -> None:
    deserved = [volcano_queue("nlp", deserved={GPU: "4"}), IN_NLP]
    kept = [volcano_queue("nlp", deserved={GPU: "4"}, reclaimable=False), IN_NLP]

    with pytest.raises(Unsupported, match=r"Volcano queue nlp, deserved 4 nvidia.com/gpu, beyond which"):
        quotas_judged(*deserved)
    (broken,) = quotas_judged(*kept).broken
    assert broken.remedy.startswith("Give the Volcano queue of its pods a capability")


def test_a_job_that_has_no_pod_yet_is_in_the_queue_that_its_manifest_names() -> None:
    template = {"metadata": {"labels": {"app": "a"}}, "spec": kai_pod("")["spec"]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "j", "namespace": "ml", "labels": {"kai.scheduler/queue": "nlp"}},
        "spec": {"template": template},
    }
    declared = Reference("c", workloads=(Workload("training", "Job", "ml", "j", manifest=job),))

    for limit, covered in ((8, True), (-1, False)):
        facts = Facts.from_objects([kai_queue("nlp", quota=-1, limit=limit)])
        assert bool(gpu_coverage("ml", declared, facts)) is covered


def test_a_kind_of_volcano_is_not_taken_for_the_one_of_kai() -> None:
    refused = {"VolcanoQueue": "Forbidden: no"}
    facts = Facts.from_objects([kai_queue("nlp", quota=4), kai_pod("nlp"), volcano_queue("mine")], unreadable=refused)

    assert [each.name for each in facts.queues] == ["nlp"]
    assert bool(gpu_coverage("ml", Reference("c"), facts))
    with pytest.raises(Waits, match="Volcano queues could not be read: Forbidden: no; grant list on queues of API"):
        _ = facts.volcano_queues


def test_a_namespace_that_nobody_shares_the_gpus_with_needs_no_quota() -> None:
    requirement = test_quota.test_every_namespace_with_gpu_workloads_has_a_gpu_quota
    alone = Facts.from_objects([kai_pod("", scheduler="")])

    with pytest.raises(NotApplicable, match="namespace ml alone has or declares GPUs"):
        requirement(Reference("c", teams=(Team("ml"),)), alone, Judge())

    for reference, facts in (
        (TWO_TEAMS, alone),
        (Reference("c"), Facts.from_objects([*(kai_pod("", scheduler="") | each for each in ({}, ELSEWHERE))])),
        (Reference("c", teams=(Team("ml", quotas=(Quota("gpus", {f"requests.{GPU}": "4"}),)),)), alone),
        # One that is there and leaves pods out was meant to limit something.
        (Reference("c"), Facts.from_objects([kai_pod("", scheduler=""), quota("late", scopes=["Terminating"])])),
    ):
        judge = Judge()
        requirement(reference, facts, judge)
        assert judge.broken


ELSEWHERE = {"metadata": {"name": "p", "namespace": "cv"}}
