"""The HTML page: it is valid, loads nothing, cannot be injected into, and says the important things first."""

import base64
import hashlib
from html.parser import HTMLParser

import html5lib
import msgspec
import pytest
from made_reports import HOSTILE, before_an_upgrade, hostile_report, made_report, with_status

from conformance.report.formats import FORMATS
from conformance.report.formats.html import page, scenarios
from conformance.report.model import Cause, Report
from conformance.report.visible import visible
from conformance.timeline import Step
from conformance.verdict import EvidenceKind, Status

_VOID = {"meta", "input"}


class Parsed(HTMLParser):
    """The elements of a page in order, what stands inside style and script, and the text that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inlined: dict[str, str] = {}
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("style", "script"):
            self.inlined[self._open[-1]] = self.inlined.get(self._open[-1], "") + data
        else:
            self.text += data

    def attribute(self, name: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(name))]

    @property
    def policy(self) -> dict[str, list[str]]:
        (content,) = (a["content"] for _, a in self.elements if a.get("http-equiv") == "Content-Security-Policy")
        assert content
        return {name: values for name, *values in (each.split() for each in content.split(";"))}


@pytest.fixture(scope="module")
def ordinary() -> Parsed:
    return Parsed(FORMATS["html"].render(made_report()))


@pytest.fixture(scope="module")
def hostile() -> Parsed:
    return Parsed(FORMATS["html"].render(hostile_report()))


@pytest.mark.parametrize("report", [made_report(), hostile_report()], ids=["ordinary", "hostile"])
def test_the_page_is_valid_html(report: Report) -> None:
    parser = html5lib.HTMLParser(strict=True)

    parser.parse(FORMATS["html"].render(report))

    assert not parser.errors


@pytest.mark.parametrize("of", ["style", "script"])
def test_the_policy_allows_what_is_inlined_by_its_hash_and_nothing_else(of: str, ordinary: Parsed) -> None:
    digest = base64.b64encode(hashlib.sha256(ordinary.inlined[of].encode()).digest()).decode()

    assert ordinary.policy["default-src"] == ["'none'"]
    assert ordinary.policy[f"{of}-src"] == [f"'sha256-{digest}'"]
    assert [tag for tag, _ in ordinary.elements].count(of) == 1


def test_the_policy_comes_before_all_that_it_rules(ordinary: Parsed) -> None:
    ruled = [number for number, (tag, _) in enumerate(ordinary.elements) if tag in ("style", "script", "link", "img")]
    (policy,) = (number for number, (_, a) in enumerate(ordinary.elements) if "http-equiv" in a)

    assert policy < min(ruled)


def test_hostile_text_adds_no_element_and_no_attribute(ordinary: Parsed, hostile: Parsed) -> None:
    def shape(parsed: Parsed) -> list[tuple[str, list[str]]]:
        return [(tag, sorted(attributes)) for tag, attributes in parsed.elements]

    assert shape(hostile) == shape(ordinary)
    assert hostile.inlined == ordinary.inlined
    assert "</script><script>alert(1)</script>" in hostile.text


@pytest.mark.parametrize("which", ["ordinary", "hostile"])
def test_the_page_loads_nothing_and_leads_only_to_sources(which: str, request: pytest.FixtureRequest) -> None:
    parsed: Parsed = request.getfixturevalue(which)
    sources = {source.url for verdict in made_report().requirements for source in verdict.sources}
    loading = {"src", "srcset", "data", "action", "formaction", "poster", "background", "style", "ping", "manifest"}

    assert not loading & {name for _, attributes in parsed.elements for name in attributes}
    assert not [name for _, attributes in parsed.elements for name in attributes if name.startswith("on")]
    assert {each for each in parsed.attribute("href") if not each.startswith("#")} <= sources
    assert not {"link", "img", "iframe", "object", "embed", "base"} & {tag for tag, _ in parsed.elements}


def test_every_link_and_label_inside_the_page_has_its_target(ordinary: Parsed) -> None:
    ids = ordinary.attribute("id")

    assert len(ids) == len(set(ids))
    assert {each[1:] for each in ordinary.attribute("href") if each.startswith("#")} <= set(ids)
    assert {each for name in ("aria-labelledby", "for") for each in ordinary.attribute(name)} <= set(ids)


def test_what_cannot_be_seen_is_named() -> None:
    assert visible("a\x1b[2J\u202eb\x00\n\t\ud800é") == "a⟨U+001B⟩[2J⟨RIGHT-TO-LEFT OVERRIDE⟩b⟨U+0000⟩\n\t⟨U+D800⟩é"
    assert "\x1b" not in FORMATS["html"].render(hostile_report())


def test_the_first_words_are_the_verdict_and_what_it_rests_on(ordinary: Parsed) -> None:
    told = " ".join(ordinary.text.split())

    assert (
        "prod-gpu Failed: 1 requirement failed, and 2 wait for a cause; 3 of 7 requirements were judged, "
        "in mode audit, on static evidence." in told
    )
    assert told.index("were judged") < told.index("What to fix") < told.index("Profiles")
    assert "Could not read pods: Forbidden" in told


def test_simulated_evidence_is_loud() -> None:
    assert "SIMULATED EVIDENCE" in FORMATS["html"].render(made_report(evidence=EvidenceKind.SIMULATED))
    assert "SIMULATED EVIDENCE" not in FORMATS["html"].render(made_report())


@pytest.mark.parametrize(
    ("evidence", "word"),
    [
        (EvidenceKind.HARDWARE, "Conformant"),
        (EvidenceKind.SIMULATED, "Rehearsed"),
        (EvidenceKind.STATIC, "Audited"),
    ],
)
def test_a_run_without_fault_is_called_what_its_evidence_allows(evidence: EvidenceKind, word: str) -> None:
    report = made_report(evidence=evidence)
    for verdict in report.requirements:
        report = with_status(report, verdict.requirement, Status.PASSED)
    assert page.of(report).word == word

    assert page.of(with_status(report, "OBS-02", Status.NOT_RUN)).word == "Partly evaluated"
    assert page.of(with_status(report, "OBS-02", Status.ERROR)).word == "Incomplete"


def test_nodes_that_fail_the_same_are_told_together() -> None:
    (alike,) = page.of(made_report()).on_nodes

    assert alike.requirements == ("POOL-02",)
    assert alike.pools == ("h100",)
    assert len(alike.nodes) == 7


def test_the_fleet_is_told_by_pool_with_what_fails_on_its_nodes(ordinary: Parsed) -> None:
    report = made_report()
    h100, dra = page.of(report).fleet

    assert (h100.pool.name, h100.failing, h100.requirements) == ("h100", 7, (("POOL-02", 7),))
    assert (dra.failing, dra.requirements) == (0, ())
    told = " ".join(ordinary.text.split())
    assert "h100 8, 1 not Ready 7 56 of 64 nvidia.com/gpu 14 of 56 h100: MIG layout POOL-02 (7)" in told
    assert "h100-dra 0 of 2 0" in told


def test_what_is_excused_is_told(ordinary: Parsed) -> None:
    assert "GKE 12 kube-system gmp-critical" in " ".join(ordinary.text.split())


def test_what_was_not_judged_is_told_with_its_reason(ordinary: Parsed) -> None:
    assert "4 requirements were not judged, and why" in ordinary.text
    assert "its effect is creates; mode audit goes up to reads" in ordinary.text


def test_a_page_about_thousands_of_nodes_is_short_and_says_what_it_leaves_out() -> None:
    text = FORMATS["html"].render(made_report(broken_nodes=5000))

    assert len(text) < 100_000
    assert "and 4,999 more" in text
    assert "4,999 other subjects, the first 19 here, all in report.json" in text


def test_how_much_of_a_pool_pods_request_is_told_and_that_nobody_knows() -> None:
    report = made_report()
    h100, dra = page.of(report).fleet

    assert [(each.resource, each.requested, each.percent) for each in h100.occupancy] == [("nvidia.com/gpu", 14, 25.0)]
    assert dra.occupancy == ()
    older = msgspec.structs.replace(h100.pool, requested=None)
    text = FORMATS["html"].render(msgspec.structs.replace(report, fleet=(older,)))
    assert "not known" in Parsed(text).text


def test_who_was_evicted_when_and_by_whom_is_told(ordinary: Parsed) -> None:
    told = " ".join(ordinary.text.split())

    assert "06:00:12.750 gpuc-a-1/low-1 gpu-1 pod gpuc-a-1/high-1 POOL-03" in told
    assert "8 steps of the scenario, from 06:00:10.100 UTC" in told
    assert "2.65 s: evicted on gpu-1 by pod gpuc-a-1/high-1 (PreemptionByScheduler)" in told
    assert "and 3 later steps that the report does not keep" in told


def test_a_scenario_has_a_lane_for_each_object_over_its_time() -> None:
    node, low, high = scenarios.lanes(made_report().requirements[2].timeline)

    assert [each.object for each in (node, low, high)] == ["node gpu-1", "pod low-1", "pod high-1"]
    assert [(bar.phase, bar.at, bar.width) for bar in node.bars] == [("held", 0.0, 100.0)]
    assert [(bar.phase, bar.at, bar.width) for bar in low.bars] == [
        ("waiting", 5.7, 24.5), ("running", 30.2, 69.8), ("evicted", 98.5, 1.5)
    ]  # fmt: skip
    assert [bar.phase for bar in high.bars] == ["waiting"]


def test_a_report_without_scenarios_tells_of_none() -> None:
    report = made_report()
    quiet = tuple(msgspec.structs.replace(each, timeline=(), steps_left=0) for each in report.requirements)

    assert "What the scenarios did" not in FORMATS["html"].render(msgspec.structs.replace(report, requirements=quiet))
    assert scenarios.lanes((Step("someday", "created", "Pod", "a"),)) == ()


def test_a_remedy_that_names_a_requirement_of_the_page_leads_to_it() -> None:
    report = made_report()
    broken = report.requirements[1]
    (group, *others) = broken.groups
    told = msgspec.structs.replace(group, remedy="Follow POOL-03, not POOL-99 or XPOOL-03.")
    verdict = msgspec.structs.replace(broken, groups=(told, *others))
    verdicts = (report.requirements[0], verdict, *report.requirements[2:])

    text = FORMATS["html"].render(msgspec.structs.replace(report, requirements=verdicts))

    assert 'Follow <a href="#POOL-03">POOL-03</a>, not POOL-99 or XPOOL-03.' in text
    assert 'id="POOL-03"' in text


@pytest.mark.parametrize("text", ["", HOSTILE + "\u202e"], ids=["ordinary", "hostile"])
def test_what_an_upgrade_does_to_pods_is_text_too(text: str) -> None:
    page = FORMATS["html"].render(before_an_upgrade(made_report(), text))

    told, tame = Parsed(page), Parsed(FORMATS["html"].render(before_an_upgrade(made_report())))

    assert told.elements == tame.elements
    assert "While one node is away" in told.text
    assert not {"\x1b", "\u202e"} & set(page)
    assert "1 other group of pods" in told.text


def test_many_that_wait_are_folded() -> None:
    many = tuple(f"DRA-{number:02}" for number in range(1, 14))
    report = msgspec.structs.replace(made_report(), causes=(Cause("POOL-01", "error", "pool t4 has no node", many),))

    page = FORMATS["html"].render(report)

    assert "<summary><b>13 requirements wait for it</b></summary>" in page
    assert page.count('<a class="id" href="#DRA-13">') == 1


def test_a_print_leaves_out_what_a_passed_requirement_advises_and_each_step_of_its_scenario() -> None:
    report = made_report()
    (passed,) = (each for each in report.requirements if each.timeline)
    failed = msgspec.structs.replace(passed, status=Status.FAILED)
    [as_passed, as_failed] = (
        FORMATS["html"].render(msgspec.structs.replace(report, requirements=(each,))) for each in (passed, failed)
    )

    assert '<details class="subjects brief">\n<summary>8 steps of the scenario' in as_passed
    assert '<details class="subjects">\n<summary>8 steps of the scenario' in as_failed
    printed = as_passed.partition("@media print")[2].partition("</style>")[0]
    assert "details:not(.brief)::details-content { content-visibility: visible;" in printed
    assert '.requirement[data-status="passed"] .advice { display: none; }' in printed
    assert '<dt class="advice">If it fails</dt><dd class="advice">' in as_passed
