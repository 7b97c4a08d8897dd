"""Where calls get their sandboxes from, on one connected cluster: kept for the tenant, pooled, made, or found again."""

from __future__ import annotations

import contextlib
import functools
import time

from executor_api.backends.base import Claim, ConnectionLostError, Miss
from executor_api.backends.kubernetes.asking import tell_runner
from executor_api.backends.kubernetes.cluster import Cluster
from executor_api.backends.kubernetes.cold_starts import ColdStarts
from executor_api.backends.kubernetes.errors import KubernetesError
from executor_api.backends.kubernetes.images import ImageHealth
from executor_api.backends.kubernetes.job_factory import JobFactory
from executor_api.backends.kubernetes.own_pod import dialable
from executor_api.backends.kubernetes.pools import Pools
from executor_api.backends.kubernetes.sandbox import Identity, KubernetesSandbox
from executor_api.backends.kubernetes.shelf import Kept, Owner, Shelf
from executor_api.backends.kubernetes.snapshot import JobSnapshot, JobState
from executor_api.backends.kubernetes.ties import (
    Place,
    PooledTies,
    TenantTies,
    Ties,
    claimed_mark,
    put_mark,
    reused_mark,
)
from executor_api.domain.execution import Start
from executor_api.domain.plan import Plan
from executor_api.domain.request import Isolation
from executor_api.errors import ConfigurationError
from executor_runner.protocol import DONE_PATH


class Supply:
    """Hands out sandboxes. ``replica`` tells this process from others, and makes ``most_starts`` at once for calls."""

    def __init__(
        self, cluster: Cluster, factory: JobFactory, images: ImageHealth, replica: str, most_starts: int
    ) -> None:
        self._cluster = cluster
        self._factory = factory
        self._images = images
        self._starts = ColdStarts(most_starts, cluster.clock)
        self.pools = Pools(cluster, factory, self._starts, replica)
        self._shelf = Shelf(self._part_with, cluster.clock, self._is_usable)

    async def close(self) -> None:
        """Part with the sandboxes kept for tenants; those of the pool wait for the next service."""
        self.pools.roster.stop()
        await self._shelf.clear()

    async def claim(self, claim: Claim) -> KubernetesSandbox | Miss:
        """A sandbox that is there already. Raises `SandboxFailedError`."""
        began = self._cluster.clock()
        if _is_reuse(claim.plan):
            kept = self._shelf.take(self._owner(claim), claim.plan.deadline_seconds)
            if kept is not None:
                return self._reused(kept, claim)
        found = await self.pools.claim(claim)
        if isinstance(found, Miss):
            return found
        identity = self._identity(found, claim, Start.WARM, waited_ms=(self._cluster.clock() - began) * 1000)
        return KubernetesSandbox(self._cluster, identity, self._images, self._pooled_ties(found, claim))

    async def create(self, name: str, claim: Claim) -> KubernetesSandbox:
        """One made for this call at its turn. Raises `SandboxFailedError` and `UnavailableError`."""
        await self._starts.turn(claim.execution_id, claim.plan.template.start_seconds)
        try:
            return await self.make(name, claim)
        except BaseException:
            self._starts.over(claim.execution_id)
            raise

    async def make(self, name: str, claim: Claim) -> KubernetesSandbox:
        """One made at once. Raises `SandboxFailedError` and `UnavailableError`."""
        began = self._cluster.clock()
        await self._cluster.create_job(self._factory.for_call(name, claim, self.pools.roster.leaks.nodes))
        identity = self._identity(name, claim, Start.COLD, create_ms=(self._cluster.clock() - began) * 1000)
        ties = TenantTies(self._new(name, claim), claim, self._shelf) if _is_reuse(claim.plan) else Ties()
        return KubernetesSandbox(self._cluster, identity, self._images, ties, self._starts)

    def obstacle(self, name: str, execution_id: str) -> str:
        """What keeps an execution's sandbox of this name from starting, or from being made."""
        turn = self._starts.state(execution_id)
        return f"not made yet: {turn}" if turn else self.pools.roster.obstacle(name)

    def found(self, job: JobSnapshot, execution_id: str) -> KubernetesSandbox:
        """The one of a call that ran when a service stopped."""
        created = self._cluster.clock() - max(0.0, time.time() - job.created_at)
        identity = Identity(
            job=job.name,
            execution_id=execution_id,
            token=self._factory.token(job.name),
            image=job.image,
            created=created,
            deadline=created + (job.start_seconds or 0.0),
            keep_finished=job.keep_finished,
            may_have_run=True,
            shared=job.state is JobState.WAITING,
        )
        return KubernetesSandbox(self._cluster, identity, self._images)

    def _reused(self, kept: Kept, claim: Claim) -> KubernetesSandbox:
        identity = self._identity(kept.job, claim, Start.REUSED, follows=kept.last)
        return KubernetesSandbox(self._cluster, identity, self._images, TenantTies(kept, claim, self._shelf))

    def _identity(
        self,
        name: str,
        claim: Claim,
        start: Start,
        *,
        create_ms: float | None = None,
        waited_ms: float | None = None,
        follows: str = "",
    ) -> Identity:
        template, now = claim.plan.template, self._cluster.clock()
        return Identity(
            job=name,
            execution_id=claim.execution_id,
            token=self._factory.token(name),
            image=self._factory.image(template),
            created=now,
            deadline=now + template.start_seconds,
            create_ms=create_ms,
            waited_ms=waited_ms,
            keep_finished=not template.delete_finished,
            start=start,
            follows=follows,
            shared=start is Start.WARM,
        )

    def _pooled_ties(self, name: str, claim: Claim) -> Ties:
        is_reuse = _is_reuse(claim.plan)

        async def mark() -> bool:
            new_mark = reused_mark if is_reuse else claimed_mark
            return await put_mark(self._cluster, name, new_mark(claim.execution_id, claim.plan, self._age(name)))

        pools, template = self.pools, claim.plan.template.name
        place = Place(
            mark, functools.partial(pools.refused, template, name), functools.partial(pools.roster.give_back, name)
        )
        return TenantTies(self._new(name, claim), claim, self._shelf, place) if is_reuse else PooledTies(place)

    def _new(self, name: str, claim: Claim) -> Kept:
        return Kept(name, self._owner(claim), self._cluster.clock())

    def _owner(self, claim: Claim) -> Owner:
        plan = claim.plan
        return Owner(claim.tenant, plan.template.digest(), plan.resources)

    def _age(self, name: str) -> float:
        """Seconds since its Job was created."""
        job = self._cluster.jobs.get(name)
        return 0.0 if job is None else self.pools.roster.age(job.created_at)

    def _is_usable(self, name: str, call_seconds: float) -> bool:
        pod = self._cluster.pods.get(name)
        there = pod is not None and pod.dialable and not pod.deleting
        return there and self.pools.roster.outlasts(name, call_seconds)

    async def _part_with(self, kept: Kept) -> None:
        """Let the runner leave, and delete the Job."""
        with contextlib.suppress(ConnectionLostError, KubernetesError, ConfigurationError):
            pod = dialable(self._cluster.pods.get(kept.job), kept.job)
            token, named = self._factory.token(kept.job), {"execution": kept.last}
            await tell_runner(self._cluster, pod, "POST", DONE_PATH, token, named)
        await self._cluster.delete_job(kept.job)


def _is_reuse(plan: Plan) -> bool:
    return plan.request.isolation is Isolation.REUSE
