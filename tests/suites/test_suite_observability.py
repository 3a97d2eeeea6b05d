"""Observability, on objects made by hand: which exporters are scraped, and what is reported of the others."""

import functools
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from conformance.facts import Facts
from conformance.kube.errors import NotFound
from conformance.kube.scraping import ScrapeFailed
from conformance.kube.timeouts import Timeouts
from conformance.reference import Reference, load
from conformance.shipped import shipped
from conformance.verdict import Inconclusive, Judge, NotApplicable, Unsupported, Waits
from suites._shared.pool_nodes import GpuPoolNode
from suites.observability import test_observability
from suites.observability.exporters import ASKED_OF_A_POOL, Exporter, ask, is_exporter, metrics_command, ready_exporters

Object = dict[str, Any]
POOL = "a100-training"
NOW = datetime(2026, 9, 20, 12, tzinfo=UTC)
LONG_AGO = "2026-03-01T00:00:00Z"
JUST_NOW = (NOW - timedelta(seconds=40)).isoformat()
PRESENT = {"nvidia.com/gpu.present": "true"}


def node(number: int, *, ready: bool = True, created: str = LONG_AGO, labels: Object | None = None) -> Object:
    held = {"eks.amazonaws.com/nodegroup": POOL, **(labels or {})}
    metadata = {"name": f"node-{number:02}", "labels": held, "creationTimestamp": created}
    status = {"conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {}, "status": status}


def exporter(number: int, *, ready: bool = True, created: str = LONG_AGO, waits: str = "") -> Object:
    container = {"name": "nvidia-dcgm-exporter", "image": "nvcr.io/nvidia/k8s/dcgm-exporter:4.5.1"}
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    state = {"waiting": {"reason": waits}}
    waiting = [{"name": container["name"], "ready": False, "state": state}] if waits else []
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"exporter-{number}", "namespace": "gpu-operator", "creationTimestamp": created},
        "spec": {"nodeName": f"node-{number:02}", "containers": [container]},
        "status": {"phase": "Running", "conditions": conditions, "containerStatuses": waiting},
    }


@functools.cache
def shipped_reference() -> Reference:
    """The shipped set-up, read once."""
    return load(shipped("fixtures/reference"))


def members(reference: Reference, found: Facts) -> tuple[GpuPoolNode, ...]:
    pool = reference.pool(POOL)
    assert pool is not None
    assert pool.gpu is not None
    return tuple(GpuPoolNode(pool, each, pool.gpu) for each in found.nodes)


def asked(*objects: Object) -> tuple[list[str], dict[str, str]]:
    """The nodes whose exporters are asked, and of the others why they are not."""
    found, judge = Facts.from_objects(objects), Judge()
    reference = shipped_reference()
    chosen = test_observability.exporters.__wrapped__(found, members(reference, found), judge)
    return [each.node.name for each in chosen], {str(each.subject): each.why for each in judge.unseen}


def test_every_exporter_of_a_small_pool_is_asked() -> None:
    names, unseen = asked(*(node(number) for number in range(3)), *(exporter(number) for number in range(3)))

    assert (names, unseen) == (["node-00", "node-01", "node-02"], {})


def test_of_a_large_pool_some_are_asked_and_the_others_are_named() -> None:
    every = range(30)

    names, unseen = asked(*map(node, every), *map(exporter, every))

    assert len(names) == ASKED_OF_A_POOL
    assert {"node-00", "node-29"} <= set(names)
    assert set(unseen.values()) == {"25 other exporters of its pool were scraped"}
    assert len(unseen) == len(every) - ASKED_OF_A_POOL


def test_a_node_without_a_ready_exporter_is_left_to_its_own_requirement() -> None:
    names, unseen = asked(node(0), node(1), node(2), exporter(0), exporter(1, ready=False))

    assert names == ["node-00"]
    assert unseen == dict.fromkeys(("node node-01", "node node-02"), "it has no ready dcgm-exporter (OBS-01)")


