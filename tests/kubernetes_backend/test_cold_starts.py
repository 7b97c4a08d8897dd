"""Calls that find no sandbox waiting: so many have one made at once, and the others wait for what comes first."""

from __future__ import annotations

import asyncio

import pytest

from executor_api.backends.base import Claim, Miss, SandboxFailedError
from executor_api.backends.kubernetes import cold_starts
from executor_api.backends.kubernetes.backend import KubernetesBackend
from executor_api.domain.execution import Start
from executor_api.domain.outcome import Reason
from executor_api.domain.plan import plan
from executor_api.domain.pool_settings import PoolSettings
from executor_api.domain.request import ExecutionRequest
from executor_api.domain.template import Template
from kubernetes_backend.world import World, arrived, read, until

POOLED = Template(name="default", pool=PoolSettings(size=2))
UNPOOLED = Template(name="default")


def claim(execution_id: str, of: Template = UNPOOLED) -> Claim:
    return Claim(execution_id, "t", plan(ExecutionRequest(code="1"), {"default": of}))


def made_for_calls(world: World) -> list[str]:
    """Names of the Jobs that were; those of the pool that calls have taken are left out."""
    return [name for name in world.waiting("claimed") if name.startswith("x-")]


async def served(world: World, backend: KubernetesBackend, wanted: Claim) -> Start:
    """As a call is: a sandbox that waits, or one made for it, which is deleted when the call is over."""
    found = await backend.claim(wanted)
    sandbox = await backend.create(f"x-{wanted.execution_id}", wanted) if isinstance(found, Miss) else found
    await sandbox.ready()
    runner = world.runners[sandbox.details.name]
    runner.execution_id = wanted.execution_id
    await runner.finish()
    await read(sandbox.dispatch(b"{}"))
    await sandbox.release()
    return sandbox.start


async def test_a_burst_beyond_the_pool_starts_few_at_once_and_makes_no_more_than_it_needs(world: World) -> None:
    """Ten calls on a pool of two: three are made for calls, none for the pool before those run, and twelve in all."""
    backend = await world.pooled(POOLED, max_cold_starts=3)
    made = set(world.waiting())
    world.running = world.pool_running = False
    calls = [asyncio.create_task(served(world, backend, claim(f"e-{n}", POOLED))) for n in range(10)]
    await until(lambda: len(made_for_calls(world)) == 3)
    await asyncio.sleep(0.6)  # rounds in which too many would be made
    assert len(made_for_calls(world)) == 3
    assert set(world.waiting()) <= made
    world.running = world.pool_running = True
    for name in made_for_calls(world):
        await world.run_pod(name)
    starts = await asyncio.gather(*calls)
    await until(lambda: backend.pools()[0].ready == 2)
    assert starts.count(Start.WARM) + starts.count(Start.COLD) == 10
    assert starts.count(Start.WARM) >= 2
    gone = {path.rpartition("/")[2] for method, path in world.api.requests if method == "DELETE" and "/jobs/" in path}
    assert len([name for name in gone if not name.startswith(("rehearsal-", "probe-"))]) == 10
    assert len(world.waiting()) == 2


async def test_a_call_that_waits_for_its_turn_takes_what_the_pool_has_first(world: World) -> None:
    """The one sandbox being made for a call does not start; the pool's do, and serve the others."""
    backend = await world.pooled(POOLED, max_cold_starts=1)
    world.running = False
    calls = [asyncio.create_task(served(world, backend, claim(f"e-{n}", POOLED))) for n in range(8)]
    await until(lambda: sum(call.done() for call in calls) >= len(calls) - 1)
    assert {call.result() for call in calls if call.done()} == {Start.WARM}
    for call in calls:
        call.cancel()


async def test_where_room_is_short_fewer_are_made_at_once_until_it_is_not(world: World) -> None:
    """Eight at first; after one that finds no room half as many; and more again as sandboxes start."""
    backend = await world.pooled()
    world.running = False
    calls = [asyncio.create_task(served(world, backend, claim(f"e-{n:02}"))) for n in range(40)]
    await until(lambda: len(world.waiting("claimed")) == 8)
    full = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient cpu"}
    await world.change_pod("x-e-00", conditions=[full])
    await until(lambda: "Insufficient cpu" in backend.obstacle("x-e-00", "e-00"))
    await arrived()
    for n in range(8):
        await world.run_pod(f"x-e-{n:02}")
    await until(lambda: all(call.done() for call in calls[:8]))
    await until(lambda: len(world.waiting("claimed")) == 5)  # 4, and a little for each of the 8
    world.running = True
    for name in world.waiting("claimed"):
        await world.run_pod(name)
    await asyncio.gather(*calls)


