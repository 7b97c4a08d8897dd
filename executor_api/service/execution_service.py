"""The service: accepts executions, drives each to its outcome, answers for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import replace
from enum import Enum
from typing import Any, TypeVar

import structlog

from executor_api.backends.base import Backend, Health
from executor_api.domain.caller import Origin
from executor_api.domain.execution import Event, Execution, Output
from executor_api.domain.explain import Explanation, Surroundings, explain
from executor_api.domain.history import steps
from executor_api.domain.outcome import Status
from executor_api.domain.passage import Point
from executor_api.domain.plan import Plan, plan
from executor_api.domain.pool import PoolStatus, Share
from executor_api.domain.template import Template
from executor_api.domain.tenant import Tenants
from executor_api.errors import NotFoundError, UnavailableError
from executor_api.service.admission import Admission
from executor_api.service.audit import Audit
from executor_api.service.clock import Clock
from executor_api.service.drive import Drive
from executor_api.service.housekeeping import Housekeeping
from executor_api.service.intake import Intake, Submission
from executor_api.service.ledger import Ledger
from executor_api.service.limits import Limits
from executor_api.service.live import Live, NotRecordedError
from executor_api.service.metrics import NoMetrics, ServiceMetrics
from executor_api.service.pool_gate import PoolGate
from executor_api.service.recovery import take_up
from executor_api.service.replica import Replica
from executor_api.service.store import ListFilter, Page, Store
from executor_api.service.timeline import Overhead, Timeline
from executor_api.service.tracing import NoTracing, Tracing
from executor_api.service.workplace import Assignment, Workplace

__all__ = ["ExecutionService", "Limits", "Submission"]

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class Phase(Enum):
    """The service's own life."""

    NEW = "the service is starting"
    OPEN = ""
    CLOSED = "the service is stopping"


