"""One sandbox in the cluster: a Job, its pod, and the runner in it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from executor_api.backends.base import (
    ClaimedError,
    ConnectionLostError,
    LastWords,
    NotTakenError,
    SandboxFailedError,
    SandboxTimings,
)
from executor_api.backends.kubernetes import remains
from executor_api.backends.kubernetes.asking import retire_runner, runner_answers, tell_runner
from executor_api.backends.kubernetes.cluster import Cluster
from executor_api.backends.kubernetes.cold_starts import ColdStarts
from executor_api.backends.kubernetes.dialer import BOOT_SECONDS, RunnerRequest, was_not_sent
from executor_api.backends.kubernetes.errors import ConflictError, KubernetesError
from executor_api.backends.kubernetes.images import ImageHealth
from executor_api.backends.kubernetes.leaks import mark_operations
from executor_api.backends.kubernetes.own_pod import OwnPod
from executor_api.backends.kubernetes.snapshot import PodSnapshot
from executor_api.backends.kubernetes.startup import Startup
from executor_api.backends.kubernetes.ties import Ties
from executor_api.domain.execution import SandboxDetails, Start
from executor_api.domain.outcome import Evidence, Reason
from executor_api.errors import ConfigurationError
from executor_runner.protocol import CALL_PATH, DONE_PATH, read_holder


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a sandbox is, apart from how it is doing. Instants are on the cluster's clock."""

    job: str
    execution_id: str
    token: str = field(repr=False)
    image: str
    created: float
    deadline: float  # by when it must have started
    create_ms: float | None = None
    waited_ms: float | None = None  # of a call for a sandbox of the pool
    keep_finished: bool
    start: Start = Start.COLD
    follows: str = ""
    may_have_run: bool = False
    """Its call may have been sent, by a service that has stopped since."""
    shared: bool = False
    """It waited in a pool, from which others may have taken it."""


