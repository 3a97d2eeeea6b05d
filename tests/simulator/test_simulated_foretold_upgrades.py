"""What a run before an upgrade foretells comes true: the upgrade stands still at the node and in the state it must.

Each blocker is put on a living cluster, the run is asked on a snapshot of it, and then the simulated operator upgrades
all the same.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from operated import NODES, POLICY, Operated, is_ready, operated
from outcomes import Outcome
from patience import PATIENCE

from conformance.facts import snapshot
from conformance.kube.errors import NotFound
from conformance.kube.waits import holds, wait_for

pytestmark = pytest.mark.cluster

STATE = "nvidia.com/gpu-driver-upgrade-state"
SKIP = "nvidia.com/gpu-driver-upgrade.skip"
DRIVER = "nvidia.com/cuda.driver-version.full"
GPU_NODES = ("a100-1", "a100-2", "a100-3")
AT_ONCE = {"autoUpgrade": True, "maxParallelUpgrades": 0, "maxUnavailable": "100%"}
DELETES = {"podDeletion": {"force": True, "deleteEmptyDir": True, "timeoutSeconds": 300}}
SET_UP = """
name: three
stack: {kind: gpu-operator, version: v26.7.0}
pools:
  - name: a100
    selector: {nvidia.com/gpu.present: "true"}
    nodes: 3
    gpu: {model: a100, product: NVIDIA-A100-SXM4-40GB, count: 2, memory_mib: 40960}
