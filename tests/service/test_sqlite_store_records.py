"""What the SQLite store gives back: records, events, pages, and how much it keeps."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from executor_api.domain.execution import (
    Event,
    EventKind,
    Execution,
    IdempotencyKey,
    SandboxDetails,
    Start,
    Timings,
)
from executor_api.domain.outcome import Outcome, Reason, Status
from executor_api.domain.request import ExecutionRequest, Gpu, Isolation, Resources
from executor_api.errors import (
    ConfigurationError,
    IdempotencyConflictError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
)
from executor_api.service.sqlite_store import SqliteStore
from executor_api.service.store import ListFilter

EVERYTHING = ListFilter()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "data" / "executions.sqlite3")
    await opened.open()
    yield opened
    await opened.close()


def execution(number: int, **changes: object) -> Execution:
    """The n-th execution: ids sort by number, as ULIDs do by time."""
    queued = Execution(
        id=f"01JD000000000000000000{number:04d}",
        tenant="default",
        request=ExecutionRequest(code="print(1)"),
        status=Status.QUEUED,
        created_at=1000.0 + number,
        timeout_seconds=60.0,
        template_digest="0123456789ab",
    )
    return replace(queued, **changes)  # type: ignore[arg-type]


def finished(record: Execution, at: float, reason: Reason | None = None) -> Execution:
    status = Status.FAILED if reason else Status.SUCCEEDED
    return replace(record, status=status, finished_at=at, outcome=Outcome(status, reason, "over"))


async def test_a_full_record_comes_back_equal(store: SqliteStore) -> None:
    """Every field survives, binary files, enums and nested values included."""
    request = ExecutionRequest(
        command=["python", "-c", "print('é\u2028')"],
        stdin="two\nlines\r\n",
        env={"A": "ü"},
        files={"data/raw.bin": bytes(range(256)), "text": "plain"},
        artifacts=["out/*.png"],
        timeout_seconds=0.1,
        resources=Resources(cpu="500m", gpu=Gpu(count=2, resource="nvidia.com/gpu")),
        isolation=Isolation.REUSE,
        labels={"example.com/team": "blue"},
    )
    record = execution(
        1,
        request=request,
        status=Status.FAILED,
        idempotency=IdempotencyKey("key", "digest"),
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        cancel_requested=True,
        dispatched=True,
        started_at=1001.1,
        finished_at=1002.2,
        sandbox=SandboxDetails("sandbox", "kubernetes", job="job", node="node"),
        start=Start.COLD,
        cold_reason="pool empty",
        timings=Timings(queue=0.1, total=1234.567),
        outcome=Outcome(
            Status.FAILED,
            Reason.EXCEPTION,
            "ValueError: no",
            exit_code=1,
            value_json='{"a": [1, 2.5, null]}',
            exception={"type": "ValueError", "message": "no", "traceback": "..."},
            usage={"cpu_seconds": 0.25, "peak_memory_bytes": 1 << 40},
            processes={"left_behind": 1, "zombies": 2, "unkillable": 3},
            artifacts_skipped=["a: too big"],
        ),
        result_source="http",
    )
    created = await store.create(record)
    assert not created.existed
    assert await store.get(record.id) == record


async def test_lone_surrogates_of_user_code_are_replaced(store: SqliteStore) -> None:
    """An exception text that is no Unicode does not keep the outcome from being stored."""
    await store.create(execution(1))
    outcome = Outcome(Status.FAILED, Reason.EXCEPTION, "ValueError: \ud83d!")
    await store.save(execution(1, status=Status.FAILED, finished_at=5.0, outcome=outcome))
    stored = await store.get(execution(1).id)
    assert stored is not None
    assert stored.outcome == replace(outcome, message="ValueError: ?!")


async def test_save_replaces_the_record_and_adds_events(store: SqliteStore) -> None:
    """Events keep their bytes, order and journal offsets, and can be read from a number on."""
    await store.create(execution(1))
    await store.append(execution(1).id, [Event(1, EventKind.STDOUT, b"\xff\x00", 17), Event(2, EventKind.STDERR, b"e")])
    done = finished(execution(1), 1005.0)
    await store.save(done, [Event(3, EventKind.FINISHED, b"")])
    assert await store.get(done.id) == done
    assert await store.events(done.id) == [
        Event(1, EventKind.STDOUT, b"\xff\x00", 17),
        Event(2, EventKind.STDERR, b"e"),
        Event(3, EventKind.FINISHED, b""),
    ]
    assert [event.number for event in await store.events(done.id, after=2)] == [3]


async def test_a_failing_save_changes_nothing(store: SqliteStore) -> None:
    """Record and events are one transaction: an event number that is taken leaves the record as it was."""
    await store.create(execution(1))
    await store.append(execution(1).id, [Event(1, EventKind.STDOUT, b"first")])
    with pytest.raises(UnavailableError, match="UNIQUE"):
        await store.save(finished(execution(1), 1005.0), [Event(1, EventKind.FINISHED, b"")])
    assert await store.get(execution(1).id) == execution(1)
    assert await store.events(execution(1).id) == [Event(1, EventKind.STDOUT, b"first")]


async def test_unknown_executions(store: SqliteStore) -> None:
    """What was never created is None to readers and an error to writers."""
    assert await store.get("01JD0000000000000000000001") is None
    assert await store.events("01JD0000000000000000000001") == []
    with pytest.raises(NotFoundError):
        await store.save(execution(1))
    with pytest.raises(NotFoundError):
        await store.append(execution(1).id, [Event(1, EventKind.STDOUT, b"")])


async def test_one_idempotency_key_makes_one_record(store: SqliteStore) -> None:
    """Of many concurrent creates with one key one inserts, and all get that record."""
    key = IdempotencyKey("order-7", "digest")
    creations = await asyncio.gather(*(store.create(execution(n, idempotency=key)) for n in range(40)))
    assert [created.existed for created in creations].count(False) == 1
    assert len({created.execution.id for created in creations}) == 1
    assert len((await store.page("default", EVERYTHING, 100)).executions) == 1


async def test_an_idempotency_key_with_another_request_is_refused(store: SqliteStore) -> None:
    """The same key with another digest is a conflict, and another tenant's key is nobody's business."""
    await store.create(execution(1, idempotency=IdempotencyKey("k", "one")))
    with pytest.raises(IdempotencyConflictError, match="'k'"):
        await store.create(execution(2, idempotency=IdempotencyKey("k", "two")))
    other = await store.create(execution(3, tenant="other", idempotency=IdempotencyKey("k", "two")))
    assert not other.existed


async def test_pages_go_from_newest_to_oldest(store: SqliteStore) -> None:
    """Cursors lead through every record once, and what is created meanwhile does not shift them."""
    for number in range(5):
        await store.create(execution(number))
    await store.create(execution(9, tenant="other"))
    first = await store.page("default", EVERYTHING, 2)
    await store.create(execution(7))
    second = await store.page("default", EVERYTHING, 2, first.next_cursor)
    third = await store.page("default", EVERYTHING, 2, second.next_cursor)
    numbers = [[int(found.id[-4:]) for found in page.executions] for page in (first, second, third)]
    assert numbers == [[4, 3], [2, 1], [0]]
    assert third.next_cursor is None


async def test_filters(store: SqliteStore) -> None:
    """Each field of a filter narrows the list, all together by AND."""
    labelled = ExecutionRequest(code="1", labels={"team": "blue", "run": "7"})
    templated = ExecutionRequest(code="1", template="gpu")
    await store.create(execution(1, request=labelled))
    await store.create(execution(2, request=templated))
    await store.create(execution(3))
    await store.save(finished(execution(3), 1010.0, Reason.TIMEOUT))

    async def numbers(**fields: object) -> list[int]:
        page = await store.page("default", ListFilter(**fields), 10)  # type: ignore[arg-type]
        return [int(found.id[-4:]) for found in page.executions]

    assert await numbers(statuses=frozenset({Status.FAILED})) == [3]
    assert await numbers(statuses=frozenset({Status.FAILED, Status.QUEUED})) == [3, 2, 1]
    assert await numbers(reason="timeout") == [3]
    assert await numbers(template="gpu") == [2]
    assert await numbers(labels={"team": "blue"}) == [1]
    assert await numbers(labels={"team": "blue", "run": "8"}) == []
    assert await numbers(created_after=1001.0, created_before=1003.0) == [2]


@pytest.mark.parametrize("cursor", ["", "!", "x' OR 1=1 --", "bm90IGFuIGlk", "MDFKRA", "é" * 26])
async def test_a_strange_cursor_is_refused(store: SqliteStore, cursor: str) -> None:
    """A cursor that no page gave out names its field."""
    with pytest.raises(InvalidRequestError, match="cursor") as raised:
        await store.page("default", EVERYTHING, 10, cursor)
    assert raised.value.problems[0].field == "cursor"


async def test_unfinished_are_listed_oldest_first(store: SqliteStore) -> None:
    """A restarted service sees what has no outcome, in the order of acceptance."""
    for number in (3, 1, 2):
        await store.create(execution(number))
    await store.save(finished(execution(2), 1005.0))
    assert await store.unfinished() == [execution(1), execution(3)]


async def test_prune_by_age_spares_the_unfinished(store: SqliteStore) -> None:
    """Only finished executions before the instant go, with their events."""
    for number in range(120):
        await store.create(execution(number))
        if number:
            await store.save(finished(execution(number), 2000.0 + number), [Event(1, EventKind.STDOUT, b"x")])
    assert await store.prune(finished_before=2100.0, keep_bytes=1 << 40) == 99
    left = (await store.page("default", EVERYTHING, 200)).executions
    assert [int(found.id[-4:]) for found in left] == [*range(119, 99, -1), 0]
    assert await store.events(execution(50).id) == []


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
