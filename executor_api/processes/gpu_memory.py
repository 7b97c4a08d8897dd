"""What a driver tells of one GPU's memory, whoever made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Memory(NamedTuple):
    """One GPU, or a part of one. ``holders``: bytes by pid; None where the driver does not tell how many."""

    uuid: str
    name: str
    total_bytes: int
    used_bytes: int
    holders: Mapping[int, int | None]
