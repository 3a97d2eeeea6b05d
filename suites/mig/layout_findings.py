"""MIG in words: what is wrong with a layout's text, why it was not applied, and who sets a strategy."""

from conformance.facts import Node
from conformance.gpu.mig import DoesNotFit, Unknown, model_of
from conformance.gpu.mig_config import CONFIG_LABEL, Wanted, wanted
from conformance.gpu.plugin_config import Problem
from conformance.gpu.sharing import MigStrategy
from conformance.reference.expected import mig_strategy_of
from conformance.reference.model import Pool, Reference
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Judge, NotApplicable, UnknownAccelerator
from suites._shared.device_plugin_configs import PluginConfigs
from suites._shared.formatting import join_limited
from suites.mig.layouts import FAILED, STATE, WORKING, ChosenLayout, MigNodes, Part, asks, why_it_failed

WHAT_TO_DO = {
    "pending": "Give it some minutes and look again. If it stays, something holds the GPUs: drain the node.",
    "rebooting": "Give it some minutes and look again. If it stays, the node does not come back: look at its console.",
}
"""The remedy for each state in which the MIG manager is at work."""


def judge_parts(text: str, pool: Pool, parts: list[Part], judge: Judge) -> list[UnknownAccelerator]:
    """Judge that each part of a layout can exist on the GPUs of its pool; the parts of which that is not known."""
    unknown = []
    for part in parts:
        answer = part.answer
        if isinstance(answer, Unknown):
            unknown.append(UnknownAccelerator(f"{pool}: {answer.why}"))
            continue
        why_not = answer.why if isinstance(answer, DoesNotFit) else ""
        judge(
            pool.subject.only(part.gpus),
            ok=not why_not,
            expected=f"{part.layout} on one {_model_name(pool)}, as {text} asks",
            actual=why_not or "it fits",
            cause=why_not,
            hidden_because="mig-parted takes any counts; the driver then refuses, and all MIG devices are gone",
            remedy=_what_fits(answer) if isinstance(answer, DoesNotFit) else "",
            inspect=f"kubectl get nodes -l {pool.selector_text} -L {CONFIG_LABEL},{STATE}",
        )
    if not parts:
        judge(pool, ok=True, expected=text, actual="it makes no MIG device")
    return unknown


def _model_name(pool: Pool) -> str:
    model = model_of(pool.gpu.product, pool.gpu.memory_mib or None) if pool.gpu else Unknown("")
    return str(pool.gpu.product if isinstance(model, Unknown) and pool.gpu else model)


def _what_fits(answer: DoesNotFit) -> str:
    return f"What fits of it: {'; or '.join(map(str, answer.nearest[:2]))}." if answer.nearest else ""


def judge_problems(subject: ObjectReference, problems: tuple[Problem, ...], inspect: str, judge: Judge) -> None:
    """One finding for each problem of a text, one good one for a text without."""
    for problem in problems:
        judge(
            subject,
            ok=False,
            expected=f"{problem.path or 'the text'}: {problem.allowed or 'something that has an effect'}",
            actual=f"{problem.path or 'the text'} {problem.text}",
            cause=f"{problem}: {'the text is refused' if problem.fatal else 'nothing happens'}",
            hidden_because="the API server takes any text into a ConfigMap",
            inspect=inspect,
        )
    if not problems:
        judge(subject, ok=True, expected="a text that the MIG manager reads", actual="that")


def judge_meaning(choice: ChosenLayout, pool: Pool, declared: Wanted | None, gpus: int, judge: Judge) -> None:
    """Judge that a layout on the cluster asks of each GPU what the declared one of that name asks."""
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
        cause=f"the text was changed after it was deployed, for {len(differing)} GPUs of each node",
        hidden_because="the MIG manager applies what it reads and reports success",
        inspect=choice.inspect,
    )


def why_no_success(mig_nodes: MigNodes, pool: Pool, node: Node, state: str) -> str:
    """The cause between a layout and the label that says success."""
    if state == FAILED:
        return why_it_failed(mig_nodes, pool, node)
    if state in WORKING:
        holders = mig_nodes.holders(node)
        waits = f": {join_limited([str(pod) for pod in holders])} hold its GPUs" if holders else ""
        return f"the MIG manager is at work on the node, or hangs{waits}"
    return mig_nodes.choice(node).selection.cause or "no pod of the MIG manager has looked at the node"


def strategies_of(
    reference: Reference, pool: Pool, configs: PluginConfigs, nodes: list[Node]
) -> dict[str, MigStrategy]:
    """The declared MIG strategy of a pool, and those that reach its nodes and differ from it, by their source."""
    found = {"the set-up": mig_strategy_of(reference, pool)}
    for node in nodes:
        try:
            chosen = configs.of(node)
        except Inconclusive:
            continue
        if chosen.strategy is not None and chosen.strategy is not found["the set-up"]:
            found[chosen.source if chosen.strategy_told else chosen.text] = chosen.strategy
    return found


def who_sets_the_strategy(configs: PluginConfigs, node: Node, declared: str) -> str:
    """What sets another MIG strategy on a node than was declared."""
    try:
        chosen = configs.of(node)
    except Inconclusive:
        return "the device plugin and feature discovery run with another strategy"
    if chosen.strategy_told:
        told = f"{chosen.source} sets mig.strategy to {chosen.strategy_told}, for every node"
        return told if chosen.strategy_told != declared else f"{told}: feature discovery has not read it yet"
    if chosen.selection.config is not None:
        says = chosen.selection.config.mig_strategy or MigStrategy.NONE
        return f"{chosen.text} sets flags.migStrategy to {says.value}"
    return chosen.selection.cause


def given_judged(judge: Judge, mig_nodes: MigNodes, what: str) -> None:
    """Say why no node could be judged: NotApplicable where the strategy shows no device, else where to look."""
    strategies = {mig_strategy_of(mig_nodes.reference, pool) for pool, _ in mig_nodes.pools}
    if not judge.findings and strategies == {MigStrategy.NONE}:
        raise NotApplicable(
            "the MIG strategy is none: GPUs are offered whole, and what they are divided in is not told"
        )
    judge.without_subjects(Inconclusive(f"no node of a MIG pool {what} (MIG-01, MIG-04, MIG-08 and POOL-04 say why)"))
