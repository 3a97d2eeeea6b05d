import pytest

from conformance.facts import Facts
from conformance.session.evidence import evidence_of
from conformance.verdict import EvidenceKind

REAL = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}}
FAKE = {**REAL, "metadata": {"name": "b", "annotations": {"kwok.x-k8s.io/node": "fake"}}}


@pytest.mark.parametrize(
    ("kind", "declared", "nodes", "evidence"),
    [
        ("context", None, [REAL], EvidenceKind.HARDWARE),
        ("context", EvidenceKind.CONTAINER, [REAL], EvidenceKind.CONTAINER),
        ("context", EvidenceKind.HARDWARE, [REAL, FAKE], EvidenceKind.SIMULATED),
        ("snapshot", None, [REAL], EvidenceKind.STATIC),
        ("snapshot", None, [FAKE], EvidenceKind.SIMULATED),
        ("embedded", None, [], EvidenceKind.SIMULATED),
    ],
)
def test_evidence_is_never_more_than_what_the_nodes_show(kind, declared, nodes, evidence):
    assert evidence_of(kind, declared, Facts.from_objects(nodes)) is evidence


def test_nodes_that_cannot_be_read_are_not_called_hardware():
    unreadable = Facts.from_objects([], unreadable={"nodes": "Forbidden"})

    assert evidence_of("context", EvidenceKind.HARDWARE, unreadable) is EvidenceKind.STATIC
