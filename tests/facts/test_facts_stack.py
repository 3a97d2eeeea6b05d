"""The GPU stack as facts tell it, and the ConfigMaps that may be read because of it."""

from pathlib import Path

import pytest
from paged_server import PagedServer, config_map, operator, plugin
from test_facts_resources import POLICY, crd

from conformance.facts import Facts, read, snapshot
from conformance.facts.hiding import HIDDEN
from conformance.gpu.operator_stack import Fault, StackKind, detect
from conformance.kube.errors import Forbidden
from conformance.verdict import Inconclusive

SECRETIVE = config_map("app-settings", "ml-training", password="hunter2")


@pytest.fixture
def with_operator(server: PagedServer) -> PagedServer:
    server.objects += [
        POLICY,
        crd("ClusterPolicy"),
        operator(),
        plugin("gpu-operator", owner="ClusterPolicy"),
        plugin("kube-system", "by-hand"),
        config_map("time-slicing-config", "gpu-operator", any="version: v1"),
        config_map("plugin-config", "kube-system"),
        config_map("declared", "gpu-settings"),
        SECRETIVE,
    ]
    return server


def test_facts_tell_the_stack_as_the_objects_themselves_do(with_operator: PagedServer) -> None:
    facts = read(with_operator)

    assert facts.stack == detect(with_operator.objects)
    assert facts.stack.stack is StackKind.CLUSTER_POLICY
    assert facts.stack.policy == "cluster-policy"
    assert [finding.fault for finding in facts.stack.findings] == [Fault.TWO_PLUGINS]


@pytest.mark.parametrize("available", [0, 1], ids=["down", "up"])
def test_an_operator_without_running_pod_is_seen_through_the_facts(server: PagedServer, available: int) -> None:
    server.objects += [POLICY, operator(available=available)]
    facts = read(server)

    assert facts.stack == detect(server.objects)
    assert (Fault.OPERATOR_DOWN in [finding.fault for finding in facts.stack.findings]) == (not available)


def test_an_operator_whose_controller_has_not_looked_yet_is_not_down(server: PagedServer) -> None:
    fresh = operator()
    del fresh["status"]
    server.objects += [POLICY, fresh]

    assert read(server).stack.findings == ()


def test_kinds_that_could_not_be_read_leave_the_stack_unknown(with_operator: PagedServer) -> None:
    with_operator.failures["ClusterPolicy"] = Forbidden(403, "Forbidden", "ann may not", "GET", "/")
    facts = read(with_operator)

    assert facts.stack.unread == ("ClusterPolicy",)
    assert facts.stack.stack is StackKind.UNKNOWN


def test_kinds_that_are_not_served_count_as_read(with_operator: PagedServer) -> None:
    with_operator.unserved = {"GPUCluster", "NVIDIADriver"}

    assert read(with_operator).stack.unread == ()


def test_the_stack_lives_where_its_workloads_are(with_operator: PagedServer) -> None:
    assert read(with_operator).stack_namespaces == ("gpu-operator", "kube-system")
    assert Facts.from_objects([]).stack_namespaces == ()


def test_config_maps_are_read_in_the_namespaces_of_the_stack_and_nowhere_else(with_operator: PagedServer) -> None:
    facts = read(with_operator)

    assert with_operator.config_namespaces == ["gpu-operator", "kube-system"]
    assert [str(each) for each in facts.config_maps] == [
        "config map gpu-operator/time-slicing-config",
        "config map kube-system/plugin-config",
    ]
    assert facts.config_map("gpu-operator", "time-slicing-config").body["data"] == {"any": "version: v1"}
    assert facts.config_map("gpu-operator", "none") is None


def test_whoever_reads_may_name_further_namespaces(with_operator: PagedServer) -> None:
    facts = read(with_operator, config_namespaces=["gpu-settings", "gpu-operator"])

    assert with_operator.config_namespaces == ["gpu-operator", "gpu-settings", "kube-system"]
    assert facts.config_map("gpu-settings", "declared") is not None


def test_a_config_map_that_was_never_looked_for_is_not_taken_for_missing(with_operator: PagedServer) -> None:
    with pytest.raises(Inconclusive, match=r"only those of the GPU stack's namespaces are \(gpu-operator, kube-system"):
        read(with_operator).config_map("ml-training", "app-settings")


def test_a_cluster_without_stack_has_no_config_map_read(server: PagedServer) -> None:
    server.objects.append(SECRETIVE)
    facts = read(server)

    assert facts.config_maps == ()
    assert server.config_namespaces == []


