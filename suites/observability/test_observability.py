"""Observability: whether dcgm-exporter reports every GPU, and reports it truly.

Alerts, bills and capacity plans stand on one program, dcgm-exporter, and they go quiet, not red, when it does: a node
without exporter has no utilisation at all, which a dashboard draws as a gap; a page without pods leaves every GPU
without owner; an XID that is remembered and not counted rings once. So each exporter is asked, through the API server,
and its page is compared with the declaration and with what a GPU can be.
"""

import time
from collections.abc import Iterable

import pytest

from conformance.catalog import MAY, MUST, OCCUPIES_IDLE_GPUS, ON_NO_NODE, OWN_NAMESPACE, SHOULD, requirement
from conformance.facts import Facts
from conformance.gpu import dcgm
from conformance.kube.errors import WaitTimeout
from conformance.kube.timeouts import Timeouts
from conformance.kube.waits import wait_for
from conformance.lab import RequirementLab
from conformance.reference.expected import driver_of, gpus_of, offer_of
from conformance.reference.model import Reference
from conformance.verdict import Inconclusive, Judge, NotApplicable, Unsupported, Waits, expect, format_value
from suites._shared.formatting import join_limited
from suites._shared.operand_status import Coverage, why_still_starting
from suites._shared.operator_resource import find_operator_resource
from suites._shared.pod_status import why_not_ready
from suites._shared.pool_nodes import GpuPoolNode
from suites.observability.exporter_failures import why_no_exporter
from suites.observability.exporters import (
    ASKED_OF_A_POOL,
    Answer,
    Exporter,
    ask,
    exporter_pods,
    exporters_expected,
    metrics_command,
    monitored,
    pages,
    ready_exporters,
)
from suites.observability.page_gaps import Gaps, gaps_of

# Between two scrapes; by default exporters collect every 30 seconds.
_BETWEEN_SCRAPES = 1.0


@pytest.fixture
def monitored_nodes(
    facts: Facts, reference: Reference, nvidia_pool_nodes: tuple[GpuPoolNode, ...]
) -> tuple[GpuPoolNode, ...]:
    """The GPU nodes for containers, where dcgm-exporter is declared and no label of the owners disables it."""
    exporters_expected(reference)
    operator_resource = find_operator_resource(facts)
    nodes = tuple(each for each in nvidia_pool_nodes if monitored(each.pool, operator_resource))
    if not nodes:
        raise NotApplicable("every GPU pool is for virtual machines, or its labels disable dcgm-exporter")
    return nodes


@pytest.fixture
def exporters(facts: Facts, monitored_nodes: tuple[GpuPoolNode, ...], judge: Judge) -> tuple[Exporter, ...]:
    """The ready exporters that are scraped."""
    asked = ready_exporters(facts, monitored_nodes)
    names = {each.node.name for each in asked}
    for _, node, _ in monitored_nodes:
        if node.name not in names:
            has_one = any(pod.ready for pod in exporter_pods(facts, node))
            others = f"{ASKED_OF_A_POOL} other exporters of its pool were scraped"
            judge.pass_over(node, others if has_one else Waits("it has no ready dcgm-exporter", on="OBS-01"))
    return asked


