"""The next GPU Operator: whether the way there is supported, and whether it takes the cluster as it is.

Helm installs any version over any other. What was skipped, or is not supported any more, shows when the operator is
there: operands that do not start, a field that no longer has an effect, a Kubernetes that it was never tried with.
"""

from collections.abc import Iterator

from conformance.catalog import MUST, SHOULD, requirement
from conformance.facts import Facts, Node
from conformance.gpu.drivers import DriverVersion, Support, lifecycle
from conformance.gpu.kubernetes_releases import containerd_in
from conformance.gpu.operator_releases import (
    CONTAINERD_GAP,
    IGNORED_FIELDS,
    OperatorRelease,
    between,
    release_of,
    written,
)
from conformance.reference.model import Reference
from conformance.subjects import ObjectReference
from conformance.verdict import Judge, NotApplicable, Unsupported
from suites._shared.node_gpus import driver
from suites._shared.operand_versions import Version, dotted
from suites._shared.operator_resource import OperatorResource, require_operator_resource
from suites._shared.pool_nodes import GpuPoolNode
from suites.upgrade.driver_settings import setting
from suites.upgrade.upgrade_groups import UpgradeGroup
from suites.upgrade.validated_releases import installed_operator, judge_kubernetes, running_kubernetes

_FEATURE = "operator-upgrade"


@requirement(
    "UPG-22",
    "The GPU Operator goes to a patch of its own release or to the next release, and skips none",
    level=MUST,
    feature=_FEATURE,
    sources=["operator-upgrade", "operator-matrix"],
    remedy="Upgrade through each release on the way, one after the other, and wait until all operands are well again.",
)
def test_no_release_is_skipped(facts: Facts, reference: Reference, target_operator: Version, judge: Judge) -> None:
    operator_resource = require_operator_resource(facts, reference)
    installed, obstacle = _installed(facts), ""
    # That it would go back needs no table.
    older = target_operator < installed
    skipped = () if older else between(installed, _release(target_operator).release)
    if older:
        obstacle = f"v{dotted(target_operator)} is older than the operator that is installed"
    elif skipped:
        obstacle = f"it would skip {', '.join(map(str, skipped))}"
    judge(
        operator_resource,
        ok=not obstacle,
        expected=f"v{dotted(target_operator)} is of the release that is installed, or of the next one",
        actual=f"operator v{dotted(installed)}" + (f": {obstacle}" if obstacle else ""),
        cause=obstacle,
        hidden_because="Helm installs any version over any other",
        inspect="kubectl get deployments -A -l app=gpu-operator -o wide",
    )


@requirement(
    "UPG-23",
    "The GPU Operator that is to be installed was validated with the Kubernetes release of the cluster",
    level=SHOULD,
    feature=_FEATURE,
    sources=["operator-platforms"],
    remedy="Upgrade Kubernetes first where the operator wants a newer one; else keep the operator that takes it.",
)
def test_the_target_was_validated_with_kubernetes(
    facts: Facts, reference: Reference, target_operator: Version, judge: Judge
) -> None:
    require_operator_resource(facts, reference)
    target, (running, _) = _release(target_operator), running_kubernetes(facts)
    judge_kubernetes(ObjectReference.of("APIServer", "kubernetes", text="the API server"), target, running, judge)


@requirement(
    "UPG-24",
    "The GPU Operator that is to be installed was validated with the container runtime of every GPU node",
    level=SHOULD,
    feature=_FEATURE,
    sources=["operator-platforms"],
    remedy="Upgrade containerd on these nodes first.",
)
def test_the_target_was_validated_with_the_runtimes(
    facts: Facts,
    reference: Reference,
    nvidia_pool_nodes: tuple[GpuPoolNode, ...],
    target_operator: Version,
    judge: Judge,
) -> None:
    require_operator_resource(facts, reference)
    first, last = _release(target_operator).containerd
    for node in (each.node for each in nvidia_pool_nodes):
        found = containerd_in(node.runtime)
        if found is None:
            judge.pass_over(node, f"its runtime is {node.runtime or 'not known'}, whose versions no table has")
            continue
        if found == CONTAINERD_GAP[0] < first < CONTAINERD_GAP[1]:
            named, before = written(first), written(found)
            judge.pass_over(node, f"NVIDIA names containerd {named}, which does not exist: {before} may be meant")
            continue
        judge(
            node,
            ok=first <= found <= last,
            expected=f"containerd {written(first)} to {written(last)}",
            actual=node.runtime,
            cause=f"operator v{dotted(target_operator)} was validated with containerd {written(first)} to "
            f"{written(last)}, and the node has {node.runtime}",
            hidden_because="the toolkit writes its configuration whatever the runtime makes of it",
            inspect=f"kubectl get node {node.name} -o wide",
        )


