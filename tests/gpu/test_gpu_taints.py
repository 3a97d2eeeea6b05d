"""Taints and tolerations: the documented examples, and a comparison with a table of everything that exists."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.gpu.taints import (
    CORDON,
    ORDINARY_POD,
    Taint,
    Toleration,
    repelling,
    seconds_tolerated,
    taint_from,
    tolerates,
    toleration_from,
    untolerated,
    why_repelled,
)

KEYS = ["nvidia.com/gpu", "dedicated", "maintenance"]
VALUES = ["", "present", "gpu"]
EFFECTS = ["NoSchedule", "NoExecute", "PreferNoSchedule"]
EVERY_TAINT = [Taint(key, value, effect) for key, value, effect in product(KEYS, VALUES, EFFECTS)]

taints = st.lists(st.sampled_from(EVERY_TAINT), max_size=5)
tolerations = st.lists(
    st.builds(
        Toleration,
        key=st.sampled_from(["", *KEYS]),
        operator=st.sampled_from(["", "Equal", "Exists", "Lt", "Gt", "exists"]),
        value=st.sampled_from(VALUES),
        effect=st.sampled_from(["", *EFFECTS]),
    ),
    max_size=5,
)


def covered_by(toleration: Toleration) -> set[Taint]:
    """Every taint that exists here, thrown out rule by rule until only the tolerated ones are left."""
    left = set(EVERY_TAINT)
    if toleration.effect:
        left = {taint for taint in left if taint.effect == toleration.effect}
    if toleration.key:
        left = {taint for taint in left if taint.key == toleration.key}
    known = {"": "values", "Equal": "values", "Exists": "all"}.get(toleration.operator, "none")
    if known == "values":
        left = {taint for taint in left if taint.value == toleration.value}
    return left if known != "none" else set()


@given(tolerations, taints)
def test_what_stays_untolerated_is_what_no_toleration_covers(pod: list[Toleration], node: list[Taint]) -> None:
    covered = set().union(*(covered_by(toleration) for toleration in pod))
    expected = tuple(taint for taint in node if taint not in covered and taint.effect != "PreferNoSchedule")

    assert untolerated(pod, node) == expected


@given(tolerations, taints)
def test_one_more_toleration_never_keeps_a_pod_away(pod: list[Toleration], node: list[Taint]) -> None:
    assert set(untolerated([*pod, Toleration(operator="Exists")], node)) == set()
    for count in range(len(pod)):
        assert set(untolerated(pod[: count + 1], node)) <= set(untolerated(pod[:count], node))


def test_every_taint_needs_a_toleration_of_its_own() -> None:
    node = [Taint("nvidia.com/gpu", "present", "NoSchedule"), Taint("dedicated", "gpu", "NoSchedule")]
    only_gpu = [Toleration("nvidia.com/gpu", "Exists", effect="NoSchedule")]

    assert untolerated(only_gpu, node) == (Taint("dedicated", "gpu", "NoSchedule"),)


@pytest.mark.parametrize(
    ("toleration", "covers"),
    [
        (Toleration(operator="Exists"), True),
        (Toleration("dedicated", "Exists"), True),
        (Toleration("dedicated", "Exists", effect="NoExecute"), False),
        (Toleration("dedicated", value="gpu"), True),
        (Toleration("dedicated", "Equal", "gpu", "NoSchedule"), True),
        (Toleration("dedicated", "Equal", "cpu"), False),
        (Toleration("dedicated"), False),
        (Toleration(value="gpu"), True),
        (Toleration("dedicated", "Gt", "0"), False),
        (Toleration("dedicated", "Unheard", "gpu"), False),
    ],
    ids=str,
)
def test_operator_key_value_and_effect_decide_as_in_kubernetes(toleration: Toleration, covers: bool) -> None:
    assert tolerates([toleration], Taint("dedicated", "gpu", "NoSchedule")) is covers


@pytest.mark.parametrize(
    ("operator", "value", "taint", "covers"),
    [
        ("Gt", "950", "980", True),
        ("Gt", "950", "950", False),
        ("Gt", "950", "1000", True),
        ("Gt", "-5", "-4", True),
        ("Lt", "950", "940", True),
        ("Lt", "950", "950", False),
        ("Lt", "950", "1000", False),
        ("Gt", "x", "980", False),
        ("Gt", "950", "", False),
        ("Lt", "9.5", "9", False),
        ("Gt", "0", str(2**63), False),
    ],
)
def test_numbers_are_compared_with_the_value_of_the_taint(operator: str, value: str, taint: str, covers: bool) -> None:
    toleration = Toleration("sla", operator, value, "NoSchedule")

    assert toleration.tolerates(Taint("sla", taint, "NoSchedule")) is covers


def test_prefer_no_schedule_keeps_nobody_away_unless_asked_about() -> None:
    soft = Taint("dedicated", "gpu", "PreferNoSchedule")

    assert untolerated([], [soft]) == ()
    assert untolerated([], [soft], effects=("PreferNoSchedule",)) == (soft,)


def test_cordon_and_node_problems_are_told_from_taints_that_last() -> None:
    assert CORDON.is_lifecycle
    assert Taint("node.kubernetes.io/not-ready", effect="NoExecute").is_lifecycle
    assert Taint("ToBeDeletedByClusterAutoscaler", "1", "NoSchedule").is_lifecycle
    assert not Taint("nvidia.com/gpu", "present", "NoSchedule").is_lifecycle
    assert not Taint("node-role.kubernetes.io/control-plane", effect="NoSchedule").is_lifecycle


@pytest.mark.parametrize(
    "key",
    [
        "karpenter.sh/disrupted",
        "karpenter.sh/unregistered",
        "node.cilium.io/agent-not-ready",
        "ebs.csi.aws.com/agent-not-ready",
        "efs.csi.aws.com/agent-not-ready",
        "cloud.google.com/impending-node-termination",
        "node.cluster.x-k8s.io/uninitialized",
        "aws-node-termination-handler/spot-itn",
        "medik8s.io/drain",
        "remediator.aks.microsoft.com/unschedulable",
        "sagemaker.amazonaws.com/node-health-status",
        "skyhook.nvidia.com",
    ],
)
def test_what_those_put_that_bring_up_and_remove_nodes_does_not_last(key: str) -> None:
    assert Taint(key, effect="NoSchedule").is_lifecycle


@pytest.mark.parametrize(
    "key",
    [
        "karpenter.sh/team",
        "sagemaker.amazonaws.com/team",
        "node.cluster.x-k8s.io/reserved",
        "cloud.google.com/gke-spot",
    ],
)
def test_other_keys_of_their_domains_are_the_owners_own(key: str) -> None:
    assert not Taint(key, effect="NoSchedule").is_lifecycle


def test_an_ordinary_pod_outlives_a_short_outage_and_nothing_else() -> None:
    outage = [Taint("node.kubernetes.io/not-ready", effect="NoExecute")]

    assert untolerated(ORDINARY_POD, outage) == ()
    assert untolerated(ORDINARY_POD, [CORDON]) == (CORDON,)


def test_taints_and_tolerations_read_as_kubectl_writes_them() -> None:
    assert str(Taint("dedicated", "gpu", "NoSchedule")) == "dedicated=gpu:NoSchedule"
    assert str(Taint("dedicated", "", "NoExecute")) == "dedicated:NoExecute"
    assert str(Toleration("dedicated", "Equal", "gpu", "NoSchedule")) == "dedicated=gpu:NoSchedule"
    assert str(Toleration("dedicated", "Exists")) == "dedicated Exists:every effect"
    assert str(Toleration(operator="Exists")) == "every key:every effect"


def test_null_and_missing_members_read_as_empty() -> None:
    assert taint_from({"key": "dedicated", "value": None, "effect": "NoSchedule"}) == Taint(
        "dedicated", "", "NoSchedule"
    )
    assert toleration_from({"operator": "Exists", "tolerationSeconds": "30"}) == Toleration(
        "", "Exists", toleration_seconds=30
    )


@pytest.mark.parametrize(
    ("tolerations", "seconds"),
    [
        ([Toleration("dedicated", "Exists")], None),
        ([Toleration("dedicated", "Exists", toleration_seconds=3600)], 3600),
        ([Toleration("dedicated", "Exists", toleration_seconds=60), Toleration(operator="Exists")], 60),
        ([Toleration(operator="Exists"), Toleration("dedicated", "Exists", toleration_seconds=60)], None),
        ([Toleration("other", "Exists")], 0),
    ],
)
def test_the_first_toleration_that_covers_a_no_execute_taint_says_when_it_evicts(
    tolerations: list[Toleration], seconds: int | None
) -> None:
    assert seconds_tolerated(tolerations, Taint("dedicated", "gpu", "NoExecute")) == seconds
    assert seconds_tolerated(tolerations, Taint("dedicated", "gpu", "NoSchedule")) is None


def test_what_is_tolerated_for_a_while_repels_in_the_end() -> None:
    taint = Taint("dedicated", "gpu", "NoExecute")
    for_an_hour = [Toleration("dedicated", "Exists", toleration_seconds=3600)]

    assert untolerated(for_an_hour, [taint]) == ()
    assert repelling(for_an_hour, [taint]) == (taint,)
    assert why_repelled(for_an_hour, taint) == "is tolerated for 3600 s only"
    assert repelling([Toleration("dedicated", "Exists")], [taint]) == ()
    assert repelling([], [Taint("dedicated", effect="PreferNoSchedule")]) == ()
    assert why_repelled([], taint) == "is not tolerated"
