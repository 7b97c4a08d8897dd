"""Turns calls away at the door whose template would rather refuse them than have them wait for a sandbox."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from executor_api.domain.plan import Plan, default_resources
from executor_api.domain.pool import PoolStatus, Share
from executor_api.domain.pool_settings import MissPolicy
from executor_api.domain.request import Isolation
from executor_api.errors import SaturatedError
from executor_api.service.promises import Promises

_UNMEASURED = 1.0
"""Seconds a sandbox is taken to need before one was measured."""
_HELD_UP = 10.0
"""Seconds to tell, at least, while none is on its way for a reason: what was measured before holds no more."""


class PoolGate:
    """Knows how many sandboxes wait and how many calls were let in that have not taken theirs yet."""

    def __init__(self, pools: Callable[[], Sequence[PoolStatus]], monotonic: Callable[[], float]) -> None:
        self._pools = pools
        self._unclaimed: Counter[str] = Counter()
        self._promises = Promises(monotonic)
        self.share = Share()
        """What of each pool is this process's."""

    def check(self, plan: Plan) -> None:
        """Raise `SaturatedError` if its template rejects calls that find no sandbox, and there is none for it."""
        if plan.template.pool.miss is not MissPolicy.REJECT or not _needs_pool(plan):
            return
        name = plan.template.name
        pool = self._pool(name)
        if pool is None or self._has_one(pool):
            return
        why = f": {pool.problems[0]}" if pool.problems else ""
        raise SaturatedError(
            f"no sandbox of template {name!r} is free ({pool.ready} wait for {self._unclaimed[name]} calls accepted "
            f"before, {pool.starting} are being made){why}",
            self._retry_after(pool),
        )

    def has_one_for(self, plan: Plan) -> bool:
        """Whether a sandbox waits that can serve it, and that none of those let in before will take."""
        pool = self._pool(plan.template.name)
        return pool is not None and _as_pooled(plan) and self._has_one(pool)

    def expect(self, template: str) -> None:
        """A call was let in that will take one."""
        self._unclaimed[template] += 1

    def claimed(self, template: str) -> None:
        """One of those let in has its sandbox, or will not take any."""
        self._unclaimed[template] -= 1
        if not self._unclaimed[template]:
            del self._unclaimed[template]

    def _pool(self, template: str) -> PoolStatus | None:
        return next((item for item in self._pools() if item.template == template), None)

    def _has_one(self, pool: PoolStatus) -> bool:
        return pool.ready > self._unclaimed[pool.template]

    def _retry_after(self, pool: PoolStatus) -> float:
        """Seconds until there is one for this call as well, behind those let in and those turned away before."""
        pace = self.share.of / pool.refill_per_second if pool.refill_per_second else _UNMEASURED
        ahead = (self._unclaimed[pool.template] - pool.ready) * pace
        none_comes = bool(pool.problems) and pool.starting == pool.held
        return self._promises.seconds(pool.template, max(ahead, _HELD_UP) if none_comes else ahead, pace)


def _needs_pool(plan: Plan) -> bool:
    """Whether only a waiting sandbox would do: others have one made, or may find one kept for their tenant."""
    return _as_pooled(plan) and plan.request.isolation is Isolation.SINGLE_USE


def _as_pooled(plan: Plan) -> bool:
    """Whether it asks for what the sandboxes of a pool have."""
    return plan.resources == default_resources(plan.template)
