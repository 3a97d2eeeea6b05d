"""Reports of former versions are read. The files in former/ were written by those versions, and stay as they are."""

import json
from pathlib import Path

import pytest

from conformance.report.model import API_VERSION
from conformance.report.reading import ReportError, read
from conformance.verdict import Status

FORMER = Path(__file__).parent / "former"


@pytest.mark.parametrize("name", ["v1.json", "v1alpha1-before-causes.json"])
def test_a_report_of_a_former_version_is_read(name: str) -> None:
    report = read(FORMER / name)
    failed = [each for each in report.requirements if each.status is Status.FAILED]
    nodes = next(each for each in failed if each.requirement == "POOL-03")

    assert [each.requirement for each in failed] == ["POOL-01", "POOL-03", "POOL-09"]
    assert report.causes == ()
    assert [str(each.subject) for each in nodes.findings] == ["node gpu-0", "node gpu-1"]
    assert [(each.subject.kind, each.subject.name) for each in nodes.findings] == [("Node", "gpu-0"), ("Node", "gpu-1")]
    assert "kubectl taint node gpu-1" in nodes.findings[1].remedy
    assert nodes.sources[0].url.startswith("docs/guide.md")


def test_the_subject_of_a_former_version_that_names_no_object_stays_a_sentence() -> None:
    (missing, *_) = read(FORMER / "v1.json").requirements[0].findings

    assert str(missing.subject) == "pool t4-inference"
    assert missing.subject.kind == ""


def test_the_members_that_the_first_version_had_first_are_read_by_their_names_of_then(tmp_path: Path) -> None:
    found = json.loads((FORMER / "v1.json").read_text())
    names = {"cause": "first_broken_link", "hidden_because": "why_it_hides", "inspect": "see"}
    for verdict in found["requirements"]:
        verdict["sources"] = ["guide part 1"]
        verdict["findings"] = [{names.get(n, n): text for n, text in each.items()} for each in verdict["findings"]]
    (tmp_path / "report.json").write_text(json.dumps(found))

    nodes = next(each for each in read(tmp_path).requirements if each.requirement == "POOL-03")

    assert nodes.findings[0].cause.endswith("is not on the node")
    assert nodes.findings[0].hidden_because
    assert nodes.findings[0].inspect.startswith("kubectl get node gpu-0")
    assert nodes.sources[0].title == "guide part 1"


@pytest.mark.parametrize("version", [API_VERSION, "gpu-conformance.io/v1"])
@pytest.mark.parametrize("damage", [{"requirements": 4}, {"requirements": [{"findings": [None]}]}, {"profiles": [4]}])
def test_a_damaged_report_is_refused_whatever_its_version(version: str, damage: object, tmp_path: Path) -> None:
    found = {**json.loads((FORMER / "v1.json").read_text()), "apiVersion": version, **damage}
    (tmp_path / "report.json").write_text(json.dumps(found))

    with pytest.raises(ReportError, match="is damaged"):
        read(tmp_path)
