"""The end of a run on a terminal fits one screen and begins with causes; -v leaves nothing out."""

from pathlib import Path

import msgspec
import pytest
from made_reports import HOSTILE, hostile_report, made_report

from conformance.facts import snapshot
from conformance.report.model import Cause, Report
from conformance.report.visible import visible
from conformance.session import summary
from conformance.verdict import Status

FILES = [Path("gpu-conformance-report/report.json"), Path("gpu-conformance-report/junit.xml")]
LONG = "no node of the cluster belongs to this pool, so that nothing in it can be looked at; " * 6


def crowded() -> Report:
    """Forty causes that things wait for, sixty failures, and notes of what was left behind."""
    report = made_report()
    causes = tuple(Cause("POOL-01", "failed", f"pool {number}: {LONG}", ("DRA-01", "DRA-02")) for number in range(40))
    [failed] = [each for each in report.requirements if each.status is Status.FAILED]
    verdicts = tuple(
        msgspec.structs.replace(each, groups=failed.groups[:1] * 60) if each is failed else each
        for each in report.requirements
    )
    notes = (summary.left_behind(["Node a: no answer"], "gpu-conformance clean --cluster prod r"), LONG, LONG)
    return msgspec.structs.replace(report, causes=causes, requirements=verdicts, notes=notes)


def texts(report: Report, **options: object) -> list[str]:
    return [line.text for line in summary.lines(report, FILES, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [80, 120, 160])
@pytest.mark.parametrize("report", [made_report(), crowded(), hostile_report()], ids=["usual", "crowded", "hostile"])
def test_the_summary_fits_a_screen(report, width):
    told = texts(report, width=width, most=21)

    assert len(told) <= 21
    assert all(len(line) <= width for line in told)


def test_causes_come_first_and_what_was_left_behind_is_always_said():
    told = texts(crowded(), width=80, most=21)

    assert told[2].startswith("  POOL-01: pool 0: no node")
    assert any("POOL-02" in line for line in told)
    assert "gpu-conformance clean --cluster prod r" in " ".join(" ".join(told).split())
    assert "  and 39 other causes for which requirements wait" in told
    assert told[-1].startswith("report: gpu-conformance-report/report.json")


@pytest.mark.parametrize("brief", [False, True])
def test_the_command_that_removes_what_is_left_is_never_cut_off(brief):
    left = summary.left_behind(
        [f"node gpu-{number}" for number in range(200)], "gpu-conformance clean --cluster prod r"
    )
    cluster = msgspec.structs.replace(crowded().cluster, unreadable={f"kind {n}": f"why {n}" for n in range(30)})
    report = msgspec.structs.replace(crowded(), cluster=cluster, notes=("a note", left))

    told = texts(report, width=80, most=21, brief=brief)

    assert len(told) <= 21
    assert any(line.startswith("could not be put back: node gpu-0; node gpu-1") for line in told)
    assert "           Run: gpu-conformance clean --cluster prod r" in told


def test_verbose_leaves_nothing_out():
    told = texts(crowded(), width=80)

    assert sum("pool " in line and "POOL-01" in line for line in told) == 40
    assert not any("other causes" in line for line in told)


def test_quiet_has_causes_and_the_outcome():
    told = texts(made_report(), width=120, most=21, brief=True)

    assert told[0].startswith("  POOL-01")
    assert not any("Kubernetes" in line or "partial" in line for line in told)
    assert any("(exit code 1)" in line for line in told)


def test_names_of_a_cluster_do_nothing_to_the_terminal():
    written: list[str] = []

    class Terminal:
        def section(self, *text: object, **marks: object) -> None: ...

        def line(self, text: str, **marks: object) -> None:
            written.append(text)

    summary.write(Terminal(), hostile_report(), FILES, verbosity=1)  # type: ignore[arg-type]

    assert "\x1b" in HOSTILE
    assert written
    assert not any("\x1b" in line for line in written)


@pytest.mark.parametrize("verbosity", ["-q", "-rA", "-v"])
def test_a_message_of_the_cluster_does_nothing_to_the_terminal_of_a_run(conform, tmp_path, verbosity):
    node = {
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "gpu-1", "labels": {"nvidia.com/gpu.present": "true"}},
        "status": {"capacity": {"nvidia.com/gpu": "8"}, "conditions": [{"type": "Ready", "status": "True"}]},
    }  # fmt: skip
    condition = {"type": "Error", "status": "True", "reason": "ReconcileFailed", "message": f"{HOSTILE}\u202e"}
    policy = {
        "apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "metadata": {"name": "cluster-policy"}, "spec": {},
        "status": {"state": "notReady", "conditions": [condition]},
    }  # fmt: skip
    snapshot.save(snapshot.Snapshot.of([node, policy]), tmp_path / "cluster.json.gz")

    outcome = conform("--cluster", f"snapshot:{tmp_path / 'cluster.json.gz'}", "--color=no", verbosity)

    assert visible(HOSTILE.partition("\n")[0]) in outcome.output
    assert not {"\x1b", "\u202e"} & set(outcome.output)
