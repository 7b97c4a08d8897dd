"""The Kubernetes backend: connects and keeps trying, makes Jobs, finds them again, and collects what nobody wants."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog

from executor_api.backends.base import Claim, Health, Miss, SandboxFailedError
from executor_api.backends.kubernetes import checks, names, rehearsal
from executor_api.backends.kubernetes.cache import PodCache
from executor_api.backends.kubernetes.classify import Absent, refused
from executor_api.backends.kubernetes.client import ApiClient
from executor_api.backends.kubernetes.cluster import Cluster
from executor_api.backends.kubernetes.credentials import Credentials, load
from executor_api.backends.kubernetes.dialer import Dialer, Way
from executor_api.backends.kubernetes.errors import ConflictError, KubernetesError
from executor_api.backends.kubernetes.images import ImageHealth
from executor_api.backends.kubernetes.job_template import Tree, load_skeleton
from executor_api.backends.kubernetes.manifests import JobValues, build_job
from executor_api.backends.kubernetes.metrics import KubernetesMetrics, NoMetrics
from executor_api.backends.kubernetes.rehearsal import rehearse
from executor_api.backends.kubernetes.sandbox import Identity, KubernetesSandbox
from executor_api.backends.kubernetes.settings import KubernetesSettings
from executor_api.backends.kubernetes.snapshot import JobSnapshot, parse_job
from executor_api.backends.kubernetes.watch import Collection, watch_forever
from executor_api.domain.outcome import Evidence, Reason
from executor_api.domain.pool import PoolStatus
from executor_api.domain.request import ExecutionRequest
from executor_api.domain.template import Template, plan
from executor_api.errors import ConfigurationError, UnavailableError
from executor_runner.protocol.tokens import sandbox_token, token_hash

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
        self._skeletons: dict[str, Tree] = {}
        self._cluster: Cluster | None = None
        self._problems: tuple[str, ...] = ("the Kubernetes backend is not connected yet",)
        self._task: asyncio.Task[None] | None = None
        self._rehearsed = False
        self._rehearsing: set[str] = set()

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
        trouble = self._cluster and self._cluster.pods.trouble
        image = self._images.problem(self._image)
        watch = f"the watch of the cluster's pods is interrupted: {trouble}" if trouble else None
        problems = self._problems or tuple(text for text in (watch, image) if text)
        way = self._cluster and self._cluster.dialer.way
        notes = (f"runners are reached by {way}",) if way else ()
        return Health(not problems, problems, (*notes, *self._images.others(self._image)))

    def use_templates(self, templates: Mapping[str, Template]) -> None:
        """Read the Job template of each. Raises `ConfigurationError`; then those before stay in use."""
        skeletons = {item.digest(): load_skeleton(item, self._settings.image) for item in templates.values()}
        self._templates, self._skeletons = dict(templates), skeletons
        self._rehearsed = False

    async def claim(self, claim: Claim) -> Miss:
        """Nothing waits yet."""
        return Miss(f"template {claim.plan.template.name!r} keeps no sandboxes waiting")

    def pools(self) -> tuple[PoolStatus, ...]:
        """None yet."""
        return ()

    async def create(self, name: str, claim: Claim) -> KubernetesSandbox:
        """Create the Job. Raises `SandboxFailedError` if it is refused, `UnavailableError` if nobody can be asked."""
        cluster = self._connected()
        began = cluster.clock()
        try:
            await cluster.client.create(names.jobs_path(self._settings.namespace), self._job(name, claim))
        except ConflictError:
            pass  # made before, by an attempt whose answer was lost
        except ConfigurationError as error:
            raise SandboxFailedError(Evidence(Reason.REJECTED_TEMPLATE, str(error))) from error
        except KubernetesError as error:
            evidence = refused(error)
            if evidence is not None:
                raise SandboxFailedError(evidence) from error
            raise UnavailableError(f"the Job can't be created now: {error}") from error
        now = cluster.clock()
        identity = Identity(
            job=name,
            execution_id=claim.execution_id,
            token=sandbox_token(self._settings.master_key, name),
            image=claim.plan.template.image or self._settings.image,
            created=now,
            deadline=now + claim.plan.template.start_seconds,
            create_ms=(now - began) * 1000,
            keep_finished=not claim.plan.template.delete_finished,
        )
        return KubernetesSandbox(cluster, identity, self._images)

    async def find(self, name: str, execution_id: str) -> KubernetesSandbox | None:
        """The sandbox of this name if its Job exists. Raises `UnavailableError`."""
        cluster = self._connected()
        if not await cluster.pods.listed(LISTING_SECONDS):
            raise UnavailableError("the cluster's pods can't be listed now")
        job = await cluster.job(name)
        if job is Absent.UNKNOWN:
            raise UnavailableError("the API server does not answer")
        return (
            KubernetesSandbox(cluster, self._identity(job, execution_id, cluster), self._images)
            if isinstance(job, JobSnapshot)
            else None
        )

    async def collect_garbage(self, is_wanted: Callable[[str], Awaitable[bool]]) -> int:
        """Delete Jobs of this service that no execution wants; kept ones that are finished are left to their TTL."""
        cluster = self._connected()
        try:
            listing = await cluster.client.get(
                names.jobs_path(self._settings.namespace), {"labelSelector": names.selector(self._settings.service_id)}
            )
        except (KubernetesError, ConfigurationError) as error:
            raise UnavailableError(f"Jobs can't be listed now: {error}") from error
        deleted = 0
        for job in map(parse_job, listing["items"]):
            kept = job.deleting or (job.keep_finished and job.finished) or job.name in self._rehearsing
            if not kept and not await is_wanted(job.execution_id):
                deleted += await cluster.delete_job(job.name)
        return deleted

    def _connected(self) -> Cluster:
        if self._cluster is None:
            raise UnavailableError(self._problems[0] if self._problems else "the Kubernetes backend is not connected")
        return self._cluster

    @property
    def _image(self) -> str:
        return self._templates[_SAMPLE].image or self._settings.image

    def _skeleton(self, template: Template) -> Tree:
        digest = template.digest()
        if digest not in self._skeletons:
            self._skeletons[digest] = load_skeleton(template, self._settings.image)
        return self._skeletons[digest]

    def _job(self, name: str, claim: Claim) -> Tree:
        plan = claim.plan
        values = JobValues(
            name=name,
            namespace=self._settings.namespace,
            execution_id=claim.execution_id,
            service_id=self._settings.service_id,
            token_hash=token_hash(sandbox_token(self._settings.master_key, name)),
            resources=plan.resources,
            deadline_seconds=plan.deadline_seconds,
        )
        return build_job(self._skeleton(plan.template), plan.template, values)

    def _identity(self, job: JobSnapshot, execution_id: str, cluster: Cluster) -> Identity:
        created = cluster.clock() - max(0.0, time.time() - job.created_at)
        return Identity(
            job=job.name,
            execution_id=execution_id,
            token=sandbox_token(self._settings.master_key, job.name),
            image=job.image,
            created=created,
            deadline=created + (job.start_seconds or 0.0),
            create_ms=None,
            keep_finished=job.keep_finished,
        )

    async def _supervise(self) -> None:
        """Get connected, however long it takes, and stay so."""
        while True:
            try:
                await self._serve(await load(self._settings.kubeconfig, self._settings.context, self._environ))
            except ConfigurationError as error:
                self._problems = (str(error),)
            await asyncio.sleep(RETRY_SECONDS)

    async def _serve(self, credentials: Credentials) -> None:
        """Watch and check for ever, over the same connections, which sandboxes use too."""
        namespace = self._settings.namespace
        async with ApiClient(credentials, self._metrics) as client, self._dialer(client) as dialer:
            pods = PodCache(time.monotonic, functools.partial(self._metrics.informer_event, "pods"))
            self._cluster = Cluster(client, pods, dialer, namespace, time.monotonic)
            try:
                while True:
                    await self._watch_and_check(self._cluster, credentials)
                    await asyncio.sleep(RETRY_SECONDS)
            finally:
                self._cluster = None

    def _dialer(self, client: ApiClient) -> Dialer:
        return Dialer(client, self._settings.namespace, self._settings.dispatch, self._metrics)

    async def _watch_and_check(self, cluster: Cluster, credentials: Credentials) -> None:
        """The supervisor of both tasks: a defect in one is said in the log and in `health`, and both begin again."""
        selector = names.selector(self._settings.service_id)
        restarted = functools.partial(self._metrics.watch_restarted, "pods")
        path = names.pods_path(cluster.namespace)
        collection = Collection(cluster.client, path, selector, random.random, restarted)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(cluster.pods.follow(watch_forever(collection)))
                group.create_task(self._check(cluster, credentials))
        except Exception as error:  # noqa: BLE001 - see above
            _log.exception("the Kubernetes backend stumbled", exc_info=error)
            self._problems = (f"the Kubernetes backend stumbled over a defect: {error!r}; see the log",)

    async def _check(self, cluster: Cluster, credentials: Credentials) -> None:
        while True:
            template = self._templates[_SAMPLE]
            request = ExecutionRequest(command="true", template=_SAMPLE, isolation=template.isolation[0])
            claim = Claim(rehearsal.EXECUTION, "", plan(request, self._templates))
            rights = (*checks.ALWAYS, *checks.PROXY) if cluster.dialer.way is Way.PROXY else checks.ALWAYS
            sample = self._job("sample", claim)
            found = await checks.problems(cluster.client, cluster.namespace, credentials.source, rights, sample)
            if not found and (not self._rehearsed or self._images.problem(self._image)):
                found = await self._rehearse(claim)
                self._rehearsed = not found
            if tuple(found) != self._problems:
                _log.info("cluster checked", problems=found, host=cluster.client.host)
            self._problems = tuple(found)
            await asyncio.sleep(RETRY_SECONDS if found else self._check_seconds)

    async def _rehearse(self, claim: Claim) -> list[str]:
        name = f"rehearsal-{secrets.token_hex(4)}"
        self._rehearsing.add(name)
        try:
            problem = await rehearse(await self.create(name, claim))
        except SandboxFailedError as error:
            problem = rehearsal.refusal(error)
        except UnavailableError as error:
            _log.warning("no rehearsal", error=str(error))
            return []  # an API server just gone: the next check tells
        finally:
            self._rehearsing.discard(name)
        return [problem] if problem else []