@pytest.mark.parametrize(
    ("name", "image", "is_one"),
    [
        ("gpu-metrics", "registry.example.com/mirror/nvidia/k8s/dcgm-exporter:4.4.1-4.6.0-ubuntu22.04", True),
        ("gpu-metrics", "registry.example.com/dcgm-exporter-distroless@sha256:0", True),
        ("dcgm-exporter", "registry.example.com/monitoring/gpu:1", True),
        ("exporter", "quay.io/prometheus/node-exporter:v1.9.1", False),
        ("metrics", "registry.example.com/dcgm-exporter/reloader:1", False),
    ],
)
def test_an_exporter_is_known_by_its_image_whatever_its_container_is_named(name: str, image: str, is_one: bool) -> None:
    own = exporter(0)
    own["spec"]["containers"] = [{"name": name, "image": image}]

    assert is_exporter(Facts.from_objects([own]).pods[0]) is is_one


def test_without_any_ready_exporter_nothing_can_be_seen() -> None:
    with pytest.raises(Waits, match="no GPU node has a ready dcgm-exporter") as raised:
        asked(node(0), exporter(0, ready=False))

    assert raised.value.requirement == "OBS-01"


# --- where an exporter belongs -----------------------------------------------------------------------------------

WORKLOAD = "nvidia.com/gpu.workload.config"


def expected_in(kind: str, spec: Object, labels: dict[str, str]) -> bool:
    """Whether the nodes of a pool with these labels are expected to have an exporter, under such an operator."""
    root = {"apiVersion": "nvidia.com/v1", "kind": kind, "metadata": {"name": "cluster-policy"}, "spec": spec}
    found, reference = Facts.from_objects([node(0), root]), shipped_reference()
    nodes = tuple(
        each._replace(pool=msgspec.structs.replace(each.pool, labels=labels)) for each in members(reference, found)
    )
    try:
        return bool(test_observability.monitored_nodes.__wrapped__(found, reference, nodes))
    except NotApplicable:
        return False


@pytest.mark.parametrize(
    ("sandbox", "labels", "expected"),
    [
        ({"enabled": True}, {WORKLOAD: "vm-passthrough"}, False),
        ({"enabled": True}, {WORKLOAD: "vm-vgpu"}, False),
        ({"enabled": True}, {}, True),
        ({"enabled": True, "defaultWorkload": "vm-passthrough"}, {}, False),
        ({"enabled": True, "defaultWorkload": "vm-passthrough"}, {WORKLOAD: "container"}, True),
        ({"enabled": False}, {WORKLOAD: "vm-passthrough"}, True),
        ({}, {"nvidia.com/gpu.deploy.dcgm-exporter": "false"}, False),
    ],
)
def test_no_exporter_is_expected_where_gpus_are_for_virtual_machines(
    sandbox: Object, labels: dict[str, str], expected: bool
) -> None:
    assert expected_in("ClusterPolicy", {"sandboxWorkloads": sandbox}, labels) == expected


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("false", False)])
def test_the_exporter_of_a_gpu_cluster_has_a_switch_of_its_own(value: str, expected: bool) -> None:
    assert expected_in("GPUCluster", {}, {"nvidia.com/gpu.deploy.dcgm-exporter-dra": value}) == expected


# --- OBS-01 ------------------------------------------------------------------------------------------------------


MANAGING_DRIVERS = {
    "apiVersion": "nvidia.com/v1",
    "kind": "ClusterPolicy",
    "metadata": {"name": "p"},
    "spec": {"dcgm": {"enabled": False}},  # as the chart has it
}


def judged(found: Facts, judge: Judge) -> None:
    reference = shipped_reference()
    test_observability.test_every_gpu_node_has_an_exporter(found, reference, members(reference, found), judge)


