"""What the requirements of one run share: who it is, its record, its priority classes, what is still to be undone."""

import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from conformance.gpu.resources import GPU
from conformance.kube.client import Client
from conformance.kube.effects import Effect
from conformance.kube.errors import AlreadyExists, EffectRefused, KubeError, NotFound
from conformance.kube.names import MANAGED_BY, MANAGED_BY_US, RUN_LABEL, own_prefix
from conformance.kube.paths import path
from conformance.kube.timeouts import Timeouts
from conformance.lab import policies
from conformance.lab.advice import SOME_CLUSTER, clean_command
from conformance.lab.cleanup.undo import UndoStack
from conformance.lab.images import Images
from conformance.lab.journal import Journal
from conformance.lab.pod_effects import PodPriority
from conformance.lab.podspec import Tolerated, tolerations_for
from conformance.lab.reservations import Reservations
from conformance.verdict import Inconclusive

if TYPE_CHECKING:
    from conformance.gpu.taints import Toleration
    from conformance.remains import Left

__all__ = ["RunContext"]


class RunContext:
    """One run, as the labs of its requirements see it; ``Lab`` opens and closes it.

    While ``stopped`` is set, scenarios send no more requests: see ``Client.for_requirement``. Pods go to
    ``preferred_nodes`` where they have the choice: those whose containers really run, beside nodes that are played.
    On a ``disposable`` cluster, which goes when the run ends, namespaces are emptied and left to go with it.
    """

    def __init__(
        self,
        client: Client,
        run_id: str,
        timeouts: Timeouts | None = None,
        *,
        images: Images | None = None,
        gpu_resource: str = GPU,
        gpu_runtime_class: str = "",
        tolerations: Tolerated | Iterable[Tolerated] = (),
        cluster: str = SOME_CLUSTER,
        disposable: bool = False,
    ) -> None:
        self.client = client
        self.run_id = run_id
        self.timeouts = timeouts or client.timeouts
        self.images = images or Images()
        self.gpu_resource = gpu_resource
        self.gpu_runtime_class = gpu_runtime_class
        self.disposable = disposable
        self.tolerations: tuple[Toleration, ...] = tolerations_for(tolerations)
        self.preferred_nodes: frozenset[str] = frozenset()
        self.journal = Journal(client, run_id)
        self.left_behind: list[Left] = []
        self.reservations = Reservations()
        self.stopped = threading.Event()
        self._cluster = cluster
        self._undoing = UndoStack()
        self._undoing_of_requirements: list[UndoStack] = []
        self._lock = threading.RLock()
        self._names: dict[str, int] = {}
        self._priorities: dict[str, PodPriority] = {}
        self._harmless: str | None = None
        self._pull_secret: dict[str, Any] | None = None

    def new_undoing(self) -> UndoStack:
        """The undoing of one requirement, which ``what_is_left`` tells of, too."""
        undoing = UndoStack()
        self._undoing_of_requirements.append(undoing)
        return undoing

    def what_is_left(self) -> str:
        """In words for whoever aborts the clean-up: what is still there, and how to remove it."""
        steps = [step.what for each in (*self._undoing_of_requirements, self._undoing) for step in each.pending]
        steps += [str(change) for change in self.journal.outstanding]
        listed = "; ".join(steps) or "perhaps its record"
        return f"left on the cluster: {listed}. Remove it with: {clean_command(self.run_id, self._cluster)}"

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
        self._priorities[str(obj["metadata"]["name"])] = _priority_of(obj)

    def delete_priority_class(self, name: str) -> None:
        """Delete a PriorityClass of the run."""
        self.client.delete(path("PriorityClass", name=name))

    def pod_priority(self, name: str) -> PodPriority:
        """What a PriorityClass lets its pods do; an empty name stands for the cluster's default.

        A class that does not exist has none: admission refuses its pods.
        """
        if name not in self._priorities:
            self._priorities[name] = self._look_up(name)
        return self._priorities[name]

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

    def _look_up(self, name: str) -> PodPriority:
        if name:
            try:
                return _priority_of(self.client.get(path("PriorityClass", name=name)))
            except NotFound:
                return PodPriority(0, preempts=False)
        defaults = [each for each in self.client.list(path("PriorityClass")) if each.get("globalDefault")]
        return _priority_of(defaults[0]) if defaults else PodPriority(0, preempts=True)


def _priority_of(priority_class: Mapping[str, Any]) -> PodPriority:
    policy = priority_class.get("preemptionPolicy") or "PreemptLowerPriority"
    return PodPriority(int(priority_class.get("value") or 0), preempts=policy == "PreemptLowerPriority")
