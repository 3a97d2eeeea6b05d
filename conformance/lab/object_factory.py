"""Making objects for one requirement: with the run's labels, in its own namespaces, reaching no further than it may."""

import copy
import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from conformance.gpu.taints import Toleration
from conformance.kube.client import Client
from conformance.kube.effects import Landing
from conformance.kube.errors import AlreadyExists, ApiError, Forbidden
from conformance.kube.names import DOMAIN, MANAGED_BY, MANAGED_BY_US, RUN_LABEL, own_prefix
from conformance.kube.paths import path_of
from conformance.kube.waits import until_accepted
from conformance.lab.belongings import Belongings
from conformance.lab.borrowing import fence
from conformance.lab.pod_effects import effect_of, pod_specs, require_effect, require_landing
from conformance.lab.podspec import (
    Asked,
    HasTaints,
    Place,
    Tolerated,
    annotations_for,
    members_of,
    node_names,
    pod_spec,
    preferring,
    tolerations_for,
)
from conformance.lab.run_context import RunContext

if TYPE_CHECKING:
    from conformance.catalog import Requirement

__all__ = ["Maker", "PodOptions", "collection_of", "dns_name"]

REQUIREMENT_LABEL = f"{DOMAIN}/requirement"
_LONGEST_HINT = 28
# A container is started within its limits: with 10m the runtime's own start takes ten seconds (seen on kind).
_CPU, _CPU_TO_START = "10m", "100m"
_MEMORY, _MEMORY_OF_PYTHON = "16Mi", "64Mi"
# Until the admission plugins of every API server know a new PriorityClass.
_RACE_SECONDS = 5.0


class PodOptions(TypedDict, total=False):
    """What a scenario can ask of a pod. Everything is optional.

    ``gpus`` devices of ``resource`` (the set-up's GPU resource, if not named). ``priority`` is the name of a
    PriorityClass; without it the pod gets a class of the run that is below every real workload and pushes nobody
    out. ``tolerates`` takes nodes (all their lasting taints), taints and tolerations. ``on`` takes nodes and lets
    the pod land nowhere else. With ``stop_seconds`` its program takes so long to end once it is told to, as one does
    that saves a checkpoint. ``gated`` keeps every scheduler away; ``held`` keeps an evicted pod visible until it
    is released. ``cpu`` and ``memory`` (requests and limits) may be None to ask for none. ``claims`` are device claims
    by the name that they have in the pod: ``resourceClaimName`` or ``resourceClaimTemplateName``. ``spec`` is merged
    over the pod's spec.
    """

    gpus: int
    resource: str | None
    priority: str | None
    tolerates: Tolerated | Iterable[Tolerated]
    on: Place | Iterable[Place] | None
    node_selector: Mapping[str, str]
    affinity: Mapping[str, Any]
    labels: Mapping[str, str]
    grace_seconds: int
    stop_seconds: int
    gated: bool
    held: bool
    cpu: str | None
    memory: str | None
    namespace: str | None
    name_hint: str
    claims: Mapping[str, Mapping[str, str]]
    spec: Mapping[str, Any]


