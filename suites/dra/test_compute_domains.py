"""ComputeDomains: GPU memory that pods of several nodes share over Multi-Node NVLink (IMEX).

The DRA driver starts an IMEX daemon on each node to which a pod of the domain comes, and holds the pod until that
daemon is Ready. A domain fails quietly: its pods stay in ContainerCreating, or run and find that memory of other nodes
cannot be mapped, because a node has not registered with the NVLink fabric. The pods' side of it is what explain-pod
tells.
"""

import re
from collections import defaultdict
from collections.abc import Iterator

from conformance.catalog import MUST, requirement
from conformance.facts import Facts, Node
from conformance.gpu.labels import GPU_CLIQUE, GPU_PRODUCT
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Judge, NotApplicable, Waits
from suites._shared.grace import joined_just_now, why_unavailable
from suites._shared.pool_nodes import GpuPoolNode
from suites.dra.compute_domains import (
    DOMAIN_LABEL,
    Domain,
    DomainFailure,
    compute_domains,
    failure_with,
    failures_on_nodes,
    why_not_judged,
    why_still_forming,
)

# docs.nvidia.com: NVIDIA GPU Operator, DRA Driver (prerequisites): Multi-Node NVLink, such as GB200 NVL72, GB300 NVL72.
_MULTI_NODE_NVLINK = re.compile(r"\bGB[23]00\b")


@requirement(
    "DRA-18",
    "Every ComputeDomain whose pods have nodes is Ready, with a Ready IMEX daemon on each of these nodes",
    level=MUST,
    sources=["dra-driver", "dra-driver-289", "dra-driver-524", "dra-driver-767"],
    remedy="Fix the cause that the finding names: the daemon of the node, the controller of ComputeDomains, or the "
    "domain's numNodes.",
)
def test_every_compute_domain_is_ready(facts: Facts, judge: Judge) -> None:
    domains = compute_domains(facts)
    broken = [each for domain in domains for each in _broken_in(domain, facts, judge)]
    judge(
        ObjectReference.many("ComputeDomain", f"{len(domains)} ComputeDomains"),
        ok=not broken,
        expected="Ready, or waiting for pods or nodes",
        actual=list(dict.fromkeys(str(domain) for domain, _, _ in broken)) or "so",
    )
    for domain, node, failure in broken:
        judge(
            node or domain,
            ok=False,
            expected=f"a Ready IMEX daemon of {domain}" if node else "Ready, as its daemons are",
            actual=failure.seen,
            cause=failure.cause,
            hidden_because="the pods of the domain stay in ContainerCreating; the node looks like any other"
            if node
            else "its pods stay in ContainerCreating, and no event of it says why",
            remedy=failure.remedy,
            inspect=f"kubectl get pods -A -o wide -l {DOMAIN_LABEL}={domain.resource.uid}"
            if node
            else f"kubectl get computedomain -n {domain.resource.namespace} {domain.resource.name} -o yaml",
        )


def _broken_in(domain: Domain, facts: Facts, judge: Judge) -> Iterator[tuple[Domain, Node | None, DomainFailure]]:
    """What is wrong with a domain: on which of its nodes, or with itself where its nodes are well."""
    well = True
    for each, failure in failures_on_nodes(domain, facts):
        well = False
        if passing := why_not_judged(each, domain, facts):
            judge.pass_over(each.node, passing)
        else:
            yield domain, each.node, failure
    of_its_own = failure_with(domain, facts) if well else None
    if of_its_own is None:
        return
    if forming := why_still_forming(domain, facts):
        judge.pass_over(domain, forming)
    else:
        yield domain, None, of_its_own


@requirement(
    "DRA-19",
    "Nodes with Multi-Node NVLink have the label nvidia.com/gpu.clique, as others of their pool or ComputeDomain",
    level=MUST,
    sources=["operator-dra", "gpu-feature-discovery"],
    remedy="See on the node whether its GPUs have registered with the NVLink fabric (nvidia-smi -q: Fabric, State "
    "Completed, Status Success). If not, look at the rack's NVLink switches, NMX or fabric manager; if so, restart the "
    "pod of GPU Feature Discovery there (or the DRA driver's kubelet plugin, where that sets the label).",
)
def test_every_node_of_multi_node_nvlink_has_a_clique(
    gpu_pool_nodes: tuple[GpuPoolNode, ...], facts: Facts, judge: Judge
) -> None:
    judge.without_subjects(
        NotApplicable("no node has the label nvidia.com/gpu.clique, and no ComputeDomain has nodes that should")
    )
    in_domains = _nodes_in_domains(facts)
    alike: dict[tuple[str, str], dict[str, Node]] = defaultdict(dict)
    for pool, node, _ in gpu_pool_nodes:
        alike[pool.name, node.labels.get(GPU_PRODUCT, "")][node.name] = node
    cliqued = {key for key, nodes in alike.items() if any(GPU_CLIQUE in node.labels for node in nodes.values())}
    for (pool_name, product), nodes in alike.items():
        for node in nodes.values():
            expected = (pool_name, product) in cliqued
            multi_node = node.name in in_domains and _MULTI_NODE_NVLINK.search(product)
            unlabelled = not (expected or product) and any(name == pool_name for name, _ in cliqued)
            if expected or multi_node or unlabelled:
                _judge_clique(node, facts, judge, in_domains.get(node.name), unlabelled=unlabelled)


def _judge_clique(node: Node, facts: Facts, judge: Judge, domain: Domain | None, *, unlabelled: bool) -> None:
    clique = node.labels.get(GPU_CLIQUE, "")
    if not clique:
        if passing := why_unavailable(node, facts) or ("it joined just now" if joined_just_now(node, facts) else ""):
            judge.pass_over(node, passing)
            return
        if unlabelled:
            judge.pass_over(node, Waits(f"it has no label {GPU_PRODUCT} of GPU Feature Discovery", on="OPER-11"))
            return
    of_domain = f", and {domain} has it" if domain else ""
    judge(
        node,
        ok=bool(clique),
        expected=f"the label {GPU_CLIQUE}",
        actual=clique or "no such label",
        cause=f"its GPUs were not in a partition of the NVLink fabric when the label was to be set{of_domain}",
        hidden_because="the IMEX daemon of such a node says that it is Ready and connects to no other; GPU memory of "
        "other nodes cannot be mapped, or NCCL takes the network instead",
        inspect=f"kubectl get nodes -L {GPU_CLIQUE}",
    )


def _nodes_in_domains(facts: Facts) -> dict[str, Domain]:
    """The nodes of ComputeDomains by name; none where there are none, or they could not be read."""
    try:
        domains = compute_domains(facts)
    except (Inconclusive, NotApplicable):
        return {}
    return {each.node.name: domain for domain in domains for each in domain.joined}
