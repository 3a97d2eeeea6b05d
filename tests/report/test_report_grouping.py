"""Findings with one cause are one group, from which each subject's own words come back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.catalog import MUST, READS, Requirement
from conformance.report.causes import causes_of
from conformance.report.emitters import EventStream, write_json
from conformance.report.grouping import grouped
from conformance.report.model import ClusterFacts, Report, RunFacts, Verdict, summarise
from conformance.report.story import story
from conformance.subjects import ObjectReference, subject_of
from conformance.verdict import EvidenceKind, Finding, Status

RULE = Requirement("POOL-09", "GPU nodes are for GPU pods", MUST, "pools", READS, ("guide part 1",), "Taint it.")
BYTES_PER_SUBJECT = 110


def squatter(number, *, cause="its toleration is too wide", actual=""):
    pod = ObjectReference.of("Pod", f"worker-{number:05}", namespace=f"team-{number % 40}", node=f"gpu-{number:04}")
    return Finding(
        pod, False, "another node", actual or f"running on {pod.node}", f"{cause}, {pod.node} has no taint", "", "",
        f"kubectl get pod -n {pod.namespace} {pod.name}",
    )  # fmt: skip


def verdict(findings):
    return Verdict.of(RULE, Status.FAILED, findings, evidence=EvidenceKind.STATIC)


def test_one_cause_is_one_group_though_each_text_names_its_subject():
    (group,) = grouped([squatter(number) for number in range(3)])

    assert group.count == 3
    assert group.subject == "pod {namespace}/{name}"
    assert group.cause == "its toleration is too wide, {node} has no taint"
    assert group.inspect == "kubectl get pod -n {namespace} {name}"
    assert [each.name for each in group.subjects] == ["worker-00000", "worker-00001", "worker-00002"]


def test_different_causes_stay_apart():
    assert len(grouped([squatter(1), squatter(2, cause="it names the node")])) == 2


def test_what_was_found_stands_with_each_subject_where_it_differs():
    (group,) = grouped([squatter(1, actual="3 pods"), squatter(2, actual="4 pods")])

    assert (group.actual, [each.actual for each in group.subjects]) == ("", ["3 pods", "4 pods"])


def test_without_a_cause_other_expectations_are_other_groups():
    nodes = [ObjectReference.of("Node", name) for name in ("a-1", "a-2")]

    assert len(grouped([Finding(nodes[0], False, "2 GPUs", "1"), Finding(nodes[1], False, "4 GPUs", "1")])) == 2


NAMES = st.sampled_from(["a", "gpu", "gpu-1", "name", "namespace", "node", "default", "team.a", ""])
WORDS = st.lists(st.sampled_from(["a", "gpu", "gpu-1", "name", "node.", "default/gpu", "{.spec}", "=team.a", "é"]))


@given(NAMES, NAMES, NAMES, WORDS.map(" ".join))
def test_filling_in_gives_back_every_text(name, namespace, node, text):
    subject = ObjectReference.of("Pod", name, namespace=namespace, node=node)
    finding = Finding(subject, False, text or "x", text or "y", text, text, text, text)

    (group,) = grouped([finding])

    assert list(group.findings()) == [finding]


def test_a_text_that_looks_like_a_template_is_not_filled_in():
    node = ObjectReference.of("Node", "gpu-1")

    (group,) = grouped([Finding(node, False, "x", "y", "the label says {name}")])

    assert group.first.cause == "the label says { name }"


def test_a_story_tells_the_cause_once_how_many_and_the_first_five():
    told = story(verdict([squatter(number) for number in range(20_000)]))

    assert "pod team-0/worker-00000" in told
    assert "and 19999 more         pod team-1/worker-00001" in told
    assert told.count("worker-0000") == 6
    assert told.count("too wide") == 1


def test_a_sentence_is_no_subject():
    with pytest.raises(TypeError, match="names no object"):
        subject_of("node gpu-1")


def test_reports_hold_every_subject_in_few_bytes(tmp_path):
    verdicts = (verdict([squatter(number) for number in range(2000)]),)
    report = Report(
        RunFacts("abcdefgh", "0.1.0", "audit", "2026-11-24T06:00:00+00:00", "2026-11-24T06:01:00+00:00", {}),
        ClusterFacts("big", "snapshot", "v1.36.3", EvidenceKind.STATIC, 13, 10, {}),
        "guide-corrected", "1 requirement failed", 1, causes_of(verdicts), summarise(verdicts), verdicts,
    )  # fmt: skip
    with EventStream(tmp_path / "events.ndjson") as stream:
        stream.write("requirement-finished", verdict=verdicts[0])

    text = write_json(report, tmp_path).read_text()

    (written,) = json.loads(text)["requirements"]
    (group,) = written["findings"]
    assert len(group["subjects"]) == 2000
    assert len(text) < 2000 * BYTES_PER_SUBJECT
    assert (tmp_path / "events.ndjson").stat().st_size < 2000 * BYTES_PER_SUBJECT
    assert max(line.count('"worker-') for line in text.splitlines()) == 1
