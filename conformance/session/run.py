"""A run's life: open the cluster, deploy the reference, read the facts, put everything back."""

import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

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
from conformance.report.model import not_run
from conformance.session.cluster import OpenCluster, open_cluster
from conformance.session.evidence import evidence_of
from conformance.session.garbage import kept_from_the_collector
from conformance.session.judging import NotRun
from conformance.session.reporting import Reporting
from conformance.session.set_up import chosen_path, held_to
from conformance.session.upgrades import Asked
from conformance.verdict import EvidenceKind, Inconclusive

_T = TypeVar("_T")


class Run:
    """One run on one cluster. ``open`` and ``close`` bracket it; ``close`` may be called at any time, and twice."""

    def __init__(self, settings: Settings, *, writes_reports: bool = True) -> None:
        self.settings = settings
        self.id = new_run_id()
        self.started = datetime.now(UTC)
        self.reporting = Reporting(self, writes=writes_reports)
        self._resources = ExitStack()
        self._labs = ExitStack()
        self._cluster: OpenCluster | None = None
        self._reference: Reference | None = None
        self._facts: Facts | None = None
        self._lab: Lab | None = None
        self._entered = False
        self._unwithdrawn: list[Left] = []
        self._client: Client | None = None
        self._turn: AbstractContextManager[object] = nullcontext()
        self.asked = Asked()

    # --- opening -------------------------------------------------------------------------------------------------

    def open(self, progress: Progress, handed_down: dict[str, str] | None = None) -> None:
        """Open everything in order. Raises the errors of clusters, reference and kube; see session.refusals.

        ``handed_down`` is what an xdist worker got from its controller, which owns the cluster and the deployment.
        """
        self.reporting.prepare()
        self.asked = Asked.by(self.settings)
        if handed_down is not None:
            self._turn = _turns(handed_down["turns"])
        self.timeouts = self._timeouts()
        self._cluster = self._resources.enter_context(open_cluster(self.settings, progress, handed_down))
        self.reporting.open_cluster(self.cluster)
        self._reference = load(chosen_path(self.settings, self.cluster))
        self.reporting.begin(self._resources)
        if self.cluster.snapshot is not None:
            with kept_from_the_collector():
                self._take_facts(snapshot.load(self.cluster.snapshot))
            self.reporting.say_what_was_read()
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
        self.reporting.say_what_was_read()

    def _take_facts(self, facts: Facts, own: Collection[str] = (), *, told: bool = True) -> None:
        self.reporting.learn_facts(facts)
        self._facts = self._without_other_runs(facts, own, told=told)
        self.asked.require_cluster((node.name for node in self.readable_nodes), self.facts.cluster_uid)

    def _without_other_runs(self, facts: Facts, own: Collection[str] = (), *, told: bool = True) -> Facts:
        """The facts without what other runs have on the cluster, with a note on each.

        Under xdist the controller tells of them; to a worker the others are such runs.
        """
        client = None if self.cluster.snapshot is not None else self.client
        others = find_other_runs(facts, own, client, self.timeouts.lease)
        if not others:
            return facts
        if told:
            self.reporting.notes += [each.told(self.cluster.name if client else SOME_CLUSTER) for each in others]
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
        self.reporting.notes += done.notes
        self.reporting.say("reference-deployed", reference=self.reference.name)

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
    def redacts(self) -> bool:
        """Whether names of machines are replaced in all that is written."""
        return self.reporting.redacts

    @property
    def readable_nodes(self) -> Sequence[Node]:
        """The nodes, none where they could not be read."""
        return () if "nodes" in self.facts.unreadable else self.facts.nodes

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

    def is_of_the_platform(self, namespace: str) -> bool:
        """Whether a namespace is that of the GPU stack, or of a system that is known, and no declared team's."""
        if self.reference.team(namespace) is not None:
            return False
        return namespace in self.facts.stack_namespaces or bool(platform_of_namespace(namespace, self.reference))

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

    def close(self) -> None:
        """Clean up what is left to clean and let go of the cluster."""
        try:
            self._labs.close()
        finally:
            self._resources.close()


def _besides_objects(left: Iterable[Left], reference: Reference) -> list[Left]:
    """What withdrawing left, but for objects: the lab names those that are the run's, and the others are no leftovers.

    Withdrawing names every object that was there before, and where deploying was refused these are the reason.
    """
    names = {name_of(each) for each in (*objects(reference), *stack_objects(reference))}
    return [each for each in left if each.what not in names]


def _turns(path: str) -> AbstractContextManager[object]:
    from filelock import FileLock

    return FileLock(path)


def _there(value: _T | None, name: str) -> _T:
    if value is None:
        raise RuntimeError(f"the run has no {name} before it was opened")
    return value
