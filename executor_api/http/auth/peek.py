"""What a JSON Web Token says of itself, unchecked: enough to see whose business it is, and not to be trusted."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

MOST_BYTES = 16 * 1024
"""Longer ones are nobody's: real tokens have one or two thousand bytes."""
_PARTS = 3


@dataclass(frozen=True, slots=True)
class Peek:
    """Header and claims as anybody could have written them."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]

    def text(self, header: str) -> str:
        """A field of the header, empty if it is no text."""
        value = self.header.get(header)
        return value if isinstance(value, str) else ""


def peek(credentials: str) -> Peek | None:
    """Look into a signed token; None if this is none."""
    parts = credentials.split(".")
    if len(parts) != _PARTS or len(credentials) > MOST_BYTES or not credentials.isascii():
        return None
    try:
        header, claims = (orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2])
    except ValueError:
        return None
    return Peek(header, claims) if isinstance(header, dict) and isinstance(claims, dict) else None
