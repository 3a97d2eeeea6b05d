"""One page for each requirement: what, why, remedy, how it is judged, by which faults it is proven, sources."""

from __future__ import annotations

import inspect

import yaml
from seeded_faults import noticed_by

from conformance.catalog import PROFILES, Requirement, requirement_of
from conformance.kube.effects import Mode
from conformance.session.catalogue import Chapter, chapters, plain

_KINDS = {"static": "seen by reading", "live": "seen by a scenario"}


def navigation() -> list[dict[str, list[str]]]:
    """The pages of each profile."""
    by_profile: dict[str, list[str]] = {name: [] for name in PROFILES.values()}
    for chapter in chapters():
        for rule in chapter.requirements:
            by_profile[rule.profile].append(_name(rule))
    return [{profile: sorted(names)} for profile, names in by_profile.items() if names]


def pages() -> dict[str, str]:
    """The Markdown of every requirement's page, by the page's name."""
    return {_name(rule): _page(rule, chapter) for chapter in chapters() for rule in chapter.requirements}


def _name(rule: Requirement) -> str:
    return f"requirements/{rule.id.lower()}.md"


def _page(rule: Requirement, chapter: Chapter) -> str:
    mode = next(mode for mode in Mode if rule.effect <= mode.limit)
    feature = "" if rule.feature == "core" else f" · feature `{rule.feature}`"
    return "\n".join(
        [
            f"# {rule.id} {plain(rule.title)}",
            "",
            f"**{rule.level}** · profile {rule.profile} · effect `{rule.effect.label}` · from mode `{mode}`{feature}",
            "",
            "## What to do when it fails",
            "",
            plain(rule.remedy),
            "",
            "## Why it matters",
            "",
            f"**{plain(chapter.title)}.**",
            "",
            plain(chapter.why),
            "",
            "## How it is judged",
            "",
            f"`{chapter.path}`",
            "",
            "```python",
            _source(rule, chapter),
            "```",
            "",
            "## What proves it",
            "",
            *_proven(rule),
            "",
            "## Sources",
            "",
            *(f"- [{plain(each.title)}]({_url(each.url)})" for each in rule.sources),
            "",
        ]
    )


def _source(rule: Requirement, chapter: Chapter) -> str:
    functions = (f for _, f in inspect.getmembers(chapter.module, inspect.isfunction))
    return inspect.getsource(next(f for f in functions if requirement_of(f) is rule)).rstrip()


def _proven(rule: Requirement) -> list[str]:
    lines = ["Each of these faults was put into a correct cluster; exactly the requirements that it names failed."]
    for fault in noticed_by(rule.id):
        kind = _KINDS.get(str(fault.get("kind")), str(fault.get("kind")))
        change = yaml.safe_dump(fault.get("change") or fault.get("before") or [], sort_keys=False, width=100).rstrip()
        lines += ["", f'??? example "{_quoted(str(fault["title"]))} ({kind})"', "    ```yaml"]
        lines += [f"    {line}" for line in change.splitlines()] + ["    ```"]
        if says := fault.get("says"):
            lines += ["", f"    The finding says `{says}`."]
    return lines


def _url(url: str) -> str:
    """A source of ours is a page of the site; from a requirement's page it is one folder up."""
    return f"../{url.removeprefix('docs/')}" if url.startswith("docs/") else url


def _quoted(text: str) -> str:
    return text.replace('"', "'")
