"""What a sandbox that no longer answers left behind: report, output and evidence, each with a bounded wait."""

from __future__ import annotations

import asyncio

import aiohttp

from executor_api.backends.base import LastWords
from executor_api.backends.kubernetes import names
from executor_api.backends.kubernetes.classify import ending, outside, shows_cause
from executor_api.backends.kubernetes.cluster import Cluster
from executor_api.backends.kubernetes.errors import ApiError, BusyError, KubernetesError, UnauthorizedError
from executor_api.backends.kubernetes.own_pod import OwnPod
from executor_api.backends.kubernetes.queueing import or_queue
from executor_api.backends.kubernetes.snapshot import PodSnapshot
from executor_api.domain.outcome import Evidence
from executor_api.errors import ConfigurationError
from executor_runner.protocol import podlog
from executor_runner.protocol.podlog import LogCopy
from executor_runner.protocol.shapes import Report

ENDING_SECONDS = 3.0
"""The kubelet shows an end up to a second late, and the watch brings it."""
LEAVING_SECONDS = 8.0
"""A pod that is being deleted ends within its grace period."""
CAUSE_SECONDS = 1.0
LOG_SECONDS = 20.0
"""How long a log is asked for that can't be had now: an API server or a kubelet may just be starting again."""
_LOG_READS = 3
_LOG_PAUSE = 0.4
"""An ended container's last lines may still be on their way to the log file."""
_SMALL_LOG = 1024 * 1024
_LOG_TIMEOUT = aiohttp.ClientTimeout(total=LOG_SECONDS)


async def last_words(cluster: Cluster, own: OwnPod, token: str, execution_id: str) -> LastWords:
    """Gather everything. Never raises."""
    pod = await _ended(own)
    written = (pod and pod.terminated and podlog.unseal(token, pod.terminated.message.encode())) or None
    log = None if pod is None else await _read_log(cluster, pod, token)
    holder = ""
    if another := _another(written, execution_id):
        holder, written = another, None
    if log is not None and (another := _another(log.report, execution_id)):
        holder, log = another, None
    report, source = _best(written, log)
    job = await cluster.job(own.job)
    found = ending(pod, job)
    return LastWords(await or_queue(cluster, found, job) or found, report, log, source, holder)


async def cause(cluster: Cluster, own: OwnPod) -> Evidence | None:
    """Why somebody outside told this sandbox to end; waits a little for it to show."""
    pod = await own.wait(shows_cause, CAUSE_SECONDS)
    job = await cluster.job(own.job)
    return await or_queue(cluster, outside(pod, job), job)


async def _ended(own: OwnPod) -> PodSnapshot | None:
    pod = await own.wait(lambda seen: seen is not None and seen.ended, ENDING_SECONDS)
    if pod is not None and pod.deleting and not pod.ended:
        pod = await own.wait(lambda seen: seen is not None and seen.ended, LEAVING_SECONDS)
    return pod


def _another(report: Report | None, execution_id: str) -> str:
    """Whose report it is, if not this execution's: of the call before it in the same sandbox, or in its place."""
    whose = execution_id if report is None else str(report.get("execution_id"))
    return whose if whose != execution_id else ""


def _best(written: Report | None, log: LogCopy | None) -> tuple[Report | None, str]:
    """The termination message holds the verdict alone if the whole report is too long; the log then has it all."""
    logged = log and log.report
    if logged and (written is None or len(logged) > len(written)):
        return logged, "log"
    return (written, "status") if written is not None else (None, "evidence")


async def _read_log(cluster: Cluster, pod: PodSnapshot, token: str) -> LogCopy | None:
    """The parsed log; read again while its end is missing though the container has ended."""
    found: LogCopy | None = None
    deadline = cluster.clock() + LOG_SECONDS
    for _ in range(_LOG_READS):
        text = await _fetched_log(cluster, pod, deadline)
        if text is None:
            return found
        found = await _parsed(token, text)
        if found.report is not None or not pod.ended:
            return found
        await asyncio.sleep(_LOG_PAUSE)
    return found


async def _parsed(token: str, text: bytes) -> LogCopy:
    """Parse beside the event loop what would hold it up; a thread may be more than a full machine has."""
    if len(text) < _SMALL_LOG:
        return podlog.parse(token, text.split(b"\n"))
    return await asyncio.to_thread(podlog.parse, token, text.split(b"\n"))


async def _fetched_log(cluster: Cluster, pod: PodSnapshot, deadline: float) -> bytes | None:
    """The log; None if there is none, or if it can't be had until the deadline."""
    while True:
        try:
            return await _fetch_log(cluster, pod)
        except (KubernetesError, ConfigurationError) as error:
            refused = isinstance(error, ApiError) and not isinstance(error, BusyError | UnauthorizedError)
            if refused or cluster.clock() + _LOG_PAUSE > deadline:
                return None
        await asyncio.sleep(_LOG_PAUSE)


async def _fetch_log(cluster: Cluster, pod: PodSnapshot) -> bytes:
    path = f"{names.pods_path(cluster.namespace)}/{pod.name}/log"
    params = {"container": names.CONTAINER}
    async with cluster.client.open("GET", path, params=params, timeout=_LOG_TIMEOUT) as response:
        return await response.read()