"""


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
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
AGENTS = "/apis/apps/v1/namespaces/default/daemonsets"
QUOTAS = "/api/v1/namespaces/gpu-operator/resourcequotas"
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


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    with operated(tmp_path_factory.mktemp("fleet"), gpu_nodes=3) as cluster:
        cluster.says("ready", "Reconciled", timeout=180)
        yield cluster


@pytest.fixture
def fleet(shared: Operated) -> Iterator[Operated]:
    """Three nodes whose drivers are up to date, and that are so again afterwards."""
    all_done(shared)
    yield shared
    deployments, pods = "/apis/apps/v1/namespaces/default/deployments", "/api/v1/namespaces/default/pods"
    for collection in (deployments, AGENTS, BUDGETS, QUOTAS, pods):
        for obj in shared.client.list(collection):
            gone(shared, f"{collection}/{obj['metadata']['name']}")
    for node in GPU_NODES:
        shared.label(node, **{SKIP: None})
        shared.hardware(node, broken={})
        if FAILED in state(shared, node):
            shared.label(node, **{STATE: REQUIRED})
        shared.client.patch(f"{NODES}/{node}", {"spec": {"unschedulable": None, "taints": None}})
    shared.ask(driver={"upgradePolicy": {**AT_ONCE, **DELETES, **NO_WAIT}})
    all_done(shared)
    shared.says("ready", "Reconciled", timeout=180)


@pytest.fixture
def audit(conform: Callable[..., Outcome], tmp_path: Path) -> Callable[..., Outcome]:
    """Ask about an upgrade on a snapshot of the cluster."""
    (tmp_path / "setup.yaml").write_text(SET_UP)

    def asked(fleet: Operated, option: str) -> Outcome:
        snapshot.save(snapshot.take(fleet.client, config_namespaces=("gpu-operator",)), tmp_path / "now.json.gz")
        return conform("--cluster", "snapshot:now.json.gz", "--gpu-reference=setup.yaml", option)

    return asked


@pytest.fixture
def look_back(audit: Callable[..., Outcome], tmp_path: Path) -> Callable[[Operated], Outcome]:
    """Ask whether all is back, by the baseline that foretelling wrote."""
    return lambda fleet: audit(fleet, f"--gpu-post-upgrade={tmp_path / 'before.json'}")


@pytest.fixture
def foretell(audit: Callable[..., Outcome], tmp_path: Path) -> Callable[[Operated, str], Outcome]:
    """Ask whether the drivers may be upgraded, and keep the baseline."""

    def asked(fleet: Operated, version: str) -> Outcome:
        outcome = audit(fleet, f"--gpu-pre-upgrade={version}")
        (tmp_path / "gpu-conformance-report" / "upgrade-baseline.json").rename(tmp_path / "before.json")
        return outcome

    return asked


def pod(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "busybox", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": "a100-1"},
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            **spec,
        },
    }


def run(fleet: Operated, obj: dict[str, Any], collection: str) -> None:
    fleet.client.create(collection, obj)


def ready(fleet: Operated, count: int) -> None:
    wait_for(
        lambda: sum(is_ready(each) for each in fleet.client.list("/api/v1/namespaces/default/pods")),
        lambda found: found == count,
        what=f"{count} pods are ready",
        timeout=PATIENCE,
    )


def gone(fleet: Operated, path: str) -> None:
    try:
        fleet.client.delete(path, grace_seconds=0)
    except NotFound:
        return


def state(fleet: Operated, node: str) -> str:
    return str(fleet.labels(node).get(STATE, ""))


def is_at(fleet: Operated, node: str, wanted: set[str]) -> None:
    wait_for(lambda: state(fleet, node), lambda found: found in wanted, what=f"{node} is {wanted}", timeout=PATIENCE)


def all_done(fleet: Operated) -> None:
    for node in GPU_NODES:
        is_at(fleet, node, {"upgrade-done"})


def upgraded_nodes(fleet: Operated, version: str) -> set[str]:
    drivers = fleet.pods("nvidia-driver-daemonset")
    return {each["spec"].get("nodeName", "") for each in drivers if version in each["spec"]["containers"][0]["image"]}


def test_a_fleet_with_a_go_is_upgraded_and_nothing_is_missing_then(
    fleet: Operated, foretell: Callable[[Operated, str], Outcome], look_back: Callable[[Operated], Outcome]
) -> None:
    fleet.ask(driver={"upgradePolicy": {**AT_ONCE, **DELETES}})
    served(fleet)

    outcome = foretell(fleet, "595.97.01")

    assert outcome.report["upgrade"]["decision"] == "go", outcome.output
    assert look_back(fleet).report["upgrade"]["failed"] == ["UPG-13"], "the driver is the old one still"
    fleet.ask(driver={"version": "595.97.01"})
    wait_for(
        lambda: upgraded_nodes(fleet, "595.97.01"),
        lambda found: found == {*GPU_NODES},
        what="every driver is new",
        timeout=PATIENCE,
    )
    all_done(fleet)
    fleet.says("ready", "Reconciled")
    ready(fleet, 2)
    for node in GPU_NODES:
        wait_for(
            lambda node=node: fleet.labels(node).get(DRIVER),
            lambda found: found == "595.97.01",
            what=f"the label of {node} tells the new driver",
            timeout=PATIENCE,
        )

    outcome = look_back(fleet)

    assert outcome.report["upgrade"]["decision"] == "done", outcome.output


@pytest.mark.parametrize("blocker", BLOCKERS, ids=str)
def test_an_upgrade_stands_still_as_it_was_foretold(
    fleet: Operated, foretell: Callable[[Operated, str], Outcome], blocker: Blocker
) -> None:
    version = f"595.99.{BLOCKERS.index(blocker) + 1:02d}"
    fleet.ask(driver={"upgradePolicy": blocker.policy})
    blocker.prepare(fleet)

    outcome = foretell(fleet, version)

    assert outcome.report["upgrade"]["decision"] == "no-go", outcome.output
    assert blocker.foretold_by in outcome.report["upgrade"]["failed"], outcome.output
    assert blocker.words in outcome.told(blocker.foretold_by)

    fleet.ask(driver={"version": version})
    for node, stands in blocker.stands.items():
        is_at(fleet, node, stands)
    left = holds(
        lambda: {node: state(fleet, node) for node in blocker.stands},
        lambda found: all(found[node] in stands for node, stands in blocker.stands.items()),
        window=1.5,
        what="it stands still",
    )
    assert left is None
    assert not upgraded_nodes(fleet, version) & {*blocker.stands} - {
        "a100-1" if blocker.foretold_by == "OPER-18" else ""
    }
    assert fleet.client.get(POLICY)["spec"]["driver"]["version"] == version
