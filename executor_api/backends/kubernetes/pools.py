"""All warm pools of one service process: kept up with the templates, connected to a cluster, claimed from."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping

from executor_api.backends.base import Claim, Miss
from executor_api.backends.kubernetes.asking import retire_runner, runner_answers
from executor_api.backends.kubernetes.classify import pod_refused
from executor_api.backends.kubernetes.cluster import Cluster
from executor_api.backends.kubernetes.cold_starts import ColdStarts
from executor_api.backends.kubernetes.errors import KubernetesError, MissingError
from executor_api.backends.kubernetes.job_factory import JobFactory
from executor_api.backends.kubernetes.pool_keeper import Hands, PoolKeeper
from executor_api.backends.kubernetes.roster import Roster
from executor_api.backends.kubernetes.snapshot import JobSnapshot
from executor_api.backends.kubernetes.warm_pool import Sandboxes, WarmPool
from executor_api.domain.outcome import Evidence
from executor_api.domain.plan import default_resources
from executor_api.domain.pool import PoolStatus, Share
from executor_api.domain.template import Template
from executor_api.errors import ConfigurationError, UnavailableError

CREATE_SECONDS = 5.0
"""How long a creation for the pool is tried again: a later round asks anew."""


class Pools:
    """The pools of the templates in force, on one connected cluster."""

    def __init__(self, cluster: Cluster, factory: JobFactory, starts: ColdStarts, replica: str) -> None:
        self._cluster = cluster
        self._factory = factory
        self._starts = starts
        self._replica = replica
        self._pools: dict[str, WarmPool] = {}
        self.roster = Roster(cluster.jobs, cluster.pods, self._answers, self._changed, time.time, cluster.clock)
        self.roster.arrivals.came = self._came
        hands = Hands(self._create, self._retire, self._look, lambda: f"p-{secrets.token_hex(8)}")
        self.keeper = PoolKeeper(lambda: self._pools, self.roster, hands, cluster.clock, time.time)

    def use(self, templates: Mapping[str, Template]) -> None:
        """Take these templates; a pool whose sandboxes are made from the same as before keeps them."""
        self._pools = {item.name: self._pool(item) for item in templates.values() if item.pool.largest}
        self.keeper.wake()

    def use_share(self, share: Share) -> None:
        """What becomes ready for this process, and what for others first."""
        self.roster.share = share

    async def claim(self, claim: Claim) -> str | Miss:
        """The name of a sandbox that is reserved. Raises `SandboxFailedError`."""
        template = claim.plan.template
        pool = self._pools.get(template.name)
        if pool is None:
            return Miss(f"template {template.name!r} keeps no sandboxes waiting")
        ours = pool.sandboxes
        if ours.template is not template and ours.digest != self._factory.digest(template, ours.resources):
            return Miss("the template has changed since the call was accepted")
        return await pool.claim(claim)

    def refused(self, template: str, name: str) -> None:
        """The claimed sandbox of this name did not take its call."""
        self.roster.leave(name)
        pool = self._pools.get(template)
        if pool is not None:
            pool.refused()

    def statuses(self) -> tuple[PoolStatus, ...]:
        """Every pool as it is now, by name."""
        return tuple(pool.status(self.keeper.desired(pool)) for _, pool in sorted(self._pools.items()))

    def _pool(self, template: Template) -> WarmPool:
        resources = default_resources(template)
        digest = self._factory.digest(template, resources)
        known = self._pools.get(template.name)
        if known is None:
            sandboxes = Sandboxes(template, digest, resources)
            return WarmPool(sandboxes, self.roster, self._starts, self._replica, time.time)
        changed_at = known.sandboxes.changed_at if known.sandboxes.digest == digest else time.time()
        known.sandboxes = Sandboxes(template, digest, resources, changed_at)
        return known

    def _changed(self, template: str) -> None:
        pool = self._pools.get(template)
        if pool is not None:
            pool.serve()
        self.keeper.wake()

    def _came(self, job: JobSnapshot) -> None:
        pool = self._pools.get(job.template)
        if pool is not None and job.digest == pool.sandboxes.digest:
            pool.demand.arrived(time.time())

    async def _answers(self, name: str) -> None:
        await runner_answers(self._cluster, name)

    async def _create(self, sandboxes: Sandboxes, name: str) -> None:
        nodes = self.roster.leaks.nodes
        job = self._factory.for_pool(name, sandboxes.template, sandboxes.resources, nodes)
        await self._cluster.create_job(job, CREATE_SECONDS)

    async def _retire(self, name: str) -> bool:
        """Ask the runner, which decides whether it has a call; one that does not run has none."""
        pod = self._cluster.pods.get(name)
        if pod is not None and pod.dialable and not pod.deleting:
            try:
                if await retire_runner(self._cluster, pod, self._factory.token(name)) is not None:
                    return False
            except MissingError:
                pass  # the pod is gone
            except (KubernetesError, ConfigurationError) as error:
                raise UnavailableError(f"its runner can't be asked: {error}") from error
        if not await self._cluster.delete_job(name):
            raise UnavailableError("its Job can't be deleted now")
        return True

    async def _look(self, name: str) -> Evidence | None:
        found = pod_refused(await self._cluster.events("Job", name))
        return found.evidence if found is not None else None
