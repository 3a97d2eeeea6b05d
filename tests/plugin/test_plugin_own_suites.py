"""Requirements of the owners, kept in a folder of theirs, are judged beside the shipped ones."""

import pytest

from conformance.catalog import PROFILES, declare_profile
from conformance.facts.snapshot import Snapshot, save

CONFTEST = """
from conformance.catalog import declare_profile

declare_profile("ACME", "acme-clusters")
"""
OWN = """
from conformance.catalog import MUST, Source, requirement

RULES = Source("own-rules", "How we run clusters", "https://example.com/rules")

@requirement("ACME-01", "Every node tells its rack", level=MUST, sources=[RULES], remedy="Label the node.")
def test_rack(facts, judge):
    for node in facts.nodes:
        judge(node, ok="example.com/rack" in node.labels, expected="a label example.com/rack", actual="none")
"""


@pytest.fixture
def audit(conform, tmp_path, monkeypatch):
    """Audit two nodes, one without a rack, with the shipped suites and those of the owners."""
    nodes = [
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
        for name, labels in {"one": {"example.com/rack": "r1"}, "two": {}}.items()
    ]
    save(Snapshot.of(nodes), tmp_path / "two.json.gz")
    folder = tmp_path / "our-suites"
    folder.mkdir()
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_racks.py").write_text(OWN)
    return lambda *arguments: conform("--cluster", "snapshot:two.json.gz", *arguments)


def test_they_are_judged_beside_the_shipped_ones(audit):
    outcome = audit("--gpu-suites=our-suites")

    assert outcome.ids("failed") == {"ACME-01"}, outcome.output
    assert "node two" in outcome.output
    assert "acme-clusters" in {each["name"] for each in outcome.report["profiles"]}
    assert outcome.verdict("POOL-01")


def test_their_profile_can_be_chosen(audit):
    outcome = audit("--gpu-suites=our-suites", "--gpu-profile=acme-clusters")

    assert {each["requirement"] for each in outcome.report["requirements"]} == {"ACME-01"}, outcome.output
    assert outcome.exit_code == 1


def test_a_waiver_covers_them(audit, tmp_path):
    (tmp_path / "waivers.yaml").write_text(
        "waivers: [{requirement: ACME-01, subject: node two, owner: us, reason: it moves, expires: 2999-01-01}]\n"
    )

    outcome = audit("--gpu-suites=our-suites", "--gpu-profile=acme-clusters", "--gpu-waivers=waivers.yaml")

    assert outcome.ids("waived") == {"ACME-01"}, outcome.output


def test_an_unknown_profile_is_told_all_the_same(audit):
    outcome = audit("--gpu-suites=our-suites", "--gpu-profile=acme-cluster")

    assert outcome.exit_code == 4
    assert "no profile named acme-cluster (did you mean acme-clusters?)" in outcome.output


def test_an_id_that_is_taken_is_refused(audit, tmp_path):
    (tmp_path / "our-suites" / "test_racks.py").write_text(OWN.replace("ACME-01", "POOL-01"))

    outcome = audit("--gpu-suites=our-suites")

    assert outcome.exit_code == 4
    assert "requirement POOL-01 is tested twice: " in outcome.output
    assert "our-suites/test_racks.py::test_rack" in outcome.output


def test_a_folder_that_is_not_there_is_told(audit):
    outcome = audit("--gpu-suites=their-suites")

    assert outcome.exit_code == 4
    assert "--gpu-suites: their-suites is not there" in outcome.output


@pytest.mark.parametrize(
    ("prefix", "name", "why"),
    [("acme", "acme", "2 to 12 capitals"), ("ACME", "Acme", "lower-case"), ("POOL", "acme", "a profile with POOL")],
)
def test_a_profile_needs_a_prefix_and_a_name_of_its_own(prefix, name, why):
    before = dict(PROFILES)

    with pytest.raises(ValueError, match=why):
        declare_profile(prefix, name)

    assert before == PROFILES


def test_the_garbage_collector_is_away_while_they_are_collected_and_back_when_they_are_judged(audit, tmp_path):
    asked = OWN.replace("from conf", "import gc\n\nAWAY = not gc.isenabled()\nfrom conf", 1)
    judged = '"example.com/rack" in node.labels'
    (tmp_path / "our-suites" / "test_racks.py").write_text(asked.replace(judged, "AWAY and gc.isenabled()"))

    outcome = audit("--gpu-suites=our-suites", "--gpu-profile=acme-clusters")

    assert outcome.ids("passed") == {"ACME-01"}, outcome.output
