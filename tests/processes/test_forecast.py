"""How long processes are stuck, and when limits are reached."""

from __future__ import annotations

import math

import pytest

from executor_api.processes.growth import Forecast, Outlook
from executor_api.processes.pressure import Usage
from executor_api.processes.stuck import Sleeper, StuckSince


def sleeper(pid: int = 5, started: int = 1, ran: bytes = b"1") -> Sleeper:
    return Sleeper(pid, started, ran, "nfs_wait")


def test_a_process_is_stuck_since_it_was_first_seen_so() -> None:
    """Time adds up while it does not run, and begins anew once it did or was not in D state."""
    stuck = StuckSince()
    assert stuck.update(10, [sleeper()]) == {sleeper(): 0}
    assert stuck.update(40, [sleeper()]) == {sleeper(): 30}
    assert stuck.update(50, [sleeper(ran=b"2")]) == {sleeper(ran=b"2"): 0}
    assert stuck.update(60, []) == {}
    assert stuck.update(70, [sleeper(ran=b"2")]) == {sleeper(ran=b"2"): 0}


def test_a_pid_used_again_is_another_process() -> None:
    """It takes nothing over from the one that had its pid."""
    stuck = StuckSince()
    stuck.update(0, [sleeper(started=1)])
    assert stuck.update(9, [sleeper(started=2)]) == {sleeper(started=2): 0}


def test_steady_growth_has_an_end() -> None:
    """Two a second from 100 reach 1,000 in 450 s; before a minute of looks nothing is said."""
    forecast = Forecast()
    found = [forecast.update(10.0 * step, {"pids": Usage(100 + 20 * step, 1000)}) for step in range(10)]
    assert found[:6] == [None] * 6
    assert found[-1] is not None
    assert found[-1].per_second == pytest.approx(2)
    assert found[-1].seconds_left == pytest.approx((1000 - 280) / 2)


def test_what_does_not_grow_never_runs_out() -> None:
    """Steady and shrinking figures are at no end; one that is full is there at once if it still grows."""
    for step, left in ((0, math.inf), (-1, math.inf), (1, 0)):
        forecast = Forecast()
        for time in range(0, 90, 10):
            outlook = forecast.update(time, {"pids": Usage(500 + step * time, 500)})
        assert outlook == Outlook(pytest.approx(step), left)


def test_the_first_to_run_out_is_told() -> None:
    """Of several limits it is the one that is reached first, not the one that is fullest or grows most."""
    forecast = Forecast()
    for time in range(0, 90, 10):
        usages = {"full": Usage(99, 100), "fast": Usage(10 * time, 10**6), "first": Usage(time, 100)}
        outlook = forecast.update(time, usages)
    assert outlook == Outlook(pytest.approx(1), pytest.approx(20))
    assert forecast.update(90, {"full": Usage(99, 100)}) == Outlook(pytest.approx(0), math.inf)


def test_old_figures_are_forgotten() -> None:
    """A burst of long ago has no part in the rate of now."""
    forecast = Forecast(window=100, least=50)
    for time in range(0, 400, 10):
        outlook = forecast.update(time, {"pids": Usage(min(10 * time, 1000), 5000)})
    assert outlook == Outlook(pytest.approx(0), math.inf)


def test_a_single_step_is_no_growth() -> None:
    """A batch of 300 that comes at once and stays never makes a critical alert, however long ago it came."""
    forecast = Forecast()
    found = [forecast.update(at, {"pids": Usage(150 if at < 900 else 450, 1024)}) for at in range(0, 2700, 15)]
    assert {outlook.seconds_left for outlook in found if outlook} == {math.inf}


def test_growth_that_goes_on_is_told_at_its_slowest() -> None:
    """With a step amid steady growth the rate is that without the step."""
    forecast = Forecast()
    for at in range(0, 900, 10):
        outlook = forecast.update(at, {"pids": Usage(at + (500 if at > 400 else 0), 10_000)})
    assert outlook is not None
    assert outlook.per_second == pytest.approx(1)


def test_what_is_missing_for_a_while_is_remembered() -> None:
    """A process that is not among the worst in one look keeps its figures; after a minute they are forgotten."""
    forecast = Forecast()
    for at in range(0, 100, 10):
        forecast.update(at, {"a": Usage(at, 1000)})
    forecast.update(100, {})
    assert forecast.update(110, {"a": Usage(110, 1000)}) == Outlook(pytest.approx(1), pytest.approx(890))
    forecast.update(180, {})
    assert forecast.update(190, {"a": Usage(190, 1000)}) is None