@requirement(
    "OBS-01",
    "Every GPU node has a Ready dcgm-exporter pod",
    level=MUST,
    sources=["guide-2", "dcgm-exporter", "operator-troubleshooting"],
    remedy="Fix the cause that the finding names: the exporter needs the node's taints tolerated, a driver, and its "
    "host engine (with dcgm.enabled the service nvidia-dcgm on port 5555, which a NetworkPolicy can block).",
)
def test_every_gpu_node_has_an_exporter(
    facts: Facts, reference: Reference, monitored_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    for member in monitored_nodes:
        node, pods = member.node, exporter_pods(facts, member.node)
        ready = [pod for pod in pods if pod.ready]
        coverage = Coverage() if ready else why_no_exporter(member, pods, facts, reference)
        not_judged = "" if ready else why_still_starting(node, facts, pods=pods) or coverage.not_judged
        if not_judged:
            judge.pass_over(node, not_judged)
            continue
        failure = coverage.failure
        judge(
            node,
            ok=bool(ready),
            expected="a Ready pod of dcgm-exporter",
            actual=ready or [f"{pod} is not Ready ({why_not_ready(pod)})" for pod in pods] or "none",
            cause=failure.cause if failure else "",
            hidden_because="a node without dcgm-exporter has no metrics, and dashboards show a gap instead of an error",
            remedy=failure.remedy if failure else "",
            inspect=f"kubectl get pods -A -o wide --field-selector spec.nodeName={node.name}",
        )


@requirement(
    "OBS-02",
    "dcgm-exporter reports every declared GPU with every declared metric",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    sources=["dcgm-exporter-counters", "dcgm-exporter-250"],
    remedy="Enable the metric in the exporter's ConfigMap; for a GPU that is missing look for its XID and at POOL-04.",
)
def test_every_gpu_is_reported(
    exporters: tuple[Exporter, ...], reference: Reference, lab: RequirementLab, judge: Judge
) -> None:
    wanted = reference.stack.metrics.names if reference.stack is not None else ()
    for exporter, answer in ask(lab, exporters, judge):
        _judge_page(exporter, answer, wanted, reference, judge)


@requirement(
    "OBS-03",
    "dcgm-exporter metrics are within physical limits, and counters do not decrease",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    sources=["dcgm-exporter", "dcgm-fields"],
    remedy="Restart the exporter's pod on the node; if the values stay, take the GPU out of service and diagnose it.",
)
def test_values_are_plausible(exporters: tuple[Exporter, ...], lab: RequirementLab, judge: Judge) -> None:
    before = pages(ask(lab, exporters, judge), judge)
    time.sleep(_BETWEEN_SCRAPES)
    earlier = {exporter.node.name: page for exporter, page in before}
    for exporter, page in pages(ask(lab, [exporter for exporter, _ in before], judge), judge):
        implausible = [
            *dcgm.implausible(earlier[exporter.node.name], exporter.gpu.memory_mib),
            *dcgm.implausible(page, exporter.gpu.memory_mib),
            *dcgm.went_down(earlier[exporter.node.name], page),
        ]
        judge(
            exporter.node,
            ok=not implausible,
            expected="values within physical limits, consistent memory, counters that do not decrease",
            actual=join_limited([str(each) for each in dict.fromkeys(implausible)], apart="; ")
            if implausible
            else "such values",
            cause=str(implausible[0]) if implausible else "",
            hidden_because="a wrong value looks like any other: it is averaged, billed and used in alerts",
            inspect=metrics_command(exporter),
        )


@requirement(
    "OBS-04",
    "dcgm-exporter attributes a device that a pod holds to that pod",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=["dcgm-exporter-58", "dcgm-exporter-138", "dcgm-exporter-272", "operator-time-slicing"],
    remedy="Mount the kubelet's pod-resources socket into the exporter and upgrade it; older ones know no MIG "
    "devices. Replicas of one GPU are attributed to no pod: declare metrics.per_pod false if all pools are shared.",
)
def test_devices_are_attributed_to_their_pods(
    exporters: tuple[Exporter, ...], reference: Reference, timeouts: Timeouts, lab: RequirementLab
) -> None:
    if reference.stack is not None and not reference.stack.metrics.per_pod:
        raise NotApplicable(f"{reference.stack} declares that its metrics name no pods")
    tried = 0
    answering = [exporter for exporter, _ in pages(ask(lab, exporters))]
    for exporter, resource in _one_of_each_pool(answering, reference, lab):
        tried += 1
        pod = lab.pod(gpus=1, resource=resource, on=exporter.node, tolerates=exporter.node).require_running()
        holder = f"{pod.namespace}/{pod.name}"
        devices = _held_by(lab, exporter, holder, timeouts.condition)
        expect(devices, exporter.node).has_length(
            1, because=f"{holder} has one {resource} there", inspect=metrics_command(exporter)
        )
        pod.delete(wait=True)
    if not tried:
        raise Inconclusive("no pool whose GPUs are not shared has a node with a free device and a ready dcgm-exporter")


@requirement(
    "OBS-05",
    "dcgm-exporter reports the declared driver version",
    level=SHOULD,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    sources=["operator-upgrades", "dcgm-exporter"],
    remedy="Finish the driver upgrade on the node, then restart the exporter's pod: it keeps the libraries of its "
    "start.",
)
def test_the_driver_is_the_declared_one(
    exporters: tuple[Exporter, ...], reference: Reference, lab: RequirementLab, judge: Judge
) -> None:
    declared = [exporter for exporter in exporters if driver_of(reference, exporter.pool)]
    if not declared:
        raise NotApplicable(f"{reference} declares no driver version")
    labelled = 0
    for exporter, page in pages(ask(lab, declared, judge), judge):
        versions = {version for each in page.samples if (version := each.labels.get(dcgm.DRIVER_LABEL))}
        wanted = driver_of(reference, exporter.pool)
        if not versions:
            judge.pass_over(exporter.node, f"its page lacks the label {dcgm.DRIVER_LABEL}")
        else:
            labelled += 1
            judge(
                exporter.node,
                ok=versions == {wanted},
                expected=f"{dcgm.DRIVER_LABEL}={wanted}",
                actual=versions,
                cause="dcgm-exporter runs with the libraries of another driver than is declared",
                hidden_because="nvidia-smi on the host may show the right version",
                inspect=metrics_command(exporter),
            )
    if not labelled:
        raise Unsupported(f"no dcgm-exporter sets the label {dcgm.DRIVER_LABEL}: its version does not have the label")


@requirement(
    "OBS-06",
    "dcgm-exporter reports DCGM_FI_DEV_XID_ERRORS 0 for every GPU",
    level=SHOULD,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    sources=["xid-errors", "dcgm-exporter-counters"],
    remedy="Look the number up in NVIDIA's XID catalogue: some are a program's fault (13, 31, 43), 48, 63, 74, 79, 94 "
    "and 95 are the hardware's. Drain the node and reset or replace the GPU; the value stays until the driver reloads.",
)
def test_no_gpu_reports_an_xid(exporters: tuple[Exporter, ...], lab: RequirementLab, judge: Judge) -> None:
    found = [(exporter, page.of(dcgm.XID)) for exporter, page in pages(ask(lab, exporters, judge), judge)]
    if not any(samples for _, samples in found):
        raise Unsupported(f"no dcgm-exporter reports {dcgm.XID}")
    for exporter, samples in found:
        if not samples:
            judge.pass_over(exporter.node, f"its page lacks the metric {dcgm.XID}")
            continue
        raised = {f"{each.device}: XID {each.value:g}" for each in samples if each.value and not each.blank}
        judge(
            exporter.node,
            ok=not raised,
            expected=f"{dcgm.XID} 0 for every GPU",
            actual=raised or "0 for every GPU",
            cause=format_value(raised),
            hidden_because=(
                "the metric is the number of the last error: it is not a counter and is not reset, so an "
                "alert on a change of it fires once"
            ),
            inspect=metrics_command(exporter),
        )


@requirement(
    "OBS-07",
    "Every dcgm-exporter reports DCGM_EXP_XID_ERRORS_COUNT",
    level=MAY,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    feature="xid-counter",
    sources=["dcgm-exporter-counters"],
    remedy=f"Enable {dcgm.XID_COUNT} in the exporter's ConfigMap: it is there as a comment.",
)
def test_xid_errors_are_counted(exporters: tuple[Exporter, ...], lab: RequirementLab, judge: Judge) -> None:
    found = pages(ask(lab, exporters, judge), judge)
    counting = [(exporter, bool(page.of(dcgm.XID_COUNT))) for exporter, page in found]
    if not any(counts for _, counts in counting):
        raise Unsupported(f"no dcgm-exporter has {dcgm.XID_COUNT}, which is disabled by default")
    for exporter, counts in counting:
        judge(
            exporter.node,
            ok=counts,
            expected=f"{dcgm.XID_COUNT}, as other nodes have it",
            actual="present" if counts else "absent",
            cause="dcgm-exporter on this node has another list of counters",
            hidden_because="an alert on the count never fires for a node that does not have it",
            inspect=metrics_command(exporter),
        )


def _judge_page(
    exporter: Exporter, answer: Answer, wanted: tuple[str, ...], reference: Reference, judge: Judge
) -> None:
    is_page = isinstance(answer, dcgm.Page)
    gaps = gaps_of(answer, wanted, gpus_of(reference, exporter.pool)) if isinstance(answer, dcgm.Page) else Gaps(())
    count = exporter.gpu.count
    if not is_page:
        cause = str(answer)
    elif len(gaps.gpus) != count:
        cause = f"{len(gaps.gpus)} of {count} GPUs have any metric"
    else:
        cause = gaps.layout or f"missing: {join_limited(gaps.metrics)}"
    judge(
        exporter.node,
        ok=is_page and len(gaps.gpus) == count and not gaps.metrics and not gaps.layout,
        expected=f"{count} GPUs, each with {format_value(wanted)}",
        actual=f"{len(gaps.gpus)} GPUs, {len(gaps.metrics)} metrics missing" if is_page else "no page",
        cause=cause,
        hidden_because="the pod is Ready and the scrape succeeds; absent metrics raise no error",
        remedy="Restart the exporter's pod: it knows the MIG devices of its start only."
        if gaps.layout and len(gaps.gpus) == count
        else "",
        inspect=metrics_command(exporter),
    )


def _one_of_each_pool(
    exporters: Iterable[Exporter], reference: Reference, lab: RequirementLab
) -> list[tuple[Exporter, str]]:
    """For each pool whose GPUs are not shared: an exporter whose node has a free device, and its resource."""
    chosen: dict[str, tuple[Exporter, str]] = {}
    for exporter in exporters:
        offered = offer_of(reference, exporter.pool).resources or {}
        shared = exporter.gpu.replicas > 1
        if exporter.pool.name in chosen or shared or exporter.node.unschedulable or not exporter.node.ready:
            continue
        free = next((name for name in offered if lab.free(exporter.node, name) > 0), None)
        if free is not None:
            chosen[exporter.pool.name] = (exporter, free)
    return list(chosen.values())


def _held_by(lab: RequirementLab, exporter: Exporter, holder: str, timeout: float) -> list[dcgm.DeviceKey]:
    """The devices that the exporter attributes to the pod ``holder``, as soon as there is any, within ``timeout``."""

    def held() -> list[dcgm.DeviceKey]:
        answer = next(answer for _, answer in ask(lab, [exporter]))
        page = answer if isinstance(answer, dcgm.Page) else dcgm.Page(())
        return [device for device, pod in page.holders().items() if pod == holder]

    try:
        return wait_for(held, bool, what=f"a device of {exporter.node} is attributed to {holder}", timeout=timeout)
    except WaitTimeout:
        return held()