class ExecutionService:
    """Made by the composition root; `start` before use, `stop` after it."""

    def __init__(
        self,
        backend: Backend,
        store: Store,
        templates: Mapping[str, Template],
        limits: Limits,
        *,
        clock: Clock | None = None,
        metrics: ServiceMetrics | None = None,
    ) -> None:
        clock, metrics = clock or Clock(), metrics or NoMetrics()
        self._gate = PoolGate(backend.pools, clock.monotonic)
        admission = Admission(limits.max_concurrency, limits.max_queue, clock.monotonic, metrics, self._gate)
        admission.limit(limits.tenants)
        self.audit = Audit(clock.monotonic)
        self._workplace = Workplace(backend, admission, clock, metrics, self.audit, NoTracing())
        self._store = store
        backend.use_templates(templates)
        self._templates = dict(templates)
        self._limits = limits
        self._ledger = Ledger(store)
        self._replica = Replica(
            store.replicas, self._ledger, self._take_up, limits.silent_seconds, clock, self._use_share
        )
        self._intake = Intake(store, admission, clock, backend.name)
        self._phase = Phase.NEW
        self._tasks: set[asyncio.Task[Any]] = set()
        self._background: list[asyncio.Task[None]] = []

    def _use_share(self, share: Share) -> None:
        self._gate.share = share
        self._workplace.backend.use_share(share)

    def trace(self, tracing: Tracing) -> None:
        """Have it told of every execution. To be called before `start`."""
        self._workplace = replace(self._workplace, tracing=tracing)

    async def start(self) -> None:
        """Open store and backend, take up what an earlier life left, begin housekeeping."""
        await self._store.open()
        try:
            await self._open()
        except BaseException:
            await self.stop(0)
            raise

    async def _open(self) -> None:
        work = self._workplace
        await work.backend.start()
        await self._replica.round()
        keeper = Housekeeping(work.backend, self._store, work.clock, work.metrics)
        limits = self._limits
        chores = keeper.run(self._is_wanted, limits.keep_seconds, limits.keep_bytes, limits.housekeeping_seconds)
        self._background = [asyncio.create_task(work) for work in (chores, self._replica.run())]
        self._phase = Phase.OPEN

    async def stop(self, grace: float) -> None:
        """Take no new work, give what runs ``grace`` seconds, then close.

        Another replica takes up what is left, or the next start.
        """
        self._phase = Phase.CLOSED
        until = asyncio.get_running_loop().time() + grace
        # Again and again: a submission that was at the door begins a drive.
        while self._tasks and (left := until - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        lives = [drive.live for drive in self._ledger.drives.values()]
        await _cancelled(*self._tasks, *self._background)
        try:
            await self._replica.leave(lives)
        finally:
            await self._workplace.backend.stop()
            await self._store.close()

    def arrive(self, tenant: str) -> None:
        """Count a call that the tenant is about to submit. Raises `RateLimitedError` if it comes too soon."""
        self._workplace.admission.arrive(tenant)

    async def submit(self, submission: Submission) -> Execution:
        """Accept, record and schedule; with a key that was used before, return the execution of then.

        Raises `InvalidRequestError`, `SaturatedError`, `UnavailableError` and `IdempotencyConflictError`.
        """
        timeline = Timeline(self._workplace.clock)
        planned = plan(submission.request, self.templates(submission.tenant))
        draft = self._intake.draft(submission, planned)
        self._replica.accepting.add(draft.id)
        # A task of its own: a client that leaves now must not leave a record behind that nobody drives.
        return await asyncio.shield(self._spawn(self._accept(draft, planned, timeline)))

    async def wait(self, execution_id: str, timeout: float) -> Execution:  # noqa: ASYNC109 - late is no error here
        """The record once finished, or as it is after ``timeout`` seconds. Raises `NotFoundError`."""
        return await self._ledger.wait(execution_id, timeout)

    async def get(self, tenant: str, execution_id: str) -> Execution:
        """The tenant's record. Raises `NotFoundError`."""
        return await self._ledger.owned(tenant, execution_id)

    async def output(self, execution_id: str) -> Output:
        """What it printed and made so far."""
        return await self._ledger.output(execution_id)

    def events(self, tenant: str, execution_id: str, after: int = 0) -> AsyncIterator[Event]:
        """Events numbered above ``after``, then those to come, until FINISHED. The first raises `NotFoundError`."""
        return self._ledger.follow(tenant, execution_id, after)

    async def cancel(self, tenant: str, execution_id: str, by: Origin | None = None) -> Execution:
        """Ask for its end; finished executions stay as they are. ``by`` is for the audit log.

        Raises `NotFoundError` and `UnavailableError`.
        """
        before = await self._ledger.owned(tenant, execution_id)
        await asyncio.shield(self._spawn(self._replica.cancel(execution_id)))
        if not before.status.finished and not before.cancel_requested:
            self.audit.cancelled(before, by)
        return await self._ledger.record(execution_id)

    async def page(self, tenant: str, where: ListFilter, limit: int, cursor: str | None) -> Page:
        """A tenant's executions, newest first. Raises `InvalidRequestError` for a cursor that isn't ours."""
        return await self._ledger.page(tenant, where, limit, cursor)

    def overhead(self, execution_id: str) -> Overhead | None:
        """What the service itself took, for an execution that finished a moment ago."""
        return self._ledger.overhead(execution_id)

    async def explain(self, tenant: str, execution_id: str) -> Explanation:
        """The tenant's execution in sentences. Raises `NotFoundError`."""
        record, work = await self.get(tenant, execution_id), self._workplace
        starting = record.sandbox if record.status is Status.STARTING else None
        around = Surroundings(
            steps=steps(await self._ledger.events(execution_id)),
            pool=next((pool for pool in self.pools(tenant) if pool.template == record.request.template), None),
            ahead=work.admission.ahead(record),
            held_by=work.admission.held_by(record),
            seeking=work.admission.seeking(record),
            obstacle=work.backend.obstacle(starting.name, execution_id) if starting is not None else "",
        )
        return explain(record, around, work.clock.now())

    def pools(self, tenant: str | None = None) -> tuple[PoolStatus, ...]:
        """Every warm pool as it is now, by template; of those that a tenant may use if one is named."""
        usable = self.templates(tenant)
        return tuple(pool for pool in self._workplace.backend.pools() if tenant is None or pool.template in usable)

    def now(self) -> float:
        """Seconds since the epoch, by the service's clock."""
        return self._workplace.clock.now()

    def health(self) -> Health:
        """The backend's, and our own."""
        health = self._workplace.backend.health()
        if self._phase is Phase.OPEN:
            return health
        return Health(ready=False, problems=(self._phase.value, *health.problems), notes=health.notes)

    def templates(self, tenant: str | None = None) -> Mapping[str, Template]:
        """The templates in force, by name; those that a tenant may use if one is named."""
        if tenant is None:
            return self._templates
        return self._workplace.admission.tenants.of(tenant).allowed(self._templates)

    def limit(self, tenants: Tenants) -> None:
        """Hold tenants to these limits, in what they submit from now on."""
        self._workplace.admission.limit(tenants)

    def replace_templates(self, templates: Mapping[str, Template]) -> None:
        """Put others in force, for submissions from now on. Raises `ConfigurationError`; then nothing changes."""
        self._workplace.backend.use_templates(templates)
        self._templates = dict(templates)

    async def _accept(self, draft: Execution, planned: Plan, timeline: Timeline) -> Execution:
        try:
            accepted = await self._intake.accept(draft, planned, self._check_open)
            if accepted.ticket is None:
                return await self._ledger.record(accepted.record.id)
            timeline.mark(Point.ACCEPTED)
            live = Live(accepted.record, self._store, new=not accepted.recorded)
            drive = self._begin(Assignment(live, planned, accepted.ticket, timeline))
            await asyncio.sleep(0)  # let it come as far as it can without waiting: all that is one write
            await self._recorded(drive)
            self._workplace.metrics.accepted()
        finally:
            self._replica.accepting.discard(draft.id)
        return accepted.record

    async def _recorded(self, drive: Drive) -> None:
        """Wait until it is recorded. Raises what kept the store from it: then nothing is driven."""
        try:
            await drive.live.recorded()
        except NotRecordedError as error:
            drive.lose()
            self._replica.refused.append(drive.live.record.id)
            raise error.why from None

    def _check_open(self, planned: Plan) -> None:
        """A sandbox that waits can serve a call while no other can be made. Raises `UnavailableError`."""
        health = self.health()
        if health.ready or (self._phase is Phase.OPEN and self._workplace.admission.has_sandbox_for(planned)):
            return
        raise UnavailableError("; ".join(health.problems) or "the backend is not ready")

    async def _take_up(self, record: Execution) -> None:
        self._begin(await take_up(record, self._store, self._templates, self._workplace))

    def _begin(self, assignment: Assignment) -> Drive:
        drive = Drive(assignment, self._workplace, self._ledger.settled)
        self._ledger.drives[assignment.live.record.id] = drive
        self._spawn(drive.run()).add_done_callback(_check)
        return drive

    def _spawn(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _is_wanted(self, execution_id: str) -> bool:
        """Whether its sandbox has a purpose: it runs, or its template leaves finished ones to look at."""
        try:
            record = await self._ledger.record(execution_id)
        except NotFoundError:
            return False
        template = self._templates.get(record.request.template)
        return not record.status.finished or (template is not None and not template.delete_finished)


def _check(task: asyncio.Task[None]) -> None:
    """A drive supervises itself; what still comes out of one is a fault to be seen."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a drive failed", exc_info=error)


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
