from pathlib import Path

from conformance.session import catalogue

CHECKOUT = Path(__file__).resolve().parents[2]


def test_every_requirement_is_in_the_catalogue_once_and_in_order():
    ids = [rule.id for rule in catalogue.requirements()]

    assert len(ids) == len(set(ids)) > 60
    assert ids.index("POOL-01") < ids.index("SCHED-01") < ids.index("QUOTA-01")


def test_numbers_have_no_gaps_so_that_none_was_dropped_unseen():
    for prefix in ("POOL", "SCHED", "TEN", "PRIO", "QUOTA", "TS", "MPS", "MIG", "DRA", "GANG", "WORK", "ISO"):
        numbers = [int(rule.id.split("-")[1]) for rule in catalogue.requirements() if rule.id.startswith(prefix + "-")]
        assert numbers == list(range(1, len(numbers) + 1)), prefix


def test_the_page_of_requirements_is_what_the_suites_say():
    assert (CHECKOUT / "docs" / "requirements.md").read_text() == catalogue.markdown()
