"""What is the SQLite file's own: its space, its schema, and what it refuses to open."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.executions import execution, finished

from executor_api.domain.execution import Event, EventKind, SandboxDetails
from executor_api.domain.request import ExecutionRequest, Isolation
from executor_api.errors import ConfigurationError, UnavailableError
from executor_api.service.sqlite_store import SqliteStore
from executor_api.service.store import ListFilter

EVERYTHING = ListFilter()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "data" / "executions.sqlite3")
    await opened.open()
    yield opened
    await opened.close()


async def test_a_failing_save_changes_nothing(store: SqliteStore) -> None:
    """Record and events are one transaction: an event number that is taken leaves the record as it was."""
    await store.create(execution(1))
    await store.append(execution(1).id, [Event(1, EventKind.STDOUT, b"first")])
    with pytest.raises(UnavailableError, match="UNIQUE"):
        await store.save(finished(execution(1), 1005.0), [Event(1, EventKind.FINISHED, b"")])
    assert await store.get(execution(1).id) == execution(1)
    assert await store.events(execution(1).id) == [Event(1, EventKind.STDOUT, b"first")]


async def test_prune_by_size_keeps_the_newest_and_shrinks_the_file(store: SqliteStore, tmp_path: Path) -> None:
    """Beyond the size the oldest finished go, and the file gives their space back."""
    megabyte = b"x" * 1024 * 1024
    for number in range(20):
        await store.create(execution(number))
        await store.save(finished(execution(number), 2000.0 + number), [Event(1, EventKind.STDOUT, megabyte)])
    assert await store.prune(finished_before=0.0, keep_bytes=5 * len(megabyte)) == 16
    left = (await store.page("default", EVERYTHING, 200)).executions
    assert [int(found.id[-4:]) for found in left] == [19, 18, 17, 16]
    await store.close()
    assert (tmp_path / "data" / "executions.sqlite3").stat().st_size < 6 * len(megabyte)


async def test_records_outlive_the_store(tmp_path: Path) -> None:
    """Closed and opened again, everything is there; a closed store says that it is closed."""
    store = SqliteStore(tmp_path / "db")
    await store.open()
    await store.create(execution(1))
    await store.close()
    with pytest.raises(UnavailableError, match="closed"):
        await store.get(execution(1).id)
    again = SqliteStore(tmp_path / "db")
    await again.open()
    assert await again.get(execution(1).id) == execution(1)
    await again.close()


async def test_a_file_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    """Lists show its executions, with what they have to show of requests that they do not read any more."""
    asked = ExecutionRequest(code="1", isolation=Isolation.REUSE, labels={"team": "blue"})
    record = execution(1, request=asked, sandbox=SandboxDetails('"request":null', "local"))
    store = SqliteStore(tmp_path / "db")
    await store.open()
    await store.create(record)
    await store.close()
    with sqlite3.connect(tmp_path / "db") as connection:
        (now,) = connection.execute("SELECT record FROM executions").fetchone()
        then = json.dumps(json.loads(now) | {"request": None}).encode()
        connection.execute("UPDATE executions SET record = ?", (then,))
        connection.execute("DROP INDEX executions_held")
        connection.execute("ALTER TABLE executions DROP COLUMN listed")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    await store.open()
    (listed,) = (await store.page("default", EVERYTHING, 10)).executions
    assert (listed.request.isolation, listed.request.labels) == (asked.isolation, asked.labels)
    assert await store.get(record.id) == record
    await store.close()


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """A file of a later version is left alone, and the sentence says what to do."""
    path = tmp_path / "db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    store = SqliteStore(path)
    with pytest.raises(ConfigurationError, match=r"newer executor-api \(schema 99"):
        await store.open()
    await store.close()


async def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    """Another program's file is not touched, and a directory that can't be made is named."""
    path = tmp_path / "notes.txt"
    path.write_text("dear diary, " * 100)
    for unusable in (path, path / "below" / "db"):
        store = SqliteStore(unusable)
        with pytest.raises(ConfigurationError, match="choose a --data-dir"):
            await store.open()
        await store.close()
    assert path.read_text() == "dear diary, " * 100
