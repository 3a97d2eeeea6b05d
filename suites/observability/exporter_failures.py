"""Why a node has no Ready dcgm-exporter: the first operand that fails there, from the driver to the exporter."""

from collections.abc import Sequence
from contextlib import suppress

from conformance.facts import Facts, Pod
from conformance.reference.model import Reference
from conformance.verdict import Inconclusive, NotApplicable
from suites._shared.formatting import join_limited
from suites._shared.operand_status import ComponentFailure, Coverage, coverage_of
from suites._shared.operands import DRIVER, TOOLKIT, Component, ExpectedComponent, expected_components
from suites._shared.pod_status import what_to_do, why_not_ready
from suites._shared.pool_nodes import GpuPoolNode
from suites.observability.exporters import has_exporter

TITLE = "dcgm-exporter"
# An init container of the exporter (toolkit-validation) waits for the toolkit, which waits for the driver; with
# dcgm.enabled the exporter asks the host engine. Source: NVIDIA/gpu-operator v26.7.0, assets/state-dcgm-exporter.
_UP_TO_THE_EXPORTER = (DRIVER.title, TOOLKIT.title, "DCGM", TITLE)


_EXPORTER = Component(TITLE, TITLE)
_OF_THE_STACK = "Follow OPER-10: "


def why_no_exporter(member: GpuPoolNode, pods: Sequence[Pod], facts: Facts, reference: Reference) -> Coverage:
    """The failure for which none of ``pods``, the exporter's on the node, is Ready, or why it is not judged now."""
    coverage = _of_the_operator(member, bool(pods), facts, reference)
    failure = coverage.failure
    if coverage.not_judged or (failure is not None and failure.cause):
        return coverage
    if not pods:
        return _of_any_daemon_set(member, facts)
    cause = f"{pods[0]} is not Ready ({why_not_ready(pods[0])})"
    return Coverage(ComponentFailure(TITLE, cause, what_to_do(pods[0], facts)))


def _of_any_daemon_set(member: GpuPoolNode, facts: Facts) -> Coverage:
    """Why no DaemonSet of dcgm-exporter, of its own chart or of a platform, has a pod on the node."""
    running = tuple(
        each for each in facts.workloads if each.kind == "DaemonSet" and has_exporter(each.template.containers)
    )
    if not running:
        remedy = "Install dcgm-exporter, or declare dcgm_exporter: false where something else has the metrics of GPUs."
        return Coverage(ComponentFailure(TITLE, "no DaemonSet of the cluster runs dcgm-exporter", remedy))
    coverage = coverage_of([ExpectedComponent(_EXPORTER, running)], member.node, facts, found=False)
    failure = coverage.failure
    if failure is not None and failure.remedy.startswith(_OF_THE_STACK):
        named = join_limited([str(each) for each in running])
        remedy = (
            f"Give {named} the toleration (tolerations in the values of its chart) if the taint is declared to stay, "
            "or take the taint off."
        )
        return coverage._replace(failure=failure._replace(remedy=remedy))
    return coverage


def _of_the_operator(member: GpuPoolNode, has_pods: bool, facts: Facts, reference: Reference) -> Coverage:
    """What the operator's objects tell; nothing where another stack runs the exporter, or where they are unknown."""
    with suppress(Inconclusive, NotApplicable):
        needed = [
            each
            for each in expected_components(facts, reference)
            if each.component.title in _UP_TO_THE_EXPORTER and each.is_needed_on(member.pool, member.node)
        ]
        coverage = coverage_of(needed, member.node, facts, found=bool(needed) and not has_pods)
        failure = coverage.failure
        if failure is not None and failure.component != TITLE:
            cause = f"the {failure.component} does not work on the node: {failure.cause}"
            return Coverage(failure._replace(cause=cause))
        return coverage
    return Coverage()