def covered(*objects: Object) -> tuple[dict[str, bool], dict[str, str]]:
    """What is said of each node, and of those that are passed over, why."""
    found, judge = Facts.from_objects([*objects, MANAGING_DRIVERS], taken_at=NOW), Judge()
    judged(found, judge)
    if nothing := judge.nothing_judged():
        raise nothing
    return {str(each.subject): each.ok for each in judge.findings}, {
        str(each.subject): each.why for each in judge.unseen
    }


def daemon_set(**spec: Any) -> Object:
    container = {"name": "exporter", "image": "nvcr.io/nvidia/k8s/dcgm-exporter:4.5.1"}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "dcgm", "namespace": "monitoring", "creationTimestamp": LONG_AGO},
        "spec": {"selector": {}, "template": {"spec": {"containers": [container], **spec}}},
        "status": {"desiredNumberScheduled": 0, "currentNumberScheduled": 0},
    }


@pytest.mark.parametrize(
    ("daemon_sets", "cause", "remedy"),
    [
        ([], "no DaemonSet of the cluster runs dcgm-exporter", "declare dcgm_exporter: false"),
        ([daemon_set()], "is not tolerated by daemonset monitoring/dcgm", "Give daemonset monitoring/dcgm the toler"),
        (
            [daemon_set(tolerations=[{"operator": "Exists"}], nodeSelector={"gpu": "on"})],
            "no label gpu=on, which the nodeSelector of daemonset monitoring/dcgm requires",
            "Find out who sets the label",
        ),
    ],
)
def test_an_exporter_of_its_own_chart_that_is_not_on_a_node_says_why(
    daemon_sets: list[Object], cause: str, remedy: str
) -> None:
    tainted = node(0)
    tainted["spec"]["taints"] = [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]
    found, judge = Facts.from_objects([tainted, *daemon_sets], taken_at=NOW), Judge()

    judged(found, judge)

    [finding] = judge.findings
    assert not finding.ok
    assert cause in finding.cause
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("new", "why"),
    [
        ([node(1, created=JUST_NOW)], "it joined just now"),
        ([node(1, created=JUST_NOW, labels=PRESENT), exporter(1, ready=False, created=JUST_NOW)], "is starting"),
        ([node(1, ready=False)], "the node is not Ready"),
        ([node(1, labels={"nvidia.com/gpu-driver-upgrade-state": "drain-required"})], "a driver upgrade is under way"),
    ],
)
def test_an_exporter_that_cannot_be_there_yet_is_not_missed(new: list[Object], why: str) -> None:
    verdicts, unseen = covered(node(0), exporter(0), *new)

    assert verdicts == {"node node-00": True}
    assert list(unseen) == ["node node-01"]
    assert why in unseen["node node-01"]


@pytest.mark.parametrize(
    "broken",
    [
        [node(1)],
        [node(1, created=JUST_NOW, labels=PRESENT)],
        [node(1, created=JUST_NOW), exporter(1, ready=False, created=JUST_NOW, waits="CrashLoopBackOff")],
        [node(1, created=JUST_NOW), exporter(1, ready=False)],
    ],
)
def test_an_exporter_that_time_does_not_bring_is_missed(broken: list[Object]) -> None:
    verdicts, unseen = covered(node(0), exporter(0), *broken)

    assert verdicts == {"node node-00": True, "node node-01": False}
    assert unseen == {}


def operand(name: str, container: str) -> Object:
    """A DaemonSet of the operator that wants pods on every node."""
    template = {"spec": {"containers": [{"name": container, "image": container}]}}
    metadata = {"name": name, "namespace": "gpu-operator", "labels": {"app": name}, "creationTimestamp": LONG_AGO}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": {"template": template}}


def pod_of(name: str, container: str, *, waits: str = "") -> Object:
    """Its pod on node-01, which is Ready unless it waits for something."""
    made = exporter(1, ready=not waits, waits=waits)
    owner = {"kind": "DaemonSet", "name": name, "controller": True, "apiVersion": "apps/v1", "uid": name}
    made["metadata"] |= {"name": f"{name}-x", "ownerReferences": [owner]}
    made["spec"]["containers"] = [{"name": container, "image": f"registry.example/{container}:1"}]
    for each in made["status"]["containerStatuses"]:
        each["name"] = container
    return made


