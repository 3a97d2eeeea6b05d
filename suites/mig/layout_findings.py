"""Findings about MIG: problems of a mig-parted configuration, why it was not applied, and what sets a MIG strategy."""

from contextlib import suppress

from conformance.facts import Node
from conformance.gpu.labels import MIG_CONFIG, MIG_CONFIG_STATE
from conformance.gpu.mig import DoesNotFit, Unknown, model_of
from conformance.gpu.mig_config import MigSelection, Wanted, wanted
from conformance.gpu.plugin_config import Problem
from conformance.gpu.plugin_config_selection import Chain
from conformance.gpu.sharing import MigStrategy
from conformance.reference.expected import mig_strategy_of
from conformance.reference.model import Pool, Reference
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Judge, NotApplicable, UnknownAccelerator, Unsupported
from suites._shared.device_plugin_configs import PluginConfigs
from suites._shared.formatting import join_limited
from suites.mig.layouts import FAILED, WORKING, ChosenLayout, GpuLayout, MigNodes, asks, why_it_failed

_WHAT_TO_DO = {
    "pending": "Give it some minutes and look again. If it stays, pods hold the GPUs: drain the node.",
    "rebooting": "Give it some minutes and look again. If it stays, the node does not boot: look at its console.",
}
"""The remedy for each state in which the MIG manager is still working."""


def judge_gpu_layouts(source: str, pool: Pool, gpu_layouts: list[GpuLayout], judge: Judge) -> list[UnknownAccelerator]:
    """Judge that a layout fits on the GPUs of its pool; return those of which it is unknown."""
    unknown = []
    for gpu_layout in gpu_layouts:
        answer = gpu_layout.answer
        if isinstance(answer, Unknown):
            unknown.append(UnknownAccelerator(f"{pool}: {answer.why}"))
            continue
        why_not = answer.why if isinstance(answer, DoesNotFit) else ""
        judge(
            pool.subject.only(gpu_layout.gpus),
            ok=not why_not,
            expected=f"{gpu_layout.layout} on one {_model_name(pool)}, as {source} requests",
            actual=why_not or "it fits",
            cause=why_not,
            hidden_because="mig-parted accepts any counts; the driver then refuses, and all MIG devices are deleted",
            remedy=_what_fits(answer) if isinstance(answer, DoesNotFit) else "",
            inspect=f"kubectl get nodes -l {pool.selector_text} -L {MIG_CONFIG},{MIG_CONFIG_STATE}",
        )
    if not gpu_layouts:
        judge(pool, ok=True, expected=source, actual="it creates no MIG device")
    return unknown


def _model_name(pool: Pool) -> str:
    model = model_of(pool.gpu.product, pool.gpu.memory_mib or None) if pool.gpu else Unknown("")
    return str(pool.gpu.product if isinstance(model, Unknown) and pool.gpu else model)


def _what_fits(answer: DoesNotFit) -> str:
    return f"What fits of it: {'; or '.join(map(str, answer.nearest[:2]))}." if answer.nearest else ""


def judge_problems(subject: ObjectReference, problems: tuple[Problem, ...], inspect: str, judge: Judge) -> None:
    """One finding for each problem of a configuration, one passing finding without problems."""
    for problem in problems:
        judge(
            subject,
            ok=False,
            expected=f"{problem.path or 'the configuration'}: {problem.allowed or 'something that has an effect'}",
            actual=f"{problem.path or 'the configuration'} {problem.text}",
            cause=f"{problem}: {'the configuration is rejected' if problem.fatal else 'nothing happens'}",
            hidden_because="the API server does not validate the data of a ConfigMap",
            inspect=inspect,
        )
    if not problems:
        judge(subject, ok=True, expected="a configuration that the MIG manager accepts", actual="such a configuration")


