"""Topologies: what comes with the package, and what is said about files that are wrong."""

from collections import Counter
from pathlib import Path

import pytest

from conformance.clusters.embedded import topologies
from conformance.clusters.embedded.annotations import NOT_READY
from conformance.clusters.embedded.topologies import TopologyError, load, names, nodes
from conformance.simulator.hardware import Machine, machine_of

FLEET = "name: x\ndescription: y\npools: "
POOL = "name: a, count: 1, cpu: '1', memory: 1Gi"
GPU_FLEET = f"{FLEET}[{{{POOL}, gpu: {{product: Tesla-T4, count: 4, memory_mib: 15360, driver: '1'}}"


def by_name(topology) -> dict[str, dict]:
    return {node["metadata"]["name"]: node for node in nodes(topology)}


def write(folder: Path, text: str) -> Path:
    path = folder / "fleet.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "size"),
    [("empty", 0), ("single", 2), ("guide", 21), ("guide-image", 13), ("thousand", 1000), ("five-thousand", 5000)],
)
def test_shipped_topologies_have_the_promised_size(name: str, size: int) -> None:
    assert load(name).size == size == len(by_name(load(name)))


def test_all_shipped_topologies_are_valid() -> None:
    assert {"empty", "five-thousand", "guide", "guide-image", "single", "thousand"} <= set(names())
    for name in names():
        assert load(name).name == name


def test_guide_has_the_node_groups_of_the_guide() -> None:
    groups = Counter(node["metadata"]["labels"]["eks.amazonaws.com/nodegroup"] for node in nodes(load("guide")))

    whole = {"t4-inference": 3, "a100-training": 3, "h100-training": 2, "t4-notebook": 2, "cpu": 3}
    assert groups == whole | {"t4-shared": 2, "a100-mig": 2, "l4-mps": 2, "h100-dra": 2}


def test_a_gpu_node_says_what_cloud_and_feature_discovery_say() -> None:
    node = by_name(load("guide-image"))["t4-inference-2"]

    labels = node["metadata"]["labels"]
    assert labels["node.kubernetes.io/instance-type"] == "g4dn.12xlarge"
    assert labels["topology.kubernetes.io/zone"] == "ap-northeast-2b"
    assert labels["topology.kubernetes.io/region"] == "ap-northeast-2"
    assert labels["nvidia.com/gpu.product"] == "Tesla-T4"
    assert labels["nvidia.com/gpu.count"] == "4"
    assert labels["nvidia.com/gpu.memory"] == "15360"
    assert labels["nvidia.com/gpu.present"] == "true"
    assert labels["nvidia.com/cuda.driver-version.full"] == "580.95.05"
    assert node["status"]["capacity"]["nvidia.com/gpu"] == "4"
    assert node["spec"] == {"providerID": "kwok://t4-inference-2"}
    machine = machine_of(node)
    assert machine is not None
    assert (machine.product, machine.gpus, machine.offered_as) == ("Tesla T4", 4, "nvidia.com/gpu")


def test_bare_hardware_shows_no_gpu_to_the_cluster() -> None:
    for node in nodes(load("guide")):
        assert not [name for name in node["status"]["capacity"] if "nvidia" in name]
        assert not [name for name in node["metadata"]["labels"] if "nvidia" in name]


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("t4-shared-1", Machine("Tesla T4", 2, 15360, "7.5", "turing", machine="g4dn.12xlarge")),
        ("l4-mps-2", Machine("NVIDIA L4", 4, 23034, "8.9", "ada-lovelace", machine="g6.12xlarge")),
        (
            "a100-mig-1",
            Machine("NVIDIA A100-SXM4-40GB", 8, 40960, "8.0", "ampere", mig_capable=True, machine="p4d.24xlarge"),
        ),
        (
            "h100-dra-1",
            Machine("NVIDIA H100 80GB HBM3", 8, 81559, "9.0", "hopper", "580.95.05", True, machine="p5.48xlarge"),
        ),
        ("cpu-1", None),
    ],
)
def test_the_simulator_is_told_what_is_in_a_bare_machine(node: str, expected: Machine | None) -> None:
    assert machine_of(by_name(load("guide"))[node]) == expected


def test_labels_and_taints_of_the_owners_are_no_part_of_a_topology() -> None:
    for node in nodes(load("guide")):
        assert not {"node-type", "gpu-type", "workload-class"} & set(node["metadata"]["labels"])
        assert "taints" not in node["spec"]


