"""After a restart: every accepted execution is taken up where its record says it was."""

from __future__ import annotations

from collections.abc import Mapping

from executor_api.domain.execution import Execution
from executor_api.domain.passage import Point
from executor_api.domain.plan import Plan, plan
from executor_api.domain.template import Template
from executor_api.errors import InvalidRequestError
from executor_api.service.live import Live
from executor_api.service.store import Store
from executor_api.service.timeline import Timeline
from executor_api.service.workplace import Assignment, Workplace


async def take_up(record: Execution, store: Store, templates: Mapping[str, Template], work: Workplace) -> Assignment:
    """An assignment that goes on with an unfinished execution, from its last stored event."""
    timeline = Timeline(work.clock, record.passed)
    if not record.dispatched:
        timeline.mark(Point.ACCEPTED)
    live = Live(record, store, await store.events(record.id))
    live.emit_status(
        work.clock.now(), note="its service had stopped or lost track of it, and it was taken up from its record"
    )
    return Assignment(
        live=live,
        plan=_plan_again(record, templates),
        # What was dispatched runs already, whether we have room or not.
        ticket=work.admission.enter_running(record) if record.dispatched else work.admission.enter_accepted(record),
        timeline=timeline,
        recovered=True,
    )


def _plan_again(record: Execution, templates: Mapping[str, Template]) -> Plan | None:
    try:
        return plan(record.request, templates)
    except InvalidRequestError:
        return None