async def test_calls_without_a_pool_wait_their_turn_and_explain_says_so(world: World) -> None:
    """First come, first served; one in line knows how many are before it."""
    backend = await world.pooled(max_cold_starts=1)
    world.running = False
    calls = []
    for name in ("e-1", "e-2", "e-3"):
        calls.append(asyncio.create_task(served(world, backend, claim(name))))
        await arrived()
    await until(lambda: world.waiting("claimed") == ["x-e-1"])
    line = "not made yet: 1 are being made for calls, as many as may be now, and 1 calls come before it"
    await until(lambda: backend.obstacle("x-e-3", "e-3") == line)
    await world.run_pod("x-e-1")
    await until(lambda: world.waiting("claimed") == ["x-e-2"])
    world.running = True
    await world.run_pod("x-e-2")
    assert await asyncio.gather(*calls) == [Start.COLD] * 3


async def test_a_call_that_gives_up_passes_its_turn_on(world: World) -> None:
    """Whether it was in line or had its turn."""
    backend = await world.pooled(max_cold_starts=1)
    world.running = False
    first, second, third = [asyncio.create_task(served(world, backend, claim(name))) for name in ("e-1", "e-2", "e-3")]
    await until(lambda: world.waiting("claimed") == ["x-e-1"])
    second.cancel()
    first.cancel()
    await until(lambda: "x-e-3" in world.waiting("claimed"))
    assert "x-e-2" not in world.waiting("claimed")
    await world.run_pod("x-e-3")
    assert await third is Start.COLD


async def test_one_that_does_not_start_keeps_nobody_waiting_for_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What holds it up need not hold up the next one."""
    monkeypatch.setattr(cold_starts, "HOLD_SECONDS", 0.3)
    backend = await world.pooled(max_cold_starts=1)
    world.running = False
    held, other = [asyncio.create_task(served(world, backend, claim(name))) for name in ("e-1", "e-2")]
    await until(lambda: world.waiting("claimed") == ["x-e-1", "x-e-2"])
    await world.run_pod("x-e-2")
    assert await other is Start.COLD
    held.cancel()


async def test_a_turn_that_does_not_come_ends_the_call_honestly(world: World) -> None:
    """It ends as one that did not start, within the time its sandbox may take, and says why."""
    backend = await world.pooled(max_cold_starts=1)
    world.running = False
    blocker = asyncio.create_task(served(world, backend, claim("e-1")))
    await until(lambda: world.waiting("claimed") == ["x-e-1"])
    with pytest.raises(SandboxFailedError, match="no sandbox could be made in time: 1 are being made") as caught:
        await served(world, backend, claim("e-2", UNPOOLED.model_copy(update={"start_seconds": 0.5})))
    assert caught.value.evidence.reason is Reason.START_TIMEOUT
    assert world.waiting("claimed") == ["x-e-1"]
    blocker.cancel()


async def test_a_pool_that_has_none_in_time_ends_the_call_as_honestly(world: World) -> None:
    """Neither a sandbox of the pool nor a turn came; nothing was made for the call."""
    hasty = POOLED.model_copy(update={"start_seconds": 1.0})
    backend = await world.pooled(hasty, max_cold_starts=1)
    world.running = world.pool_running = False
    warm = [await backend.claim(claim(f"w-{n}", hasty)) for n in range(2)]
    blocker = asyncio.create_task(backend.claim(claim("e-1", hasty)))
    await asyncio.sleep(0)
    with pytest.raises(SandboxFailedError, match="no sandbox became free in time") as caught:
        await backend.claim(claim("e-2", hasty))
    assert caught.value.evidence.reason is Reason.START_TIMEOUT
    assert not any(isinstance(found, Miss) for found in warm)
    await asyncio.gather(blocker, return_exceptions=True)
    assert world.waiting("claimed") == []
