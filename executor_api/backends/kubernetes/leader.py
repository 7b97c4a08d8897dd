"""Which replica leads, by a Lease of the API server.

No call depends on it: leading spares work and never gives a right, so two leaders for a moment do no harm. They are
avoided all the same: a leader stops before its lease can have expired for others, whatever becomes of its requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from math import inf
from typing import Any

import aiohttp
import orjson
import structlog

from executor_api.backends.kubernetes.client import ApiClient
from executor_api.backends.kubernetes.errors import (
    ConflictError,
    ForbiddenError,
    KubernetesError,
    MissingError,
    UnauthorizedError,
    UnreachableError,
)
from executor_api.backends.kubernetes.lease import (
    Seen,
    Step,
    Terms,
    Tree,
    decide,
    held,
    next_look,
    next_renewal,
    observed,
)
from executor_api.errors import ConfigurationError

_log = structlog.get_logger(__name__)


def leases_path(namespace: str) -> str:
    """Path of the Leases of a namespace."""
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"


class Leadership:
    """One replica's part in the election among those with the same ``service_id``; ``holder`` is its own name there.

    ``mark`` completes the Lease where it has to be created.
    """

    def __init__(
        self,
        client: ApiClient,
        namespace: str,
        service_id: str,
        holder: str,
        terms: Terms | None = None,
        mark: Callable[[Tree], Tree] = lambda lease: lease,
    ) -> None:
        self._client = client
        self._collection = leases_path(namespace)
        self._namespace = namespace
        self._name = f"executor-api-{service_id}"
        self._me = holder
        self._terms = terms or Terms()
        self._clock = time.monotonic
        self._mark = mark
        self._seen: Seen | None = None
        self._stale = False
        self._verb = "get"
        self._renewed = -inf  # when the last renewal that came through was sent
        self.problem = ""
        """Why this replica can't take part, with the fix; empty while it can."""

    @property
    def leading(self) -> bool:
        """Whether this replica leads at this moment."""
        return self._left() > 0

    @property
    def holder(self) -> str:
        """Who leads, as far as the Lease was seen; empty: nobody."""
        return self._seen.holder if self._seen else ""

    async def run(self, on_lead: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Take part until cancelled; run ``on_lead()`` while leading, cancel and await it when leadership is lost.

        If that ends by itself, so does this, with its error if it has one. At the end the lease is given back, and
        the next replica that looks leads.
        """
        try:
            while True:
                await self._win()
                if await self._lead(on_lead):
                    return
        finally:
            await self._give_back()

    async def _win(self) -> None:
        while True:
            await self._turn(self._terms.turn_seconds)
            if self.leading:
                _log.info("leading", lease=self._name, holder=self._me)
                return
            now = self._clock()
            await asyncio.sleep(next_look(self._seen, now, self._terms) - now)

    async def _lead(self, on_lead: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Work as long as leadership lasts; whether the work ended before that."""
        work = asyncio.create_task(on_lead())
        try:
            while self.leading:
                now = self._clock()
                await asyncio.wait({work}, timeout=max(0.0, next_renewal(self._renewed, now, self._terms) - now))
                if work.done():
                    return True
                left = self._left()
                if left > 0:
                    await self._turn(min(left, self._terms.turn_seconds))
        finally:
            await _end(work)
        _log.warning("not leading any more", lease=self._name, holder=self.holder)
        return False

    def _left(self) -> float:
        """Seconds until leadership is lost unless it is renewed; none or less: it is lost."""
        return self._renewed + self._terms.patience_seconds - self._clock()

    async def _turn(self, seconds: float) -> None:
        """Look and do what there is to do. What goes wrong is left to the next turn, and to patience running out."""
        try:
            async with asyncio.timeout(seconds):
                await self._take_part()
            self.problem = ""
        except ForbiddenError as error:
            self.problem = (
                f"RBAC does not allow the service to {self._verb} leases.coordination.k8s.io in namespace "
                f"{self._namespace} ({error.message}); add get, create and update of them to its Role there"
            )
        except (ConflictError, MissingError, UnauthorizedError):
            self._stale = True  # changed or deleted by somebody; or a look renews our credentials
        except (KubernetesError, ConfigurationError, TimeoutError) as error:
            _log.debug("lease not reached", verb=self._verb, error=str(error) or "no answer in time")

    async def _take_part(self) -> None:
        seen = self._seen
        if seen is None or self._stale or not self.leading:
            seen = await self._look()
        step = decide(seen, self._me, self._clock(), self._terms)
        if step is Step.WAIT:
            self._renewed = -inf
            return
        sent = self._clock()
        lease = held(seen.lease, self._name, self._me, datetime.now(UTC), self._terms)
        written = await (self._create(lease) if step is Step.CREATE else self._replace(lease))
        self._seen, self._renewed = observed(seen, written, self._clock()), sent

    async def _look(self) -> Seen:
        self._verb = "get"
        lease: Tree | None
        try:
            lease = await self._client.get(f"{self._collection}/{self._name}", patience=0)
        except MissingError:
            lease = None
        self._seen, self._stale = observed(self._seen, lease, self._clock()), False
        return self._seen

    async def _create(self, lease: Tree) -> Tree:
        self._verb = "create"
        written: Tree = await self._client.create(self._collection, self._mark(lease), patience=0)
        return written

    async def _replace(self, lease: Tree) -> Tree:
        self._verb = "update"
        timeout = aiohttp.ClientTimeout(total=self._terms.turn_seconds)
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        path, data = f"{self._collection}/{self._name}", orjson.dumps(lease)
        async with self._client.open("PUT", path, headers=headers, data=data, timeout=timeout) as response:
            return _parsed(await response.read())

    async def _give_back(self) -> None:
        """Let the next one lead at once; if that can't be told, it finds out by the lease's end."""
        if not self.leading or self._seen is None:
            return
        self._renewed = -inf
        lease = held(self._seen.lease, self._name, "", datetime.now(UTC), self._terms)
        try:
            async with asyncio.timeout(self._terms.turn_seconds):
                self._seen = observed(self._seen, await self._replace(lease), self._clock())
        except (KubernetesError, ConfigurationError, TimeoutError) as error:
            _log.warning("lease not given back", lease=self._name, error=str(error) or "no answer in time")


def _parsed(body: bytes) -> Tree:
    try:
        lease: Tree = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnreachableError("what answers is no API server") from error
    return lease


async def _end(work: asyncio.Task[None]) -> None:
    """Cancel it, wait for it, and raise the error it ended with, if it did."""
    work.cancel()
    await asyncio.wait({work})
    if not work.cancelled():
        work.result()
