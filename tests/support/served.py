"""The service with scripted sandboxes in a thread of its own, for clients that block."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

from executor_api.settings import Settings
from support.http_service import running


@contextlib.contextmanager
def served(folder: Path, settings: Settings) -> Iterator[str]:
    """Serve until the block ends; yields the URL."""
    url: Future[str] = Future()
    stop = asyncio.Event()

    async def serve() -> None:
        async with running(folder, settings) as service:
            url.set_result(str(service.client.base_url))
            await stop.wait()

    loop = asyncio.new_event_loop()
    task = loop.create_task(serve())
    task.add_done_callback(lambda done: url.done() or url.set_exception(done.exception() or RuntimeError("it ended")))
    thread = threading.Thread(target=loop.run_until_complete, args=(task,), daemon=True)
    thread.start()
    try:
        yield url.result(30)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()
