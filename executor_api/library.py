"""The library form: calls on this machine without a service, for code that used ``subprocess.run``.

    with Executor.local() as executor:
        result = executor.run("df -h", timeout=30)

Same runner, same endings as over HTTP; nothing is stored.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import count
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import ValidationError

from executor_api.backends.base import Claim, ConnectionLostError, Health, NotTakenError, Sandbox
from executor_api.backends.local.backend import LocalBackend
from executor_api.domain.execution import Event, Output
from executor_api.domain.outcome import Outcome, Reason, Status, leaves_nothing, settle, settle_without_report
from executor_api.domain.output import FRAME_EVENTS, assemble
from executor_api.domain.plan import Plan, plan
from executor_api.domain.report import read_report
from executor_api.domain.request import ExecutionRequest
from executor_api.domain.runner_call import runner_call
from executor_api.domain.template import Template
from executor_api.domain.validation import wrong_fields
from executor_api.errors import FieldProblem, InvalidRequestError, UnavailableError
from executor_runner.protocol.frames import Frame, FrameDecoder, FrameKind, encode_json
from executor_runner.protocol.shapes import Report

OnOutput = Callable[[int, bytes], None]
"""Called with 1 or 2 (stdout, stderr) and bytes as they come, on the executor's own thread: be quick."""

_TENANT = "default"
_STREAMS = {FrameKind.STDOUT: 1, FrameKind.STDERR: 2}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Result:
    """How a call ended and what it left. ``stdout`` and ``stderr`` are text; ``output`` has the bytes."""

    outcome: Outcome
    output: Output

    @property
    def stdout(self) -> str:
        """Standard output; bytes that are no UTF-8 are replaced."""
        return self.output.stdout.decode(errors="replace")

    @property
    def stderr(self) -> str:
        """Standard error; bytes that are no UTF-8 are replaced."""
        return self.output.stderr.decode(errors="replace")

    @property
    def succeeded(self) -> bool:
        """Whether the call ended by itself with exit code 0."""
        return self.outcome.status is Status.SUCCEEDED

    @property
    def reason(self) -> Reason | None:
        """Why it did not succeed."""
        return self.outcome.reason

    @property
    def message(self) -> str:
        """The reason as a sentence."""
        return self.outcome.message

    @property
    def exit_code(self) -> int | None:
        """The child's exit code; None if a signal ended it."""
        return self.outcome.exit_code

    @property
    def signal(self) -> str | None:
        """Name of the signal that ended the child."""
        return self.outcome.signal

    @property
    def value(self) -> Any:
        """What the function returned."""
        return None if self.outcome.value_json is None else json.loads(self.outcome.value_json)


