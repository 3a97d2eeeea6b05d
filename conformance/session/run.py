"""A run's life: open the cluster, deploy the reference, read the facts, judge, put everything back."""

import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import msgspec

import conformance
from conformance.catalog import Requirement
from conformance.deploy import deploy, withdraw
from conformance.facts import Facts, Node, read, snapshot
from conformance.kube.client import Client
from conformance.kube.effects import Effect, Mode
from conformance.kube.errors import KubeError, WaitTimeout
from conformance.kube.guard import Guard
from conformance.kube.timeouts import EMBEDDED, Timeouts
from conformance.lab import Lab, RequirementLab, new_run_id
from conformance.lab.advice import SOME_CLUSTER, clean_command
from conformance.lab.cleanup.undo import interrupts_deferred
from conformance.lab.other_runs import find_other_runs, without_runs
from conformance.options import Settings
from conformance.progress import Progress
from conformance.reference import Reference, load
from conformance.reference.objects import name_of, objects
from conformance.reference.platform import platform_of_namespace
from conformance.reference.stack_objects import stack_objects
from conformance.remains import Left
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
    not_run,
    summarise,
)
from conformance.session.cluster import OpenCluster, open_cluster
from conformance.session.evidence import evidence_of
from conformance.session.excused import excused_in
from conformance.session.garbage import kept_from_the_collector
from conformance.session.judging import NotRun
from conformance.session.redaction import RunRedaction
from conformance.session.set_up import chosen_path, held_to
from conformance.session.upgrade_capacity import capacity_of
from conformance.session.upgrades import Asked, keep_baseline, with_decision
from conformance.session.waiting import with_waiting_pods
from conformance.session.waivers import Waivers
from conformance.verdict import EvidenceKind, Inconclusive, Status

REPORT_FOLDER = "gpu-conformance-report"
_T = TypeVar("_T")
# Clusters of these kinds were there before the run, and are the same ones in the next.
_LASTING = ("context", "snapshot")


