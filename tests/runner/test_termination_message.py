"""The termination message: whatever a report holds, it fits what the kubelet keeps, and can be read back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from executor_runner.loop import Loop
from executor_runner.podlog import PodLog
from executor_runner.protocol import TERMINATION_LIMIT
from executor_runner.protocol.frames import FrameKind, encode_json
from executor_runner.protocol.podlog import unseal

TOKEN = "5a" * 32

REPORT = {
    "version": 1,
    "execution_id": "01JD" + "0" * 22,
    "cause": "out_of_memory",
    "message": "",
    "exit_code": None,
    "signal": 9,
    "stdout_bytes": 1 << 62,
    "stderr_bytes": 1 << 62,
    "stdout_dropped_bytes": 1 << 62,
    "stderr_dropped_bytes": 1 << 62,
    "run_ms": 86_400_000.123,
    "collect_ms": 2000.123,
    "usage": {"cpu_seconds": 86_400.123456, "peak_memory_bytes": 1 << 62},
    "processes": {"left_behind": 100_000, "zombies": 100_000, "unkillable": 100_000},
    "gpu": {
        "devices": 16,
        "before_bytes": 1 << 62,
        "after_bytes": 1 << 62,
        "leaked_bytes": 1 << 62,
        "returned": False,
    },
}

EXCEPTION = {"type": "t" * 500, "message": "m" * 4096, "traceback": "b" * 16_384}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[tuple[PodLog, Path]]:
    loop, (reader, writer) = Loop(), os.pipe()
    path = tmp_path / "termination-log"
    yield PodLog(loop, writer, TOKEN, path), path
    for descriptor in (reader, writer):
        os.close(descriptor)
    loop.close()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"message": "short", "exception": {"type": "E", "message": "é", "traceback": ""}},
        {"value_json": "1" * 100_000},
        {"exception": EXCEPTION},
        {"artifacts_skipped": ["a" * 200] * 1000},
        {"message": "x" * 100_000},
        {"message": '"\\\n\x00' * 10_000},
        {"message": "\udcff😀" * 10_000, "exception": EXCEPTION, "value_json": '"' * 9000},
    ],
    ids=lambda changes: "+".join(changes) or "bare",
)
def test_it_fits_and_is_believed(log: tuple[PodLog, Path], changes: dict[str, Any]) -> None:
    """The verdict is always there; large parts are left out, and a long message is cut."""
    write, path = log
    write(FrameKind.REPORT, encode_json(REPORT | changes))
    text = path.read_bytes()
    assert len(text) <= TERMINATION_LIMIT
    found = unseal(TOKEN, text)
    assert found is not None
    assert {key: found.get(key) for key in REPORT if key != "message"} == {
        key: value for key, value in REPORT.items() if key != "message"
    }
    assert (REPORT | changes)["message"].startswith(found["message"])


def test_it_replaces_what_the_call_wrote(log: tuple[PodLog, Path]) -> None:
    """A forged message is gone, however long it was."""
    write, path = log
    path.write_bytes(b'{"report":"{}","mac":""}' * 1000)
    write(FrameKind.REPORT, encode_json(REPORT))
    assert unseal(TOKEN, path.read_bytes()) == REPORT
