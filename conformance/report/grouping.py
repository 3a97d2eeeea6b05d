"""Findings with the same cause as one group: what they share stands once, and each subject by its reference.

Texts often name their subject (``kubectl describe node gpu-1``), so that 5,000 nodes would have 5,000 texts. A group
keeps them as templates: where a text names a member of the subject's reference, the template has the member's name in
braces (``kubectl describe node {name}``). Filling in gives back each subject's own text, letter by letter.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

import msgspec

from conformance.owners import Owner
from conformance.subjects import ObjectReference
from conformance.verdict import Finding

_MEMBERS = ("name", "namespace", "node", "container", "field")
_TEXTS = ("cause", "hidden_because", "remedy", "inspect")
_PLACEHOLDER = re.compile(r"\{(" + "|".join(_MEMBERS) + r")\}")
_IN_A_NAME = "-_"


class GroupedSubject(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", gc=False):
    """One subject of a group; its kind is the group's. ``expected`` and ``actual`` are here where subjects differ.

    ``new`` says that the baseline of the run, where it has one, did not have this finding.
    """

    name: str = ""
    namespace: str = ""
    node: str = ""
    container: str = ""
    field: str = ""
    expected: str = ""
    actual: str = ""
    new: bool = False


class FindingGroup(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Findings of one requirement that have everything in common but their subjects.

    All texts are templates: ``{name}``, ``{namespace}``, ``{node}``, ``{container}`` and ``{field}`` stand for the
    members of each of ``subjects``; ``subject`` is how a subject is called (``pod {namespace}/{name}``). ``new`` counts
    the subjects that the baseline of the run does not have; without a baseline it is absent. ``owner`` is who has to
    act: a workload team is that of the subject's namespace.
    """

    ok: bool
    count: int
    kind: str
    subject: str
    subjects: tuple[GroupedSubject, ...]
    api_version: str = ""
    declared: bool = False
    expected: str = ""
    actual: str = ""
    cause: str = ""
    hidden_because: str = ""
    remedy: str = ""
    inspect: str = ""
    new: int | None = None
    owner: Owner = Owner.UNKNOWN

    def findings(self) -> Iterator[Finding]:
        """Each subject's finding, in its own words."""
        return map(self._finding, self.subjects)

    @property
    def first(self) -> Finding:
        """The finding of the first subject, which stands for the others where there is no room for all."""
        return self._finding(self.subjects[0])

    def names(self, most: int) -> list[str]:
        """What the first subjects are called."""
        return [_filled(self.subject, each) for each in self.subjects[:most]]

    def _finding(self, each: GroupedSubject) -> Finding:
        about = ObjectReference(
            self.kind, each.name, each.namespace, each.node, each.container, each.field, self.declared,
            self.api_version, _filled(self.subject, each),
        )  # fmt: skip
        expected = each.expected or _filled(self.expected, each)
        actual = each.actual or _filled(self.actual, each)
        texts = {text: _filled(getattr(self, text), each) for text in _TEXTS}
        return Finding(about, self.ok, expected, actual, owner=self.owner, **texts)


def grouped(findings: Iterable[Finding]) -> tuple[FindingGroup, ...]:
    """Findings as groups, in the order of their first subjects.

    Alike are findings on subjects of one kind with the same cause, advice and command, and where no cause is known
    with the same expectation.
    """
    alike: dict[tuple[object, ...], list[_Templates]] = {}
    for finding in findings:
        templates = _Templates(finding)
        alike.setdefault(templates.key, []).append(templates)
    return tuple(_group(members) for members in alike.values())


class _Templates:
    """A finding with its texts as templates."""

    __slots__ = ("actual", "expected", "finding", "subject", "texts")

    def __init__(self, finding: Finding) -> None:
        values = _values(finding.subject)
        self.finding = finding
        self.subject = _template(finding.subject.text, values)
        self.expected = _template(finding.expected, values)
        self.actual = _template(finding.actual, values)
        self.texts = tuple(_template(getattr(finding, text), values) for text in _TEXTS)

    @property
    def key(self) -> tuple[object, ...]:
        about = self.finding.subject
        without_cause = "" if self.finding.cause else self.expected
        return (
            self.finding.ok, about.kind, about.api_version, about.declared, self.subject, self.texts, without_cause,
            self.finding.owner,
        )  # fmt: skip


def _group(members: Sequence[_Templates]) -> FindingGroup:
    first = members[0]
    expected = first.expected if _all_alike(members, "expected") else ""
    actual = first.actual if _all_alike(members, "actual") else ""
    about = first.finding.subject
    cause, hidden_because, remedy, inspect = first.texts
    return FindingGroup(
        first.finding.ok,
        len(members),
        about.kind,
        first.subject,
        tuple(_member(each.finding, own_expected=not expected, own_actual=not actual) for each in members),
        about.api_version,
        about.declared,
        expected,
        actual,
        cause,
        hidden_because,
        remedy,
        inspect,
        owner=first.finding.owner,
    )


def _all_alike(members: Sequence[_Templates], text: str) -> bool:
    of = attrgetter(text)
    return all(of(each) == of(members[0]) for each in members)


def _member(finding: Finding, *, own_expected: bool, own_actual: bool) -> GroupedSubject:
    about = finding.subject
    return GroupedSubject(
        about.name, about.namespace, about.node, about.container, about.field,
        finding.expected if own_expected else "", finding.actual if own_actual else "",
    )  # fmt: skip


def _values(about: ObjectReference) -> list[tuple[str, str]]:
    """What a subject's texts may name, and the placeholder for it; long values first, as they may hold short ones."""
    named: dict[str, str] = {}
    for member in _MEMBERS:
        value = getattr(about, member)
        if value:
            named.setdefault(value, f"{{{member}}}")
    return sorted(named.items(), key=lambda item: -len(item[0]))


def _template(text: str, values: Sequence[tuple[str, str]]) -> str:
    # What looks like a placeholder and is none must not be filled in later.
    template = _PLACEHOLDER.sub(r"{ \1 }", text) if "{" in text else text
    for value, placeholder in values:
        if value in template:
            template = _with_placeholder(template, value, placeholder)
    return template


def _with_placeholder(text: str, value: str, placeholder: str) -> str:
    parts, start = [], 0
    while (at := text.find(value, start)) >= 0:
        end = at + len(value)
        parts += [text[start:at], placeholder if _stands_alone(text, at, end) else value]
        start = end
    return "".join((*parts, text[start:]))


def _stands_alone(text: str, at: int, end: int) -> bool:
    """Whether what stands there is a whole name, neither part of a longer one nor a placeholder already."""
    before, after = text[at - 1 : at], text[end : end + 1]
    if before == "{" and after == "}":
        return False
    if before.isalnum() or (before and before in _IN_A_NAME) or before == ".":
        return False
    ends_here = not (after.isalnum() or (after and after in _IN_A_NAME))
    return ends_here and not (after == "." and text[end + 1 : end + 2].isalnum())


def _filled(template: str, each: GroupedSubject) -> str:
    if "{" not in template:
        return template
    return _PLACEHOLDER.sub(lambda found: str(getattr(each, found[1])), template)
