"""The worst of the last hour, minute by minute. Pure."""

from __future__ import annotations

from typing import NamedTuple

_MINUTES = 60


class Worst(NamedTuple):
    """The highest figures of one minute, by its number since the epoch."""

    minute: int
    processes: int
    zombies: int
    stuck: int


def noted(hour: tuple[Worst, ...], new: Worst) -> tuple[Worst, ...]:
    """The hour up to this minute. What is of the same minute as the last, or before it, counts there."""
    if not hour or new.minute > hour[-1].minute:
        return (*(worst for worst in hour if worst.minute > new.minute - _MINUTES), new)
    last = hour[-1]
    highest = (max(pair) for pair in zip(last[1:], new[1:], strict=True))
    return (*hour[:-1], Worst(last.minute, *highest))
