"""Which GPU stack the facts tell of, and in which namespaces it lives."""

from collections.abc import Callable, Iterable
from typing import Any

from conformance.facts.podspec import PodTemplate
from conformance.facts.resources import Resource
from conformance.facts.workloads import Workload
from conformance.gpu.labels import YUNIKORN_SCHEDULER
from conformance.gpu.operator_stack import Detection, detect
from conformance.verdict import Inconclusive

STACK_RESOURCES = ("ClusterPolicy", "GPUCluster", "NVIDIADriver", "CustomResourceDefinition")
STACK_WORKLOADS = ("Deployment", "DaemonSet")
STACK_KINDS = (*STACK_RESOURCES, *STACK_WORKLOADS)
"""The kinds that tell of a stack."""


def stack_of(members: Callable[[str], Iterable[object]]) -> Detection:
    """The stack that the objects of ``members(kind)`` make; kinds for which it raises Inconclusive are unread."""
    plain: list[dict[str, Any]] = []
    unread: list[str] = []
    for kind in STACK_KINDS:
        try:
            found = members(kind)
        except Inconclusive:
            unread.append(kind)
            continue
        plain += [_plain(member) for member in found]
    return detect(plain, unread)


def namespaces_of(stack: Detection) -> tuple[str, ...]:
    """The namespaces of the workloads that make up a stack: the operator's first, then plugins and DRA drivers."""
    workloads = (*stack.operators, *stack.device_plugins, *stack.dra_drivers)
    return tuple(dict.fromkeys(workload.partition("/")[0] for workload in workloads))


def yunikorn_namespaces(deployments: Iterable[Workload]) -> tuple[str, ...]:
    """The namespaces in which YuniKorn's scheduler runs, whose ConfigMaps have its queues."""
    named = (each for each in deployments if YUNIKORN_SCHEDULER in (each.name, each.template.labels.get("component")))
    return tuple(dict.fromkeys(each.namespace for each in named))


def _plain(member: object) -> dict[str, Any]:
    if isinstance(member, Resource):
        return member.body
    if isinstance(member, Workload):
        return _plain_workload(member)
    raise TypeError(f"{member} tells nothing of a stack")


def _plain_workload(workload: Workload) -> dict[str, Any]:
    """As much of a deployment or daemon set as detection looks at."""
    status: dict[str, Any] = {}
    if workload.observed_generation is not None:
        # The API leaves zeros out, so available pods count only once the controller has looked.
        status = {"observedGeneration": workload.observed_generation, "availableReplicas": workload.available}
    owners = [{"kind": workload.owner_kind, "name": workload.owner_name}] if workload.owner_kind else []
    return {
        "apiVersion": "apps/v1",
        "kind": workload.kind,
        "metadata": {
            "name": workload.name,
            "namespace": workload.namespace,
            "labels": workload.labels,
            "creationTimestamp": workload.created.isoformat() if workload.created else "",
            "ownerReferences": owners,
        },
        "spec": {"template": {"spec": _plain_spec(workload.template)}},
        "status": status,
    }


def _plain_spec(template: PodTemplate) -> dict[str, Any]:
    """As much of a pod template as tells which programs it runs."""
    return {
        "runtimeClassName": template.runtime_class,
        "nodeSelector": template.node_selector,
        "tolerations": [{"key": each.key} for each in template.tolerations],
        "volumes": [{"name": each.name, "hostPath": {"path": each.host_path}} for each in template.volumes],
        "containers": [
            {
                "name": each.name,
                "image": each.image,
                "command": [each.program],
                "env": [{"name": name} for name in each.env],
                "volumeMounts": [{"name": mount.volume, "mountPath": mount.path} for mount in each.mounts],
            }
            for each in template.containers
        ],
    }
