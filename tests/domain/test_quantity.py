"""Quantities: the number Kubernetes sees, or a refusal."""

from __future__ import annotations

from fractions import Fraction

import pytest

from executor_api.domain.quantity import InvalidQuantityError, parse_bytes, parse_quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("1", 1),
        ("+1", 1),
        ("-0", 0),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("500m", Fraction(1, 2)),
        ("1n", Fraction(1, 10**9)),
        ("3u", Fraction(3, 10**6)),
        ("2k", 2000),
        ("1.5Gi", 3 * 2**29),
        ("1Ki", 1024),
        ("1M", 10**6),
        ("7E", 7 * 10**18),
        ("7Ei", 7 * 2**60),
        ("1e3", 1000),
        ("1E3", 1000),
        ("12e-2", Fraction(12, 100)),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_what_kubernetes_takes_is_its_exact_number(text: str, number: int | Fraction) -> None:
    """No rounding on the way: a quantity is a fraction."""
    assert parse_quantity(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "1 ",
        "one",
        "1K",
        "1ki",
        "1kb",
        "1MiB",
        "0x10",
        "1_000",
        "1e",
        "1e1000",
        "--1",
        "-1",
        "-1m",
        "1.2.3",
        ".",
        "8Ei",
        "1e19",
        "9223372036854775808",
        "1" * 65,
        "NaN",
        "inf",
        "\u0661",
        "1\n",
    ],
)
def test_what_kubernetes_refuses_is_refused(text: str) -> None:
    """A wrong quantity never gets as far as a Job; the message stays short whatever was sent."""
    with pytest.raises(InvalidQuantityError) as refusal:
        parse_quantity(text)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(("text", "count"), [("1", 1), ("1500m", 2), ("1Ki", 1024), ("0.1Ki", 103), ("1n", 1)])
def test_bytes_are_rounded_up(text: str, count: int) -> None:
    """Kubernetes rounds up to whole bytes, and so do we."""
    assert parse_bytes(text) == count
