"""Frames: any content survives, however the bytes are cut, and what is no journal is refused."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from executor_runner.protocol.frames import (
    MAX_FRAME,
    FrameDecoder,
    FrameKind,
    ProtocolError,
    decode_artifact,
    encode_artifact,
    encode_frame,
    encode_json,
)


def random_frames(rng: random.Random) -> list[tuple[FrameKind, bytes]]:
    return [(rng.choice(list(FrameKind)), rng.randbytes(rng.choice((0, 1, 5, 300)))) for _ in range(rng.randint(1, 8))]


def cut(data: bytes, rng: random.Random) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        size = rng.choice((1, 2, 5, 64, 1000))
        yield data[start : start + size]
        start += size


def test_any_cut_gives_the_same_frames() -> None:
    """Whatever the pieces, the decoder yields every frame once, in order, with the offset behind it."""
    rng = random.Random(1)  # noqa: S311 - the same cases each time
    for _ in range(200):
        frames = random_frames(rng)
        journal = b"".join(encode_frame(kind, payload) for kind, payload in frames)
        decoder = FrameDecoder()
        found = [frame for piece in cut(journal, rng) for frame in decoder.feed(piece)]
        assert [(frame.kind, frame.payload) for frame in found] == frames
        assert [frame.end_offset for frame in found] == [
            sum(5 + len(payload) for _, payload in frames[: count + 1]) for count in range(len(frames))
        ]
        assert decoder.offset == len(journal)


def test_a_journal_is_taken_up_again_where_the_connection_was_cut() -> None:
    """After a cut at any byte, a new decoder at the old one's offset yields exactly the frames that are missing."""
    frames = [(FrameKind.STDOUT, b"one"), (FrameKind.HEARTBEAT, b""), (FrameKind.STDERR, b"\x00R\xff")]
    journal = b"".join(encode_frame(kind, payload) for kind, payload in frames)
    for at in range(len(journal) + 1):
        first = FrameDecoder()
        seen = [(frame.kind, frame.payload) for frame in first.feed(journal[:at])]
        second = FrameDecoder(first.offset)
        seen += [(frame.kind, frame.payload) for frame in second.feed(journal[first.offset :])]
        assert seen == frames


def test_an_unknown_kind_is_refused() -> None:
    """A frame of a kind this version does not have is an error, not a guess."""
    with pytest.raises(ProtocolError, match="unknown frame kind 90 before offset 5"):
        list(FrameDecoder().feed(b"Z\0\0\0\0"))


def test_an_absurd_length_is_refused_at_once() -> None:
    """A length beyond the limit is refused without waiting for its bytes."""
    with pytest.raises(ProtocolError, match="at offset 0"):
        list(FrameDecoder().feed(b"O" + (MAX_FRAME + 1).to_bytes(4, "big")))


def test_a_payload_beyond_the_limit_is_not_encoded() -> None:
    """What no decoder would take is not sent."""
    with pytest.raises(ValueError, match="the most is"):
        encode_frame(FrameKind.STDOUT, bytes(MAX_FRAME + 1))


def test_artifacts_keep_path_and_content() -> None:
    """An artifact's path and content come back as they were, whatever bytes they hold."""
    for path, content in (("a.txt", b""), ("ü/\u2028 {}.bin", b"\x00\xff\n"), ("x" * 5000, b"x" * 5000)):
        assert decode_artifact(encode_artifact(path, content)) == (path, content)


def test_json_is_ascii_on_the_wire() -> None:
    """JSON survives carriers that know ASCII only."""
    assert encode_json({"ü": "😀", "n": [1, None]}) == b'{"\\u00fc":"\\ud83d\\ude00","n":[1,null]}'
