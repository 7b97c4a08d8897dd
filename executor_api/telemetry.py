"""Logs: one event a line, JSON or text, ours and those of the libraries alike, on standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

import structlog
from structlog.typing import Processor

_QUIET = {"uvicorn.access": logging.WARNING, "asyncio": logging.WARNING, "httpx": logging.WARNING}


class _Lines:
    """Writes the events of one logger. Those that can't be written are lost: what they tell of must not fail by it."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self.name = name
        self._stream = stream

    def write(self, line: str) -> None:
        """Write one event."""
        with suppress(OSError, ValueError):
            self._stream.write(f"{line}\n")
            self._stream.flush()

    debug = info = warning = error = critical = write


def configure_logging(log_format: str, level: str, stream: TextIO = sys.stderr) -> None:
    """Set up logging for this process: ``log_format`` is ``json``, ``text``, or ``auto`` (text on a terminal)."""
    text = log_format == "text" or (log_format == "auto" and stream.isatty())
    shared, renderers = _shared_processors(), _renderers(text=text, colors=stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                *shared,
                structlog.stdlib.PositionalArgumentsFormatter(),
                structlog.stdlib.ExtraAdder(allow=()),
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(least)
    # Our own events go the short way, beside the standard library's records: one comes with each call.
    structlog.configure(
        processors=[*shared, *renderers],
        logger_factory=lambda name: _Lines(stream, name),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )


def audit_log(stream: TextIO = sys.stderr) -> Callable[..., None]:
    """Writes the audit log: JSON, whatever the format and the least severe level of our own."""
    log = structlog.wrap_logger(
        _Lines(stream, "audit"),
        processors=[
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        cache_logger_on_first_use=True,
    )
    write: Callable[..., None] = log.info
    return write


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _renderers(*, text: bool, colors: bool) -> list[Processor]:
    if text:
        # Prettier tracebacks, where their package is there, show local variables: calls, tokens, keys.
        return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
