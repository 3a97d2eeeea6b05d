"""Every failure of the field is seeded as a fault, or docs/failures.md says why it cannot be."""

import re
from pathlib import Path

import seeded

from conformance.session import catalogue

PAGE = Path(__file__).parents[2] / "docs" / "failures.md"
ROW = re.compile(r"\| F(?P<number>\d+) \| (?P<what>[^|]+) \| (?P<how>[^|]+) \|")


def rows():
    return {int(row["number"]): row["how"].strip() for row in ROW.finditer(PAGE.read_text(encoding="utf-8"))}


def seeded_failures():
    found = {}
    for fault in [*seeded.faults("static"), *seeded.faults("live")]:
        for number in re.findall(r"\bF(\d+)\b", fault.origin):
            found.setdefault(int(number), set()).add("-".join(fault.id.split("-")[:2]))
    return found


def test_the_page_lists_every_failure_once():
    assert sorted(rows()) == list(range(1, 89))


def test_each_failure_is_seeded_or_its_reason_is_given():
    found = seeded_failures()

    for number, how in rows().items():
        if number in found:
            assert how == ", ".join(sorted(found[number])), f"F{number}"
        else:
            assert how.startswith("not seeded: "), f"F{number} has no fault and no reason"


def test_the_page_names_only_requirements_that_exist():
    named = set(re.findall(r"\b[A-Z]{2,6}-\d{2}\b", PAGE.read_text(encoding="utf-8")))

    assert len(named) > 50
    assert named - {rule.id for rule in catalogue.requirements()} == set()
