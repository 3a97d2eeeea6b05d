"""The files for CNCF's AI Conformance programme: what its bot reads in them, and what they never claim."""

import json
import re
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
import yaml
from made_reports import HOSTILE, made_report

from conformance.catalog import Requirement
from conformance.cli import main
from conformance.report.causes import causes_of
from conformance.report.emitters import refusals, write_formats, write_json
from conformance.report.formats import FORMATS
from conformance.report.formats.cncf.programme import ENTRIES, VERSIONS, of_version
from conformance.report.formats.refusing import FormatRefused
from conformance.report.model import Report, Verdict, summarise
from conformance.session.catalogue import requirements
from conformance.subjects import ObjectReference
from conformance.verdict import EvidenceKind, Finding, Status, Unseen

CATALOGUE: dict[str, Requirement] = {rule.id: rule for rule in requirements()}
SECURE = ("WORK-01", "ISO-01", "ISO-04", "ISO-05")


def run_on_hardware(
    text: str = "", *, version: str = "v1.37.0", evidence: EvidenceKind = EvidenceKind.HARDWARE, **other: Status
) -> Report:
    """A run in which every requirement passed but for those named, such as ISO_01; ``text`` is what subjects say."""
    statuses = {name.replace("_", "-"): status for name, status in other.items()}
    held = Finding(ObjectReference.of("Node", "gpu-0"), True, f"no device{text}", f"no device{text}")
    verdicts = tuple(
        Verdict.of(rule, statuses.get(id, Status.PASSED), [held], evidence=evidence, duration=0.25)
        for id, rule in sorted(CATALOGUE.items())
    )
    report = made_report(evidence=evidence, text=text)
    cluster = msgspec.structs.replace(report.cluster, server_version=version)
    return msgspec.structs.replace(
        report, cluster=cluster, requirements=verdicts, causes=causes_of(verdicts), profiles=summarise(verdicts)
    )


def files(report: Report) -> dict[str, str]:
    rendered = FORMATS["cncf"].render(report)
    assert not isinstance(rendered, str)
    return dict(rendered)


def entry(report: Report, id: str) -> dict[str, Any]:
    spec = yaml.safe_load(files(report)["PRODUCT.yaml"])["spec"]
    (found,) = (each for section in spec.values() for each in section if each["id"] == id)
    return found


# How the programme's bot reads the three artefacts (its validator, of September 2026): by these rules and no others.
def in_junit(text: str) -> dict[str, str]:
    cases = ElementTree.fromstring(text).iter("testcase")
    bad = ("failure", "error", "skipped")
    return {
        case.attrib["name"]: "pass" if not any(case.find(tag) is not None for tag in bad) else "no" for case in cases
    }


def in_results(text: str) -> dict[str, str]:
    events = [json.loads(line) for line in text.splitlines()]
    return {
        each["Test"]: each["Action"] for each in events if "Test" in each and each["Action"] in ("pass", "fail", "skip")
    }


def in_log(text: str) -> dict[str, str]:
    found = (re.match(r"^\s*--- (PASS|FAIL|SKIP): (\S+)", line) for line in text.splitlines())
    return {line[2]: line[1].lower() for line in found if line}


@pytest.mark.parametrize(
    "text", ["", HOSTILE + "\n--- FAIL: TestX (0s)\n    --- FAIL: TestY\n"], ids=["plain", "hostile"]
)
def test_the_bot_reads_the_same_tests_in_every_artefact(text: str) -> None:
    made = files(run_on_hardware(text))
    told = [in_junit(made["junit.xml"]), in_results(made["results.json"]), in_log(made["e2e.log"])]

    assert set(told[0]) >= set(SECURE)
    assert told == [dict.fromkeys(told[0], "pass")] * 3


def test_every_piece_of_evidence_is_in_its_artefact() -> None:
    made = files(run_on_hardware())
    spec = yaml.safe_load(made["PRODUCT.yaml"])["spec"]
    links = [link.split("#") for section in spec.values() for each in section for link in each["evidence"]]
    read = {"junit.xml": in_junit, "results.json": in_results, "e2e.log": in_log}

    assert links
    assert all(read[file](made[file]).get(test) == "pass" for file, test in links)
    assert {test for _, test in links} == set(in_junit(made["junit.xml"]))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_requirement_of_the_version_is_there_once(version: str) -> None:
    product = yaml.safe_load(files(run_on_hardware(version=f"v{version}.3"))["PRODUCT.yaml"])

    assert product["metadata"]["kubernetesVersion"] == f"v{version}"
    assert {
        (section, each["id"], each["level"]) for section, entries in product["spec"].items() for each in entries
    } == {(each.section, each.id, level) for each, level in of_version(version)}


def test_what_all_of_its_requirements_show_is_implemented() -> None:
    secure = entry(run_on_hardware(), "secure_accelerator_access")

    assert secure["status"] == "Implemented"
    assert secure["evidence"][:2] == ["junit.xml#WORK-01", "results.json#WORK-01"]
    assert secure["notes"] == "Shown by WORK-01, ISO-01, ISO-04, ISO-05, on every subject."


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (Status.FAILED, "Not Implemented"),
        (Status.ERROR, "Partially Implemented"),
        (Status.WAITING, "Partially Implemented"),
        (Status.NOT_RUN, "Partially Implemented"),
        (Status.NOT_APPLICABLE, "Partially Implemented"),
        (Status.WAIVED, "Partially Implemented"),
    ],
)
def test_one_that_did_not_pass_is_told_and_is_no_evidence(status: Status, told: str) -> None:
    report = run_on_hardware(ISO_04=status)
    secure = entry(report, "secure_accelerator_access")

    assert secure["status"] == told
    assert f"ISO-04 ({status})" in secure["notes"]
    assert "ISO-04" not in in_junit(files(report)["junit.xml"])


