"""What admission adds to the pods of a template.

Mutating policies and webhooks (Kyverno, Gatekeeper, MutatingAdmissionPolicy, Kueue for the pods of Deployments and
StatefulSets, one that a cluster's owners wrote) give pods tolerations, node selectors, a RuntimeClass, a priority
class, volumes. What webhooks do is not known: where one covers the pods of a workload (pod_mutators.py) or a program
that does such things is there, and the workload has rolled out its present template, what all its pods have beside it
was added by them. Anywhere else pods that differ are older than the template.
kubernetes.io: Dynamic Admission Control; kyverno.io: Mutate Rules; kueue.sigs.k8s.io: Run Deployment, StatefulSet.

The plugin ExtendedResourceToleration gives each pod that asks for ``nvidia.com/gpu`` the toleration of
``nvidia.com/gpu:NoSchedule`` (kubernetes: plugin/pkg/admission/extendedresourcetoleration). No object says that it is
on: it shows where pods have such a toleration and the template that they were made from has none. GKE always has it
(cloud.google.com: Run GPUs in GKE Standard node pools, node taints), also while no pod asks for GPUs.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

import msgspec

from conformance.facts.containers import Container
from conformance.facts.limits import PriorityClass
from conformance.facts.nodes import Node
from conformance.facts.pod_mutators import ANY
from conformance.facts.pods import Pod
from conformance.facts.podspec import PodSpec, PodTemplate
from conformance.facts.workloads import Workload
from conformance.gpu.taints import Taint, Toleration, tolerates

S = TypeVar("S", bound=PodSpec)

_OF_GKE = "cloud.google.com/gke-nodepool"
# Namespaces by default and API groups of those that change pods by rules of their own: kyverno.io (also policies.),
# mutations.gatekeeper.sh, kueue.x-k8s.io. GKE does for compute classes and sandboxes (cloud.google.com: About custom
# compute classes, GKE Sandbox).
_NAMESPACES_OF_MUTATORS = ("kyverno", "gatekeeper-system", "kueue-system", "openshift-kueue-operator")
_GROUPS_OF_MUTATORS = ("kyverno.io", "mutations.gatekeeper.sh", "kueue.x-k8s.io")


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


def changes_pods(nodes: Iterable[Node], namespaces: Iterable[str], crds: Iterable[str]) -> bool:
    """Whether a program is there that is known to change pods by rules of its own, whatever its webhooks cover."""
    return (
        any(name in _NAMESPACES_OF_MUTATORS for name in namespaces)
        or any(name.endswith(_GROUPS_OF_MUTATORS) for name in crds)
        or any(_OF_GKE in node.labels for node in nodes)
    )


def as_its_pods_are(
    workload: Workload, pods: Iterable[Pod], default_class: PriorityClass | None, members: Collection[str] = ANY
) -> PodTemplate:
    """The template of a workload with what all its pods have beside it, where they were made from this template.

    Of its ``members`` only: those that something changes which covers the workload's pods. ``default_class`` is the
    PriorityClass that pods get which name none. Where there is one, a template that names none is taken to get it,
    unless its pods are younger than it and have another one: it is then not what admission gives them.
    """
    template = workload.template
    living = [pod for pod in pods if not pod.finished and not pod.deleting]
    if not living or not _is_rolled_out(workload, len(living)) or not _ask_alike(template, living, _is_extended):
        return template
    first, others = living[0], living[1:]
    tolerated = [
        each
        for each in first.tolerations
        if each not in template.tolerations
        and not Taint(each.key, each.value, each.effect).is_lifecycle
        and all(each in pod.tolerations for pod in others)
    ]
    selected = set(first.node_selector.items())
    for pod in others:
        selected &= set(pod.node_selector.items())
    changed: dict[str, Any] = {
        "tolerations": (*template.tolerations, *tolerated),
        "node_selector": template.node_selector | dict(selected),
    }
    for member in ("runtime_class", "priority_class", "scheduler", "affinity"):
        given = getattr(first, member)
        if all(getattr(pod, member) == given for pod in others):
            changed[member] = given
    if default_class and not _is_given_another(living, default_class):
        changed.pop("priority_class", None)
    if _ask_alike(template, living, lambda _: True):
        changed |= {name: getattr(first, name) for name in ("containers", "init_containers", "volumes")}
    return msgspec.structs.replace(template, **{name: each for name, each in changed.items() if name in members})


def _is_given_another(pods: Iterable[Pod], default: PriorityClass) -> bool:
    """Whether pods that were created while a class was the default, as far as can be told, have another one."""
    return all(
        pod.priority_class not in ("", default.name)
        and pod.created is not None
        and default.created is not None
        and pod.created >= default.created
        for pod in pods
    )


def _is_rolled_out(workload: Workload, pods: int) -> bool:
    """Whether all pods are of the present template; that of a Job does not change once it has pods."""
    if workload.kind == "Job":
        return True
    seen = workload.observed_generation
    return workload.updated >= pods and (seen is None or workload.generation is None or seen >= workload.generation)


def _is_extended(resource: str) -> bool:
    return "/" in resource


def _ask_alike(template: PodTemplate, pods: Iterable[Pod], of: Callable[[str], bool]) -> bool:
    """Whether each pod has the template's containers, which ask for as much as there, beside what admission added.

    Nothing in a cluster may change what a pod asks of extended resources: pods that differ are of another template.
    """
    wanted = {each.name: _asked(each, of) for each in template.every_container}
    for pod in pods:
        there = {each.name: _asked(each, of) for each in pod.every_container}
        if not all(name in there and asked <= there[name] for name, asked in wanted.items()):
            return False
    return True


def _asked(container: Container, of: Callable[[str], bool]) -> set[tuple[str, str, str]]:
    members = {"requests": container.requests, "limits": container.limits}
    return {
        (member, name, str(amount)) for member, each in members.items() for name, amount in each.items() if of(name)
    }
