"""Connections to PostgreSQL: a pool that outlives the server's restarts, and one connection that listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

import psycopg
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from executor_api.errors import UnavailableError
from executor_api.service.clock import backoff

T = TypeVar("T")

_QUEUE_SECONDS = 30.0
"""How long a burst may wait for a connection."""
_TIMEOUTS = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds
}
"""Under them a server that vanished without a word is noticed."""
_REPEAT_SECONDS = 5.0
"""A restart of the server is waited out so long before it is anybody's error."""


class Database:
    """One PostgreSQL database. Every operation may be repeated after its answer was lost, and must bear that."""

    def __init__(self, url: str, connections: int) -> None:
        self._url = url
        self._connections = connections
        self._engine: AsyncEngine | None = None

    @property
    def is_open(self) -> bool:
        """Between `open` and `close`."""
        return self._engine is not None

    def open(self) -> None:
        """Connections are made when needed."""
        self._engine = create_async_engine(
            "postgresql+psycopg://",
            async_creator=self._connect,
            isolation_level="AUTOCOMMIT",
            pool_size=self._connections,
            max_overflow=0,
            pool_timeout=_QUEUE_SECONDS,
        )

    async def close(self) -> None:
        """Close what is idle. Safe to call twice."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    async def run(self, operation: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run on a connection where each statement is a transaction. Raises `UnavailableError`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _REPEAT_SECONDS
        for delay in backoff():
            try:
                async with self._opened().connect() as connection:
                    return await operation(connection)
            except (exc.DBAPIError, exc.TimeoutError, psycopg.Error) as error:
                if not _is_passing(error) or loop.time() + delay > until:
                    raise unavailable(error) from error
            await asyncio.sleep(delay)
        raise AssertionError("backoff never ends")

    @asynccontextmanager
    async def listening(self, *channels: str) -> AsyncIterator[AsyncIterator[psycopg.Notify]]:
        """What is notified on these channels from now on. Raises `UnavailableError`, also when the connection ends."""
        self._opened()
        try:
            async with await self._connect() as connection:
                for channel in channels:
                    await connection.execute(f"LISTEN {channel}".encode())
                async with aclosing(connection.notifies()) as notifications:
                    yield notifications
        except psycopg.Error as error:
            raise unavailable(error) from error

    async def _connect(self) -> psycopg.AsyncConnection:
        return await psycopg.AsyncConnection.connect(self._url, autocommit=True, **_TIMEOUTS)  # type: ignore[arg-type]

    def _opened(self) -> AsyncEngine:
        if self._engine is None:
            raise UnavailableError("the store is closed")
        return self._engine


def unavailable(error: Exception) -> UnavailableError:
    """What callers get to see of a database that fails: it may work again in seconds."""
    cause = getattr(error, "orig", None) or error
    return UnavailableError(f"the database can't be used now ({' '.join(str(cause).split())})", retry_after=5.0)


def _is_passing(error: Exception) -> bool:
    """Whether the connection was at fault: the server restarts, fails over, or is starting up."""
    if isinstance(error, exc.DBAPIError):
        return error.connection_invalidated or isinstance(error.orig, psycopg.OperationalError)
    return isinstance(error, psycopg.OperationalError)