class Maker:
    """Creates objects with the client of one requirement. ``borrowed`` are the nodes that it has to itself now."""

    def __init__(self, client: Client, run: RunContext, requirement: "Requirement", borrowed: Collection[str]) -> None:
        self._client = client
        self._run = run
        self._requirement_id = requirement.id
        self._landing = requirement.pods
        self._borrowed = borrowed
        self.made = Belongings()
        self.labels = {
            RUN_LABEL: run.run_id,
            MANAGED_BY: MANAGED_BY_US,
            REQUIREMENT_LABEL: requirement.id,
        }

    @property
    def pause_image(self) -> str:
        """The image of pods that only hold a place, where this cluster pulls it."""
        return self._run.images.reference("pause")

    def create(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object under a name that the lab has chosen, and return it."""
        own = self.own(obj)
        try:
            return until_accepted(
                lambda: self._client.create(collection_of(own), own),
                lambda error: self._is_about_a_new_class(own, error),
                timeout=_RACE_SECONDS,
            )
        except AlreadyExists:
            # An attempt whose answer was lost got through; the lab never uses a name twice within a run.
            return self._client.get(path_of(own))

    def _is_about_a_new_class(self, own: Mapping[str, Any], error: ApiError) -> bool:
        """Whether a pod is refused because admission has not heard yet of a PriorityClass that the run made."""
        if not isinstance(error, Forbidden):
            return False
        classes = [str(spec.get("priorityClassName") or "") for spec in pod_specs(own)]
        return any(name.startswith(own_prefix(self._run.run_id)) and name in error.message for name in classes)

    def own(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of the object with the run's labels, its pods with a class; noted as one of the requirement's.

        Raises ValueError when it is not for a namespace of the run or its pods may get where the requirement does not
        declare, EffectRefused when they may do too much.
        """
        own = copy.deepcopy(dict(obj))
        metadata = own["metadata"]
        metadata["labels"] = {**(metadata.get("labels") or {}), **self.labels}
        namespace = metadata.get("namespace")
        if not str(namespace).startswith(own_prefix(self._run.run_id)):
            raise ValueError(
                f"{own['kind']} {metadata.get('name')} is for namespace {namespace}, none of the lab's own"
            )
        for spec in pod_specs(own):
            self._judge(own, spec)
        self.made.add(own)
        return own

    def template(self, options: PodOptions) -> dict[str, Any]:
        """Metadata and spec of a pod as it was asked for."""
        stop_seconds = options.get("stop_seconds", 0)
        memory = _MEMORY_OF_PYTHON if stop_seconds else _MEMORY
        amounts = {"cpu": options.get("cpu", _CPU), "memory": options.get("memory", memory)}
        resources = {key: value for key, value in amounts.items() if value is not None}
        if options.get("gpus"):
            resources[options.get("resource") or self._run.gpu_resource] = str(options["gpus"])
        nodes = node_names(options.get("on"))
        asked = Asked(
            resources=resources,
            limits={"cpu": _CPU_TO_START} if resources.get("cpu") == _CPU else {},
            priority=options.get("priority"),
            tolerations=self._tolerations(members_of(options.get("tolerates", ())), nodes),
            nodes=nodes,
            node_selector=dict(options.get("node_selector") or {}),
            affinity=preferring(options.get("affinity") or {}, () if nodes else self._run.preferred_nodes),
            grace_seconds=options.get("grace_seconds", 0),
            stop_seconds=stop_seconds,
            gated=options.get("gated", False),
            image=self._run.images.reference("python") if stop_seconds else self.pause_image,
            pull_secret=self._run.pull_secret_name,
            claims={name: dict(source) for name, source in (options.get("claims") or {}).items()},
            spec=dict(options.get("spec") or {}),
        )
        labels = {**(options.get("labels") or {}), **self.labels}
        return {"metadata": {"labels": labels, "annotations": annotations_for(asked)}, "spec": pod_spec(asked)}

    def _tolerations(self, tolerated: list[Tolerated], nodes: tuple[str, ...]) -> tuple[Toleration, ...]:
        met = {member.name for member in tolerated if isinstance(member, HasTaints)} | set(nodes)
        fences = [fence(self._run.run_id)] if met & set(self._borrowed) else []
        return tuple(dict.fromkeys((*self._run.tolerations, *tolerations_for([*tolerated, *fences]))))

    def _judge(self, obj: Mapping[str, Any], spec: dict[str, Any]) -> None:
        if not spec.get("schedulingGates") and not spec.get("priorityClassName"):
            spec["priorityClassName"] = self._run.harmless_priority()
        needed = effect_of(spec, self._run.pod_priority, self._borrowed)
        what = f"{obj['kind']} {obj['metadata']['namespace']}/{obj['metadata'].get('name')}"
        picked = self._landing is Landing.ON_PICKED_NODES
        own = self._run.reservations.held_by(self._requirement_id) if picked else self._borrowed
        require_landing(spec, self._landing, own, what, self._requirement_id)
        require_effect(needed, self._client.guard.limit, what, self._requirement_id)


def collection_of(obj: Mapping[str, Any]) -> str:
    """Where an object is created, whether or not it has a name of its own yet."""
    named = {**obj, "metadata": {**obj["metadata"], "name": "x"}}
    return path_of(named).rpartition("/")[0]


def dns_name(hint: str) -> str:
    """A hint as part of a Kubernetes name: lower case, digits and single hyphens, at most 28 characters."""
    return re.sub(r"[^a-z0-9]+", "-", hint.lower())[:_LONGEST_HINT].strip("-") or "x"
