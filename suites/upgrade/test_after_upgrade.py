"""After an upgrade: every node is back with the driver that was wanted, and with all that it had before.

The operator's own state says that a node is done. Whether the GPUs, the layouts and the pods that were there before are
there again, only somebody who has written them down beforehand can say.
"""

from collections import Counter
from collections.abc import Iterable

import pytest

from conformance.catalog import MUST, SHOULD, Owner, requirement
from conformance.facts import Facts, Node
from conformance.gpu.drivers import DriverVersion
from conformance.gpu.labels import MIG_CONFIG, MIG_CONFIG_STATE, UPGRADE_STATE
from conformance.reference.expected import gpu_resources
from conformance.reference.model import Reference
from conformance.subjects import ObjectReference
from conformance.upgrading.baseline import Baseline, NodeBefore, offered, owner_of
from conformance.verdict import Judge, NotApplicable, Waits
from suites._shared.node_gpus import driver
from suites._shared.upgrade_states import DONE, state_of
from suites.upgrade.returned_nodes import Returned

_DRIVER = "driver "
_AFTER = "post-upgrade"
_AWAY = Waits("its node is not back", on="UPG-11")


@pytest.fixture
def returned(facts: Facts, reference: Reference, before: Baseline) -> Returned:
    """The nodes of the baseline and those that are there in their place."""
    return Returned(facts, reference, before)


@pytest.fixture
def nodes_back(returned: Returned, judge: Judge) -> list[tuple[NodeBefore, Node]]:
    """The nodes of the baseline that are there and Ready; the others are passed over, because UPG-11 judges them."""
    found = []
    for each, node in returned.pairs:
        if node is not None and node.ready:
            found.append((each, node))
        else:
            judge.pass_over(ObjectReference.of("Node", each.name), _AWAY)
    return found


@requirement(
    "UPG-11",
    "Every GPU node of the baseline is back after the upgrade: there, Ready, schedulable, and done",
    level=MUST,
    feature=_AFTER,
    sources=["operator-upgrades", "operator-upgrade-library"],
    remedy="Look at the driver pod and at the validator of the node; uncordon it when both are Ready.",
)
def test_every_node_is_back(before: Baseline, returned: Returned, judge: Judge) -> None:
    judge.without_subjects(NotApplicable("the baseline has no GPU node"))
    for each, node in returned.pairs:
        fewer = returned.fewer(each) if node is None else None
        if fewer is not None and not fewer.enough:
            judge.pass_over(ObjectReference.of("Node", each.name), fewer.told)
            continue
        missing = "" if fewer is not None else _why_not_back(each, node)
        instead = f", node {node.name} in its place" if node is not None and node.name != each.name else ""
        judge(
            node if node is not None else ObjectReference.of("Node", each.name),
            ok=not missing,
            expected=f"Ready, {UPGRADE_STATE} {DONE}" + (", cordoned as before" if each.cordoned else ", schedulable"),
            actual=missing or (f"gone: {fewer.told}" if fewer is not None else f"back{instead}"),
            cause=missing,
            hidden_because="the other nodes work; only what it offered is missing",
            inspect=f"kubectl get node {node.name if node is not None else each.name} -L {UPGRADE_STATE}",
        )


@requirement(
    "UPG-12",
    "Every GPU node offers no less after the upgrade than before: devices, MIG layout, shared replicas",
    level=MUST,
    feature=_AFTER,
    sources=["operator-upgrades", "operator-mig"],
    remedy="Look at the device plugin of the node, and at MIG manager where the layout is another one.",
)
def test_no_node_offers_less(reference: Reference, nodes_back: list[tuple[NodeBefore, Node]], judge: Judge) -> None:
    names = gpu_resources(reference)
    for each, node in nodes_back:
        now = offered(node, names)
        less = {name: count for name, count in each.allocatable.items() if now.get(name, 0) < count}
        judge(
            node,
            ok=not less,
            expected=_counts(each.allocatable, each.allocatable),
            actual=_counts(less or each.allocatable, now),
            cause=_why_less(each, node, less) if less else "",
            hidden_because="the node is Ready and its upgrade is done",
            inspect=f"kubectl get node {node.name} -o jsonpath='{{.status.allocatable}}'",
        )


