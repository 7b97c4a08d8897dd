"""Sandboxes that die in the middle of a call: what they leave behind is read, and success is never guessed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from support.house import House, ended, submission
from support.reports import report
from support.scripted import LOST, Script, log_copy, stderr, stdout

from executor_api.backends.base import LastWords
from executor_api.domain.outcome import Evidence, Reason, Status
from executor_runner.protocol.frames import FrameKind, Stream, encode_json
from executor_runner.protocol.shapes import Cause

FRAMES = [stdout(b"one\n"), stderr(b"two\n"), stdout(b"three\n")]
LOG = log_copy((FrameKind.STDOUT, b"one\n"), (FrameKind.STDERR, b"two\n"), (FrameKind.STDOUT, b"three\n"))
BYTES = {"stdout_bytes": 10, "stderr_bytes": 4}


def dying(dies_at: int, **words: Any) -> Callable[[str], Script]:
    """Gone at an offset, leaving these last words; a report among them is about the execution that ran."""

    def script(execution_id: str) -> Script:
        told = words.get("report")
        filled = {"evidence": LOST, **words, "report": report(execution_id, **told) if told else None}
        return Script(frames=FRAMES, dies_at=dies_at, last_words=LastWords(**filled))

    return script


async def test_wherever_it_dies_the_log_completes_the_output(house: House) -> None:
    """At every offset of death, journal and log together give each stream exactly once, and the status its report."""
    service = await house.open(max_concurrency=200)
    scripts = iter([dying(offset, report=BYTES, log=LOG, source="status") for offset in range(90)])

    def script(execution_id: str) -> Script:
        return next(scripts)(execution_id)

    house.backend.script = script
    for execution in await asyncio.gather(*(ended(service, submission()) for _ in range(90))):
        output = await service.output(execution.id)
        assert (output.stdout, output.stderr) == (b"one\nthree\n", b"two\n")
        assert (output.stdout_gap, output.stderr_gap) == (None, None)
        assert (execution.status, execution.result_source) == (Status.SUCCEEDED, "status")


async def test_output_that_no_copy_has_is_counted_as_dropped(house: House) -> None:
    """With the report but no log, the missing bytes of each stream are a gap at its end, to the byte."""
    house.backend.script = dying(
        40, report={**BYTES, "stdout_bytes": 1000, "stdout_dropped_bytes": 300}, source="status"
    )
    service = await house.open()
    execution = await ended(service, submission(artifacts=["*.txt"]))
    output, outcome = await service.output(execution.id), execution.outcome
    have = len(output.stdout)
    assert output.stdout_gap == (have, 700 - have)
    assert outcome.stdout_dropped_bytes == 1000 - have
    assert outcome.stderr_dropped_bytes + len(output.stderr) == 4
    assert any("artifacts" in line for line in outcome.artifacts_skipped)


async def test_a_gap_that_only_the_log_tells_is_kept_in_place(house: House) -> None:
    """Dropped bytes in the log's copy come where the runner dropped them."""
    gap = encode_json({"stream": int(Stream.STDOUT), "dropped_bytes": 7})
    log = log_copy((FrameKind.STDOUT, b"one\n"), (FrameKind.GAP, gap), (FrameKind.STDOUT, b"end"))
    house.backend.script = dying(0, report={"stdout_bytes": 14, "stdout_dropped_bytes": 7}, log=log, source="log")
    service = await house.open()
    execution = await ended(service, submission())
    output = await service.output(execution.id)
    assert (output.stdout, output.stdout_gap, output.stderr_gap) == (b"one\nend", (4, 7), None)


async def test_a_log_that_does_not_begin_with_what_we_have_is_not_mixed_in(house: House) -> None:
    """A rotated log can't be told from old output: the stream keeps what came by the journal."""
    log = log_copy((FrameKind.STDOUT, b"middle of something\n"))
    house.backend.script = dying(36, log=log)
    service = await house.open()
    execution = await ended(service, submission())
    assert (await service.output(execution.id)).stdout == b"one\n"


async def test_without_a_report_the_evidence_decides(house: House) -> None:
    """No report means a failure with the backend's reason, with the output that came until then."""
    for reason in (Reason.EVICTED, Reason.PREEMPTED, Reason.OUT_OF_MEMORY, Reason.SANDBOX_LOST):
        house.backend.script = dying(80, evidence=Evidence(reason, "why"), log=LOG)
        service = await house.open()
        execution = await ended(service, submission())
        assert (execution.status, execution.outcome.reason) == (Status.FAILED, reason)
        assert (execution.outcome.message, execution.result_source) == ("why", "evidence")
        assert (execution.outcome.stdout_bytes, execution.outcome.stderr_bytes) == (10, 4)
        await service.stop(1)


async def test_last_words_about_another_execution_are_no_report(house: House) -> None:
    """A sealed success of somebody else's call settles nothing here."""
    words = LastWords(LOST, report=report("somebody else"), source="status")
    house.backend.script = lambda _id: Script(dies_at=0, last_words=words)
    execution = await ended(await house.open(), submission())
    assert execution.outcome.reason is Reason.SANDBOX_LOST


async def test_a_runner_told_to_leave_is_explained_by_the_backend(house: House) -> None:
    """A report that somebody outside ended the call takes its reason from the evidence, or says that there is none."""
    service = await house.open()
    for evidence, reason in ((Evidence(Reason.EVICTED, "disk"), Reason.EVICTED), (None, Reason.SANDBOX_LOST)):
        script = Script(report={"cause": Cause.TERMINATED, "exit_code": None}, evidence=evidence)
        house.backend.script = lambda _id, script=script: script
        execution = await ended(service, submission())
        assert (execution.status, execution.outcome.reason) == (Status.FAILED, reason)
