"""What a process logs, in a process of its own, for logging is set up for all of it."""

from __future__ import annotations

import json
import subprocess
import sys

SETUP = """
import logging, sys, structlog
from executor_api.telemetry import configure_logging
configure_logging("json", "info")
ours, theirs = structlog.get_logger("executor_api.x"), logging.getLogger("uvicorn.error")
"""


def logged(script: str) -> tuple[subprocess.CompletedProcess[str], list[dict[str, str]]]:
    """Run the script; its events."""
    done = subprocess.run([sys.executable, "-c", SETUP + script], capture_output=True, text=True, check=False)
    return done, [json.loads(line) for line in done.stderr.splitlines()]


def test_our_events_and_those_of_libraries_look_the_same() -> None:
    """One JSON object a line with event, level, logger and time; tracebacks are one field; debug is left out."""
    script = "for log in (ours, theirs):\n log.debug('no')\n log.info('said')\n"
    script += " try: raise KeyError('k')\n except KeyError: log.exception('bad')\n"
    _, events = logged(script)
    assert [(event["event"], event["level"], event["logger"]) for event in events] == [
        ("said", "info", "executor_api.x"),
        ("bad", "error", "executor_api.x"),
        ("said", "info", "uvicorn.error"),
        ("bad", "error", "uvicorn.error"),
    ]
    assert {tuple(event) for event in events[::2]} == {("event", "level", "logger", "timestamp")}
    assert all("KeyError: 'k'" in event["exception"] for event in events[1::2])


def test_a_log_that_cant_be_written_fails_nobody() -> None:
    """The pipe's reader is gone: work goes on, and its exit status is its own."""
    script = "import os; read, write = os.pipe(); os.dup2(write, 2); os.close(write); os.close(read)\n"
    done, events = logged(script + "ours.info('said'); os.write(1, b'went on'); os._exit(7)")
    assert (done.returncode, done.stdout, events) == (7, "went on", [])


def test_the_audit_log_is_json_whatever_the_service_logs() -> None:
    """Neither text nor a high level touches it, and its lines bear its name."""
    script = "from executor_api.telemetry import audit_log\nconfigure_logging('text', 'error')\n"
    _, events = logged(script + "ours.info('not said')\naudit_log()('execution', sha256='ab', exit_code=None)")
    (event,) = events
    assert (event["logger"], event["event"], event["sha256"], event["exit_code"]) == ("audit", "execution", "ab", None)
    assert event["timestamp"].endswith("Z")
