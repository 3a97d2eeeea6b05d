"""How GPU nodes are found and marked: by Node Feature Discovery, and by the labels of the operator."""

from conformance.facts import Facts, Node
from conformance.gpu.labels import DEPLOY, DEPLOY_OPERANDS, NFD, PCI_PRESENT, WORKLOAD_CONFIG
from conformance.reference.model import Pool
from suites._shared.operand_status import trouble_on, undiscovered
from suites._shared.operands import (
    CONTAINER,
    ON,
    PRE_INSTALLED,
    Component,
    Nodes,
    Part,
    components_of,
    discovery_masters,
    discovery_workers,
)
from suites._shared.operator_resource import Root
from suites._shared.upgrade_states import is_changing

_PCI, _NVIDIA = f"{NFD}pci-", "10de"
_WORKER = Component("worker of node feature discovery", "node-feature-discovery-worker")


def why_undiscovered(node: Node, facts: Facts) -> str:
    """The cause between a node's GPUs and its labels."""
    trouble = undiscovered(node, facts.taken_at)
    if trouble is None or any(node.labels.get(label) == ON for label in PCI_PRESENT):
        return trouble.link if trouble else ""
    other = next((key for key in sorted(node.labels) if key.startswith(_PCI) and _NVIDIA in key), "")
    if other and other not in PCI_PRESENT:
        return f"the label is called {other}: deviceLabelFields of feature discovery has more than vendor"
    workers = discovery_workers(facts)
    if not workers:
        return "the cluster has no worker of node feature discovery (nfd.enabled)"
    on_node = trouble_on(Part(_WORKER, workers), node, facts)
    if on_node is not None:
        return on_node.link
    idle = [master for master in discovery_masters(facts) if not master.available]
    if idle:
        return f"{idle[0]} has no available pod, and only it writes labels"
    return "the worker runs here, and the label is not written: see its log and the node's NodeFeature object"


def undeclared_labels(pool: Pool, node: Node, root: Root) -> dict[str, str]:
    """The labels of a node that keep components off it, though its pool does not declare them.

    None while a driver upgrade or a change of MIG is under way, and none of components that are switched off anyway.
    An empty label counts only where it keeps a component of containers off: the driver manager writes such labels for
    every component that the node does not have.
    """
    if is_changing(node):
        return {}
    idle = {f"{DEPLOY}{each.deploy}" for each in components_of(root) if not each.is_wanted(root, 1)}
    idle -= {f"{DEPLOY}{each.deploy}" for each in components_of(root) if each.is_wanted(root, 1)}
    of_containers = {f"{DEPLOY}{each.deploy}" for each in components_of(root) if each.nodes is not Nodes.VIRTUAL}
    found = {
        key: value
        for key, value in node.labels.items()
        if key.startswith(DEPLOY)
        and value not in (ON, PRE_INSTALLED)
        and key not in idle
        # NVIDIA/k8s-driver-manager, cmd/driver-manager/main.go (evictAllGPUOperatorComponents): nvsm, for one.
        and (value or key in of_containers)
    }
    purpose = node.labels.get(WORKLOAD_CONFIG, CONTAINER)
    if root.enabled("sandboxWorkloads") and purpose != CONTAINER:
        found[WORKLOAD_CONFIG] = purpose
    kept_off = pool.labels.get(DEPLOY_OPERANDS, ON) != ON
    return {} if kept_off else {key: value for key, value in found.items() if pool.labels.get(key) != value}