@requirement(
    "UPG-25",
    "The GPU Operator that is to be installed is documented for the driver branch of every node that it manages",
    level=SHOULD,
    feature=_FEATURE,
    sources=["operator-matrix"],
    remedy="Upgrade the drivers first, with the operator that is installed, to a branch that both of them list.",
)
def test_the_target_is_documented_for_the_drivers(
    facts: Facts, reference: Reference, groups: tuple[UpgradeGroup, ...], target_operator: Version, judge: Judge
) -> None:
    operator_resource, target = require_operator_resource(facts, reference), _release(target_operator)
    for node in (node for group in groups for node in group.nodes):
        wanted = _wanted_driver(node, operator_resource, facts)
        if wanted is None:
            judge.pass_over(node, "neither its driver's settings nor a label tell a driver version")
            continue
        listed = wanted.branch in target.branches
        if not listed and lifecycle(wanted, facts.taken_at.date()).support is not Support.ENDED:
            judge.pass_over(
                node, f"the matrix of {target} has no driver of R{wanted.branch}, which is not known to end"
            )
            continue
        judge(
            node,
            ok=listed,
            expected=f"a driver of a branch that the matrix of {target} has",
            actual=f"driver {wanted}",
            cause=f"the matrix of {target} has no driver of R{wanted.branch}, and NVIDIA has ended that branch",
            hidden_because="the new operator keeps the old driver until its pod is replaced",
            inspect=f"kubectl get node {node.name} -o yaml",
        )


@requirement(
    "UPG-26",
    "No field that is set in the ClusterPolicy loses its effect with the GPU Operator that is to be installed",
    level=MUST,
    feature=_FEATURE,
    sources=["operator-policy-types"],
    remedy="Set what takes its place before the upgrade.",
)
def test_no_field_loses_its_effect(facts: Facts, reference: Reference, target_operator: Version, judge: Judge) -> None:
    operator_resource = require_operator_resource(facts, reference)
    if operator_resource.kind != "ClusterPolicy":
        raise NotApplicable(f"{operator_resource} is no ClusterPolicy")
    installed, target = _installed(facts), _release(target_operator)
    for field in IGNORED_FIELDS:
        loses = installed[:2] < field.since <= target.release
        used = operator_resource.at(field.path) is True and not _replaced(field.path, operator_resource)
        judge(
            operator_resource.subject.only(field.path),
            ok=not (loses and used),
            expected="not set, or with an effect before and after",
            actual=f"{operator_resource.at(field.path)}",
            cause=f"{field.path} has no effect from v{written(field.since)} on: it takes {field.instead}",
            hidden_because="the field stays in the object, and no message says that nobody reads it",
            inspect=operator_resource.inspect,
        )


def _installed(facts: Facts) -> Version:
    """The operator that is installed. Raises Unsupported where nothing tells its version."""
    version = installed_operator(facts)
    if version is None:
        raise Unsupported("no image tag or label tells which version of the GPU Operator is installed")
    return version


def _release(version: Version) -> OperatorRelease:
    """The release of a version. Raises Unsupported for one that the tables do not know."""
    found = release_of(version)
    if found is None:
        raise Unsupported(f"the tables do not know GPU Operator v{dotted(version)} (docs/driver-knowledge.md)")
    return found


def _wanted_driver(node: Node, operator_resource: OperatorResource, facts: Facts) -> DriverVersion | None:
    for told in _told_drivers(node, operator_resource, facts):
        try:
            return DriverVersion.parse(told)
        except ValueError:
            continue
    return None


def _told_drivers(node: Node, operator_resource: OperatorResource, facts: Facts) -> Iterator[str]:
    yield str(setting("version", node, operator_resource, facts) or "")
    yield driver(node)


def _replaced(path: str, operator_resource: OperatorResource) -> bool:
    """Whether what takes the place of a field says the same already."""
    return path == "driver.useOpenKernelModules" and operator_resource.at("driver.kernelModuleType") == "open"