class Run:
    """One run on one cluster. ``open`` and ``close`` bracket it; ``close`` may be called at any time, and twice."""

    def __init__(self, settings: Settings, *, writes_reports: bool = True) -> None:
        self.settings = settings
        self.id = new_run_id()
        self.started = datetime.now(UTC)
        self.verdicts: dict[str, Verdict] = {}
        self.notes: list[str] = []
        self.folder = Path(settings.value("report") or REPORT_FOLDER)
        self._resources = ExitStack()
        self._labs = ExitStack()
        self.files: list[Path] = []
        self._formats: list[Format] = []
        self._baseline: Baseline | None = None
        self._writes_reports = writes_reports
        self._stream: EventStream | None = None
        self._cluster: OpenCluster | None = None
        self._reference: Reference | None = None
        self._facts: Facts | None = None
        self._lab: Lab | None = None
        self._entered = False
        self._unwithdrawn: list[Left] = []
        self._client: Client | None = None
        self._waivers = Waivers((), self.started.date())
        self._turn: AbstractContextManager[object] = nullcontext()
        self._redaction: RunRedaction | None = None
        self.asked = Asked()

    # --- opening -------------------------------------------------------------------------------------------------

    def open(self, progress: Progress, handed_down: dict[str, str] | None = None) -> None:
        """Open everything in order. Raises the errors of clusters, reference and kube; see session.refusals.

        ``handed_down`` is what an xdist worker got from its controller, which owns the cluster and the deployment.
        """
        self._formats = formats_named(self.settings.value("report_formats"))
        self.asked = Asked.by(self.settings)
        if self.settings.value("waivers"):
            self._waivers = Waivers.load(Path(self.settings.value("waivers")), self.started.date())
        if self.settings.value("baseline") and self._writes_reports:
            self._baseline = Baseline.load(Path(self.settings.value("baseline")))
        if handed_down is not None:
            self._turn = _turns(handed_down["turns"])
        if self.settings.value("redact"):
            self._redaction = RunRedaction(self.settings)
        self.timeouts = self._timeouts()
        self._cluster = self._resources.enter_context(open_cluster(self.settings, progress, handed_down))
        if self._baseline is not None and self.cluster.snapshot is None:
            self._baseline.require_cluster(self.cluster.name)
        self._reference = load(chosen_path(self.settings, self.cluster))
        if self._redaction is not None:
            self._redaction.learn_cluster(self.cluster)
        if self._writes_reports:
            self._stream = self._resources.enter_context(EventStream(self.folder / STREAM_NAME))
            self.say(
                "run-started", apiVersion=API_VERSION, run=self.id, cluster=self.cluster.name, mode=str(self.mode),
                version=conformance.__version__, reference=self.reference.name, settings=self._formatted_settings(),
            )  # fmt: skip
        if self.cluster.snapshot is not None:
            with kept_from_the_collector():
                self._take_facts(snapshot.load(self.cluster.snapshot))
            if self._baseline is not None:
                self._baseline.require_nodes(self.cluster.name, (node.name for node in self._readable_nodes))
            self._say_what_was_read()
            return
        self._open_lab(exclusive=handed_down is None)
        if handed_down is None and self._deploys:
            self._deploy(progress)
        progress.step("Reading the cluster")
        with kept_from_the_collector():
            own = {self.id, (handed_down or {}).get("run", self.id)}
            read_facts = read(self.client, config_namespaces=self._config_namespaces)
            self._take_facts(read_facts, own, told=handed_down is None)
        self.lab.preferred_nodes = self.facts.real_beside_simulated
        self._say_what_was_read()

    def _take_facts(self, facts: Facts, own: Collection[str] = (), *, told: bool = True) -> None:
        if self._redaction is not None:
            self._redaction.learn_facts(facts)
        self._facts = self._without_other_runs(facts, own, told=told)
        self.asked.require_cluster((node.name for node in self._readable_nodes), self.facts.cluster_uid)

    def _without_other_runs(self, facts: Facts, own: Collection[str] = (), *, told: bool = True) -> Facts:
        """The facts without what other runs have on the cluster, with a note on each.

        Under xdist the controller tells of them; to a worker the others are such runs.
        """
        client = None if self.cluster.snapshot is not None else self.client
        others = find_other_runs(facts, own, client, self.timeouts.lease)
        if not others:
            return facts
        if told:
            self.notes += [each.told(self.cluster.name if client else SOME_CLUSTER) for each in others]
        return without_runs(facts, others)

    def _timeouts(self) -> Timeouts:
        """Those of a control plane of ours are shorter: its controllers act within milliseconds."""
        kind = self.settings.value("cluster").partition(":")[0]
        base = EMBEDDED if kind in ("embedded", "container") else Timeouts()
        return Timeouts.parse(self.settings.value("timeout"), base=base)

    @property
    def _config_namespaces(self) -> tuple[str, ...]:
        """The namespace of the declared GPU stack: its ConfigMaps are read also where no stack is found in it."""
        stack = self.reference.stack
        return (stack.namespace,) if stack is not None and stack.namespace else ()

    @property
    def _deploys(self) -> bool:
        return bool(self.settings.value("deploy")) or self.cluster.deploys

    @property
    def lab(self) -> Lab:
        """The run's lab; a snapshot has none."""
        return _there(self._lab, "lab")

    def _open_lab(self, *, exclusive: bool) -> None:
        """The lab exists in every mode, but only one that may change something announces itself on the cluster."""
        self._lab = Lab(
            self.client,
            self.id,
            self.timeouts,
            mode=self.mode,
            gpu_resource=self.reference.gpu_resource,
            gpu_runtime_class=self.reference.stack.runtime_class if self.reference.stack is not None else "",
            images=self.cluster.images,
            tolerations=self.cluster.tolerations,
            exclusive=exclusive,
            cluster=self.cluster.name,
            disposable=self.cluster.ephemeral,
        )
        if self.mode is not Mode.AUDIT:
            self._labs.enter_context(self._lab)
            self._entered = True

    def _deploy(self, progress: Progress) -> None:
        """Deploy the reference: for good on a cluster that ends with the run, recorded and withdrawn on all others."""
        progress.step(f"Deploying the reference set-up {self.reference.name}")
        installer = self.cluster.installer
        if self.cluster.ephemeral:
            client = self._client_limited_to(Effect.DISRUPTIVE)
            done = deploy(client, self.reference, timeouts=self.timeouts, installer=installer)
        elif self.mode is Mode.FULL:
            journal = self.lab.journal
            self._labs.callback(self._withdraw)
            done = deploy(
                self.client, self.reference, journal, run_id=self.id, timeouts=self.timeouts, installer=installer
            )
        else:
            raise Inconclusive(f"deploying the reference needs --gpu-mode full, and this run has {self.mode}")
        self.notes += done.notes
        self.say("reference-deployed", reference=self.reference.name)

    def _withdraw(self) -> None:
        """Take back what was deployed. Runs before the lab ends, which looks for the run's objects once more."""
        lab = self.lab
        with interrupts_deferred(f"run {self.id} is withdrawing the reference set-up", lab.what_is_left):
            try:
                done = withdraw(
                    self.client, self.reference, lab.journal, run_id=self.id, timeouts=self.timeouts,
                    installer=self.cluster.installer,
                )  # fmt: skip
            except WaitTimeout:
                # The lab waits for the same objects, and names those that are still there after that.
                return
            except KubeError as error:
                self._unwithdrawn.append(Left(f"the reference set-up {self.reference.name}", error))
            else:
                self._unwithdrawn += _besides_objects(done.left, self.reference)

    def handed_down(self) -> dict[str, str]:
        """What an xdist worker needs to join this run: the cluster, and the file on which scenarios take turns."""
        folder = self._resources.enter_context(tempfile.TemporaryDirectory(prefix="gpu-conformance-turns-"))
        return {**self.cluster.handed_down(), "turns": str(Path(folder) / "lock"), "run": self.id}

    # --- what suites get -----------------------------------------------------------------------------------------

    @property
    def cluster(self) -> OpenCluster:
        """The open cluster."""
        return _there(self._cluster, "cluster")

    @property
    def reference(self) -> Reference:
        """The declared set-up."""
        return _there(self._reference, "reference")

    @property
    def held_to(self) -> Reference:
        """The set-up as requirements get it."""
        return held_to(self.reference, self.settings, self.cluster, deploys=self._deploys)

    @property
    def facts(self) -> Facts:
        """What was read."""
        return _there(self._facts, "facts")

    @property
    def mode(self) -> Mode:
        """How far the run may go."""
        return self.cluster.mode

    @property
    def client(self) -> Client:
        """The guarded client of the run itself."""
        if self._client is None:
            self._client = self._client_limited_to(self.mode.limit)
        return self._client

    def _client_limited_to(self, limit: Effect) -> Client:
        agent = f"gpu-conformance/{conformance.__version__}"
        return Client(_there(self.cluster.connection, "connection"), Guard(limit, self.id), self.timeouts, agent)

    @property
    def evidence(self) -> EvidenceKind:
        """The kind of evidence that this run gives."""
        return evidence_of(self.cluster.kind, self.cluster.evidence, self.facts)

    def admit(self, rule: Requirement, *, asks_server: bool) -> None:
        """Raise NotRun when the mode or the source cannot go as far as ``rule``."""
        if self.cluster.snapshot is not None and (rule.effect > Effect.READS or asks_server):
            raise NotRun("a snapshot answers no requests")
        if rule.effect > self.mode.limit:
            raise NotRun(not_run(rule, self.mode.limit, str(self.mode)))

    @contextmanager
    def lab_for(self, rule: Requirement) -> Iterator[RequirementLab]:
        """The lab of one requirement, cleaned when the block ends; under xdist one requirement at a time has it."""
        with self._turn, self.lab.for_requirement(rule) as bench:
            yield bench

    # --- what comes out ------------------------------------------------------------------------------------------

    def record(self, verdict: Verdict) -> Verdict:
        """Keep ``verdict`` (the worse one where there are two of a requirement) and stream it."""
        judged = self._waivers.applied_to(verdict)
        if self._baseline is not None:
            judged = self._baseline.marked(judged)
        earlier = self.verdicts.get(judged.requirement)
        self.verdicts[judged.requirement] = judged if earlier is None else _worse(earlier, judged)
        self.say("requirement-finished", verdict=judged)
        return judged if self._redaction is None else self._redaction.verdict(judged)

    @property
    def redacts(self) -> bool:
        """Whether names of machines are replaced in all that is written."""
        return self._redaction is not None

    def shown(self, text: str) -> str:
        """A text as others may see it: as it is, or with what the user wants to be replaced."""
        return text if self._redaction is None else self._redaction.text(text)

    def is_of_the_platform(self, namespace: str) -> bool:
        """Whether a namespace is that of the GPU stack, or of a system that is known, and no declared team's."""
        if self.reference.team(namespace) is not None:
            return False
        return namespace in self.facts.stack_namespaces or bool(platform_of_namespace(namespace, self.reference))

    def leave_out(self, rules: Iterable[Requirement], reason: str) -> None:
        """Say of each rule that has no verdict that it did not run, and why."""
        for rule in rules:
            if rule.id not in self.verdicts:
                self.record(Verdict.of(rule, Status.NOT_RUN, (), evidence=self.evidence, reason=reason))

    def clean_up(self) -> None:
        """Undo everything that the run did to the cluster; ``left_behind`` says what could not be undone."""
        self._labs.close()

    @property
    def left_behind(self) -> list[Left]:
        """In words what the run could not clean up, each thing once; complete when it has been cleaned up.

        A lab that could not begin tells why, and nothing else: what it had done until then it has cleaned up.
        """
        if self._lab is None or not self._entered:
            return []
        # The lab knows of a release that stayed only that it is there; withdrawing has said why.
        releases = {str(each) for each in self._lab.journal.installed}
        told = releases & {each.what for each in self._unwithdrawn}
        found = (each for each in self._lab.left_behind if each.what not in told)
        return list(dict.fromkeys([*self._unwithdrawn, *found]))

    @property
    def clean_command(self) -> str:
        """The command that removes what the run left behind."""
        return clean_command(self.id, self.cluster.name)

    def report(self, *, other_failures: bool) -> Report:
        """Write every report file, which ``files`` names from then on, and return the report."""
        self._waive_with_causes()
        verdicts = sorted(self.verdicts.values(), key=lambda verdict: verdict.requirement)
        code, outcome = exit_code(verdicts, other_failures=other_failures)
        facts = self.facts
        report = Report(
            RunFacts(
                self.id, conformance.__version__, str(self.mode), _stamp(self.started), _stamp(datetime.now(UTC)),
                self._formatted_settings(),
            ),
            self._cluster_facts(),
            self.reference.name,
            outcome,
            code,
            causes_of(verdicts),
            summarise(verdicts),
            tuple(verdicts),
            (*self.notes, *self._waivers.notes()),
            excused_in(facts, self.reference),
            self._pools,
        )  # fmt: skip
        if self.asked:
            report = self._with_decision(report)
        if self.settings.value("explain_pods") and self._writes_reports:
            report = with_waiting_pods(report, self)
        report = msgspec.structs.replace(report, notes=(*report.notes, *refusals(report, self._formats)))
        if self._baseline is not None:
            report = self._baseline.compared(report)
        if self._redaction is not None:
            report = self._redaction.report(report)
        if self._writes_reports:
            self.files += [write_json(report, self.folder), write_junit(report, self.folder)]
            self.files += write_formats(report, self.folder, self._formats)
            self.say("run-finished", outcome=report.outcome, exitCode=report.exit_code, **section(report))
        return report

    def _with_decision(self, report: Report) -> Report:
        """The report with what it says of the upgrade; what the cluster has before that is written beside it."""
        earlier = self._baseline.report if self._baseline is not None else None
        file, why_not = keep_baseline(self.asked, self, self.folder, earlier) if self._writes_reports else (None, "")
        self.files = [file] if file is not None else []
        capacity, unknown = capacity_of(self.asked, self)
        return with_decision(report, self.asked, file, capacity, tuple(filter(None, (why_not, unknown))))

    def _waive_with_causes(self) -> None:
        """Waive what waits for a waived requirement; only when all have their verdicts is that known of each."""
        for verdict in with_waived_causes(self.verdicts.values()):
            if verdict is not self.verdicts[verdict.requirement]:
                self.verdicts[verdict.requirement] = verdict
                self.say("requirement-finished", verdict=verdict)

    def _cluster_facts(self) -> ClusterFacts:
        facts = self.facts
        nodes = self._readable_nodes
        return ClusterFacts(
            self.cluster.name,
            self.cluster.kind,
            facts.server_version,
            self.evidence,
            len(nodes),
            sum(1 for node in nodes if _offers_gpus(node, self.reference.gpu_resource)),
            dict(facts.unreadable),
            self._cluster_uid,
        )

    @property
    def _cluster_uid(self) -> str | None:
        """The UID of the cluster, where it may be read and stays the same."""
        return self.facts.cluster_uid if self.cluster.kind in _LASTING else None

    @property
    def _readable_nodes(self) -> Sequence[Node]:
        return () if "nodes" in self.facts.unreadable else self.facts.nodes

    def close(self) -> None:
        """Clean up what is left to clean and let go of the cluster."""
        try:
            self._labs.close()
        finally:
            self._resources.close()

    def _formatted_settings(self) -> dict[str, str]:
        """What was set, to what, and by whom."""
        set_ = {name: setting for name, setting in self.settings.by_name.items() if setting.source != "default"}
        return {name: f"{setting.value} (from {setting.source})" for name, setting in set_.items()}

    def _say_what_was_read(self) -> None:
        if self._stream is None:
            return
        facts = self._cluster_facts()
        self.say("facts-read", nodes=facts.nodes, cluster=facts, fleet=self._pools)

    @cached_property
    def _pools(self) -> tuple[PoolFacts, ...]:
        """The declared pools as the cluster has them; what is asked of them only where pods could be read."""
        pods = None if "pods" in self.facts.unreadable else self.facts.pods
        return pools_of(self._readable_nodes, self.reference, pods)

    def say(self, event: str, **content: object) -> None:
        """Write an event to the stream, where this process has it."""
        if self._stream is not None:
            shown = content if self._redaction is None else self._redaction.event(content)
            self._stream.write(event, **shown)


def _offers_gpus(node: Node, usual: str) -> bool:
    return any(node.gpus(name) for name in (usual, *node.gpu_resources))


def _besides_objects(left: Iterable[Left], reference: Reference) -> list[Left]:
    """What withdrawing left, but for objects: the lab names those that are the run's, and the others are no leftovers.

    Withdrawing names every object that was there before, and where deploying was refused these are the reason.
    """
    names = {name_of(each) for each in (*objects(reference), *stack_objects(reference))}
    return [each for each in left if each.what not in names]


def _turns(path: str) -> AbstractContextManager[object]:
    from filelock import FileLock

    return FileLock(path)


def _worse(one: Verdict, other: Verdict) -> Verdict:
    return min(one, other, key=lambda verdict: SEVERITY.index(verdict.status))


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _there(value: _T | None, name: str) -> _T:
    if value is None:
        raise RuntimeError(f"the run has no {name} before it was opened")
    return value
