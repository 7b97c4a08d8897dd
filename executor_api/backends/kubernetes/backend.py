"""The Kubernetes backend: connects and keeps trying, makes Jobs, finds them again, and collects what nobody wants."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from executor_api.backends.base import Claim, Health, Miss, SandboxFailedError
from executor_api.backends.kubernetes import checks, names, rehearsal
from executor_api.backends.kubernetes.cache import Cache, JobCache, PodCache
from executor_api.backends.kubernetes.classify import Absent
from executor_api.backends.kubernetes.client import ApiClient
from executor_api.backends.kubernetes.cluster import Cluster
from executor_api.backends.kubernetes.credentials import Credentials, load
from executor_api.backends.kubernetes.dialer import Dialer, Way
from executor_api.backends.kubernetes.enforcement import Verdict
from executor_api.backends.kubernetes.images import ImageHealth
from executor_api.backends.kubernetes.job_factory import JobFactory, single_use
from executor_api.backends.kubernetes.leader import Leadership
from executor_api.backends.kubernetes.metrics import KubernetesMetrics, NoMetrics
from executor_api.backends.kubernetes.network_probe import Places, probe, probe_claim
from executor_api.backends.kubernetes.network_watch import NetworkWatch
from executor_api.backends.kubernetes.pool_keeper import keep_pools
from executor_api.backends.kubernetes.rehearsal import Unclaimed, rehearse
from executor_api.backends.kubernetes.sandbox import KubernetesSandbox
from executor_api.backends.kubernetes.settings import KubernetesSettings
from executor_api.backends.kubernetes.snapshot import JobSnapshot, JobState
from executor_api.backends.kubernetes.supply import Supply
from executor_api.backends.kubernetes.watch import Collection, watch_forever
from executor_api.domain.pool import PoolStatus, Share
from executor_api.domain.template import Template
from executor_api.errors import ConfigurationError, UnavailableError

RETRY_SECONDS = 2.0
"""Between attempts to get connected, and between checks while something is wrong."""
CHECK_SECONDS = 15.0
"""Between checks while all is well, and between rehearsals while the image can't be pulled."""
_SAMPLE = "default"
"""The template that is tried out; there is always one of this name."""
LISTING_SECONDS = 10.0
"""How long `find` waits for the first listing of pods."""

_log = structlog.get_logger(__name__)


