"""Several services on one database over one backend: who is asked doesn't matter, and a lost one loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from support.house import House, history, submission
from support.postgres import PostgresServer
from support.scripted import Fate, Script, ScriptedSandbox, stdout
from support.tcp_proxy import TcpProxy

from executor_api.domain.execution import Event, EventKind, Execution, Start
from executor_api.domain.outcome import Status
from executor_api.errors import IdempotencyConflictError, NotFoundError, UnavailableError
from executor_api.service import replica
from executor_api.service.execution_service import ExecutionService
from executor_api.service.postgres.store import PostgresStore
from executor_api.service.store import Created, ListFilter

SECONDS = 60.0


class AnswerLost(PostgresStore):
    """The first record is made, and nobody hears of it."""

    async def create(self, execution: Execution, events: Sequence[Event] = ()) -> Created:
        """Make it, and fail."""
        await super().create(execution, events)
        raise UnavailableError("the answer was lost")


SILENT = {"silent_seconds": 4.0}
NEVER_SILENT = {"silent_seconds": 1000.0}


@dataclass
class Replicas:
    """What makes services that share a database."""

    house: House
    url: str

    async def open(self, name: str, url: str = "", **limits: Any) -> ExecutionService:
        """Start one more."""
        return await self.house.open(PostgresStore(url or self.url, name), **limits)


@pytest.fixture
def replicas(house: House, postgres: PostgresServer) -> Replicas:
    return Replicas(house, postgres.database())


@pytest.fixture
def network(replicas: Replicas, postgres: PostgresServer) -> Iterator[TcpProxy]:
    """What can be cut between one replica and the database."""
    del replicas  # its services are stopped before
    with TcpProxy("127.0.0.1", postgres.port) as proxy:
        yield proxy


@pytest.fixture
async def remote(replicas: Replicas, postgres: PostgresServer, network: TcpProxy) -> AsyncIterator[ExecutionService]:
    """A replica whose network can be cut."""
    service = await replicas.open("remote", postgres.by_tcp(replicas.url, network.port), **SILENT)
    yield service
    network.restore()
    await service.stop(0)


async def running(service: ExecutionService, execution: Execution) -> None:
    """Wait until output has come, so that the call certainly runs and the store knows."""
    async for event in service.events("default", execution.id):
        if event.kind is EventKind.STDOUT:
            return


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what nothing tells of."""
    while not condition():  # noqa: ASYNC110 - that is what it is for
        await asyncio.sleep(0.02)


async def test_every_replica_answers_for_every_execution(replicas: Replicas) -> None:
    """Record, output, events to the end, wait and list of a call that another replica drives."""
    gate = asyncio.Event()
    replicas.house.backend.script = lambda _id: Script(frames=[stdout(b"one"), gate, stdout(b"two")])
    one, two = await replicas.open("one"), await replicas.open("two")
    execution = await one.submit(submission())
    await running(two, execution)
    assert (await two.get("default", execution.id)).status is Status.RUNNING
    assert (await two.output(execution.id)).stdout == b"one"
    wait = asyncio.ensure_future(two.wait(execution.id, SECONDS))
    follow = asyncio.ensure_future(history(two, execution))
    gate.set()
    finished, events = await wait, await follow
    assert (finished.status, events[-1].kind) == (Status.SUCCEEDED, EventKind.FINISHED)
    assert b"".join(event.data for event in events if event.kind is EventKind.STDOUT) == b"onetwo"
    assert events == await history(one, execution)
    assert finished == await one.get("default", execution.id)
    with pytest.raises(NotFoundError):
        await two.get("other", execution.id)


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_a_call_that_was_refused_never_runs(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch, *, warm: bool
) -> None:
    """The store has it, though its client was told that it could not be recorded, and has sent it again by then.

    The sandbox that it was to have has been given back, and is not looked for.
    """
    monkeypatch.setattr(replica, "_OWN_SECONDS", 0.1)
    backend = replicas.house.backend
    backend.waiting = [Script(start=Start.WARM)] if warm else []
    service = await replicas.house.open(AnswerLost(replicas.url, "one"))
    with pytest.raises(UnavailableError, match="the answer was lost"):
        await service.submit(submission())
    found: tuple[Execution, ...] = ()
    async with asyncio.timeout(SECONDS):
        while not (found and found[0].status.finished):
            await asyncio.sleep(0.05)
            found = (await service.page("default", ListFilter(), 10, None)).executions
    (execution,) = found
    assert (execution.status, execution.sandbox) == (Status.CANCELLED, None)
    assert [(sandbox.posts, sandbox.releases) for sandbox in backend.made.values()] == [(0, 1)] * warm


