"""What a tenant may take: its own limits hold it back, and nobody else."""

from __future__ import annotations

import asyncio

import pytest
from support.doors import Gauges, Time, crowd, doors, draft, refused
from support.house import House, submission
from support.pool_status import pool
from support.scripted import Script

from executor_api.domain.outcome import Status
from executor_api.domain.template import Template
from executor_api.domain.tenant import TenantLimits, Tenants
from executor_api.errors import InvalidRequestError, RateLimitedError
from executor_api.service.admission import Admission, Ticket


def limited(admission: Admission, **small: float) -> Admission:
    """The same, with limits for the tenant ``small`` alone."""
    admission.limit(Tenants(tenants={"small": TenantLimits.model_validate(small)}))
    return admission


def granted(*tickets: Ticket) -> list[bool]:
    return [ticket.holds_slot for ticket in tickets]


async def test_at_its_own_limit_a_tenant_waits_while_others_pass() -> None:
    """Its next call goes when one of its own ends, and not when another's does."""
    gauges = Gauges()
    admission = limited(doors(4, 10, metrics=gauges), max_concurrency=1)
    first, second, third = (admission.enter(*draft("small")) for _ in range(3))
    others = [admission.enter(*draft("big")) for _ in range(3)]
    for ticket in (first, *others):
        admission.placed(ticket)
    late = admission.enter(*draft("big"))
    assert granted(first, second, third, *others, late) == [True, False, False, True, True, True, False]
    admission.leave(others[0])
    assert granted(second, late) == [False, True]
    admission.leave(first)
    assert granted(second, third) == [True, False]
    admission.leave(second)
    assert granted(third) == [True]
    assert (gauges.slots_taken, gauges.waiting) == (4, 0)


async def test_free_slots_are_no_places_for_a_tenant_at_its_own_limit() -> None:
    """What its template's calls leave free is for it as far as it may run."""
    admission = limited(doors(8, 10), max_concurrency=7, max_queue=0)
    assert crowd(admission, "small") == 7


async def test_who_waits_for_its_own_is_ahead_of_nobody() -> None:
    """What is said of the queue leaves out those that others pass, and names the limit to whom it holds back."""
    admission = limited(doors(2, 10), max_concurrency=1)
    running = admission.enter(*draft("small"))
    held, free = draft("small"), draft("big")
    admission.enter(*held)
    admission.enter(*draft("big"))
    admission.enter(*free)
    assert (admission.ahead(held[0]), admission.held_by(held[0])) == (0, 1)
    assert (admission.ahead(free[0]), admission.held_by(free[0])) == (0, None)
    admission.leave(running)
    assert (admission.ahead(held[0]), admission.held_by(held[0])) == (None, None)


async def test_a_tenant_has_no_more_waiting_than_it_may() -> None:
    """However much room there is; a place that gets free is taken again."""
    admission = limited(doors(1, 100), max_queue=2)
    running = admission.enter(*draft("big"))
    assert (crowd(admission, "small"), crowd(admission, "big")) == (2, 98)
    admission.leave(running)
    admission.enter(*draft("small"))


async def test_its_retry_after_goes_by_its_own_calls() -> None:
    """Short calls of others say nothing of when one of its own will end."""
    time = Time()
    admission = limited(doors(8, 100, time), max_concurrency=2, max_queue=0)
    for _ in range(50):
        quick = admission.enter(*draft("big"))
        time.seconds += 0.01
        admission.leave(quick)
    slow, _ = admission.enter(*draft("small")), admission.enter(*draft("small"))
    time.seconds += 30
    admission.leave(slow)
    admission.enter(*draft("small"))
    assert [refused(admission, "small") for _ in range(2)] == pytest.approx([15, 30])


async def test_a_limit_that_is_lifted_lets_those_go_who_wait() -> None:
    """At once, without any other call ending; one that is lowered ends nothing that runs."""
    admission = limited(doors(8, 10), max_concurrency=1)
    tickets = [admission.enter(*draft("small")) for _ in range(4)]
    limited(admission, max_concurrency=3)
    assert granted(*tickets) == [True, True, True, False]
    limited(admission, max_concurrency=1)
    admission.leave(tickets[0])
    admission.leave(tickets[1])
    assert granted(*tickets[2:]) == [True, False]


