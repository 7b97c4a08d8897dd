"""Who may run: slots and a queue, both bounded, fair between tenants and limited for each. No I/O."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from math import ceil

from executor_api.domain.execution import Execution
from executor_api.domain.plan import Plan
from executor_api.domain.tenant import NO_LIMITS, TenantLimits, Tenants
from executor_api.errors import SaturatedError
from executor_api.service.fair_queue import FairQueue
from executor_api.service.metrics import ServiceMetrics
from executor_api.service.occupancy import Occupancy
from executor_api.service.pool_gate import PoolGate
from executor_api.service.promises import Promises
from executor_api.service.rates import Rates

_SEEKING_SHARE = 0.75
"""Of the slots that are not held by other templates' such calls, how many those of one template may hold while they
have no sandbox: one whose pool can't be filled, or whose sandboxes find no room, leaves slots to others."""


class Ticket:
    """One execution's place: in the queue until ``granted``, then in a slot. ``claims``: a sandbox of its pool."""

    def __init__(self, record: Execution, *, claims: bool = False) -> None:
        self.tenant = record.tenant
        self.execution_id = record.id
        self.template = record.request.template
        self.claims = claims
        self.expected = False  # to do so before others that come
        self.seeks = False  # it has a slot, and no sandbox that is ready
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.granted_at = 0.0

    def grant(self, now: float) -> bool:
        """Hand over a slot. False if the owner has stopped waiting: the slot belongs to the next one."""
        if self.granted.done():
            return False
        self.granted_at = now
        self.granted.set_result(None)
        return True

    @property
    def holds_slot(self) -> bool:
        """Whether a slot was handed over."""
        return self.granted.done() and not self.granted.cancelled()


