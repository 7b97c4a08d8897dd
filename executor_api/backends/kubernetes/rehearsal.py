"""One sandbox that no call waits for: it shows whether image, admission and the way to runners work."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import structlog

from executor_api.backends.base import ConnectionLostError, SandboxFailedError
from executor_api.backends.kubernetes.cluster import Cluster
from executor_api.backends.kubernetes.sandbox import KubernetesSandbox
from executor_api.domain.outcome import Reason

PATIENCE_SECONDS = 10.0
"""What is not clear after that shows in calls; a cluster that has to make room or pull an image is no broken one."""
_RELEASE_SECONDS = 3.0

EXECUTION = "rehearsal"
"""Stands for an execution id on the Job: no execution has it, so a Job that is left over is collected as garbage."""
LONGEST_SECONDS = 45.0
"""So old no Job of a rehearsal gets, nor of what tries the network, unless whoever made it has died."""
_MOST_REMEMBERED = 100

_log = structlog.get_logger(__name__)


class Unclaimed:
    """Sandboxes that this process makes for itself."""

    def __init__(self) -> None:
        self._ours: OrderedDict[str, bool] = OrderedDict()  # by name: whether we still need it

    def is_needed(self, name: str, age: float) -> bool:
        """Whether one is to be left alone at that age, in seconds: another process's may be for as long as it takes."""
        return self._ours.get(name, age < LONGEST_SECONDS)

    @asynccontextmanager
    async def one(self, kind: str, cluster: Cluster) -> AsyncIterator[str]:
        """A name for one, which goes when we are stopped meanwhile, also if nobody got to know that it was made."""
        name = f"{kind}-{secrets.token_hex(4)}"
        self._ours[name] = True
        if len(self._ours) > _MOST_REMEMBERED:
            self._ours.popitem(last=False)
        try:
            yield name
        except asyncio.CancelledError:
            await removed(name, cluster.delete_job(name))
            raise
        finally:
            self._ours[name] = False


async def rehearse(sandbox: KubernetesSandbox) -> str | None:
    """Start it, ask its runner something, and remove it; returns a problem that every call would have.

    An image that can't be pulled is no such answer: the sandbox itself reports it to the backend's `ImageHealth`.
    """
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await sandbox.ready()
            await sandbox.answers()
    except SandboxFailedError as error:
        return refusal(error)
    except ConnectionLostError as error:
        return f"runners can't be reached ({error}); allow this service to their port 8090, or set --dispatch"
    except TimeoutError:
        _log.warning("the rehearsal's sandbox takes long to start")
    finally:
        await removed(sandbox.details.name, sandbox.release())
    return None


async def removed(job: str, removing: Awaitable[object]) -> None:
    """Wait until a sandbox is removed that no execution wants; if that takes long, it is garbage."""
    try:
        async with asyncio.timeout(_RELEASE_SECONDS):
            await removing
    except TimeoutError:
        _log.warning("a Job could not be deleted yet", job=job)


def refusal(error: SandboxFailedError) -> str | None:
    """The problem behind a sandbox that can't be had, if it is one of every sandbox: a full quota is none."""
    _log.warning("the rehearsal's sandbox did not start", reason=error.evidence.reason, message=str(error))
    if error.evidence.reason is Reason.REJECTED_TEMPLATE:
        return f"the cluster refuses sandboxes ({error}); change its policy or the Job template"
    return None
