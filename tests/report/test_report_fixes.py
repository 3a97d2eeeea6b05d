"""What to fix: each cause once, with all that hangs on it, and what follows from another told with that."""

from collections.abc import Sequence

import msgspec
import pytest
from made_reports import made_report

from conformance.report import fixes
from conformance.report.model import Cause, Verdict


def test_what_most_wait_for_is_first_and_has_its_findings_and_those_who_wait() -> None:
    first, second = fixes.fixes(made_report())

    assert first.title == "pool h100-dra has no node"
    assert [cause.waiting for cause in first.causes] == [("DRA-01", "DRA-02")]
    assert [each.first.subject.name for each in first.findings] == ["h100-dra"]
    assert (second.title, second.subjects) == ("the node group lacks the label", 7)
    assert second.findings[0].remedy == "kubectl label node gpu-0 gpu-pool=h100"


def test_one_cause_of_several_requirements_is_one_thing_to_fix() -> None:
    report = made_report()
    broken = report.requirements[1]
    also = msgspec.structs.replace(broken, requirement="POOL-03")
    verdicts = (*report.requirements[:2], also, *report.requirements[3:])

    _, second = fixes.fixes(msgspec.structs.replace(report, requirements=verdicts))

    assert [each.requirement for each in second.requirements] == ["POOL-02", "POOL-03"]
    assert second.subjects == 14


def test_what_one_remedy_mends_is_one_thing_to_fix_whatever_each_requirement_calls_the_cause() -> None:
    report = made_report()
    broken = report.requirements[1]
    (group,) = broken.causes
    told_otherwise = msgspec.structs.replace(group, cause="the node offers no GPU")
    also = msgspec.structs.replace(broken, requirement="POOL-03", groups=(told_otherwise,))
    same_requirement = msgspec.structs.replace(broken, groups=(group, told_otherwise))

    def with_second(*verdicts: Verdict) -> list[tuple[str, ...]]:
        found = fixes.fixes(msgspec.structs.replace(report, requirements=(report.requirements[0], *verdicts)))
        return [tuple(each.requirement for each in fix.requirements) for fix in found[1:]]

    assert with_second(broken, also) == [("POOL-02", "POOL-03")]
    assert with_second(same_requirement) == [("POOL-02",), ("POOL-02",)]


def with_followers(*remedies: str, hosts: int = 1) -> list[tuple[str, ...]]:
    """The requirements of each thing to fix, where POOL-02 advises this and DRA-01 fails for that many causes."""
    report = made_report()
    (group,) = report.requirements[1].causes

    def failed(id: str, advised: Sequence[str]) -> Verdict:
        groups = (msgspec.structs.replace(group, cause=f"{id} {each}", remedy=each) for each in advised)
        return msgspec.structs.replace(report.requirements[1], requirement=id, groups=tuple(groups))

    verdicts = (failed("DRA-01", [f"Mend {number}." for number in range(hosts)]), failed("POOL-02", remedies))
    told = fixes.fixes(msgspec.structs.replace(report, causes=(), requirements=verdicts))
    return [tuple(each.requirement for each in fix.requirements) for fix in told]


def test_what_only_follows_another_failed_requirement_is_told_with_it() -> None:
    assert with_followers("Follow DRA-01.") == [("DRA-01", "POOL-02")]
    assert with_followers("Follow DRA-01: mend it.", "Follow DRA-01.") == [("DRA-01", "POOL-02")]


@pytest.mark.parametrize("remedy", ["Mend it.", "Follow OBS-01.", "Then follow DRA-01.", "Follow POOL-02."])
def test_what_has_a_remedy_of_its_own_stays_a_thing_to_fix(remedy: str) -> None:
    assert sorted(with_followers(remedy)) == [("DRA-01",), ("POOL-02",)]


def test_where_several_causes_fail_what_is_to_be_followed_nobody_says_which_it_is() -> None:
    assert sorted(with_followers("Follow DRA-01.", hosts=2)) == [("DRA-01",), ("DRA-01",), ("POOL-02",)]


def told_of(*broken: tuple[str, str, str, str]) -> list[tuple[str, ...]]:
    """The requirements of each thing to fix, of findings of one requirement, node, cause and remedy each."""
    report = made_report()
    (group,) = report.requirements[1].causes
    (member, *_) = group.subjects

    def verdict(id: str, node: str, cause: str, remedy: str) -> Verdict:
        subject = msgspec.structs.replace(member, name=node)
        of_one = msgspec.structs.replace(group, subjects=(subject,), count=1, cause=cause, remedy=remedy)
        return msgspec.structs.replace(report.requirements[1], requirement=id, groups=(of_one,))

    verdicts = tuple(verdict(*each) for each in broken)
    told = fixes.fixes(msgspec.structs.replace(report, causes=(), requirements=verdicts))
    return sorted(tuple(each.requirement for each in fix.requirements) for fix in told)


