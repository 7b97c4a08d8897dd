"""One execution on its way through one sandbox: launched, collected, settled, released."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog

from executor_api.backends.base import NotTakenError, Sandbox, SandboxFailedError, SandboxTimings
from executor_api.domain.outcome import Evidence, Reason, leaked, leaves_nothing
from executor_api.domain.passage import Point
from executor_api.domain.runner_call import runner_call
from executor_api.errors import ExecutorError, UnavailableError
from executor_api.service.cancelling import Cancelling
from executor_api.service.clock import backoff
from executor_api.service.collect import Journal
from executor_api.service.ending import Ending, from_journal, from_last_words, without_report
from executor_api.service.launch import Launch
from executor_api.service.live import NotRecordedError
from executor_api.service.patience import OutOfPatienceError
from executor_api.service.store import TakenOverError
from executor_api.service.timeline import merged
from executor_api.service.workplace import COLLECT_SLACK, Assignment, Workplace
from executor_runner.protocol.frames import encode_json
from executor_runner.protocol.shapes import Cause, Report

_ANSWER_TO_CANCEL = 1.0
"""Seconds a client that cancels is held for the runner's having heard it."""
_MOST_GRACE = 60.0
"""The longest grace a template can have, for a call whose template is not known any more."""
_STORE_SECONDS = 30.0
"""How long a store that refuses an outcome is asked again."""
_LATER = 0.25
"""Seconds from an outcome to its metrics and log lines, at most: the answers of a burst would wait for them."""

_log = structlog.get_logger(__name__)


