"""Runs a call's Python source in the spare interpreter, as ``python main.py`` would, and reports value or exception."""

from __future__ import annotations

import atexit
import builtins
import contextlib
import io
import json
import os
import sys
import time
import traceback
import types
from collections.abc import Callable, Mapping
from typing import NoReturn, cast

from executor_runner.job import Job
from executor_runner.protocol.frames import encode_json
from executor_runner.protocol.shapes import ExceptionInfo, PythonCode

_MAX_MESSAGE = 4096
_MAX_TRACEBACK = 16 * 1024
_EXIT_NOT_FLUSHED = 120


def prepare(env: Mapping[str, str]) -> None:
    """Make what all calls have: streams, and this environment."""
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8", "surrogateescape")
    sys.stdout = _unbuffered(1, "surrogateescape")
    sys.stderr = _unbuffered(2, "backslashreplace")
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]
    os.environ.clear()
    os.environ.update(env)


def rehearse() -> None:
    """Do what every call does, to no effect."""
    nothing = PythonCode(code="print(end='')", function=None, args=[], kwargs={})
    encode_json(_execute(nothing, "", 0))
    sys.stdout.flush()


def run_python(job: Job, python: PythonCode, result_fd: int) -> NoReturn:
    """Become the program, after `rehearse`; never returns. Exit codes are the interpreter's own."""
    _enter(job["source"], job["cwd"], job["env"])
    own_pid, channel = os.getpid(), os.fstat(result_fd)
    result: dict[str, object] = {}
    exit_code = _guarded(lambda: result.update(_execute(python, job["source"], job["value_bytes"])), result)
    exit_code = _finish_like_an_interpreter() or exit_code
    if os.getpid() == own_pid:  # a fork that the code let run on has nothing to tell
        _write_all(result_fd, channel, encode_json(result))
    os._exit(exit_code)


def _enter(source: str, cwd: str, env: dict[str, str]) -> None:
    os.environ.update(env)
    if "TZ" in env:
        time.tzset()
    sys.path[:0] = [cwd, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = [source]
    numpy = sys.modules.get("numpy")
    if numpy is not None:  # the standard library's generator sees to it itself
        numpy.random.seed()


def _unbuffered(descriptor: int, errors: str) -> io.TextIOWrapper:
    """Like ``python -u``: what was printed before a kill is already with the runner."""
    raw = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(cast("io.BufferedWriter", raw), "utf-8", errors, write_through=True)


def _execute(python: PythonCode, source: str, value_bytes: int) -> dict[str, object]:
    main = types.ModuleType("__main__")
    main.__file__ = source
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    exec(compile(python["code"], source, "exec", dont_inherit=True), main.__dict__)  # noqa: S102 - what we are for
    if python["function"] is None:
        return {}
    return {"value": _call(main, python, value_bytes)}


def _call(main: types.ModuleType, python: PythonCode, value_bytes: int) -> str:
    name = python["function"] or ""
    function = getattr(main, name, None)
    if not callable(function):
        raise NameError(f"the code defines no function {name!r}")  # noqa: TRY004 - the name is what is missing
    value = function(*python["args"], **python["kwargs"])
    if isinstance(value, types.CoroutineType):
        import asyncio  # noqa: PLC0415 - dear, and only coroutines need it

        value = asyncio.run(value)
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} returned what is not JSON: {error}") from None
    if len(text) > value_bytes:
        raise ValueError(f"{name} returned {len(text)} bytes of JSON; at most {value_bytes} can be brought back")
    return text


def _guarded(action: Callable[[], object], result: dict[str, object]) -> int:
    """Run it and return the exit code that Python would give."""
    try:
        action()
    except SystemExit as leaving:
        return _exit_code(leaving)
    except BaseException as error:  # noqa: BLE001 - whatever the user's code raises
        result["exception"] = _show(error)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _exit_code(leaving: SystemExit) -> int:
    if leaving.code is None:
        return 0
    if isinstance(leaving.code, int):
        return leaving.code & 0xFF
    _say(lambda: f"{leaving.code}\n")
    return 1


def _show(error: BaseException) -> ExceptionInfo:
    """Print the traceback as the interpreter would, without our own frames, and describe it."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__") == __name__:
        frames = frames.tb_next
    error.__traceback__ = frames
    text = "".join(traceback.format_exception(type(error), error, frames))
    try:
        sys.excepthook(type(error), error, frames)
    except BaseException:  # noqa: BLE001 - the code's own hook may raise anything
        _say(lambda: text)
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    return {"type": name, "message": _message(error)[:_MAX_MESSAGE], "traceback": text[-_MAX_TRACEBACK:]}


def _say(text: Callable[[], str]) -> None:
    with contextlib.suppress(Exception):  # the code may have closed or replaced it, and what it says is the code's
        sys.stderr.write(text())


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:  # noqa: BLE001 - the user's __str__ may raise anything
        return f"<str() of it raised {type(broken).__name__}>"


def _finish_like_an_interpreter() -> int:
    """Wait for threads, run exit functions, flush; returns the exit code of output that could not be flushed, or 0."""
    try:
        threading = sys.modules.get("threading")
        if threading is not None:
            threading._shutdown()  # noqa: SLF001 - joins what is no daemon, as at exit
        atexit._run_exitfuncs()  # noqa: SLF001 - os._exit would leave them out
        for stream in (getattr(sys, "stdout", None), getattr(sys, "stderr", None)):
            if stream is not None and not getattr(stream, "closed", False):
                stream.flush()
    except BaseException as error:  # noqa: BLE001 - threads, exit functions and streams are the user's
        with contextlib.suppress(Exception):
            traceback.print_exception(error, file=sys.__stderr__)
        return _EXIT_NOT_FLUSHED
    return 0


def _write_all(descriptor: int, channel: os.stat_result, data: bytes) -> None:
    """Write it unless the code has closed the descriptor; its number may be a file of the user's by now."""
    try:
        if not os.path.samestat(os.fstat(descriptor), channel):
            return
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        return  # closed, or the runner stopped listening
