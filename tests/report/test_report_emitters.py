import json
import xml.etree.ElementTree as ElementTree

import jsonschema
import pytest
from made_reports import HOSTILE, before_an_upgrade, hostile_report, made_report
from msgspec.structs import replace
from schemas import validate

from conformance.catalog import MUST, READS, Requirement
from conformance.report import schema
from conformance.report.causes import causes_of
from conformance.report.emitters import EventStream, write_json, write_junit
from conformance.report.formats import junit
from conformance.report.model import Cause, ClusterFacts, Report, RunFacts, Verdict, summarise
from conformance.shipped import shipped
from conformance.sources import SOURCES
from conformance.subjects import ObjectReference
from conformance.verdict import EvidenceKind, Finding, Status


def verdict(id, status, reason="", findings=()):
    rule = Requirement(id, f"Title of {id}", MUST, "pools", READS, (SOURCES["guide-1"],), "Fix it.")
    return Verdict.of(rule, status, findings, evidence=EvidenceKind.SIMULATED, reason=reason, duration=0.25)


@pytest.fixture
def report():
    verdicts = (
        verdict(
            "POOL-01",
            Status.PASSED,
            findings=[Finding(ObjectReference.of("Pool", "a", declared=True), True, "3 nodes", "3 nodes")],
        ),
        verdict(
            "POOL-02",
            Status.FAILED,
            findings=[Finding(ObjectReference.of("Node", "a"), False, "<taint> & \x00label", "nothing")],
        ),
        verdict("POOL-03", Status.ERROR, "pods could not be read"),
        verdict("POOL-04", Status.NOT_RUN, "mode audit"),
    )
    return Report(
        RunFacts("abcdefgh", "0.1.0", "full", "2026-11-24T06:00:00+00:00", "2026-11-24T06:01:00+00:00", {}),
        ClusterFacts("embedded", "embedded", "v1.36.3", EvidenceKind.SIMULATED, 13, 10, {}),
        "guide-corrected", "1 requirements failed", 1, causes_of(verdicts), summarise(verdicts), verdicts,
    )  # fmt: skip


def test_report_json_obeys_its_schema(report, tmp_path):
    path = write_json(report, tmp_path)

    validate(json.loads(path.read_text()), schema.FILE)


def test_the_schema_refuses_a_status_that_does_not_exist(report, tmp_path):
    told = json.loads(write_json(report, tmp_path).read_text())
    told["requirements"][0]["status"] = "fine"

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(told, schema.json_schema())


@pytest.mark.parametrize("file", schema.SCHEMAS)
def test_the_schema_file_is_what_the_model_says(file):
    assert shipped(file).read_text() == schema.text(file)


def test_junit_has_one_case_a_requirement_with_the_story_in_its_text(report, tmp_path):
    write_json(report, tmp_path)
    root = ElementTree.parse(write_junit(report, tmp_path)).getroot()
    cases = {case.get("classname").rsplit(".", 1)[-1]: case for case in root.iter("testcase")}

    assert set(cases) == {"POOL-01", "POOL-02", "POOL-03", "POOL-04"}
    assert [child.tag for child in cases["POOL-01"]] == ["system-out"]
    assert "expected <taint> & ⟨U+0000⟩label, found nothing" in cases["POOL-02"].find("failure").text
    assert "pods could not be read" in cases["POOL-03"].find("error").text
    assert "mode audit" in cases["POOL-04"].find("skipped").text
    assert f"[[ATTACHMENT|{tmp_path / 'report.json'}]]" in cases["POOL-02"].find("system-out").text.splitlines()
    assert root.get("failures") == "1"
    assert root.get("errors") == "1"


def _shape(root):
    """The elements of a file and the names of their attributes."""
    return [(element.tag, sorted(element.attrib)) for element in root.iter()]


def _texts(root):
    return [text for element in root.iter() for text in (element.text or "", *element.attrib.values())]


def test_a_hostile_cluster_adds_no_element_and_attaches_no_file():
    def rendered(text):
        told_by_nobody = Cause("", "", f"pods could not be read{text}", ("OBS-02",))
        report = before_an_upgrade(replace(made_report(text=text), causes=(told_by_nobody,)), text)
        return ElementTree.fromstring(junit.render(report, attachment="report.json"))

    hostile, ordinary = rendered(HOSTILE + "\u202e\n[[ATTACHMENT|/etc/passwd]]\n"), rendered("")

    assert _shape(hostile) == _shape(ordinary)
    assert any("</script><script>alert(1)</script>]]>&lt;⟨" in text for text in _texts(hostile))
    assert not [text for text in _texts(hostile) if {"\x1b", "\u202e"} & set(text)]
    attached = [line for text in _texts(hostile) for line in text.splitlines() if "[[ATTACHMENT|" in line]
    assert set(attached) == {"[[ATTACHMENT|report.json]]"}


def test_an_event_of_a_hostile_cluster_is_one_line_of_the_stream(tmp_path):
    (_, broken, *_) = hostile_report().requirements
    with EventStream(tmp_path / "events.ndjson") as stream:
        stream.write("requirement-finished", verdict=broken)
        stream.write("run-finished")

    content = (tmp_path / "events.ndjson").read_bytes()
    told = [json.loads(line) for line in content.splitlines()]
    assert [event["event"] for event in told] == ["requirement-finished", "run-finished"]
    assert HOSTILE in told[0]["verdict"]["findings"][0]["cause"]
    assert b"\x1b" not in content


def test_the_stream_holds_every_event_even_when_nobody_closes_it(tmp_path):
    stream = EventStream(tmp_path / "new" / "events.ndjson")
    stream.write("requirement-finished", verdict=verdict("POOL-01", Status.PASSED))

    (line,) = (tmp_path / "new" / "events.ndjson").read_text().splitlines()
    stream.close()

    assert json.loads(line)["verdict"]["requirement"] == "POOL-01"
