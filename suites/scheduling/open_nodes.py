"""Which nodes could take the pods of a workload: by its terms, by the taints that are there to stay, by its devices.

Affinity is not the only thing that keeps a pod off a node. A pod that asks for GPUs never comes to a node that has none
of that name, and a taint that it does not tolerate repels it; what is there today for other reasons (a cordon, a node
that is not Ready, a device plugin that is down) keeps nobody away for long, and does not count.
"""

from conformance.facts import Facts, Node
from conformance.facts.podspec import PodSpec
from conformance.reference.expected import offer_of
from conformance.reference.model import Reference
from suites._shared.gpu_requests import requests_gpus, resources_requested
from suites._shared.node_gpus import shows_gpus


def could_take(node: Node, template: PodSpec, namespace: str, reference: Reference, facts: Facts) -> bool:
    """Whether the scheduler would put a pod of a template on a node as its labels, taints and devices are meant."""
    if not template.selects(node) or node.repels(template.tolerations):
        return False
    if not requests_gpus(template, namespace, reference, facts):
        # Devices that neither the set-up nor we know by name are found where a device plugin offers them.
        return all(name in node.capacity for name in template.requests() if _is_extended(name))
    pool = reference.pool_of(node.labels)
    declared = offer_of(reference, pool).resources if pool is not None else {}
    if wanted := resources_requested(template, reference):
        return declared is None or all(name in declared or node.gpu_capacity(name) for name in wanted)
    return (pool is not None and pool.gpu is not None) or shows_gpus(node, reference, facts)


def _is_extended(resource: str) -> bool:
    """Whether a device plugin offers it: a name with a domain that is not Kubernetes' own.

    Source: https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/#extended-resources
    """
    domain, slash, _ = resource.partition("/")
    return bool(slash) and not domain.endswith("kubernetes.io")
