"""What a run before an upgrade foretells comes true: the upgrade stands still at the node and in the state it must.

Each blocker is put on a living cluster, the run is asked on a snapshot of it, and then the simulated operator upgrades
all the same.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from operated import NODES, POLICY, Operated, is_ready, operated
from outcomes import Outcome
from patience import PATIENCE
from upgrade_blockers import AT_ONCE, BLOCKERS, DELETES, FAILED, NO_WAIT, REQUIRED, SKIP, Blocker, served, trained
from upgrading_fleet import AGENTS, BUDGETS, CLAIMS, GPU_NODES, JOBS, QUOTAS, STATE, gone, is_at, ready, state

from conformance.facts import snapshot
from conformance.kube.waits import holds, wait_for

pytestmark = pytest.mark.cluster

DRIVER = "nvidia.com/cuda.driver-version.full"
SET_UP = """
name: three
stack: {kind: gpu-operator, version: v26.7.0}
pools:
  - name: a100
    selector: {nvidia.com/gpu.present: "true"}
    nodes: 3
    gpu: {model: a100, product: NVIDIA-A100-SXM4-40GB, count: 2, memory_mib: 40960}
teams:
  - namespace: default
"""


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
    for collection in (deployments, AGENTS, JOBS, BUDGETS, QUOTAS, pods, CLAIMS):
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


def all_done(fleet: Operated) -> None:
    for node in GPU_NODES:
        is_at(fleet, node, {"upgrade-done"})


def upgraded_nodes(fleet: Operated, version: str) -> set[str]:
    drivers = [each for each in fleet.pods("nvidia-driver-daemonset") if is_ready(each)]
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


def is_failed(fleet: Operated) -> bool:
    conditions = (fleet.client.get(f"{JOBS}/train").get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Failed" and each["status"] == "True" for each in conditions)


def test_a_job_that_may_not_fail_once_is_lost_as_it_was_foretold(
    fleet: Operated, foretell: Callable[[Operated, str], Outcome]
) -> None:
    fleet.ask(driver={"upgradePolicy": {**AT_ONCE, **DELETES}})
    trained(fleet, backoffLimit=0)

    outcome = foretell(fleet, "595.96.01")

    assert outcome.report["upgrade"]["decision"] == "no-go", outcome.output
    assert outcome.report["upgrade"]["failed"] == ["UPG-30"]
    assert "backoffLimit leaves 0" in outcome.told("UPG-30")
    fleet.ask(driver={"version": "595.96.01"})
    wait_for(lambda: is_failed(fleet), bool, what="the Job has failed", timeout=PATIENCE)
    wait_for(
        lambda: upgraded_nodes(fleet, "595.96.01"),
        lambda found: found == {*GPU_NODES},
        what="every driver is new",
        timeout=PATIENCE,
    )


def test_a_job_starts_over_as_it_was_foretold(fleet: Operated, foretell: Callable[[Operated, str], Outcome]) -> None:
    fleet.ask(driver={"upgradePolicy": {**AT_ONCE, **DELETES}})
    before = trained(fleet, backoffLimit=3)

    outcome = foretell(fleet, "595.96.02")

    assert outcome.report["upgrade"]["decision"] == "go", outcome.output
    assert outcome.report["upgrade"]["capacity"]["stopped"] == [{"owner": "Job default/train", "pods": 1, "fails": ""}]
    fleet.ask(driver={"version": "595.96.02"})
    wait_for(
        lambda: {
            each["metadata"]["name"] for each in fleet.client.list("/api/v1/namespaces/default/pods") if is_ready(each)
        },
        lambda names: bool(names) and before not in names,
        what="the Job has another pod",
        timeout=PATIENCE,
    )
    assert not is_failed(fleet)


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
    assert not upgraded_nodes(fleet, version) & {*blocker.stands}
    assert fleet.client.get(POLICY)["spec"]["driver"]["version"] == version
