"""The next Kubernetes: whether kubelets, container runtimes and the GPU Operator of the cluster go with it.

The control plane is upgraded first, and serves old kubelets for a while. What does not go with it shows when the first
GPU node joins with the new version: a runtime that its kubelet refuses, an operator that was never tried with it.
"""

from collections.abc import Iterator

from conformance.catalog import MUST, SHOULD, requirement
from conformance.facts import Facts, Resource
from conformance.gpu.kubernetes_apis import NEWEST, taken_away
from conformance.gpu.kubernetes_releases import KUBELET_SKEW, LAST_WITH_CONTAINERD_1, containerd_in, release_in
from conformance.gpu.operator_releases import Minor, release_of, written
from conformance.reference.model import Reference
from conformance.subjects import ObjectReference
from conformance.verdict import Judge, NotApplicable, Unsupported
from suites._shared.operand_versions import dotted
from suites._shared.operator_resource import require_operator_resource
from suites._shared.pool_nodes import GpuPoolNode
from suites.upgrade.validated_releases import installed_operator, judge_kubernetes, running_kubernetes

_FEATURE = "kubernetes-upgrade"


@requirement(
    "UPG-27",
    "Kubernetes is upgraded by one minor release, and every kubelet may stay for it",
    level=MUST,
    feature=_FEATURE,
    sources=["k8s-skew"],
    remedy="Upgrade the control plane one minor release after the other, and nodes before their kubelets are too old.",
)
def test_no_minor_release_is_skipped(facts: Facts, target_kubernetes: Minor, judge: Judge) -> None:
    _judge_step(facts, target_kubernetes, judge)
    for node in facts.nodes:
        kubelet = release_in(node.kubelet)
        if kubelet is None:
            judge.pass_over(node, "its kubelet tells no version")
            continue
        behind = target_kubernetes[1] - kubelet[1]
        judge(
            node,
            ok=0 <= behind <= KUBELET_SKEW,
            expected=f"a kubelet at most {KUBELET_SKEW} minor releases older than {written(target_kubernetes)}",
            actual=f"kubelet {node.kubelet}",
            cause=f"its kubelet would be {abs(behind)} minor releases {'older' if behind > 0 else 'newer'} than that",
            hidden_because="the node stays Ready; what its kubelet does not understand fails pod by pod",
            inspect=f"kubectl get node {node.name} -o wide",
        )


@requirement(
    "UPG-28",
    "The GPU Operator that is installed was validated with the Kubernetes release that is to be installed",
    level=SHOULD,
    feature=_FEATURE,
    sources=["operator-platforms"],
    remedy="Upgrade the GPU Operator first, to a release that was validated with both.",
)
def test_the_operator_was_validated_with_the_target(
    facts: Facts, reference: Reference, target_kubernetes: Minor, judge: Judge
) -> None:
    operator_resource = require_operator_resource(facts, reference)
    version = installed_operator(facts)
    operator = release_of(version) if version else None
    if version is None or operator is None:
        which = f"GPU Operator v{dotted(version)}" if version else "the GPU Operator, whose version nothing tells,"
        raise Unsupported(f"with which Kubernetes {which} was validated is unknown")
    judge_kubernetes(operator_resource.subject, operator, target_kubernetes, judge)


@requirement(
    "UPG-29",
    "The Kubernetes release that is to be installed supports the container runtime of every GPU node",
    level=SHOULD,
    feature=_FEATURE,
    sources=["k8s-1.35-release"],
    remedy="Upgrade containerd to 2.x on these nodes first, drained, one after the other.",
)
def test_the_target_supports_the_runtimes(
    nvidia_pool_nodes: tuple[GpuPoolNode, ...], target_kubernetes: Minor, judge: Judge
) -> None:
    for node in (each.node for each in nvidia_pool_nodes):
        found = containerd_in(node.runtime)
        if found is None:
            judge.pass_over(node, f"its runtime is {node.runtime or 'not known'}, whose versions no table has")
            continue
        judge(
            node,
            ok=found[0] >= 2 or target_kubernetes <= LAST_WITH_CONTAINERD_1,
            expected=f"a runtime that Kubernetes {written(target_kubernetes)} supports",
            actual=node.runtime,
            cause=f"Kubernetes {written(LAST_WITH_CONTAINERD_1)} is the last release that supports containerd 1.x",
            hidden_because="the control plane is upgraded without a word; only the new kubelet asks more of it",
            inspect=f"kubectl get node {node.name} -o wide",
        )


@requirement(
    "UPG-31",
    "Every DRA object is written through an API version that the Kubernetes release to be installed still serves",
    level=MUST,
    feature=_FEATURE,
    sources=["k8s-deprecation-guide", "k8s-api-lifecycle"],
    remedy="Upgrade the program that writes it, the DRA driver for example, to a release that speaks the version that "
    "takes its place, and apply manifests again by that one.",
)
def test_no_writer_of_dra_objects_needs_a_removed_api(facts: Facts, target_kubernetes: Minor, judge: Judge) -> None:
    judge.without_subjects(NotApplicable("the cluster has no objects of DRA (resource.k8s.io)"))
    if target_kubernetes > NEWEST:
        raise Unsupported(
            f"what Kubernetes {written(target_kubernetes)} takes away is unknown: tables end at {written(NEWEST)} "
            "(docs/driver-knowledge.md)"
        )
    running, _ = running_kubernetes(facts)
    for each in _dra_objects(facts):
        leaving = taken_away(each.kind, running, target_kubernetes)
        if leaving and not each.writers:
            judge.pass_over(each, "no managed fields tell through which API version it is written")
            continue
        lost = [(writer, leaving[writer.api_version]) for writer in each.writers if writer.api_version in leaving]
        told = "; ".join(
            f"{writer.program or 'a program'} writes it through {row.version}, which Kubernetes {written(row.gone_in)} "
            f"no longer serves: {row.instead} takes its place"
            for writer, row in lost
        )
        judge(
            each,
            ok=not lost,
            expected=f"API versions that Kubernetes {written(target_kubernetes)} serves",
            actual=", ".join(sorted({writer.api_version for writer in each.writers}))
            or f"none goes between {written(running)} and that",
            cause=told,
            hidden_because="objects that are there stay readable; only the next write of that program is refused",
            inspect=f"kubectl get {each.kind.lower()} -A --show-managed-fields -o yaml",
        )


def _dra_objects(facts: Facts) -> Iterator[Resource]:
    yield from facts.device_classes
    yield from facts.resource_slices
    yield from facts.resource_claim_templates
    yield from facts.resource_claims


def _judge_step(facts: Facts, target: Minor, judge: Judge) -> None:
    server = ObjectReference.of("APIServer", "kubernetes", text="the API server")
    running, told = running_kubernetes(facts)
    steps = target[1] - running[1]
    if not told and steps > 1:
        judge.pass_over(server, f"its version is not told; the newest kubelet is of {written(running)}")
        return
    judge(
        server,
        ok=steps in (0, 1),
        expected=f"Kubernetes {written(target)} is the release that runs, or the next one",
        actual=f"Kubernetes {facts.server_version}" if told else f"its newest kubelet is of {written(running)}",
        cause="it would go back" if steps < 0 else f"it would skip {steps - 1} minor releases",
        inspect="kubectl version",
    )