class Drive:
    """Owns an execution from its acceptance to the release of its sandbox."""

    def __init__(self, assignment: Assignment, workplace: Workplace, on_settled: Callable[[Drive], None]) -> None:
        self.live = assignment.live
        self.timeline = assignment.timeline
        self._assignment = assignment
        self._workplace = workplace
        self._on_settled = on_settled
        self._launch = Launch(assignment, workplace)
        self._trace = workplace.tracing.context(assignment.live.record)
        self._journal: Journal | None = None
        self._seconds_to_report = self._grace() + COLLECT_SLACK
        self._cancelling = Cancelling(assignment.live.record.id, assignment.patience, self._seconds_to_report)
        self._sound = False  # the sandbox can serve another call
        self._task: asyncio.Task[Any] | None = None
        self._lost = False
        self._counting: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Drive to the end. Whatever fails in us, the execution gets an outcome; cancelling leaves it for a restart.

        One that another replica has taken over, or that could not be recorded, is let be.
        """
        self._task = asyncio.current_task()
        if self._trace is not None:
            structlog.contextvars.bind_contextvars(trace_id=self._trace.trace_id)  # in all lines of this task
        try:
            await self._to_the_end()
        except (TakenOverError, NotRecordedError) as error:
            self._lost = True
            await self._stand_aside(str(error))
        except asyncio.CancelledError:
            if not self._lost or self._task is None:
                raise
            self._task.uncancel()
            await self._stand_aside("it was lost")
        finally:
            self._count()

    def lose(self) -> None:
        """Another replica drives it now, or nobody may: stop here. Safe to call twice."""
        if self._task is not None and not self._lost:
            self._lost = True
            self.live.part()
            self._task.cancel()

    async def _to_the_end(self) -> None:
        try:
            await self._settle(await self._ending())
        except (TakenOverError, NotRecordedError):
            raise
        except Exception as error:  # noqa: BLE001 - the one supervisor of this task
            await self._settle_our_failure(error)
        finally:
            self._leave()
        await self._release()

    async def cancel(self) -> None:
        """Record that the client wants it to end, and see to it; the drive settles what comes of it.

        Raises `UnavailableError` if that can't be recorded now: then nothing has changed.
        """
        if self.live.record.cancel_requested or self.live.record.status.finished:
            return
        self.live.change(cancel_requested=True)
        try:
            await self.live.flush()
        except UnavailableError:
            self.live.change(cancel_requested=False)
            raise
        if not self.live.record.dispatched:
            self._assignment.patience.shorten(0)
        elif self._launch.sandbox is not None and not self.live.record.status.finished:
            await asyncio.wait({self._cancelling.ask(self._launch.sandbox)}, timeout=_ANSWER_TO_CANCEL)

    async def _ending(self) -> Ending:
        try:
            return await self._driven()
        finally:
            # Before the outcome can be seen: whoever sees it may call again and must find the slot free.
            self._workplace.admission.leave(self._assignment.ticket)

    async def _driven(self) -> Ending:
        try:
            return await self._served()
        except SandboxFailedError as failure:
            return without_report(self.live, failure.evidence)

    async def _served(self) -> Ending:
        """By the first sandbox that takes the call. Raises `SandboxFailedError`."""
        known = self.live.record.dispatched
        sandbox = await (self._launch.found() if known else self._launch.dispatchable())
        while True:
            try:
                return await self._ended_in(sandbox)
            except NotTakenError as error:
                _log.info("a sandbox did not take the call", execution=self.live.record.id, error=str(error))
                sandbox = await self._launch.another(error.why)

    async def _ended_in(self, sandbox: Sandbox) -> Ending:
        """Raises `NotTakenError`."""
        report = await self._collected(sandbox)
        if report is None:
            return await from_last_words(self.live, sandbox)
        self._sound = leaves_nothing(report) and report["cause"] != Cause.TERMINATED
        return await from_journal(sandbox, report)

    async def _collected(self, sandbox: Sandbox) -> Report | None:
        """The report out of the journal, or None if there is only what the sandbox left behind."""
        if self._assignment.recovered and not await sandbox.alive():
            return None
        journal = Journal(self.live, sandbox, self._call(sandbox), self.timeline, self._workplace.clock)
        self._journal = journal
        if self.live.record.cancel_requested:
            self._cancelling.ask(sandbox)
        try:
            async with self._assignment.patience.within(self.live.record.timeout_seconds + self._seconds_to_report):
                return await journal.report(self._workplace.metrics)
        except OutOfPatienceError:
            return None

    def _call(self, sandbox: Sandbox) -> bytes | None:
        """The call to send; None if it must not be sent (again): then a runner without it has nothing to tell."""
        record, plan = self.live.record, self._assignment.plan
        if plan is None or record.cancel_requested:
            return None
        trace = self._trace.environment() if self._trace is not None else {}
        return encode_json(runner_call(plan, record.id, record.tenant, sandbox.follows, trace))

    def _grace(self) -> float:
        plan = self._assignment.plan
        return plan.template.grace_seconds if plan is not None else _MOST_GRACE

    async def _settle(self, ending: Ending) -> None:
        sandbox, now, timeline = self._launch.sandbox, self._workplace.clock.now(), self.timeline
        timeline.mark(Point.SETTLED)
        recovered, created_at = self._assignment.recovered, self.live.record.created_at
        total = (now - created_at) * 1000 if recovered else timeline.between(Point.ARRIVED, Point.SETTLED)
        phases = sandbox.timings if sandbox is not None else SandboxTimings()
        await self._finish(
            status=ending.outcome.status,
            outcome=ending.outcome,
            started_at=self._started(ending.report),
            finished_at=now,
            result_source=ending.source,
            sandbox=sandbox.details if sandbox is not None else self.live.record.sandbox,
            timings=merged(self.live.record.timings, timeline.timings(phases, ending.report, total)),
            passed=(),
        )

    def _started(self, report: Report | None) -> float | None:
        heard, began = self.live.record.started_at, self.timeline.began(report)
        return heard if heard is None or began is None else min(heard, began)

    def _ended(self) -> None:
        """The outcome is there: from now on this is history, for those who are about to hear of it, too."""
        self.timeline.mark(Point.FINISHED)
        self._on_settled(self)
        self._counting = asyncio.get_running_loop().call_later(_LATER, self._count)

    async def _finish(self, **fields: Any) -> None:
        """Store the outcome; if the store refuses for long, tell it at least to those who wait now."""
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                for delay in backoff():
                    if await self._stored(fields):
                        return
                    await asyncio.sleep(delay)
        except TimeoutError:
            if not self.live.record.status.finished:
                _log.error("an outcome is in memory only", execution=self.live.record.id)
                self.live.abandon(self._ended, **fields)

    async def _stored(self, fields: Mapping[str, Any]) -> bool:
        try:
            await self.live.finish(self._ended, **fields)
        except UnavailableError as error:
            _log.warning("an outcome could not be stored yet", execution=self.live.record.id, error=str(error))
            return False
        return True

    async def _settle_our_failure(self, error: Exception) -> None:
        _log.error("an execution failed inside the service", execution=self.live.record.id, exc_info=error)
        if self.live.record.status.finished:
            return
        why = f": {error}" if isinstance(error, ExecutorError) else ""
        lost = Evidence(Reason.SANDBOX_LOST, f"internal error of the service: {type(error).__name__}{why}")
        ending = without_report(self.live, lost)
        try:
            await self._settle(ending)
        except (TakenOverError, NotRecordedError):
            raise
        except Exception:  # noqa: BLE001 - settling itself may be what fails, and nobody shall wait for ever
            _log.exception("an outcome is in memory only", execution=self.live.record.id)
            now = self._workplace.clock.now()
            self.live.abandon(
                self._ended,
                status=ending.outcome.status,
                outcome=ending.outcome,
                finished_at=now,
                result_source=ending.source,
            )

    def _leave(self) -> None:
        self._cancelling.stop()
        if self.live.parted and not self.live.record.status.finished:
            self._on_settled(self)

    async def _stand_aside(self, why: str) -> None:
        """Leave the sandbox to whoever drives it now, unless it got no call: then nobody else knows of it."""
        _log.warning("an execution is not driven here any more", execution=self.live.record.id, why=why)
        sandbox = self._launch.sandbox
        if self._journal is not None:
            await self._journal.close()
        if sandbox is None or sandbox.details.name == self._assignment.own_sandbox:
            return
        with suppress(UnavailableError):
            stored = await self.live.stored()
            if stored is None or stored.sandbox is None or stored.sandbox.name != sandbox.details.name:
                await sandbox.release()

    def _count(self) -> None:
        """Once, of what has ended."""
        record, counting, self._counting = self.live.record, self._counting, None
        if counting is None:
            return
        counting.cancel()
        if record.result_source is not None:
            self._workplace.metrics.finished(record)
            self._workplace.metrics.result_source(record.result_source)
            self._workplace.audit.ended(record, self._assignment.plan, stored=self.live.is_stored)
            self._workplace.tracing.ended(record, self.timeline.passed)

    async def _release(self) -> None:
        """Give the sandbox back, unless the store lacks the outcome: then a restart finds the truth in it."""
        if self._journal is not None:
            await self._journal.close()
        if not self.live.is_stored:
            return
        sandbox = self._launch.sandbox
        try:
            if sandbox is None and self._launch.may_exist:
                sandbox = await self._workplace.backend.find(self._assignment.sandbox_name, self.live.record.id)
        except UnavailableError:
            return  # nobody wants it any more: it is garbage, and collected as such
        if sandbox is not None:
            outcome = self.live.record.outcome
            await sandbox.release(sound=self._sound, leaky=outcome is not None and leaked(outcome.gpu))
