from conformance.catalog import MUST, READS, Requirement
from conformance.report.model import Verdict
from conformance.report.story import story
from conformance.sources import SOURCES
from conformance.subjects import ObjectReference
from conformance.verdict import EvidenceKind, Finding, Status

RULE = Requirement(
    "POOL-03",
    "Every GPU node carries every taint declared for its pool",
    MUST,
    "pools",
    READS,
    (SOURCES["guide-1"],),
    "Taint it.",
)


def told(findings, reason=""):
    return story(Verdict.of(RULE, Status.FAILED, findings, evidence=EvidenceKind.HARDWARE, reason=reason))


def test_a_failure_says_expected_found_link_remedy_and_where_to_look():
    text = told(
        [
            Finding(
                ObjectReference.of("Node", "a"),
                False,
                "two taints",
                "one",
                "kubectl untaint",
                "Ready says nothing",
                "taint it",
                "kubectl get node a",
            )
        ]
    )

    assert text.splitlines()[0] == "FAILED POOL-03 MUST  Every GPU node carries every taint declared for its pool"
    for line in ("node a", "expected two taints, found one", "cause", "hidden because", "remedy", "inspect"):
        assert line in text


def test_the_requirements_own_remedy_stands_in_where_no_finding_has_one():
    assert "Taint it." in told([Finding(ObjectReference.of("Node", "a"), False, "two taints", "one")])


def test_a_long_list_of_broken_subjects_is_cut_and_says_by_how_many():
    causes = [Finding(ObjectReference.of("Node", f"gpu-{n}"), False, "x", "y", f"cause {n // 2}") for n in range(25)]

    assert "and                    5 more for 3 other causes" in told(causes)
