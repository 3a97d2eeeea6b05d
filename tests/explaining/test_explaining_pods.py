"""Situations in which a GPU pod does not run, each with its first cause."""

import pytest
from manifests import TOLERATES, TRAINING, job, node, owned, pod, quota, terminated, waiting

from conformance.explaining import Stage, explain, explain_workload, lines, seen_from

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def affinity(key: str, *values: str) -> dict:
    term = {"matchExpressions": [{"key": key, "operator": "In", "values": list(values)}]}
    return {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}}}


APART = {"labelSelector": {"matchLabels": {"app": "other"}}, "topologyKey": "kubernetes.io/hostname"}


def claimed(**spec) -> dict:
    return pod(gpus=0, resourceClaims=[{"name": "gpu", "resourceClaimTemplateName": "one"}], **spec)


def of_grove(name: str, gang: str, base: str = "") -> dict:
    made = pod(name, schedulingGates=[{"name": "grove.io/podgang-pending-creation"}])
    made["metadata"]["labels"] |= {"grove.io/podgang": gang} | ({"grove.io/base-podgang": base} if base else {})
    return made


A100, T4 = node("a100-1", pool="a100"), node("t4-1", 1, pool="t4")
TAINTED = node("a100-1", taints=(TRAINING,), pool="a100")
HIGH = {"priority": 1000, "priorityClassName": "high"}

