"""What requirements wait for: one cause, one alarm, whatever the number of those that cannot be judged for it."""

import ast
from pathlib import Path

import pytest

from conformance.facts import Facts, snapshot
from conformance.facts.kinds import KINDS
from conformance.facts.pods import pod_from
from conformance.facts.workloads import Workload as ControllerOfPods
from conformance.gpu.taints import Taint
from conformance.reference.model import Gpu, Pool, Reference, Workload
from conformance.session.catalogue import requirements
from conformance.shipped import shipped
from conformance.verdict import Judge, NotApplicable, Waits
from suites._shared.declared_workloads import DeclaredWorkload
from suites._shared.pool_nodes import without_gpus, without_nodes, without_open_nodes
from suites.operator.operand_tolerations import RefusedTaint, RequiredDaemonSet
from suites.scheduling.test_placement import test_every_declared_workload_fits_a_node as every_workload_fits

GPU = Gpu(model="t4", count=4)
ORDINARY = Pool(name="cpu", selector={"pool": "cpu"}, nodes=3)
T4 = Pool(name="t4", selector={"pool": "t4"}, nodes=2, gpu=GPU)
H100 = Pool(name="h100", selector={"pool": "h100"}, nodes=1, gpu=GPU)
EMPTY = Pool(name="spot", selector={"pool": "spot"}, nodes=0, gpu=GPU)
REFERENCE = Reference(name="own", description="", pools=(ORDINARY, T4, H100, EMPTY))


def with_nodes(*names):
    return lambda pool: ("a node",) if pool.name in names else ()


@pytest.mark.parametrize(
    ("there", "cause"),
    [
        ((), "no node of the cluster belongs to a declared pool"),
        (("cpu",), "no node of the cluster belongs to a declared GPU pool"),
        (("cpu", "t4"), "pool h100 has no node"),
    ],
)
def test_the_cause_has_the_same_words_for_all_that_wait_for_nodes(there, cause):
    reason = without_nodes((H100, EMPTY), REFERENCE, with_nodes(*there))

    assert isinstance(reason, Waits)
    assert (reason.requirement, str(reason)) == ("POOL-01", cause)


def test_a_pool_that_is_declared_without_nodes_waits_for_nothing():
    reason = without_nodes((EMPTY,), REFERENCE, with_nodes())

    assert isinstance(reason, NotApplicable)
    assert str(reason) == "pool spot is declared with 0 nodes, and there is none"


def test_nodes_that_take_no_pods_are_another_cause_than_nodes_that_are_missing():
    closed = without_open_nodes((T4,), REFERENCE, with_nodes("t4"))
    missing = without_open_nodes((T4,), REFERENCE, with_nodes("h100"))

    assert (closed.requirement, str(closed)) == ("POOL-10", "no node of pool t4 is Ready and schedulable")
    assert (missing.requirement, str(missing)) == ("POOL-01", "pool t4 has no node")


def test_nodes_without_gpus_are_another_cause_than_nodes_that_are_missing():
    assert without_gpus(REFERENCE, with_nodes("t4")).requirement == "POOL-04"
    assert without_gpus(REFERENCE, with_nodes("cpu")).requirement == "POOL-01"


def test_every_requirement_that_is_waited_for_exists():
    named = {id for file in shipped("suites").rglob("*.py") for id in awaited(file)}

    assert {"POOL-01", "OPER-01", "DRA-01"} <= named
    assert named <= {rule.id for rule in requirements()}


def awaited(file: Path):
    """The ids that a module gives as ``on`` to Waits."""
    for node in ast.walk(ast.parse(file.read_text())):
        for keyword in node.keywords if isinstance(node, ast.Call) else ():
            if keyword.arg in ("on", "judged_by") and isinstance(keyword.value, ast.Constant):
                yield keyword.value.value


def plain_node(name):
    amounts = {"cpu": "8", "memory": "32Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"kubeletVersion": "v1.36.3"},
        },
    }


