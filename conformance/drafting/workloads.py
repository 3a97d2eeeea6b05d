"""GPU workloads: what owns the pods that ask for GPUs, where they may run, at which rank and as whom."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from conformance.drafting.accelerators import offered
from conformance.drafting.notes import Guess, Item, LeftOut, Part
from conformance.drafting.pools import DraftedPool
from conformance.drafting.requests import GpuRequests, resources
from conformance.drafting.teams import account_names, team_names
from conformance.facts import Facts, Node, Pod, PodSpec, Workload
from conformance.facts.owners import Owner
from conformance.reference.model import BUILT_IN_KINDS
from conformance.reference.relations import SYSTEM_CLASSES

# What ends a chain of owners and is drafted, or left out, for itself; Node is that of a static pod.
_NO_OTHER_KINDS = (*BUILT_IN_KINDS, "ReplicaSet", "ReplicationController", "Node", "CronJob")
_NOTEBOOK_WORDS = ("notebook", "jupyter", "workbench")
# PyTorchJob, RayJob, JobSet, Argo's Workflow.
_JOBS = ("Job", "JobSet", "Workflow")
# Kinds with the name of one of Kubernetes' own, which is another: kubectl has to be told which (knative.dev: Service).
_API_VERSIONS = {"Service": "serving.knative.dev/v1"}
_TRAINING_WORDS = ("train", "finetun", "fine-tun")
_ONLY_BY_DEVICES = (
    "where it belongs. Neither nodeSelector nor affinity confines it, only what it asks for, which all of these offer"
)


def drafted_workloads(
    facts: Facts, pools: Sequence[DraftedPool], teams: Sequence[Item], classes: Sequence[str]
) -> list[Item]:
    """Every GPU workload in the namespace of a drafted team."""
    asking = GpuRequests(facts)
    namespaces = set(team_names(teams))
    drafter = {name: _Drafter(facts, asking, pools, classes, account_names(teams, name)) for name in namespaces}
    tops = _tops(facts, asking, namespaces)
    items: list[Item] = []
    for workload in sorted(facts.workloads, key=str):
        if workload.namespace not in namespaces or not asking.asks(workload.template, workload.namespace):
            continue
        if any((pod.namespace, facts.ownership.top_of(pod)) in tops for pod in facts.pods_of(workload)):
            continue  # What owns it is drafted instead.
        why = _why_left_out(workload)
        items.append(LeftOut(str(workload), why) if why else drafter[workload.namespace].draft(workload))
    others = [drafter[namespace].draft_other(namespace, owner) for namespace, owner in tops]
    return [*items, *others, *_alone(facts, asking, namespaces)]


def _why_left_out(workload: Workload) -> str:
    if workload.kind == "Job" and workload.owner_kind:
        return f"{workload.owner_kind} {workload.owner_name} makes it, and makes others after it"
    if workload.kind == "Job" and (workload.conditions.get("Complete") or workload.conditions.get("Failed")):
        return "it has ended"
    if workload.owner_kind:
        return f"{workload.owner_kind} {workload.owner_name} owns it; declare it if it is to be there at all times"
    return ""


class _Drafter:
    """Drafts the workloads of one team."""

    def __init__(
        self,
        facts: Facts,
        asking: GpuRequests,
        pools: Sequence[DraftedPool],
        classes: Sequence[str],
        accounts: set[str],
    ) -> None:
        self.facts, self.asking, self.classes, self.accounts = facts, asking, classes, accounts
        self.pools = [pool for pool in pools if pool.has_gpus]
        self.gpu_nodes = {node.name for pool in self.pools for node in pool.nodes}

    def draft(self, workload: Workload) -> Part:
        """One workload."""
        template = self.facts.template_of(workload)
        decide = "whether it is to be there at all times: a Job ends" if workload.kind == "Job" else ""
        sorts = _Sorts((template,), self.facts.pods_of(workload), "template", decide)
        named = (template.priority_class,), (template.service_account,)
        return self._draft(workload.kind, workload.namespace, workload.name, sorts, *named)

    def draft_other(self, namespace: str, owner: Owner) -> Part:
        """A workload of another kind, as its pods tell."""
        pods = [pod for pod in self.facts.pods_below(owner.kind, namespace, owner.name) if not pod.finished]
        wanting = [pod for pod in pods if self.asking.asks(pod, namespace)]
        decide = "whether it is to be there at all times: without pods nothing of it is judged"
        sorts = _Sorts(tuple({_likeness(pod): pod for pod in wanting}.values()), wanting, "pods", decide)
        accounts = {pod.service_account for pod in pods} - {"default"}
        classes = {pod.priority_class for pod in pods}
        return self._draft(owner.kind, namespace, owner.name, sorts, tuple(classes), tuple(accounts))

    def _draft(
        self,
        kind: str,
        namespace: str,
        name: str,
        sorts: "_Sorts",
        classes: Sequence[str],
        accounts: Sequence[str],
    ) -> Part:
        value: dict[str, Any] = {
            "role": _role(kind, namespace, name),
            **({"api_version": _API_VERSIONS[kind]} if kind in _API_VERSIONS else {}),
            "kind": kind,
            "namespace": namespace,
            "name": name,
        }
        places, guess = self._places(sorts, namespace)
        if places:
            value["pools"] = [pool.name for pool in places]
        odd, open_ones = [], [sorts.decide] if sorts.decide else []
        for key, what, found, known in (
            ("priority_class", "priority class", classes, (*self.classes, *SYSTEM_CLASSES)),
            ("service_account", "service account", accounts, tuple(self.accounts)),
        ):
            if len(found) == 1 and found[0] in known:
                value[key] = found[0]
            elif len(found) == 1 and found[0]:
                odd.append(f"its {what} {found[0]} is not declared in this draft")
            elif len(found) > 1:
                differing = " and ".join(sorted(name or "none" for name in found))
                open_ones.append(f"{key}: its pods have {differing}")
        guesses = {"pools" if places else "name": guess}
        return Part(value, Guess(contradicted=tuple(odd), decide="; ".join(open_ones)), guesses)

    def _places(self, sorts: "_Sorts", namespace: str) -> tuple[list[DraftedPool], Guess]:
        """The pools on which it may land: they offer what it asks for, and its terms and tolerations let it on them."""
        found = [self._places_of(spec, namespace) for spec in sorts.specs]
        open_to_it = {pool.name for fitting, _ in found for pool in fitting}
        places = [pool for pool in self.pools if pool.name in open_to_it]
        if not places:
            return [], Guess(decide="where it belongs: no drafted pool offers what it asks for")
        waiting = [pod for pod in sorts.pods if not pod.finished and not pod.node and not pod.gated]
        odd = [f"{waiting[0]} waits for a node"] if waiting else []
        if not all(fits for _, fits in found):
            odd.append(f"it does not tolerate the taints of {', '.join(pool.name for pool in places)} (SCHED-13)")
        derived = f"the selector, affinity and tolerations of its {sorts.source}, and what they ask for"
        anywhere = len(places) > 1 and any(self._selects_others(spec, places) for spec in sorts.specs)
        return places, Guess(derived, tuple(odd), _ONLY_BY_DEVICES if anywhere else "")

    def _places_of(self, spec: PodSpec, namespace: str) -> tuple[list[DraftedPool], bool]:
        """The pools on which one sort of pods may land, and whether it tolerates their taints."""
        open_to_it = [pool for pool in self.pools if any(self._takes(node, spec, namespace) for node in pool.nodes)]
        admitted = self.facts.as_admitted(spec)
        tolerated = [pool for pool in open_to_it if any(admitted.tolerates(node) for node in pool.nodes)]
        return tolerated or open_to_it, bool(tolerated)

    def _takes(self, node: Node, spec: PodSpec, namespace: str) -> bool:
        """Whether a node is one that a pod may choose and that offers what it asks for."""
        if not spec.selects(node):
            return False
        if self.asking.by_claim_only(spec, namespace):
            return not offered(node)
        there = offered(node)
        return all(name in there for name in resources(spec))

    def _selects_others(self, spec: PodSpec, places: Sequence[DraftedPool]) -> bool:
        """Whether its terms alone would let one sort of pods on nodes of no drafted pool of its own."""
        homes = {node.name for pool in places for node in pool.nodes}
        return any(spec.selects(node) for node in self.facts.nodes if node.name not in homes)


class _Sorts(NamedTuple):
    """What a workload asks of nodes: a template or one pod of each sort, its GPU pods, where that is read from."""

    specs: Sequence[PodSpec]
    pods: Sequence[Pod]
    source: str
    decide: str


def _likeness(pod: Pod) -> str:
    """The key of pods that may land on the same nodes."""
    return repr((sorted(pod.node_selector.items()), pod.node_affinity, pod.tolerations, resources(pod)))


def _role(kind: str, namespace: str, name: str) -> str:
    """What it seems to be for: notebook or training by its kind and name, training for jobs, inference for all else."""
    words = f"{kind} {name} {namespace}".lower()
    if any(word in words for word in _NOTEBOOK_WORDS):
        return "notebook"
    if kind.endswith(_JOBS) or any(word in words for word in _TRAINING_WORDS):
        return "training"
    return "inference"


def _tops(facts: Facts, asking: GpuRequests, namespaces: set[str]) -> dict[tuple[str, Owner], None]:
    """The topmost owners of GPU pods that are of other kinds than those that are read, each once."""
    found: dict[tuple[str, Owner], None] = {}
    for pod in _gpu_pods(facts, asking, namespaces):
        owner = facts.ownership.top_of(pod)
        if owner.kind not in (*_NO_OTHER_KINDS, "Pod"):
            found.setdefault((pod.namespace, owner))
    return found


def _alone(facts: Facts, asking: GpuRequests, namespaces: set[str]) -> Iterator[LeftOut]:
    """GPU pods that nothing owns."""
    for pod in _gpu_pods(facts, asking, namespaces):
        if not pod.owner_kind:
            yield LeftOut(f"Pod {pod.namespace}/{pod.name}", "it has no owner that would make it again")


def _gpu_pods(facts: Facts, asking: GpuRequests, namespaces: set[str]) -> Iterator[Pod]:
    for pod in facts.pods:
        if pod.namespace in namespaces and not pod.finished and asking.asks(pod, pod.namespace):
            yield pod
