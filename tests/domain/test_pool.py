"""The plan of a warm pool, and the measurements it sizes itself by."""

from __future__ import annotations

from dataclasses import replace

import pytest

from executor_api.domain.pool import NOTHING, Demand, Member, Pace, Phase, PoolPlan, Target, plan_pool
from executor_api.domain.pool_settings import PoolSettings

NOW = 10_000.0
STARTING, READY, TAKEN, ENDED = Phase.STARTING, Phase.READY, Phase.TAKEN, Phase.ENDED


def member(name: str, phase: Phase, digest: str = "new", age: float = 1.0, obstacle: str = "") -> Member:
    return Member(name, digest, phase, NOW - age, obstacle)


def planned(size: int, *members: Member, expected: int = 0, cold: int = 0) -> PoolPlan:
    return plan_pool(Target("new", size, max_idle_seconds=100), members, expected, cold, NOW)


def test_what_is_where_none_should_be_is_replaced_at_once() -> None:
    """It does not count, and goes; while it starts with nothing in its way, a call may come, so it is left alone."""
    members = [member("a", READY), *(replace(member(name, READY), unfit=True) for name in "bc")]
    assert planned(3, *members) == PoolPlan(2, ("b", "c"))
    starting = replace(member("d", STARTING), unfit=True)
    assert planned(1, starting) == PoolPlan(1, ())
    assert planned(1, replace(starting, obstacle="affinity")) == PoolPlan(1, ("d",))


@pytest.mark.parametrize(
    ("members", "expected", "create"),
    [
        ([], 0, 3),
        ([], 2, 1),
        ([], 5, 0),
        ([member("a", READY), member("b", STARTING)], 0, 1),
        ([member("a", READY), member("b", STARTING)], 1, 0),
        ([member("a", TAKEN), member("b", TAKEN)], 0, 3),
        ([member("a", ENDED), member("b", READY)], 0, 2),
        ([member(name, STARTING, obstacle="no memory") for name in "abc"], 0, 0),
        ([member("a", READY, digest="old")], 0, 3),
    ],
)
def test_what_is_missing_is_created_once(members: list[Member], expected: int, create: int) -> None:
    """What waits, starts, is held up or on its way counts; what is taken, over or made from something else does not."""
    assert planned(3, *members, expected=expected).create == create


@pytest.mark.parametrize(
    ("members", "retire"),
    [
        ([member(name, phase, digest="old") for name, phase in [("a", READY), ("b", STARTING), ("c", TAKEN)]], "a"),
        ([member("a", STARTING, digest="old", obstacle="no image")], "a"),
        ([member("a", READY, age=5), member("b", READY, age=9), member("c", STARTING)], "b"),
        ([member("a", READY), member("b", READY), member("c", STARTING, obstacle="no memory")], "c"),
        ([member("a", STARTING), member("b", STARTING), member("c", STARTING)], ""),
        ([member("a", ENDED)], "a"),
    ],
)
def test_what_is_retired(members: list[Member], retire: str) -> None:
    """The outdated, the ended and the surplus: held ones first, then the oldest, and never one that just starts."""
    assert planned(2, *members).retire == tuple(retire)


def test_the_pool_grows_behind_calls_that_have_sandboxes_made() -> None:
    """Their sandboxes come first where room is short; what waits already stays."""
    assert planned(3, member("a", READY), cold=1).create == 1
    assert planned(3, member("a", READY), member("b", READY), member("c", READY), cold=2) == PoolPlan(0, ())
    assert planned(3, cold=5).create == 0


def test_an_aged_one_stays_until_its_successors_are_ready() -> None:
    """Nobody finds the pool empty because its sandboxes grew old together."""
    aged = [member("a", READY, age=200), member("b", READY, age=200)]
    assert planned(2, *aged) == PoolPlan(2, ())
    assert planned(2, *aged, member("c", READY), member("d", STARTING)) == PoolPlan(0, ())
    assert planned(2, *aged, member("c", READY), member("d", READY)) == PoolPlan(0, ("a", "b"))


def test_where_successors_have_no_room_the_aged_make_it_one_after_the_other() -> None:
    """A pool that fills the cluster is renewed too; each that goes waits for the one before it to be replaced."""
    aged = [member("a", READY, age=300), member("b", READY, age=400)]
    held = [replace(member(name, STARTING, obstacle="Insufficient nvidia.com/gpu"), crowded_out=True) for name in "cd"]
    assert planned(2, *aged, *held) == PoolPlan(0, ("b",))
    assert planned(2, aged[0], *held) == PoolPlan(0, ())
    assert planned(2, aged[0], member("c", STARTING), held[1]) == PoolPlan(0, ())
    assert planned(2, aged[0], member("c", STARTING, obstacle="image is gone"), held[1]) == PoolPlan(0, ())
    assert planned(2, aged[0], member("c", READY), held[1]) == PoolPlan(0, ("a",))