DRIVER, TOOLKIT, EXPORTER = (
    ("nvidia-driver-daemonset", "nvidia-driver-ctr"),
    ("nvidia-container-toolkit-daemonset", "nvidia-container-toolkit-ctr"),
    ("nvidia-dcgm-exporter", "nvidia-dcgm-exporter"),
)


def told_of_the_exporter(*pods: Object) -> tuple[str, str]:
    """Cause and remedy of the finding on the node of these pods, of a stack that has all its DaemonSets."""
    stack = [operand(*each) for each in (DRIVER, TOOLKIT, EXPORTER)]
    found = Facts.from_objects([node(1), *stack, *pods, MANAGING_DRIVERS], taken_at=NOW)
    judge = Judge()
    judged(found, judge)
    (finding,) = judge.findings
    assert not finding.ok
    return finding.cause, finding.remedy


def test_an_exporter_that_waits_for_the_driver_is_told_as_the_driver_with_its_remedy() -> None:
    waiting = pod_of(*EXPORTER, waits="PodInitializing")
    driver = pod_of(*DRIVER, waits="ImagePullBackOff")

    cause, remedy = told_of_the_exporter(driver, pod_of(*TOOLKIT, waits="PodInitializing"), waiting)

    assert cause.startswith("the driver does not work on the node: ")
    assert "ImagePullBackOff of registry.example/nvidia-driver-ctr:1" in cause
    assert "registry.example/nvidia-driver-ctr:1" in remedy


def test_an_exporter_that_fails_by_itself_is_told_with_its_own_log() -> None:
    broken = pod_of(*EXPORTER, waits="CrashLoopBackOff")

    cause, remedy = told_of_the_exporter(pod_of(*DRIVER), pod_of(*TOOLKIT), broken)

    assert "the driver does not work" not in cause
    assert "nvidia-dcgm-exporter-x exists and is not Ready (container nvidia-dcgm-exporter: CrashLoopBackOff" in cause
    assert remedy == "kubectl logs -n gpu-operator nvidia-dcgm-exporter-x -c nvidia-dcgm-exporter --previous"


def test_where_every_node_is_new_there_is_nothing_to_see_yet() -> None:
    with pytest.raises(Inconclusive, match="joined just now"):
        covered(node(0, created=JUST_NOW))


# --- OBS-02 to OBS-07 --------------------------------------------------------------------------------------------

HELD = 'gpu="0",UUID="GPU-1",device="nvidia0",modelName="x"'
FULL = f"""DCGM_FI_DEV_XID_ERRORS{{{HELD},DCGM_FI_DRIVER_VERSION="580.95.05"}} 0
DCGM_EXP_XID_ERRORS_COUNT{{{HELD},DCGM_FI_DRIVER_VERSION="580.95.05"}} 0
"""
OTHER = f"DCGM_FI_DEV_GPU_TEMP{{{HELD}}} 40\n"
SILENT, GONE = (
    ScrapeFailed("gpu-operator", "exporter-1", 9400, "no answer"),
    NotFound(404, "NotFound", "gone", "GET", "/"),
)


