"""The journal: grows at its end, is read from anywhere, and is complete with its report."""

from __future__ import annotations

from executor_runner.journal import Journal
from executor_runner.protocol.frames import FrameKind


def test_it_is_read_from_any_offset_in_any_pieces() -> None:
    """Whatever a reader asks for, it gets the same bytes."""
    journal = Journal()
    for number in range(20):
        journal.append(FrameKind.STDOUT, bytes([number]) * number)
    whole = journal.read(0, 1 << 20)
    assert len(whole) == len(journal)
    for offset in range(len(whole) + 1):
        assert journal.read(offset, 7) == whole[offset : offset + 7]


def test_listeners_are_told_behind_each_frame() -> None:
    """A listener hears of every frame from then on, when it can already be read."""
    journal, heard = Journal(), list[tuple[FrameKind, bytes, int]]()
    journal.append(FrameKind.STARTED, b"{}")
    journal.add_listener(lambda kind, payload: heard.append((kind, payload, len(journal))))
    journal.append(FrameKind.STDERR, b"x")
    journal.append(FrameKind.HEARTBEAT)
    assert heard == [(FrameKind.STDERR, b"x", 13), (FrameKind.HEARTBEAT, b"", 18)]


def test_the_report_completes_it() -> None:
    """It is complete with its report and not before."""
    journal = Journal()
    journal.append(FrameKind.STDOUT, b"x")
    assert not journal.complete
    journal.append(FrameKind.REPORT, b"{}")
    assert journal.complete
