"""Slots, queue and gate: tenants in turn, never more than allowed, an honest word on when to come back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.doors import Gauges, Time, crowd, doors, draft, refused
from support.house import House, ended, submission
from support.pool_status import pool
from support.scripted import Script

from executor_api.domain.outcome import Status
from executor_api.domain.pool import PoolStatus, Share
from executor_api.errors import SaturatedError
from executor_api.service.pool_gate import PoolGate


async def test_slots_are_handed_on_in_order() -> None:
    """Whoever came first gets the next slot; one who left the queue is passed over, even in the same instant."""
    gauges = Gauges()
    admission = doors(2, 3, metrics=gauges)
    first, second, third, fourth, fifth = (admission.enter(*draft()) for _ in range(5))
    assert [t.holds_slot for t in (first, second, third, fourth, fifth)] == [True, True, False, False, False]
    assert (gauges.slots_taken, gauges.waiting) == (2, 3)
    third.granted.cancel()  # its owner has stopped waiting and has had no time to leave
    admission.leave(first)
    assert [t.holds_slot for t in (third, fourth, fifth)] == [False, True, False]
    admission.leave(third)
    admission.leave(fifth)
    admission.leave(second)
    admission.leave(fourth)
    assert (gauges.slots_taken, gauges.waiting) == (0, 0)


async def test_retry_after_follows_service_times_and_those_turned_away() -> None:
    """Each one turned away is told a later time than the one before, by measured seconds a slot takes."""
    time = Time()
    admission = doors(2, 0, time)
    tickets = [admission.enter(*draft()) for _ in range(2)]
    assert refused(admission) == pytest.approx(0.5)  # nothing measured: a second a call, two slots
    time.seconds += 10
    admission.leave(tickets.pop())
    tickets.append(admission.enter(*draft()))
    assert [refused(admission) for _ in range(3)] == pytest.approx([5.0, 10.0, 15.0])


async def test_a_tenant_that_fills_the_queue_keeps_nobody_out() -> None:
    """Alone it has all places; who comes later has a share like the others', and nobody who waits is sent away."""
    gauges = Gauges()
    admission = doors(1, 12, metrics=gauges)
    admission.enter(*draft("first"))
    assert [crowd(admission, tenant) for tenant in ("first", "second", "third", "first")] == [12, 6, 4, 0]
    assert gauges.waiting == 22


async def test_a_tenant_within_its_share_gets_in_again_as_soon_as_its_calls_run() -> None:
    """The one that holds more than that is refused until the queue is down to its length."""
    admission = doors(1, 4)
    running = admission.enter(*draft("big"))
    big, _ = admission.enter(*draft("big")), crowd(admission, "big")
    small = [admission.enter(*draft("small")) for _ in range(2)]
    refused(admission, "small")
    admission.leave(running)
    admission.leave(big)
    assert small[0].holds_slot
    refused(admission, "big")
    admission.enter(*draft("small"))


async def test_each_tenant_is_told_when_there_is_room_for_its_own_calls() -> None:
    """One that was turned away a hundred times makes no other wait longer; sharing the slots does."""
    time = Time()
    admission = doors(2, 2, time)
    for _ in range(2):
        admission.enter(*draft("a"))
    assert [crowd(admission, "a"), refused(admission, "a")] == [2, pytest.approx(1.0)]
    assert [refused(admission, "a") for _ in range(98)][-1] == pytest.approx(50.0)
    assert crowd(admission, "b") == 1
    assert refused(admission, "b") == pytest.approx(2.0)
    time.seconds += 1000
    assert refused(admission, "a") == pytest.approx(1.0)


async def test_tenants_take_turns() -> None:
    """One who sends much waits behind its own calls only; within a tenant the order is that of arrival."""
    admission = doors(1, 10)
    running = admission.enter(*draft())
    drafts = [draft(tenant) for tenant in ("a", "a", "a", "b", "c", "b")]
    tickets = {admission.enter(*entering): number for number, entering in enumerate(drafts)}
    assert [admission.ahead(record) for record, _ in drafts] == [0, 3, 5, 1, 2, 4]
    order = []
    while True:
        admission.leave(running)
        granted = next((ticket for ticket in tickets if ticket.holds_slot), None)
        if granted is None:
            break
        order.append(tickets.pop(granted))
        running = granted
    assert order == [0, 3, 4, 1, 5, 2]


