"""A service that was killed: its successor settles every accepted execution truthfully, and nothing runs twice.

What the dead service left is written to the store as records, or taken from the disk of one that was running.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from support.house import House, history, submission
from support.reports import report
from support.scripted import Script, ScriptedSandbox, stderr, stdout

from executor_api.backends.base import LastWords
from executor_api.domain.execution import Event, EventKind, Execution, SandboxDetails
from executor_api.domain.outcome import Evidence, Reason, Status
from executor_api.domain.request import ExecutionRequest
from executor_api.domain.template import Template
from executor_api.errors import UnavailableError
from executor_api.service.clock import new_ulid
from executor_api.service.sqlite_store import SqliteStore

FRAMES = [stdout(b"one"), stderr(b"two"), stdout(b"three" * 5)]
OUTPUT = (b"one" + b"three" * 5, b"two")
DISPATCHED = {"status": Status.STARTING, "dispatched": True}


async def left(house: House, *events: Event, **fields: Any) -> Execution:
    """Write an unfinished execution to the store, as a killed service would have left it."""
    execution_id = new_ulid(time.time())
    sandbox = SandboxDetails(name=f"x-{execution_id.lower()}", backend="scripted")
    base = {"tenant": "default", "status": Status.QUEUED, "created_at": time.time(), "timeout_seconds": 60.0}
    request = ExecutionRequest(code="print(1)")
    record = Execution(**{"id": execution_id, "request": request, "template_digest": "d", "sandbox": sandbox, **base})
    store = SqliteStore(house.data_dir / "executions.sqlite3")
    await store.open()
    await store.create(record)
    await store.close()
    return await changed(house, record, *events, **fields)


async def changed(house: House, record: Execution, *events: Event, **fields: Any) -> Execution:
    """The same with other fields, in the store too."""
    found = Execution(**{name: getattr(record, name) for name in Execution.__slots__} | fields)
    store = SqliteStore(house.data_dir / "executions.sqlite3")
    await store.open()
    await store.save(found, events)
    await store.close()
    return found


def stands(house: House, execution: Execution, script: Script, *, has_call: bool = True) -> ScriptedSandbox:
    """Put a sandbox there that outlived the service, with the call or still waiting for it."""
    name = execution.sandbox.name
    sandbox = house.backend.sandboxes[name] = house.backend.made[name] = ScriptedSandbox(name, script)
    if has_call:
        sandbox.accept({"execution_id": execution.id})
    return sandbox


async def settled(house: House, execution: Execution, **options: Any) -> tuple[Execution, object]:
    """Start a service, and return the record once it is finished, with its output."""
    service = await house.open(**options)
    finished = await service.wait(execution.id, 60)
    return finished, await service.output(execution.id)


async def test_what_waited_runs_in_order_even_if_the_queue_is_shorter_now(house: House) -> None:
    """Accepted is accepted: executions that were queued run one after another, oldest first."""
    executions = [await left(house) for _ in range(4)]
    service = await house.open(max_concurrency=1, max_queue=0)
    ended = [await service.wait(e.id, 60) for e in executions]
    assert [e.status for e in ended] == [Status.SUCCEEDED] * 4
    assert list(house.backend.made) == [e.sandbox.name for e in executions]


@pytest.mark.parametrize("fields", [{}, {"status": Status.STARTING}], ids=["queued", "starting"])
async def test_a_sandbox_that_exists_already_is_used(house: House, fields: dict[str, Any]) -> None:
    """A crash after the sandbox was asked for makes no second one."""
    execution = await left(house, **fields)
    sandbox = stands(house, execution, Script(frames=FRAMES), has_call=False)
    finished, output = await settled(house, execution)
    assert (finished.status, (output.stdout, output.stderr)) == (Status.SUCCEEDED, OUTPUT)
    assert (house.backend.made, len(sandbox.calls)) == ({sandbox.name: sandbox}, 1)


@pytest.mark.parametrize("has_call", [True, False], ids=["arrived", "never sent"])
async def test_a_dispatch_that_was_only_recorded_is_left_to_the_runner(house: House, *, has_call: bool) -> None:
    """Nothing of the journal is stored: the call is sent again, and the runner takes it only if it is the first."""
    execution = await left(house, **DISPATCHED)
    sandbox = stands(house, execution, Script(frames=FRAMES), has_call=has_call)
    finished, output = await settled(house, execution)
    assert (finished.status, (output.stdout, output.stderr)) == (Status.SUCCEEDED, OUTPUT)
    assert len(sandbox.calls) == 1


async def test_a_running_call_goes_on_where_its_stored_output_ends(house: House) -> None:
    """Killed with any number of events on disk, the whole output is there, and one event more, of the restart."""
    for place in range(len(FRAMES) + 1):
        gate = asyncio.Event()
        frames = [*FRAMES[:place], gate, *FRAMES[place:]]
        house.backend.script = lambda _id, frames=frames: Script(frames=frames)
        service = await house.open()
        execution = await service.submit(submission())
        before = await house.events_on_disk(execution, 3 + place)
        await house.crash(service)
        service = await house.open()
        gate.set()
        execution = await service.wait(execution.id, 60)
        events = await history(service, execution)
        assert events[: len(before)] == before
        assert [event.number for event in events] == list(range(1, 9))
        output = await service.output(execution.id)
        assert (execution.status, (output.stdout, output.stderr)) == (Status.SUCCEEDED, OUTPUT)
        assert len(house.sandbox(execution).calls) == 1
        await service.stop(5)


async def test_stored_output_survives_sandbox_and_service(house: House) -> None:
    """Both gone: the call is lost, and the answer has what was stored of it."""
    printed = Event(1, EventKind.STDOUT, b"so far", 30)
    execution = await left(house, printed, **DISPATCHED | {"status": Status.RUNNING})
    finished, output = await settled(house, execution)
    assert (finished.status, finished.outcome.reason) == (Status.FAILED, Reason.SANDBOX_LOST)
    assert (output.stdout, finished.outcome.stdout_bytes, finished.result_source) == (b"so far", 6, "evidence")
    assert house.backend.made == {}


@pytest.mark.parametrize("evidence", [None, Evidence(Reason.PREEMPTED, "its queue took its place back")])
@pytest.mark.parametrize("pooled", [True, False])
async def test_a_call_does_not_go_to_a_pod_that_took_the_place_of_its_own(
    house: House, evidence: Evidence | None, *, pooled: bool
) -> None:
    """A Job can come to have a second pod: a call that may have run in the first is not run again, and told why.

    A sandbox that came from the pool is let be: its second pod may have somebody else's call by now.
    """
    own = await left(house)
    name = "p-of-the-pool" if pooled else f"x-{own.id.lower()}"
    before = SandboxDetails(name=name, backend="scripted", pod_uid="first")
    execution = await changed(house, own, **DISPATCHED, sandbox=before)
    sandbox = stands(house, execution, Script(frames=FRAMES, evidence=evidence), has_call=False)
    sandbox.pod_uid = "second"
    finished, _ = await settled(house, execution)
    expected = Reason.SANDBOX_LOST if evidence is None else evidence.reason
    assert (finished.status, finished.outcome.reason) == (Status.FAILED, expected)
    assert (sandbox.calls, sandbox.releases) == ([], 0 if pooled else 1)
    assert finished.sandbox == before


async def test_a_sandbox_that_ended_meanwhile_tells_its_last_words(house: House) -> None:
    """The call finished while no service ran: its report is the result, and nothing is sent to a dead runner."""
    execution = await left(house, Event(1, EventKind.STDOUT, b"one", 30), **DISPATCHED)
    told = report(execution.id, stdout_bytes=3, exit_code=7)
    words = LastWords(Evidence(Reason.SANDBOX_LOST, "gone"), report=told, source="status")
    sandbox = stands(house, execution, Script(last_words=words))
    sandbox.vanish()
    finished, output = await settled(house, execution)
    assert (finished.outcome.reason, finished.outcome.exit_code) == (Reason.EXIT_CODE, 7)
    assert (output.stdout, finished.outcome.stdout_dropped_bytes) == (b"one", 0)
    assert (finished.result_source, sandbox.posts) == ("status", 0)


async def test_a_backend_that_is_back_late_is_waited_for(house: House) -> None:
    """The place can't be asked at first: the call that ran there still settles with its real result."""
    execution = await left(house, **DISPATCHED)
    stands(house, execution, Script(frames=FRAMES))
    house.backend.find_errors = [UnavailableError("the API server is away")] * 3
    finished, output = await settled(house, execution)
    assert (finished.status, (output.stdout, output.stderr)) == (Status.SUCCEEDED, OUTPUT)


