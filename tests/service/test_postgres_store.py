"""What is PostgreSQL's own: who may write, what is taken over, what an operator is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import psycopg
import pytest
from support.executions import execution, finished
from support.postgres import PostgresServer

from executor_api.domain.execution import Event, EventKind, SandboxDetails
from executor_api.domain.outcome import Outcome, Status
from executor_api.domain.pool import Share
from executor_api.domain.request import ExecutionRequest, Isolation
from executor_api.errors import ConfigurationError, UnavailableError
from executor_api.service.postgres.schema import prepare
from executor_api.service.postgres.store import PostgresStore
from executor_api.service.store import ListFilter, Orders, TakenOverError

LONG, AT_ONCE = 1000.0, 0.0
SECONDS = 60


@dataclass
class Two:
    """The same database as two replicas see it."""

    url: str
    one: PostgresStore
    two: PostgresStore


@pytest.fixture
async def stores(postgres: PostgresServer) -> AsyncIterator[Two]:
    url = postgres.database()
    made = Two(url, PostgresStore(url, "one"), PostgresStore(url, "two"))
    await asyncio.gather(made.one.open(), made.two.open())  # both find it empty
    yield made
    await asyncio.gather(made.one.close(), made.two.close())


async def test_who_lost_an_execution_writes_nothing(stores: Two) -> None:
    """After another replica took it over, neither record nor events of the former one are taken."""
    await stores.one.create(execution(1))
    assert await stores.two.replicas.take_over(LONG, (), 0.0) == []
    assert await stores.two.replicas.take_over(AT_ONCE, (), 0.0) == [execution(1)]
    with pytest.raises(TakenOverError):
        await stores.one.save(finished(execution(1), 5.0), [Event(1, EventKind.FINISHED, b"")])
    with pytest.raises(TakenOverError):
        await stores.one.append(execution(1).id, [Event(1, EventKind.STDOUT, b"late")])
    assert await stores.two.get(execution(1).id) == execution(1)
    assert await stores.two.events(execution(1).id) == []
    await stores.two.save(finished(execution(1), 6.0))
    assert await stores.one.replicas.orders([execution(1).id]) == Orders(lost=frozenset({execution(1).id}))


async def test_each_replica_knows_its_place_among_those_that_live(stores: Two) -> None:
    """They count themselves and each other in the same order; one that has left is not counted."""
    await asyncio.gather(stores.one.replicas.beat(), stores.two.replicas.beat())
    assert await stores.one.replicas.beat() == Share(0, 2)
    assert await stores.two.replicas.beat() == Share(1, 2)
    await stores.one.replicas.let_go()
    assert await stores.two.replicas.beat() == Share(0, 1)


async def test_of_many_that_take_over_each_gets_its_own(stores: Two) -> None:
    """Two replicas at the same time: every execution of a third one goes to exactly one of them."""
    third = PostgresStore(stores.url, "three")
    await third.open()
    for number in range(50):
        await third.create(execution(number))
    await third.replicas.let_go()
    await third.close()
    taken = await asyncio.gather(*(store.replicas.take_over(LONG, (), 0.0) for store in (stores.one, stores.two) * 4))
    ids = [record.id for records in taken for record in records]
    assert sorted(ids) == [execution(number).id for number in range(50)]


async def test_our_own_are_found_again_if_they_are_old_and_not_known(stores: Two) -> None:
    """What was recorded though its answer was lost is taken up; what is known or new is left alone."""
    for number in (1, 2, 3):
        await stores.one.create(execution(number))
    known, before = [execution(1).id], execution(3).created_at
    assert await stores.one.replicas.take_over(LONG, known, before) == [execution(2)]


async def test_a_cancel_is_told_to_the_driver_and_kept(stores: Two) -> None:
    """The driver is notified, finds the order, and a write that knew nothing of it does not lose it."""
    await stores.one.create(execution(1))
    changes = stores.one.replicas.changes()
    told = asyncio.ensure_future(anext(changes))
    while not told.done():
        await stores.two.replicas.request_cancel(execution(1).id)  # the listener may not be there yet
        await asyncio.wait({told}, timeout=0.1)
    assert told.result().execution_id == execution(1).id
    await changes.aclose()
    await stores.one.save(execution(1, status=Status.STARTING))
    assert await stores.one.replicas.orders([execution(1).id]) == Orders(cancel=frozenset({execution(1).id}))
    record = await stores.two.get(execution(1).id)
    assert record is not None
    assert record.cancel_requested


async def test_a_write_whose_answer_was_lost_can_be_repeated(stores: Two) -> None:
    """Creating and saving the same again changes nothing, not even the size."""
    events = [Event(1, EventKind.STDOUT, b"x" * 100)]
    large = Outcome(Status.SUCCEEDED, None, "over", value_json=f'"{"x" * 9000}"')
    for _ in range(2):
        assert not (await stores.one.create(execution(1))).existed
    for _ in range(2):
        await stores.one.save(replace(finished(execution(1), 5.0), outcome=large), events)
    assert await stores.one.events(execution(1).id) == events
    with psycopg.connect(stores.url) as connection:
        row = connection.execute(
            "SELECT size - length(record) - length(listed) - length(request)"
            " FROM executions JOIN requests ON execution_id = id"
        ).fetchone()
    assert row == (100,)


async def test_records_outlive_a_crash_of_the_server(stores: Two, postgres: PostgresServer) -> None:
    """The pool finds the server again, and what was acknowledged is there; a closed store says that it is closed."""
    await stores.one.create(execution(1))
    await asyncio.to_thread(postgres.control, "restart", "-m", "immediate")
    assert await stores.one.get(execution(1).id) == execution(1)
    await stores.one.close()
    with pytest.raises(UnavailableError, match="closed"):
        await stores.one.get(execution(1).id)


async def test_all_that_share_a_database_own_the_same_sandboxes(stores: Two, postgres: PostgresServer) -> None:
    """The owner's id is the database's, and another database has another."""
    assert prepare(stores.url) == prepare(stores.url) != prepare(postgres.database())


async def test_a_database_of_the_first_version_is_brought_up_to_date(stores: Two) -> None:
    """Lists show its executions, with what they have to show of requests that they do not read any more."""
    asked = ExecutionRequest(code="1", isolation=Isolation.REUSE, labels={"team": "blue"})
    record = execution(1, request=asked, sandbox=SandboxDetails('"request":null', "local"))
    await stores.one.create(record)
    with psycopg.connect(stores.url, autocommit=True) as connection:
        (now,) = connection.execute("SELECT record FROM executions").fetchone() or (b"",)
        then = json.dumps(json.loads(now) | {"request": None}).encode()
        connection.execute("UPDATE executions SET record = %s", (then,))
        connection.execute("DROP INDEX executions_held")
        connection.execute("ALTER TABLE executions DROP COLUMN listed")
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    prepare(stores.url)
    (listed,) = (await stores.one.page("default", ListFilter(), 10)).executions
    assert (listed.request.isolation, listed.request.labels) == (asked.isolation, asked.labels)
    assert await stores.one.get(record.id) == record


async def test_a_newer_schema_is_refused(stores: Two) -> None:
    """A database of a later version is left alone, and the sentence says what to do."""
    with psycopg.connect(stores.url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match=r"newer executor-api .*9999.*upgrade"):
        await PostgresStore(stores.url, "three").open()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("mysql://me:secret@host/db", "can't be read; write it like postgresql://"),
        ("postgresql://me:secret@host:port/db", "can't be read; write it like postgresql://"),
        ("postgresql://me:secret@127.0.0.1:1/db", "check the server"),
    ],
)
async def test_a_url_that_leads_nowhere_is_refused(url: str, sentence: str) -> None:
    """In a sentence that says what to do and does not tell the password."""
    with pytest.raises(ConfigurationError, match=sentence) as raised:
        await PostgresStore(url, "one").open()
    assert "secret" not in str(raised.value)