class KubernetesBackend:
    """Sandboxes as Jobs of one namespace. Finds credentials through ``environ``, checks every ``check_seconds``."""

    name = "kubernetes"

    def __init__(
        self,
        settings: KubernetesSettings,
        environ: Mapping[str, str],
        check_seconds: float = CHECK_SECONDS,
        metrics: KubernetesMetrics | None = None,
    ) -> None:
        self._metrics = metrics or NoMetrics()
        self._check_seconds = check_seconds
        self._settings = settings
        self._environ = environ
        self._images = ImageHealth()
        self._templates: dict[str, Template] = {_SAMPLE: Template(name=_SAMPLE)}
        self._factory = JobFactory(settings)
        self._replica = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        self._share = Share()
        self._cluster: Cluster | None = None
        self._supply: Supply | None = None
        self._leadership: Leadership | None = None
        self._network = NetworkWatch(self._probe, required=settings.require_network_policy)
        self._problems: tuple[str, ...] = ("the Kubernetes backend is not connected yet",)
        self._task: asyncio.Task[None] | None = None
        self._rehearsed = False
        self._unclaimed = Unclaimed()

    async def start(self) -> None:
        """Begin to connect. What is in the way shows in `health`, and is tried again until it is not."""
        self._task = asyncio.create_task(self._supervise())

    async def stop(self) -> None:
        """Close all connections. Sandboxes go on: a call that runs can be found again."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._task = None
        self._problems = ("the Kubernetes backend is stopped",)

    def health(self) -> Health:
        """Ready while calls can be expected to run."""
        image = self._images.problem(self._image)
        problems = self._problems or tuple(
            text for text in (*self._interruptions(), image, self._network.problem) if text
        )
        way = self._cluster and self._cluster.dialer.way
        notes = [f"runners are reached by {way}"] if way else []
        if self._leadership is not None and self._leadership.problem:
            notes.append(f"this process keeps the pools as if it were alone: {self._leadership.problem}")
        if self._network.note and not self._network.problem:
            notes.append(self._network.note)
        return Health(not problems, problems, (*notes, *self._images.others(self._image)))

    def use_templates(self, templates: Mapping[str, Template]) -> None:
        """Read the Job template of each. Raises `ConfigurationError`; then those before stay in use."""
        self._factory.use(templates)
        self._templates = dict(templates)
        self._rehearsed = False
        if self._supply is not None:
            self._supply.pools.use(templates)

    def use_share(self, share: Share) -> None:
        """Leave to the other replicas for a moment what becomes ready for them."""
        self._share = share
        if self._supply is not None:
            self._supply.pools.use_share(share)

    async def claim(self, claim: Claim) -> KubernetesSandbox | Miss:
        """A sandbox that is there already. Raises `SandboxFailedError` and `UnavailableError`."""
        return await self._connected()[1].claim(claim)

    def pools(self) -> tuple[PoolStatus, ...]:
        """Every pool as it is now; none while there is no connection."""
        return () if self._supply is None else self._supply.pools.statuses()

    def obstacle(self, name: str, execution_id: str) -> str:
        """What keeps its sandbox of this name from starting, whichever replica has it made, or from being made here."""
        return "" if self._supply is None else self._supply.obstacle(name, execution_id)

    async def create(self, name: str, claim: Claim) -> KubernetesSandbox:
        """Create the Job. Raises `SandboxFailedError` if it is refused, `UnavailableError` if nobody can be asked."""
        return await self._connected()[1].create(name, claim)

    async def find(self, name: str, execution_id: str) -> KubernetesSandbox | None:
        """The sandbox of this name if its Job exists. Raises `UnavailableError`."""
        cluster, supply = self._connected()
        if not await cluster.pods.listed(LISTING_SECONDS):
            raise UnavailableError("the cluster's pods can't be listed now")
        job = await cluster.job(name)
        if job is Absent.UNKNOWN:
            raise UnavailableError("the API server does not answer")
        if job is Absent.DELETED and cluster.pods.get(name) is not None:
            job = cluster.jobs.get(name) or job  # remembered as its pod is, which may still tell whose call it had
        if isinstance(job, Absent) or (job.state is JobState.CLAIMED and job.execution_id != execution_id):
            return None  # a mark is put once a runner has the call: this one's can't be there
        return supply.found(job, execution_id)

    async def collect_garbage(self, is_wanted: Callable[[str], Awaitable[bool]]) -> int:
        """Delete Jobs that no execution wants. Those that wait are the pool's, and one replica does it for all."""
        cluster, supply = self._connected()
        if self._leadership is not None and not (self._leadership.leading or self._leadership.problem):
            return 0
        if not await cluster.jobs.listed(LISTING_SECONDS):
            raise UnavailableError("the cluster's Jobs can't be listed now")
        deleted = 0
        for job in cluster.jobs.all():
            left_alone = self._is_left_alone(job, supply.pools.roster.age(job.created_at))
            if not left_alone and not await is_wanted(job.execution_id):
                deleted += await cluster.delete_job(job.name)
        return deleted

    def _is_left_alone(self, job: JobSnapshot, age: float) -> bool:
        """Whether something else sees to its end: the pool, its TTL, the tenant's last call, or who tries things out.

        A sandbox for reuse bears the name of its first call; its last one, which may need its log, nobody can tell.
        """
        return (
            job.state in (JobState.WAITING, JobState.REUSED)
            or job.deleting
            or job.leaky
            or (job.keep_finished and job.finished)
            or (job.execution_id == rehearsal.EXECUTION and self._unclaimed.is_needed(job.name, age))
        )

    def _connected(self) -> tuple[Cluster, Supply]:
        if self._cluster is None or self._supply is None:
            raise UnavailableError(self._problems[0] if self._problems else "the Kubernetes backend is not connected")
        return self._cluster, self._supply

    @property
    def _image(self) -> str:
        return self._templates[_SAMPLE].image or self._settings.image

    async def _supervise(self) -> None:
        """Get connected, however long it takes, and stay so."""
        while True:
            try:
                await self._serve(await load(self._settings.kubeconfig, self._settings.context, self._environ))
            except ConfigurationError as error:
                self._problems = (str(error),)
            await asyncio.sleep(RETRY_SECONDS)

    async def _serve(self, credentials: Credentials) -> None:
        """Watch, check and keep the pools for ever, over the same connections, which sandboxes use too."""
        namespace, clock = self._settings.namespace, time.monotonic
        async with ApiClient(credentials, self._metrics) as client, self._dialer(client) as dialer:
            await self._factory.owner.find(client, credentials.source)
            pods = PodCache(clock, functools.partial(self._metrics.informer_event, "pods"))
            jobs = JobCache(clock, functools.partial(self._metrics.informer_event, "jobs"))
            self._cluster = Cluster(client, pods, jobs, dialer, namespace, clock)
            self._supply = Supply(
                self._cluster, self._factory, self._images, self._replica, self._settings.max_cold_starts
            )
            self._supply.pools.use_share(self._share)
            self._supply.pools.use(self._templates)
            self._leadership = Leadership(
                client, namespace, self._settings.service_id, self._replica, mark=self._factory.owner.mark
            )
            try:
                while True:
                    await self._work(self._cluster, self._supply, self._leadership, credentials)
                    await asyncio.sleep(RETRY_SECONDS)
            finally:
                await self._supply.close()
                self._cluster = self._supply = self._leadership = None

    def _dialer(self, client: ApiClient) -> Dialer:
        return Dialer(client, self._settings.namespace, self._settings.dispatch, self._metrics)

    async def _work(self, cluster: Cluster, supply: Supply, leadership: Leadership, credentials: Credentials) -> None:
        """The supervisor of all tasks: a defect in one is said in the log and in `health`, and all begin again."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow(cluster, cluster.pods, "pods", names.pods_path(cluster.namespace)))
                group.create_task(self._follow(cluster, cluster.jobs, "jobs", names.jobs_path(cluster.namespace)))
                group.create_task(self._check(cluster, credentials))
                group.create_task(self._network.run())
                group.create_task(keep_pools(leadership, supply.pools.keeper, cluster.jobs))
        except Exception as error:  # noqa: BLE001 - see above
            _log.exception("the Kubernetes backend stumbled", exc_info=error)
            self._problems = (f"the Kubernetes backend stumbled over a defect: {error!r}; see the log",)

    async def _follow(self, cluster: Cluster, cache: Cache[Any], resource: str, path: str) -> None:
        restarted = functools.partial(self._metrics.watch_restarted, resource)
        selector = names.selector(self._settings.service_id)
        await cache.follow(watch_forever(Collection(cluster.client, path, selector, random.random, restarted)))

    def _interruptions(self) -> list[str]:
        """What keeps us from hearing how things stand."""
        if self._cluster is None:
            return []
        caches: list[tuple[str, Cache[Any]]] = [("pods", self._cluster.pods), ("Jobs", self._cluster.jobs)]
        return [
            f"the watch of the cluster's {what} is interrupted: {cache.trouble}"
            for what, cache in caches
            if cache.trouble
        ]

    async def _check(self, cluster: Cluster, credentials: Credentials) -> None:
        while True:
            claim = Claim(rehearsal.EXECUTION, "", single_use(self._templates[_SAMPLE]))
            rights = (*checks.ALWAYS, *checks.PROXY) if cluster.dialer.way is Way.PROXY else checks.ALWAYS
            sample = self._factory.for_call("sample", claim)
            found = await checks.problems(cluster.client, cluster.namespace, credentials.source, rights, sample)
            found = found or await self._owner_problem(cluster, credentials)
            if not found and (not self._rehearsed or self._images.problem(self._image)):
                found = await self._rehearse(claim)
                self._rehearsed = not found
            if tuple(found) != self._problems:
                _log.info("cluster checked", problems=found, host=cluster.client.host)
            self._problems = tuple(found)
            if not found:
                self._network.cleared.set()
            await asyncio.sleep(RETRY_SECONDS if found else self._check_seconds)

    async def _owner_problem(self, cluster: Cluster, credentials: Credentials) -> list[str]:
        try:
            await self._factory.owner.find(cluster.client, credentials.source)
        except ConfigurationError as error:
            return [str(error)]
        return []

    async def _rehearse(self, claim: Claim) -> list[str]:
        try:
            cluster, supply = self._connected()
            async with self._unclaimed.one("rehearsal", cluster) as name:
                problem = await rehearse(await supply.make(name, claim))
        except SandboxFailedError as error:
            problem = rehearsal.refusal(error)
        except UnavailableError as error:
            _log.warning("no rehearsal", error=str(error))
            return []  # an API server just gone: the next check tells
        return [problem] if problem else []

    async def _probe(self) -> Verdict:
        cluster, supply = self._connected()
        template = self._templates[_SAMPLE]
        api = cluster.client.host if cluster.client.in_cluster else ""
        async with self._unclaimed.one("probe", cluster) as name:
            making = supply.make(name, probe_claim(template))
            return await probe(making, template, Places(cluster.namespace, self._settings.port, api))
