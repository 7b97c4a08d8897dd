"""From acceptance to the moment before dispatch: a slot, a sandbox, and the record that the call may now run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from executor_api.backends.base import Claim, Miss, Sandbox, SandboxFailedError
from executor_api.domain.execution import SandboxDetails, Start
from executor_api.domain.outcome import Evidence, Reason, Status
from executor_api.domain.passage import Point
from executor_api.domain.plan import Plan
from executor_api.errors import UnavailableError
from executor_api.service.clock import backoff
from executor_api.service.patience import OutOfPatienceError
from executor_api.service.workplace import Assignment, Workplace

START_SLACK = 5.0
"""Seconds that a backend has beyond ``start_seconds`` to say itself why a sandbox does not start."""
SEARCH_SECONDS = 300.0
"""How long after a restart we try to ask for the sandbox of a call that ran, beyond the call's own timeout."""
SEARCH_PAUSE = 5.0
MOST_REFUSALS = 8
"""So many waiting sandboxes may turn out to be taken or dead before the call has one made for it."""

_STOPPED = "its service had stopped or lost track of it before it ran"
_REFUSED = f"{MOST_REFUSALS} waiting sandboxes turned out to be taken by others, or to have died"
_CANCELLED = Evidence(Reason.CANCELLED, "cancelled before it ran")
_GONE = Evidence(Reason.SANDBOX_LOST, "the service stopped while the call ran, and its sandbox is gone")
_UNKNOWN = Evidence(Reason.SANDBOX_LOST, "the service stopped while the call ran, and its sandbox can't be asked for")


