"""What a drafted part of a set-up is made of: plain values, and beside each guess from what it was derived."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias


class Guess(NamedTuple):
    """Why a drafted value stands there: from what it was derived, what speaks against it, what to decide."""

    derived: str = ""
    contradicted: tuple[str, ...] = ()
    decide: str = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """One paragraph for each part, as a comment has it."""
        return tuple(
            f"{word}: {text}"
            for word, text in (
                ("derived from", self.derived),
                *(("contradicted by", each) for each in self.contradicted),
                ("decide", self.decide),
            )
            if text
        )


class Part(NamedTuple):
    """A mapping of the set-up. ``guess`` is about the whole, ``guesses`` about single keys of it."""

    value: dict[str, Any]
    guess: Guess = Guess()
    guesses: Mapping[str, Guess] = {}


class LeftOut(NamedTuple):
    """Something of the cluster that the draft leaves out: what, why, and the YAML to use where it is wanted after all.

    ``is_fault`` marks what is wrong with the cluster rather than with what a set-up can say.
    """

    what: str
    why: str
    value: dict[str, Any] | None = None
    is_fault: bool = False

    def __str__(self) -> str:
        return f"left out: {self.what}: {self.why}"


Item: TypeAlias = Part | LeftOut
Section: TypeAlias = Part | Sequence[Item]


def contradictions(section: Section | Item | Any, above: str = "") -> Iterator[str]:
    """Everything in a draft that the cluster itself speaks against, each with the part that it is about."""
    if isinstance(section, LeftOut):
        if section.is_fault:
            yield f"{section.what}: {section.why}"
    elif isinstance(section, Part):
        name = str(section.value.get("name") or section.value.get("namespace") or above)
        for guess in (section.guess, *section.guesses.values()):
            yield from (f"{name}: {each}" for each in guess.contradicted)
        for key, member in section.value.items():
            yield from contradictions(member, f"{name}.{key}")
    elif isinstance(section, (list, tuple)):
        for item in section:
            yield from contradictions(item, above)


def is_remark(section: Section | str) -> bool:
    """Whether a section only says what is left out, so that it has no value and its key is not written."""
    members = () if isinstance(section, (str, Part)) else section
    return bool(members) and all(isinstance(each, LeftOut) for each in members)


def plain(value: Any) -> Any:
    """A draft without its comments, as the loader would read it."""
    if isinstance(value, Part):
        return {key: plain(member) for key, member in value.value.items()}
    if isinstance(value, dict):
        return {key: plain(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(member) for member in value if not isinstance(member, LeftOut)]
    return value
