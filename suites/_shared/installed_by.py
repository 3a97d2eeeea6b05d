"""Who installed the GPU Operator and Node Feature Discovery, and so where their settings are changed.

A change of an object is undone by whoever made it: a release of Helm with its next upgrade, OLM at once. Whoever
installed by OLM has no Helm values, and edits the ClusterPolicy itself.
Sources: operator-framework/operator-lifecycle-manager: labels olm.owner and olm.owner.kind of what a
ClusterServiceVersion owns, doc/design/subscription-config.md (spec.config.resources);
kubernetes-sigs/node-feature-discovery-operator, api/v1 and internal/daemonset (NodeFeatureDiscovery owns its workers,
spec.operand.workerTolerations); helm.sh: Standard Labels; NVIDIA GPU Operator: Troubleshooting (memory).
"""

from conformance.facts import Facts, Resource, Workload

_OLM_OWNER = ("olm.owner.kind", "ClusterServiceVersion")
_HELM = ("app.kubernetes.io/managed-by", "Helm")
_DISCOVERY, _DISCOVERY_RESOURCE = "node-feature-discovery", "NodeFeatureDiscovery"
_ENOUGH = "350Mi are too little from about 300 nodes on, 1400Mi are not."


def is_by_olm(workload: Workload) -> bool:
    """Whether OLM installed a workload."""
    key, value = _OLM_OWNER
    return workload.labels.get(key) == value


def operator_deployments(facts: Facts) -> tuple[Workload, ...]:
    """The Deployments of the GPU Operator."""
    places = (place.partition("/") for place in facts.stack.operators)
    found = (facts.workload("Deployment", namespace, name) for namespace, _, name in places)
    return tuple(each for each in found if each is not None)


def how_to_set(resource: Resource, facts: Facts) -> str:
    """How a field of an operator's object is changed for good; empty where a Helm release has it in its values."""
    if resource.labels.get(_HELM[0]) == _HELM[1]:
        return ""
    by_olm = any(is_by_olm(each) for each in operator_deployments(facts))
    if not by_olm and resource.kind != "NVIDIADriver":
        return ""
    command = f"kubectl edit {resource.kind.lower()} {resource.name}"
    return f"Set the field in the object itself ({command}), or where it is applied from: no Helm release owns it."


def how_to_install(workload: Workload, version: str) -> str:
    """How another version of a workload's release is installed."""
    if is_by_olm(workload):
        return f"Let OLM install {version} (channel of the Subscription, approval of its InstallPlan)"
    return f"Upgrade the release to {version}"


def how_to_give_the_operator_memory(facts: Facts) -> str:
    """Where the memory limit of the GPU Operator is raised."""
    if any(is_by_olm(each) for each in operator_deployments(facts)):
        return (
            "Raise spec.config.resources.limits.memory of the operator's Subscription: OLM undoes a change of the "
            f"Deployment. {_ENOUGH}"
        )
    return f"Raise operator.resources.limits.memory: the chart's {_ENOUGH}"


def where_discovery_tolerates(workload: Workload, facts: Facts) -> str:
    """The setting that gives the worker of Node Feature Discovery its tolerations."""
    if workload.owner_kind == _DISCOVERY_RESOURCE:
        return f"spec.operand.workerTolerations of {_DISCOVERY_RESOURCE} {workload.owner_name}"
    if workload.namespace in {each.namespace for each in operator_deployments(facts)}:
        return f"{_DISCOVERY}.worker.tolerations"
    if _DISCOVERY in workload.name or workload.labels.get(_HELM[0]) == _HELM[1]:
        return f"worker.tolerations of the chart {_DISCOVERY}"
    return "tolerations"
