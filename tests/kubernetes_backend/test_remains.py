"""What is learned of a sandbox after its runner has gone: report, output, and who ended it."""

from __future__ import annotations

from typing import Any

import pytest
from support.reports import report

from executor_api.backends.kubernetes import remains
from executor_api.domain.outcome import Evidence, Reason
from executor_runner.protocol import podlog
from executor_runner.protocol.frames import FrameKind
from executor_runner.protocol.tokens import sandbox_token
from kubernetes_backend.fake_objects import Object
from kubernetes_backend.world import MASTER_KEY, World, claim_of, ready

TOKEN = sandbox_token(MASTER_KEY, "x-1")
LOG = b'run| {"setup_ms":1}\nout| before\n'


def _disruption(reason: str, message: str = "") -> list[Object]:
    return [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}]


async def test_report_comes_from_the_termination_message(world: World) -> None:
    """The verdict is in the pod's status, the output in its log."""
    sandbox = await ready(await world.started())
    sealed = podlog.sealed(TOKEN, report("e-x-1", stdout_bytes=7))
    world.api.logs["x-1-abcde"] = LOG + podlog.render_end(TOKEN, report("e-x-1", stdout_bytes=7))
    await world.end_pod("x-1", message=sealed.decode())
    words = await sandbox.last_words()
    assert not await sandbox.alive()
    assert (words.report, words.source) == (report("e-x-1", stdout_bytes=7), "status")
    assert words.log is not None
    assert words.log.frames == [(FrameKind.STDOUT, b"before\n")]


async def test_report_comes_from_the_log(world: World) -> None:
    """A log that has its end is a whole copy, where the termination message has only the verdict or nothing."""
    sandbox = await ready(await world.started())
    whole = report("e-x-1", value_json="[1]")
    world.api.logs["x-1-abcde"] = LOG + podlog.render_end(TOKEN, whole)
    await world.end_pod("x-1", message=podlog.sealed(TOKEN, report("e-x-1")).decode())
    words = await sandbox.last_words()
    assert (words.report, words.source) == (whole, "log")


async def test_what_the_call_before_left_in_a_reused_sandbox_is_not_this_ones(world: World) -> None:
    """A sandbox that died before it took the next call still shows the last one: neither report nor output counts."""
    sandbox = await ready(await world.started())
    before = report("another", stdout_bytes=7)
    world.api.logs["x-1-abcde"] = LOG + podlog.render_end(TOKEN, before)
    await world.end_pod("x-1", message=podlog.sealed(TOKEN, before).decode(), code=1)
    words = await sandbox.last_words()
    assert (words.report, words.log, words.source, words.holder) == (None, None, "evidence", "another")


async def test_whose_call_a_sandbox_had_shows_after_its_job_is_gone(world: World) -> None:
    """Who takes up a lost replica's call learns from the pod that was here whether it was ever in it."""
    backend = await world.started()
    await ready(backend)
    await world.end_pod("x-1", message=podlog.sealed(TOKEN, report("another")).decode())
    await world.api.objects.remove("jobs", "x-1")
    await world.api.objects.remove("pods", "x-1-abcde")
    found = await backend.find("x-1", "e-x-1")
    assert found is not None
    assert ((await found.last_words()).holder, await found.alive()) == ("another", False)


async def test_forged_report_is_none(world: World) -> None:
    """Text that user code left in the termination message or the log is no report."""
    sandbox = await ready(await world.started())
    world.api.logs["x-1-abcde"] = LOG + podlog.render_end("guess", report("e-x-1"))
    await world.end_pod("x-1", message=podlog.sealed("guess", report("e-x-1")).decode(), code=1)
    words = await sandbox.last_words()
    assert (words.report, words.source, words.evidence.reason) == (None, "evidence", Reason.SANDBOX_LOST)


async def test_out_of_memory(world: World) -> None:
    """A kill by the kernel is told as what it was, with the output the log has."""
    sandbox = await ready(await world.started())
    world.api.logs["x-1-abcde"] = LOG
    await world.end_pod("x-1", reason="OOMKilled", code=137)
    words = await sandbox.last_words()
    assert words.evidence.reason is Reason.OUT_OF_MEMORY
    assert words.log is not None
    assert words.log.frames == [(FrameKind.STDOUT, b"before\n")]


async def test_pod_that_vanished(world: World) -> None:
    """A pod deleted by force leaves its last state, and the truth that it was deleted."""
    sandbox = await ready(await world.started())
    await world.api.objects.remove("pods", "x-1-abcde")
    words = await sandbox.last_words()
    assert words.evidence == Evidence(Reason.SANDBOX_LOST, "pod x-1-abcde was deleted before the call ended")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"conditions": _disruption("EvictionByEvictionAPI", "Eviction API: evicting")}, Reason.EVICTED),
        ({"conditions": _disruption("PreemptionByScheduler")}, Reason.PREEMPTED),
        ({"conditions": _disruption("DeletionByTaintManager")}, Reason.NODE_LOST),
        ({"conditions": _disruption("TerminationByKubelet", "imminent node shutdown")}, Reason.NODE_LOST),
        ({"reason": "Evicted", "message": "The node was low on resource: memory."}, Reason.EVICTED),
        ({"reason": "Evicted", "message": "Pod ephemeral local storage usage exceeds 1Gi."}, Reason.STORAGE_LIMIT),
        ({"reason": "DeadlineExceeded"}, Reason.TIMEOUT),
        ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, Reason.SANDBOX_LOST),
    ],
)
async def test_who_ended_it(
    world: World, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], reason: Reason
) -> None:
    """The evidence names who told the sandbox to end."""
    monkeypatch.setattr(remains, "CAUSE_SECONDS", 60.0)
    sandbox = await ready(await world.started())
    await world.change_pod("x-1", **fields)
    evidence = await sandbox.evidence()
    assert evidence is not None
    assert evidence.reason is reason


async def test_deleted_job_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the Job is gone, that is why its pod ends."""
    monkeypatch.setattr(remains, "CAUSE_SECONDS", 60.0)
    sandbox = await ready(await world.started())
    await world.api.objects.remove("jobs", "x-1")
    await world.change_pod("x-1", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    evidence = await sandbox.evidence()
    assert evidence == Evidence(Reason.SANDBOX_LOST, "the sandbox's Job was deleted before the call ended")


async def test_job_deadline_is_a_timeout(world: World) -> None:
    """The outermost ring, a Job's deadline, is a timeout."""
    sandbox = await ready(await world.started())
    job = world.api.objects.get("jobs", "x-1")
    assert job is not None
    job["status"] = {"conditions": [{"type": "FailureTarget", "status": "True", "reason": "DeadlineExceeded"}]}
    await world.api.objects.remove("pods", "x-1-abcde")
    assert (await sandbox.last_words()).evidence.reason is Reason.TIMEOUT


async def test_nobody_ended_it(world: World) -> None:
    """A healthy sandbox has no evidence against it."""
    sandbox = await ready(await world.started())
    assert await sandbox.evidence() is None


async def test_kept_job_stays_for_its_ttl(world: World) -> None:
    """With delete_finished false, release lets the runner go and leaves Job and log."""
    backend = await world.started()
    sandbox = await backend.create("x-1", claim_of(delete_finished=False))
    await sandbox.ready()
    await sandbox.release()
    assert world.runners["x-1"].done.is_set()
    assert world.api.objects.get("jobs", "x-1") is not None
