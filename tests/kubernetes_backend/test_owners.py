"""Several services in one namespace with one master key."""

from __future__ import annotations

from pathlib import Path

from executor_api.master_key import owner_id
from kubernetes_backend.world import World, ready


async def _nothing(execution_id: str) -> bool:
    """Wants nothing: this service's records know no execution."""
    del execution_id
    return False


async def test_services_with_one_key_leave_each_others_sandboxes(world: World) -> None:
    """Garbage is judged by one service's records, so another's running sandboxes are not looked at."""
    first, second = await world.started(owner="a"), await world.started(owner="b")
    sandbox = await ready(first)
    assert await second.collect_garbage(_nothing) == 0
    assert await sandbox.alive()
    assert await first.collect_garbage(_nothing) == 1
    assert world.api.objects.all("jobs") == []


def test_owner_is_kept_with_the_records(tmp_path: Path) -> None:
    """A restarted service is the same owner; one with other records is another."""
    assert owner_id(tmp_path / "a") == owner_id(tmp_path / "a") != owner_id(tmp_path / "b")
