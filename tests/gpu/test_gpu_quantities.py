"""Quantities: exact values, the rounding of Kubernetes, and a refusal of everything else."""

import contextlib
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.gpu.quantities import as_count, quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4),
        ("0", 0),
        ("500m", Fraction(1, 2)),
        ("32Gi", 32 * 2**30),
        ("1.5Gi", 3 * 2**29),
        ("1e3", 1000),
        ("1E3", 1000),
        ("12e-3", Fraction(12, 1000)),
        ("1E", 10**18),
        ("2Ei", 2**61),
        ("1k", 1000),
        ("1M", 10**6),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("-2", -2),
        ("+2", 2),
        ("100n", Fraction(1, 10**7)),
        (8, 8),
        (0.5, Fraction(1, 2)),
    ],
    ids=repr,
)
def test_a_quantity_is_exact(text: str | float, value: Fraction | int) -> None:
    assert quantity(text) == value


@pytest.mark.parametrize(
    "text", ["", "four", "1 Gi", "Gi", "1K", "1gi", "1mi", "--1", "1e", "1e1.5", "1_000", "٤", ".", "1e99999", True]
)
def test_what_is_no_quantity_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"quantity"):
        quantity(text)


@pytest.mark.parametrize(("text", "count"), [("3", 3), ("500m", 1), ("1100m", 2), ("-1500m", -2), ("0", 0), ("1n", 1)])
def test_a_count_is_rounded_up_to_whole_devices(text: str, count: int) -> None:
    assert as_count(text) == count


def test_digits_beyond_nano_are_rounded_away_from_zero() -> None:
    assert quantity("0.0000000001") == Fraction(1, 10**9)
    assert quantity("-0.1n") == Fraction(-1, 10**9)


@given(st.decimals(min_value=-(10**12), max_value=10**12, places=3), st.sampled_from(["", "k", "M", "G", "T", "P"]))
def test_decimal_suffixes_multiply_by_thousands(number: Decimal, suffix: str) -> None:
    thousands = ["", "k", "M", "G", "T", "P"].index(suffix)

    assert quantity(f"{number:f}{suffix}") == Fraction(number) * 1000**thousands


@given(st.integers(0, 2**40), st.integers(0, 6))
def test_binary_suffixes_multiply_by_1024(number: int, power: int) -> None:
    suffix = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]

    assert as_count(f"{number}{suffix}") == number << (10 * power)


@given(st.text(max_size=8))
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(quantity(text), Fraction)
