"""The event loop: order of timers, and callbacks that change what is watched while it serves."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from executor_runner.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def pipes() -> Iterator[list[tuple[int, int]]]:
    pipes = [os.pipe() for _ in range(2)]
    yield pipes
    for end in (end for pipe in pipes for end in pipe):
        try:
            os.close(end)
        except OSError:
            continue  # the test closed it


def test_timers_run_when_due_and_in_order(loop: Loop) -> None:
    """Timers run by their time, those of the same time in the order they were set, cancelled ones never."""
    ran: list[str] = []
    loop.call_later(0.02, loop.stop)
    loop.call_later(0.01, lambda: ran.append("late"))
    loop.call_later(0, lambda: ran.append("first"))
    loop.call_later(0, lambda: ran.append("second"))
    loop.call_later(0, lambda: ran.append("cancelled")).cancel()
    loop.run()
    assert ran == ["first", "second", "late"]


def test_a_timer_may_set_another(loop: Loop) -> None:
    """A callback that sets a timer for now is no endless turn: descriptors are served in between."""
    count = 0

    def again() -> None:
        nonlocal count
        count += 1
        if count == 100:
            loop.stop()
        else:
            loop.call_later(0, again)

    loop.call_later(0, again)
    loop.run()
    assert count == 100


def test_a_descriptor_closed_in_the_same_round_is_not_served(loop: Loop, pipes: list[tuple[int, int]]) -> None:
    """Of two descriptors that are ready together, the one whose callback closes the other is the only one served."""
    served: list[int] = []

    def serve(own: int, other: int) -> None:
        served.append(own)
        loop.watch(other)
        os.close(other)
        loop.stop()

    (first, first_end), (second, second_end) = pipes
    loop.watch(first, read=lambda: serve(first, second))
    loop.watch(second, read=lambda: serve(second, first))
    os.write(first_end, b"x")
    os.write(second_end, b"x")
    loop.run()
    assert len(served) == 1


def test_reading_and_writing_are_watched_apart(loop: Loop, pipes: list[tuple[int, int]]) -> None:
    """A change of what is watched takes effect, and watching nothing forgets the descriptor."""
    reader, writer = pipes[0]
    events: list[str] = []

    def readable() -> None:
        events.append(f"read {os.read(reader, 10)!r}")
        loop.watch(reader)
        loop.call_later(0, loop.stop)

    def writable() -> None:
        events.append("write")
        os.write(writer, b"x")
        loop.watch(writer)

    loop.watch(writer, write=writable)
    loop.watch(reader, read=readable)
    loop.run()
    assert events == ["write", "read b'x'"]
    loop.watch(reader)  # once more is no error