YUNIKORN = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "yunikorn-scheduler", "namespace": "batch"},
    "spec": {"template": {"metadata": {"labels": {"component": "yunikorn-scheduler"}}, "spec": {"containers": []}}},
}
QUEUES = config_map("yunikorn-configs", "batch", **{"queues.yaml": "partitions: []"})


def test_of_yunikorn_only_the_config_maps_with_its_queues_are_read(server: PagedServer, tmp_path: Path) -> None:
    server.objects += [YUNIKORN, QUEUES, config_map("others", "batch", password="hunter2"), SECRETIVE]
    snapshot.save(snapshot.take(server), tmp_path / "s")

    for facts in (read(server), snapshot.load(tmp_path / "s")):
        assert [str(each) for each in facts.config_maps] == ["config map batch/yunikorn-configs"]


def test_queues_of_yunikorn_that_may_not_be_read_keep_no_other_config_map_back(with_operator: PagedServer) -> None:
    with_operator.objects += [YUNIKORN, QUEUES]
    with_operator.refused_namespaces = {"batch"}

    assert [each.namespace for each in read(with_operator).config_maps] == ["gpu-operator", "kube-system"]


def test_config_maps_that_may_not_be_read_say_in_which_namespace(with_operator: PagedServer) -> None:
    with_operator.failures["ConfigMap"] = Forbidden(403, "Forbidden", "ann may not", "GET", "/")

    with pytest.raises(Inconclusive, match=r"ann may not \(namespace gpu-operator\); grant list on configmaps"):
        _ = read(with_operator).config_maps


def test_a_snapshot_has_the_same_stack_and_no_other_config_map(with_operator: PagedServer, tmp_path: Path) -> None:
    with_operator.unserved = {"GPUCluster"}
    snapshot.save(snapshot.take(with_operator, ["gpu-settings"]), tmp_path / "s")
    saved, live = snapshot.load(tmp_path / "s"), read(with_operator, ["gpu-settings"])

    assert saved.stack == live.stack
    assert saved.config_maps == live.config_maps
    assert saved.crds == live.crds
    assert saved.cluster_policies == live.cluster_policies
    assert saved.workloads == live.workloads
    assert saved.config_namespaces == ("gpu-operator", "gpu-settings", "kube-system")
    assert not saved.serves("GPUCluster")
    assert saved.serves("ClusterPolicy")


def test_credentials_in_config_maps_do_not_reach_a_snapshot() -> None:
    talkative = config_map(
        "licensing-config",
        "gpu-operator",
        **{
            "client_configuration_token.tok": "hunter2",
            "config.yaml": "version: v1\napiKey: hunter2\nimagePullSecrets:\n- ngc\nsharing: {}\n",
            "app.json": '{"db_password": "hunter2", "flags": {"secret": {"name": "kept"}}}',
            "app.ini": "TOKEN=hunter2\nport=80",
        },
    )
    talkative["binaryData"] = {"blob": "hunter2"}
    taken = snapshot.Snapshot.of([talkative])
    (kept,) = taken.plain_objects()

    assert b"hunter2" not in b"".join(bytes(raw) for raw in taken.objects["ConfigMap"])
    assert kept["data"]["config.yaml"] == f"version: v1\napiKey: {HIDDEN}\nimagePullSecrets:\n- ngc\nsharing: {{}}\n"
    assert kept["data"]["app.json"] == f'{{"db_password": "{HIDDEN}", "flags": {{"secret": {{"name": "kept"}}}}}}'
    assert kept["data"]["app.ini"] == f"TOKEN={HIDDEN}\nport=80"


def test_a_long_line_in_a_config_map_costs_no_time() -> None:
    taken = snapshot.Snapshot.of([config_map("blob", "gpu-operator", blob="A" * 1_000_000 + "token" * 1000)])

    assert len(taken.objects["ConfigMap"]) == 1


def test_a_snapshot_of_plain_objects_keeps_no_schema_and_no_kind_of_another_group_among_ours() -> None:
    volcano = {"apiVersion": "scheduling.volcano.sh/v1beta1", "kind": "Queue", "metadata": {"name": "default"}}
    taken = snapshot.Snapshot.of([crd("Queue", versions=[{"schema": "long"}]), volcano])
    facts = taken.facts()

    assert facts.queues == ()
    assert facts.serves("Queue")
    assert volcano in list(taken.plain_objects())
    assert all("versions" not in (each.get("spec") or {}) for each in taken.plain_objects())
