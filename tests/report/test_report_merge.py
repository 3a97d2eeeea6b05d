"""Shards of a run become one report; reports of several clusters a fleet. What contradicts itself is refused."""

import json
from pathlib import Path

import pytest
from made_reports import HOSTILE, hostile_report, made_report
from msgspec.structs import replace
from runs import Night, broken, node, renamed, verdict
from schemas import validate

from conformance.cli import main
from conformance.report.comparing.clusters import by_cluster, fleet_of
from conformance.report.comparing.shards import Shard, merged
from conformance.report.emitters import write_json
from conformance.report.model import EXIT_INCOMPLETE, Excused, Report
from conformance.report.reading import ReportError, read
from conformance.verdict import Status

LEFT_OUT = "left out by the selection"


def left_out(id: str):
    return verdict(id, Status.NOT_RUN, reason=LEFT_OUT)


def shards(*reports: Report) -> list[Shard]:
    return [Shard(f"{name}.json", renamed(report, name)) for name, report in zip("abcdef", reports, strict=False)]


def statuses(report: Report) -> dict[str, str]:
    return {each.requirement: str(each.status) for each in report.requirements}


def test_shards_are_one_report_with_what_each_judged() -> None:
    one = Night(1)(verdict("POOL-01"), left_out("POOL-02"), left_out("POOL-03"))
    other = Night(1)(left_out("POOL-01"), verdict("POOL-02", broken(node("gpu-1"))), left_out("POOL-03"))

    report = merged(shards(one, other))

    assert statuses(report) == {"POOL-01": "passed", "POOL-02": "failed", "POOL-03": "not-run"}
    assert (report.exit_code, report.outcome) == (1, "1 requirement failed")
    assert report.run.id == "a+b"
    assert report.notes == ("merged of 2 reports, of the runs a, b",)
    assert [(profile.name, str(profile.result)) for profile in report.profiles] == [("pools", "failed")]


def test_what_waits_for_a_requirement_of_another_shard_is_told_with_how_that_ended() -> None:
    one = Night(1)(verdict("POOL-01", broken(node("gpu-1"))))
    other = Night(1)(verdict("DRA-01", Status.WAITING, reason="no pool", waits_for="POOL-01"))

    (cause,) = merged(shards(one, other)).causes

    assert (cause.requirement, cause.status, cause.waiting) == ("POOL-01", "failed", ("DRA-01",))


def test_a_requirement_that_two_shards_judged_alike_is_taken_once_and_one_judged_otherwise_names_both() -> None:
    alike = Night(1)(verdict("POOL-02", broken(node("gpu-1"))))
    assert statuses(merged(shards(alike, alike))) == {"POOL-02": "failed"}

    with pytest.raises(ReportError) as refused:
        merged(shards(alike, Night(1)(verdict("POOL-02"))))
    assert "POOL-02 was judged twice, and not alike: failed with 1 broken in a.json, passed in b.json" in str(
        refused.value
    )
    with pytest.raises(ReportError, match="judged twice"):
        merged(shards(alike, Night(1)(verdict("POOL-02", broken(node("gpu-2"))))))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Night(1, mode="full"), "mode is audit in the one and full in the other"),
        (Night(1, reference="ours"), "reference is h100-fleet in the one and ours in the other"),
        (Night(1, settings={"timeout": "['a=1'] (from option)"}), "setting timeout is not set in the one"),
    ],
)
def test_reports_of_other_options_are_no_shards_and_both_are_named(other: Night, said: str) -> None:
    with pytest.raises(ReportError) as refused:
        merged(shards(Night(1)(verdict("POOL-01")), other(verdict("POOL-02"))))

    assert "a.json and b.json are no shards of one run" in str(refused.value)
    assert said in str(refused.value)


def test_shards_may_differ_in_what_they_select_and_where_they_write() -> None:
    one = Night(1, settings={"profile": "['pools'] (from option)", "report": "a (from option)"})(verdict("POOL-01"))
    other = Night(1, settings={"requirement": "['POOL-02'] (from option)"})(verdict("POOL-02"))

    assert statuses(merged(shards(one, other))) == {"POOL-01": "passed", "POOL-02": "passed"}


def test_a_shard_that_was_killed_or_failed_otherwise_is_not_forgotten() -> None:
    fine = Night(1)(verdict("POOL-01"))
    killed = replace(Night(1)(verdict("POOL-02")), exit_code=EXIT_INCOMPLETE, outcome="the run was killed")
    crashed = replace(Night(1)(verdict("POOL-02")), exit_code=1, outcome="something else did")

    assert merged(shards(fine, killed)).exit_code == EXIT_INCOMPLETE
    assert merged(shards(fine, killed)).outcome == "nothing failed, but of b.json: the run was killed"
    assert merged(shards(fine, crashed)).exit_code == 1