class KubernetesSandbox:
    """A Job for one call, or one call of a Job for reuse. ``starts`` is told how its start goes, if it has its turn."""

    def __init__(
        self,
        cluster: Cluster,
        identity: Identity,
        images: ImageHealth,
        ties: Ties | None = None,
        starts: ColdStarts | None = None,
    ) -> None:
        self.start = identity.start
        self.follows = identity.follows
        self._cluster = cluster
        self._identity = identity
        self._images = images
        self._ties = ties or Ties()
        self._starts = starts
        no_room = starts.no_room if starts is not None else None
        self._startup = Startup(cluster, identity.job, identity.created, identity.deadline, no_room)
        self._own = OwnPod(cluster.pods, identity.job)
        if identity.may_have_run or identity.start is not Start.COLD:
            self._own.settle()
        self._released = False
        self._dialled = False  # with the call, which the runner may have even if that was not heard of
        self._accepted = False
        self._sent = False  # the call may have reached the runner

    @property
    def details(self) -> SandboxDetails:
        """Names, as far as the cluster has given them."""
        pod = self.pod
        details = SandboxDetails(
            name=self._identity.job,
            backend="kubernetes",
            job=self._identity.job,
            image=self._identity.image,
        )
        if pod is None:
            return details
        return dataclasses.replace(details, pod=pod.name, pod_uid=pod.uid, node=pod.node)

    @property
    def pod(self) -> PodSnapshot | None:
        """Its pod as last seen."""
        return self._own.now

    @property
    def timings(self) -> SandboxTimings:
        """Phases so far."""
        if self.start is not Start.COLD:
            return SandboxTimings(waited=self._identity.waited_ms)
        return dataclasses.replace(self._startup.timings, create=self._identity.create_ms)

    async def ready(self) -> None:
        """Wait until the runner's container runs. Raises `SandboxFailedError` as soon as it is clear that it won't."""
        if self.start is not Start.COLD:
            self._approach()
            return  # it was ready before it was claimed, and what has happened since shows when it is dialled
        started = False
        try:
            await self._startup.wait()
            self._own.settle()
            started = True
        except SandboxFailedError as error:
            if error.evidence.reason is Reason.IMAGE_PULL:
                self._images.failed(self._identity.image, error.evidence.message)
            raise
        finally:
            if self._starts is not None:
                self._starts.over(self._identity.execution_id, started=started)
        self._images.works(self._identity.image)

    async def answers(self) -> None:
        """Ask the runner something that needs no token. Raises `ConnectionLostError` if none answers."""
        await runner_answers(self._cluster, self._identity.job)

    async def dispatch(self, call: bytes) -> AsyncGenerator[bytes, None]:
        """Send the call and yield the journal. Raises `ClaimedError`, `ConnectionLostError` and `NotTakenError`."""
        pod = self.pod
        request = RunnerRequest(
            method="POST",
            path=CALL_PATH,
            token=self._identity.token,
            body=call,
            streams=True,
            pod="" if pod is None else pod.uid,
            sending=self._note_sending,
        )
        boot_seconds = BOOT_SECONDS if self.start is Start.COLD else 0.0
        self._dialled = True
        async for data in self._stream(request, self._cluster.clock() + boot_seconds):
            yield data

    async def resume(self, offset: int) -> AsyncGenerator[bytes, None]:
        """Yield the journal from an offset. Raises `ConnectionLostError` and `NotTakenError`."""
        request = RunnerRequest(
            method="GET",
            path=CALL_PATH,
            token=self._identity.token,
            params={**self._named, "offset": str(offset)},
            streams=True,
        )
        async for data in self._stream(request, self._cluster.clock()):
            yield data

    async def cancel(self) -> None:
        """Ask the runner to end the call. Raises `ConnectionLostError`."""
        await self._tell("DELETE", CALL_PATH)

    async def alive(self) -> bool:
        """Whether the pod is there and has not ended, as last seen; a pod not seen yet may still come."""
        pod = self.pod
        return not pod.ended if pod is not None else not await self._cluster.pods.listed(0)

    async def last_words(self) -> LastWords:
        """What is left of it. Never raises."""
        identity = self._identity
        words = await remains.last_words(self._cluster, self._own, identity.token, identity.execution_id)
        if words.holder and not self.follows:
            self._released = True  # it is not ours
            self._ties.refused()
        return words

    async def evidence(self) -> Evidence | None:
        """Why somebody outside told it to end."""
        return await remains.cause(self._cluster, self._own)

    async def release(self, *, sound: bool = False, leaky: bool = False) -> None:
        """Let the runner leave and delete the Job, unless its template keeps finished ones. Never raises.

        The Job of a ``leaky`` one stays for a while and tells all replicas of its node. One that waited and did not
        get this call stays, too: by now it may have another replica's.
        """
        if self._released:
            return
        self._released = True
        if await self._is_for_others() or await self._ties.kept(sound=sound):
            return
        marked = leaky and await self._cluster.patch_job(self._identity.job, mark_operations(self.details.node))
        if marked or (self._identity.keep_finished and self.pod is not None):
            await self._tell_done()
            return
        _, deleted = await asyncio.gather(self._tell_done(), self._cluster.delete_job(self._identity.job))
        self._released = deleted

    async def _is_for_others(self) -> bool:
        """Whether it is not this call's to end."""
        if self._accepted:
            return False
        if self.start is not Start.COLD and not self._dialled:
            return self._ties.unused()
        if not self._identity.shared or await self._is_ours_or_retired():
            return False
        self._ties.refused()
        return True

    async def _is_ours_or_retired(self) -> bool:
        """Its runner decides: it has this call, or it has none and takes none any more.

        One that can't be asked has this call if it may have come there.
        """
        try:
            pod = self._own.dialable()
            holder = await retire_runner(self._cluster, pod, self._identity.token)
        except (KubernetesError, ConfigurationError, ConnectionLostError):
            return self._sent or self._identity.may_have_run
        return holder in (None, self._identity.execution_id)

    def _approach(self) -> None:
        """Connect while the store is told that the call may run."""
        pod = self.pod
        if pod is not None and pod.dialable:
            self._cluster.dialer.approach(pod)

    async def _tell_done(self) -> None:
        pod = self.pod
        if pod is not None and pod.dialable and not pod.deleting:
            with contextlib.suppress(ConnectionLostError):
                await self._tell("POST", DONE_PATH)

    async def _tell(self, method: str, path: str) -> None:
        pod = self._own.dialable()
        try:
            await tell_runner(self._cluster, pod, method, path, self._identity.token, self._named)
        except (KubernetesError, ConfigurationError) as error:
            raise ConnectionLostError(str(error)) from error

    async def _stream(self, request: RunnerRequest, boot_deadline: float) -> AsyncGenerator[bytes, None]:
        sent_before = self._sent
        try:
            pod = self._own.dialable()
            async with self._cluster.dialer.open(pod, request, lambda: self._booting(boot_deadline)) as body:
                self._note_acceptance()
                async for data in body:
                    yield data
        except ConflictError as error:
            raise self._conflict(error) from error
        except (KubernetesError, ConfigurationError, ConnectionLostError) as error:
            if not isinstance(error, KubernetesError) or was_not_sent(error):
                self._sent = sent_before
            if self.start is not Start.COLD and not self._sent:
                raise self._refusal(f"does not answer: {error}", "did not answer any more") from error
            raise ConnectionLostError(str(error)) from error

    def _note_sending(self) -> None:
        self._sent = True

    def _note_acceptance(self) -> None:
        if not self._accepted:
            self._accepted = self._sent = True
            self._ties.accepted()

    def _conflict(self, error: ConflictError) -> ClaimedError | NotTakenError:
        """What a 409 means depends on whose call the runner has."""
        if read_holder(error.message) == self._identity.execution_id:
            return ClaimedError(str(error))
        return self._refusal(error.message.strip())

    def _refusal(self, message: str, *why: str) -> NotTakenError:
        self._released = True  # it is not ours
        self._ties.refused()
        return NotTakenError(f"sandbox {self._identity.job}: {message}", *why)

    @property
    def _named(self) -> dict[str, str]:
        return {"execution": self._identity.execution_id}

    def _booting(self, deadline: float) -> bool:
        pod = self.pod
        return self._cluster.clock() < deadline and pod is not None and pod.dialable
