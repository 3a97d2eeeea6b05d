"""Sharing: what a node must advertise, how it is labelled, and which requests the plugin admits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.gpu.sharing import (
    NOT_SHARED,
    Answer,
    MigStrategy,
    NodeGpus,
    Offer,
    ReplicatedResource,
    Sharing,
    SharingStrategy,
    advertised,
    labels,
    request,
)

GPU = "nvidia.com/gpu"
A100 = "NVIDIA-A100-SXM4-40GB"
SEVEN = {"1g.5gb": 7}


def sliced(replicas: int, *, resource: str = GPU, rename: bool = False, fail: bool | None = None) -> Sharing:
    return Sharing(SharingStrategy.TIME_SLICING, (ReplicatedResource(resource, replicas),), rename, fail)


def mps(replicas: int) -> Sharing:
    return Sharing(SharingStrategy.MPS, (ReplicatedResource(GPU, replicas),))


@pytest.mark.parametrize(
    ("gpus", "sharing", "strategy", "resources"),
    [
        (NodeGpus("Tesla-T4", 4), NOT_SHARED, MigStrategy.NONE, {GPU: 4}),
        (NodeGpus("Tesla-T4", 1), sliced(4), MigStrategy.NONE, {GPU: 4}),
        (NodeGpus("Tesla-T4", 4), sliced(4, rename=True), MigStrategy.NONE, {"nvidia.com/gpu.shared": 16}),
        (NodeGpus("Tesla-T4", 2), mps(10), MigStrategy.NONE, {GPU: 20}),
        (NodeGpus("Tesla-T4", 2), mps(10), MigStrategy.SINGLE, {GPU: 20}),
        (NodeGpus(A100, 0, (SEVEN, SEVEN)), NOT_SHARED, MigStrategy.NONE, {GPU: 2}),
        (NodeGpus(A100, 0, (SEVEN, SEVEN)), NOT_SHARED, MigStrategy.SINGLE, {GPU: 14}),
        (NodeGpus(A100, 0, (SEVEN, SEVEN)), sliced(2), MigStrategy.SINGLE, {GPU: 28}),
        (NodeGpus(A100, 4, (SEVEN,)), NOT_SHARED, MigStrategy.MIXED, {GPU: 4, "nvidia.com/mig-1g.5gb": 7}),
        (NodeGpus(A100, 0, ({"1g.10gb+me": 1},)), NOT_SHARED, MigStrategy.MIXED, {"nvidia.com/mig-1g.10gb.me": 1}),
        (
            NodeGpus(A100, 1, (SEVEN,)),
            sliced(3, resource="nvidia.com/mig-1g.5gb", rename=True),
            MigStrategy.MIXED,
            {GPU: 1, "nvidia.com/mig-1g.5gb.shared": 21},
        ),
        (NodeGpus(A100), sliced(4), MigStrategy.NONE, {}),
    ],
)
def test_a_node_advertises_devices_times_replicas(
    gpus: NodeGpus, sharing: Sharing, strategy: MigStrategy, resources: dict[str, int]
) -> None:
    assert advertised(gpus, sharing, strategy).resources == resources


@pytest.mark.parametrize(
    ("gpus", "sharing", "strategy", "says"),
    [
        (NodeGpus(A100, 4, (SEVEN,)), NOT_SHARED, MigStrategy.SINGLE, "off for 4"),
        (NodeGpus(A100, 0, (SEVEN, {})), NOT_SHARED, MigStrategy.SINGLE, "no MIG devices"),
        (NodeGpus(A100, 0, (SEVEN, {"2g.10gb": 3})), NOT_SHARED, MigStrategy.SINGLE, "more than one profile"),
        (NodeGpus(A100, 0, ({"1c.3g.20gb": 3},)), NOT_SHARED, MigStrategy.MIXED, "no resource exists"),
        (NodeGpus(A100, 4), mps(4), MigStrategy.MIXED, "does not start"),
        (NodeGpus(A100, 4), mps(49), MigStrategy.NONE, "at most 48"),
        (NodeGpus("Tesla-V100", 4, (), (7, 0)), mps(17), MigStrategy.NONE, "at most 16"),
    ],
)
def test_a_declaration_that_cannot_work_offers_nothing_and_says_why(
    gpus: NodeGpus, sharing: Sharing, strategy: MigStrategy, says: str
) -> None:
    offer = advertised(gpus, sharing, strategy)
    assert offer.resources == {}
    assert says in " ".join(offer.problems)


@pytest.mark.parametrize(
    ("gpus", "sharing", "strategy"),
    [
        (NodeGpus(A100, 0, (SEVEN,)), NOT_SHARED, None),
        (NodeGpus(A100, 0, (None,)), NOT_SHARED, MigStrategy.SINGLE),
        (NodeGpus(A100, 0, (None,)), NOT_SHARED, MigStrategy.MIXED),
        (NodeGpus(A100, 0, (SEVEN,)), mps(4), MigStrategy.SINGLE),
        (NodeGpus("Whatever", 1), mps(20), MigStrategy.NONE),
    ],
)
def test_what_cannot_be_known_is_unknown(gpus: NodeGpus, sharing: Sharing, strategy: MigStrategy | None) -> None:
    offer = advertised(gpus, sharing, strategy)
    assert offer.resources is None
    assert offer.problems
    assert offer.count(GPU) is None
    assert request(GPU, 1, offer, sharing).answer is Answer.UNKNOWN


def test_a_layout_that_is_unknown_does_not_hide_what_is_wrong_anyway() -> None:
    assert advertised(NodeGpus(A100, 1, (None,)), NOT_SHARED, MigStrategy.SINGLE).resources == {}


def test_without_mig_the_strategy_does_not_matter() -> None:
    assert advertised(NodeGpus("Tesla-T4", 2), sliced(2), None).resources == {GPU: 4}


def test_an_empty_mig_gpu_offers_nothing_with_mixed_and_is_mentioned() -> None:
    offer = advertised(NodeGpus(A100, 1, ({},)), NOT_SHARED, MigStrategy.MIXED)
    assert offer.resources == {GPU: 1}
    assert "no MIG devices" in offer.problems[0]


def test_replicas_of_a_resource_that_the_node_lacks_are_mentioned() -> None:
    offer = advertised(NodeGpus("Tesla-T4", 1), sliced(4, resource="nvidia.com/mig-1g.5gb"))
    assert offer.resources == {GPU: 1}
    assert "nvidia.com/mig-1g.5gb" in offer.problems[0]


def test_after_a_rename_the_old_name_counts_zero() -> None:
    assert advertised(NodeGpus("Tesla-T4", 1), sliced(4, rename=True)).count(GPU) == 0


def test_labels_count_physical_gpus_and_tell_the_replicas() -> None:
    assert labels(NodeGpus("Tesla T4", 1), sliced(4)) == {
        "nvidia.com/gpu.product": "Tesla-T4-SHARED",
        "nvidia.com/gpu.count": "1",
        "nvidia.com/gpu.replicas": "4",
        "nvidia.com/gpu.sharing-strategy": "time-slicing",
        "nvidia.com/mps.capable": "false",
    }


def test_a_renamed_resource_needs_no_suffix_on_the_product() -> None:
    found = labels(NodeGpus("Tesla-T4", 1), sliced(4, rename=True)) or {}
    assert found["nvidia.com/gpu.product"] == "Tesla-T4"
    assert found["nvidia.com/gpu.replicas"] == "4"


def test_mps_is_told_by_two_labels() -> None:
    found = labels(NodeGpus("Tesla-T4", 1), mps(4)) or {}
    assert found["nvidia.com/gpu.sharing-strategy"] == "mps"
    assert found["nvidia.com/mps.capable"] == "true"


def test_single_names_the_profile_in_the_product_and_counts_mig_devices() -> None:
    found = labels(NodeGpus(A100, 0, (SEVEN, SEVEN)), sliced(2), MigStrategy.SINGLE) or {}
    assert found["nvidia.com/gpu.product"] == f"{A100}-MIG-1g.5gb-SHARED"
    assert found["nvidia.com/gpu.count"] == "14"
    assert found["nvidia.com/gpu.replicas"] == "2"
    assert found["nvidia.com/mig.strategy"] == "single"


def test_a_mixture_that_single_refuses_is_labelled_invalid() -> None:
    found = labels(NodeGpus(A100, 4, (SEVEN,)), NOT_SHARED, MigStrategy.SINGLE) or {}
    assert found["nvidia.com/gpu.product"] == f"{A100}-MIG-INVALID"
    assert found["nvidia.com/gpu.count"] == found["nvidia.com/gpu.replicas"] == found["nvidia.com/gpu.memory"] == "0"


def test_mixed_labels_each_profile_and_gives_mig_gpus_no_replicas() -> None:
    found = labels(NodeGpus(A100, 0, ({"1g.10gb+me": 1},)), sliced(2), MigStrategy.MIXED) or {}
    assert found["nvidia.com/gpu.count"] == "1"
    assert found["nvidia.com/gpu.replicas"] == "0"
    assert found["nvidia.com/gpu.product"] == A100
    assert found["nvidia.com/mig-1g.10gb.me.product"] == f"{A100}-MIG-1g.10gb.me"
    assert found["nvidia.com/mig-1g.10gb.me.count"] == "1"
    assert found["nvidia.com/mig-1g.10gb.me.replicas"] == "1"


def test_labels_of_a_node_without_gpus_are_none_and_of_an_unknown_one_unknown() -> None:
    assert labels(NodeGpus("")) == {}
    assert labels(NodeGpus(A100, 0, (None,)), NOT_SHARED, MigStrategy.MIXED) is None
    assert labels(NodeGpus(A100, 1), NOT_SHARED, None) is None


@pytest.mark.parametrize(
    ("sharing", "count", "answer"),
    [
        (sliced(4), 1, Answer.ADMITTED),
        (sliced(4), 2, Answer.ADMITTED),
        (sliced(4, fail=True), 1, Answer.ADMITTED),
        (sliced(4, fail=True), 2, Answer.REFUSED_BY_PLUGIN),
        (sliced(4, fail=True), 5, Answer.DOES_NOT_FIT),
        (mps(4), 2, Answer.REFUSED_BY_PLUGIN),
        (mps(4), 0, Answer.ADMITTED),
        (Sharing(SharingStrategy.MPS, (ReplicatedResource(GPU, 4),), False, False), 2, Answer.ADMITTED),
    ],
)
def test_a_request_is_refused_only_where_the_configuration_says_so(
    sharing: Sharing, count: int, answer: Answer
) -> None:
    assert request(GPU, count, advertised(NodeGpus("Tesla-T4", 1), sharing), sharing).answer is answer


def test_the_renamed_resource_is_the_one_that_refuses() -> None:
    sharing = sliced(4, rename=True, fail=True)
    offer = advertised(NodeGpus("Tesla-T4", 1), sharing)
    assert request("nvidia.com/gpu.shared", 2, offer, sharing).answer is Answer.REFUSED_BY_PLUGIN
    assert request(GPU, 1, offer, sharing).answer is Answer.DOES_NOT_FIT


def test_unshared_gpus_are_given_by_the_number() -> None:
    assert request(GPU, 4, Offer({GPU: 4})).answer is Answer.ADMITTED


@given(st.integers(0, 16), st.integers(2, 48), st.booleans())
def test_capacity_is_count_times_replicas_as_the_labels_tell_it(whole: int, replicas: int, rename: bool) -> None:
    gpus, sharing = NodeGpus("Tesla-T4", whole), sliced(replicas, rename=rename)
    found = labels(gpus, sharing) or {}
    told = int(found.get("nvidia.com/gpu.count", 0)) * int(found.get("nvidia.com/gpu.replicas", 0))
    assert sum((advertised(gpus, sharing).resources or {}).values()) == told == whole * replicas