async def test_one_who_leaves_the_queue_makes_room_at_once() -> None:
    """Its place is free for the next in the same instant, and its tenant's turn passes to others."""
    admission = doors(1, 1)
    running = admission.enter(*draft())
    gone = admission.enter(*draft("a"))
    refused(admission, "a")
    admission.leave(gone)
    other = admission.enter(*draft("a"))
    admission.leave(running)
    assert (gone.holds_slot, other.holds_slot) == (False, True)


async def test_a_strict_template_lets_in_as_many_as_have_a_sandbox() -> None:
    """Accepted calls that have not claimed theirs yet count; a claim, or leaving without one, ends that."""
    admission = doors(10, 10, None, None, pool(template="strict", ready=2, refill_per_second=4.0))
    first, second = (admission.enter(*draft(template="strict")) for _ in range(2))
    assert refused(admission, template="strict") == pytest.approx(0.25)
    admission.claimed(first)
    third = admission.enter(*draft(template="strict"))
    refused(admission, template="strict")
    for ticket in (first, second, third):
        admission.leave(ticket)
    assert [admission.enter(*draft(template="strict")).holds_slot for _ in range(2)] == [True, True]


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        ({"refill_per_second": 2.0}, [0.5, 1.0, 1.5]),
        ({"refill_per_second": 0.25}, [4.0, 8.0, 12.0]),
        ({"refill_per_second": 2.0, "starting": 2, "held": 2, "problems": ("no room",)}, [10.5, 11.0, 11.5]),
        ({"refill_per_second": 2.0, "starting": 2, "held": 1, "problems": ("no room",)}, [0.5, 1.0, 1.5]),
        ({}, [1.0, 2.0, 3.0]),
    ],
    ids=["fast", "slow", "held up", "one is held up", "nothing"],
)
async def test_retry_after_of_a_pool_follows_what_was_measured(measured: dict[str, Any], expected: list[float]) -> None:
    """Each one turned away gets a sandbox of its own promised, and promises whose time has come are forgotten."""
    time = Time()
    admission = doors(10, 10, time, None, pool(template="strict", ready=0, **measured))
    assert [refused(admission, template="strict") for _ in range(3)] == pytest.approx(expected)
    time.seconds += 100
    assert refused(admission, template="strict") == pytest.approx(expected[0])


def test_replicas_promise_no_more_together_than_the_pool_makes() -> None:
    """Each of four counts on a quarter of what becomes ready."""
    gate = PoolGate(lambda: (pool(template="strict", ready=0, refill_per_second=2.0),), Time())
    gate.share = Share(1, 4)
    with pytest.raises(SaturatedError) as refusal:
        gate.check(draft(template="strict")[1])
    assert refusal.value.retry_after == pytest.approx(2.0)


async def test_who_asks_for_what_all_have_is_turned_away_as_they_are() -> None:
    """It is the resources that count, not whether they are named."""
    admission = doors(10, 10, None, None, pool(template="strict", ready=0))
    assert refused(admission, template="strict", resources={"cpu": "1", "memory": "512Mi"})


@pytest.mark.parametrize(
    ("request_", "pools"),
    [
        ({"template": "default"}, (pool(ready=0),)),
        ({"template": "strict"}, ()),
        ({"template": "strict", "resources": {"cpu": "2"}}, (pool(template="strict", ready=0),)),
        ({"template": "strict", "isolation": "reuse"}, (pool(template="strict", ready=0),)),
    ],
    ids=["cold", "no pool here", "other resources", "reuse"],
)
async def test_only_what_a_pool_could_serve_is_turned_away(
    request_: dict[str, object], pools: tuple[PoolStatus, ...]
) -> None:
    """Calls that go cold anyway, or may have a sandbox of their tenant's, pass the gate."""
    assert doors(1, 0, None, None, *pools).enter(*draft(**request_)).holds_slot


async def test_a_template_that_gets_no_sandboxes_leaves_slots_to_others() -> None:
    """Its calls hold three quarters of them at most until they have one; the next waits, though slots are free."""
    admission = doors(4, 0)
    stuck = [admission.enter(*draft()) for _ in range(3)]
    late = draft()
    waiting = admission.enter(*late)
    assert [ticket.holds_slot for ticket in (*stuck, waiting)] == [True, True, True, False]
    assert admission.seeking(late[0]) == 3
    assert refused(admission)
    other = admission.enter(*draft(template="other"))
    assert other.holds_slot
    admission.placed(stuck[0])
    assert not waiting.holds_slot
    admission.leave(other)
    assert (waiting.holds_slot, admission.seeking(late[0])) == (True, None)


