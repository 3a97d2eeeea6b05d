"""How workloads, isolation and metrics were judged before an upgrade and after it, by the statuses of requirements."""

from collections.abc import Iterable, Mapping

from conformance.catalog import PROFILES
from conformance.report.model import Verdict
from conformance.verdict import Status

_PROFILES = tuple(PROFILES[prefix] for prefix in ("WORK", "ISO", "OBS"))
_JUDGED = (Status.PASSED, Status.FAILED, Status.WAIVED)


def probes_of(verdicts: Iterable[Verdict]) -> dict[str, str]:
    """The statuses of the requirements of these profiles that were judged, by their ids."""
    return {
        each.requirement: str(each.status) for each in verdicts if each.profile in _PROFILES and each.status in _JUDGED
    }


def worse_since(before: Mapping[str, str], verdicts: Iterable[Verdict]) -> tuple[str, ...]:
    """The requirements that passed before and failed now."""
    now = probes_of(verdicts)
    return tuple(each for each, status in before.items() if status == Status.PASSED and now.get(each) == Status.FAILED)


def told_of(before: Mapping[str, str], verdicts: Iterable[Verdict]) -> tuple[str, ...]:
    """The comparison in words: what changed among those that were judged again, and what was not judged again."""
    now = probes_of(verdicts)
    again = sorted({*before} & {*now})
    changed = [f"{each} was {before[each]} and is {now[each]}" for each in again if before[each] != now[each]]
    missing = sorted({*before} - {*now})
    told = []
    if again:
        told.append(
            f"of {len(again)} probes that were judged before the upgrade and again: "
            f"{'; '.join(changed) or 'each has the status that it had'}"
        )
    if missing:
        told.append(
            f"judged before the upgrade and not compared, because this run did not judge them: {', '.join(missing)}"
        )
    return tuple(told)
