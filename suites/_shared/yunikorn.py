"""YuniKorn's queues: in which queue its placement rules put a pod, and what bounds the GPUs of that queue.

They stand as YAML in the ConfigMap ``yunikorn-configs`` (chart: ``yunikorn-defaults`` below it). ``resources.max`` of a
queue is what its pods have at most, and that of a queue above bounds those below it; what is not named there is not
limited. Queues that placement makes have the ``childtemplate`` of the nearest queue above that has one. Rules are tried
in their order; who a pod's user is no object says, so that rules and access lists by user leave the queue open.
Sources: apache/yunikorn-site, docs/user_guide (queue_config, placement_rules, resource_quota_mgmt,
labels_and_annotations_in_yunikorn, service_config); apache/yunikorn-k8shim, deployments/scheduler (yunikorn-configs).
"""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import yaml

from conformance.facts import Facts, Pod, Resource
from conformance.gpu.labels import YUNIKORN_CONFIGS
from conformance.gpu.quantities import quantity
from conformance.gpu.written import mapping, mappings
from conformance.verdict import Inconclusive

ROOT = "root"
_PARENT_QUEUE = "yunikorn.apache.org/parentqueue"
_QUEUE = "yunikorn.apache.org/queue"
_QUOTA = "yunikorn.apache.org/namespace.quota"
# What k8shim runs with where queues.yaml is nowhere: each namespace has a queue of its name.
_DEFAULT_PARTITION: Mapping[str, Any] = {
    "name": "default",
    "placementrules": [{"name": "tag", "value": "namespace", "create": True}],
    "queues": [{"name": ROOT, "submitacl": "*"}],
}


class _Open(Exception):
    """It cannot be told in which queue a pod is; the text says why."""


class Place(NamedTuple):
    """The queue of a pod and what bounds its GPUs, in words; ``open`` says why neither is known, else it is empty."""

    queue: str = ""
    bound: str = ""
    open: str = ""


class Queues(NamedTuple):
    """One partition: its queues by full name (``root.team``), and its placement rules."""

    source: str
    queues: Mapping[str, Mapping[str, Any]]
    rules: tuple[Mapping[str, Any], ...]

    def queue_of(self, pod: Pod, facts: Facts) -> str:
        """The full name of the queue of a pod. Raises _Open where it is not known."""
        for rule in self.rules:
            if name := self._by(rule, pod, facts):
                return self._open_to_everybody(name)
        raise _Open("no placement rule places it")

    def _by(self, rule: Mapping[str, Any], pod: Pod, facts: Facts) -> str:
        """The full name that a rule gives, empty where it gives none and the next one is tried."""
        kind = str(rule.get("name") or "").lower()
        if rule.get("filter"):
            raise _Open(f"the placement rule {kind} is for some users only")
        said = _said_by(kind, rule, pod, facts)
        if not said:
            return ""
        name = said
        if not _is_full(said):
            above = rule.get("parent")
            above = above[0] if isinstance(above, list) and above else above
            parent = self._by(above, pod, facts) if isinstance(above, dict) else ROOT
            if not parent:
                return ""
            name = f"{parent}.{said}"
        return name if name in self.queues or rule.get("create") in (True, "true") else ""

    def _open_to_everybody(self, name: str) -> str:
        """That name. Raises _Open where access lists or queues that cannot have any below them may keep pods out."""
        there = [each for each in _with_those_above(name) if each in self.queues]
        if not any("*" in str(self.queues[each].get("submitacl") or "") for each in there):
            raise _Open(f"who may use the queue {name} depends on its submitacl")
        nearest = there[0]
        if (nearest == name) == _has_children(self.queues[nearest]):
            raise _Open(f"the queue {nearest} takes {'no pods' if nearest == name else 'no queues below it'}")
        return name

    def bounds(self, name: str, resources: Collection[str]) -> Iterator[str]:
        """What bounds how much of some resources a queue has: itself, and then those above it."""
        chain = [each for each in _with_those_above(name) if each != ROOT]
        if name not in self.queues:
            made_by = (each for each in _with_those_above(name) if _member(self.queues.get(each), "childtemplate"))
            template = next(made_by, "")
            found = _maximum(_member(self.queues.get(template), "childtemplate"), resources)
            if found:
                yield f"queue {name} of YuniKorn, max {found} by the childtemplate of {template} ({self.source})"
        for each in chain:
            if found := _maximum(self.queues.get(each), resources):
                yield f"queue {each} of YuniKorn, max {found} ({self.source})"


