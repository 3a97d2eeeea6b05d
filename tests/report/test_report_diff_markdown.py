"""What changed between two runs as Markdown: the new comes first, it fits a CI step, no cluster writes in it."""

import pytest
from made_reports import hostile_report, made_report
from markdown_it import MarkdownIt
from msgspec.structs import replace
from runs import Night, broken, node, verdict

from conformance.cli import main
from conformance.report.comparing.difference import compare
from conformance.report.comparing.markdown import difference_markdown
from conformance.report.emitters import write_json
from conformance.report.formats.markdown import LIMIT
from conformance.report.model import Report
from conformance.verdict import EvidenceKind

PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
OLD = made_report(broken_nodes=3, run="older")


def told(old: Report, new: Report) -> str:
    return difference_markdown(compare([old], new))


def kinds(text: str) -> set[str]:
    return {each.type for token in PARSER.parse(text) for each in (token, *(token.children or ()))}


def test_what_is_new_comes_first_with_its_remedy_and_its_command() -> None:
    text = told(
        Night(1)(verdict("POOL-01", broken(node("gpu-9"))), verdict("POOL-02")),
        Night(2)(verdict("POOL-01"), verdict("POOL-02", broken(node("gpu-1"), node("gpu-2")))),
    )

    assert text.index("2 new, 1 fixed") < text.index("## New") < text.index("## Fixed") < text.index("## Verdicts")
    assert "**Subject:** `node gpu-1` and 1 more: `node gpu-2`" in text
    assert "- Remedy: mend gpu-1" in text
    assert "```\nlook at gpu-1\n```" in text
    assert "| newly failed | POOL-02 | `passed` | `failed` |" in text


def test_a_hostile_cluster_adds_no_mark_up() -> None:
    text = told(OLD, hostile_report())

    assert not {"html_block", "html_inline", "link_open", "image", "em_open", "s_open"} & kinds(text)
    assert "\x1b" not in text
    tables = [token for token in PARSER.parse(text) if token.type == "tr_open"]
    assert len(tables) == len(
        [token for token in PARSER.parse(told(OLD, made_report(text="x"))) if token.type == "tr_open"]
    )
    headings = [token.tag for token in PARSER.parse(text) if token.type == "heading_open"]
    assert headings.count("h1") == 1


def test_two_clusters_and_simulated_evidence_are_said() -> None:
    other = replace(OLD, cluster=replace(OLD.cluster, name="staging", uid=None))

    assert "**Another cluster: staging, now prod-gpu.**" in told(other, made_report())
    assert "SIMULATED EVIDENCE" in told(OLD, made_report(evidence=EvidenceKind.SIMULATED))
    assert "SIMULATED" not in told(OLD, made_report())


def test_a_difference_larger_than_a_ci_step_takes_says_what_it_leaves_out() -> None:
    found = [broken(node(f"gpu-{number}"), cause=f"cause {number} {'x' * 900}")[0] for number in range(3000)]
    text = told(Night(1)(verdict("POOL-02")), Night(2)(verdict("POOL-02", found)))

    assert 900_000 < len(text.encode()) < LIMIT
    assert "Left out for want of room:" in text


def test_the_command_writes_it(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    for name, report in (("old", OLD), ("new", made_report())):
        (tmp_path / name).mkdir()
        write_json(report, tmp_path / name)

    assert main(["report", "diff", str(tmp_path / "old"), str(tmp_path / "new"), "--to", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("# What changed on `prod-gpu`")