@requirement(
    "UPG-13",
    "Every GPU node has the driver that the upgrade was for",
    level=MUST,
    feature=_AFTER,
    sources=["operator-upgrades", "gpu-feature-discovery"],
    remedy="Look at the driver pod of the node: one that was not replaced still has the old driver.",
)
def test_every_node_has_the_wanted_driver(
    before: Baseline, nodes_back: list[tuple[NodeBefore, Node]], judge: Judge
) -> None:
    if not before.target.startswith(_DRIVER):
        raise NotApplicable(f"the upgrade was of {before.target}: no driver was asked for")
    wanted = DriverVersion.parse(before.target.removeprefix(_DRIVER))
    for each, node in nodes_back:
        found = driver(node)
        if not found:
            judge.pass_over(node, "no label of GPU Feature Discovery tells its driver")
            continue
        same = _is(found, wanted)
        judge(
            node,
            ok=same,
            expected=str(wanted),
            actual=found,
            cause="" if same else _why_another(each, node, found),
            hidden_because="each node works with its own driver; jobs that span two of them fail",
            inspect=f"kubectl get node {node.name} -L {UPGRADE_STATE}",
        )


@requirement(
    "UPG-14",
    "Every owner has as many running pods with GPUs after the upgrade as before",
    level=SHOULD,
    owner=Owner.UNKNOWN,
    feature=_AFTER,
    sources=["operator-upgrades"],
    remedy="Ask why its pods do not run: gpu-conformance explain-pod. Jobs that have ended meanwhile are no loss.",
)
def test_every_owner_has_its_pods_again(facts: Facts, reference: Reference, before: Baseline, judge: Judge) -> None:
    judge.without_subjects(NotApplicable("no pod with GPUs was on a node of the baseline"))
    wanted: Counter[str] = Counter()
    for node in before.nodes:
        wanted.update(node.owners)
    names = gpu_resources(reference)
    running = Counter(
        owner_of(pod) for pod in facts.pods if pod.phase == "Running" and not pod.deleting and pod.gpu_requests(names)
    )
    for owner, count in sorted(wanted.items()):
        kind, _, name = owner.partition(" ")
        if kind in ("Job", "Pod"):
            judge.pass_over(_subject(kind, name), "what ends by itself may have ended, which reads do not tell")
            continue
        judge(
            _subject(kind, name),
            ok=running[owner] >= count,
            expected=f"{count} running pods with GPUs, as before",
            actual=f"{running[owner]}",
            cause=f"{count - running[owner]} of its pods do not run",
            hidden_because="the nodes are done, and a Pending pod is no error of any node",
            inspect=f"kubectl get pods -n {name.partition('/')[0]} -o wide",
        )


def _subject(kind: str, name: str) -> ObjectReference:
    namespace, _, own = name.partition("/")
    return ObjectReference.of(kind, own, namespace=namespace)


def _why_not_back(before: NodeBefore, node: Node | None) -> str:
    if node is None:
        return "the node is no longer in the cluster"
    if not node.ready:
        return "the node is not Ready"
    if node.unschedulable and not before.cordoned:
        return f"the node is cordoned, and was not before ({UPGRADE_STATE}={state_of(node) or 'not set'})"
    if state_of(node) not in ("", DONE):
        return f"its upgrade has not ended: {UPGRADE_STATE}={state_of(node)}"
    return ""


def _why_less(before: NodeBefore, node: Node, less: Iterable[str]) -> str:
    layout, state = node.labels.get(MIG_CONFIG, ""), node.labels.get(MIG_CONFIG_STATE, "")
    if layout != before.mig_config:
        return f"its MIG layout was {before.mig_config or 'none'}, and is {layout or 'none'}"
    if layout and state != before.mig_state:
        return f"its MIG layout {layout} has not come back: {MIG_CONFIG_STATE} is {state or 'not set'}"
    names = list(less)
    if all(node.gpu_capacity(name) >= before.allocatable[name] for name in names):
        return "its kubelet counts them, and the device plugin says that some are not healthy"
    return f"its device plugin offers fewer {', '.join(names)} than before"


def _why_another(before: NodeBefore, node: Node, found: str) -> str:
    if found == before.driver:
        return f"its driver is the one from before; {UPGRADE_STATE} is {state_of(node) or 'not set'}"
    return f"it had {before.driver or 'an unknown driver'} before, and was upgraded to another one"


def _is(found: str, wanted: DriverVersion) -> bool:
    try:
        return DriverVersion.parse(found) == wanted
    except ValueError:
        return False


def _counts(names: Iterable[str], counts: dict[str, int]) -> str:
    return ", ".join(f"{counts.get(name, 0)} {name}" for name in names)
