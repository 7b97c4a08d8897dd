"""Faults that are ours, the backend's or the store's: every execution still ends, and the client is not lied to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from support.house import House, ended, history, submission
from support.scripted import Script, stdout

from executor_api.backends.base import SandboxFailedError
from executor_api.domain.execution import Event, EventKind, Execution
from executor_api.domain.outcome import Evidence, Reason, Status
from executor_api.domain.request import ExecutionRequest
from executor_api.domain.template import Template
from executor_api.errors import InvalidRequestError, UnavailableError
from executor_api.service.execution_service import Submission
from executor_api.service.sqlite_store import SqliteStore


class RefusingStore(SqliteStore):
    """A store whose disk is full from time to time."""

    refusals = 0

    async def save(self, execution: Execution, events: Sequence[Event] = ()) -> None:
        """Refuse as often as told, then save."""
        if self.refusals > 0:
            self.refusals -= 1
            raise UnavailableError("disk full")
        await super().save(execution, events)


class BrokenStore(SqliteStore):
    """A store that fails in a way nobody has foreseen, at every outcome."""

    async def save(self, execution: Execution, events: Sequence[Event] = ()) -> None:
        """Fail if it is an outcome."""
        if execution.status.finished:
            raise ZeroDivisionError("oops")
        await super().save(execution, events)


@asynccontextmanager
async def closing_store(house: House) -> AsyncIterator[SqliteStore]:
    """What is on the disk, while no service runs."""
    store = SqliteStore(house.data_dir / "executions.sqlite3")
    await store.open()
    yield store
    await store.close()


async def test_a_fault_in_the_backend_settles_the_execution(house: House) -> None:
    """An exception nobody expected ends as sandbox_lost that names its class; the next call is not touched."""
    service = await house.open()
    house.backend.create_errors = [ZeroDivisionError("oops")]
    lost = await ended(service, submission())
    assert (lost.status, lost.outcome.reason) == (Status.FAILED, Reason.SANDBOX_LOST)
    assert "ZeroDivisionError" in lost.outcome.message
    assert (await ended(service, submission())).status is Status.SUCCEEDED


async def test_a_sandbox_that_never_runs_is_settled_by_its_evidence(house: House) -> None:
    """Refused at creation or never ready: the evidence is the outcome, no call was sent, the sandbox is given back."""
    service = await house.open()
    failure = SandboxFailedError(Evidence(Reason.QUOTA, "exceeded quota"))
    house.backend.create_errors = [failure]
    refused = await ended(service, submission())
    house.backend.script = lambda _id: Script(ready_error=SandboxFailedError(Evidence(Reason.IMAGE_PULL, "no image")))
    stuck = await ended(service, submission())
    await service.stop(5)
    assert (refused.outcome.reason, stuck.outcome.reason) == (Reason.QUOTA, Reason.IMAGE_PULL)
    assert (house.sandbox(stuck).posts, house.sandbox(stuck).releases) == (0, 1)


async def test_a_backend_that_is_away_for_a_moment_is_asked_again(house: House) -> None:
    """An execution that was accepted waits for the place to come back."""
    house.backend.create_errors = [UnavailableError("away")] * 3
    assert (await ended(await house.open(), submission())).status is Status.SUCCEEDED


async def test_a_sandbox_that_does_not_start_in_time_fails_the_call(house: House) -> None:
    """The template's start time is a bound, and the message says what stood in the way."""
    service = await house.open(templates={"default": Template(name="default", start_seconds=0.1)})
    house.backend.script = lambda _id: Script(ready=asyncio.Event())
    slow = await service.submit(submission())
    await anext(event async for event in service.events("default", slow.id) if b"starting" in event.data)
    house.backend.create_errors = [UnavailableError("the API server is away")] * 100
    away = await service.submit(submission())
    slow, away = [await service.wait(execution.id, 60) for execution in (slow, away)]
    assert [e.outcome.reason for e in (slow, away)] == [Reason.START_TIMEOUT] * 2
    assert "the API server is away" in away.outcome.message


