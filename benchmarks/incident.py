"""The incident once more at 1:10: made, counted, alerted and cleaned up; then the same calls through executor-api.

Naive agents make some 3,100 processes, 400 zombies, 20 processes in D state and 6,300 sockets in CLOSE_WAIT, in a PID
namespace that takes them all along when it ends.

make incident
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from agents import most_tasks
from alarms import alarms
from calm_scene import play_calm
from cast import Play
from naive_scene import play_naive
from report import RESULTS
from small_machine import small_machine
from witnesses import FIGURES, Count, witnesses

MOST_SCALE = 60
"""Then the naive agent has 50 zombies, for which there is a warning."""
_COLUMNS = {
    "made": "made",
    "monitor": "monitor",
    "psutil": "psutil",
    "nudge": "after nudge",
    "triage": "after triage",
    "most": "executor-api",
    "after": "at rest",
    "ended": "ended",
}
_ROWS = (*FIGURES, "descriptors", "close_wait")
_NOTES = """
executor-api: the most in any look of the monitor, calls that had yet to time out with it; at rest: psutil, after them.
Descriptors: those of the worst process; at rest, of all."""


def main() -> int:
    """Return 1 if anything is not as it should be."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        port = stack.enter_context(_server_that_hangs_up())
        machine = stack.enter_context(small_machine(most_tasks(arguments.scale)))
        seen = stack.enter_context(witnesses(machine, port))
        target = seen.url.removeprefix("http://")
        prometheus = None if arguments.no_alerts else stack.enter_context(alarms(machine, folder, target))
        play = Play(machine, seen, prometheus, folder, arguments.scale, port)
        if not machine.limited:
            print("without a limit of tasks: control groups of pids can't be made here")
        try:
            play_naive(play)
            play_calm(play)
        finally:
            _print_table(play.columns)
            print(f"samples: {seen.keep(arguments.results)}")
    print(f"{play.failed} claims failed")
    return int(play.failed > 0)


def _print_table(columns: dict[str, Count]) -> None:
    shown = {name: title for name, title in _COLUMNS.items() if name in columns}
    print("\n" + f"{'':14}" + "".join(f"{title:>14}" for title in shown.values()))
    for row in _ROWS:
        cells = [columns[name].get(row, "") for name in shown]
        print(f"{row:14}" + "".join(f"{cell:14,}" if isinstance(cell, int) else f"{cell:>14}" for cell in cells))
    print(_NOTES)


@contextlib.contextmanager
def _server_that_hangs_up() -> Iterator[int]:
    """Its port on the loopback."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):  # closed: it is over
                while True:
                    server.accept()[0].close()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--scale", type=float, default=10.0, help="one to so many of what the incident had")
    add("--no-alerts", action="store_true", help="don't start a Prometheus; its slowest alert takes five minutes")
    add("--results", type=Path, default=RESULTS, help="the folder of the samples")
    arguments = parser.parse_args()
    if not 1 <= arguments.scale <= MOST_SCALE:
        parser.error(f"--scale is from 1 to {MOST_SCALE}: of less there is nothing to say")
    return arguments


if __name__ == "__main__":
    raise SystemExit(main())
