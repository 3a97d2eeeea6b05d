"""What a run tells: events while it is on, verdicts as they come, and the report at its end."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Protocol

import msgspec

import conformance
from conformance.catalog import Requirement
from conformance.facts import Facts, Node
from conformance.kube.effects import Mode
from conformance.options import Settings
from conformance.report.causes import causes_of, with_waived_causes
from conformance.report.comparing.baseline import Baseline
from conformance.report.emitters import STREAM_NAME, EventStream, refusals, write_formats, write_json, write_junit
from conformance.report.fleet import pools_of
from conformance.report.formats import Format, formats_named
from conformance.report.formats.upgrade_section import section
from conformance.report.model import (
    API_VERSION,
    SEVERITY,
    ClusterFacts,
    PoolFacts,
    Report,
    RunFacts,
    Verdict,
    exit_code,
    summarise,
)
from conformance.session.cluster import OpenCluster
from conformance.session.excused import excused_in
from conformance.session.of_cluster import OfCluster
from conformance.session.redaction import RunRedaction
from conformance.session.upgrade_capacity import capacity_of
from conformance.session.upgrades import Asked, keep_baseline, with_decision
from conformance.session.waiting import with_waiting_pods
from conformance.session.waivers import Waivers
from conformance.verdict import EvidenceKind, Status

REPORT_FOLDER = "gpu-conformance-report"
# Clusters of these kinds were there before the run, and are the same ones in the next.
_LASTING = ("context", "snapshot")


class Reported(OfCluster, Protocol):
    """The run that is told of. Of the cluster it is asked only when that is open."""

    settings: Settings
    id: str
    started: datetime
    asked: Asked

    @property
    def mode(self) -> Mode:
        """How far the run may go."""

    @property
    def evidence(self) -> EvidenceKind:
        """The kind of evidence that it gives."""

    @property
    def readable_nodes(self) -> Sequence[Node]:
        """The nodes, none where they could not be read."""


class Reporting:
    """Takes in the verdicts of one run, and writes what the run tells; an xdist worker ``writes`` nothing.

    ``verdicts`` are by the requirement's id, ``notes`` tell what no requirement does, ``files`` have been written.
    """

    def __init__(self, run: Reported, *, writes: bool) -> None:
        self._run = run
        self._settings = run.settings
        self._writes = writes
        self.folder = Path(self._settings.value("report") or REPORT_FOLDER)
        self.verdicts: dict[str, Verdict] = {}
        self.notes: list[str] = []
        self.files: list[Path] = []
        self._formats: list[Format] = []
        self._waivers = Waivers((), run.started.date())
        self._baseline: Baseline | None = None
        self._redaction: RunRedaction | None = None
        self._stream: EventStream | None = None

    # --- while the run opens -------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Read what the settings name. Raises ValueError for an unknown format, and the errors of the files."""
        self._formats = formats_named(self._settings.value("report_formats"))
        if self._settings.value("waivers"):
            self._waivers = Waivers.load(Path(self._settings.value("waivers")), self._run.started.date())
        if self._settings.value("baseline") and self._writes:
            self._baseline = Baseline.load(Path(self._settings.value("baseline")))
        if self._settings.value("redact"):
            self._redaction = RunRedaction(self._settings)

    def open_cluster(self, cluster: OpenCluster) -> None:
        """Learn which cluster it is. Raises ReportError where the report to compare with is of another one."""
        if self._baseline is not None and cluster.snapshot is None:
            self._baseline.require_cluster(cluster.name)
        if self._redaction is not None:
            self._redaction.learn_cluster(cluster)

    def begin(self, resources: ExitStack) -> None:
        """Begin the stream, which ``resources`` close, and say which run it is of."""
        if not self._writes:
            return
        run = self._run
        self._stream = resources.enter_context(EventStream(self.folder / STREAM_NAME))
        self.say(
            "run-started", apiVersion=API_VERSION, run=run.id, cluster=run.cluster.name, mode=str(run.mode),
            version=conformance.__version__, reference=run.reference.name, settings=self._formatted_settings(),
        )  # fmt: skip

    def learn_facts(self, facts: Facts) -> None:
        """Learn the names in what was read, before any of them is told."""
        if self._redaction is not None:
            self._redaction.learn_facts(facts)

    def say_what_was_read(self) -> None:
        """Tell of the facts. Raises ReportError where a snapshot is not of the baseline's cluster."""
        if self._baseline is not None and self._run.cluster.snapshot is not None:
            self._baseline.require_nodes(self._run.cluster.name, (node.name for node in self._run.readable_nodes))
        if self._stream is not None:
            cluster = self._cluster_facts()
            self.say("facts-read", nodes=cluster.nodes, cluster=cluster, fleet=self._pools)

    # --- while it is on ------------------------------------------------------------------------------------------

    def say(self, event: str, **content: object) -> None:
        """Write an event to the stream, where this process has it."""
        if self._stream is not None:
            shown = content if self._redaction is None else self._redaction.event(content)
            self._stream.write(event, **shown)

    @property
    def redacts(self) -> bool:
        """Whether names of machines are replaced in all that is written."""
        return self._redaction is not None

    def shown(self, text: str) -> str:
        """A text as others may see it: as it is, or with what the user wants to be replaced."""
        return text if self._redaction is None else self._redaction.text(text)

    def record(self, verdict: Verdict) -> Verdict:
        """Keep ``verdict`` (the worse one where there are two of a requirement) and stream it."""
        judged = self._waivers.applied_to(verdict)
        if self._baseline is not None:
            judged = self._baseline.marked(judged)
        earlier = self.verdicts.get(judged.requirement)
        self.verdicts[judged.requirement] = judged if earlier is None else _worse(earlier, judged)
        self.say("requirement-finished", verdict=judged)
        return judged if self._redaction is None else self._redaction.verdict(judged)

    def leave_out(self, rules: Iterable[Requirement], reason: str) -> None:
        """Say of each rule that has no verdict that it did not run, and why."""
        for rule in rules:
            if rule.id not in self.verdicts:
                self.record(Verdict.of(rule, Status.NOT_RUN, (), evidence=self._run.evidence, reason=reason))

    # --- at its end ----------------------------------------------------------------------------------------------

    def report(self, *, other_failures: bool) -> Report:
        """Write every report file, which ``files`` names from then on, and return the report."""
        self._waive_with_causes()
        run = self._run
        verdicts = sorted(self.verdicts.values(), key=lambda verdict: verdict.requirement)
        code, outcome = exit_code(verdicts, other_failures=other_failures)
        report = Report(
            RunFacts(
                run.id, conformance.__version__, str(run.mode), _stamp(run.started), _stamp(datetime.now(UTC)),
                self._formatted_settings(),
            ),
            self._cluster_facts(),
            run.reference.name,
            outcome,
            code,
            causes_of(verdicts),
            summarise(verdicts),
            tuple(verdicts),
            (*self.notes, *self._waivers.notes()),
            excused_in(run.facts, run.reference),
            self._pools,
        )  # fmt: skip
        if run.asked:
            report = self._with_decision(report)
        if self._settings.value("explain_pods") and self._writes:
            report = with_waiting_pods(report, run)
        report = msgspec.structs.replace(report, notes=(*report.notes, *refusals(report, self._formats)))
        if self._baseline is not None:
            report = self._baseline.compared(report)
        if self._redaction is not None:
            report = self._redaction.report(report)
        if self._writes:
            self.files += [write_json(report, self.folder), write_junit(report, self.folder)]
            self.files += write_formats(report, self.folder, self._formats)
            self.say("run-finished", outcome=report.outcome, exitCode=report.exit_code, **section(report))
        return report

    def _with_decision(self, report: Report) -> Report:
        """The report with what it says of the upgrade; what the cluster has before that is written beside it."""
        run = self._run
        earlier = self._baseline.report if self._baseline is not None else None
        file, why_not = keep_baseline(run.asked, run, self.folder, earlier) if self._writes else (None, "")
        self.files = [file] if file is not None else []
        capacity, unknown = capacity_of(run.asked, run)
        return with_decision(report, run.asked, file, capacity, tuple(filter(None, (why_not, unknown))))

    def _waive_with_causes(self) -> None:
        """Waive what waits for a waived requirement; only when all have their verdicts is that known of each."""
        for verdict in with_waived_causes(self.verdicts.values()):
            if verdict is not self.verdicts[verdict.requirement]:
                self.verdicts[verdict.requirement] = verdict
                self.say("requirement-finished", verdict=verdict)

    def _cluster_facts(self) -> ClusterFacts:
        run, nodes = self._run, self._run.readable_nodes
        return ClusterFacts(
            run.cluster.name,
            run.cluster.kind,
            run.facts.server_version,
            run.evidence,
            len(nodes),
            sum(1 for node in nodes if _offers_gpus(node, run.reference.gpu_resource)),
            dict(run.facts.unreadable),
            # Where it may be read and stays the same.
            run.facts.cluster_uid if run.cluster.kind in _LASTING else None,
        )

    @cached_property
    def _pools(self) -> tuple[PoolFacts, ...]:
        """The declared pools as the cluster has them; what is asked of them only where pods could be read."""
        facts = self._run.facts
        pods = None if "pods" in facts.unreadable else facts.pods
        return pools_of(self._run.readable_nodes, self._run.reference, pods)

    def _formatted_settings(self) -> dict[str, str]:
        """What was set, to what, and by whom."""
        set_ = {name: setting for name, setting in self._settings.by_name.items() if setting.source != "default"}
        return {name: f"{setting.value} (from {setting.source})" for name, setting in set_.items()}


def _offers_gpus(node: Node, usual: str) -> bool:
    return any(node.gpus(name) for name in (usual, *node.gpu_resources))


def _worse(one: Verdict, other: Verdict) -> Verdict:
    return min(one, other, key=lambda verdict: SEVERITY.index(verdict.status))


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
