"""What admission adds to the pods of a template: tolerations for taints named like the resources that they ask for.

The plugin ExtendedResourceToleration gives each pod that asks for ``nvidia.com/gpu`` the toleration of
``nvidia.com/gpu:NoSchedule`` (kubernetes: plugin/pkg/admission/extendedresourcetoleration). No object says that it is
on: it shows where pods have such a toleration and the template that they were made from has none. GKE always has it
(cloud.google.com: Run GPUs in GKE Standard node pools, node taints), also while no pod asks for GPUs.
"""

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from conformance.facts.nodes import Node
from conformance.facts.pods import Pod
from conformance.facts.podspec import PodSpec
from conformance.facts.workloads import Workload
from conformance.gpu.taints import Taint, Toleration, tolerates

S = TypeVar("S", bound=PodSpec)

_OF_GKE = "cloud.google.com/gke-nodepool"


def added_tolerations(spec: PodSpec) -> tuple[Toleration, ...]:
    """What the plugin adds to a pod of this template, where it is on, and the template does not have yet."""
    names = [name for name in spec.gpu_requests() if not tolerates(spec.tolerations, Taint(name, "", "NoSchedule"))]
    return tuple(Toleration(name, "Exists", "", "NoSchedule") for name in names)


def is_added(nodes: Iterable[Node], workloads: Iterable[tuple[Workload, Iterable[Pod]]]) -> bool:
    """Whether the plugin is on: a platform has it, or a pod shows what its workload's template does not say."""
    if any(_OF_GKE in node.labels for node in nodes):
        return True
    return any(
        set(added) <= set(pod.tolerations)
        for workload, pods in workloads
        if (added := added_tolerations(workload.template))
        for pod in pods
    )


def with_added(spec: S) -> S:
    """The template with these tolerations."""
    added = added_tolerations(spec)
    return msgspec.structs.replace(spec, tolerations=(*spec.tolerations, *added)) if added else spec
