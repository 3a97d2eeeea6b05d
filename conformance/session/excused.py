"""What a run excused because it is not the owners' to change: pods on GPU nodes, and priority classes above theirs.

A pattern that is too wide excuses what it should not; so whatever is excused stands in the report, by whose it is.
"""

from collections import defaultdict
from contextlib import suppress
from functools import cache, partial

from conformance.facts import Facts, Pod
from conformance.reference.model import Reference
from conformance.reference.platform import platform_of_class, platform_of_namespace
from conformance.report.model import Excused
from conformance.verdict import Inconclusive

NODE_AGENTS = "node agents"
"""DaemonSets outside the namespaces of teams and of known platforms: agents of their nodes."""


def excused_in(facts: Facts, reference: Reference) -> tuple[Excused, ...]:
    """What is excused, by whose it is, those with most pods first. What could not be read is left out."""
    pods, classes = _pods_by_platform(facts, reference), _classes_by_platform(facts, reference)
    found = [
        Excused(
            platform,
            tuple(sorted({pod.namespace for pod in pods.get(platform, ())})),
            len(pods.get(platform, ())),
            tuple(sorted(classes.get(platform, ()))),
        )
        for platform in {**pods, **classes}
    ]
    return tuple(sorted(found, key=lambda each: (-each.pods, each.platform)))


def _pods_by_platform(facts: Facts, reference: Reference) -> dict[str, list[Pod]]:
    found: dict[str, list[Pod]] = defaultdict(list)
    with suppress(Inconclusive):
        nodes = {node.name for pool in reference.gpu_pools for node in facts.nodes_with(pool.selector)}
        stack = facts.stack_namespaces
        # A fleet has few namespaces for its pods.
        whose = cache(partial(platform_of_namespace, reference=reference))
        for pod in (pod for name in nodes for pod in facts.pods_on(name)):
            team = reference.team(pod.namespace) is not None
            if pod.finished or pod.namespace in stack or (team and not pod.static):
                continue
            if platform := whose(pod.namespace) or (NODE_AGENTS if _is_of_every_node(pod) else ""):
                found[platform].append(pod)
    return found


def _is_of_every_node(pod: Pod) -> bool:
    return pod.static or pod.owner_kind == "DaemonSet"


def _classes_by_platform(facts: Facts, reference: Reference) -> dict[str, list[str]]:
    """The classes of platforms that stand above the highest declared one."""
    found: dict[str, list[str]] = defaultdict(list)
    with suppress(Inconclusive):
        highest = _highest(reference, facts)
        for each in facts.priority_classes:
            platform = platform_of_class(each.name, reference)
            if platform and each.value > highest:
                found[platform].append(each.name)
    return found


def _highest(reference: Reference, facts: Facts) -> float:
    """The value of the highest declared class; beyond all where none is declared, and nothing is held to an order."""
    declared = [each.value for each in facts.priority_classes if reference.priority_class(each.name) is not None]
    return max(declared, default=float("inf"))
