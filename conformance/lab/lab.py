"""One run's lab: who it is, its signs of life, its record, and the end at which nothing is left of it."""

import getpass
import os
import platform
import secrets
import string
import threading
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from conformance.gpu.resources import GPU
from conformance.kube.client import Client
from conformance.kube.effects import Effect, Mode
from conformance.kube.errors import AlreadyExists, EffectRefused, KubeError, NotFound
from conformance.kube.names import MANAGED_BY, MANAGED_BY_US, RUN_LABEL, own_prefix
from conformance.kube.paths import path
from conformance.kube.timeouts import Timeouts
from conformance.lab import policies, records_namespace
from conformance.lab.advice import SOME_CLUSTER, clean_command
from conformance.lab.cleanup import leftovers
from conformance.lab.cleanup.deletion import labelled
from conformance.lab.cleanup.undo import Undoing, interrupts_deferred, termination_interrupts
from conformance.lab.images import Images
from conformance.lab.journal import Journal
from conformance.lab.lease import Heartbeat
from conformance.lab.node_access import Standing
from conformance.lab.podspec import Tolerated, tolerations_for
from conformance.lab.scenario import RequirementLab
from conformance.remains import Left
from conformance.verdict import Inconclusive

if TYPE_CHECKING:
    from conformance.catalog import Requirement
    from conformance.gpu.taints import Toleration

__all__ = ["Lab", "new_run_id"]

# What a run makes outside the namespaces of others; whatever else it creates is in its journal.
_OWN_KINDS = ("Namespace", "PriorityClass")


def new_run_id() -> str:
    """A run id: eight random characters of a-z and 0-9, the first one a letter."""
    first = secrets.choice(string.ascii_lowercase)
    return first + "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(7))


