"""What the SQLite store promises when processes are killed, compete, or run out of disk."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from executor_api.domain.execution import Execution
from executor_api.domain.outcome import Status
from executor_api.errors import ConfigurationError
from executor_api.service.sqlite_store import SqliteStore
from executor_api.service.store import ListFilter

COMMON = """
import asyncio, resource, signal, sys
from pathlib import Path
from executor_api.domain.execution import Event, EventKind, Execution
from executor_api.domain.outcome import Status
from executor_api.domain.request import ExecutionRequest
from executor_api.errors import UnavailableError
from executor_api.service.sqlite_store import SqliteStore

def execution(number, code="1"):
    return Execution(id=f"01JD{number:022d}", tenant="default", request=ExecutionRequest(code=code),
                     status=Status.QUEUED, created_at=float(number), timeout_seconds=60.0, template_digest="d")

store = SqliteStore(Path(sys.argv[1]))
"""

WRITER = (
    COMMON
    + """
async def write(start):
    for number in range(start, start + 1_000_000):
        await store.create(execution(number))
        await store.append(execution(number).id, [Event(1, EventKind.STDOUT, str(number).encode() * 100)])
        print(number, flush=True)

async def main():
    await store.open()
    print("open", flush=True)
    await asyncio.gather(*(write(start * 1_000_000) for start in range(8)))

asyncio.run(main())
"""
)

FULL_DISK = (
    COMMON
    + """
async def main():
    await store.open()
    await store.create(execution(1))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, hard))
    try:
        await store.create(execution(2, "x" * 500_000))
    except UnavailableError as error:
        print(error)
    print((await store.get(execution(1).id)).id)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await store.create(execution(3, "x" * 500_000))
    print([found.id[-1] for found in await store.unfinished()])
    await store.close()

asyncio.run(main())
"""
)


@contextlib.contextmanager
def writer(path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


async def everything(store: SqliteStore) -> dict[str, Execution]:
    found: dict[str, Execution] = {}
    cursor = None
    while True:
        page = await store.page("default", ListFilter(), 500, cursor)
        found |= {execution.id: execution for execution in page.executions}
        cursor = page.next_cursor
        if cursor is None:
            return found


async def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    """SIGKILL in the middle of concurrent writes: every acknowledged record and event is there afterwards."""
    path = tmp_path / "db"
    with writer(path) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline() for _ in range(400)]
        process.kill()
        acknowledged += [line for line in process.stdout if line.endswith("\n")]
    store = SqliteStore(path)
    await store.open()
    found = await everything(store)
    for number in (int(line) for line in acknowledged):
        record = found[f"01JD{number:022d}"]
        assert record.status is Status.QUEUED
        (event,) = await store.events(record.id)
        assert event.data == str(number).encode() * 100
    await store.close()


async def test_a_second_service_on_the_file_is_refused(tmp_path: Path) -> None:
    """Another process's file can't be opened; the sentence names the process; its death frees the file."""
    path = tmp_path / "db"
    with writer(path) as process:
        second = SqliteStore(path)
        with pytest.raises(ConfigurationError, match=f"process {process.pid}"):
            await second.open()
        await second.close()
    third = SqliteStore(path)
    await third.open()
    await third.close()


async def test_a_full_disk_is_an_error_of_one_call(tmp_path: Path) -> None:
    """A write that doesn't fit says so, reads go on, and writes work again once there is room."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FULL_DISK, str(tmp_path / "db"), stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    refusal, read, listed = output.decode().splitlines()
    assert refusal.startswith("the database can't be used now (")
    assert read.endswith("1")
    assert listed == "['1', '3']"
    assert process.returncode == 0