@pytest.mark.parametrize("fields", [{}, {"status": Status.STARTING}], ids=["queued", "starting"])
async def test_a_cancel_that_was_recorded_keeps_a_call_from_running(house: House, fields: dict[str, Any]) -> None:
    """Nothing starts, and a sandbox that was made for it is given back."""
    execution = await left(house, cancel_requested=True, **fields)
    sandbox = stands(house, execution, Script(), has_call=False)
    finished, _ = await settled(house, execution)
    await house.services[-1].stop(5)
    assert finished.status is Status.CANCELLED
    assert (sandbox.calls, sandbox.dead) == ([], True)


async def test_a_cancel_that_was_recorded_ends_a_running_call(house: House) -> None:
    """The runner is asked by the successor."""
    execution = await left(house, cancel_requested=True, **DISPATCHED)
    sandbox = stands(house, execution, Script(frames=[stdout(b"x"), asyncio.Event()]))
    finished, output = await settled(house, execution)
    assert (finished.status, finished.result_source, output.stdout) == (Status.CANCELLED, "http", b"x")
    assert sandbox.posts == 0


async def test_a_template_that_no_longer_accepts_fails_only_what_never_ran(house: House) -> None:
    """Without its template a queued call is refused with the reason; one that runs is collected all the same."""
    queued, running = await left(house), await left(house, **DISPATCHED)
    stands(house, running, Script(frames=FRAMES))
    templates = {"other": Template(name="other")}
    refused, _ = await settled(house, queued, templates=templates)
    assert refused.outcome.reason is Reason.REJECTED_TEMPLATE
    assert (await house.services[-1].wait(running.id, 60)).status is Status.SUCCEEDED


async def test_stopping_leaves_what_runs_to_the_next_start(house: House) -> None:
    """A stop whose grace is over gives up no call: output is stored to the last byte, and the successor goes on."""
    gate = asyncio.Event()
    house.backend.script = lambda _id: Script(frames=[stdout(b"one"), gate, stdout(b"two")])
    service = await house.open()
    execution = await service.submit(submission())
    async for event in service.events("default", execution.id):
        if event.kind is EventKind.STDOUT:
            break
    await service.stop(0)
    assert [event.data for event in await house.events_on_disk(execution, 4)][-1] == b"one"
    gate.set()
    finished, output = await settled(house, execution)
    assert (finished.status, output.stdout) == (Status.SUCCEEDED, b"onetwo")