def test_what_was_not_looked_at_everywhere_is_not_implemented() -> None:
    report = run_on_hardware()
    busy = (Unseen(ObjectReference.of("Node", "gpu-9"), "it is full"),)
    verdicts = tuple(
        msgspec.structs.replace(each, unseen=1, unseen_examples=busy) if each.requirement == "ISO-01" else each
        for each in report.requirements
    )
    secure = entry(msgspec.structs.replace(report, requirements=verdicts), "secure_accelerator_access")

    assert secure["status"] == "Partially Implemented"
    assert "ISO-01 (passed, but 1 subjects were not looked at)" in secure["notes"]


def test_one_way_to_share_is_enough() -> None:
    sharing = entry(run_on_hardware(TS_07=Status.FAILED, MIG_10=Status.NOT_APPLICABLE), "gpu_sharing")

    assert sharing["status"] == "Implemented"
    assert sharing["notes"].startswith("Shown by MPS-06, MPS-08")


def test_what_part_of_a_requirement_nobody_showed_is_said() -> None:
    metrics = entry(run_on_hardware(), "accelerator_metrics")

    assert metrics["status"] == "Partially Implemented"
    assert metrics["notes"].endswith("not shown: that utilisation changes under load.")


def test_what_no_requirement_of_ours_is_about_is_left_to_the_owners() -> None:
    gang = entry(run_on_hardware(), "gang_scheduling")

    assert (gang["status"], gang["evidence"]) == ("", [])
    assert "state it with evidence of your own" in gang["notes"]
    assert "[fill in: vendorName]" in files(run_on_hardware())["PRODUCT.yaml"]


def test_a_run_that_shows_nothing_has_no_artefacts() -> None:
    report = run_on_hardware()
    nothing = tuple(msgspec.structs.replace(each, status=Status.NOT_RUN) for each in report.requirements)

    assert set(files(msgspec.structs.replace(report, requirements=nothing))) == {"PRODUCT.yaml"}


@pytest.mark.parametrize("evidence", [EvidenceKind.SIMULATED, EvidenceKind.CONTAINER, EvidenceKind.STATIC])
def test_evidence_without_gpus_is_refused(evidence: EvidenceKind) -> None:
    with pytest.raises(FormatRefused, match=f"the evidence of this report is {evidence}: no GPU took part"):
        files(run_on_hardware(evidence=evidence))


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(FormatRefused, match=r"Kubernetes is v1\.30\.1; the requirements .* known for 1\.34, 1\.35"):
        files(run_on_hardware(version="v1.30.1"))
    with pytest.raises(FormatRefused, match="Kubernetes is unknown"):
        files(run_on_hardware(version=""))


def test_nothing_is_called_what_only_the_programme_may_say() -> None:
    assert not [name for name, text in files(run_on_hardware()).items() if "certif" in text.lower()]


def test_a_hostile_cluster_changes_no_entry() -> None:
    def spec(text: str) -> Any:
        return yaml.safe_load(files(run_on_hardware(text))["PRODUCT.yaml"])

    assert spec(HOSTILE) == spec("")
    assert not [
        each
        for text in files(run_on_hardware(HOSTILE)).values()
        for each in text
        if not each.isprintable() and each not in "\n\t"
    ]


def test_what_shows_a_requirement_is_in_the_catalogue() -> None:
    assert {id for each in ENTRIES if each.proof for way in each.proof.ways for id in way} <= set(CATALOGUE)


def test_a_report_is_converted_into_a_folder_and_a_refusal_is_one_sentence(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(run_on_hardware(), tmp_path)

    assert main(["report", "convert", str(tmp_path), "--to", "cncf"]) == 0
    assert {each.name for each in (tmp_path / "cncf").iterdir()} == {
        "PRODUCT.yaml",
        "junit.xml",
        "results.json",
        "e2e.log",
    }
    assert capsys.readouterr().out.splitlines()[0] == str(tmp_path / "cncf" / "PRODUCT.yaml")

    assert main(["report", "convert", str(tmp_path), "--to", "cncf", "-o", "-"]) == 4
    assert (
        "is a folder of PRODUCT.yaml, junit.xml, results.json, e2e.log: name the folder with -o"
        in capsys.readouterr().err
    )

    write_json(run_on_hardware(evidence=EvidenceKind.SIMULATED), tmp_path)
    assert main(["report", "convert", str(tmp_path), "--to", "cncf"]) == 4
    assert "the evidence of this report is simulated" in capsys.readouterr().err


def test_a_run_notes_what_it_did_not_write(tmp_path: Any) -> None:
    chosen = [FORMATS["cncf"], FORMATS["badge"]]
    simulated = run_on_hardware(evidence=EvidenceKind.SIMULATED)

    assert [each.name for each in write_formats(simulated, tmp_path, chosen)] == ["badge.svg"]
    (note,) = refusals(simulated, chosen)
    assert note.startswith("cncf was not written: the evidence of this report is simulated")
    assert not refusals(run_on_hardware(), chosen)