class Executor:
    """Runs each call in a sandbox of its own. Made by `local`; safe from any thread; a context manager.

    It belongs to the process that made it: one that is forked from it makes its own.
    """

    def __init__(self, backend: LocalBackend, templates: Mapping[str, Template]) -> None:
        self._backend = backend
        self._templates = dict(templates)
        self._names = count(1)
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()  # between those who hand in work and the one who closes
        self._closed = False
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._loop.run_forever, name="executor", daemon=True)

    @classmethod
    def local(cls, templates: Mapping[str, Template] | None = None) -> Self:
        """Start the local backend. Raises `UnavailableError` if this machine can't make sandboxes."""
        executor = cls(LocalBackend(os.environ), templates or {"default": Template(name="default", network="open")})
        executor.start()
        return executor

    def start(self) -> None:
        """Start the backend; `local` has done it. Raises `UnavailableError` if there can be no sandboxes."""
        self._thread.start()
        self._do(self._backend.start())
        problems = self.health().problems
        if problems:
            self.close()
            raise UnavailableError("; ".join(problems))

    def health(self) -> Health:
        """Whether calls can run, and what isolation they get."""
        return self._backend.health()

    def run(
        self,
        command: str | list[str] | None = None,
        *,
        timeout: float | None = None,
        on_output: OnOutput | None = None,
        **request: Any,
    ) -> Result:
        """Run one call and wait for its end, which is a value whatever it is.

        Args:
            command: a string for ``sh -c``, or an argv list; or give ``code``.
            timeout: seconds; default: the template's.
            on_output: told of output as it comes.
            request: the other fields of a request: code, language, function, args, kwargs, stdin, env, files,
                artifacts, template, resources, isolation, labels.

        Raises:
            InvalidRequestError: names each wrong field.
            UnavailableError: no sandbox can be made now.
            RuntimeError: the executor is closed, or another process made it, or `on_output` asks.
        """
        fields = {**request, "command": command, "timeout_seconds": timeout}
        planned = _planned(fields, self._templates)
        return self._do(self._run(planned, on_output))

    def close(self) -> None:
        """End every sandbox and the thread; calls that run are answered as lost. Safe to call twice.

        In a process forked from the executor's own it does nothing. Raises `RuntimeError` if `on_output` asks.
        """
        if os.getpid() != self._pid:
            return  # lock, thread and event loop are the other process's
        self._refuse_own_thread()
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _do(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run on the executor's loop; a caller that is interrupted takes the call down with it."""
        try:
            future = self._hand_in(coroutine)
        except RuntimeError:
            coroutine.close()
            raise
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _hand_in(self, coroutine: Coroutine[Any, Any, _T]) -> Future[_T]:
        if os.getpid() != self._pid:  # the lock may have been forked while it was held
            raise RuntimeError("the executor is another process's; make one after the fork")
        self._refuse_own_thread()
        with self._lock:
            if self._closed:
                raise RuntimeError("the executor is closed")
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def _refuse_own_thread(self) -> None:
        if threading.current_thread() is self._thread:
            raise RuntimeError("`on_output` runs on the executor's own thread, which can't wait for itself")

    async def _shut_down(self) -> None:
        """With its sandbox every call ends by itself, and is waited for: somebody wants its result."""
        await self._backend.stop()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)

    async def _run(self, planned: Plan, on_output: OnOutput | None) -> Result:
        claim = Claim(f"x-{os.getpid()}-{next(self._names)}", _TENANT, planned)
        while True:
            sandbox = await self._backend.claim(claim)
            report: Report | None = None
            try:
                events, report = await _collect(sandbox, _encoded(claim, sandbox), claim.execution_id, on_output)
                break
            except NotTakenError:
                continue
            finally:
                await sandbox.release(sound=report is not None and leaves_nothing(report))
        output = assemble(events)
        if report is not None:
            return Result(settle(report), output)
        lost = (await sandbox.last_words()).evidence
        return Result(settle_without_report(lost, len(output.stdout), len(output.stderr)), output)


async def _collect(
    sandbox: Sandbox, call: bytes, name: str, on_output: OnOutput | None
) -> tuple[list[Event], Report | None]:
    """Read the journal to its end; no report if the sandbox was lost."""
    events: list[Event] = []
    try:
        async for frame in _frames(sandbox.dispatch(call)):
            if frame.kind is FrameKind.REPORT:
                return events, read_report(frame.payload, name)
            if frame.kind in FRAME_EVENTS:
                events.append(Event(len(events) + 1, FRAME_EVENTS[frame.kind], frame.payload))
            if on_output is not None and frame.kind in _STREAMS:
                on_output(_STREAMS[frame.kind], frame.payload)
    except ConnectionLostError:
        pass  # the same as a journal that ends early
    return events, None


async def _frames(source: AsyncIterator[bytes]) -> AsyncIterator[Frame]:
    decoder = FrameDecoder()
    async for data in source:
        for frame in decoder.feed(data):
            yield frame


def _planned(fields: dict[str, Any], templates: dict[str, Template]) -> Plan:
    """Check a call and word its mistakes by the names that `Executor.run` has for them."""
    try:
        return plan(ExecutionRequest.model_validate(fields), templates)
    except ValidationError as error:
        problems = tuple(wrong_fields(error, fields))
    except InvalidRequestError as error:
        problems = error.problems
    raise InvalidRequestError(
        *(replace(problem, field="timeout") if problem.field == "timeout_seconds" else problem for problem in problems)
    )


def _encoded(claim: Claim, sandbox: Sandbox) -> bytes:
    try:
        return encode_json(runner_call(claim.plan, claim.execution_id, claim.tenant, sandbox.follows))
    except (TypeError, ValueError) as error:  # all else is text by now
        raise InvalidRequestError(FieldProblem("args", f"and `kwargs` must be JSON: {error}")) from None
