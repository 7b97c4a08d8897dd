"""Slots and queue: first come first served, never more than allowed, an honest word on when to come back."""

from __future__ import annotations

import asyncio

import pytest
from support.house import House, ended, submission
from support.scripted import Script

from executor_api.domain.outcome import Status
from executor_api.errors import SaturatedError
from executor_api.service.admission import Admission
from executor_api.service.metrics import NoMetrics


class Time:
    """A monotonic clock that stands still until told."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        """Tell the instant."""
        return self.seconds


class Gauges(NoMetrics):
    """Keeps the last figures it was told."""

    waiting = slots_taken = 0

    def queue_depth(self, n: int) -> None:
        """Note it."""
        self.waiting = n

    def running(self, n: int) -> None:
        """Note it."""
        self.slots_taken = n


async def test_slots_are_handed_on_in_order() -> None:
    """Whoever came first gets the next slot; one who left the queue is passed over, even in the same instant."""
    gauges = Gauges()
    admission = Admission(2, 3, Time(), gauges)
    first, second, third, fourth, fifth = (admission.enter() for _ in range(5))
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
    admission = Admission(2, 0, time, NoMetrics())
    tickets = [admission.enter() for _ in range(2)]
    assert refused(admission) == pytest.approx(0.5)  # nothing measured: a second a call, two slots
    time.seconds += 10
    admission.leave(tickets.pop())
    tickets.append(admission.enter())
    assert [refused(admission) for _ in range(3)] == pytest.approx([5.0, 10.0, 15.0])


def refused(admission: Admission) -> float:
    with pytest.raises(SaturatedError) as refusal:
        admission.enter()
    return refusal.value.retry_after


async def test_what_was_accepted_before_always_has_a_place() -> None:
    """After a restart, running calls have slots beyond the limit and queued ones places beyond the queue."""
    gauges = Gauges()
    admission = Admission(1, 0, Time(), gauges)
    running = [admission.enter_running() for _ in range(3)]
    queued = [admission.enter_accepted() for _ in range(2)]
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
        assert (await service.wait(execution.id, 10)).status is Status.SUCCEEDED
    assert most <= 4


async def test_one_slot_is_free_when_the_outcome_is_seen(house: House) -> None:
    """A client that calls one after another is never refused by its own last call."""
    service = await house.open(max_concurrency=1, max_queue=0)
    for _ in range(50):
        assert (await ended(service, submission())).status is Status.SUCCEEDED
