"""Fleets and trends as Markdown: the worst comes first, it fits a CI step, no cluster writes in it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from made_reports import hostile_report, made_report
from markdown_it import MarkdownIt
from msgspec.structs import replace
from runs import Night, broken, node, renamed, verdict

from conformance.cli import main
from conformance.report.comparing.clusters import fleet_of
from conformance.report.comparing.fleet_markdown import fleet_markdown
from conformance.report.comparing.trend import trend_of
from conformance.report.comparing.trend_markdown import trend_markdown
from conformance.report.emitters import write_json
from conformance.report.formats.markdown import LIMIT
from conformance.report.model import Report
from conformance.verdict import EvidenceKind, Status

PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def of_cluster(report: Report, name: str) -> Report:
    return replace(report, cluster=replace(report.cluster, name=name, uid=None))


def fleet(*reports: Report) -> str:
    return fleet_markdown(fleet_of(reports))


def trend(*reports: Report) -> str:
    return trend_markdown(trend_of(reports, ["<b>|\x1b[2J/report.json: it is empty"]))


def rows(text: str) -> list[list[str]]:
    """Every row of every table, cell by cell, as a reader of Markdown shows it."""
    found: list[list[str]] = []
    for token, content in zip(tokens := PARSER.parse(text), [*tokens[1:], tokens[-1]], strict=True):
        if token.type == "tr_open":
            found.append([])
        if token.type in ("td_open", "th_open"):
            found[-1].append("".join(each.content for each in content.children or ()))
    return found


def test_a_fleet_tells_the_worst_cluster_first_and_what_clusters_have_in_common_once() -> None:
    sound = of_cluster(Night(1)(verdict("POOL-01"), verdict("POOL-02")), "sound")
    waiting = verdict("POOL-02", Status.WAITING, reason="pool a has no node", waits_for="POOL-01")
    ill = [of_cluster(Night(1)(verdict("POOL-01", broken(node(name))), waiting), f"ill-{name}") for name in ("a", "b")]

    text = fleet(sound, *ill)

    assert text.startswith("# GPU conformance of a fleet\n\n**3 clusters: 2 failed, ")
    assert [row[0] for row in rows(text) if row[0] in ("sound", "ill-a", "ill-b")] == ["ill-a", "ill-b", "sound"]
    assert "### POOL-01 MUST: " in text
    assert "- **failed** on `ill-a`, 1 subject\n" in text
    assert "  - Remedy: mend a" in text
    assert rows(text)[-1][1:] == ["POOL-02", "ill-a, ill-b"]
    assert "### POOL-02" not in text


def test_a_trend_tells_what_flaps_before_what_changed_and_each_run_with_what_is_unlike() -> None:
    def night(number: int, first: bool, second: bool) -> Report:
        found = [broken(node("gpu-1")) if each else () for each in (first, second)]
        return Night(number)(verdict("POOL-01", found[0]), verdict("POOL-02", found[1]), verdict("DRA-01"))

    nights = [night(1, True, False), night(2, False, False), night(3, True, False), night(4, False, True)]
    nights[3] = replace(nights[3], reference="another")

    text = trend(*nights)

    assert text.index("## Flapping") < text.index("## Subjects") < text.index("## Changed") < text.index("## Runs")
    told = rows(text)
    assert ["POOL-01 MUST", "F.F.", "passed"] in [row[:3] for row in told]
    assert ["POOL-02 MUST", "...F", "failed"] in [row[:3] for row in told]
    assert ["POOL-01", "F.F.", "node gpu-1"] in told
    newest = next(row for row in told if "exit code" in row[1])
    assert newest[4].startswith("reference ")
    assert newest[4].endswith(" -> another")
    assert "1 other requirements ended the same" in text
    assert "## Not read\n\n- " in text


def test_a_run_that_does_not_know_a_requirement_has_a_mark_in_its_place() -> None:
    text = trend(Night(1)(verdict("POOL-02")), Night(2)(verdict("POOL-01"), verdict("POOL-02")))

    assert ["POOL-01 MUST", "·."] in [row[:2] for row in rows(text)]


WRITERS = {"fleet": fleet, "trend": trend}


@pytest.mark.parametrize("written", WRITERS.values(), ids=WRITERS)
def test_a_hostile_cluster_adds_no_mark_up(written: Callable[..., str]) -> None:
    older = made_report(broken_nodes=3, run="older")
    text, tame = written(older, hostile_report()), written(older, made_report(text="x"))

    kinds = {each.type for token in PARSER.parse(text) for each in (token, *(token.children or ()))}
    assert not {"html_block", "html_inline", "link_open", "image", "em_open", "s_open"} & kinds
    assert "\x1b" not in text
    assert [len(row) for row in rows(text)] == [len(row) for row in rows(tame)]
    headings = [token.tag for token in PARSER.parse(text) if token.type == "heading_open"]
    assert headings == [token.tag for token in PARSER.parse(tame) if token.type == "heading_open"]


@pytest.mark.parametrize("written", WRITERS.values(), ids=WRITERS)
def test_simulated_evidence_is_said(written: Callable[..., str]) -> None:
    assert "SIMULATED EVIDENCE" in written(made_report(evidence=EvidenceKind.SIMULATED))
    assert "SIMULATED" not in written(made_report())


@pytest.mark.parametrize("written", WRITERS.values(), ids=WRITERS)
def test_what_is_larger_than_a_ci_step_takes_says_what_it_leaves_out(written: Callable[..., str]) -> None:
    long = "x" * 900
    night = Night(1)(verdict("POOL-01", broken(node("gpu-1"), cause=long)))
    names = [f"{number}-{long}" if written is fleet else "one" for number in range(1500)]
    reports = [replace(of_cluster(night, name), outcome=long, reference=f"{at}") for at, name in enumerate(names)]

    text = written(*reports)

    assert 900_000 < len(text.encode()) < LIMIT
    assert "Left out for want of room:" in text


def test_the_commands_write_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, report in (("one", made_report(run="one")), ("two", renamed(made_report(), "two"))):
        (tmp_path / name).mkdir()
        write_json(report, tmp_path / name)
    (tmp_path / "other").mkdir()
    write_json(of_cluster(made_report(run="other"), "staging"), tmp_path / "other")

    assert main(["report", "merge", str(tmp_path / "one"), str(tmp_path / "other"), "--to", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("# GPU conformance of a fleet")
    assert main(["report", "trend", str(tmp_path), "--cluster", "prod-gpu", "--to", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("# GPU conformance over time: `prod-gpu`")
