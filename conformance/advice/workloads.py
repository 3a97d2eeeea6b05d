"""Advice on workloads: what is not said of them is not judged."""

from collections.abc import Iterator

from conformance.advice.rules import Remark, Rules, Setup

RULES = Rules()


@RULES.rule("workload-without-pools", "SCHED-13, SCHED-16")
def workload_without_pools(setup: Setup) -> Iterator[Remark]:
    """Workloads that may land anywhere, as far as the set-up says."""
    for at, workload in enumerate(setup.reference.workloads):
        if not workload.pools and setup.reference.pools:
            yield Remark(
                ("workloads", at), f"{workload} names no pools: where it may land and whether it runs is not judged"
            )


@RULES.rule("workload-without-class", "kubernetes.io: Pod Priority and Preemption")
def workload_without_class(setup: Setup) -> Iterator[Remark]:
    """Workloads that name no priority class where classes are declared."""
    if not setup.reference.priority_classes:
        return
    default = setup.reference.default_priority_class
    gets = f"the default {default.name}" if default else "priority 0, below every declared class above it"
    for at, workload in enumerate(setup.reference.workloads):
        if workload.priority_class is None:
            yield Remark(("workloads", at), f"{workload} names no priority class: its pods get {gets}")


@RULES.rule("workload-as-default-account", "TEN-10; kubernetes.io: Configure Service Accounts for Pods")
def workload_as_default_account(setup: Setup) -> Iterator[Remark]:
    """Workloads that name no account in a namespace that declares some."""
    for at, workload in enumerate(setup.reference.workloads):
        team = setup.reference.team(workload.namespace)
        if team is not None and team.service_accounts and workload.service_account in (None, "default"):
            names = ", ".join(account.name for account in team.service_accounts)
            yield Remark(
                ("workloads", at), f"{workload} names no account, so that nobody sees whether it runs as {names}"
            )