def test_plain_nodes_without_a_stack_are_a_few_causes_and_no_error(conform, tmp_path):
    file = tmp_path / "plain.json.gz"
    snapshot.save(snapshot.Snapshot.of(plain_node(f"node-{number}") for number in range(3)), file)

    outcome = conform("--cluster", f"snapshot:{file}", "--gpu-reference", "corrected-guide")

    assert outcome.exit_code == 1, outcome.output
    assert outcome.ids("error") == set(), outcome.output
    first, second = outcome.report["causes"][:2]
    assert (first["requirement"], first["cause"]) == ("POOL-01", "no node of the cluster belongs to a declared pool")
    assert (second["requirement"], second["cause"]) == ("OPER-01", "the cluster has no GPU stack")
    assert {id for cause in outcome.report["causes"] for id in cause["waiting"]} == outcome.ids("waiting")
    assert {cause["status"] for cause in outcome.report["causes"]} == {"failed"}
    summary = outcome.output.partition("GPU conformance =")[2].splitlines()
    begin = summary.index("  POOL-01: no node of the cluster belongs to a declared pool")
    assert begin <= 3, "causes come first, after what was judged"
    assert f"{len(first['waiting'])} requirements wait for it: DRA-01," in summary[begin + 1]


def test_a_kind_that_nobody_may_read_is_one_cause(conform, tmp_path):
    file = tmp_path / "forbidden.json.gz"
    snapshot.save(snapshot.Snapshot.of([], unreadable={KINDS["Pod"].plural: "Forbidden: pods is forbidden"}), file)

    outcome = conform("--cluster", f"snapshot:{file}", "--gpu-requirement", "SCHED-17", "--gpu-requirement", "WORK-10",
                      "--gpu-reference", "corrected-guide")  # fmt: skip

    (cause,) = outcome.report["causes"]
    assert outcome.exit_code == 10, outcome.output
    assert cause["cause"].startswith("pods could not be read: Forbidden: pods is forbidden; grant ")
    assert (cause["requirement"], cause["waiting"]) == ("", ["SCHED-17", "WORK-10"])


def workload(name, *pools, **asked):
    metadata = {"name": name, "namespace": "team"}
    main = {"name": "main", "resources": {"limits": asked}}
    pod = pod_from({"kind": "Pod", "metadata": metadata, "spec": {"containers": [main]}})
    declared = Workload(role="batch", kind="Job", namespace="team", name=name, pools=tuple(pool.name for pool in pools))
    return DeclaredWorkload(declared, pools, pod, None)


def fits(*workloads):
    facts = Facts.from_objects([{**plain_node("t4-1"), "metadata": {"name": "t4-1", "labels": {"pool": "t4"}}}])
    judge = Judge()
    every_workload_fits(workloads, REFERENCE, lambda pool: facts.nodes_with(pool.selector), judge)
    return judge


def test_a_workload_whose_pool_lacks_its_nodes_waits_and_hides_no_other():
    judge = fits(workload("waits", H100), workload("fits", T4))

    assert [finding.ok for finding in judge.findings] == [True]
    assert [str(each) for each in judge.unseen] == ["job team/waits: pool h100 has no node (POOL-01)"]


def test_a_workload_whose_nodes_offer_no_devices_waits_for_them():
    gpus, memory = {"nvidia.com/gpu": "1"}, {"memory": "9Ti"}
    ended = fits(workload("waits", T4, **gpus)).nothing_judged()

    assert isinstance(ended, Waits)
    assert ended.requirement == "POOL-04"
    assert [each.ok for each in fits(workload("too-big", T4, **gpus, **memory)).findings] == [False]


def test_a_workload_whose_pool_lacks_its_nodes_waits_where_it_is_the_only_one():
    ended = fits(workload("waits", H100)).nothing_judged()

    assert isinstance(ended, Waits)
    assert ended.requirement == "POOL-01"


def test_a_workload_on_a_pool_that_is_declared_with_0_nodes_is_no_failure():
    assert isinstance(fits(workload("later", EMPTY)).nothing_judged(), NotApplicable)


def test_a_taint_that_several_pools_declare_is_to_be_tolerated_once() -> None:
    taint = Taint(key="dedicated", value="gpu", effect="NoExecute")
    pools = [Pool(name=name, selector={"pool": name}, taints=(taint,)) for name in ("a100", "t4")]
    plugin = RequiredDaemonSet(ControllerOfPods(kind="DaemonSet", name="nvidia-device-plugin-daemonset"), tuple(pools))

    remedy = plugin.remedy([RefusedTaint(taint, pool, ()) for pool in pools], Facts.from_objects([]))

    assert remedy.count("dedicated=gpu:NoExecute") == 1
