"""The UID of a cluster tells it from others, whatever they are called, and where both reports have one."""

from pathlib import Path

import pytest
from runs import Night, broken, node, verdict

from conformance.cli import main
from conformance.facts import Facts
from conformance.redaction import Redactor
from conformance.report.comparing.clusters import by_cluster, fleet_of
from conformance.report.comparing.difference import compare
from conformance.report.comparing.shards import Shard
from conformance.report.comparing.trend import of_cluster
from conformance.report.emitters import write_json
from conformance.report.model import Report
from conformance.report.reading import ReportError
from conformance.report.redacted import learn_from, redacted

ONE, OTHER = "6f1c0a52-0001-4000-8000-000000000001", "6f1c0a52-0001-4000-8000-000000000002"
KUBE_SYSTEM = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": ONE}}


def night(day: int, uid: str | None = ONE, cluster: str = "prod-gpu") -> Report:
    return Night(day, cluster=cluster, uid=uid)(verdict("POOL-02", broken(node("gpu-1"))))


def grave(old: Report, new: Report) -> list[tuple[str, str, str]]:
    return [(each.what, each.old, each.new) for each in compare([old], new).grave]


def test_it_is_that_of_the_namespace_kube_system() -> None:
    assert Facts.from_objects([KUBE_SYSTEM]).cluster_uid == ONE
    assert Facts.from_objects([KUBE_SYSTEM], unreadable={"namespaces": "Forbidden"}).cluster_uid is None
    assert Facts.from_objects([]).cluster_uid is None


def test_a_cluster_of_the_same_name_that_was_made_anew_is_another_one() -> None:
    assert grave(night(1), night(2, OTHER)) == [
        ("cluster", f"prod-gpu (UID {ONE})", f"prod-gpu (UID {OTHER})"),
    ]
    assert grave(night(1), night(2)) == []


def test_a_cluster_that_is_called_otherwise_is_the_same_one() -> None:
    assert grave(night(1), night(2, cluster="prod-gpu-eu")) == []


@pytest.mark.parametrize("uids", [(None, ONE), (ONE, None), (None, None)])
def test_without_both_the_name_decides(uids: tuple[str | None, str | None]) -> None:
    assert grave(night(1, uids[0]), night(2, uids[1])) == []
    assert grave(night(1, uids[0]), night(2, uids[1], "staging")) == [("cluster", "prod-gpu", "staging")]


def test_two_clusters_of_one_name_are_two_of_a_fleet_and_no_shards() -> None:
    fleet = fleet_of(by_cluster([Shard("a", night(1)), Shard("b", night(1, OTHER))]))

    assert [each.cluster for each in fleet.clusters] == [f"prod-gpu (UID {ONE})", f"prod-gpu (UID {OTHER})"]
    assert [each.uid for each in fleet.clusters] == [ONE, OTHER]
    assert len(fleet.requirements[0].clusters) == 2


def test_a_report_that_may_be_of_either_of_two_clusters_is_refused() -> None:
    with pytest.raises(ReportError, match="c does not say which of the 2 clusters called prod-gpu"):
        by_cluster([Shard("a", night(1)), Shard("b", night(1, OTHER)), Shard("c", night(1, None))])


def test_a_trend_of_two_clusters_of_one_name_asks_for_a_uid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for day, uid in enumerate([ONE, OTHER, OTHER], 1):
        (tmp_path / str(day)).mkdir()
        write_json(night(day, uid), tmp_path / str(day))

    assert main(["report", "trend", str(tmp_path), "--cluster", "prod-gpu"]) != 0
    assert f"choose one by its UID with --cluster; there are {ONE}, {OTHER}" in capsys.readouterr().err
    assert len(of_cluster([night(1), night(2, OTHER), night(3, OTHER)], OTHER)) == 2


@pytest.mark.parametrize("uid", [ONE, "made-by-hand"])
def test_it_is_replaced_and_two_redacted_reports_are_still_of_one_cluster(uid: str) -> None:
    redactor = Redactor(b"0123456789abcdef0123456789abcdef")
    told = []
    for report in (night(1, uid), night(2, uid), night(3, OTHER)):
        learn_from(report, redactor)
        told.append(redacted(report, redactor))

    assert uid not in str(told)
    assert grave(*told[:2]) == []
    assert [what for what, _, _ in grave(told[0], told[2])] == ["cluster"]