def queues_of(facts: Facts) -> Queues | None:
    """The partition ``default``, the only one of Kubernetes; None where no ConfigMap with it was read."""
    config, source = _configured(facts)
    if source is None:
        return None
    try:
        partitions = _member({"": yaml.safe_load(config)}, "").get("partitions") if config else [_DEFAULT_PARTITION]
    except yaml.YAMLError:
        return None
    every = [each for each in partitions or () if isinstance(each, dict) and each.get("name", "default") == "default"]
    if len(every) != 1:
        return None
    top = mappings(every[0].get("queues"))
    if len(top) != 1 or str(top[0].get("name")).lower() != ROOT:
        # A root that nobody wrote is put above them.
        top = [{"name": ROOT, "queues": top}]
    rules = tuple(mappings(every[0].get("placementrules"))) or ({"name": "provided"},)
    return Queues(str(source), dict(_walked(top, "")), rules)


def place_of(pod: Pod, resources: Collection[str], queues: Queues | None, facts: Facts) -> Place:
    """Where YuniKorn places a pod, and what bounds how much of some resources it may have there.

    An annotation of the namespace bounds the queue that is made for it, and never one of the configuration.
    """
    name, why = "", "its ConfigMap yunikorn-configs was not read, or holds no partition default"
    if queues is not None:
        try:
            name, why = queues.queue_of(pod, facts), ""
        except _Open as unknown:
            why = str(unknown)
        if bound := next(queues.bounds(name, resources), "") if name else "":
            return Place(name, bound)
    if name and queues:
        own = name not in queues.queues
    else:
        own = queue_named_by(pod) in ("", pod.namespace, f"{ROOT}.{pod.namespace}")
    namespace = facts.namespace(pod.namespace)
    if own and namespace and resources and set(resources) <= _named_in(namespace.annotations.get(_QUOTA, "")):
        return Place(name, f"YuniKorn, by the annotation {_QUOTA} of namespace {pod.namespace}")
    return Place(name, open=why)


def queue_named_by(pod: Pod) -> str:
    """The queue that a pod names itself; empty without one."""
    return pod.labels.get(_QUEUE) or pod.annotations.get(_QUEUE) or pod.labels.get("queue", "")


def _configured(facts: Facts) -> tuple[str, Resource | None]:
    """The text of ``queues.yaml`` and the ConfigMap that has it: of the chart's two the later one counts."""
    found: tuple[str, Resource | None] = ("", None)
    data: dict[str, tuple[str, Resource]] = {}
    with suppress(Inconclusive):
        for name in YUNIKORN_CONFIGS:
            for each in facts.config_maps:
                if each.name == name:
                    entries = each.body.get("data") or {}
                    data |= {str(key): (str(text), each) for key, text in entries.items()}
                    found = ("", each)
    group = data["service.policyGroup"][0] if "service.policyGroup" in data else "queues"
    return data.get(f"{group}.yaml", found)


def _named_in(annotation: str) -> set[str]:
    """The resources that an annotation in JSON names; YuniKorn ignores one that is no object."""
    try:
        named = json.loads(annotation or "{}")
    except ValueError:
        return set()
    return set(named) if isinstance(named, dict) else set()


def _said_by(kind: str, rule: Mapping[str, Any], pod: Pod, facts: Facts) -> str:
    value = str(rule.get("value") or "").lower()
    if kind == "provided":
        return queue_named_by(pod).lower()
    if kind == "fixed":
        return value
    if kind == "tag" and value == "namespace":
        return pod.namespace.lower().replace(".", "_dot_")
    if kind == "tag" and value == "namespace.parentqueue":
        namespace = facts.namespace(pod.namespace)
        return (namespace.annotations.get(_PARENT_QUEUE, "") if namespace else "").lower()
    raise _Open(f"the placement rule {kind}{f' {value}' if value else ''} goes by what no object of the API says")


def _is_full(name: str) -> bool:
    return name == ROOT or name.startswith(f"{ROOT}.")


def _with_those_above(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]


def _walked(queues: list[dict[str, Any]], above: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for queue in queues:
        own = str(queue.get("name") or "").lower()
        name = f"{above}.{own}" if above else own
        yield name, queue
        yield from _walked(mappings(queue.get("queues")), name)


def _has_children(queue: Mapping[str, Any]) -> bool:
    return bool(queue.get("queues")) or queue.get("parent") in (True, "true") or queue.get("name") == ROOT


def _maximum(queue: Mapping[str, Any] | None, resources: Collection[str]) -> str:
    """The maximum of all of some resources, as text; empty unless every one of them is named.

    A maximum of which every amount is 0 is ignored (queue_config: Resources), and so is one that is no quantity.
    """
    said = _member(_member(queue, "resources"), "max")
    try:
        amounts = {str(name): quantity(str(amount)) for name, amount in said.items()}
    except ValueError:
        return ""
    if not resources or not set(resources) <= amounts.keys() or not any(amounts.values()):
        return ""
    return ", ".join(f"{float(amounts[each]):g} {each}" for each in sorted(resources))


def _member(value: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    return mapping((value or {}).get(name))
