"""What a call printed and made, put together from its events; and what a copy in a log has beyond them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from executor_api.domain.execution import Event, EventKind, Output
from executor_runner.protocol.frames import FrameKind, Stream, decode_artifact, encode_json
from executor_runner.protocol.podlog import LogCopy
from executor_runner.protocol.shapes import Gap

STREAM_EVENTS = {Stream.STDOUT: EventKind.STDOUT, Stream.STDERR: EventKind.STDERR}
FRAME_EVENTS = {
    FrameKind.STDOUT: EventKind.STDOUT,
    FrameKind.STDERR: EventKind.STDERR,
    FrameKind.GAP: EventKind.GAP,
    FrameKind.ARTIFACT: EventKind.ARTIFACT,
}
"""Frames that become events as they are."""


def assemble(events: Iterable[Event]) -> Output:
    """Join the pieces of each stream. Several gaps in one stream count as one, at the place of the first."""
    pieces: dict[EventKind, list[bytes]] = {kind: [] for kind in STREAM_EVENTS.values()}
    gaps: dict[EventKind, tuple[int, int]] = {}
    artifacts: dict[str, bytes] = {}
    for event in events:
        if event.kind in pieces:
            pieces[event.kind].append(event.data)
        elif event.kind is EventKind.GAP:
            stream, dropped = decode_gap(event.data)
            place, before = gaps.get(stream, (sum(map(len, pieces[stream])), 0))
            gaps[stream] = (place, before + dropped)
        elif event.kind is EventKind.ARTIFACT:
            path, content = decode_artifact(event.data)
            artifacts[path] = content
    return Output(
        stdout=b"".join(pieces[EventKind.STDOUT]),
        stderr=b"".join(pieces[EventKind.STDERR]),
        stdout_gap=gaps.get(EventKind.STDOUT),
        stderr_gap=gaps.get(EventKind.STDERR),
        artifacts=artifacts,
    )


def encode_gap(stream: Stream, dropped: int) -> bytes:
    """Data of a GAP event, the same as a gap frame's payload."""
    return encode_json(Gap(stream=int(stream), dropped_bytes=dropped))


def decode_gap(data: bytes) -> tuple[EventKind, int]:
    """Which stream a GAP event is in, as the kind of that stream's events, and how many bytes it stands for."""
    gap: Gap = json.loads(data)
    return STREAM_EVENTS[Stream(gap["stream"])], gap["dropped_bytes"]


def missing_from(have: Output, copy: LogCopy) -> Iterator[tuple[EventKind, bytes]]:
    """Yield, in order, what the log tells beyond ``have``.

    The log holds each stream from its start. Where it does not begin with what we have (cut or rotated away), nothing
    of that stream is taken from it: we could not tell old from new.
    """
    skip = {kind: len(text) for kind, text in _known(have, copy).items()}
    gapped = {EventKind.STDOUT: have.stdout_gap is not None, EventKind.STDERR: have.stderr_gap is not None}
    for frame_kind, data in copy.frames:
        if frame_kind is FrameKind.GAP:
            stream, _ = decode_gap(data)
            if skip.get(stream) == 0 and not gapped[stream]:
                gapped[stream] = True
                yield EventKind.GAP, data
            continue
        kind = FRAME_EVENTS[frame_kind]
        if kind in skip:
            old = min(len(data), skip[kind])
            skip[kind] -= old
            if data[old:]:
                yield kind, data[old:]


def _known(have: Output, copy: LogCopy) -> dict[EventKind, bytes]:
    """The streams whose log begins with what we have."""
    streams = (
        (FrameKind.STDOUT, EventKind.STDOUT, have.stdout),
        (FrameKind.STDERR, EventKind.STDERR, have.stderr),
    )
    return {
        kind: text
        for frame_kind, kind, text in streams
        if b"".join(data for found, data in copy.frames if found is frame_kind).startswith(text)
    }