def test_faults_change_single_nodes(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
name: broken
description: faults
pools:
  - name: a
    count: 3
    cpu: "8"
    memory: 32Gi
    gpu: {product: Tesla-T4, count: 4, memory_mib: 15360, driver: 580.95.05}
    faults:
      - {nodes: [1], gpus: 3}
      - {nodes: [2], not_ready: down, cordoned: true}
      - nodes: [3]
        driver: 570.1.2
        labels: {nvidia.com/gpu.present: null, extra: "1"}
        taints: [{key: k, effect: NoSchedule}]
""",
    )

    first, second, third = nodes(load(path))

    assert first["status"]["allocatable"]["nvidia.com/gpu"] == "3"
    assert first["metadata"]["labels"]["nvidia.com/gpu.count"] == "4"
    assert machine_of(first).missing == (3,)
    assert second["metadata"]["annotations"][NOT_READY] == "down"
    assert second["spec"]["unschedulable"] is True
    assert "nvidia.com/gpu.present" not in third["metadata"]["labels"]
    assert third["metadata"]["labels"]["extra"] == "1"
    assert third["metadata"]["labels"]["nvidia.com/cuda.driver-version.full"] == "570.1.2"
    assert third["spec"]["taints"] == [{"key": "k", "effect": "NoSchedule", "value": ""}]


def test_faults_of_the_hardware_stand_in_the_annotation(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
name: broken
description: faults
pools:
  - name: a
    count: 2
    cpu: "8"
    memory: 32Gi
    gpu: {product: Tesla-T4, count: 4, memory_mib: 15360, driver: 580.95.05}
    faults:
      - {nodes: [1], unhealthy: [0], missing: [1, 2]}
      - {nodes: [1], broken: {inforom: true}, driver: 570.1.2}
""",
    )

    first, second = nodes(load(path))

    machine = machine_of(first)
    assert machine is not None
    assert (machine.unhealthy, machine.missing, machine.broken) == ((0,), (1, 2), {"inforom": True})
    assert machine.driver == "570.1.2"
    assert first["status"]["capacity"]["nvidia.com/gpu"] == "2"
    assert first["status"]["allocatable"]["nvidia.com/gpu"] == "1"
    assert second["status"]["allocatable"]["nvidia.com/gpu"] == "4"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(TopologyError, match=r"no topology named 'gide'; there are: .*guide"):
        load("gide")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: x\n", "description"),
        ("name: x\ndescription: y\npools: [{name: a, count: many, cpu: '1', memory: 1Gi}]", r"\$\.pools\[0\]\.count"),
        ("name: x\ndescription: y\nnodes: 3\n", "nodes"),
        ("name: [", "fleet.yaml"),
        (
            f"{FLEET}[{{{POOL}, faults: [{{nodes: [2]}}]}}]",
            r"pools\[0\]\.faults\[0\]\.nodes: \[2\] is outside of 1 to 1",
        ),
        (
            f"{FLEET}[{{{POOL}, faults: [{{nodes: [1], gpus: 1}}]}}]",
            r"pools\[0\]\.faults\[0\]\.gpus: the pool has no gpu",
        ),
        (
            f"{GPU_FLEET}, faults: [{{nodes: [1], missing: [4]}}]}}]",
            r"faults\[0\]\.missing: \[4\] is outside of 0 to 3",
        ),
        (f"{GPU_FLEET}, faults: [{{nodes: [1], gpus: 9}}]}}]", r"faults\[0\]\.gpus: 9 is outside of 0 to 4"),
        (
            f"{GPU_FLEET}, faults: [{{nodes: [1], broken: {{infrom: true}}}}]}}]",
            r"broken: infrom is unknown; .*inforom",
        ),
        (f"{FLEET}[{{{POOL}, gpu: {{product: Tesla-T4, count: 1, memory_mib: 1}}}}]", r"gpu\.driver: the node image"),
        (
            f"{FLEET}[{{{POOL}, gpu: {{product: Tesla-T4, name: Tesla T10, count: 1, memory_mib: 1, driver: '1'}}}}]",
            r"gpu\.name: .*'Tesla-T10' of it, but product is 'Tesla-T4'",
        ),
        (f"{FLEET}[{{{POOL}}}, {{{POOL}}}]", r"pools\[1\]\.name: 'a' is taken"),
    ],
)
def test_a_wrong_file_is_told_by_file_and_place(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match=says) as caught:
        load(write(tmp_path, text))

    assert "fleet.yaml" in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="No such file"):
        topologies.load(tmp_path / "none.yaml")
