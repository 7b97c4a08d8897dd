"""Kubernetes quantities (``500m``, ``1.5Gi``) as exact numbers.

Grammar: k8s.io/apimachinery resource.Quantity: a decimal number and one suffix, decimal (n u m k M G T P E),
binary (Ki Mi Gi Ti Pi Ei) or an exponent (e3, E3).
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from math import ceil

_PATTERN = re.compile(
    r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))(?:(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)|[eE]([+-]?\d{1,2}))?", re.ASCII
)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_MOST = Fraction(2) ** 63
_MAX_LENGTH = 64


class InvalidQuantityError(ValueError):
    """The text is no quantity that Kubernetes accepts."""


@lru_cache(maxsize=256)  # the same few come with every call
def parse_quantity(text: str) -> Fraction:
    """Return the exact number. Raises `InvalidQuantityError` for anything Kubernetes would refuse, and for < 0."""
    match = _PATTERN.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if match is None:
        raise InvalidQuantityError(
            f"{text[:_MAX_LENGTH]!r} is not a quantity; write for example '500m', '2', '512Mi' or '1.5Gi'"
        )
    number, suffix, exponent = match.groups()
    value = Fraction(number.rstrip(".")) * _scale(suffix, exponent)
    if value < 0:
        raise InvalidQuantityError(f"{text!r} is negative")
    if value >= _MOST:
        raise InvalidQuantityError(f"{text!r} is more than 2^63, the most a quantity can be")
    return value


def parse_bytes(text: str) -> int:
    """Return a quantity of bytes, rounded up to a whole one."""
    return ceil(parse_quantity(text))


def _scale(suffix: str | None, exponent: str | None) -> Fraction:
    if exponent is not None:
        return Fraction(10) ** int(exponent)
    if suffix in _BINARY:
        return Fraction(2) ** _BINARY[suffix]
    return Fraction(10) ** _DECIMAL[suffix] if suffix else Fraction(1)
