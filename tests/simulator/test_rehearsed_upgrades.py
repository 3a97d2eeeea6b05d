"""A rehearsal tells what was foretold and what came true, and refuses what it cannot rehearse."""

from pathlib import Path

import pytest

from conformance import cli
from conformance.session.rehearsing import Answer, Rehearsal
from conformance.shipped import shipped

USAGE = 4
GO, NO_GO = Answer("go", "GO for driver 595.91.07"), Answer("no-go", "NO-GO for driver 595.91.07; failed: UPG-04")
DONE, NOT_DONE = Answer("done", "DONE for driver 595.91.07"), Answer("not-done", "NOT DONE for driver 595.91.07")


def test_a_go_that_came_true_is_good() -> None:
    rehearsal = Rehearsal(GO, 3, (), DONE)

    assert rehearsal.good
    assert list(rehearsal.lines()) == [
        "before    GO for driver 595.91.07",
        "upgrade   all 3 nodes have the new driver",
        "after     DONE for driver 595.91.07",
    ]


@pytest.mark.parametrize("rehearsal", [Rehearsal(NO_GO, 3, (), DONE), Rehearsal(GO, 3, (), NOT_DONE)])
def test_a_no_go_is_not_good_whatever_came_of_it(rehearsal: Rehearsal) -> None:
    assert not rehearsal.good


def test_nodes_that_stand_still_are_listed_with_their_state() -> None:
    told = list(Rehearsal(NO_GO, 3, ("node a: drain-required, driver 580.95.05",), NOT_DONE).lines())

    assert "upgrade   stood still: 1 of 3 nodes are not done" in told
    assert "          node a: drain-required, driver 580.95.05" in told


def test_what_is_no_driver_is_refused_before_a_cluster_is_started(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rehearse-upgrade", "latest"]) == USAGE
    assert "no NVIDIA driver version" in capsys.readouterr().err


def test_a_set_up_without_operator_is_refused_before_a_cluster_is_started(capsys: pytest.CaptureFixture[str]) -> None:
    alone = shipped("fixtures/setups/device-plugin-alone/reference")

    assert cli.main(["rehearse-upgrade", "595.91.07", "--gpu-reference", str(alone)]) == USAGE
    assert "declares no GPU Operator" in capsys.readouterr().err


@pytest.mark.cluster
def test_one_node_is_upgraded_as_foretold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = shipped("fixtures/setups/one-gpu")
    fleet = ["--gpu-reference", str(one / "reference"), "--topology", str(one / "topology.yaml")]

    code = cli.main(["rehearse-upgrade", "595.91.07", *fleet, "--gpu-report", str(tmp_path / "out")])

    told = capsys.readouterr().out
    assert code == 0, told
    assert "before    GO for driver 595.91.07" in told
    assert "upgrade   all 1 nodes have the new driver" in told
    assert "after     DONE for driver 595.91.07" in told
    assert (tmp_path / "out" / "before" / "upgrade-baseline.json").is_file()
    assert (tmp_path / "out" / "after" / "report.json").is_file()
