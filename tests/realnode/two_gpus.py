"""A small set-up with one real node: two GPUs on it, and a node for everything else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conformance.clusters.embedded import EmbeddedCluster, EmbeddedSpec, start
from conformance.clusters.embedded.simulated_installer import SimulatedInstaller
from conformance.deploy import deploy
from conformance.kube.timeouts import EMBEDDED
from conformance.progress import TerminalProgress
from conformance.reference import load

NODE = "t4-1"
TOPOLOGY = """
name: two-gpus
description: one node whose image brings driver and device plugin, and one for everything else
pools:
  - name: t4
    count: 1
    cpu: "8"
    memory: 32Gi
    labels: {example.com/pool: t4}
    gpu: {product: Tesla-T4, family: turing, compute: "7.5", count: 2, memory_mib: 15360, driver: 580.95.05}
  - name: cpu
    count: 1
    cpu: "8"
    memory: 32Gi
    labels: {example.com/pool: cpu}
"""
REFERENCE = """
name: two-gpus
pools:
  - name: t4
    selector: {example.com/pool: t4}
    nodes: 1
    taints: [{key: nvidia.com/gpu, value: present, effect: NoSchedule}]
    gpu: {model: t4, product: Tesla-T4, count: 2, memory_mib: 15360}
  - name: cpu
    selector: {example.com/pool: cpu}
    nodes: 1
"""


PRIORITIES = """
priority_classes:
  - {name: training, value: 500000, preempts: [experiment], description: May take GPUs from experiments.}
  - {name: experiment, value: 100000, preemption_policy: Never, description: The first to leave.}
"""


@contextmanager
def deployed(folder: Path, config: pytest.Config, more: str = "") -> Iterator[EmbeddedCluster]:
    """A cluster of its own in which the set-up is deployed; ``folder`` gets its ``reference``, with ``more`` in it."""
    (folder / "topology.yaml").write_text(TOPOLOGY)
    (folder / "reference").mkdir()
    (folder / "reference" / "reference.yaml").write_text(REFERENCE + more)
    spec = EmbeddedSpec(topology=folder / "topology.yaml", real_nodes=1, real_gpus=True)
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        running = start(spec, TerminalProgress())
    with running:
        with running.client() as client:
            result = deploy(client, load(folder / "reference"), timeouts=EMBEDDED, installer=SimulatedInstaller())
        assert not result.not_ready
        yield running
