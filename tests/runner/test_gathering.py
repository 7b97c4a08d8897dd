"""Frames are sent in company, and none waits for more than milliseconds."""

from __future__ import annotations

import time

from executor_runner.gathering import Gathering
from executor_runner.journal import Journal
from executor_runner.loop import Loop
from executor_runner.protocol.frames import FrameKind


class Sender:
    """Notes how long the journal was at each send."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.journal = Journal()
        self.sent: list[int] = []
        self.gathering = Gathering(self.loop, lambda: self.sent.append(len(self.journal)))
        self.journal.add_listener(self.gathering)

    def wait(self) -> None:
        """Run the loop for longer than any frame waits."""
        self.loop.call_later(0.1, self.loop.stop)
        self.loop.run()
        self.loop.close()


def test_frames_that_come_together_are_sent_together() -> None:
    """What comes within milliseconds is one send."""
    sender = Sender()
    for _ in range(3):
        sender.journal.append(FrameKind.STDOUT, b"x")
    assert sender.sent == []
    sender.wait()
    assert sender.sent == [len(sender.journal)]


def test_the_report_takes_all_with_it_at_once() -> None:
    """Whoever waits for the end of a call gets it, and all before it, in the moment in which it is there."""
    sender = Sender()
    sender.journal.append(FrameKind.STARTED, b"{}")
    sender.journal.append(FrameKind.REPORT, b"{}")
    assert sender.sent == [len(sender.journal)]


def test_a_frame_behind_a_send_is_sent_as_well() -> None:
    """A call that goes on to speak is heard."""
    sender = Sender()
    sender.journal.append(FrameKind.STDOUT, b"x")
    sender.loop.call_later(0.05, lambda: sender.journal.append(FrameKind.STDOUT, b"y"))
    sender.wait()
    assert sender.sent == [6, 12]


def test_the_answer_begins_without_a_frame() -> None:
    """That a call was taken is said even if nothing comes of it for a while."""
    sender = Sender()
    began = time.monotonic()
    sender.gathering.send_soon()
    sender.loop.call_later(10.0, sender.loop.stop)
    sender.gathering = Gathering(sender.loop, sender.loop.stop)
    sender.gathering.send_soon()
    sender.loop.run()
    assert sender.sent == [0]
    assert time.monotonic() - began < 10.0
