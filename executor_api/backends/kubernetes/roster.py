"""Who waits in the pools: what the watches tell of their Jobs and pods, who answers, and who is taken."""

from __future__ import annotations

import asyncio
import zlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from math import inf
from typing import NamedTuple

from executor_api.backends.base import ConnectionLostError
from executor_api.backends.kubernetes.arrivals import Arrivals
from executor_api.backends.kubernetes.cache import JobCache, PodCache
from executor_api.backends.kubernetes.classify import NO_ROOM, obstacle
from executor_api.backends.kubernetes.leaks import Leaks
from executor_api.backends.kubernetes.queueing import held_back
from executor_api.backends.kubernetes.snapshot import JobSnapshot, JobState, PodSnapshot
from executor_api.domain.outcome import Evidence
from executor_api.domain.pool import Member, Pace, Phase, Share

ASK_AGAIN_SECONDS = 0.5
"""Between questions to a runner that runs and does not answer yet."""
OTHERS_SECONDS = 1.0
"""How long one that is ready is left to the replica it is meant for. Whether that has taken it shows within this."""
ENDED_SECONDS = 30.0
"""How long a sandbox that ended stays: it may have had another replica's call."""


class _Ready(NamedTuple):
    template: str
    since: float  # monotonic seconds


class Roster:
    """Pooled sandboxes of all templates, as this process sees them.

    ``answers`` asks a runner something that only a runner ready for a call answers, and raises `ConnectionLostError`
    otherwise. ``changed`` is told the template of a sandbox that has changed. ``now``: seconds since the epoch,
    ``clock``: monotonic seconds.
    """

    def __init__(
        self,
        jobs: JobCache,
        pods: PodCache,
        answers: Callable[[str], Awaitable[None]],
        changed: Callable[[str], None],
        now: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._jobs = jobs
        self._pods = pods
        self._answers = answers
        self._changed = changed
        self._now = now
        self._clock = clock
        self._lag: float | None = None
        self._ready: dict[str, _Ready] = {}  # by name
        self._taken: set[str] = set()
        self._others: set[str] = set()  # of those: with a call that is not of this process
        self._ended: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._begun: dict[str, float] = {}  # by name: since when its pod is starting, with nothing that holds it up
        self._paces: defaultdict[str, Pace] = defaultdict(Pace)
        self.arrivals = Arrivals()
        self.leaks = Leaks()
        self.share = Share()
        """Which of the sandboxes are meant for this replica. Those of others are ours if they don't take them."""
        self.obstacles: dict[str, Evidence | None] = {}
        """Why a sandbox has no pod, by name, as its Job's events tell."""
        jobs.on_change = self._look_at_job
        pods.on_change = self._look_at_pod

    def stop(self) -> None:
        """Ask nobody any more."""
        for task in self._asking.values():
            task.cancel()

    def members(self, template: str) -> list[Member]:
        """All pooled sandboxes of a template, the taken included as long as they are there."""
        return [self._member(job) for job in self._jobs.all() if job.template == template and self._is_pooled(job)]

    def starting_cold(self, digest: str) -> int:
        """Sandboxes of this digest that are starting for one call each, of any replica's."""
        return sum(
            job.digest == digest and job.state is not JobState.WAITING and self._is_starting(job)
            for job in self._jobs.all()
        )

    def templates(self) -> set[str]:
        """The templates that have a sandbox waiting."""
        return {job.template for job in self._jobs.all() if self._is_waiting(job)}

    def ready(self, template: str, digest: str, call_seconds: float) -> list[str]:
        """Those that could have a call of ours now that takes so long."""
        return [
            name
            for name in self._answering(template, digest)
            if self._is_ours(name) and self.outlasts(name, call_seconds)
        ]

    def outlasts(self, name: str, call_seconds: float) -> bool:
        """Whether it is there for so long."""
        job = self._jobs.get(name)
        return job is not None and self._lasts(job, self._pods.get(name)) >= call_seconds

    def left_to_others(self, template: str, digest: str) -> int:
        """How many could have a call, and are left to other replicas for a moment."""
        return sum(not self._is_ours(name) for name in self._answering(template, digest))

    def take(self, name: str) -> None:
        """Reserve it: it is nobody else's in this process any more."""
        ready = self._ready.pop(name, None)
        self._taken.add(name)
        if ready is not None:  # not at once: whoever hands it out is not done yet
            asyncio.get_running_loop().call_soon(self._changed, ready.template)

    def leave(self, name: str) -> None:
        """It has a call that is not ours, or has died. Once it has ended it is over, for its owner may be gone, too."""
        self.take(name)
        self._others.add(name)

    def give_back(self, name: str) -> None:
        """It was reserved and not used."""
        self._taken.discard(name)
        self._consider(name)

    def pace(self, template: str) -> Pace:
        """How fast its sandboxes are made, whoever has them made: every replica sees the same pods."""
        return self._paces[template]

    def pod(self, name: str) -> PodSnapshot | None:
        """The pod of one, if it has one."""
        return self._pods.get(name)

    def obstacle(self, name: str) -> str:
        """What keeps a sandbox, of a pool or not, from starting, and since when; "" if nothing is known to."""
        job = self._jobs.get(name)
        why = None if job is None else self._obstacle(job, self._pods.get(name))
        return f"pending for {self.age(job.created_at):.0f} s: {why.message}" if job is not None and why else ""

    def age(self, created_at: float) -> float:
        """Seconds since an instant of the API server's clock, which may differ from ours.

        It can't differ by more than it took us to hear of the newest Job: a wrong clock must not make a pool look old.
        """
        return max(0.0, self._now() - created_at - (self._lag or 0.0))

    def has(self, name: str) -> bool:
        """Whether the watch has shown it."""
        return self._jobs.get(name) is not None

    def is_over(self, name: str) -> bool:
        """Whether it can be deleted: one that has ended may have had a call, whose owner may still need it a while."""
        job, pod = self._jobs.get(name), self._pods.get(name)
        if job is None or self._phase(job, pod) is not Phase.ENDED:
            return True
        clock = self._clock()
        return clock - self._ended.setdefault(name, clock) > ENDED_SECONDS

    def _look_at_job(self, job: JobSnapshot) -> None:
        lag = self._now() - job.created_at
        self._lag = lag if self._lag is None else min(self._lag, lag)
        self.arrivals.look(job, self.age(job.created_at))
        self.leaks.look(job, self._pods.get(job.name))
        self._consider(job.name)
        self._changed(job.template)

    def _look_at_pod(self, pod: PodSnapshot) -> None:
        self._note_beginning(pod)
        self._consider(pod.job)
        job = self._jobs.get(pod.job)
        self.leaks.look(job, pod)
        if job is not None:
            self._changed(job.template)

    def _note_beginning(self, pod: PodSnapshot) -> None:
        """Of what runs already when it first shows nobody knows; what is held up tells nothing of the pace."""
        if pod.dialable:
            return
        if pod.ended or pod.deleting or obstacle(pod) is not None:
            self._begun.pop(pod.job, None)
        else:
            self._begun.setdefault(pod.job, self._clock())

    def _note_ready(self, job: JobSnapshot) -> None:
        began = self._begun.pop(job.name, None)
        if began is not None:
            self._paces[job.template].became_ready(began, self._clock())

    def _consider(self, name: str) -> None:
        job, pod = self._jobs.get(name), self._pods.get(name)
        usable = job is not None and self._is_waiting(job) and pod is not None and pod.dialable and not pod.deleting
        if usable and name not in self._taken and name not in self._ready and name not in self._asking:
            self._asking[name] = asyncio.create_task(self._ask(name))
        if job is not None and not self._is_waiting(job) and name in self._asking:
            self._note_ready(job)  # for another replica's call, which was faster than our question
            self._asking[name].cancel()
        if not usable:
            self._ready.pop(name, None)
        if job is not None and job.gone:
            self._taken.discard(name)
            self._others.discard(name)
            self._ended.pop(name, None)
            self.obstacles.pop(name, None)

    async def _ask(self, name: str) -> None:
        """Until it answers or is of no use any more."""
        try:
            while True:
                try:
                    await self._answers(name)
                    break
                except ConnectionLostError:
                    pod = self._pods.get(name)
                    if pod is None or not pod.dialable:
                        return
                    await asyncio.sleep(ASK_AGAIN_SECONDS)
        finally:
            del self._asking[name]
        job, pod = self._jobs.get(name), self._pods.get(name)
        if job is not None and self._is_waiting(job) and pod is not None and pod.dialable and name not in self._taken:
            self._note_ready(job)
            self._ready[name] = _Ready(job.template, self._clock())
            self._changed(job.template)
            if not self._is_ours(name):
                asyncio.get_running_loop().call_later(OTHERS_SECONDS, self._changed, job.template)

    def _answering(self, template: str, digest: str) -> list[str]:
        return [name for name, its in self._ready.items() if its.template == template and self._is_fit(name, digest)]

    def _is_ours(self, name: str) -> bool:
        """Meant for us, or not taken by the one it was meant for: each replica reckons the same."""
        if zlib.crc32(name.encode()) % self.share.of == self.share.mine:
            return True
        return self._clock() - self._ready[name].since >= OTHERS_SECONDS

    def _member(self, job: JobSnapshot) -> Member:
        pod = self._pods.get(job.name)
        why = self._obstacle(job, pod)
        return Member(
            job.name,
            job.digest,
            self._phase(job, pod),
            since=self._now() - self.age(job.created_at),
            obstacle=why.message if why is not None else "",
            crowded_out=why is not None and why.reason in NO_ROOM,
            unfit=self.leaks.make_unfit(job, pod),
            lasts=self._lasts(job, pod),
        )

    def _phase(self, job: JobSnapshot, pod: PodSnapshot | None) -> Phase:
        ours = job.name in self._taken and job.name not in self._others
        if ours or job.state is not JobState.WAITING:
            return Phase.TAKEN
        if job.finished or (pod is not None and (pod.ended or pod.deleting)):
            return Phase.ENDED
        if job.name in self._others:
            return Phase.TAKEN
        return Phase.READY if job.name in self._ready else Phase.STARTING

    def _is_starting(self, job: JobSnapshot) -> bool:
        pod = self._pods.get(job.name)
        over = job.finished or job.deleting or (pod is not None and (pod.dialable or pod.ended or pod.deleting))
        return not over and job.name not in self._taken

    def _obstacle(self, job: JobSnapshot, pod: PodSnapshot | None) -> Evidence | None:
        found = held_back(job) if pod is None else obstacle(pod)
        if found is not None:
            return found.evidence
        return self.obstacles.get(job.name) if pod is None else None

    def _is_fit(self, name: str, digest: str) -> bool:
        job = self._jobs.get(name)
        return job is not None and job.digest == digest and not self.leaks.make_unfit(job, self._pods.get(name))

    def _lasts(self, job: JobSnapshot, pod: PodSnapshot | None) -> float:
        """Seconds until the kubelet ends it."""
        started_at = pod.started_at if pod is not None else None
        return inf if started_at is None else job.deadline_seconds - self.age(started_at)

    @staticmethod
    def _is_waiting(job: JobSnapshot) -> bool:
        return job.state is JobState.WAITING and not job.deleting and not job.gone

    def _is_pooled(self, job: JobSnapshot) -> bool:
        """Those whose template keeps what has ended are left to their TTL, though a short call left no mark on it."""
        is_there = not (job.deleting or job.leaky or (job.finished and job.keep_finished))
        return is_there and (job.state is JobState.WAITING or job.name in self._taken)
