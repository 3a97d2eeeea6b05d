"""For which differences a CI job fails: ``report diff --fail-on``."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from conformance.report.comparing.changes import Change, Difference, Turn


def _new(difference: Difference) -> str:
    """What a waiver covers fails nothing."""
    findings = sum(each.count for each in difference.of(Change.NEW, Change.OTHER_CAUSE) if not each.waived)
    requirements = len(difference.turned(Turn.NEWLY_FAILED))
    return _told(
        (findings, "new finding", "new findings"),
        (requirements, "newly failed requirement", "newly failed requirements"),
    )


def _flapping(difference: Difference) -> str:
    flapping = sum(each.flapping for each in difference.findings)
    return _told((flapping, "flapping finding", "flapping findings"))


def _weaker(difference: Difference) -> str:
    weaker = len(difference.turned(Turn.WEAKER))
    return _told((weaker, "requirement with weaker evidence", "requirements with weaker evidence"))


def _unjudged(difference: Difference) -> str:
    findings = sum(each.count for each in difference.of(Change.UNJUDGED))
    requirements = len(difference.turned(Turn.NO_LONGER_JUDGED))
    return _told(
        (requirements, "requirement no longer judged", "requirements no longer judged"),
        (findings, "finding not looked at now", "findings not looked at now"),
    )


def _waivers(difference: Difference) -> str:
    waivers = len(difference.turned(Turn.WAIVER))
    return _told((waivers, "requirement with another waiver", "requirements with other waivers"))


def _unlike(difference: Difference) -> str:
    return ", ".join(f"another {each.what}" for each in difference.grave)


def _any(difference: Difference) -> str:
    """Every difference but of versions, counts of nodes and the like, for the better as well."""
    changed = sum(each.count for each in difference.findings if each.change is not Change.KNOWN)
    verdicts = len(difference.requirements)
    told = _told((changed, "changed finding", "changed findings"), (verdicts, "changed verdict", "changed verdicts"))
    return ", ".join(filter(None, (told, _unlike(difference))))


KINDS: Mapping[str, Callable[[Difference], str]] = {
    "new": _new,
    "flapping": _flapping,
    "weaker": _weaker,
    "unjudged": _unjudged,
    "waivers": _waivers,
    "unlike": _unlike,
    "any": _any,
}
"""Each kind of difference, and how it is told; empty where there is none."""


def named(texts: Iterable[str]) -> list[str]:
    """The kinds that ``--fail-on`` names, each once. Raises ValueError for one that there is not."""
    kinds = list(dict.fromkeys(part.strip() for text in texts for part in text.split(",") if part.strip()))
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"--fail-on={','.join(unknown)}: there is no such difference; there are {', '.join(KINDS)}")
    return kinds


def reasons(difference: Difference, kinds: Sequence[str]) -> list[str]:
    """Why a job that fails on these kinds fails, a sentence for each; none where it does not."""
    told = ((kind, KINDS[kind](difference)) for kind in kinds)
    return [f"fails on {kind}: {words}" for kind, words in told if words]


def _told(*counts: tuple[int, str, str]) -> str:
    return ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in counts if count)