class Admission:
    """Slots, the queue before them, and before that the gate of templates that reject what their pool can't serve.

    ``tenants`` may hold a tenant back while there is room for others: then it waits, and others pass it.
    """

    tenants: Tenants = NO_LIMITS

    def __init__(
        self,
        slots: int,
        most_waiting: int,
        monotonic: Callable[[], float],
        metrics: ServiceMetrics,
        gate: PoolGate,
    ) -> None:
        self._slots = slots
        self._most_waiting = most_waiting
        self._seeking: Counter[str] = Counter()  # by template
        self._monotonic = monotonic
        self._metrics = metrics
        self._gate = gate
        self._running = Occupancy()
        self._waiting: FairQueue[Ticket] = FairQueue()
        self._promises = Promises(monotonic)
        self._rates = Rates(monotonic)

    def limit(self, tenants: Tenants) -> None:
        """Hold tenants to these limits from now on; what runs goes on."""
        self.tenants = tenants
        self._fill()

    def arrive(self, tenant: str) -> None:
        """Count a call of the tenant's, before anything is done for it. Raises `RateLimitedError`."""
        self._rates.take(tenant, self.tenants.of(tenant))

    def enter(self, draft: Execution, plan: Plan) -> Ticket:
        """Take a slot, or a place in the queue. Raises `SaturatedError` if there is neither, or no sandbox for it."""
        if not self._has_slot(draft):
            self._check_queue(draft.tenant, draft.request.template)
        self._gate.check(plan)
        ticket = Ticket(draft, claims=True)
        if self._may_run(draft.tenant):  # one that waits for its own tenant takes no sandbox from others meanwhile
            self._expect(ticket)
        return self._enter(ticket)

    def enter_accepted(self, record: Execution) -> Ticket:
        """Take a slot or a place for an execution accepted in an earlier life of the service: there is always one."""
        return self._enter(Ticket(record))

    def enter_running(self, record: Execution) -> Ticket:
        """Take a slot for a call that runs already, even beyond the limit."""
        ticket = Ticket(record)
        self._hand_slot(ticket)
        self._end_seeking(ticket)
        self._tell()
        return ticket

    def has_sandbox_for(self, plan: Plan) -> bool:
        """Whether one waits for the next call, whatever else can be had."""
        return self._gate.has_one_for(plan)

    def claimed(self, ticket: Ticket) -> None:
        """It has a sandbox, of the pool or made for it. Nothing happens the second time."""
        if ticket.expected:
            ticket.expected = False
            self._gate.claimed(ticket.template)

    def placed(self, ticket: Ticket) -> None:
        """Its sandbox is ready. Nothing happens the second time."""
        if ticket.seeks:
            self._end_seeking(ticket)
            self._fill()  # of any template: each has a share of what the others leave

    def leave(self, ticket: Ticket) -> None:
        """Give back what the ticket stands for. Each ticket leaves once."""
        self.claimed(ticket)
        self._end_seeking(ticket)
        if not self._waiting.remove(ticket.tenant, ticket.template, ticket.execution_id) and ticket.holds_slot:
            self._running.end(ticket.tenant, self._monotonic() - ticket.granted_at)
        self._fill()

    def ahead(self, record: Execution) -> int | None:
        """How many get a slot before this one; None if it does not wait for one here."""
        return self._waiting.ahead(record.tenant, record.request.template, record.id, self._may_run, self._may_seek)

    def held_by(self, record: Execution) -> int | None:
        """How many of its tenant's run, if that is what it waits for here; else None."""
        if self._may_run(record.tenant) or self.ahead(record) is None:
            return None
        return self._running.of(record.tenant)

    def seeking(self, record: Execution) -> int | None:
        """How many of its template have a slot and no sandbox, if that is why it waits for a slot here; else None."""
        template = record.request.template
        if self._may_seek(template) or self.ahead(record) is None:
            return None
        return self._seeking[template]

    def _enter(self, ticket: Ticket) -> Ticket:
        self._waiting.add(ticket.tenant, ticket.template, ticket.execution_id, ticket)
        self._fill()
        return ticket

    def _may_run(self, tenant: str) -> bool:
        most = self.tenants.of(tenant).max_concurrency
        return most is None or self._running.of(tenant) < most

    def _may_seek(self, template: str) -> bool:
        own = self._seeking[template]
        return own < ceil(_SEEKING_SHARE * (self._slots - self._seeking.total() + own))

    def _has_slot(self, draft: Execution) -> bool:
        """Whether one is free for it. Then none waits that could have it."""
        may_go = self._may_run(draft.tenant) and self._may_seek(draft.request.template)
        return may_go and self._running.total < self._slots

    def _check_queue(self, tenant: str, template: str) -> None:
        """Raise `SaturatedError` if no more of the tenant's may wait."""
        limits, running, waiting = self.tenants.of(tenant), self._running.of(tenant), self._waiting.of(tenant)
        # Slots that are free are for those who wait, too, as soon as fewer of their template seek a sandbox.
        may_run = self._slots if limits.max_concurrency is None else limits.max_concurrency
        free = max(0, min(self._slots - self._running.total, may_run - running))
        if limits.max_queue is not None and waiting >= limits.max_queue + free:
            raise SaturatedError(
                f"{running} executions of this tenant run and {waiting} wait, and no more of them may",
                self._retry_after(tenant, limits),
            )
        if not self._waiting.has_place(tenant, self._most_waiting + free):
            seeking = self._seeking[template]
            why = "" if self._may_seek(template) else f"; {seeking} of template {template!r} wait for sandboxes"
            raise SaturatedError(
                f"{self._running.total} executions run and {len(self._waiting)} wait, as many as may{why}",
                self._retry_after(tenant, limits),
            )

    def _retry_after(self, tenant: str, limits: TenantLimits) -> float:
        """Seconds until places are free for all of the tenant who were turned away, this one being the last of them."""
        pace = max(1, self._waiting.tenants) * self._running.seconds() / self._slots
        if limits.max_concurrency is not None:
            pace = max(pace, self._running.seconds(tenant) / limits.max_concurrency)
        return self._promises.seconds(tenant, 0.0, pace)

    def _fill(self) -> None:
        while self._running.total < self._slots:
            ticket = self._waiting.pop(self._may_run, self._may_seek)
            if ticket is None:
                break
            self._hand_slot(ticket)
        self._tell()

    def _hand_slot(self, ticket: Ticket) -> None:
        if ticket.grant(self._monotonic()):
            self._running.begin(ticket.tenant)
            ticket.seeks = True
            self._seeking[ticket.template] += 1
            self._expect(ticket)

    def _end_seeking(self, ticket: Ticket) -> None:
        if ticket.seeks:
            ticket.seeks = False
            self._seeking[ticket.template] -= 1

    def _expect(self, ticket: Ticket) -> None:
        if ticket.claims and not ticket.expected:
            ticket.expected = True
            self._gate.expect(ticket.template)

    def _tell(self) -> None:
        self._metrics.queue_depth(len(self._waiting))
        self._metrics.running(self._running.total)
