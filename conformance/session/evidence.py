"""What kind of evidence a run can give: decided by where the cluster comes from and by what its nodes say."""

from conformance.facts import Facts
from conformance.verdict import EvidenceKind


def evidence_of(kind: str, declared: EvidenceKind | None, facts: Facts) -> EvidenceKind:
    """The evidence of a run on a cluster of ``kind`` (embedded, context, snapshot) with these facts.

    A clusters file may declare less than hardware, never more than what the nodes show: a fleet with simulated
    nodes, or with nodes whose GPUs are simulated, is simulated whatever anyone declares, and where nodes cannot be read
    nobody can call them hardware.
    """
    if kind == "embedded":
        return EvidenceKind.SIMULATED
    if "nodes" in facts.unreadable:
        return EvidenceKind.STATIC
    if facts.simulated or facts.simulated_gpus:
        return EvidenceKind.SIMULATED
    return EvidenceKind.STATIC if kind == "snapshot" else declared or EvidenceKind.HARDWARE
