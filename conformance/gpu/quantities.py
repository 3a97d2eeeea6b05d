"""Kubernetes quantities (``4``, ``500m``, ``32Gi``, ``1e3``) as exact numbers."""

import math
import re
from fractions import Fraction
from functools import lru_cache

# Suffixes of apimachinery's pkg/api/resource/suffix.go. E is exa; E or e with a number is an exponent.
_SUFFIXES = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 10**3),
    **{suffix: Fraction(10 ** (3 * step)) for step, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Fraction(2 ** (10 * step)) for step, suffix in enumerate("KMGTPE", start=1)},
}
_FORM = re.compile(r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?P<suffix>[A-Za-z]*|[eE][+-]?[0-9]+)", re.ASCII)
_NANO = 10**9
# Beyond this no quantity means anything, and 10**exponent would eat the machine.
_MAX_EXPONENT = 1000


@lru_cache(maxsize=4096)
def quantity(text: str | int | float) -> Fraction:
    """The exact value of a quantity in its base unit (bytes, cores, devices).

    Digits beyond nano are rounded away from zero, as Kubernetes does: whoever asks for some gets some. Numbers, as
    YAML without quotes gives them, are taken as their text. Raises ValueError for what is no quantity.
    """
    match = _FORM.fullmatch(str(text))
    if match is None or isinstance(text, bool):
        raise ValueError(f"{text!r} is not a Kubernetes quantity such as 4, 500m, 32Gi or 1e3")
    return _rounded(Fraction(match["number"].rstrip(".")) * _multiplier(match["suffix"], text))


@lru_cache(maxsize=4096)
def as_count(text: str | int | float) -> int:
    """A quantity as a number of devices, pods or bytes: rounded up to the next whole, as Quantity.Value() does."""
    value = quantity(text)
    return math.ceil(value) if value >= 0 else -math.ceil(-value)


def _multiplier(suffix: str, text: object) -> Fraction:
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if suffix[0] in "eE" and suffix[1:].lstrip("+-").isdigit() and abs(int(suffix[1:])) <= _MAX_EXPONENT:
        return Fraction(10) ** int(suffix[1:])
    raise ValueError(
        f"{text!r} has the suffix {suffix!r}, which no Kubernetes quantity has: {', '.join(_SUFFIXES)[2:]}"
    )


def nanos(amount: Fraction) -> int:
    """A quantity in billionths of its base unit, the finest that Kubernetes keeps: whole numbers, quick to add."""
    return amount.numerator * _NANO // amount.denominator


def _rounded(value: Fraction) -> Fraction:
    exact = value * _NANO
    whole = math.ceil(exact) if exact >= 0 else -math.ceil(-exact)
    return Fraction(whole, _NANO)