def judge_meaning(choice: ChosenLayout, pool: Pool, declared: Wanted | None, gpus: int, judge: Judge) -> None:
    """Judge that a layout on the cluster requests of each GPU what the declared one of that name requests."""
    entries = choice.selection.entries
    if entries is None or declared is None or choice.selection.layout != pool.mig_layout:
        return
    found = wanted(entries, gpus)
    if found.unknown or declared.unknown:
        return
    differing = [index for index in range(gpus) if asks(found, index) != asks(declared, index)]
    judge(
        choice.subject.only(f"layout {pool.mig_layout}"),
        ok=not differing,
        expected="; ".join(f"GPU {index}: {asks(declared, index)}" for index in differing) or "as declared",
        actual="; ".join(f"GPU {index}: {asks(found, index)}" for index in differing) or "as declared",
        cause=f"the ConfigMap was changed after it was deployed, for {len(differing)} GPUs of each node",
        hidden_because="the MIG manager applies that layout and reports success",
        inspect=choice.inspect,
    )


def why_no_success(mig_nodes: MigNodes, pool: Pool, node: Node, state: str) -> str:
    """Why the MIG manager has not reported success."""
    if missing := missing_layout(mig_nodes, node):
        return missing.cause
    if state == FAILED:
        return why_it_failed(mig_nodes, pool, node)
    if state in WORKING:
        holders = mig_nodes.holders(node)
        waits = f": {join_limited([str(pod) for pod in holders])} hold its GPUs" if holders else ""
        return f"the MIG manager is still working on the node, or hangs{waits}"
    return mig_nodes.choice(node).selection.cause or "no pod of the MIG manager has processed the node"


def missing_layout(mig_nodes: MigNodes, node: Node) -> MigSelection | None:
    """The selection of a node that reaches no layout: who holds its GPUs does not matter as long as there is none."""
    with suppress(Inconclusive, NotApplicable, Unsupported):
        selection = mig_nodes.choice(node).selection
        return selection if selection.outcome is Chain.BROKEN and selection.cause else None
    return None


def what_to_do(mig_nodes: MigNodes, node: Node, state: str) -> str:
    """What to do about a node without success; empty where the requirement's own remedy says it."""
    missing = missing_layout(mig_nodes, node)
    if missing is None:
        return _WHAT_TO_DO.get(state, "")
    return f"Follow MIG-03: {missing.remedy}." if missing.remedy else "Follow MIG-03."


def strategies_of(
    reference: Reference, pool: Pool, configs: PluginConfigs, nodes: list[Node]
) -> dict[str, MigStrategy]:
    """The declared MIG strategy of a pool, and different ones configured for its nodes, by their source."""
    found = {"the set-up": mig_strategy_of(reference, pool)}
    for node in nodes:
        try:
            chosen = configs.of(node)
        except (Inconclusive, Unsupported):
            continue
        if chosen.strategy is not None and chosen.strategy is not found["the set-up"]:
            found[chosen.source if chosen.mig_strategy_override else chosen.config_name] = chosen.strategy
    return found


def who_sets_the_strategy(configs: PluginConfigs, node: Node, declared: str) -> str:
    """What sets another MIG strategy on a node than the declared one."""
    try:
        chosen = configs.of(node)
    except (Inconclusive, Unsupported):
        return "the device plugin and GPU Feature Discovery run with another strategy"
    if chosen.mig_strategy_override:
        override = f"{chosen.source} sets mig.strategy to {chosen.mig_strategy_override}, for every node"
        return (
            override
            if chosen.mig_strategy_override != declared
            else f"{override}: GPU Feature Discovery has not loaded it yet"
        )
    if chosen.selection.config is not None:
        strategy = chosen.selection.config.mig_strategy or MigStrategy.NONE
        return f"{chosen.config_name} sets flags.migStrategy to {strategy.value}"
    return chosen.selection.cause


def require_judged_mig_nodes(judge: Judge, mig_nodes: MigNodes, what: str) -> None:
    """Say why no node could be judged: NotApplicable where the strategy is none, else where to look."""
    strategies = {mig_strategy_of(mig_nodes.reference, pool) for pool, _ in mig_nodes.pools}
    if not judge.judged and strategies == {MigStrategy.NONE}:
        raise NotApplicable("the MIG strategy is none: nodes offer whole GPUs and have no labels of MIG devices")
    judge.without_subjects(Inconclusive(f"no node of a MIG pool {what} (see MIG-01, MIG-04, MIG-08 and POOL-04)"))
