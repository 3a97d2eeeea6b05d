"""As much of a group of findings as a page has room for: the first subject in full, the next ones by name."""

from itertools import islice

import msgspec

from conformance.report import owners
from conformance.report.grouping import FindingGroup
from conformance.report.story import format_new
from conformance.verdict import Finding

SUBJECTS = 20


class Shown(msgspec.Struct, frozen=True):
    """A group of findings on a page. ``alike`` says whether the others have the first one's expected and actual.

    ``remedy`` is the finding's own, or else its requirement's; ``new`` says which of them the baseline of
    the run does not have, ``owner`` who has to act where that is known.
    """

    first: Finding
    count: int
    others: tuple[Finding, ...]
    left: int
    alike: bool
    remedy: str
    new: str = ""
    owner: str = ""


def shown(group: FindingGroup, *, remedy: str) -> Shown:
    """The first subjects of the group, and how many there are beside them."""
    first, *others = islice(group.findings(), SUBJECTS)
    alike = all((each.expected, each.actual) == (first.expected, first.actual) for each in others)
    return Shown(
        first,
        group.count,
        tuple(others),
        group.count - 1 - len(others),
        alike,
        first.remedy or remedy,
        format_new(group),
        owners.who_acts([group]),
    )
