"""What the child says of its call: user code's word, bounded, and checked for shape only."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import TypedDict, TypeGuard

from executor_runner.loop import Loop
from executor_runner.protocol.shapes import ExceptionInfo
from executor_runner.pump import READ_BYTES, read_available
from executor_runner.spare import PICKED_UP

_EXCEPTION_KEYS = {"type", "message", "traceback"}


class Findings(TypedDict, total=False):
    """The parts of a report that come from the child."""

    value_json: str
    exception: ExceptionInfo


class ResultPipe:
    """The pipe on which a spare says that it has picked up its call, and Python code its value or exception.

    ``descriptor`` is closed here; ``value_bytes`` is the most that a value may have.
    """

    def __init__(self, loop: Loop, descriptor: int, value_bytes: int, on_picked_up: Callable[[], None]) -> None:
        self._loop = loop
        self._descriptor: int | None = descriptor
        self._most = 2 * value_bytes + READ_BYTES
        self._on_picked_up = on_picked_up
        self._said = bytearray()
        self.picked_up = False

    def watch(self) -> None:
        """Read whenever there is something."""
        if self._descriptor is not None:
            self._loop.watch(self._descriptor, read=self.read)

    def read(self) -> None:
        """Read what there is, up to a bound: a child that writes without end must not keep us from all else."""
        while self._descriptor is not None:
            data = read_available(self._descriptor)
            if data is None:
                return
            if not self.picked_up and data.startswith(PICKED_UP):
                self.picked_up = True
                self._on_picked_up()
            self._said += data
            if not data or len(self._said) > self._most:
                self.close()

    def close(self) -> None:
        """Read no more. Safe to call twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._loop.watch(descriptor)
            os.close(descriptor)

    def findings(self) -> Findings:
        """What of it belongs into the report."""
        return parse_result(bytes(self._said.removeprefix(PICKED_UP)))


def parse_result(text: bytes) -> Findings:
    """Return the optional parts of a report that ``text`` supports; nothing if it is cut or malformed."""
    findings = Findings()
    try:
        result = json.loads(text)
        value, exception = result.get("value"), result.get("exception")
        if isinstance(value, str):
            json.loads(value, parse_constant=_refuse)
            findings["value_json"] = value
        if _is_exception(exception):
            findings["exception"] = exception
    except (ValueError, AttributeError, RecursionError):
        return Findings()
    return findings


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _is_exception(value: object) -> TypeGuard[ExceptionInfo]:
    return isinstance(value, dict) and set(value) == _EXCEPTION_KEYS and all(isinstance(v, str) for v in value.values())
