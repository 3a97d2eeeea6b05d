"""Of pods that wait or fail the right first cause is told, in every situation of the table in the documentation."""

from pathlib import Path

import pytest
from waiting_pods import explained, field_clusters, markdown, situations


@pytest.mark.parametrize("name", situations())
def test_the_first_cause_is_the_right_one(name):
    situation = situations()[name]

    told = explained(situation)

    assert told.stage == situation["stage"], told
    missing = [words for words in situation["says"] if words.lower() not in told.cause.lower()]
    assert not missing, told
    assert not [words for words in situation.get("never_says", ()) if words.lower() in told.cause.lower()], told
    assert all(words in told.remedy for words in situation.get("advises", ())), told.remedy
    unsaid = [words for words in situation.get("evicts", ()) if words not in told.eviction]
    assert not unsaid, told.eviction


@pytest.mark.parametrize("cluster", field_clusters(), ids=lambda each: each["held_by"])
def test_in_a_kind_of_cluster_of_the_field_the_remedy_helps_and_does_no_harm(cluster):
    told = explained(situations()[cluster["held_by"]])

    assert cluster["advises"], "a remedy that says nothing helps nobody"
    assert not [words for words in cluster["advises"] if words not in told.remedy], told.remedy
    assert not [words for words in cluster["never_advises"] if words.lower() in told.remedy.lower()], told.remedy


def test_at_least_fifteen_kinds_of_clusters_are_held_each_by_a_situation_of_its_own():
    assert len({each["held_by"] for each in field_clusters()}) == len(field_clusters()) >= 15


def test_the_page_of_the_documentation_has_what_is_told():
    page = Path(__file__).parents[2] / "docs" / "pods-that-wait.md"

    assert page.read_text() == markdown(), "python tests/explaining/waiting_pods.py > docs/pods-that-wait.md"


def test_the_page_has_the_sixty_pods_that_were_promised_and_twenty_of_them_came_before_the_code():
    every = situations().values()

    assert len(every) >= 60
    assert sum(bool(each.get("before_the_code")) for each in every) >= 20
