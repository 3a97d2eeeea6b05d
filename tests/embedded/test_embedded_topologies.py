"""Topologies: what comes with the package, and what is said about files that are wrong."""

from collections import Counter
from pathlib import Path

import pytest

from conformance.clusters.embedded import topologies
from conformance.clusters.embedded.annotations import NOT_READY
from conformance.clusters.embedded.topologies import TopologyError, load, names, nodes

FLEET = "name: x\ndescription: y\npools: "
POOL = "name: a, count: 1, cpu: '1', memory: 1Gi"


def by_name(topology) -> dict[str, dict]:
    return {node["metadata"]["name"]: node for node in nodes(topology)}


def write(folder: Path, text: str) -> Path:
    path = folder / "fleet.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "size"), [("empty", 0), ("single", 2), ("guide", 13), ("thousand", 1000), ("five-thousand", 5000)]
)
def test_shipped_topologies_have_the_promised_size(name: str, size: int) -> None:
    assert load(name).size == size == len(by_name(load(name)))


def test_all_shipped_topologies_are_valid() -> None:
    assert {"empty", "five-thousand", "guide", "single", "thousand"} <= set(names())
    for name in names():
        assert load(name).name == name


def test_guide_has_the_node_groups_of_the_guide() -> None:
    groups = Counter(node["metadata"]["labels"]["eks.amazonaws.com/nodegroup"] for node in nodes(load("guide")))

    assert groups == {"t4-inference": 3, "a100-training": 3, "h100-training": 2, "t4-notebook": 2, "cpu": 3}


def test_a_gpu_node_says_what_cloud_and_feature_discovery_say() -> None:
    node = by_name(load("guide"))["t4-inference-2"]

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
    assert second["metadata"]["annotations"][NOT_READY] == "down"
    assert second["spec"]["unschedulable"] is True
    assert "nvidia.com/gpu.present" not in third["metadata"]["labels"]
    assert third["metadata"]["labels"]["extra"] == "1"
    assert third["metadata"]["labels"]["nvidia.com/cuda.driver-version.full"] == "570.1.2"
    assert third["spec"]["taints"] == [{"key": "k", "effect": "NoSchedule", "value": ""}]


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
