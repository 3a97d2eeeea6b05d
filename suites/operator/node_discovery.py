"""How GPU nodes get their labels: from Node Feature Discovery and from the operator."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from conformance.facts import Facts, Node, Workload
from conformance.gpu.labels import DEPLOY, DEPLOY_OPERANDS, NFD, PCI_PRESENT, WORKLOAD_CONFIG
from conformance.reference.model import Pool
from suites._shared.grace import is_changing
from suites._shared.operand_status import discovery_failure, worker_failure
from suites._shared.operands import (
    CONTAINER,
    ON,
    PRE_INSTALLED,
    Nodes,
    components_of,
    discovery_masters,
    discovery_workers,
)
from suites._shared.operator_resource import OperatorResource

_PCI, _NVIDIA = f"{NFD}pci-", "10de"


def why_undiscovered(node: Node, facts: Facts) -> str:
    """Why a node with GPUs lacks the labels of discovery."""
    failure = discovery_failure(node, facts.taken_at)
    if failure is None or any(node.labels.get(label) == ON for label in PCI_PRESENT):
        return failure.cause if failure else ""
    other = next((key for key in sorted(node.labels) if key.startswith(_PCI) and _NVIDIA in key), "")
    if other and other not in PCI_PRESENT:
        return f"the label is called {other}: deviceLabelFields of Node Feature Discovery has more than vendor"
    workers = discovery_workers(facts)
    if not workers:
        return "the cluster has no worker of Node Feature Discovery (nfd.enabled)"
    on_node = worker_failure(node, facts)
    if on_node is not None:
        return on_node.cause
    unavailable = [master for master in discovery_masters(facts) if not master.available]
    if unavailable:
        return f"{unavailable[0]} has no available pod, and only the master sets labels"
    return "the worker runs here, and the label is not set: see its log and the node's NodeFeature object"


class DiscoveryGap(NamedTuple):
    """A part of Node Feature Discovery that is there and does nothing, or that another part needs and that is gone."""

    workload: Workload
    state: str
    remedy: str


def discovery_gaps(facts: Facts, nodes: Sequence[Node]) -> Iterator[DiscoveryGap]:
    """Why new GPU nodes would get no labels, though Node Feature Discovery is installed; ``nodes`` are those of today.

    Nodes keep the labels that they have. Where no part of it is installed, the owners set labels themselves; parts
    whose pods crash or are kept off by taints are judged elsewhere.
    """
    masters, workers = discovery_masters(facts), discovery_workers(facts)
    for master in masters:
        if not master.replicas:
            scale = f"Scale it up again: kubectl scale deployment -n {master.namespace} {master.name} --replicas=1."
            yield DiscoveryGap(master, "scaled to 0 replicas", scale)
    for worker in workers:
        if nodes and not worker.scheduled and not any(worker.template.selects(node) for node in nodes):
            remedy = "Correct nodeSelector and affinity where it is installed from (node-feature-discovery.worker)."
            yield DiscoveryGap(worker, "nodeSelector or affinity that no GPU node matches", remedy)
    if masters and not workers:
        remedy = "Install Node Feature Discovery again as it was: helm upgrade of the chart that brought its master."
        yield DiscoveryGap(masters[0], "a master without any DaemonSet of workers", remedy)


def undeclared_labels(pool: Pool, node: Node, operator_resource: OperatorResource, facts: Facts) -> dict[str, str]:
    """The labels of a node that disable components there, though its pool does not declare them.

    None while a driver upgrade or a change of MIG is under way, and none of components that are disabled anyway.
    An empty label counts only where it disables a component for containers: the driver manager sets such labels for
    every component that the node does not have.
    """
    if is_changing(node, facts):
        return {}
    disabled, of_containers = _labels_of(operator_resource)
    found = {
        key: value
        for key, value in node.labels.items()
        if key.startswith(DEPLOY)
        and value not in (ON, PRE_INSTALLED)
        and key not in disabled
        # NVIDIA/k8s-driver-manager, cmd/driver-manager/main.go (evictAllGPUOperatorComponents): nvsm, for one.
        and (value or key in of_containers)
    }
    purpose = node.labels.get(WORKLOAD_CONFIG, CONTAINER)
    if operator_resource.enabled("sandboxWorkloads") and purpose != CONTAINER:
        found[WORKLOAD_CONFIG] = purpose
    operands_disabled = pool.labels.get(DEPLOY_OPERANDS, ON) != ON
    return {} if operands_disabled else {key: value for key, value in found.items() if pool.labels.get(key) != value}


def how_to_bring_back(node: Node, labels: Mapping[str, str], operator_resource: OperatorResource) -> str:
    """The command that lets the operands of undeclared labels come back.

    The operator does not watch the label of one operand: one that is removed stays away until something else has it
    label the node (controllers/nodelabeling_controller.go, needsUpdate), so it is set. It watches the others.
    """
    _, of_containers = _labels_of(operator_resource)
    changes = " ".join(f"{key}={ON}" if key in of_containers else f"{key}-" for key in labels)
    return f"kubectl label node {node.name} --overwrite {changes}"


# Asked for each node of thousands; a run has one operator resource.
@lru_cache(maxsize=1)
def _labels_of(operator_resource: OperatorResource) -> tuple[frozenset[str], frozenset[str]]:
    """The labels of components that are disabled anyway, and those of components for containers."""
    wanted: set[str] = set()
    unwanted: set[str] = set()
    of_containers: set[str] = set()
    for component in components_of(operator_resource):
        label = f"{DEPLOY}{component.deploy}"
        (wanted if component.is_wanted(operator_resource, 1) else unwanted).add(label)
        if component.nodes is not Nodes.VIRTUAL:
            of_containers.add(label)
    return frozenset(unwanted - wanted), frozenset(of_containers)
