"""One run's lab: who it is, its signs of life, its record, and the end at which nothing is left of it."""

import getpass
import os
import platform
import secrets
import string
from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING

from conformance.gpu.resources import GPU
from conformance.kube.client import Client
from conformance.kube.effects import Mode
from conformance.kube.errors import KubeError
from conformance.kube.timeouts import Timeouts
from conformance.lab import records_namespace
from conformance.lab.advice import SOME_CLUSTER
from conformance.lab.cleanup import leftovers
from conformance.lab.cleanup.deletion import labelled
from conformance.lab.cleanup.undo import TerminationInterrupts, interrupts_deferred
from conformance.lab.images import Images
from conformance.lab.lease import Heartbeat
from conformance.lab.podspec import Tolerated
from conformance.lab.run_context import RunContext
from conformance.lab.scenario import RequirementLab
from conformance.remains import Left
from conformance.verdict import Inconclusive

if TYPE_CHECKING:
    from conformance.catalog import Requirement

__all__ = ["Lab", "new_run_id"]

# What a run makes outside the namespaces of others; whatever else it creates is in its journal.
_OWN_KINDS = ("Namespace", "PriorityClass")


def new_run_id() -> str:
    """A run id: eight random characters of a-z and 0-9, the first one a letter."""
    first = secrets.choice(string.ascii_lowercase)
    return first + "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(7))


class Lab(RunContext):
    """The only way in which a run changes a cluster. A context manager, or ``begin`` and ``end``.

    ``client`` has the guard of the run's mode and its run id, ``cluster`` is the name that advice gives the user,
    ``tolerations`` are given to every pod of the lab.
    A ``disposable`` cluster goes when the run ends: what its scenarios did is cleaned up, the rest goes with it.
    A lab that is not ``exclusive`` stands beside another one of the same run, which keeps other full runs away.
    After the end ``left_behind`` says in words what could not be undone; its record is then kept for ``clean``.
    """

    def __init__(
        self,
        client: Client,
        run_id: str,
        timeouts: Timeouts | None = None,
        *,
        mode: Mode = Mode.VERIFY,
        images: Images | None = None,
        gpu_resource: str = GPU,
        gpu_runtime_class: str = "",
        tolerations: Tolerated | Iterable[Tolerated] = (),
        holder: str | None = None,
        cluster: str = SOME_CLUSTER,
        exclusive: bool = True,
        disposable: bool = False,
    ) -> None:
        super().__init__(
            client,
            run_id,
            timeouts,
            images=images,
            gpu_resource=gpu_resource,
            gpu_runtime_class=gpu_runtime_class,
            tolerations=tolerations,
            cluster=cluster,
            disposable=disposable,
        )
        self.mode = mode
        self.holder = holder or _this_process()
        full = exclusive and mode is Mode.FULL
        self._heartbeat = Heartbeat(
            client, run_id, self.holder, full=full, duration=self.timeouts.lease, cluster=cluster
        )
        self._open: list[RequirementLab] = []
        self._signals = ExitStack()
        self._begun = False

    def __enter__(self) -> "Lab":
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def begin(self) -> None:
        """Enter the cluster: records namespace, Leases, owner record.

        Raises LeaseHeld when another full run is going on or was killed, KubeError when the cluster refuses.
        """
        self._begun = True
        try:
            self._signals.enter_context(TerminationInterrupts())
            records_namespace.enter(self.client, self.run_id, timeout=self.timeouts.namespace_deleted)
            self._heartbeat.start()
            self.journal.open(holder=self.holder, mode=self.mode.value)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Undo whatever is still there, and leave no trace; safe to repeat.

        What could not be undone is in ``left_behind``. The record then stays and the Leases run out, so that
        ``gpu-conformance clean`` can finish the work.
        """
        if not self._begun:
            return
        self._begun = False
        with self._signals, interrupts_deferred(f"run {self.run_id} is undoing what it did", self.what_is_left):
            for scenario in reversed(self._open):
                scenario.close()
            self.left_behind += self._undoing.undo_all()
            self._heartbeat.stop()
            if not self.disposable:
                self._clean_up_the_rest()

    def for_requirement(self, requirement: "Requirement") -> RequirementLab:
        """The lab of one requirement, which may do what the requirement declares.

        Raises Inconclusive when the run has lost its Lease: somebody may be cleaning up after it already.
        """
        if self._heartbeat.lost:
            raise Inconclusive(f"run {self.run_id} may not act any more: {self._heartbeat.lost}")
        scenario = RequirementLab(self, requirement)
        self._open.append(scenario)
        return scenario

    def _clean_up_the_rest(self) -> None:
        kinds = tuple(dict.fromkeys((*self.journal.kinds, *_OWN_KINDS)))
        try:
            found = labelled(self.client, self.run_id, kinds)
            objects = found.by_run.get(self.run_id, ())
            stack = leftovers.InstalledStack(self.journal.installed)
            done = leftovers.clean_up(self.client, self.run_id, objects, self.journal.outstanding, self.timeouts, stack)
            self.left_behind += [*found.unseen, *done.left]
        except KubeError as error:
            self.left_behind.append(Left("what else the run left", error))


def _this_process() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A container's user without a name.
        user = f"uid {os.getuid()}"
    return f"{user}@{platform.node()}, process {os.getpid()}"
