"""Request headers with a meaning of their own, parsed into values. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from executor_api.http.problems import INVALID_HEADER, INVALID_PARAMETER, invalid

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_WAIT = re.compile(r'"?(\d{1,9})"?')
_EVENT_NUMBER = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class Preference:
    """How long a client wants to wait for the end, in seconds, and what to say of it (``Preference-Applied``)."""

    wait: float
    applied: str | None = None


def preference(values: Sequence[str], longest: float) -> Preference:
    """Read ``Prefer`` (RFC 7240): unknown or malformed preferences are ignored, of equal ones the first counts."""
    found: dict[str, str] = {}
    for item in ",".join(values).split(","):
        name, _, value = item.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), value.strip())
    wait = _WAIT.fullmatch(found.get("wait", ""))
    if wait:
        seconds = min(float(wait[1]), longest)
        return Preference(seconds, f"wait={seconds:g}")
    if "respond-async" in found:
        return Preference(0.0, "respond-async")
    return Preference(longest)


def idempotency_key(value: str | None) -> str | None:
    """The ``Idempotency-Key``, checked. Raises `ProblemError`."""
    if value is not None and not _KEY.fullmatch(value):
        raise invalid(INVALID_HEADER, "Idempotency-Key", "must be 1 to 255 visible ASCII characters")
    return value


def wants_events(accept: str) -> bool:
    """Whether the client asks for an event stream."""
    return any(item.partition(";")[0].strip().lower() == "text/event-stream" for item in accept.split(","))


def last_event(header: str | None, parameter: str | None) -> int:
    """The number of the last event a client has: ``Last-Event-ID``, else ``?after=``, else 0. Raises `ProblemError`."""
    given = ((INVALID_HEADER, "Last-Event-ID", header), (INVALID_PARAMETER, "after", parameter))
    for kind, name, value in given:
        if value is not None and not _EVENT_NUMBER.fullmatch(value):
            raise invalid(kind, name, "must be the number of an event, as its `id` said")
    return int(header or parameter or 0)
