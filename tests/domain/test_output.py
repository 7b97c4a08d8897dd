"""Output: events put together, and what a log knows beyond them."""

from __future__ import annotations

from support.scripted import log_copy

from executor_api.domain.execution import Event, EventKind, Output
from executor_api.domain.output import assemble, decode_gap, encode_gap, missing_from
from executor_runner.protocol.frames import FrameKind, Stream, encode_artifact

OUT, ERR, GAP = EventKind.STDOUT, EventKind.STDERR, EventKind.GAP


def events(*items: tuple[EventKind, bytes]) -> list[Event]:
    return [Event(number, kind, data) for number, (kind, data) in enumerate(items, 1)]


def test_streams_gaps_and_artifacts_are_put_together() -> None:
    """Each stream in its order, its gap in its place, artifacts by path; the rest is no output."""
    output = assemble(
        events(
            (EventKind.STATUS, b"{}"),
            (OUT, b"ab"),
            (ERR, b"x"),
            (GAP, encode_gap(Stream.STDOUT, 10)),
            (OUT, b"cd"),
            (GAP, encode_gap(Stream.STDERR, 3)),
            (EventKind.ARTIFACT, encode_artifact("a/ü", b"\x00")),
            (GAP, encode_gap(Stream.STDOUT, 5)),
            (EventKind.FINISHED, b""),
        )
    )
    assert output == Output(b"abcd", b"x", (2, 15), (1, 3), {"a/ü": b"\x00"})


def test_a_gap_reads_back() -> None:
    """The event's data is the frame's payload."""
    assert decode_gap(encode_gap(Stream.STDERR, 7)) == (ERR, 7)


FRAMES = [
    (FrameKind.STDOUT, b"abc"),
    (FrameKind.STDERR, b"12"),
    (FrameKind.GAP, encode_gap(Stream.STDOUT, 9)),
    (FrameKind.STDOUT, b"def"),
    (FrameKind.STDERR, b"34"),
]
KINDS = {FrameKind.STDOUT: OUT, FrameKind.STDERR: ERR, FrameKind.GAP: GAP}


def test_whatever_we_have_the_log_completes_it() -> None:
    """For every state in which a journal can have been cut, what we have and what is missing give the whole."""
    whole = assemble(events(*((KINDS[kind], data) for kind, data in FRAMES)))
    for count in range(len(FRAMES) + 1):
        have = events(*((KINDS[kind], data) for kind, data in FRAMES[:count]))
        more = missing_from(assemble(have), log_copy(*FRAMES))
        assert assemble([*have, *events(*more)]) == whole
    # Frames of the log need not be the journal's: lines are cut otherwise.
    assert list(missing_from(Output(b"ab", b"1", None, None, {}), log_copy(*FRAMES))) == [
        (OUT, b"c"),
        (ERR, b"2"),
        (GAP, encode_gap(Stream.STDOUT, 9)),
        (OUT, b"def"),
        (ERR, b"34"),
    ]


def test_a_stream_whose_log_begins_otherwise_is_left_alone() -> None:
    """A rotated log of one stream doesn't spoil the other."""
    have = Output(b"zz", b"1", None, None, {})
    assert list(missing_from(have, log_copy(*FRAMES))) == [(ERR, b"2"), (ERR, b"34")]