async def test_templates_that_get_no_sandboxes_leave_slots_to_others() -> None:
    """Each holds a share of what the others leave; who is passed is ahead of nobody it is passed by."""
    admission = doors(64, 200)
    tickets = [[admission.enter(*draft(template=name)) for _ in range(64)] for name in ("default", "other", "third")]
    assert [sum(ticket.holds_slot for ticket in each) for each in tickets] == [48, 12, 3]
    drafts = [draft(template="fourth") for _ in range(2)]
    served, waiting = (admission.enter(*entering) for entering in drafts)
    assert (served.holds_slot, waiting.holds_slot) == (True, False)
    admission.placed(served)
    assert admission.ahead(drafts[1][0]) == 0


async def test_a_sandbox_that_is_ready_lets_calls_of_other_templates_seek_theirs() -> None:
    """What one template's calls leave is the others' at once."""
    admission = doors(8, 10)
    first, second = (admission.enter(*draft()) for _ in range(2))
    *_, waiting = (admission.enter(*draft(template="other")) for _ in range(6))
    assert not waiting.holds_slot
    admission.placed(first)
    admission.placed(second)
    assert waiting.holds_slot


async def test_a_sandbox_that_is_ready_lets_the_next_call_seek_one() -> None:
    """It does not wait until a whole call is over."""
    admission = doors(4, 0)
    first, _, _, waiting = (admission.enter(*draft()) for _ in range(4))
    admission.placed(first)
    assert waiting.holds_slot


async def test_a_call_is_told_that_others_of_its_template_wait_for_sandboxes(house: House) -> None:
    """Slots are free, and it is not its turn: its explanation says why."""
    house.backend.script = lambda _id: Script(ready=asyncio.Event())
    service = await house.open(max_concurrency=4)
    executions = [await service.submit(submission()) for _ in range(4)]
    told = (await service.explain("default", executions[-1].id)).sentences
    assert "3 of its template wait for sandboxes, as many as may at once; other templates' calls pass them." in told
    for execution in executions:
        await service.cancel("default", execution.id)
    assert {(await service.wait(item.id, 60)).status for item in executions} == {Status.CANCELLED}


async def test_what_was_accepted_before_always_has_a_place() -> None:
    """After a restart, running calls have slots beyond the limit and queued ones places beyond the queue."""
    gauges = Gauges()
    admission = doors(1, 0, metrics=gauges)
    running = [admission.enter_running(draft()[0]) for _ in range(3)]
    queued = [admission.enter_accepted(draft()[0]) for _ in range(2)]
    assert (gauges.slots_taken, gauges.waiting) == (3, 2)
    for ticket in running:
        admission.leave(ticket)
    assert [t.holds_slot for t in queued] == [True, False]


async def test_a_full_service_refuses_and_the_rest_runs(house: House) -> None:
    """Of a hundred at once, as many as fit run, never more than the limit at a time; the others are told when."""
    most = 0

    def script(_id: str) -> Script:
        nonlocal most
        most = max(most, sum(not sandbox.complete for sandbox in house.backend.made.values()) + 1)
        return Script()

    house.backend.script = script
    service = await house.open(max_concurrency=4, max_queue=16)
    answers = await asyncio.gather(*(service.submit(submission()) for _ in range(100)), return_exceptions=True)
    refusals = [answer for answer in answers if isinstance(answer, SaturatedError)]
    accepted = [answer for answer in answers if not isinstance(answer, Exception)]
    assert len(refusals) + len(accepted) == 100
    assert len(accepted) >= 20
    assert all(refusal.retry_after > 0 for refusal in refusals)
    for execution in accepted:
        assert (await service.wait(execution.id, 60)).status is Status.SUCCEEDED
    assert most <= 4


async def test_one_slot_is_free_when_the_outcome_is_seen(house: House) -> None:
    """A client that calls one after another is never refused by its own last call."""
    service = await house.open(max_concurrency=1, max_queue=0)
    for _ in range(50):
        assert (await ended(service, submission())).status is Status.SUCCEEDED