async def test_every_replica_explains_every_execution(replicas: Replicas) -> None:
    """While its sandbox is made elsewhere, and after: what it met, why it is cold, and what its sandbox waits for."""
    ready = asyncio.Event()
    replicas.house.backend.waiting = [Script(posts=[Fate.TAKEN], start=Start.WARM)]
    replicas.house.backend.script = lambda _id: Script(ready=ready)
    one, two = await replicas.open("one"), await replicas.open("two")
    execution = await one.submit(submission())
    replicas.house.backend.obstacles[f"x-{execution.id.lower()}"] = "pending for 41 s: Insufficient memory"
    while not (await two.get("default", execution.id)).cold_reason:  # noqa: ASYNC110 - told by the database only
        await asyncio.sleep(0.02)
    found = await two.explain("default", execution.id)
    assert "its sandbox has been sought or made" in found.summary
    cold, refused, pending, *_ = found.sentences
    assert cold == "A sandbox is being made for it, because nothing waits."
    assert "after it was accepted, sandbox p-0 had taken another call, or was retired" in refused
    assert pending == "Its sandbox is pending for 41 s: Insufficient memory."
    ready.set()
    for service in (two, one):  # the store has the end before its driver hears of that
        await service.wait(execution.id, SECONDS)
    explained = [await service.explain("default", execution.id) for service in (one, two)]
    assert explained[0] == explained[1]
    assert refused in explained[1].sentences
    assert pending not in explained[1].sentences


async def test_a_cancel_reaches_the_replica_that_drives(replicas: Replicas) -> None:
    """The call is ended by its own report, once, and every replica says cancelled."""
    replicas.house.backend.script = lambda _id: Script(frames=[stdout(b"x"), asyncio.Event()])
    one, two = await replicas.open("one"), await replicas.open("two")
    execution = await one.submit(submission())
    await running(two, execution)
    asked = await two.cancel("default", execution.id)
    assert asked.cancel_requested
    ended = [await service.wait(execution.id, SECONDS) for service in (one, two)]
    assert [found.status for found in ended] == [Status.CANCELLED] * 2
    assert replicas.house.sandbox(execution).cancels == 1
    assert await two.cancel("default", execution.id) == ended[1]


async def test_one_key_is_one_run_whichever_replicas_are_asked(replicas: Replicas) -> None:
    """Submitted to both at once there is one call, both clients get its end, and another body is a conflict."""
    one, two = await replicas.open("one"), await replicas.open("two")
    for number in range(20):
        key = submission(key=f"k{number}")
        accepted = await asyncio.gather(one.submit(key), two.submit(key))
        ended = await asyncio.gather(*(s.wait(e.id, SECONDS) for s, e in zip((one, two), accepted, strict=True)))
        assert ended[0] == ended[1]
        assert ended[0].status is Status.SUCCEEDED
    assert len(replicas.house.backend.made) == 20
    with pytest.raises(IdempotencyConflictError):
        await two.submit(submission(key="k0", code="other"))


async def test_a_stopping_replica_hands_over_at_once(replicas: Replicas) -> None:
    """What runs goes on where it is, what waits runs, and nobody waited for a silence."""
    gate = asyncio.Event()
    replicas.house.backend.script = lambda _id: Script(frames=[stdout(b"one"), gate, stdout(b"two")])
    one = await replicas.open("one", max_concurrency=1, **NEVER_SILENT)
    two = await replicas.open("two", **NEVER_SILENT)
    runs, waits = [await one.submit(submission()) for _ in range(2)]
    await running(one, runs)
    follow = asyncio.ensure_future(history(two, runs))
    await one.stop(0)
    gate.set()
    ended = [await two.wait(execution.id, SECONDS) for execution in (runs, waits)]
    assert [found.status for found in ended] == [Status.SUCCEEDED] * 2
    assert [len(replicas.house.sandbox(found).calls) for found in ended] == [1, 1]
    assert b"".join(event.data for event in await follow if event.kind is EventKind.STDOUT) == b"onetwo"