async def test_a_store_that_refuses_for_a_moment_delays_the_outcome_only(house: House) -> None:
    """The call's real result is stored as soon as the store takes it."""
    store = RefusingStore(house.data_dir / "executions.sqlite3")
    gate = asyncio.Event()
    house.backend.script = lambda _id: Script(frames=[stdout(b"x"), gate])
    service = await house.open(store)
    execution = await service.submit(submission())
    await house.events_on_disk(execution, 4)
    store.refusals = 3
    gate.set()
    execution = await service.wait(execution.id, 60)
    assert (execution.status, store.refusals) == (Status.SUCCEEDED, 0)
    await house.crash(service)
    assert (await (await house.open()).get("default", execution.id)) == execution


async def test_a_fault_in_settling_leaves_nobody_waiting(house: House) -> None:
    """Where even the failure can't be settled, it is told from memory; a restart settles the record for good.

    The audit log says that the store lacks what was told.
    """
    stored: list[object] = []
    service = await house.open(BrokenStore(house.data_dir / "executions.sqlite3"))
    service.audit.write = lambda _event, **fields: stored.append(fields["stored"])
    accepted = await service.submit(submission())
    events = await history(service, accepted)
    told = await service.get(accepted.tenant, accepted.id)
    assert (told.status, told.outcome.reason) == (Status.FAILED, Reason.SANDBOX_LOST)
    assert events[-1].kind is EventKind.FINISHED
    await service.stop(5)
    assert stored == [False]
    again = await house.open()
    assert (await again.wait(told.id, 60)).status.finished


async def test_a_cancel_that_cant_be_recorded_changes_nothing(house: House) -> None:
    """The client is told, and may try again."""
    store = RefusingStore(house.data_dir / "executions.sqlite3")
    house.backend.script = lambda _id: Script(frames=[stdout(b"x"), asyncio.Event()])
    service = await house.open(store)
    execution = await service.submit(submission())
    await house.events_on_disk(execution, 4)
    store.refusals = 1
    with pytest.raises(UnavailableError):
        await service.cancel("default", execution.id)
    assert not (await service.get("default", execution.id)).cancel_requested
    await service.cancel("default", execution.id)
    assert (await service.wait(execution.id, 60)).status is Status.CANCELLED


async def test_a_client_that_leaves_while_submitting_leaves_no_orphan(house: House) -> None:
    """Cancelled at any moment of its submission, an execution was either never recorded or runs to its end."""
    service = await house.open()
    for patience in range(6):
        task = asyncio.ensure_future(service.submit(submission(key=f"k{patience}")))
        for _ in range(patience):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await service.stop(5)
    async with closing_store(house) as store:
        assert await store.unfinished() == []
        for sandbox in house.backend.made.values():
            execution = await store.get(sandbox.calls[0]["execution_id"])
            assert execution.status is Status.SUCCEEDED


async def test_a_service_that_is_not_open_takes_nothing(house: House) -> None:
    """After its stop, submitting and health say so."""
    service = await house.open()
    await service.stop(1)
    assert not service.health().ready
    with pytest.raises(UnavailableError, match="stopping"):
        await service.submit(submission())


async def test_a_request_that_is_no_json_is_refused_by_name(house: House) -> None:
    """Arguments that only Python can hold are the caller's mistake, and nothing is recorded."""
    service = await house.open()
    request = ExecutionRequest(code="def f(x) -> None: ...", function="f", args=["\ud800"])
    with pytest.raises(InvalidRequestError, match="JSON"):
        await service.submit(Submission(request=request))


async def test_health_is_the_backends_once_open(house: House) -> None:
    """Problems and notes of the backend come through."""
    service = await house.open()
    assert service.health().ready
    house.backend.problems = ("no permission to create jobs; add the verb",)
    assert service.health().problems == house.backend.problems


async def test_replaced_templates_hold_for_the_next_submission(house: House) -> None:
    """A template that is gone refuses, and the error names those that exist."""
    service = await house.open()
    service.replace_templates({"other": Template(name="other")})
    assert list(service.templates()) == ["other"]
    with pytest.raises(InvalidRequestError, match="other"):
        await service.submit(submission())
