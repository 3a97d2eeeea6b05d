"""Two runs are compared by object and cause, and nothing that nobody looked at is called fixed."""

import pytest
from runs import Night, broken, node, pod, verdict

from conformance.report.comparing.changes import Change, Difference, Turn
from conformance.report.comparing.difference import compare
from conformance.report.comparing.failing import KINDS, named, reasons
from conformance.report.model import Report
from conformance.verdict import EvidenceKind, Status


def changed(difference: Difference) -> list[tuple[Change, list[str]]]:
    return [(each.change, each.findings.names(99)) for each in difference.findings]


def turns(difference: Difference) -> list[tuple[str, str]]:
    return [(each.requirement, str(each.turn)) for each in difference.requirements]


def one(old: object, new: object) -> Difference:
    """The difference of two nights that judged POOL-02."""
    return compare([Night(1)(verdict("POOL-02", old))], Night(2)(verdict("POOL-02", new)))


def test_what_is_broken_now_is_new_known_or_fixed_by_object() -> None:
    difference = one(broken(node("gpu-1"), node("gpu-2")), broken(node("gpu-2"), node("gpu-3")))

    assert changed(difference) == [
        (Change.NEW, ["node gpu-3"]),
        (Change.FIXED, ["node gpu-1"]),
        (Change.KNOWN, ["node gpu-2"]),
    ]
    assert difference.counts == {
        "new": 1, "other-cause": 0, "not-judged-now": 0, "fixed": 1, "gone": 0, "known": 1, "flapping": 0
    }  # fmt: skip
    assert difference.findings[0].findings.first.inspect == "look at gpu-3"


def test_two_equal_reports_differ_in_nothing() -> None:
    difference = one(broken(node("gpu-1")), broken(node("gpu-1")))

    assert [each.change for each in difference.findings] == [Change.KNOWN]
    assert difference.requirements == ()
    assert reasons(difference, list(KINDS)) == []


def test_another_cause_of_the_same_object_is_told_with_the_former_and_is_new_to_a_job() -> None:
    difference = one(broken(node("gpu-1"), cause="no label"), broken(node("gpu-1"), cause="no taint"))

    (told,) = difference.findings
    assert (told.change, told.was) == (Change.OTHER_CAUSE, "no label")
    assert reasons(difference, ["new"]) == ["fails on new: 1 new finding"]


def test_other_numbers_in_a_cause_are_no_other_cause() -> None:
    difference = one(broken(node("gpu-1"), cause="3 of 8 GPUs"), broken(node("gpu-1"), cause="4 of 8 GPUs"))

    assert [each.change for each in difference.findings] == [Change.KNOWN]


def test_a_second_cause_of_an_object_is_new_beside_the_first() -> None:
    label, taint = broken(node("gpu-1"), cause="no label"), broken(node("gpu-1"), cause="no taint")

    assert changed(one(label, [*label, *taint])) == [(Change.NEW, ["node gpu-1"]), (Change.KNOWN, ["node gpu-1"])]
    assert changed(one([*label, *taint], taint)) == [(Change.FIXED, ["node gpu-1"]), (Change.KNOWN, ["node gpu-1"])]


def test_a_pod_that_its_controller_replaced_is_the_same_trouble() -> None:
    old = broken(pod("train-7c9d8f6b5d-x2x4z"), pod("train-7c9d8f6b5d-qq2vb"), pod("agent-bcd4f"))
    new = broken(pod("train-5b6c7d8f9b-lklkl"), pod("train-5b6c7d8f9b-zzzz2"), pod("agent-xzz29"))

    assert changed(one(old, new)) == [(Change.KNOWN, ["pod team-a/train-5b6c7d8f9b-lklkl"])]
    assert one(old, [*new, *broken(pod("train-5b6c7d8f9b-new42"))]).counts["new"] == 1


def test_names_that_people_gave_are_different_objects() -> None:
    difference = one(broken(pod("trainer-alice"), node("gpu-mgmt2")), broken(pod("trainer-abbey"), node("gpu-mgmt4")))

    assert (difference.counts["new"], difference.counts["fixed"]) == (2, 2)


