"""The call with nobody in it, before the first: it is played to its end, and nothing of it stays."""

from __future__ import annotations

import gc
import signal
import time
from pathlib import Path

import psutil
from support.pod import Journal, pod, python

from executor_runner.__main__ import REHEARSAL_SECONDS
from executor_runner.rehearsal import rehearse


def test_nothing_of_it_stays() -> None:
    """It leaves no descriptor and no process, and signals nobody."""
    heard: list[int] = []
    before = signal.signal(signal.SIGCONT, lambda number, _frame: heard.append(number))
    try:
        rehearse(None)
        gc.collect()
        process = psutil.Process()
        descriptors, children = process.num_fds(), set(process.children())  # other tests' servers
        for _ in range(3):
            rehearse(None)
        gc.collect()
        assert (process.num_fds(), set(process.children()), heard) == (descriptors, children, [])
    finally:
        signal.signal(signal.SIGCONT, before)


def test_it_is_played_to_a_good_end() -> None:
    """The request is answered with the journal of a call that ran, spoke and ended: no step is left out."""
    head, _, body = rehearse(None).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    chunks = body.split(b"\r\n")
    journal = Journal(b"".join(chunks[1::2]))
    assert (journal.stdout, journal.report["exit_code"], journal.report["cause"]) == (b"\n", 0, None)


def test_a_sandbox_that_waited_is_as_good_as_new(tmp_path: Path) -> None:
    """The call after it finds an empty place, and its report and its copies tell of this call alone."""
    with pod(tmp_path) as sandbox:
        time.sleep(5 * REHEARSAL_SECONDS)
        look = "import os\nprint(sorted(os.listdir('..')), os.listdir('.'), os.getpid() > 1)"
        journal = sandbox.run(python(look))
        assert journal.stdout == b"['home', 'main.py', 'tmp', 'work'] [] True\n"
        assert (journal.report["execution_id"], journal.report["exit_code"]) == ("e1", 0)
        assert sandbox.leave() == 0
        message, log = sandbox.copies()
        assert log.count(b"end|") == message.count(b"execution_id") == 1
