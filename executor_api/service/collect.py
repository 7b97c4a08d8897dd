"""The journal of one call, read over as many connections as it takes and turned into events, each exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import structlog

from executor_api.backends.base import ClaimedError, ConnectionLostError, Sandbox
from executor_api.domain.outcome import Status
from executor_api.domain.output import FRAME_EVENTS
from executor_api.domain.passage import Point
from executor_api.domain.report import BadReportError, read_report
from executor_api.errors import UnavailableError
from executor_api.service.clock import Clock, backoff
from executor_api.service.live import Live
from executor_api.service.metrics import ServiceMetrics
from executor_api.service.timeline import Timeline
from executor_runner.protocol.frames import Frame, FrameDecoder, FrameKind, ProtocolError
from executor_runner.protocol.shapes import Report

_MOST_REFUSALS = 8
"""So often (some 4 s) we ask a runner that has a call but gives no journal, or sends what is none."""

_log = structlog.get_logger(__name__)


class Journal:
    """Reads on from the last stored event. ``call`` is None where the call must not be sent (again)."""

    def __init__(self, live: Live, sandbox: Sandbox, call: bytes | None, timeline: Timeline, clock: Clock) -> None:
        self._live = live
        self._sandbox = sandbox
        self._call = call
        self._timeline = timeline
        self._clock = clock
        self._offset = live.tally.journal_offset
        self._claimed = False
        self._refusals = 0
        self._source: AsyncIterator[bytes] | None = None

    async def report(self, metrics: ServiceMetrics) -> Report | None:
        """Read until the report. None if the sandbox ended without one that we could read.

        Raises `NotTakenError`.
        """
        delays = backoff()
        while True:
            before = self._offset
            report = await self._read()
            if report is not None:
                return report
            if not await self._sandbox.alive():
                return None
            if self._offset > before:
                delays = backoff()
            elif self._claimed and self._offset == 0:
                self._refusals += 1
            if self._refusals > _MOST_REFUSALS:
                return None
            metrics.resumed()
            await asyncio.sleep(next(delays))

    async def close(self) -> None:
        """Close the connection. Apart from `report`, so that nobody waits for it."""
        # Backends yield from async generators, yet their protocol promises an iterator only.
        close = getattr(self._source, "aclose", None)
        self._source = None
        if close is not None:
            await close()

    async def _read(self) -> Report | None:
        """Read one connection to its end. None if it ended before the report."""
        try:
            return await self._read_frames(self._connect())
        except ClaimedError:
            self._claimed = True
        except ConnectionLostError as error:
            _log.info("connection to the runner lost", execution=self._live.record.id, error=str(error))
        except ProtocolError as error:
            self._refusals += 1
            _log.warning("the runner sent no journal", execution=self._live.record.id, error=str(error))
        except BadReportError as error:
            self._refusals = _MOST_REFUSALS + 1  # the journal ends here, asking again changes nothing
            _log.warning("the runner sent no report", execution=self._live.record.id, error=str(error))
        await self.close()
        return None

    def _connect(self) -> AsyncIterator[bytes]:
        """Send the call as long as nothing shows that it arrived: the runner takes only the first.

        So a request that was lost is repeated, and one that had arrived is answered with `ClaimedError`.
        """
        unsent = self._offset == 0 and not self._claimed
        if self._call is not None and unsent:
            self._source = self._sandbox.dispatch(self._call)
        else:
            self._source = self._sandbox.resume(self._offset)
        return self._source

    async def _read_frames(self, source: AsyncIterator[bytes]) -> Report | None:
        decoder = FrameDecoder(self._offset)
        async for data in source:
            for frame in decoder.feed(data):
                self._offset = frame.end_offset
                if frame.kind is FrameKind.REPORT:
                    self._timeline.mark(Point.REPORTED)
                    return read_report(frame.payload, self._live.record.id)
                self._take(frame)
            if self._live.must_flush:
                await self._flush()
        await self.close()
        return None

    async def _flush(self) -> None:
        """Store what came. A store that can't take it now gets it later; memory is bounded by the call's own limits."""
        try:
            await self._live.flush()
        except UnavailableError as error:
            _log.warning("output could not be stored yet", execution=self._live.record.id, error=str(error))

    def _take(self, frame: Frame) -> None:
        if frame.kind is FrameKind.STARTED:
            self._take_start(frame)
        elif frame.kind in FRAME_EVENTS:
            self._live.emit(FRAME_EVENTS[frame.kind], frame.payload, frame.end_offset)

    def _take_start(self, frame: Frame) -> None:
        self._timeline.mark(Point.RUNNING)
        if self._live.record.status is Status.RUNNING:
            return
        now = self._clock.now()
        self._live.change(
            status=Status.RUNNING,
            started_at=now,
            sandbox=self._sandbox.details,
            timings=self._timeline.timings(self._sandbox.timings),
            passed=self._timeline.passed,
        )
        self._live.emit_status(now, frame.end_offset)