@pytest.mark.parametrize("status", [Status.ERROR, Status.UNKNOWN, Status.WAITING, Status.NOT_RUN, Status.UNSUPPORTED])
def test_what_is_no_longer_judged_is_never_called_fixed(status: Status) -> None:
    difference = one(broken(node("gpu-1")), status)

    assert changed(difference) == [(Change.UNJUDGED, ["node gpu-1"])]
    assert turns(difference) == [("POOL-02", "no-longer-judged")]
    assert reasons(difference, ["unjudged"]) == [
        "fails on unjudged: 1 requirement no longer judged, 1 finding not looked at now"
    ]


def test_a_requirement_that_the_newer_run_does_not_have_is_no_longer_judged() -> None:
    difference = compare([Night(1)(verdict("POOL-02", broken(node("gpu-1"))))], Night(2)(verdict("POOL-03")))

    assert changed(difference) == [(Change.UNJUDGED, ["node gpu-1"])]
    assert ("POOL-02", "no-longer-judged") in turns(difference)
    assert ("POOL-03", "newly-judged") in turns(difference)


def test_a_subject_that_could_not_be_looked_at_is_not_fixed() -> None:
    old = Night(1)(verdict("POOL-02", broken(node("gpu-1"), node("gpu-2"))))
    new = Night(2)(verdict("POOL-02", unseen=[node("gpu-1")]))

    assert changed(compare([old], new)) == [(Change.UNJUDGED, ["node gpu-1"]), (Change.FIXED, ["node gpu-2"])]


def test_where_more_are_unseen_than_named_nobody_knows_who_is_fixed() -> None:
    old = Night(1)(verdict("POOL-02", broken(node("gpu-1"))))
    new = Night(2)(verdict("POOL-02", unseen=[node(f"other-{number}") for number in range(100)]))

    assert changed(compare([old], new)) == [(Change.UNJUDGED, ["node gpu-1"])]


def test_a_node_that_left_the_cluster_is_gone_with_its_pods_and_not_fixed() -> None:
    old = Night(1)(verdict("POOL-02", broken(node("gpu-3"), pod("job", on="gpu-3"), pod("other", on="gpu-1"))))
    new = Night(2, nodes=("gpu-1", "gpu-2"))(verdict("POOL-02"))

    assert changed(compare([old], new)) == [
        (Change.FIXED, ["pod team-a/other"]),
        (Change.GONE, ["node gpu-3"]),
        (Change.GONE, ["pod team-a/job"]),
    ]


@pytest.mark.parametrize(
    ("old", "new", "turn"),
    [
        (EvidenceKind.HARDWARE, EvidenceKind.SIMULATED, Turn.WEAKER),
        (EvidenceKind.CONTAINER, EvidenceKind.SIMULATED, Turn.WEAKER),
        (EvidenceKind.HARDWARE, EvidenceKind.STATIC, Turn.WEAKER),
        (EvidenceKind.SIMULATED, EvidenceKind.HARDWARE, Turn.STRONGER),
    ],
)
def test_evidence_that_became_weaker_is_told(old: EvidenceKind, new: EvidenceKind, turn: Turn) -> None:
    difference = compare([Night(1)(verdict("POOL-02", evidence=old))], Night(2)(verdict("POOL-02", evidence=new)))

    assert [(each.turn, each.old, each.new) for each in difference.requirements] == [(turn, str(old), str(new))]
    assert bool(reasons(difference, ["weaker"])) is (turn is Turn.WEAKER)


def test_a_requirement_that_no_longer_saw_everybody_has_weaker_evidence() -> None:
    old, new = Night(1)(verdict("POOL-02")), Night(2)(verdict("POOL-02", unseen=[node("gpu-1")]))

    (told,) = compare([old], new).requirements
    assert (told.turn, told.why) == (Turn.WEAKER, "not looked at: 1 of 1 subjects, before none")


