"""Opening the SQLite file: who may, which schema, and what to tell the operator when it can't be done."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from executor_api.errors import ConfigurationError

_SCHEMA = """
CREATE TABLE executions (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    template TEXT NOT NULL,
    created_at REAL NOT NULL,
    finished_at REAL,
    size INTEGER NOT NULL,
    key TEXT,
    digest TEXT,
    record BLOB NOT NULL,
    UNIQUE (tenant, key)
) STRICT;
CREATE INDEX executions_by_tenant ON executions (tenant, id);
CREATE INDEX executions_by_status ON executions (tenant, status, id);
CREATE INDEX executions_unfinished ON executions (id) WHERE finished_at IS NULL;
CREATE INDEX executions_finished ON executions (finished_at, size) WHERE finished_at IS NOT NULL;

CREATE TABLE requests (
    execution_id TEXT PRIMARY KEY REFERENCES executions ON DELETE CASCADE,
    request BLOB NOT NULL
) STRICT;

CREATE TABLE labels (
    execution_id TEXT NOT NULL REFERENCES executions ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (execution_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX labels_by_value ON labels (name, value, execution_id);

CREATE TABLE events (
    execution_id TEXT NOT NULL REFERENCES executions ON DELETE CASCADE,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    data BLOB NOT NULL,
    journal_offset INTEGER,
    PRIMARY KEY (execution_id, number)
) STRICT;
"""
# A request may have megabytes and never changes, a record is small and changes often: hence two tables.
_HELD_BY_TENANT = (
    "CREATE INDEX executions_held ON executions (tenant, finished_at, size) WHERE finished_at IS NOT NULL;"
)
_WHAT_LISTS_SHOW = """
UPDATE executions SET record = (
    SELECT CAST(replace(
        replace(CAST(record AS TEXT), '"request": null', '"request":null'),
        '"request":null',
        '"request":' || json_object(
            'template', json_extract(asked, '$.template'),
            'isolation', json_extract(asked, '$.isolation'),
            'labels', json_extract(asked, '$.labels')
        )
    ) AS BLOB) FROM (SELECT CAST(request AS TEXT) AS asked FROM requests WHERE execution_id = id)
);
"""  # in a record's texts each quote is escaped: only the field itself reads like that
_LISTED = "ALTER TABLE executions ADD COLUMN listed BLOB;"  # a large record without what lists don't show
_STEPS = (_SCHEMA, _HELD_BY_TENANT, _WHAT_LISTS_SHOW, _LISTED)
"""What makes each version of the one before."""
VERSION = len(_STEPS)

_BUSY_SECONDS = 5.0
_WAL_BYTES = 64 * 1024 * 1024


def lock_file(path: Path) -> int:
    """Take the database's lock and return its descriptor; the kernel gives it back when the process ends.

    Raises `ConfigurationError` if another process has it, or the directory can't be written.
    """
    lock_path = path.with_name(path.name + ".lock")
    with _operator_errors(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace") or "unknown"
        os.close(descriptor)
        raise ConfigurationError(
            f"{path} is in use by another executor-api (process {holder}); stop that one, choose another --data-dir, "
            "or let both share a PostgreSQL database with --store-url"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def open_writer(path: Path) -> sqlite3.Connection:
    """Open the file for writing, making the schema if it is new. Raises `ConfigurationError` with the fix."""
    with _operator_errors(path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives its other files the same mode
        connection = _connect(path)
        try:
            _prepare(connection, path)
        except (sqlite3.Error, ConfigurationError):
            connection.close()
            raise
        return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A second connection that sees what is committed and can change nothing."""
    with _operator_errors(path):
        connection = _connect(path)
        connection.execute("PRAGMA query_only = ON")
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only has an effect before the first table
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise ConfigurationError(
            f"{path} was written by a newer executor-api (schema {version}, this one knows {VERSION}); "
            "upgrade, or choose another --data-dir"
        )
    if version < VERSION:
        steps = "".join(_STEPS[version:])
        connection.executescript(f"BEGIN IMMEDIATE;{steps}PRAGMA user_version = {VERSION};COMMIT;")
    else:
        connection.execute("BEGIN IMMEDIATE")  # proves that the file can be written
        connection.execute("ROLLBACK")


@contextmanager
def _operator_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"{path} can't be opened: {error.strerror}; {_FIX}") from error
    except sqlite3.Error as error:
        raise ConfigurationError(f"{path} can't be used as the database: {error}; {_FIX}") from error


_FIX = "choose a --data-dir that this user can write, on a local disk with free space"
