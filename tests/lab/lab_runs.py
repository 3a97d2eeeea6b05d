"""Runs and requirements for tests of the lab."""

from memory_cluster import QUICK, MemoryCluster

from conformance.catalog import MUST, Requirement
from conformance.kube.effects import Effect, Landing, Mode
from conformance.lab import Lab

RUN_ID = "abcdefgh"
OTHER_RUN = "zyxwvuts"


def rule(effect: Effect = Effect.DISRUPTIVE, rule_id: str = "PRIO-99", pods: Landing = Landing.ANYWHERE) -> Requirement:
    """A requirement that may do what ``effect`` says."""
    return Requirement(rule_id, "A rule", MUST, "priorities", effect, ("a source",), "a remedy", pods=pods)


def lab_on(memory: MemoryCluster, run_id: str = RUN_ID, mode: Mode = Mode.FULL) -> Lab:
    """A lab on the cluster, not begun."""
    return Lab(memory.client(run_id, mode.limit), run_id, QUICK, mode=mode, holder="somebody@somewhere")


def abandon(lab: Lab) -> None:
    """Let a run end as a kill ends it: no clean-up, no more renewals."""
    lab._heartbeat.stop()
    lab._signals.close()