def test_what_a_waiver_covers_is_not_new_and_one_that_ended_is() -> None:
    waived = verdict("POOL-02", broken(node("gpu-1"), node("gpu-2")), status=Status.WAIVED, reason="until 2027")
    failed = verdict("POOL-02", broken(node("gpu-1")))

    covered = compare([Night(1)(failed)], Night(2)(waived))
    assert reasons(covered, ["new"]) == []
    assert reasons(covered, ["waivers"]) == ["fails on waivers: 1 requirement with another waiver"]
    ended = compare([Night(1)(waived)], Night(2)(failed))
    assert ("POOL-02", "waiver-changed") in turns(ended)
    assert reasons(ended, ["new"]) == ["fails on new: 1 newly failed requirement"]


def test_what_is_newly_judged_is_told_with_what_was_in_the_way() -> None:
    waiting = verdict("POOL-02", Status.WAITING, reason="no pool", waits_for="POOL-01")

    (told,) = compare([Night(1)(waiting)], Night(2)(verdict("POOL-02"))).requirements

    assert (told.turn, told.old, told.new) == (Turn.NEWLY_JUDGED, "waiting", "passed")
    assert told.why == "waits for POOL-01: no pool"


def test_two_clusters_are_said_to_be_two_and_so_are_two_references() -> None:
    new = Night(2, cluster="staging", reference="ours")(verdict("POOL-02"))

    difference = compare([Night(1)(verdict("POOL-02"))], new)

    assert [(each.what, each.old, each.new) for each in difference.grave] == [
        ("cluster", "prod-gpu", "staging"),
        ("reference", "h100-fleet", "ours"),
    ]
    assert reasons(difference, ["unlike"]) == ["fails on unlike: another cluster, another reference"]


def test_one_name_for_two_clusters_is_noticed_by_their_nodes() -> None:
    new = Night(2, nodes=("cpu-1",))(verdict("POOL-02"))

    assert [each.what for each in compare([Night(1)(verdict("POOL-02"))], new).grave] == ["nodes"]


def test_snapshots_of_one_cluster_may_have_two_names() -> None:
    def snapshot(day: int, *nodes: str) -> Report:
        return Night(day, cluster=f"snapshot:{day}.json.gz", kind="snapshot", nodes=nodes)(verdict("POOL-02"))

    assert compare([snapshot(1, "gpu-1", "gpu-2")], snapshot(2, "gpu-2", "gpu-3")).grave == ()
    assert [each.what for each in compare([snapshot(1, "gpu-1")], snapshot(2, "cpu-1")).grave] == ["cluster"]


def test_mode_versions_and_settings_are_told_and_paths_of_a_machine_are_not() -> None:
    old = Night(1, settings={"timeout": "['a=1'] (from option)", "report": "a (from option)"})(verdict("POOL-02"))
    new = Night(2, mode="full", settings={"report": "b (from environment X)"})(verdict("POOL-02"))

    assert [(each.what, each.old, each.new, each.grave) for each in compare([old], new).unlike] == [
        ("mode", "audit", "full", False),
        ("setting timeout", "['a=1']", "not set", False),
    ]


def test_reports_in_the_wrong_order_are_told() -> None:
    difference = compare([Night(2)(verdict("POOL-02"))], Night(1)(verdict("POOL-02")))

    assert [each.what for each in difference.grave] == ["order"]


def nights(*states: str) -> list[Report]:
    """A night for each letter: b where gpu-1 is broken, o where it is not, - where nobody judged it."""
    made = {"b": broken(node("gpu-1")), "o": (), "-": Status.ERROR}
    return [Night(day)(verdict("POOL-02", made[state])) for day, state in enumerate(states, 1)]


@pytest.mark.parametrize(
    ("states", "flaps"),
    [("bob", 1), ("obo", 1), ("b-ob", 1), ("obb", 0), ("bbo", 0), ("b-b", 0), ("o-b", 0), ("bb", 0), ("oobob", 1)],
)
def test_what_came_and_went_over_several_runs_is_flapping(states: str, flaps: int) -> None:
    *old, new = nights(*states)

    difference = compare(old, new)

    assert difference.counts["flapping"] == flaps
    assert bool(reasons(difference, ["flapping"])) is bool(flaps)


def test_a_kind_of_difference_that_there_is_not_is_refused_with_those_there_are() -> None:
    assert named(["new,weaker", "new"]) == ["new", "weaker"]
    with pytest.raises(ValueError, match="--fail-on=worse: there is no such difference; there are new, flapping"):
        named(["worse"])
