"""The rolling history of calls: a clock that the test moves, and endings that it makes up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.doors import Time, draft

from executor_api.domain.execution import Execution, Start, Timings
from executor_api.domain.outcome import Outcome, Reason, Status
from executor_api.service.last_hour import MINUTES, LastHour


def ended(reason: Reason | None = None, start: Start | None = Start.WARM, **timings: float) -> Execution:
    status = Status.FAILED if reason else Status.SUCCEEDED
    processes = {"left_behind": 3, "zombies": 2, "unkillable": 1}
    outcome = Outcome(status, reason, "", processes=processes)  # type: ignore[arg-type]
    record, _ = draft()
    return replace(record, status=status, outcome=outcome, start=start, timings=Timings(**timings))


@pytest.fixture
def time() -> Time:
    time = Time()
    time.seconds = 600.0
    return time


@pytest.fixture
def hour(time: Time) -> LastHour:
    return LastHour(time)


def test_calls_count_in_the_minute_of_their_end(hour: LastHour, time: Time) -> None:
    """By reason, or as succeeded; minutes without any are there, too."""
    hour.finished(ended())
    hour.finished(ended(Reason.TIMEOUT))
    time.seconds += 120
    hour.finished(ended(Reason.TIMEOUT))
    minutes = hour.minutes()
    assert list(minutes) == [10, 11, 12]
    assert [dict(figures.endings) for figures in minutes.values()] == [
        {"succeeded": 1, "timeout": 1},
        {},
        {"timeout": 1},
    ]
    assert hour.whole().endings == {"succeeded": 1, "timeout": 2}


def test_what_is_older_than_an_hour_is_forgotten(hour: LastHour, time: Time) -> None:
    """There are never more than sixty minutes, however long the service was idle."""
    hour.finished(ended())
    time.seconds += 59 * 60
    assert hour.whole().endings == {"succeeded": 1}
    time.seconds += 60
    assert (len(hour.minutes()), hour.whole().endings.total()) == (MINUTES, 0)
    time.seconds += 7 * 86400
    assert list(hour.minutes()) == list(range(int(time.seconds // 60) - 59, int(time.seconds // 60) + 1))


def test_a_clock_that_was_set_back_loses_nothing(hour: LastHour, time: Time) -> None:
    """What comes then counts in the latest minute there is."""
    time.seconds += 60
    hour.finished(ended())
    time.seconds -= 3600
    hour.finished(ended())
    assert hour.minutes()[11].endings == {"succeeded": 2}


def test_the_most_at_once_is_kept_through_quiet_minutes(hour: LastHour, time: Time) -> None:
    """A minute begins with as many as the one before ended with."""
    for number in (1, 5, 2):
        hour.run(number)
        hour.queue(number * 10)
    time.seconds += 120
    hour.run(0)
    assert [(minute.most_running, minute.most_queued) for minute in hour.minutes().values()] == [
        (5, 50),
        (2, 20),
        (2, 20),
    ]
    assert (hour.running, hour.queued, hour.whole().most_running) == (0, 20, 5)


def test_times_to_the_outcome_and_to_the_start(hour: LastHour) -> None:
    """To the start is all time before the code ran, a refused sandbox's too, by how the call came by its sandbox."""
    warm = ended(queue=10, claim=5, run=1000, total=1020)
    hour.finished(replace(warm, started_at=warm.created_at + 0.015))
    cold = ended(start=Start.COLD, queue=0, claim=35, create=10, schedule=20, total=50)
    hour.finished(replace(cold, started_at=cold.created_at + 0.035))
    hour.finished(ended(Reason.QUOTA, start=Start.COLD, queue=0, total=9))
    whole = hour.whole()
    assert whole.totals.number == 3
    assert whole.starts[Start.WARM].percentile(1) == pytest.approx(15, rel=0.04)
    assert whole.starts[Start.COLD].percentile(1) == pytest.approx(35, rel=0.04)
    assert [whole.starts[start].number for start in Start] == [1, 1, 0]


def test_what_calls_left_adds_up(hour: LastHour, time: Time) -> None:
    """The census of every call, over all minutes."""
    hour.finished(ended())
    time.seconds += 60
    hour.finished(ended())
    whole = hour.whole()
    assert (whole.left_behind, whole.zombies, whole.unkillable) == (6, 4, 2)