# The pod, the other objects, its stage, and words of the cause, of the remedy or of what is missing.
SITUATIONS = {
    "no-node": (pod(), [], Stage.UNSCHEDULABLE, "the cluster has no node"),
    "taint": (pod(), [TAINTED], Stage.UNSCHEDULABLE, "taint dedicated=gpu:NoSchedule is not tolerated"),
    "cordoned": (pod(), [node("a", cordoned=True)], Stage.UNSCHEDULABLE, "it is cordoned"),
    "selector-typo": (
        pod(nodeSelector={"pool": "a1OO"}),
        [A100, T4],
        Stage.UNSCHEDULABLE,
        "it wants pool=a1OO, nodes have a100, t4",
    ),
    "selector-key": (
        pod(nodeSelector={"gpu-pool": "a100"}),
        [A100],
        Stage.UNSCHEDULABLE,
        "it wants gpu-pool=a100, no node has that label",
    ),
    "affinity": (pod(**affinity("pool", "h100")), [A100], Stage.UNSCHEDULABLE, "pool In (h100)"),
    "full": (
        pod(gpus=4),
        [A100, pod("other", 6, on="a100-1")],
        Stage.UNSCHEDULABLE,
        "2 of 8 free (held by team/other)",
    ),
    "fragmented": (
        pod(gpus=4),
        [node("a"), node("b"), pod("x", 5, on="a"), pod("y", 6, on="b")],
        Stage.UNSCHEDULABLE,
        "3 of 8 free",
    ),
    "too-large": (pod(gpus=16), [A100], Stage.UNSCHEDULABLE, "ask for less, or for a larger kind of node"),
    "no-device-plugin": (pod(), [node("a", 0)], Stage.UNSCHEDULABLE, "none of which offers what it asks for"),
    "mig-name": (
        pod(gpus=0, overhead={"nvidia.com/mig-1g.10gb": "1"}),
        [A100],
        Stage.UNSCHEDULABLE,
        "nvidia.com/mig-1g.10gb",
    ),
    "tolerated-and-full": (
        pod(gpus=8, **TOLERATES),
        [TAINTED, pod("other", 1, on="a100-1")],
        Stage.UNSCHEDULABLE,
        "of 1 node: too little room: it wants 8 nvidia.com/gpu, 7 of 8 free (held by team/other) on a100-1",
    ),
    "host-port": (
        pod(containers=[{"name": "main", "ports": [{"hostPort": 9400}]}]),
        [A100, pod("exporter", 0, on="a100-1", containers=[{"name": "x", "ports": [{"hostPort": 9400}]}])],
        Stage.UNSCHEDULABLE,
        "host port 9400 is taken by pod team/exporter",
    ),
    "anti-affinity": (
        pod(
            affinity={
                "podAntiAffinity": {
                    REQUIRED: [
                        {"labelSelector": {"matchLabels": {"app": "other"}}, "topologyKey": "kubernetes.io/hostname"}
                    ]
                }
            }
        ),
        [A100, pod("other", on="a100-1")],
        Stage.UNSCHEDULABLE,
        "it may not share kubernetes.io/hostname=a100-1 with pod team/other",
    ),
    "memory": (
        pod(containers=[{"name": "main", "resources": {"requests": {"memory": "512Gi"}}}]),
        [A100],
        Stage.UNSCHEDULABLE,
        "524288 MiB of memory asked for",
    ),
    "fits": (pod(), [A100], Stage.SCHEDULABLE, "it would fit on node a100-1"),
    "other-scheduler": (
        pod(schedulerName="volcano"),
        [A100],
        Stage.SCHEDULABLE,
        "waits for the scheduler volcano",
    ),
    "claim": (claimed(), [A100], Stage.UNSCHEDULABLE, "there is no ResourceClaimTemplate one in its namespace"),
    "kueue": (
        pod(schedulingGates=[{"name": "kueue.x-k8s.io/admission"}]),
        [A100],
        Stage.QUEUED,
        "it is queued: Kueue has not opened the scheduling gate",
    ),
    "grove-gang": (
        of_grove("train", "llm-0"),
        [A100],
        Stage.QUEUED,
        "when PodGang llm-0 is there and all of its pods have been made",
    ),
    "grove-scaled": (
        of_grove("train", "llm-0-x-1", "llm-0"),
        [A100, of_grove("leader", "llm-0"), of_grove("another", "b")],
        Stage.QUEUED,
        "when PodGang llm-0 runs, on which its own one builds, of which leader is not ready",
    ),
    "gate": (pod(schedulingGates=[{"name": "example.com/hold"}]), [A100], Stage.QUEUED, "example.com/hold"),
    "refused-by-node": (
        pod(
            on="a100-1",
            status={
                "phase": "Failed",
                "reason": "UnexpectedAdmissionError",
                "message": "Allocate failed: no healthy devices",
            },
        ),
        [A100],
        Stage.REFUSED_BY_NODE,
        "no healthy devices",
    ),
    "image": (
        pod(on="a100-1", status=waiting("ImagePullBackOff", "manifest unknown")),
        [A100],
        Stage.STARTING,
        "waits for its image registry.example.com/train:1 (ImagePullBackOff): manifest unknown",
    ),
    "secret": (
        pod(on="a100-1", status=waiting("CreateContainerConfigError", 'secret "hf-token" not found')),
        [A100],
        Stage.STARTING,
        'secret "hf-token" not found',
    ),
    "cdi": (
        pod(on="a100-1", status=waiting("CreateContainerError", "unresolvable CDI devices nvidia.com/gpu=0")),
        [A100],
        Stage.STARTING,
        "unresolvable CDI devices",
    ),
    "runtime-class": (
        pod(on="a100-1", status=waiting("RunContainerError", "no runtime for nvidia is configured")),
        [A100],
        Stage.STARTING,
        "does not have the handler that the RuntimeClass names",
    ),
    "crash": (
        pod(on="a100-1", status=waiting("CrashLoopBackOff", exitCode=1, reason="Error")),
        [A100],
        Stage.CRASHED,
        "kubectl logs train -n team -c main --previous",
    ),
    "oom": (
        pod(on="a100-1", status=waiting("CrashLoopBackOff", exitCode=137, reason="OOMKilled")),
        [A100],
        Stage.CRASHED,
        "used more memory than its limit",
    ),
    "never-started": (
        pod(on="a100-1", status=terminated(128, "StartError", message="exec: nvidia-smi: not found")),
        [A100],
        Stage.CRASHED,
        "exec: nvidia-smi: not found",
    ),
    "killed": (pod(on="a100-1", status=terminated(137, "Error")), [A100], Stage.CRASHED, "SIGKILL"),
    "bound": (
        pod(on="a100-1", status={"phase": "Pending"}),
        [A100],
        Stage.STARTING,
        "has started none of its containers",
    ),
    "not-ready": (pod(on="a100-1"), [A100], Stage.RUNNING, "it runs and is not ready"),
    "done": (pod(on="a100-1", status={"phase": "Succeeded"}), [A100], Stage.FINISHED, "Succeeded"),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_first_cause_is_told(name):
    asked, others, stage, words = SITUATIONS[name]

    explained = explain(seen_from([asked, *others]), asked)

    assert explained.stage is stage
    assert words in " ".join(" ".join(lines(explained)).split())
    assert explained.subject == "pod team/train"


def test_the_message_of_a_runtime_does_nothing_to_the_terminal():
    asked = pod(on="a100-1", status=waiting("CreateContainerError", "\x1b]0;gone\x07 no device"))

    told = "".join(lines(explain(seen_from([asked, A100]), asked)))

    assert "no device" in told
    assert told.isprintable()


def test_only_what_computes_on_a_gpu_is_said_to_have_xids():
    """gpu-operator issues 2911 and 2060: an operand's container that ends has no XID to be looked for."""
    crashed = waiting("CrashLoopBackOff", exitCode=1, reason="Error")
    training, operand = pod(on="a100-1", status=crashed), pod("toolkit", gpus=0, on="a100-1", status=crashed)
    operand["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "gpu-operator"}
    first = {"name": "fetch", "ready": False, "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    first["lastState"] = {"terminated": {"exitCode": 1, "reason": "Error"}}
    fetching = pod("fetching", on="a100-1", status={"phase": "Pending", "initContainerStatuses": [first]})
    fetching["spec"]["initContainers"] = [{"name": "fetch", "image": "registry.example.com/fetch:1"}]

    remedies = [explain(seen_from([asked, A100]), asked).remedy for asked in (training, operand, fetching)]

    assert "XIDs" in remedies[0]
    assert remedies[1:] == ["Its log says why."] * 2


def test_a_pod_that_is_being_deleted_waits_for_its_finalizer():
    going = pod(on="a100-1")
    going["metadata"] |= {"deletionTimestamp": "2026-11-28T00:00:00Z", "finalizers": ["example.com/keeps"]}

    explained = explain(seen_from([going, A100]), going)

    assert explained.stage is Stage.DELETING
    assert "example.com/keeps" in explained.cause


def test_the_nearest_node_is_one_of_the_pool_that_is_meant_and_groups_name_all_reasons():
    wanted = pod(gpus=8, nodeSelector={"pool": "a100"})
    nodes = [node(f"a100-{number}", taints=(TRAINING,), pool="a100") for number in range(3)]
    others = [node(f"t4-{number}", 1, pool="t4") for number in range(20)]

    explained = explain(seen_from([wanted, *nodes, *others, pod("other", 3, on="a100-0")]), wanted)

    assert explained.nearest == "a100-1"
    assert explained.missing == ("taint dedicated=gpu:NoSchedule is not tolerated",)
    assert [len(group.nodes) for group in explained.groups] == [2, 20, 1]
    assert explained.cause == (
        "of 23 nodes its selector and affinity leave 3: taint dedicated=gpu:NoSchedule is not tolerated "
        "(on a100-0, a100-1, a100-2)"
    )


def test_who_could_be_evicted_is_told_with_the_budget_that_guards_it():
    wanted = pod(gpus=4, **HIGH)
    low, cheap = pod("low", 6, on="a100-1", priority=5), pod("cheap", 2, on="a100-1", priority=-5)
    budget = {
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "keep-low", "namespace": "team"},
        "spec": {"selector": {"matchLabels": {"app": "low"}}},
        "status": {"disruptionsAllowed": 0},
    }

    explained = explain(seen_from([wanted, A100, low, cheap, budget]), wanted)

    # The cheap one may stay: there is room for four beside it.
    assert explained.eviction.startswith("on node a100-1 preemption can take pod team/low; ")
    assert explained.eviction.endswith("team/keep-low lets 0 of 1 go")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"priority": 5}, "nobody can be evicted for it: no pods of a priority below 5"),
        ({**HIGH, "preemptionPolicy": "Never"}, "high has preemptionPolicy Never"),
    ],
)
def test_why_nobody_is_evicted_is_told(spec, said):
    wanted = pod(gpus=4, **spec)

    explained = explain(seen_from([wanted, A100, pod("low", 6, on="a100-1", priority=5)]), wanted)

    assert said in explained.eviction


