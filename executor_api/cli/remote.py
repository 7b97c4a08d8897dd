"""``executor-api run`` with a service: one POST, its event stream, and the same stream again after a cut."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import httpx_sse

from executor_api.cli.client import Client
from executor_api.cli.ending import Ending
from executor_api.cli.failures import Unavailable
from executor_api.cli.terminal import Terminal

_STREAMS = {"stdout": 1, "stderr": 2}
_PAUSES = (0.1, 0.2, 0.5, 1.0, *[2.0] * 15)
"""Seconds before each try to take up a stream again: half a minute, enough for a service that is restarted."""


class RemoteCall:
    """One call at a service. The key makes every attempt to start it the same call."""

    def __init__(self, client: Client, request: Mapping[str, Any], key: str, terminal: Terminal) -> None:
        self._client = client
        self._request = request
        self._key = key
        self._terminal = terminal
        self._id: str | None = None
        self._last_event = ""

    def run(self) -> Ending:
        """Follow the call to its end.

        Raises `CommandFailure`; ``KeyboardInterrupt`` after the call was cancelled and has ended (a second one does
        not wait for that).
        """
        try:
            return self._follow()
        except KeyboardInterrupt:
            if self._id is not None:
                self._client.cancel(self._id)
                self._follow()
            raise

    def _follow(self) -> Ending:
        pauses = iter(_PAUSES)
        while True:
            before = self._last_event
            try:
                ending = self._attempt()
                if ending is not None:
                    return ending
                cut: Exception = ConnectionError("the event stream ended early")
            except httpx.TransportError as error:
                cut = error
            except Unavailable as failure:
                if self._id is None:
                    raise
                cut = failure
            if self._last_event != before:
                pauses = iter(_PAUSES)
            self._pause(next(pauses, None), cut)

    def _pause(self, seconds: float | None, cut: Exception) -> None:
        never_connected = self._id is None and isinstance(cut, httpx.ConnectError)
        if seconds is None or never_connected:
            raise self._client.unreachable(cut) from cut
        time.sleep(seconds)

    def _attempt(self) -> Ending | None:
        with self._connect() as events:
            for event in events:
                self._last_event = event.id or self._last_event
                if event.event == "finished":
                    return _ending(json.loads(event.data))
                self._show(event)
        return None

    @contextmanager
    def _connect(self) -> Iterator[Iterator[httpx_sse.ServerSentEvent]]:
        if self._id is not None:
            with self._client.follow(self._id, self._last_event) as events:
                yield events
        else:
            with self._client.start(self._request, self._key) as (self._id, events):
                yield events

    def _show(self, event: httpx_sse.ServerSentEvent) -> None:
        data = json.loads(event.data)
        if event.event in _STREAMS:
            content = base64.b64decode(data["base64"]) if "base64" in data else data["text"].encode()
            self._terminal.output(_STREAMS[event.event], content)
        elif event.event == "gap":
            self._terminal.tell(f"{data['dropped_bytes']} bytes of {data['stream']} were dropped here")
        elif event.event == "status":
            self._terminal.progress(data["status"])


def _ending(answer: Mapping[str, Any]) -> Ending:
    return Ending(**{name: answer[name] for name in ("status", "reason", "message", "exit_code", "signal")})
