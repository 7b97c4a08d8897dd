"""Keeping head and tail: every byte is either kept or counted, and text stays text where it is cut."""

from __future__ import annotations

import random

import pytest

from executor_runner.output import OutputCapture

KEEP = 16


def capture(data: bytes, pieces: list[int], keep: int = KEEP) -> tuple[bytes, int, bytes]:
    """Feed the data in pieces of these sizes, the last repeated; return head, dropped bytes and tail."""
    stream, head, start = OutputCapture(keep), b"", 0
    while start < len(data):
        size = pieces.pop(0) if len(pieces) > 1 else pieces[0]
        head += stream.feed(data[start : start + size])
        start += size
    assert stream.total_bytes == len(data)
    dropped, tail = stream.finish()
    assert stream.dropped_bytes == dropped
    return head, dropped, tail


@pytest.mark.parametrize("piece", [1, 3, 7, 8, 9, 16, 17, 1000])
def test_every_size_around_the_limit_is_accounted_for(piece: int) -> None:
    """For every length from none to four times the limit, head, dropped bytes and tail are exactly the stream."""
    for size in range(4 * KEEP + 1):
        data = bytes(97 + number % 26 for number in range(size))
        head, dropped, tail = capture(data, [piece])
        assert len(head) + dropped + len(tail) == size
        assert data.startswith(head)
        assert data.endswith(tail)
        assert dropped == max(0, size - KEEP)


def test_random_pieces_change_nothing() -> None:
    """How a stream is cut into reads has no influence on what is kept."""
    rng = random.Random(3)  # noqa: S311 - the same cases each time
    for _ in range(300):
        data = "".join(rng.choices("aé€😀\n", k=rng.randint(0, 60))).encode()
        pieces = [rng.randint(1, 12) for _ in range(40)]
        head, dropped, tail = capture(data, pieces)
        assert len(head) + dropped + len(tail) == len(data)
        assert (head + tail == data) is (dropped == 0)
        assert dropped == 0 or (head + tail).decode()
        assert dropped == 0 or len(data) > KEEP


@pytest.mark.parametrize("character", ["é", "€", "😀"])
def test_a_character_is_never_cut_in_two(character: str) -> None:
    """Whatever stands before, head and tail of a long text are whole characters."""
    for shift in range(4):
        data = b"x" * shift + character.encode() * 40
        head, dropped, tail = capture(data, [len(data)])
        assert head.decode()
        assert tail.decode()
        assert dropped == len(data) - len(head) - len(tail)
        assert len(head) > KEEP // 2 - 4
        assert len(tail) > KEEP // 2 - 4


def test_bytes_that_are_no_text_are_cut_at_the_limit() -> None:
    """Where no character is cut, the limits are exact."""
    data = bytes(range(256))
    head, dropped, tail = capture(data, [100])
    assert (head, dropped, tail) == (data[:8], 240, data[-8:])


def test_a_stream_below_the_limit_is_sent_as_it_comes() -> None:
    """Nothing is held back while the head has room."""
    stream = OutputCapture(KEEP)
    assert [stream.feed(b"abc"), stream.feed(b"de")] == [b"abc", b"de"]
    assert stream.finish() == (0, b"")


def test_half_a_character_waits_for_its_rest() -> None:
    """A read that ends within a character passes on whole ones; the rest follows at the end."""
    stream = OutputCapture(KEEP)
    euro = "€".encode()
    assert [stream.feed(b"a" + euro[:2]), stream.feed(euro[2:]), stream.feed(euro[:1])] == [b"a", euro, b""]
    assert stream.finish() == (0, euro[:1])
    assert (stream.total_bytes, stream.dropped_bytes) == (5, 0)


def test_memory_stays_within_twice_the_tail() -> None:
    """A stream of a hundred times the limit never has more than twice its tail in memory."""
    stream = OutputCapture(1000)
    for _ in range(1000):
        stream.feed(b"x" * 100)
        assert len(stream._tail) <= 2 * 500
    dropped, tail = stream.finish()
    assert (dropped, len(tail)) == (100_000 - 1000, 500)