class Lab:
    """The one door through which a run changes a cluster. A context manager, or ``begin`` and ``end``.

    ``client`` has the guard of the run's mode and its run id, ``cluster`` is the name that advice gives the user,
    ``tolerations`` are given to every pod of the lab.
    A ``disposable`` cluster goes when the run ends: what its scenarios did is taken back, the rest goes with it.
    A lab that is not ``exclusive`` stands beside another one of the same run, which keeps other full runs away.
    After the end ``left_behind`` says in words what could not be taken back; its record is then kept for ``clean``.
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
        tolerations: Tolerated | Iterable[Tolerated] = (),
        holder: str | None = None,
        cluster: str = SOME_CLUSTER,
        exclusive: bool = True,
        disposable: bool = False,
    ) -> None:
        self.client = client
        self.run_id = run_id
        self.timeouts = timeouts or client.timeouts
        self.mode = mode
        self.images = images or Images()
        self.gpu_resource = gpu_resource
        self.tolerations: tuple[Toleration, ...] = tolerations_for(tolerations)
        self.holder = holder or _this_process()
        self.disposable = disposable
        self._cluster = cluster
        self.journal = Journal(client, run_id)
        self.left_behind: list[Left] = []
        full = exclusive and mode is Mode.FULL
        self._heartbeat = Heartbeat(
            client, run_id, self.holder, full=full, duration=self.timeouts.lease, cluster=cluster
        )
        self._undoing = Undoing()
        self._lock = threading.RLock()
        self._open: list[RequirementLab] = []
        self._names: dict[str, int] = {}
        self._standings: dict[str, Standing] = {}
        self._harmless: str | None = None
        self._pull_secret: dict[str, Any] | None = None
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
        """Enter the cluster: home namespace, Leases, owner record.

        Raises LeaseHeld when another full run is going on or was killed, KubeError when the cluster refuses.
        """
        self._begun = True
        try:
            self._signals.enter_context(termination_interrupts())
            records_namespace.enter(self.client, self.run_id, timeout=self.timeouts.namespace_deleted)
            self._heartbeat.start()
            self.journal.open(holder=self.holder, mode=self.mode.value)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Take back whatever is still there, and leave no trace; safe to repeat.

        What could not be taken back is in ``left_behind``. The record then stays and the Leases run out, so that
        ``gpu-conformance clean`` can finish the work.
        """
        if not self._begun:
            return
        self._begun = False
        with self._signals, interrupts_deferred(f"run {self.run_id} is taking back what it did", self.what_is_left):
            for scenario in reversed(self._open):
                scenario.close()
            self.left_behind += self._undoing.undo_all()
            self._heartbeat.stop()
            if not self.disposable:
                self._take_back_the_rest()

    def for_requirement(self, requirement: "Requirement") -> RequirementLab:
        """The lab of one requirement, which may do what the requirement declares.

        Raises Inconclusive when the run has lost its Lease: somebody may be cleaning up after it already.
        """
        if self._heartbeat.lost:
            raise Inconclusive(f"run {self.run_id} may not act any more: {self._heartbeat.lost}")
        scenario = RequirementLab(self, requirement)
        self._open.append(scenario)
        return scenario

    def what_is_left(self) -> str:
        """In words for whoever aborts the clean-up: what is still there, and how to remove it."""
        steps = [step.what for scenario in self._open for step in scenario.pending]
        steps += [step.what for step in self._undoing.pending]
        steps += [str(change) for change in self.journal.outstanding]
        listed = "; ".join(steps) or "perhaps its record"
        return f"left on the cluster: {listed}. Remove it with: {clean_command(self.run_id, self._cluster)}"

    # What scenarios share.

    def unique(self, name: str) -> str:
        """The name with a number behind it that this run has not given to it yet."""
        with self._lock:
            self._names[name] = self._names.get(name, 0) + 1
            return f"{name}-{self._names[name]}"

    def harmless_priority(self) -> str:
        """The run's PriorityClass below every real workload, whose pods push nobody out; made when first needed.

        Raises EffectRefused where the run may not make cluster-scoped objects: its pods have to be gated there.
        """
        with self._lock:
            if self._harmless is None:
                self._harmless = self._make_harmless()
            return self._harmless

    def create_priority_class(self, client: Client, obj: Mapping[str, Any]) -> None:
        """Create a PriorityClass of the run, recorded first. Safe to repeat."""
        self.journal.will_create(obj)
        # Only this run uses names with its id: where one is there, an attempt whose answer was lost got through.
        with suppress(AlreadyExists):
            client.create(path("PriorityClass"), obj)
        self._standings[str(obj["metadata"]["name"])] = _standing(obj)

    def delete_priority_class(self, name: str) -> None:
        """Delete a PriorityClass of the run."""
        self.client.delete(path("PriorityClass", name=name))

    def standing(self, name: str) -> Standing:
        """What a PriorityClass lets its pods do; an empty name stands for the cluster's default.

        A class that does not exist has no standing: admission refuses its pods.
        """
        if name not in self._standings:
            self._standings[name] = self._look_up(name)
        return self._standings[name]

    @property
    def pull_secret_name(self) -> str | None:
        """The name of the pull secret in every namespace of the lab."""
        return self.images.pull_secret.partition("/")[2] if self.images.pull_secret else None

    def pull_secret(self) -> dict[str, Any] | None:
        """The pull secret to copy into a new namespace, None when the cluster needs none.

        Raises Inconclusive when the cluster names one that cannot be read.
        """
        if self.images.pull_secret and self._pull_secret is None:
            namespace, _, name = self.images.pull_secret.partition("/")
            try:
                found = self.client.get(path("Secret", namespace=namespace, name=name))
            except KubeError as error:
                raise Inconclusive(f"pull secret {self.images.pull_secret} cannot be read: {error}") from error
            keep: dict[str, Any] = {key: found[key] for key in ("type", "data") if key in found}
            self._pull_secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, **keep}
        return self._pull_secret

    def _make_harmless(self) -> str:
        limit = self.client.guard.limit
        name = f"{own_prefix(self.run_id)}harmless"
        if limit < Effect.OWN_CLUSTER_OBJECTS:
            target = path("PriorityClass", name=name)
            raise EffectRefused("create", target, Effect.OWN_CLUSTER_OBJECTS, limit, "of an ungated pod")
        obj = policies.priority_class_object(
            name,
            value=policies.BELOW_ZERO,
            preemption_policy="Never",
            description="Pods of gpu-conformance that anybody may push out; gone when the run ends.",
            labels={RUN_LABEL: self.run_id, MANAGED_BY: MANAGED_BY_US},
        )
        self._undoing.will(f"priority class {name}", lambda: self.delete_priority_class(name))
        self.create_priority_class(self.client, obj)
        return name

    def _look_up(self, name: str) -> Standing:
        if name:
            try:
                return _standing(self.client.get(path("PriorityClass", name=name)))
            except NotFound:
                return Standing(0, preempts=False)
        defaults = [each for each in self.client.list(path("PriorityClass")) if each.get("globalDefault")]
        return _standing(defaults[0]) if defaults else Standing(0, preempts=True)

    def _take_back_the_rest(self) -> None:
        kinds = tuple(dict.fromkeys((*self.journal.kinds, *_OWN_KINDS)))
        try:
            found = labelled(self.client, self.run_id, kinds)
            objects = found.by_run.get(self.run_id, ())
            stack = leftovers.Stack(self.journal.installed)
            done = leftovers.take_back(
                self.client, self.run_id, objects, self.journal.outstanding, self.timeouts, stack
            )
            self.left_behind += [*found.unseen, *done.left]
        except KubeError as error:
            self.left_behind.append(Left("what else the run left", error))


def _standing(priority_class: Mapping[str, Any]) -> Standing:
    policy = priority_class.get("preemptionPolicy") or "PreemptLowerPriority"
    return Standing(int(priority_class.get("value") or 0), preempts=policy == "PreemptLowerPriority")


def _this_process() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A container's user without a name.
        user = f"uid {os.getuid()}"
    return f"{user}@{platform.node()}, process {os.getpid()}"
