"""Who has to act: found from what requirements declare and where objects are, and told by every format for people."""

from pathlib import Path

import pytest

from conformance.catalog import MUST, READS, Owner, Requirement
from conformance.report.fixes import fixes
from conformance.report.formats import html, markdown
from conformance.report.model import Report
from conformance.report.owners import who_acts
from conformance.report.reading import read
from conformance.report.story import story
from conformance.session.judging import verdict_on
from conformance.sources import SOURCES
from conformance.subjects import ObjectReference
from conformance.verdict import EvidenceKind, Judge
from tests.report.runs import Night

FORMER = Path(__file__).parent / "former"


def _pod(namespace: str, name: str = "worker") -> ObjectReference:
    return ObjectReference.of("Pod", name, namespace=namespace)


def _node(name: str) -> ObjectReference:
    return ObjectReference.of("Node", name)


def _judged(owner: Owner, *subjects: ObjectReference, told: Owner = Owner.UNKNOWN, id: str = "POOL-09"):
    rule = Requirement(id, "Title", MUST, "pools", READS, (SOURCES["guide-1"],), "Mend it.", owner=owner)
    judge = Judge()
    for each in subjects:
        judge(each, ok=False, expected="x", actual="y", cause=f"the cause of {each.kind}", owner=told)
    judge(_node("good"), ok=True, expected="x", actual="x")
    return verdict_on(
        rule, judge, None, evidence=EvidenceKind.STATIC, duration=0, is_of_the_platform=lambda ns: ns == "kube-system"
    )


@pytest.mark.parametrize(
    ("owner", "subjects", "words"),
    [
        (Owner.PLATFORM, [_pod("team-a")], "platform team"),
        (Owner.WORKLOAD, [_pod("team-a")], "workload team of namespace team-a"),
        (Owner.WORKLOAD, [_pod("team-a"), _pod("team-b")], "workload teams of namespaces team-a, team-b"),
        (Owner.BOTH, [_pod("team-a")], "workload team of namespace team-a, and platform team"),
        (Owner.WORKLOAD, [_pod("kube-system")], "platform team"),
        (Owner.WORKLOAD, [ObjectReference.of("ServiceAccount", "runner", namespace="team-a")], "platform team"),
        (Owner.WORKLOAD, [_node("gpu-1")], "platform team"),
        (Owner.WORKLOAD, [_node("gpu-1"), _pod("team-a")], "platform team; workload team of namespace team-a"),
        # Nobody can tell, and nobody guesses.
        (Owner.UNKNOWN, [_pod("team-a")], ""),
        (Owner.WORKLOAD, [_pod("team-a"), _pod("kube-system")], ""),
        (Owner.WORKLOAD, [ObjectReference.many("Pod", "pods of teams")], ""),
        (Owner.WORKLOAD, [ObjectReference.scenario("a pod")], ""),
    ],
)
def test_who_has_to_act(owner: Owner, subjects: list[ObjectReference], words: str) -> None:
    verdict = _judged(owner, *subjects)

    assert who_acts(verdict.causes) == words
    assert [group.owner for group in verdict.groups if group.ok] == [Owner.UNKNOWN]


def test_a_finding_says_whose_its_own_remedy_is() -> None:
    assert who_acts(_judged(Owner.UNKNOWN, _pod("team-a"), told=Owner.PLATFORM).causes) == "platform team"
    assert who_acts(_judged(Owner.UNKNOWN, _pod("a"), told=Owner.WORKLOAD).causes) == "workload team of namespace a"


def test_many_namespaces_are_named_in_part() -> None:
    verdict = _judged(Owner.WORKLOAD, *(_pod(f"team-{n}") for n in range(9)))

    assert who_acts(verdict.causes).startswith("workload teams of namespaces team-0, team-1, team-2, team-3, team-4")
    assert "team-8" not in who_acts(verdict.causes)


def _report(*owners: Owner) -> Report:
    return Night(1)(*(_judged(owner, _pod("team-a"), id=f"POOL-{n:02}") for n, owner in enumerate(owners, 1)))


def test_what_to_fix_names_the_owner_in_every_format_for_people() -> None:
    report = _report(Owner.WORKLOAD)

    assert [fix.owner for fix in fixes(report)] == ["workload team of namespace team-a"]
    assert "<b>Owner:</b> workload team of namespace team-a" in html.render(report)
    assert "- Owner: workload team of namespace team-a" in markdown.render(report)
    assert "owner                  workload team of namespace team-a" in story(report.requirements[0])


def test_where_nobody_can_tell_of_one_finding_nothing_is_said_of_them_all() -> None:
    report = _report(Owner.WORKLOAD, Owner.UNKNOWN)

    assert [fix.owner for fix in fixes(report)] == [""]
    assert "<b>Owner:</b>" not in html.render(report)
    assert "Owner:" not in markdown.render(report)


@pytest.mark.parametrize("name", ["v1.json", "v1alpha1-before-causes.json"])
def test_a_report_from_before_there_were_owners_names_none(name: str) -> None:
    report = read(FORMER / name)

    assert {fix.owner for fix in fixes(report)} == {""}