async def test_a_call_that_is_held_back_keeps_no_sandbox_from_others() -> None:
    """A template that rejects what its pool can't serve counts it from when it may run."""
    admission = limited(doors(8, 10, None, None, pool(template="strict", ready=2)), max_concurrency=1)
    first, held = (admission.enter(*draft("small", template="strict")) for _ in range(2))
    other = admission.enter(*draft("big", template="strict"))
    refused(admission, "big", template="strict")
    for ticket in (first, other):
        admission.claimed(ticket)
    admission.leave(first)
    assert granted(held) == [True]
    admission.enter(*draft("big", template="strict"))  # the pool says that two wait
    refused(admission, "big", template="strict")


async def test_after_a_restart_what_was_accepted_has_its_place() -> None:
    """Running calls run on beyond the tenant's limit, and queued ones wait in its queue, however long that is."""
    admission = limited(doors(8, 10), max_concurrency=1, max_queue=0)
    running = [admission.enter_running(draft("small")[0]) for _ in range(2)]
    queued = admission.enter_accepted(draft("small")[0])
    refused(admission, "small")
    admission.leave(running[0])
    assert granted(queued) == [False]
    admission.leave(running[1])
    assert granted(queued) == [True]


def arrive(admission: Admission, tenant: str) -> float:
    """Come; return the seconds after which to come again, 0 if it may go on."""
    try:
        admission.arrive(tenant)
    except RateLimitedError as refusal:
        return refusal.retry_after
    return 0.0


def test_a_tenant_that_comes_too_often_is_told_when_there_is_a_turn_for_it() -> None:
    """Each of a crowd is told a later time, one pace after the other, and no other tenant hears of it."""
    time = Time()
    admission = limited(doors(1, 1, time), rate=2, burst=3)
    assert [arrive(admission, "small") for _ in range(6)] == pytest.approx([0, 0, 0, 0.5, 1.0, 1.5])
    assert [arrive(admission, "big") for _ in range(100)] == [0] * 100
    time.seconds += 0.4
    assert arrive(admission, "small") > 0.1
    time.seconds += 0.1
    assert [arrive(admission, "small") for _ in range(2)] == pytest.approx([0, 2.0])


def test_a_crowd_that_heeds_nothing_puts_nobody_off_for_long() -> None:
    """Ten thousand refusals, and the next one is told little more than a minute."""
    admission = limited(doors(1, 1), rate=0.5)
    assert arrive(admission, "small") == 0
    assert max(arrive(admission, "small") for _ in range(10_000)) == pytest.approx(62)


async def test_templates_of_others_do_not_exist_for_a_tenant(house: House) -> None:
    """It is shown its own, and told of no other when it asks for one."""
    templates = {name: Template(name=name) for name in ("default", "gpu")}
    limits = Tenants(tenants={"small": TenantLimits(templates=("default",))})
    service = await house.open(templates=templates, tenants=limits)
    assert (sorted(service.templates("small")), sorted(service.templates("big"))) == (["default"], ["default", "gpu"])
    with pytest.raises(InvalidRequestError) as refusal:
        await service.submit(submission(tenant="small", template="gpu"))
    assert refusal.value.problems[0].field == "template"
    assert refusal.value.problems[0].allowed == ("default",)
    await service.submit(submission(tenant="big", template="gpu"))


async def test_a_held_execution_says_why_it_waits(house: House) -> None:
    """`explain` tells that its tenant's limit is what it waits for, and it runs once one of its own has ended."""
    gate = asyncio.Event()
    house.backend.script = lambda _id: Script(frames=[gate])
    service = await house.open(tenants=Tenants(default=TenantLimits(max_concurrency=1)))
    executions = [await service.submit(submission(tenant=tenant)) for tenant in ("a", "a", "b")]
    said = [(await service.explain(execution.tenant, execution.id)).sentences for execution in executions]
    assert ["1 of its tenant's run, as many as may at once." in sentences for sentences in said] == [False, True, False]
    gate.set()
    for execution in executions:
        assert (await service.wait(execution.id, 60)).status is Status.SUCCEEDED
