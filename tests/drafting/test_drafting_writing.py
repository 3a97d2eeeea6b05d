"""What is written loads as what was drafted, every guess has its comment, and nothing is overwritten."""

import pytest
import yaml
from fleet import T4, gpu_nodes, pod, quota

from conformance.drafting import NotEmpty, draft, write
from conformance.drafting.notes import Guess, LeftOut, Part
from conformance.drafting.rendering import WIDTH, document
from conformance.facts import Facts
from conformance.facts.kinds import KINDS
from conformance.reference import load

NODES = gpu_nodes("t4", 2, {"agentpool": "t4", **T4})


def test_the_files_hold_what_was_drafted(drafted):
    made = drafted(NODES, pod("vision", "p"), quota("vision", "gpus", {"requests.nvidia.com/gpu": "4"}))

    assert made.read_back == made.draft.value()
    assert {file.name for file in made.files} == {"reference.yaml", "pools.yaml", "teams.yaml"}


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"Node", "Pod"}))
def test_what_may_not_be_read_is_left_out_and_the_rest_is_written(tmp_path, kind):
    facts = Facts.from_objects([*NODES, pod("vision", "p")], {kind: "Forbidden: no"})

    write(draft(facts, "shop"), tmp_path)

    assert load(tmp_path).pool("t4") is not None


def test_why_a_part_is_missing_is_said(tmp_path):
    write(draft(Facts.from_objects(NODES, {"ResourceQuota": "Forbidden: no"}), "shop"), tmp_path)

    assert "grant list on resourcequotas" in (tmp_path / "reference.yaml").read_text()


def test_no_line_is_longer_than_a_screen(drafted):
    made = drafted(NODES, pod("vision", "p"))

    assert max(map(len, made.text.splitlines())) <= WIDTH


@pytest.mark.parametrize("there", ["a file", "a folder with something in it"])
def test_what_is_there_is_never_overwritten(tmp_path, there):
    folder = tmp_path / "set-up"
    if there == "a file":
        folder.write_text("mine")
    else:
        folder.mkdir()
        (folder / "mine.yaml").write_text("mine")

    with pytest.raises(NotEmpty, match="nothing is overwritten"):
        write(draft(Facts.from_objects(NODES), "shop"), folder)
    assert (folder if folder.is_file() else folder / "mine.yaml").read_text() == "mine"


def test_an_empty_folder_may_be_filled(tmp_path):
    write(draft(Facts.from_objects(NODES), "shop"), tmp_path)

    assert (tmp_path / "reference.yaml").exists()


def test_comments_stand_above_what_they_are_about():
    part = Part({"name": "a", "nodes": 3}, Guess("one label", ("n1", "n2"), "yes or no"), {"nodes": Guess("counting")})
    text = document(["head"], {"pools": [part, LeftOut("b", "it is gone", {"name": "b"})]})

    assert text.splitlines() == [
        "# head",
        "",
        "pools:",
        "  # derived from: one label",
        "  # contradicted by: n1",
        "  # contradicted by: n2",
        "  # decide: yes or no",
        "  - name: a",
        "    # derived from: counting",
        "    nodes: 3",
        "",
        "  # left out: b: it is gone",
        "  # - {name: b}",
    ]


@pytest.mark.parametrize(
    "value",
    ["yes", "0644", "a: b", "# no comment", "", "null", "1e3", "nvidia.com/gpu", "é", "x" * 300, ["a", {"b": [1, {}]}]],
)
def test_whatever_a_value_is_it_is_read_back(value):
    text = document([], {"section": Part({"key": value, "list": [Part({"first": value}, Guess("g"))]})})

    assert yaml.safe_load(text) == {"section": {"key": value, "list": [{"first": value}]}}
