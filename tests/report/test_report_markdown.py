"""The Markdown summary: what a parser of GitHub's tables sees in it, its size, and that no cluster can write in it."""

import msgspec
import pytest
from made_reports import HOSTILE, hostile_report, made_report
from markdown_it import MarkdownIt
from markdown_it.token import Token

from conformance.report.formats import FORMATS
from conformance.report.formats.markdown import LIMIT
from conformance.report.formats.markdown.texts import block, cell, code, plain
from conformance.report.model import Report
from conformance.verdict import EvidenceKind

# html=True: what a reader lets through as HTML is a token of its own, which no summary may have.
PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
HARMLESS = {"text", "code_inline", "softbreak", "strong_open", "strong_close"}
MEANT_TO_HARM = (
    HOSTILE,
    "# heading\n\n- item\n> quote\n***",
    "![x](http://a/b.png) <img src=x onerror=alert(1)> <!-- -->",
    "`` a ``` b `",
    "a\\| b | c",
    "http://evil.example www.evil.example evil@example.com @team #12 GH-12 :smile: $x$ ~~gone~~",
    "</details></table><h1>",
    "```\n| a |\n|---|\n| b |",
    "[a]: http://evil.example",
    "1. one 2) two === ---",
    "\x1b]8;;http://evil\x1b\\click\u202e",
)


def tokens(text: str) -> list[Token]:
    found: list[Token] = []
    for token in PARSER.parse(text):
        found += [token, *(token.children or ())]
    return found


def links(text: str) -> list[object]:
    return [token.attrs["href"] for token in tokens(text) if token.type == "link_open"]


def words(text: str) -> str:
    return " ".join(token.content for token in tokens(text) if token.type in {"text", "code_inline", "fence"})


def blocks(report: Report) -> list[str]:
    """The blocks of the summary: headings, items, tables; not what stands in a line."""
    return [f"{token.type} {token.tag}" for token in PARSER.parse(FORMATS["markdown"].render(report))]


def test_tables_and_headings_are_read_as_such() -> None:
    found = tokens(FORMATS["markdown"].render(made_report()))
    cells = [found[at + 1].content for at, token in enumerate(found) if token.type == "th_open"]

    assert cells[:3] == ["Profile", "Result", "failed"]
    assert {"Pool", "GPUs allocatable"} <= set(cells)
    assert [token.tag for token in found if token.type == "heading_open"].count("h1") == 1
    assert "kubectl get node gpu-0 --show-labels\n" in [token.content for token in found if token.type == "fence"]


def test_the_verdict_comes_first_and_then_what_to_fix() -> None:
    told = words(FORMATS["markdown"].render(made_report()))

    assert told.index("1 requirement failed") < told.index("pool h100-dra has no node") < told.index("Profile")
    assert "3 of 7 requirements were judged" in told
    assert "SIMULATED" not in told
    assert "SIMULATED EVIDENCE" in words(FORMATS["markdown"].render(made_report(evidence=EvidenceKind.SIMULATED)))


def test_a_hostile_cluster_adds_no_mark_up() -> None:
    hostile = FORMATS["markdown"].render(hostile_report())

    assert blocks(hostile_report()) == blocks(made_report())
    assert {token.type for token in tokens(hostile) if token.level == 0 or not token.nesting} <= {
        token.type for token in tokens(FORMATS["markdown"].render(made_report()))
    } | HARMLESS
    assert not {"html_block", "html_inline", "image", "em_open", "s_open"} & {token.type for token in tokens(hostile)}
    assert links(hostile) == links(FORMATS["markdown"].render(made_report()))
    assert "\x1b" not in hostile


@pytest.mark.parametrize("text", MEANT_TO_HARM)
def test_no_text_is_more_than_text(text: str) -> None:
    (paragraph, line, end) = PARSER.parse(f"Found: {plain(text)}")

    assert (paragraph.type, end.type) == ("paragraph_open", "paragraph_close")
    assert {child.type for child in line.children or ()} <= {"text", "code_inline"}
    outside = "".join(child.content for child in line.children or () if child.type == "text")
    assert not set("@#<>*_`~[]&|$\\\x1b\u202e") & set(outside)
    assert "www." not in outside
    assert "://" not in outside
    assert ":smile:" not in outside


@pytest.mark.parametrize("text", MEANT_TO_HARM)
def test_a_name_in_a_table_stays_in_its_cell(text: str) -> None:
    rows = [t.type for t in PARSER.parse(f"| a | b |\n| --- | --- |\n| {cell(text)} | 1 |\n| c | 2 |")]

    assert rows.count("tr_open") == 3
    assert rows.count("td_open") == 4


@pytest.mark.parametrize("text", MEANT_TO_HARM)
def test_a_block_ends_where_it_is_meant_to(text: str) -> None:
    (fence, *after) = PARSER.parse(f"{block(text)}\n\nafter")

    assert fence.type == "fence"
    assert len(after) == 3


def test_words_stay_readable_and_names_are_code() -> None:
    assert plain("the label nvidia.com/gpu is 50% full, isn't it?") == "the label nvidia.com/gpu is 50% full, isn't it?"
    assert plain("taint a=b_c:NoSchedule of <none>") == "taint `a=b_c:NoSchedule` of `<none>`"
    assert code("") == ""
    assert plain("x" * 1500).endswith("… and 500 more characters")


def test_a_summary_beyond_the_limit_leaves_out_the_least_important_and_says_so() -> None:
    report = made_report()
    broken = report.requirements[1]
    others = tuple(
        msgspec.structs.replace(
            broken, requirement=f"POOL-{n}", title="x" * 900,
            groups=(msgspec.structs.replace(broken.groups[0], cause=f"cause {n} {'é' * 990}", remedy=f"mend {n}"),),
        )
        for n in range(1000, 2000)
    )  # fmt: skip
    notes = tuple("n" * 900 for _ in range(1000))
    text = FORMATS["markdown"].render(
        msgspec.structs.replace(report, requirements=(*report.requirements, *others), notes=notes)
    )

    assert 800_000 < len(text.encode()) <= LIMIT
    told = words(text)
    assert "1 requirement failed" in told
    assert "pool h100-dra has no node" in told
    assert "Left out for want of room:" in told
    assert " causes, " in told
    assert " requirements; " in told
    assert told.rstrip().endswith("Times are UTC.")


def test_5000_nodes_take_little_room() -> None:
    assert len(FORMATS["markdown"].render(made_report(broken_nodes=5000))) < 10_000


def test_a_remedy_that_names_a_requirement_which_failed_leads_to_its_heading() -> None:
    assert plain("Follow POOL-02, not POOL-03 or a/POOL-02#x.", ids={"POOL-02"}) == (
        "Follow [POOL-02](#pool-02), not POOL-03 or `a/POOL-02#x.`"
    )
    told = FORMATS["markdown"].render(made_report())

    found = tokens(told)
    headings = [found[at + 1].content for at, token in enumerate(found) if token.type == "heading_open"]
    led = set(links(told))
    assert led == {"#pool-01", "#pool-02"}
    assert {f"#{heading.lower()}" for heading in headings} >= led