async def test_a_lost_replica_is_replaced_and_does_no_harm_when_it_is_back(
    replicas: Replicas, network: TcpProxy, remote: ExecutionService
) -> None:
    """Cut off, it loses its running call to another; back, it writes and releases nothing, and answers rightly."""
    gate = asyncio.Event()
    replicas.house.backend.script = lambda _id: Script(frames=[stdout(b"one"), gate, stdout(b"two")])
    execution = await remote.submit(submission())
    await running(remote, execution)
    follow = asyncio.ensure_future(history(remote, execution))
    other = await replicas.open("other", **SILENT)
    sandbox = replicas.house.sandbox(execution)
    network.cut(refuse=True)
    await until(lambda: sandbox.connections == 2)
    network.restore()
    gate.set()
    ended = await other.wait(execution.id, SECONDS)
    assert await remote.wait(execution.id, SECONDS) == ended
    events = await follow
    await other.stop(5)
    await remote.stop(5)
    assert (ended.status, len(sandbox.calls), sandbox.releases) == (Status.SUCCEEDED, 1, 1)
    assert b"".join(event.data for event in events if event.kind is EventKind.STDOUT) == b"onetwo"


async def test_a_call_that_was_not_sent_runs_at_another_replica_only(
    replicas: Replicas, network: TcpProxy, remote: ExecutionService
) -> None:
    """A sandbox that waited and was about to get the call is given back by the one that lost the call."""
    ready = asyncio.Event()
    replicas.house.backend.waiting = [Script(ready=ready, start=Start.WARM)]
    execution = await remote.submit(submission())
    await until(lambda: "p-0" in replicas.house.backend.made)
    other = await replicas.open("other", **SILENT)
    network.cut(refuse=True)
    ended = await other.wait(execution.id, SECONDS)
    network.restore()
    ready.set()
    warm = replicas.house.backend.made["p-0"]
    assert await remote.wait(execution.id, SECONDS) == ended
    await until(lambda: warm.releases == 1)
    assert (ended.status, ended.start, warm.posts) == (Status.SUCCEEDED, Start.COLD, 0)
    assert len(replicas.house.sandbox(execution).calls) == 1


async def test_a_restart_of_the_database_loses_nothing(replicas: Replicas, postgres: PostgresServer) -> None:
    """What runs, what is submitted meanwhile and who waits elsewhere: nobody sees an error."""
    gate = asyncio.Event()
    replicas.house.backend.script = lambda _id: Script(frames=[stdout(b"one"), gate, stdout(b"two")])
    one, two = await replicas.open("one"), await replicas.open("two")
    execution = await one.submit(submission())
    await running(two, execution)
    wait = asyncio.ensure_future(two.wait(execution.id, SECONDS))
    restart = asyncio.ensure_future(asyncio.to_thread(postgres.control, "restart", "-m", "immediate"))
    during = await one.submit(submission())
    await restart
    gate.set()
    ended = [await wait, await two.wait(during.id, SECONDS)]
    assert [found.status for found in ended] == [Status.SUCCEEDED] * 2
    assert [len(replicas.house.sandbox(found).calls) for found in ended] == [1, 1]
    assert (await two.output(execution.id)).stdout == b"onetwo"


async def test_garbage_is_what_no_replica_wants(replicas: Replicas) -> None:
    """One replica's housekeeping deletes what nobody knows, and leaves alone what another one drives."""
    replicas.house.backend.script = lambda _id: Script(frames=[stdout(b"x"), asyncio.Event()])
    one = await replicas.open("one")
    execution = await one.submit(submission())
    await running(one, execution)
    replicas.house.backend.sandboxes["x-unknown"] = ScriptedSandbox("x-unknown", Script())
    await replicas.open("two", housekeeping_seconds=0.05)
    assert await asyncio.wait_for(replicas.house.backend.deleted.get(), SECONDS) == "x-unknown"
    assert not replicas.house.sandbox(execution).dead
