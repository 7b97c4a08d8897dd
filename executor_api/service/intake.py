"""The door: a submission is checked, given a place, and recorded before anything starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from executor_api.domain.caller import Origin
from executor_api.domain.execution import Execution, IdempotencyKey, SandboxDetails
from executor_api.domain.outcome import Status
from executor_api.domain.plan import Plan
from executor_api.domain.request import ExecutionRequest
from executor_api.domain.trace_context import TraceContext
from executor_api.errors import FieldProblem, InvalidRequestError, UnavailableError
from executor_api.service.admission import Admission, Ticket
from executor_api.service.clock import Clock
from executor_api.service.store import Store
from executor_api.service.workplace import own_sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a client hands in. ``request`` is valid by itself, not yet fitted into its template."""

    request: ExecutionRequest
    tenant: str = "default"
    idempotency_key: str | None = None
    trace: TraceContext | None = None
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The record that stands for a submission, and the ticket if this submission made it.

    ``recorded``: the store has it already.
    """

    record: Execution
    ticket: Ticket | None
    recorded: bool = True


class Intake:
    """Accepts each submission once."""

    def __init__(self, store: Store, admission: Admission, clock: Clock, backend_name: str) -> None:
        self._store = store
        self._admission = admission
        self._clock = clock
        self._backend_name = backend_name

    def draft(self, submission: Submission, plan: Plan) -> Execution:
        """The record to be. Raises `InvalidRequestError` if the request can't be written down as JSON."""
        now = self._clock.now()
        execution_id = self._clock.new_id(now)
        request_json, key, trace = _as_json(submission.request), submission.idempotency_key, submission.trace
        return Execution(
            id=execution_id,
            tenant=submission.tenant,
            request=submission.request,
            status=Status.QUEUED,
            created_at=now,
            timeout_seconds=plan.timeout_seconds,
            template_digest=plan.template.digest(),
            idempotency=IdempotencyKey(key, _digest(request_json)) if key is not None else None,
            traceparent=trace.traceparent if trace is not None else None,
            tracestate=trace.tracestate if trace is not None else "",
            origin=submission.origin,
            sandbox=SandboxDetails(name=own_sandbox(execution_id), backend=self._backend_name),
        )

    async def accept(self, draft: Execution, plan: Plan, check_open: Callable[[Plan], None]) -> Accepted:
        """Reserve a place, or find what the same key had made before: to know, one with a key is recorded first.

        Raises `SaturatedError`, whatever ``check_open`` raises, and `IdempotencyConflictError`.
        """
        try:
            check_open(plan)
            ticket = self._admission.enter(draft, plan)
        except UnavailableError:
            earlier = await self._store.find_earlier(draft) if draft.idempotency is not None else None
            if earlier is None:
                raise
            return Accepted(earlier, None)
        return await self._record(draft, ticket)

    async def _record(self, draft: Execution, ticket: Ticket) -> Accepted:
        if draft.idempotency is None:
            return Accepted(draft, ticket, recorded=False)
        existed = True
        try:
            created = await self._store.create(draft)
            existed = created.existed
        finally:
            if existed:
                self._admission.leave(ticket)
        return Accepted(created.execution, None if existed else ticket)


def _as_json(request: ExecutionRequest) -> str:
    try:
        return request.model_dump_json()
    except ValueError as error:
        raise InvalidRequestError(FieldProblem("", f"is not JSON: {error}")) from None


def _digest(request_json: str) -> str:
    """The same whatever the order of members, which means nothing in JSON."""
    canonical = json.dumps(json.loads(request_json), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
