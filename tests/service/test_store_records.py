"""What every store gives back: records, events, pages, and how much it keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import msgspec
import pytest
from support.executions import execution, finished

from executor_api.domain.execution import (
    Event,
    EventKind,
    IdempotencyKey,
    SandboxDetails,
    Start,
    Timings,
)
from executor_api.domain.outcome import Outcome, Reason, Status
from executor_api.domain.request import ExecutionRequest, Gpu, Isolation, Resources
from executor_api.errors import (
    IdempotencyConflictError,
    InvalidRequestError,
    NotFoundError,
)
from executor_api.service.postgres.store import PostgresStore
from executor_api.service.record_codec import decode_listed, encode_record
from executor_api.service.sqlite_store import SqliteStore
from executor_api.service.store import ListFilter, Store
from executor_runner.protocol.shapes import GpuMemory

EVERYTHING = ListFilter()


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened: Store
    if request.param == "sqlite":
        opened = SqliteStore(tmp_path / "data" / "executions.sqlite3")
    else:
        opened = PostgresStore(request.getfixturevalue("postgres").database(), "one")
    await opened.open()
    yield opened
    await opened.close()


async def test_a_full_record_comes_back_equal(store: Store) -> None:
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
        tracestate="a=1,b=2",
        passed=(("arrived", 1000.125), ("accepted", 1000.25)),
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
            gpu={"devices": 1, "before_bytes": 2, "after_bytes": None, "leaked_bytes": 0, "returned": False},
            artifacts_skipped=["a: too big"],
        ),
        result_source="http",
    )
    created = await store.create(record)
    assert not created.existed
    assert await store.get(record.id) == record


def test_an_older_release_reads_what_became_of_gpu_memory() -> None:
    """Its lists would fail on an answer beyond true and false; where nobody can tell, that is a field of its own."""
    gpu: GpuMemory = {"devices": 1, "before_bytes": 2, "after_bytes": 9, "leaked_bytes": 0, "returned": False}
    outcome = Outcome(Status.SUCCEEDED, None, "", gpu={**gpu, "uncertain": True})
    record = msgspec.json.decode(encode_record(execution(1, outcome=outcome)))
    older = {"devices": int, "before_bytes": int, "after_bytes": int | None, "leaked_bytes": int, "returned": bool}
    assert msgspec.convert(record["outcome"]["gpu"], TypedDict("Older", older)) == gpu  # type: ignore[misc]
    with pytest.raises(msgspec.ValidationError):
        decode_listed(msgspec.json.encode(record | {"outcome": record["outcome"] | {"gpu": gpu | {"returned": None}}}))


async def test_lone_surrogates_of_user_code_are_replaced(store: Store) -> None:
    """An exception text that is no Unicode does not keep the outcome from being stored."""
    await store.create(execution(1))
    outcome = Outcome(Status.FAILED, Reason.EXCEPTION, "ValueError: \ud83d!")
    await store.save(execution(1, status=Status.FAILED, finished_at=5.0, outcome=outcome))
    stored = await store.get(execution(1).id)
    assert stored is not None
    assert stored.outcome == replace(outcome, message="ValueError: ?!")


async def test_save_replaces_the_record_and_adds_events(store: Store) -> None:
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
    assert [event.number for event in await store.events(done.id, after=1, most=1)] == [2]


async def test_a_record_is_created_with_its_first_events(store: Store) -> None:
    """One that its idempotency key has made before keeps its own."""
    key, events = (
        IdempotencyKey("k", "digest"),
        [Event(1, EventKind.STATUS, b"queued"), Event(2, EventKind.STATUS, b"")],
    )
    await store.create(execution(1, idempotency=key), events)
    assert (await store.create(execution(2, idempotency=key), events)).existed
    assert (await store.events(execution(1).id), await store.events(execution(2).id)) == (events, [])


async def test_unknown_executions(store: Store) -> None:
    """What was never created is None to readers and an error to writers."""
    assert await store.get("01JD0000000000000000000001") is None
    assert await store.events("01JD0000000000000000000001") == []
    with pytest.raises(NotFoundError):
        await store.save(execution(1))
    with pytest.raises(NotFoundError):
        await store.append(execution(1).id, [Event(1, EventKind.STDOUT, b"")])


async def test_one_idempotency_key_makes_one_record(store: Store) -> None:
    """Of many concurrent creates with one key one inserts, and all get that record."""
    key = IdempotencyKey("order-7", "digest")
    creations = await asyncio.gather(*(store.create(execution(n, idempotency=key)) for n in range(40)))
    assert [created.existed for created in creations].count(False) == 1
    assert len({created.execution.id for created in creations}) == 1
    assert len((await store.page("default", EVERYTHING, 100)).executions) == 1


async def test_an_idempotency_key_with_another_request_is_refused(store: Store) -> None:
    """The same key with another digest is a conflict, and another tenant's key is nobody's business."""
    await store.create(execution(1, idempotency=IdempotencyKey("k", "one")))
    with pytest.raises(IdempotencyConflictError, match="'k'"):
        await store.create(execution(2, idempotency=IdempotencyKey("k", "two")))
    other = await store.create(execution(3, tenant="other", idempotency=IdempotencyKey("k", "two")))
    assert not other.existed


async def test_pages_go_from_newest_to_oldest(store: Store) -> None:
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


async def test_filters(store: Store) -> None:
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
async def test_a_strange_cursor_is_refused(store: Store, cursor: str) -> None:
    """A cursor that no page gave out names its field."""
    with pytest.raises(InvalidRequestError, match="cursor") as raised:
        await store.page("default", EVERYTHING, 10, cursor)
    assert raised.value.problems[0].field == "cursor"


async def test_prune_by_age_spares_the_unfinished(store: Store) -> None:
    """Only finished executions before the instant go, with their events."""
    for number in range(120):
        await store.create(execution(number))
        if number:
            await store.save(finished(execution(number), 2000.0 + number), [Event(1, EventKind.STDOUT, b"x")])
    assert await store.prune(finished_before=2100.0, keep_bytes=1 << 40) == 99
    left = (await store.page("default", EVERYTHING, 200)).executions
    assert [int(found.id[-4:]) for found in left] == [*range(119, 99, -1), 0]
    assert await store.events(execution(50).id) == []


async def test_the_unfinished_are_taken_over_oldest_first(store: Store) -> None:
    """A restarted service gets what has no outcome, in the order of acceptance."""
    for number in (3, 1, 2):
        await store.create(execution(number))
    await store.save(finished(execution(2), 1005.0))
    assert await store.replicas.take_over(10.0, (), 1e9) == [execution(1), execution(3)]


async def test_prune_by_size_keeps_the_newest(store: Store) -> None:
    """Beyond the size the oldest finished go."""
    kilobytes = b"x" * 64 * 1024
    for number in range(120):
        await store.create(execution(number))
        await store.save(finished(execution(number), 2000.0 + number), [Event(1, EventKind.STDOUT, kilobytes)])
    assert await store.prune(finished_before=0.0, keep_bytes=5 * len(kilobytes)) == 116
    left = (await store.page("default", EVERYTHING, 200)).executions
    assert [int(found.id[-4:]) for found in left] == [119, 118, 117, 116]


async def test_prune_by_size_takes_from_the_tenant_that_holds_most(store: Store) -> None:
    """However old, a small tenant's executions stay while a large one's are too much."""
    kilobytes = b"x" * 64 * 1024
    for number in range(80):
        record = replace(execution(number), tenant="small" if number < 3 else "large")
        await store.create(record)
        events = [Event(1, EventKind.STDOUT, kilobytes)]
        await store.save(replace(finished(record, 2000.0 + number), tenant=record.tenant), events)
    assert await store.prune(finished_before=0.0, keep_bytes=11 * len(kilobytes)) == 70
    left = [(await store.page(tenant, EVERYTHING, 200)).executions for tenant in ("small", "large")]
    assert [[int(found.id[-4:]) for found in found] for found in left] == [[2, 1, 0], [*range(79, 72, -1)]]
    assert await store.prune(finished_before=0.0, keep_bytes=5 * len(kilobytes)) == 6
    left = [(await store.page(tenant, EVERYTHING, 200)).executions for tenant in ("small", "large")]
    assert [len(found) for found in left] == [2, 2]


async def test_a_page_reads_no_requests(store: Store) -> None:
    """However much is to be run, of each request there is only what lists show."""
    shown = {"template": "gpu", "isolation": Isolation.REUSE, "labels": {"team": "blue"}}
    await store.create(execution(1, request=ExecutionRequest(code="x" * 100_000, stdin="y", **shown)))
    (listed,) = (await store.page("default", EVERYTHING, 10)).executions
    assert listed.request.model_dump(include=set(shown)) == shown
    assert (listed.request.code, listed.request.stdin) == (None, "")


async def test_a_page_reads_no_values(store: Store) -> None:
    """However much came of it, of an outcome there is only what lists show; the record has it all."""
    whole = Outcome(
        *(Status.FAILED, Reason.EXCEPTION, "ValueError: no"),
        exit_code=1,
        value_json=f'"{"x" * 100_000}"',
        exception={"type": "ValueError", "message": "no", "traceback": "..."},
        usage={"cpu_seconds": 0.25, "peak_memory_bytes": 1 << 40},
        artifacts_skipped=["a: too big"],
    )
    await store.create(execution(1))
    for _ in range(2):  # a save may be repeated
        await store.save(done := replace(finished(execution(1), 5.0, Reason.EXCEPTION), outcome=whole))
    (listed,) = (await store.page("default", EVERYTHING, 10)).executions
    assert listed.outcome == replace(whole, value_json=None, exception=None, artifacts_skipped=[])
    assert (listed.status, listed.finished_at) == (done.status, done.finished_at)
    assert await store.get(done.id) == done


async def test_a_record_is_found_for_its_tenant(store: Store) -> None:
    """Who names another tenant does not get it, and who names none does."""
    await store.create(execution(1))
    asked = [await store.get(execution(1).id, tenant) for tenant in ("default", "other", "", None)]
    assert asked == [execution(1), None, None, execution(1)]
