"""What holds a simulated upgrade up: how each blocker comes about, who foretells it, and where the upgrade stands."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from operated import NODES, Operated
from patience import PATIENCE
from unseen_holders import bare_by_claim, monitored, of_mps, privileged, shown_by_variable, watched_by_claim
from upgrading_fleet import AGENTS, BUDGETS, GPU_NODES, JOBS, QUOTAS, is_at, pod, ready, run

from conformance.kube.waits import wait_for

SKIP = "nvidia.com/gpu-driver-upgrade.skip"
AT_ONCE = {"autoUpgrade": True, "maxParallelUpgrades": 0, "maxUnavailable": "100%"}
DELETES = {"podDeletion": {"force": True, "deleteEmptyDir": True, "timeoutSeconds": 300}}


@dataclass(frozen=True)
class Blocker:
    """Something that holds an upgrade up: how it comes about, who foretells it, and where the upgrade then stands."""

    name: str
    prepare: Callable[[Operated], None]
    policy: dict[str, Any]
    foretold_by: str
    words: str
    stands: dict[str, set[str]]

    def __str__(self) -> str:
        return self.name


def skipped(fleet: Operated) -> None:
    fleet.label("a100-1", **{SKIP: "true"})


def nothing(fleet: Operated) -> None:
    """The policy alone is what blocks."""


def cordoned(fleet: Operated) -> None:
    fleet.client.patch(f"{NODES}/a100-3", {"spec": {"unschedulable": True}})


def bare(fleet: Operated, **spec: Any) -> None:
    run(fleet, pod("job", **spec), "/api/v1/namespaces/default/pods")
    ready(fleet, 1)


def slow_to_end(fleet: Operated) -> None:
    bare(fleet, terminationGracePeriodSeconds=3600)


def with_empty_dir(fleet: Operated) -> None:
    bare(fleet, volumes=[{"name": "shm", "emptyDir": {"medium": "Memory"}}])


def served(fleet: Operated, replicas: int = 2, running: int | None = None) -> None:
    """A Deployment on one node, a GPU for each of its pods, of which the node has two."""
    template = {"metadata": {"labels": {"app": "serve"}}, "spec": pod("serve")["spec"]}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "serve", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "serve"}}, "template": template},
    }
    run(fleet, deployment, "/apis/apps/v1/namespaces/default/deployments")
    ready(fleet, replicas if running is None else running)


def budget(fleet: Operated, name: str = "serve", **allowed: Any) -> None:
    body = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "serve"}}, **allowed},
    }
    run(fleet, body, BUDGETS)
    wait_for(
        lambda: fleet.client.get(f"{BUDGETS}/{name}").get("status") or {},
        lambda status: status.get("expectedPods", 0) > 0,
        what=f"budget {name} is counted",
        timeout=PATIENCE,
    )


def all_must_stay(fleet: Operated) -> None:
    served(fleet)
    budget(fleet, minAvailable=2)


def two_budgets(fleet: Operated) -> None:
    served(fleet)
    budget(fleet, maxUnavailable=1)
    budget(fleet, "other", maxUnavailable=2)


def no_room(fleet: Operated) -> None:
    served(fleet)
    budget(fleet, maxUnavailable=1)


def one_waits(fleet: Operated) -> None:
    served(fleet, replicas=3, running=2)
    budget(fleet, maxUnavailable=1)


def of_a_daemon_set(fleet: Operated) -> None:
    template = {"metadata": {"labels": {"app": "agent"}}, "spec": pod("agent")["spec"]}
    daemon_set = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": template},
    }
    run(fleet, daemon_set, AGENTS)
    ready(fleet, 1)


def trained(fleet: Operated, **job: Any) -> str:
    """A Job with a GPU; the name of its pod."""
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "train", "namespace": "default"},
        "spec": {"template": {"spec": {**pod("train")["spec"], "restartPolicy": "Never"}}, **job},
    }
    run(fleet, body, JOBS)
    ready(fleet, 1)
    return str(fleet.client.list("/api/v1/namespaces/default/pods")[0]["metadata"]["name"])


def refused_by_a_quota(fleet: Operated) -> None:
    """No further pod of the priority that drivers have is admitted where the operator has its own."""
    critical = {"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "critical", "namespace": "gpu-operator"},
        "spec": {"hard": {"pods": "0"}, "scopeSelector": {"matchExpressions": [critical]}},
    }
    run(fleet, quota, QUOTAS)
    wait_for(
        lambda: (fleet.client.get(f"{QUOTAS}/critical").get("status") or {}).get("used"),
        bool,
        what="the quota is counted",
        timeout=PATIENCE,
    )


def tainted(fleet: Operated) -> None:
    taint = {"key": "team", "value": "vision", "effect": "NoSchedule"}
    fleet.client.patch(f"{NODES}/a100-1", {"spec": {"taints": [taint]}})


def failed_before(fleet: Operated) -> None:
    fleet.hardware("a100-1", broken={"driver-fails": True})
    fleet.ask(driver={"version": "595.98.01", "upgradePolicy": {**AT_ONCE, **DELETES, "maxParallelUpgrades": 1}})
    is_at(fleet, "a100-1", {"upgrade-failed"})


def everywhere(state: str) -> dict[str, set[str]]:
    return {node: {state} for node in GPU_NODES}


REQUIRED, WAITS, DELETION, RESTART, FAILED = (
    "upgrade-required",
    "wait-for-jobs-required",
    "pod-deletion-required",
    "pod-restart-required",
    "upgrade-failed",
)
NO_WAIT = {"waitForCompletion": {"podSelector": "", "timeoutSeconds": 0}}
BLOCKERS = (
    Blocker("a label keeps a node out", skipped, AT_ONCE, "UPG-01", "upgrade.skip", {"a100-1": {REQUIRED}}),
    Blocker("upgrades are off", nothing, {**AT_ONCE, "autoUpgrade": False}, "UPG-02", "autoUpgrade", everywhere("")),
    Blocker(
        "no node may be away",
        nothing,
        {**AT_ONCE, "maxUnavailable": 0},
        "UPG-02",
        "no node to be away",
        everywhere(REQUIRED),
    ),
    Blocker(
        "a cordoned node uses up the slot",
        cordoned,
        {**AT_ONCE, "maxUnavailable": 1},
        "UPG-02",
        "a100-3",
        {"a100-1": {REQUIRED}, "a100-2": {REQUIRED}},
    ),
    Blocker(
        "service is waited for",
        served,
        {**AT_ONCE, **DELETES, "waitForCompletion": {"podSelector": "app=serve", "timeoutSeconds": 0}},
        "UPG-03",
        "until somebody stops them",
        {"a100-1": {WAITS}},
    ),
    Blocker(
        "two budgets of one pod",
        two_budgets,
        {**AT_ONCE, **DELETES},
        "UPG-04",
        "more than one forbids eviction",
        {"a100-1": {FAILED}},
    ),
    Blocker(
        "no room for the next pod",
        no_room,
        {**AT_ONCE, **DELETES},
        "UPG-04",
        "other nodes have room for 0",
        {"a100-1": {DELETION}},
    ),
    Blocker(
        "a pod that waits counts against its budget",
        one_waits,
        {**AT_ONCE, **DELETES},
        "UPG-04",
        "2 of its 3 pods are healthy",
        {"a100-1": {DELETION}},
    ),
    Blocker(
        "all pods must stay",
        all_must_stay,
        {**AT_ONCE, **DELETES},
        "OPER-19",
        "allows no disruption",
        {"a100-1": {DELETION}},
    ),
    Blocker(
        "a bare pod",
        bare,
        {**AT_ONCE, "podDeletion": {"force": False, "deleteEmptyDir": True}},
        "OPER-19",
        "podDeletion.force",
        {"a100-1": {FAILED}},
    ),
    Blocker(
        "an emptyDir",
        with_empty_dir,
        {**AT_ONCE, "podDeletion": {"force": True, "deleteEmptyDir": False}},
        "OPER-19",
        "deleteEmptyDir",
        {"a100-1": {FAILED}},
    ),
    Blocker(
        "pods of a DaemonSet",
        of_a_daemon_set,
        {**AT_ONCE, **DELETES},
        "OPER-19",
        "neither deleted nor drained",
        {"a100-1": {FAILED}},
    ),
    Blocker(
        "an agent mounts the devices",
        monitored,
        {**AT_ONCE, **DELETES},
        "OPER-19",
        "it mounts /dev",
        {"a100-1": {FAILED}},
    ),
    Blocker(
        "a privileged DaemonSet of a team",
        privileged,
        {**AT_ONCE, **DELETES},
        "OPER-19",
        "it is privileged",
        {"a100-1": {FAILED}},
    ),
    Blocker(
        "a runtime class shows the devices",
        shown_by_variable,
        {**AT_ONCE, **DELETES},
        "OPER-19",
        "NVIDIA_VISIBLE_DEVICES",
        {"a100-1": {FAILED}},
    ),
    Blocker(
        "an MPS daemon beside the operator",
        of_mps,
        {**AT_ONCE, **DELETES},
        "OPER-19",
        "is an MPS daemon",
        {"a100-1": {FAILED}},
    ),
    Blocker(
        "a claim for admin access",
        watched_by_claim,
        {**AT_ONCE, **DELETES},
        "OPER-19",
        "adminAccess",
        {"a100-1": {FAILED}},
    ),
    Blocker(
        "a bare pod with a claim",
        bare_by_claim,
        {**AT_ONCE, "podDeletion": {"force": False, "deleteEmptyDir": True}},
        "OPER-19",
        "podDeletion.force",
        {"a100-1": {FAILED}},
    ),
    Blocker(
        "a pod takes longer to end than the timeout",
        slow_to_end,
        {**AT_ONCE, "podDeletion": {"force": True, "deleteEmptyDir": True, "timeoutSeconds": 2}},
        "UPG-05",
        "waits for 2",
        {"a100-1": {FAILED}},
    ),
    Blocker(
        "a quota refuses drivers",
        refused_by_a_quota,
        {**AT_ONCE, **DELETES},
        "OPER-06",
        "critical",
        everywhere(RESTART),
    ),
    Blocker(
        "a taint that drivers do not tolerate",
        tainted,
        {**AT_ONCE, **DELETES},
        "OPER-10",
        "team",
        {"a100-1": {RESTART}},
    ),
    Blocker(
        "an upgrade that failed",
        failed_before,
        {**AT_ONCE, **DELETES, "maxParallelUpgrades": 1},
        "OPER-18",
        "upgrade failed",
        {"a100-1": {FAILED}},
    ),
)