def test_what_is_excused_or_unreadable_in_one_shard_is_so_in_all() -> None:
    one = replace(Night(1)(verdict("POOL-01")), excused=(Excused("GKE", ("a",), 3), Excused("Istio", ("i",), 1)))
    other = replace(Night(1)(verdict("POOL-02")), excused=(Excused("GKE", ("b",), 5, ("high",)),))

    report = merged(shards(one, other))

    assert report.excused == (Excused("GKE", ("a", "b"), 5, ("high",)), Excused("Istio", ("i",), 1))


def clusters() -> list[Report]:
    missing = verdict("POOL-02", broken(node("gpu-1"), node("gpu-2")))
    return [
        Night(1, cluster="eu")(verdict("POOL-01"), missing),
        Night(1, cluster="us")(verdict("POOL-01"), verdict("POOL-02")),
        Night(1, cluster="asia")(verdict("POOL-01", Status.ERROR, reason="Forbidden"), missing),
    ]


def test_a_fleet_has_every_requirement_on_every_cluster_the_worst_first() -> None:
    fleet = fleet_of(clusters())

    assert (fleet.exit_code, fleet.outcome) == (1, "3 clusters: 2 failed, 0 incomplete, 1 without a failure")
    assert [(row.requirement, [str(cell.status) for cell in row.clusters]) for row in fleet.requirements] == [
        ("POOL-02", ["failed", "passed", "failed"]),
        ("POOL-01", ["passed", "passed", "error"]),
    ]
    assert [(cell.cluster, cell.broken, cell.remedy) for cell in fleet.requirements[0].attention] == [
        ("eu", 2, "mend gpu-1"),
        ("asia", 2, "mend gpu-1"),
    ]


def test_what_waits_is_told_once_by_its_cause_and_not_beside_what_failed() -> None:
    def waiting(cluster: str) -> Report:
        waits = [verdict(id, Status.WAITING, reason="no pool", waits_for="POOL-01") for id in ("DRA-01", "DRA-02")]
        return Night(1, cluster=cluster)(verdict("POOL-01", broken(node("gpu-1"))), *waits)

    fleet = fleet_of([waiting("eu"), waiting("us")])

    assert [row.requirement for row in fleet.requirements if row.attention] == ["POOL-01"]
    assert fleet.waiting == (("waits for POOL-01: no pool", ("DRA-01", "DRA-02"), ("eu", "us")),)


def test_shards_of_the_clusters_of_a_fleet_are_merged_first() -> None:
    shard = Night(1, cluster="eu")(verdict("DRA-01"))

    reports = by_cluster(shards(clusters()[0], clusters()[1], shard))

    assert [(report.cluster.name, report.run.id) for report in reports] == [("eu", "a+c"), ("us", "b")]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for report in clusters():
        (tmp_path / report.cluster.name).mkdir()
        write_json(report, tmp_path / report.cluster.name)
    return [str(tmp_path / name) for name in ("eu", "us", "asia")]


def test_the_command_shows_a_fleet_and_its_json_obeys_the_schema(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "merge", *files]) == 0
    told = capsys.readouterr().out
    assert "failed on eu, asia, 4 subjects" in told
    assert "remedy   mend gpu-1" in told

    assert main(["report", "merge", *files, "--json"]) == 0
    validate(json.loads(capsys.readouterr().out), "reports/fleet.schema.json")


def test_the_command_writes_shards_as_a_report_that_is_read_again(tmp_path: Path) -> None:
    for name, report in (("a", Night(1)(verdict("POOL-01"))), ("b", Night(1)(verdict("POOL-02")))):
        (tmp_path / name).mkdir()
        write_json(renamed(report, name), tmp_path / name)
    to = tmp_path / "merged" / "report.json"

    assert main(["report", "merge", str(tmp_path / "a"), str(tmp_path / "b"), "--json", "-o", str(to)]) == 0

    assert statuses(read(to)) == {"POOL-01": "passed", "POOL-02": "passed"}


def test_the_command_refuses_with_one_sentence(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.json").write_text('{"kind": "Pod"}')
    for arguments, said in (
        ([*files, str(tmp_path / "bad.json")], "is no report of gpu-conformance"),
        ([str(tmp_path)], "is no folder of one run"),
        ([*files, "--to", "pdf"], "there is no such format here"),
    ):
        assert main(["report", "merge", *arguments]) == 4
        told = capsys.readouterr().err
        assert said in told
        assert len(told.splitlines()) == 1


@pytest.mark.parametrize("to", ["text", "html"])
def test_hostile_names_of_a_fleet_reach_no_terminal(
    tmp_path: Path, to: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, report in (("a", made_report()), ("b", hostile_report())):
        (tmp_path / name).mkdir()
        write_json(report, tmp_path / name)

    assert main(["report", "merge", str(tmp_path / "a"), str(tmp_path / "b"), "--to", to]) == 0

    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert HOSTILE not in told