def test_a_job_whose_pods_the_quota_refuses_is_told_with_the_numbers():
    (explained,) = explain_workload(seen_from([job(gpus=4), A100, quota("8", "6")]), job(gpus=4))

    assert explained.stage is Stage.REFUSED
    assert "quota team/gpus allows 8 of requests.nvidia.com/gpu, 6 are used and 4 asked for" in explained.cause


def test_a_suspended_job_is_queued_and_one_without_reason_points_at_its_events():
    (suspended,) = explain_workload(seen_from([A100]), job(suspend=True))
    (unknown,) = explain_workload(seen_from([A100]), job())

    assert suspended.stage is Stage.QUEUED
    assert "FailedCreate" in unknown.remedy


def test_of_a_workload_the_pods_that_do_not_run_are_told():
    runs = owned(pod("one", on="a100-1"))
    runs["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    waits = owned(pod("two", 8))

    told = explain_workload(seen_from([runs, waits, A100]), job(pods=2))

    assert [each.subject for each in told] == ["pod team/two"]


def test_a_quota_of_another_priority_class_refuses_nothing():
    other = quota("4", "4")
    scope = {"scopeName": "PriorityClass", "operator": "In", "values": ["inference"]}
    other["spec"]["scopeSelector"] = {"matchExpressions": [scope]}

    (told,) = explain_workload(seen_from([node("a"), job(), other]), job())

    assert "quota team/gpus" not in told.cause


def test_a_limit_range_that_allows_the_pod_refuses_nothing():
    most = {"type": "Container", "max": {"nvidia.com/gpu": "4", "cpu": "4"}, "maxLimitRequestRatio": {"cpu": "2"}}
    together = {"type": "Pod", "max": {"nvidia.com/gpu": "4"}, "min": {"nvidia.com/gpu": "1"}}
    limits = {
        "kind": "LimitRange",
        "metadata": {"name": "l", "namespace": "team"},
        "spec": {"limits": [most, together]},
    }

    (told,) = explain_workload(seen_from([node("a"), job(gpus=4), limits]), job(gpus=4))

    assert "limit range l" not in told.cause
    (told,) = explain_workload(seen_from([node("a"), job(gpus=5), limits]), job(gpus=5))
    assert "limit range l: at most 4 nvidia.com/gpu is allowed as limit, 5 is that" in told.cause


def test_of_nodes_with_too_little_room_that_with_more_of_it_is_nearest():
    nodes = [node("a", 4), node("b", 6), node("c", 4)]

    told = explain(seen_from([*nodes, waits := pod(gpus=8)]), waits)

    assert (told.nearest, told.missing) == ("b", ("8 nvidia.com/gpu asked for, 6 of 6 free",))


def test_nodes_that_are_alike_have_each_its_own_pods_as_holders():
    busy = [pod(f"busy-{name}", 8, on=name) for name in ("a", "b")]

    told = explain(seen_from([node("a"), node("b"), node("c", 4), *busy, waits := pod(gpus=8)]), waits)

    assert {group.nodes: group.reasons for group in told.groups} == {
        ("a",): ("8 nvidia.com/gpu asked for, 0 of 8 free (held by team/busy-a)",),
        ("b",): ("8 nvidia.com/gpu asked for, 0 of 8 free (held by team/busy-b)",),
        ("c",): ("8 nvidia.com/gpu asked for, 4 of 4 free",),
    }


def test_pods_of_a_job_that_runs_in_another_cluster_are_not_called_deleted():
    away = job(parallelism=2)
    away["spec"]["managedBy"] = "kueue.x-k8s.io/multikueue"
    away["status"] = {"active": 2}

    (told,) = explain_workload(seen_from([A100, away]), away)

    assert told.stage is Stage.RUNNING
    assert "its status counts 2 pods, none of which is here" in told.cause
    assert "kueue.x-k8s.io/multikueue" in told.cause