class Lab:
    """A lab whose exporters say what they were told, one answer after the other, the last one again and again."""

    timeouts = Timeouts(condition=0.3)

    def __init__(self, *answers: list[str | Exception]) -> None:
        self.answers = {f"exporter-{number}": each for number, each in enumerate(answers)}
        self.ports: list[int] = []

    def metrics_page(self, namespace: str, name: str, port: int) -> str:
        del namespace
        self.ports.append(port)
        told = self.answers[name]
        answer = told.pop(0) if len(told) > 1 else told[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def looked_at(requirement: Any, *answers: list[str | Exception]) -> tuple[list[str], list[tuple[str, str]]]:
    """The nodes that a requirement judged, and those that it passed over with the reasons."""
    numbers = range(len(answers))
    found = Facts.from_objects([*map(node, numbers), *map(exporter, numbers)], taken_at=NOW)
    reference, judge = shipped_reference(), Judge()
    asked_ones: tuple[Exporter, ...] = ready_exporters(found, members(reference, found))
    known = {"exporters": asked_ones, "reference": reference, "lab": Lab(*answers), "judge": judge}
    names = requirement.__code__.co_varnames[: requirement.__code__.co_argcount]
    requirement(**{name: known[name] for name in names})
    return [str(each.subject) for each in judge.findings], [(str(each.subject), each.why) for each in judge.unseen]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_observability, "_BETWEEN_SCRAPES", 0.0)


@pytest.mark.parametrize(
    "requirement",
    [
        test_observability.test_values_are_plausible,
        test_observability.test_the_driver_is_the_declared_one,
        test_observability.test_no_gpu_reports_an_xid,
        test_observability.test_xid_errors_are_counted,
    ],
)
def test_exporters_that_say_nothing_are_named_once(requirement: Any) -> None:
    judged, unseen = looked_at(requirement, [FULL], [SILENT], [GONE])

    assert judged == ["node node-00"]
    assert sorted(unseen) == [
        ("node node-01", f"{SILENT} (OBS-02)"),
        ("node node-02", "its dcgm-exporter pod was replaced during the run"),
    ]


def test_an_exporter_that_falls_silent_between_two_looks_is_named_once() -> None:
    judged, unseen = looked_at(test_observability.test_values_are_plausible, [FULL], [FULL, SILENT], [FULL, GONE])

    assert judged == ["node node-00"]
    assert sorted(subject for subject, _ in unseen) == ["node node-01", "node node-02"]


def test_an_exporter_that_answers_when_it_is_asked_again_is_judged_by_that() -> None:
    judged, unseen = looked_at(test_observability.test_values_are_plausible, [SILENT, FULL])

    assert (judged, unseen) == (["node node-00"], [])


def test_a_silent_exporter_is_a_fault_and_a_replaced_one_is_named() -> None:
    judged, unseen = looked_at(test_observability.test_every_gpu_is_reported, [FULL], [SILENT], [GONE])

    assert judged == ["node node-00", "node node-01"]
    assert unseen == [("node node-02", "its dcgm-exporter pod was replaced during the run")]


@pytest.mark.parametrize(("said", "port"), [(None, 9400), (":9401", 9401), ("0.0.0.0:9402", 9402), ("9403", 9403)])
def test_an_exporter_is_asked_on_the_port_where_it_listens(said: str | None, port: int) -> None:
    pod = exporter(0)
    pod["spec"]["containers"][0]["env"] = [{"name": "DCGM_EXPORTER_LISTEN", "value": said}] if said else []
    found, lab = Facts.from_objects([node(0), pod], taken_at=NOW), Lab([FULL])
    exporters = ready_exporters(found, members(shipped_reference(), found))

    ask(lab, exporters)

    assert lab.ports == [port]
    assert f"localhost:{port}/" in metrics_command(exporters[0])


@pytest.mark.parametrize(
    ("requirement", "lacks"),
    [
        (test_observability.test_no_gpu_reports_an_xid, "its page lacks the metric DCGM_FI_DEV_XID_ERRORS"),
        (test_observability.test_the_driver_is_the_declared_one, "its page lacks the label DCGM_FI_DRIVER_VERSION"),
    ],
)
def test_a_page_without_the_metric_or_label_is_named(requirement: Any, lacks: str) -> None:
    assert looked_at(requirement, [FULL], [OTHER]) == (["node node-00"], [("node node-01", lacks)])
    with pytest.raises(Unsupported):
        looked_at(requirement, [OTHER])
