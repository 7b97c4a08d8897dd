"""The last hour of this process as ``GET /status`` tells it: calls, and the service's own processes."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from executor_api import __version__
from executor_api.domain.durations import Durations
from executor_api.http.metrics import Metrics
from executor_api.http.problems import printable
from executor_api.http.render import instant
from executor_api.processes.monitor import Look
from executor_api.processes.pressure import Usage
from executor_api.processes.recent import Worst
from executor_api.service.last_hour import MINUTES, Figures, LastHour
from executor_api.settings import Settings


class StatusRoute:
    """The handler, with what it tells of."""

    def __init__(self, metrics: Metrics, settings: Settings) -> None:
        self._metrics = metrics
        self._settings = settings
        self._replica = socket.gethostname()
        self._told: dict[int, dict[str, Any]] = {}
        """Figures of minutes that are over: they don't change, and percentiles cost most of an answer."""

    async def status(self, _request: Request) -> Response:
        """The last hour of this replica in minutes, and its own processes against their limits."""
        hour, watched, now = self._metrics.hour, self._metrics.watched(), time.time()
        told = {
            "replica": self._replica,
            "version": __version__,
            "backend": self._settings.backend,
            "at": instant(now),
            "since": instant(max(hour.began, (now // 60 - MINUTES + 1) * 60)),
            "running": hour.running,
            "queued": hour.queued,
            "max_running": self._settings.max_concurrency,
            "hour": _figures(hour.whole()),
            "minutes": self._minutes(hour, {worst.minute: worst for worst in watched.hour}),
            "own": None if watched.last is None else _own(watched.last),
        }
        return Response(orjson.dumps(told), media_type="application/json")

    def _minutes(self, hour: LastHour, own: Mapping[int, Worst]) -> list[dict[str, Any]]:
        minutes = hour.minutes()
        told = {minute: self._told.get(minute) or _figures(figures) for minute, figures in minutes.items()}
        self._told = {minute: told[minute] for minute in list(told)[:-1]}
        return [
            {"at": instant(minute * 60), **figures, "own": _worst(own.get(minute))} for minute, figures in told.items()
        ]


def _figures(figures: Figures) -> dict[str, Any]:
    return {
        "endings": figures.endings,
        "total_ms": _percentiles(figures.totals),
        "start_ms": {start.value: _percentiles(durations) for start, durations in figures.starts.items()},
        "left_behind": {
            "left_behind": figures.left_behind,
            "zombies": figures.zombies,
            "unkillable": figures.unkillable,
        },
        "most_running": figures.most_running,
        "most_queued": figures.most_queued,
    }


def _percentiles(durations: Durations) -> dict[str, Any]:
    found = {name: durations.percentile(share) for name, share in (("p50", 0.5), ("p95", 0.95))}
    return {"calls": durations.number} | {name: value and round(value, 2) for name, value in found.items()}


def _worst(worst: Worst | None) -> dict[str, int] | None:
    return worst and {"processes": worst.processes, "zombies": worst.zombies, "stuck": worst.stuck}


def _own(look: Look) -> dict[str, Any]:
    return {
        "looked_at": instant(look.at),
        "processes": look.processes,
        "threads": look.threads,
        "zombies": look.zombies,
        "zombies_by_parent": {printable(name): number for name, number in look.zombies_by_parent.items()},
        "stuck": look.stuck,
        "longest_stuck_seconds": round(look.longest_stuck, 1),
        "pids": _limited(look.cgroups),
        "descriptors": _limited(look.descriptors),
    }


def _limited(usages: Mapping[str, Usage]) -> dict[str, Any]:
    return {printable(name): {"used": usage.used, "limit": usage.limit} for name, usage in usages.items()}