def test_the_aged_stay_where_successors_can_not_start_at_all() -> None:
    """No room helps an image that is gone: those that have it serve on."""
    aged = [member("a", READY, age=300), member("b", READY, age=300)]
    assert planned(2, *aged, *(member(name, STARTING, obstacle="image is gone") for name in "cd")) == PoolPlan(0, ())


def test_what_does_not_outlast_a_call_is_replaced_at_once() -> None:
    """The cluster would end it with the call in it."""
    target = Target("new", 2, max_idle_seconds=100, call_seconds=60)
    members = [replace(member("a", READY, age=200), lasts=59), replace(member("b", READY), lasts=71)]
    assert plan_pool(target, members, 0, 0, NOW) == PoolPlan(1, ("a",))


def test_those_made_at_once_are_not_replaced_at_once_for_lasting_too_short() -> None:
    """Where there is no room for successors before, a pool would be empty of a sudden."""
    target = Target("new", 100, max_idle_seconds=1000, call_seconds=60)
    members = [replace(member(f"p-{n}", READY), lasts=110) for n in range(100)]
    assert 20 < len(plan_pool(target, members, 0, 0, NOW).retire) < 80


def test_of_a_template_that_is_gone_nothing_stays_but_what_may_have_a_call() -> None:
    """Another replica may not know yet: only a runner says that it has no call."""
    members = [member("a", READY), member("b", STARTING), member("c", TAKEN), member("d", ENDED)]
    assert plan_pool(NOTHING, members, 0, 0, NOW) == PoolPlan(0, ("d", "a"))


def test_sandboxes_age_at_different_times() -> None:
    """A pool that was made at once is not replaced at once."""
    members = [member(f"p-{n}", READY, age=100) for n in range(100)]
    aged = plan_pool(Target("new", 100, 100), members, 0, 0, NOW).create
    assert 20 < aged < 80


def test_a_pool_sizes_itself_by_arrivals_and_replacement_time() -> None:
    """Ten calls a second and two seconds a replacement want about twenty, and some for chance; silence, the floor."""
    demand, settings = Demand(), PoolSettings(floor=2, ceiling=50)
    assert demand.size(settings, None, NOW) == 2
    now = NOW
    for _ in range(1000):
        now += 0.1
        demand.arrived(now)
    assert 28 <= demand.size(settings, 2.0, now) <= 34
    assert demand.size(settings, 2.0, now + 60) == 2
    assert demand.size(PoolSettings(floor=2, ceiling=10), 2.0, now) == 10
    assert demand.size(PoolSettings(size=7), 2.0, now) == 7


def made(*sandboxes: tuple[float, float]) -> Pace:
    """The pace of sandboxes that began and were ready then."""
    pace = Pace()
    for began, ready in sandboxes:
        pace.became_ready(NOW + began, NOW + ready)
    return pace


@pytest.mark.parametrize(
    ("sandboxes", "rate"),
    [
        ([], None),
        ([(0, 0.5)], 2.0),
        ([(0, 0.5), (100, 100.5), (9000, 9000.5)], 2.0),
        ([(0, 0.5), (0, 0.75), (0, 1.0), (0, 1.25)], 3.2),
        ([(0, 0.5), (0, 0.5), (70, 70.5), (70, 70.5)], 4.0),
        ([(30, 30.5), (0, 60.5)], 2 / 30.5),
    ],
    ids=["nothing", "one", "one at a time", "a burst", "pairs", "a slow one beside a fast one"],
)
def test_the_pace_counts_only_time_in_which_any_is_made(sandboxes: list[tuple[float, float]], rate: float) -> None:
    """A pause with nothing to do is no slow refill, and what is made side by side is quicker than one by one."""
    assert made(*sandboxes).refill_per_second == (rate and pytest.approx(rate))


def test_the_pace_is_that_of_late() -> None:
    """One that took ten minutes is forgotten after twenty others."""
    pace = made((0, 600), *((n, n + 0.25) for n in range(1000, 1020)))
    assert pace.refill_per_second == pytest.approx(4.0)
    assert pace.replacement_seconds == pytest.approx(0.25, abs=10)
