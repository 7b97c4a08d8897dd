"""W3C Trace Context: what a caller says of its trace, and the ids of an execution's own span in it. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ulid import ULID

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_KEY = r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_MEMBER = re.compile(_KEY + r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_MOST_MEMBERS = 32
_MOST_STATE = 512
"""What everybody has to pass on, in characters. More is dropped whole: a part of it may mean something else."""

TRACEPARENT, TRACESTATE = "TRACEPARENT", "TRACESTATE"
"""Variables of a child, named as OpenTelemetry's environment propagation names them."""


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A place in a trace, in the words of the headers ``traceparent`` and ``tracestate`` ("" for none)."""

    traceparent: str
    tracestate: str = ""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        return self.traceparent.split("-")[1]

    @property
    def span_id(self) -> str:
        """16 hexadecimal digits."""
        return self.traceparent.split("-")[2]

    @property
    def flags(self) -> int:
        """The lowest bit says that the trace is recorded."""
        return int(self.traceparent.split("-")[3], 16)

    def environment(self) -> dict[str, str]:
        """As variables of a process whose own spans are to join."""
        state = {TRACESTATE: self.tracestate} if self.tracestate else {}
        return {TRACEPARENT: self.traceparent, **state}


def trace_context(parents: Sequence[str], states: Sequence[str]) -> TraceContext | None:
    """What a request's headers say, None if that is nothing: what is malformed is as if it were not there."""
    match = _PARENT.fullmatch(parents[0]) if len(parents) == 1 else None
    if match is None:
        return None
    version, trace, parent, flags, rest = match.groups()
    known = version != "ff" and not (version == "00" and rest)
    if not (known and trace.strip("0") and parent.strip("0")):
        return None
    if version != "00":  # of a later one we know no more than this, as W3C has it
        flags = f"{int(flags, 16) & 1:02x}"
    return TraceContext(f"00-{trace}-{parent}-{flags}", _state(states))


def own_trace_id(execution_id: str) -> int:
    """The trace of an execution whose caller has none: its ULID has as many bits, the last 80 of them random."""
    return int(ULID.from_str(execution_id))


def own_span_id(execution_id: str, part: str = "") -> int:
    """The span of an execution, or of a part of it: known to whoever settles it, so that nothing has to keep it."""
    digest = hashlib.blake2b(f"{execution_id}/{part}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") or 1


def _state(values: Sequence[str]) -> str:
    members = [member for value in values for part in value.split(",") if (member := part.strip(" \t"))]
    state = ",".join(members)
    keys = {member.partition("=")[0] for member in members}
    sound = len(members) <= _MOST_MEMBERS and len(state) <= _MOST_STATE and all(map(_MEMBER.fullmatch, members))
    sound = sound and len(keys) == len(members)
    return state if sound else ""
