"""A set-up of another cluster: its declarations hold nobody, and what they are needed for waits."""

import pytest

from conformance.reference import load
from conformance.reference.foreign import foreign
from conformance.reference.model import Reference
from conformance.shipped import shipped
from conformance.verdict import Waits


@pytest.fixture
def other():
    return foreign(load(shipped("fixtures/reference")), "it is another cluster's")


@pytest.mark.parametrize(
    "asked",
    ["stack", "pools", "gpu_pools", "teams", "priority_classes", "default_priority_class", "workloads", "test_pods"],
)
def test_whoever_asks_for_a_declaration_waits(other, asked):
    with pytest.raises(Waits, match="it is another cluster's") as raised:
        getattr(other, asked)

    assert raised.value.requirement == ""


def test_nothing_of_this_cluster_is_declared_by_another_ones_set_up(other):
    named = load(shipped("fixtures/reference"))

    assert other.team(named.teams[0].namespace) is None
    assert other.priority_class(named.priority_classes[0].name) is None
    assert other.kai is None
    assert other.offered_resources == {"nvidia.com/gpu"}


def test_it_is_still_a_reference_of_that_name(other):
    assert isinstance(other, Reference)
    assert str(other) == "reference set-up corrected-guide"
