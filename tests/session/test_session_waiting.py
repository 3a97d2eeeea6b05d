"""What a run says of waiting pods that it could not explain: its report is written all the same."""

from types import SimpleNamespace

import pytest

from conformance.facts.snapshot import Snapshot, save
from conformance.kube.errors import Unreachable
from conformance.reference import Reference
from conformance.report.model import ClusterFacts, Report, RunFacts
from conformance.session import waiting
from conformance.verdict import EvidenceKind

REPORT = Report(
    RunFacts("r", "1", "audit", "", "", {}),
    ClusterFacts("prod", "snapshot", "", EvidenceKind.STATIC, 0, 0, {}),
    "guide", "", 0, (), (), (),
)  # fmt: skip


@pytest.mark.parametrize(
    ("error", "said"),
    [(Unreachable("prod", "no route"), "prod could not be reached"), (KeyError("spec"), "in gpu-conformance itself")],
)
def test_a_note_says_why_there_is_no_explanation(tmp_path, monkeypatch, error, said):
    save(Snapshot.of([]), tmp_path / "s")
    run = SimpleNamespace(
        cluster=SimpleNamespace(snapshot=tmp_path / "s"),
        facts=SimpleNamespace(taken_at=None),
        reference=Reference(name="guide"),
    )

    def fail(*_: object):
        raise error

    monkeypatch.setattr(waiting, "waiting_pods", fail)
    told = waiting.with_waiting_pods(REPORT, run)

    assert not told.waiting_pods
    assert said in told.notes[0]
