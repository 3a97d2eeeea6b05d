"""Titles that stand alone in a CI list, and sources that can be followed."""

import re
from pathlib import Path

import pytest

from conformance.session import catalogue
from conformance.sources import SOURCES

CHECKOUT = Path(__file__).resolve().parents[2]
LONGEST_TITLE = 110
# Words that stand for something said elsewhere, which a list of titles does not show. "Each node" and "No pod" are
# fine: there the noun follows.
PRONOUN_AS_SUBJECT = re.compile(
    r"(it|they|he|she|we|you|this|that|these|those|what|whatever|who|whoever|neither|nothing|everything|something|anything"
    r"|nobody|everybody|somebody|anybody|none|one of them|each of them|both of them|all of them)\b",
    re.IGNORECASE,
)
DEMONSTRATIVE_OR_QUESTION = re.compile(r"\bwhat\b|\bof them (is|are|has|have)\b", re.IGNORECASE)
HEADING = re.compile(r"^#+ +(?P<text>.+)$", re.MULTILINE)
ANCHOR = re.compile(r'<a id="(?P<id>[^"]+)">')


def faults_of(title):
    """What keeps a title from standing alone."""
    found = []
    if PRONOUN_AS_SUBJECT.match(title):
        found.append("its subject is a pronoun")
    if DEMONSTRATIVE_OR_QUESTION.search(title):
        found.append("it points at something that it does not name")
    if len(title) > LONGEST_TITLE:
        found.append(f"it has {len(title)} characters, more than {LONGEST_TITLE}")
    if title != title.strip() or not title or title.endswith("."):
        found.append("it is not one plain sentence without a full stop")
    return found


def anchors_of(page):
    """The ids that a Markdown page has: of its own, and those that its headings are given."""
    text = page.read_text(encoding="utf-8")
    own = {found["id"] for found in ANCHOR.finditer(text)}
    given = {
        re.sub(r"[^\w -]", "", found["text"]).strip().lower().replace(" ", "-") for found in HEADING.finditer(text)
    }
    return own | given


def why_it_cannot_be_followed(source):
    """Why the place of a source is none; empty where it is one."""
    if source.url.startswith("https://"):
        return "" if re.fullmatch(r"https://[\w.-]+\.\w+(/\S*)?", source.url) else "no such address can be"
    path, _, anchor = source.url.partition("#")
    if not (CHECKOUT / path).is_file():
        return f"there is no {path}"
    return "" if not anchor or anchor in anchors_of(CHECKOUT / path) else f"{path} has no anchor {anchor}"


@pytest.mark.parametrize(
    "title",
    [
        "Neither does the variable together with a runtime class of NVIDIA",
        "It is Ready on every node",
        "This field keeps the token out of pods",
        "Nobody holds a GPU while the layout changes",
        "What an exporter says is what a GPU can be",
        "An exporter says what a GPU can be",
        f"A title {'that goes on and on ' * 6}",
        "Every GPU node is Ready.",
        "",
    ],
)
def test_a_title_that_does_not_stand_alone_is_noticed(title):
    assert faults_of(title)


def test_every_title_stands_alone():
    faulty = {rule.id: found for rule in catalogue.requirements() if (found := faults_of(rule.title))}

    assert faulty == {}


def test_no_two_requirements_have_one_title():
    titles = [rule.title.lower() for rule in catalogue.requirements()]

    assert sorted({title for title in titles if titles.count(title) > 1}) == []


def test_every_source_can_be_followed():
    lost = {source.id: why for source in SOURCES.values() if (why := why_it_cannot_be_followed(source))}

    assert lost == {}


def test_every_source_is_cited_by_a_requirement():
    cited = {source.id for rule in catalogue.requirements() for source in rule.sources}

    assert sorted(SOURCES.keys() - cited) == []


def test_no_two_sources_have_one_title():
    titles = [source.title for source in SOURCES.values()]

    assert len(titles) == len(set(titles))


def test_every_chapter_says_what_it_is_about_and_why():
    assert [chapter.path for chapter in catalogue.chapters() if not chapter.title or not chapter.why] == []


def test_the_catalogue_is_ordered_by_profile_and_number():
    order = [line.split()[2] for line in catalogue.markdown().splitlines() if line.startswith("### ")]

    assert order == [f'id="{rule.id.lower()}"></a>{rule.id}' for rule in catalogue.requirements()]