class Launch:
    """Gets the sandbox of one execution. Every method raises `SandboxFailedError` if the call can't run (any more)."""

    def __init__(self, assignment: Assignment, workplace: Workplace) -> None:
        self.sandbox: Sandbox | None = None
        self.may_exist = assignment.recovered
        """Whether there may be a sandbox even where ``sandbox`` is None: making it was at least tried."""
        self._assignment = assignment
        self._live = assignment.live
        self._workplace = workplace
        self._obstacle = ""
        self._refusals = 0

    async def dispatchable(self, note: str = "") -> Sandbox:
        """Wait for a slot, make the sandbox, and commit that the call may run. ``note``: what led to it, if odd."""
        async with self._unless_cancelled(None):
            await self._assignment.ticket.granted
        self._assignment.timeline.mark(Point.ADMITTED)
        sandbox = await self._started(note)
        await self._commit(sandbox)
        return sandbox

    async def another(self, why: str) -> Sandbox:
        """A sandbox in place of one that waited and did not take the call."""
        refused, self.sandbox = self.sandbox, None
        note = f"sandbox {self._assignment.sandbox_name} {why}; another one was sought"
        self._refusals += 1
        # It may be somebody else's: from here on nothing of this execution may lead to it.
        own = SandboxDetails(name=self._assignment.own_sandbox, backend=self._workplace.backend.name)
        self._live.change(dispatched=False, sandbox=own, start=None)
        if refused is not None:
            await refused.release()
        return await self.dispatchable(note)

    async def found(self) -> Sandbox:
        """The sandbox of a call that ran when the service stopped."""
        delays = backoff(most=SEARCH_PAUSE)
        try:
            async with asyncio.timeout(self._live.record.timeout_seconds + SEARCH_SECONDS):
                while self.sandbox is None:
                    await self._search(next(delays))
        except TimeoutError:
            raise SandboxFailedError(_UNKNOWN) from None
        return self.sandbox

    async def _search(self, pause: float) -> None:
        try:
            self.sandbox = await self._workplace.backend.find(self._assignment.sandbox_name, self._live.record.id)
        except UnavailableError:
            await asyncio.sleep(pause)
            return
        if self.sandbox is None:
            raise SandboxFailedError(_GONE)
        if self._is_another(self.sandbox):
            why = await self.sandbox.evidence()
            if self.sandbox.details.name == self._assignment.own_sandbox:
                await self.sandbox.release()  # unlike one of the pool, which may have somebody else's call by now
            self.sandbox, self.may_exist = None, False
            raise SandboxFailedError(why or _GONE)

    def _is_another(self, found: Sandbox) -> bool:
        """Whether it has another pod than the one that got the call, which must not run again in this one."""
        before = self._live.record.sandbox and self._live.record.sandbox.pod_uid
        return None not in (before, found.details.pod_uid) and before != found.details.pod_uid

    async def _started(self, note: str) -> Sandbox:
        plan = self._plan()
        self._live.change(status=Status.STARTING, passed=self._assignment.timeline.passed)
        self._live.emit_status(self._workplace.clock.now(), note=note)
        self.may_exist = True
        async with self._unless_cancelled(plan.template.start_seconds + START_SLACK):
            self.sandbox = await self._obtained(plan)
            await self.sandbox.ready()
        self._assignment.timeline.mark(Point.READY)
        self._workplace.admission.placed(self._assignment.ticket)
        return self.sandbox

    def _plan(self) -> Plan:
        if self._assignment.plan is None:
            name = self._live.record.request.template
            raise SandboxFailedError(
                Evidence(Reason.REJECTED_TEMPLATE, f"since a restart, template {name!r} does not accept it any more")
            )
        return self._assignment.plan

    async def _obtained(self, plan: Plan) -> Sandbox:
        record, since = self._live.record, self._assignment.ticket.granted_at
        claim = Claim(record.id, record.tenant, plan, since)
        for delay in backoff():
            try:
                return await self._claimed(claim) or await self._made(claim)
            except UnavailableError as error:
                self._note_obstacle(f": {error}")
            await asyncio.sleep(delay)
        raise AssertionError("backoff never ends")

    async def _claimed(self, claim: Claim) -> Sandbox | None:
        if self._assignment.recovered:
            return None  # its own sandbox may have been made before the restart
        if self._refusals >= MOST_REFUSALS:
            self._goes_cold(_REFUSED)
            return None
        found = await self._workplace.backend.claim(claim)
        self._workplace.admission.claimed(self._assignment.ticket)
        if isinstance(found, Miss):
            self._goes_cold(found.reason)
            return None
        return found

    async def _made(self, claim: Claim) -> Sandbox:
        self._assignment.timeline.mark(Point.CREATING)
        await self._live.recorded()  # or a crash would lose its name
        sandbox = await self._workplace.backend.create(self._assignment.own_sandbox, claim)
        if self._assignment.recovered and sandbox.start is Start.COLD and self._live.record.cold_reason is None:
            self._goes_cold(_STOPPED)
        return sandbox

    def _goes_cold(self, reason: str) -> None:
        """Tell at once: making a sandbox may take minutes, and any replica may be asked what becomes of the call."""
        self._live.change(cold_reason=reason)
        self._live.store_soon()

    def _note_obstacle(self, obstacle: str) -> None:
        if obstacle != self._obstacle:
            self._obstacle = obstacle
            self._live.emit_status(self._workplace.clock.now(), note=f"no sandbox could be had{obstacle}")

    async def _commit(self, sandbox: Sandbox) -> None:
        timeline, metrics = self._assignment.timeline, self._workplace.metrics
        timings = timeline.timings(sandbox.timings)
        self._live.change(
            dispatched=True,
            sandbox=sandbox.details,
            start=sandbox.start,
            timings=timings,
            passed=timeline.passed,
        )
        await self._live.commit()
        self._refuse_if_cancelled()
        metrics.started(sandbox.start, (timings.queue or 0.0) / 1000)
        timeline.mark(Point.DISPATCHED)

    @asynccontextmanager
    async def _unless_cancelled(self, seconds: float | None) -> AsyncIterator[None]:
        self._refuse_if_cancelled()
        try:
            async with self._assignment.patience.within(seconds):
                yield
        except OutOfPatienceError:
            self._refuse_if_cancelled()
            raise SandboxFailedError(await self._why_late()) from None

    def _refuse_if_cancelled(self) -> None:
        if self._live.record.cancel_requested:
            raise SandboxFailedError(_CANCELLED)

    async def _why_late(self) -> Evidence:
        found = await self.sandbox.evidence() if self.sandbox is not None else None
        return found or Evidence(Reason.START_TIMEOUT, f"the sandbox did not start in time{self._obstacle}")