def test_of_several_that_fail_what_is_to_be_followed_it_is_the_one_that_the_cause_names() -> None:
    several = [("DRA-01", "gpu-a", "a", "Mend a."), ("DRA-01", "gpu-b", "b", "Mend b.")]

    assert told_of(*several, ("POOL-02", "n", "node gpu-b is ill", "Follow DRA-01.")) == [
        ("DRA-01",),
        ("DRA-01", "POOL-02"),
    ]
    assert len(told_of(*several, ("POOL-02", "n", "node gpu-c is ill", "Follow DRA-01."))) == 3


def test_what_follows_a_follower_is_told_with_the_first_and_a_circle_with_nobody() -> None:
    chain = [("OBS-01", "n", "c", "Follow POOL-02."), ("POOL-02", "n", "b", "Follow DRA-01.")]

    assert told_of(*chain, ("DRA-01", "n", "a", "Mend it.")) == [("DRA-01", "OBS-01", "POOL-02")]
    assert told_of(*chain, ("DRA-01", "n", "a", "Follow OBS-01.")) == [("DRA-01",), ("OBS-01",), ("POOL-02",)]


def test_a_follower_among_whose_many_findings_one_has_a_remedy_of_its_own_stays_a_thing_to_fix() -> None:
    many = [f"Follow DRA-01: mend {number}." for number in range(4)]

    assert with_followers(*many) == [("DRA-01", "POOL-02")]
    assert sorted(with_followers(*many, "Mend it.")) == [("DRA-01",), ("POOL-02",)]


def test_what_is_told_together_counts_all_that_is_broken_and_keeps_each_cause() -> None:
    report = made_report()
    (group,) = report.requirements[1].causes
    follows = msgspec.structs.replace(group, cause="the node offers no GPU", remedy="Follow POOL-02.")
    also = msgspec.structs.replace(report.requirements[1], requirement="POOL-03", groups=(follows,))
    verdicts = (report.requirements[0], report.requirements[1], also)

    _, second = fixes.fixes(msgspec.structs.replace(report, requirements=verdicts))

    assert (second.title, second.subjects, second.findings_left) == ("the node group lacks the label", 14, 0)
    assert [each.first.cause for each in second.findings] == [
        "the node group lacks the label",
        "the node offers no GPU",
    ]


@pytest.mark.parametrize(
    ("cause", "title"),
    [
        ("its label is missing", "node gpu-0 and 6 more: its label is missing"),
        ("they are tainted", "node gpu-0 and 6 more: they are tainted"),
        ("item 3 is missing", "item 3 is missing"),
    ],
)
def test_a_title_that_begins_with_a_pronoun_names_its_subject(cause: str, title: str) -> None:
    report = made_report()
    (group,) = report.requirements[1].causes
    verdict = msgspec.structs.replace(report.requirements[1], groups=(msgspec.structs.replace(group, cause=cause),))

    _, second = fixes.fixes(msgspec.structs.replace(report, requirements=(report.requirements[0], verdict)))

    assert (second.title, second.cause) == (title, cause)


def test_a_requirement_with_a_cause_for_each_subject_is_one_thing_to_fix() -> None:
    report = made_report()
    broken = report.requirements[1]
    (group,) = broken.causes
    groups = tuple(msgspec.structs.replace(group, cause=f"pod exporter-{number} is Pending") for number in range(9))
    scattered = msgspec.structs.replace(broken, groups=groups)
    verdicts = (report.requirements[0], scattered, *report.requirements[2:])

    _, second = fixes.fixes(msgspec.structs.replace(report, requirements=verdicts))

    assert second.title == broken.title
    assert (second.subjects, len(second.findings), second.findings_left) == (63, 3, 6)


def test_causes_that_one_requirement_judges_are_one_thing_to_fix_with_its_findings_once() -> None:
    report = made_report()
    other = Cause("POOL-01", "error", "pool t4 has no node", ("OBS-01",))

    first, _ = fixes.fixes(msgspec.structs.replace(report, causes=(*report.causes, other)))

    assert first.title == report.requirements[0].title
    assert [len(cause.waiting) for cause in first.causes] == [2, 1]
    assert first.subjects == 1
