"""The dcgm-exporter of each GPU node, and its metrics page."""

from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from conformance.facts import Container, Facts, Node, Pod
from conformance.facts.programs import exports_metrics
from conformance.gpu import dcgm
from conformance.gpu.labels import DEPLOY_DCGM_EXPORTER, DEPLOY_DCGM_EXPORTER_DRA, DEPLOY_OPERANDS
from conformance.kube.errors import NotFound, WaitTimeout
from conformance.kube.scraping import ScrapeFailed
from conformance.kube.waits import wait_for
from conformance.lab import RequirementLab, at_once
from conformance.reference.model import Gpu, Pool, Reference
from conformance.verdict import Inconclusive, Judge, NotApplicable, Waits
from suites._shared.operands import CONTAINER, purpose_of
from suites._shared.operator_resource import OperatorResource
from suites._shared.pool_nodes import GpuPoolNode

PORT = 9400

# Where dcgm-exporter listens, as in :9401 or 0.0.0.0:9401; the operator names port 9400 of its container all the same.
# Sources: NVIDIA/dcgm-exporter, pkg/cmd/app.go; NVIDIA/gpu-operator v26.7.0, assets/state-dcgm-exporter.
LISTEN = "DCGM_EXPORTER_LISTEN"

# How many exporters are scraped in each pool, spread over its nodes; OBS-01 judges that every node has one.
ASKED_OF_A_POOL = 25

# Seconds in which a page that could not be had is asked for again: what forwards the port may be late, or away.
_ASKED_AGAIN_FOR = 5.0


class Exporter(NamedTuple):
    """A ready exporter and the node whose GPUs it reports."""

    pool: Pool
    node: Node
    gpu: Gpu
    pod: Pod


Answer = dcgm.Page | ScrapeFailed


# With these labels the owners disable the operator's exporter, or all operands, on a node.
SWITCHES = (DEPLOY_OPERANDS, DEPLOY_DCGM_EXPORTER, DEPLOY_DCGM_EXPORTER_DRA)


def monitored(pool: Pool, operator_resource: OperatorResource | None) -> bool:
    """Whether the nodes of a pool need the exporter.

    Not where a label of the owners disables it, nor where the GPUs are for virtual machines.
    ``operator_resource`` is the ClusterPolicy or GPUCluster. Source: NVIDIA/gpu-operator v26.7.0,
    controllers/state_manager.go (gpuStateLabels).
    """
    switched_off = any(pool.labels.get(switch) == "false" for switch in SWITCHES)
    return not switched_off and purpose_of(pool, operator_resource) == CONTAINER


def exporters_expected(reference: Reference) -> None:
    """Raise NotApplicable unless the set-up declares dcgm-exporter."""
    if reference.stack is None:
        raise NotApplicable(f"{reference} declares no GPU stack")
    if not reference.stack.dcgm_exporter:
        raise NotApplicable(f"{reference.stack} declares no dcgm-exporter")


def exporter_pods(facts: Facts, node: Node) -> tuple[Pod, ...]:
    """The exporter's pods on a node, ready or not."""
    return tuple(pod for pod in facts.pods_on(node.name) if not pod.finished and is_exporter(pod))


def is_exporter(pod: Pod) -> bool:
    """Whether a pod is dcgm-exporter."""
    return has_exporter(pod.containers)


def has_exporter(containers: Iterable[Container]) -> bool:
    """Whether one of some containers is dcgm-exporter: by its image or name, its command, or its own variables."""
    return any(exports_metrics(each) for each in containers)


def ready_exporters(facts: Facts, nodes: Iterable[GpuPoolNode]) -> tuple[Exporter, ...]:
    """One ready exporter for each node that has one, at most ASKED_OF_A_POOL for each pool, evenly spread.

    Raises Waits when no node has any.
    """
    by_pool: dict[str, list[Exporter]] = {}
    for pool, node, gpu in nodes:
        pod = next((pod for pod in exporter_pods(facts, node) if pod.ready and not pod.deleting), None)
        if pod is not None:
            by_pool.setdefault(pool.name, []).append(Exporter(pool, node, gpu, pod))
    if not by_pool:
        raise Waits("no GPU node has a ready dcgm-exporter", on="OBS-01")
    return tuple(each for members in by_pool.values() for each in spread(members))


def spread(members: list[Exporter]) -> list[Exporter]:
    """Members from the whole list, first and last included, no more than are scraped in a pool."""
    if len(members) <= ASKED_OF_A_POOL:
        return members
    step = (len(members) - 1) / (ASKED_OF_A_POOL - 1)
    return [members[round(number * step)] for number in range(ASKED_OF_A_POOL)]


def ask(
    lab: RequirementLab, exporters: Iterable[Exporter], judge: Judge | None = None
) -> list[tuple[Exporter, Answer]]:
    """The metrics page of each exporter, scraped in parallel; the error where scraping failed.

    Those whose pods were replaced since the facts were read are left out and noted with ``judge``. Raises
    Inconclusive when all were.
    """
    asked = list(exporters)
    answers = list(zip(asked, at_once(lambda each: _ask(lab, each), asked), strict=True))
    existing = [(exporter, answer) for exporter, answer in answers if answer is not None]
    if asked and not existing:
        raise Inconclusive(f"{asked[0].pod} and all other exporters were replaced since the facts were read; run again")
    for exporter, answer in answers:
        if judge is not None and answer is None:
            judge.pass_over(exporter.node, "its dcgm-exporter pod was replaced during the run")
    return existing


def _ask(lab: RequirementLab, exporter: Exporter) -> Answer | None:
    """The page, or the last of the errors that came instead; None where the pod is gone."""
    answers: list[Answer | None] = []

    def answer() -> Answer | None:
        answers.append(_ask_once(lab, exporter))
        return answers[-1]

    with suppress(WaitTimeout):
        wait_for(
            answer,
            lambda found: not isinstance(found, ScrapeFailed),
            what=f"{exporter.pod} gives its metrics",
            timeout=min(_ASKED_AGAIN_FOR, lab.timeouts.condition),
        )
    return answers[-1]


def _ask_once(lab: RequirementLab, exporter: Exporter) -> Answer | None:
    try:
        return dcgm.parse(lab.metrics_page(exporter.pod.namespace, exporter.pod.name, port_of(exporter.pod)))
    except ScrapeFailed as failure:
        return failure
    except NotFound:
        return None


def pages(answers: Iterable[tuple[Exporter, Answer]], judge: Judge | None = None) -> list[tuple[Exporter, dcgm.Page]]:
    """The pages among the answers; the others are noted with ``judge``. Raises Waits when there is none."""
    every = list(answers)
    found = [(exporter, answer) for exporter, answer in every if isinstance(answer, dcgm.Page)]
    if not found:
        why = f": {every[0][1]}" if every else ""
        raise Waits(f"no dcgm-exporter has a metrics page{why}", on="OBS-02")
    for exporter, answer in every:
        if judge is not None and not isinstance(answer, dcgm.Page):
            judge.pass_over(exporter.node, Waits(str(answer), on="OBS-02"))
    return found


def port_of(pod: Pod) -> int:
    """The port of an exporter's metrics page: by its environment, else the default one."""
    configured = (each.env.get(LISTEN, "").rpartition(":")[2] for each in pod.containers)
    return next((int(port) for port in configured if port.isdecimal()), PORT)


def metrics_command(exporter: Exporter) -> str:
    """The command that shows the same page."""
    namespace, name, port = exporter.pod.namespace, exporter.pod.name, port_of(exporter.pod)
    return f"kubectl -n {namespace} port-forward {name} {port} & curl -s localhost:{port}/metrics"
