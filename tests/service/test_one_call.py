"""One call from submission to release, with nothing going wrong."""

from __future__ import annotations

import base64
import json

from support.house import House, ended, history, submission
from support.scripted import Script, artifact, gap, stderr, stdout

from executor_api.domain.execution import EventKind, Start
from executor_api.domain.outcome import Reason, Status
from executor_runner.protocol.frames import Stream

FRAMES = [
    stdout(b"head "),
    stderr(b"oops\n"),
    gap(Stream.STDOUT, 100),
    stdout(b"tail"),
    artifact("out/a.bin", b"\x00\xff"),
]


async def test_a_call_runs_and_its_record_tells_all(house: House) -> None:
    """Output, artifacts, gap, timings, sandbox and outcome of a plain call are in its record and its output."""
    house.backend.script = lambda _id: Script(frames=FRAMES, report={"stdout_bytes": 109, "stdout_dropped_bytes": 100})
    service = await house.open()
    execution = await ended(service, submission(stdin="in", artifacts=["out/*"]))
    output = await service.output(execution.id)
    assert (output.stdout, output.stderr) == (b"head tail", b"oops\n")
    assert (output.stdout_gap, output.stderr_gap) == ((5, 100), None)
    assert output.artifacts == {"out/a.bin": b"\x00\xff"}
    assert (execution.status, execution.outcome.reason, execution.outcome.exit_code) == (Status.SUCCEEDED, None, 0)
    assert (execution.start, execution.result_source, execution.sandbox.node) == (Start.COLD, "http", "n1")
    timings = execution.timings
    assert (timings.create, timings.schedule, timings.start, timings.run, timings.collect) == (1.0, 2.0, 3.0, 1.5, 0.5)
    assert min(timings.queue, timings.claim, timings.total) >= 0
    overhead = service.overhead(execution.id)
    assert min(overhead.before, overhead.after) > 0
    (call,) = house.sandbox(execution).calls
    assert (call["execution_id"], base64.b64decode(call["stdin"])) == (execution.id, b"in")


async def test_what_was_answered_is_what_a_restart_finds(house: House) -> None:
    """A finished execution, its output and events are the same from memory and from a killed service's disk."""
    house.backend.script = lambda _id: Script(frames=FRAMES, report={"exit_code": 3})
    service = await house.open()
    execution = await ended(service, submission(labels={"team": "a"}))
    before = (execution, await service.output(execution.id), await history(service, execution))
    await house.crash(service)
    service = await house.open()
    found = await service.get("default", execution.id)
    assert (found, await service.output(found.id), await history(service, found)) == before
    assert (found.outcome.reason, found.outcome.exit_code) == (Reason.EXIT_CODE, 3)


async def test_events_tell_each_status_once_and_end_with_finished(house: House) -> None:
    """Numbers have no gaps, statuses come in order, and FINISHED is the last event."""
    house.backend.script = lambda _id: Script(frames=FRAMES)
    service = await house.open()
    events = await history(service, await ended(service, submission()))
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    told = [json.loads(event.data) for event in events if event.kind is EventKind.STATUS]
    assert [status["status"] for status in told] == ["queued", "starting", "running"]
    assert (told[2]["start"], told[2]["sandbox"]["node"]) == ("cold", "n1")
    assert (events[-1].kind, events[-1].data) == (EventKind.FINISHED, b"")


async def test_the_sandbox_is_released_after_the_outcome_is_stored(house: House) -> None:
    """Stopping waits for the release; the record is on disk by then."""
    service = await house.open()
    execution = await ended(service, submission())
    await service.stop(5)
    assert house.sandbox(execution).releases  # housekeeping may have found it first, which does no harm
    service = await house.open()
    assert (await service.get("default", execution.id)).status is Status.SUCCEEDED


async def test_user_text_that_is_no_unicode_is_reported_and_stored(house: House) -> None:
    """An exception's message with a lone surrogate neither breaks the report nor the store."""
    info = {"type": "ValueError", "message": "\ud800 bad", "traceback": "t"}
    house.backend.script = lambda _id: Script(report={"exit_code": 1, "exception": info})
    execution = await ended(await house.open(), submission())
    assert (execution.outcome.reason, execution.outcome.message) == (Reason.EXCEPTION, "ValueError: ? bad")
