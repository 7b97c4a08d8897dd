"""Whether the memory of a sandbox's GPUs comes back after a call, as NVIDIA's driver tells.

Each reading is a process of its own. Who asks a driver in trouble may wait for good, in D state; and who has once asked
it can't fork a child that uses a GPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, NoReturn

from executor_runner import linux
from executor_runner.loop import Loop
from executor_runner.protocol import GPUS_ENV
from executor_runner.protocol.shapes import GpuMemory
from executor_runner.spare import arrange_descriptors

RETURN_SECONDS = 5.0
"""How long memory may take to come back once the last process of a call has ended."""
_PATIENCE_SECONDS = RETURN_SECONDS + 2.0
_AGAIN_SECONDS = 0.05
_POLL_SECONDS = 0.002
_NOISE_BYTES = 64 * 1024 * 1024
"""A device's use moves a little by itself; the least that a process takes of it is several times as much."""
_ANSWER_FD, _STDERR = 0, 2
_MOST_BYTES = 4096


class Gpus:
    """The sandbox's own GPUs. ``before``: bytes in use of each when the sandbox began."""

    def __init__(self, loop: Loop, before: Sequence[int]) -> None:
        self._loop = loop
        self._before = before
        self.free = True
        """Whether all memory had come back when it was last compared."""

    def compare(self, then: Callable[[GpuMemory], None]) -> None:
        """Tell ``then`` how memory stands, as soon as it has come back or is overdue."""
        try:
            question = _ask(self._before)
        except OSError:
            then(self._found(None))
        else:
            self._await(question, then)

    def _await(self, question: _Question, then: Callable[[GpuMemory], None]) -> None:
        if question.is_open():
            self._loop.call_later(_POLL_SECONDS, lambda: self._await(question, then))
        else:
            then(self._found(question.answer()))

    def _found(self, after: Sequence[int] | None) -> GpuMemory:
        leaked = _leaked_bytes(self._before, after) if after is not None else 0
        self.free = after is not None and leaked == 0
        return GpuMemory(
            devices=len(self._before),
            before_bytes=sum(self._before),
            after_bytes=sum(after) if after is not None else None,
            leaked_bytes=leaked,
            returned=self.free,
        )


def own_gpus(loop: Loop, environ: Mapping[str, str]) -> Gpus | None:
    """Those that nobody else uses. None without any, and where NVIDIA's driver does not answer."""
    if not environ.get(GPUS_ENV):
        return None
    try:
        question = _ask(None)
    except OSError:
        return None
    while question.is_open():
        time.sleep(_POLL_SECONDS)
    before = question.answer()
    return Gpus(loop, before) if before else None


class _Question(NamedTuple):
    """A process that asks the driver. Its end is left for whoever reaps."""

    pid: int
    answer_fd: int
    until: float

    def is_open(self) -> bool:
        """Whether it may still be answered."""
        if time.monotonic() > self.until:
            return False
        with contextlib.suppress(ChildProcessError):  # it has been reaped
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        return False

    def answer(self) -> list[int] | None:
        """Bytes in use of each device; None if there was no answer. To be called once, when it is no longer open."""
        if time.monotonic() > self.until:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        os.set_blocking(self.answer_fd, False)
        try:
            used: list[int] = json.loads(os.read(self.answer_fd, _MOST_BYTES))
        except (BlockingIOError, ValueError):
            return None
        finally:
            os.close(self.answer_fd)
        return used


def _ask(before: Sequence[int] | None) -> _Question:
    """Raises ``OSError``. With ``before``, the answer waits for memory to come back to it."""
    answer_fd, theirs = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(answer_fd)
        raise
    else:
        if pid == 0:
            _answer(theirs, before)
        return _Question(pid, answer_fd, time.monotonic() + _PATIENCE_SECONDS)
    finally:
        os.close(theirs)


def _answer(descriptor: int, before: Sequence[int] | None) -> NoReturn:
    try:
        arrange_descriptors(descriptor, _STDERR, _STDERR)
        linux.unblock_signals()
        os.write(_ANSWER_FD, json.dumps(_read_until_returned(before)).encode())
    finally:
        os._exit(0)  # without an answer if there is no driver, or it refuses


def _read_until_returned(before: Sequence[int] | None) -> list[int]:
    nvml = ctypes.CDLL("libnvidia-ml.so.1")
    _check(nvml.nvmlInit_v2())
    until = time.monotonic() + RETURN_SECONDS
    while True:
        used = [_used_bytes(nvml, handle) for handle in _handles(nvml)]
        if before is None or time.monotonic() > until or not _leaked_bytes(before, used):
            return used
        time.sleep(_AGAIN_SECONDS)


def _leaked_bytes(before: Sequence[int], after: Sequence[int]) -> int:
    """Of each device by itself: what one gives back is not the other's."""
    grown = [now - then for then, now in zip(before, after, strict=True)]
    return sum(size for size in grown if size > _NOISE_BYTES)


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def _used_bytes(nvml: ctypes.CDLL, handle: ctypes.c_void_p) -> int:
    memory = _Memory()
    _check(nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)))
    return int(memory.used)


def _handles(nvml: ctypes.CDLL) -> Iterator[ctypes.c_void_p]:
    """Of all devices; of one that is divided (MIG), those of the parts that are ours."""
    count = ctypes.c_uint()
    _check(nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)))
    for index in range(count.value):
        whole = ctypes.c_void_p()
        _check(nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(whole)))
        yield from _parts(nvml, whole) or [whole]


def _parts(nvml: ctypes.CDLL, whole: ctypes.c_void_p) -> list[ctypes.c_void_p]:
    most, found = ctypes.c_uint(), []
    try:
        nvml.nvmlDeviceGetMaxMigDeviceCount(whole, ctypes.byref(most))
    except AttributeError:
        return []  # a driver from before there were parts
    for index in range(most.value):
        part = ctypes.c_void_p()
        if nvml.nvmlDeviceGetMigDeviceHandleByIndex(whole, index, ctypes.byref(part)) == 0:
            found.append(part)
    return found


def _check(code: int) -> None:
    if code != 0:
        raise OSError(f"NVML: {code}")
