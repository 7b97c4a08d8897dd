"""Idempotency keys: one key and one body is one execution, whoever asks how often and when."""

from __future__ import annotations

import asyncio

import pytest
from support.house import House, ended, submission
from support.scripted import Script, stdout

from executor_api.domain.outcome import Status
from executor_api.errors import IdempotencyConflictError, SaturatedError, UnavailableError


async def test_the_same_key_and_body_is_the_same_execution(house: House) -> None:
    """Asked at once, while it runs and after its end, there is one call, and every asker gets its end."""
    gate = asyncio.Event()
    house.backend.script = lambda _id: Script(frames=[gate, stdout(b"x")])
    service = await house.open()
    first = await asyncio.gather(*(service.submit(submission(key="k")) for _ in range(10)))
    waits = [asyncio.ensure_future(service.wait(execution.id, 60)) for execution in first]
    late = await service.submit(submission(key="k"))
    gate.set()
    ended = await asyncio.gather(*waits)
    after = await service.submit(submission(key="k"))
    assert {execution.id for execution in [*first, late, *ended, after]} == {after.id}
    assert (after.status, len(house.backend.made)) == (Status.SUCCEEDED, 1)


async def test_another_body_is_a_conflict_and_another_tenant_is_not(house: House) -> None:
    """A key stands for one body, within one tenant."""
    service = await house.open()
    first = await ended(service, submission(key="k"))
    with pytest.raises(IdempotencyConflictError):
        await service.submit(submission(key="k", code="print(2)"))
    other = await service.submit(submission(key="k", tenant="b", code="print(2)"))
    assert other.id != first.id


async def test_the_order_of_members_makes_no_other_body(house: House) -> None:
    """A client that builds its JSON anew for a retry may write its members in another order."""
    service = await house.open()
    first = await ended(service, submission(key="k", env={"A": "1", "B": "2"}))
    assert (await service.submit(submission(key="k", env={"B": "2", "A": "1"}))).id == first.id


async def test_a_replay_is_answered_while_nothing_new_is_taken(house: House) -> None:
    """A full queue or a backend that is away refuses new work only; a conflict is still a conflict."""
    service = await house.open(max_concurrency=1, max_queue=0)
    finished = await ended(service, submission(key="old"))
    house.backend.script = lambda _id: Script(frames=[asyncio.Event()])
    running = await service.submit(submission(key="now"))
    for refusal, problems in ((SaturatedError, ()), (UnavailableError, ("the API server is away",))):
        house.backend.problems = problems
        assert (await service.submit(submission(key="old"))).id == finished.id
        assert (await service.submit(submission(key="now"))).id == running.id
        with pytest.raises(IdempotencyConflictError):
            await service.submit(submission(key="old", code="other"))
        with pytest.raises(refusal):
            await service.submit(submission(key="new"))


async def test_a_refused_key_can_be_used_later(house: House) -> None:
    """A refusal records nothing under the key."""
    service = await house.open()
    house.backend.problems = ("away",)
    with pytest.raises(UnavailableError, match="away"):
        await service.submit(submission(key="k"))
    house.backend.problems = ()
    execution = await service.submit(submission(key="k"))
    assert (await service.wait(execution.id, 60)).status is Status.SUCCEEDED
