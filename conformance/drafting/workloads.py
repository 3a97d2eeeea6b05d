"""GPU workloads: what owns the pods that ask for GPUs, where they may run, at which rank and as whom."""

from collections.abc import Iterator, Sequence
from typing import Any

from conformance.drafting.gpus import offered
from conformance.drafting.notes import Guess, Item, LeftOut, Part
from conformance.drafting.pools import DraftedPool
from conformance.drafting.requests import GpuRequests, resources
from conformance.drafting.teams import account_names, team_names
from conformance.facts import Facts, Node, Workload
from conformance.reference.relations import SYSTEM_CLASSES

_KNOWN_KINDS = ("Deployment", "Job", "StatefulSet", "DaemonSet")
_OWNERS_OF_PODS = (*_KNOWN_KINDS, "ReplicaSet", "Node", "")
_NOTEBOOK_WORDS = ("notebook", "jupyter", "workbench")
_TRAINING_WORDS = ("train", "finetun", "fine-tun")


def drafted_workloads(
    facts: Facts, pools: Sequence[DraftedPool], teams: Sequence[Item], classes: Sequence[str]
) -> list[Item]:
    """Every GPU workload in the namespace of a drafted team."""
    asking = GpuRequests(facts)
    namespaces = set(team_names(teams))
    items: list[Item] = []
    for workload in sorted(facts.workloads, key=str):
        if workload.namespace not in namespaces or not asking.asks(workload.template, workload.namespace):
            continue
        why = _why_left_out(workload)
        if why:
            items.append(LeftOut(str(workload), why))
        else:
            accounts = account_names(teams, workload.namespace)
            items.append(_Drafter(facts, asking, pools, classes, accounts).draft(workload))
    return [*items, *_of_other_kinds(facts, asking, namespaces)]


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
        value: dict[str, Any] = {
            "role": _role(workload),
            "kind": workload.kind,
            "namespace": workload.namespace,
            "name": workload.name,
        }
        guesses = {}
        places, guess = self._places(workload)
        if places:
            value["pools"] = [pool.name for pool in places]
            guesses["pools"] = guess
        else:
            guesses["name"] = guess
        odd = []
        template = workload.template
        if template.priority_class in (*self.classes, *SYSTEM_CLASSES):
            value["priority_class"] = template.priority_class
        elif template.priority_class:
            odd.append(f"its priority class {template.priority_class} is not declared in this draft")
        if template.service_account in self.accounts:
            value["service_account"] = template.service_account
        elif template.service_account:
            odd.append(f"its service account {template.service_account} is not declared in this draft")
        decide = "whether it is to be there at all times: a Job ends" if workload.kind == "Job" else ""
        return Part(value, Guess(contradicted=tuple(odd), decide=decide), guesses)

    def _places(self, workload: Workload) -> tuple[list[DraftedPool], Guess]:
        """The pools on which it may land, none where nothing confines it and it runs all the same."""
        open_to_it = [pool for pool in self.pools if any(self._takes(node, workload) for node in pool.nodes)]
        tolerated = [pool for pool in open_to_it if any(workload.template.tolerates(node) for node in pool.nodes)]
        places = tolerated or open_to_it
        confined = not self._strays(workload, places)
        waiting = [pod for pod in self.facts.pods_of(workload) if not pod.finished and not pod.node and not pod.gated]
        if confined or waiting:
            odd = [f"{waiting[0]} waits for a node"] if waiting else []
            if places and not tolerated:
                odd.append(f"it does not tolerate the taints of {', '.join(pool.name for pool in places)} (SCHED-13)")
            return places, Guess("the selector, affinity and tolerations of its template", tuple(odd))
        names = ", ".join(pool.name for pool in places)
        decide = (
            f"where it belongs. Neither nodeSelector nor affinity confines it, only what it asks for: it fits {names}. "
            f"With pools: [{names}] SCHED-13 asks for such a term"
        )
        return [], Guess(decide=decide if places else "where it belongs: no drafted pool offers what it asks for")

    def _takes(self, node: Node, workload: Workload) -> bool:
        """Whether a node is one that the template may choose and that offers what it asks for."""
        template = workload.template
        if not template.selects(node):
            return False
        if self.asking.by_claim_only(template, workload.namespace):
            return not offered(node)
        there = offered(node)
        return all(name in there for name in resources(template))

    def _strays(self, workload: Workload, places: Sequence[DraftedPool]) -> bool:
        homes = {node.name for pool in places for node in pool.nodes}
        return any(workload.template.selects(node) for node in self.facts.nodes if node.name not in homes)


def _role(workload: Workload) -> str:
    """What it seems to be for: notebook or training by its name, training for a Job, inference for all else."""
    words = f"{workload.name} {workload.namespace}".lower()
    if any(word in words for word in _NOTEBOOK_WORDS):
        return "notebook"
    if workload.kind == "Job" or any(word in words for word in _TRAINING_WORDS):
        return "training"
    return "inference"


def _of_other_kinds(facts: Facts, asking: GpuRequests, namespaces: set[str]) -> Iterator[LeftOut]:
    """Owners of GPU pods that are of a kind which a set-up does not name, each once."""
    seen: dict[tuple[str, str, str], None] = {}
    for pod in facts.pods:
        if pod.namespace in namespaces and not pod.finished and asking.asks(pod, pod.namespace):
            if pod.owner_kind not in _OWNERS_OF_PODS:
                seen.setdefault((pod.owner_kind, pod.namespace, pod.owner_name))
            elif not pod.owner_kind:
                seen.setdefault(("Pod", pod.namespace, pod.name))
    for kind, namespace, name in seen:
        why = (
            "it has no owner that would make it again" if kind == "Pod" else "a set-up names no workloads of this kind"
        )
        yield LeftOut(f"{kind} {namespace}/{name}", why)
