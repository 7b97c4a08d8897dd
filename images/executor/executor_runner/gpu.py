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
from typing import Any, NamedTuple, NoReturn

from executor_runner import linux
from executor_runner.loop import Loop
from executor_runner.protocol import GPUS_ENV
from executor_runner.protocol.shapes import GpuMemory
from executor_runner.spare import arrange_descriptors

RETURN_SECONDS = 5.0
"""How long memory may take to come back once the last process of a call has ended."""
_PATIENCE_SECONDS = 12.0
"""How long an answer may take: a driver that nothing keeps awake needs seconds for the first. The service has more."""
_AGAIN_SECONDS = 0.05
_POLL_SECONDS = 0.002
_NOISE_BYTES = 64 * 1024 * 1024
"""A device's use moves a little by itself; the least that a process takes of it is several times as much."""
_MPS_ENV = "CUDA_MPS_PIPE_DIRECTORY"
"""Set by NVIDIA's device plugin where several pods use a device at once, through NVIDIA's server."""
_ANSWER_FD, _STDERR = 0, 2
_MOST_BYTES = 4096
_MOST_HOLDERS = 256


class Use(NamedTuple):
    """Of one device: bytes in use, and who holds some, by the pids that the driver tells."""

    used_bytes: int
    holders: Sequence[int]


class Verdict(NamedTuple):
    """What came of the memory in use. ``uncertain`` if nobody can tell whose the rest is."""

    after_bytes: int | None
    leaked_bytes: int = 0
    returned: bool = False
    uncertain: bool = False


class Gpus:
    """The sandbox's own GPUs. ``before``: bytes in use of each when the sandbox began."""

    def __init__(self, loop: Loop, before: Sequence[int]) -> None:
        self._loop = loop
        self._before = before
        self.free = True
        """Whether all memory is known to have come back when it was last compared."""

    def compare(self, then: Callable[[GpuMemory], None], *, alone: bool) -> None:
        """Tell ``then`` how memory stands, as soon as it has come back or is overdue.

        ``alone``: every process of the sandbox but the runner's own has ended.
        """
        try:
            until = time.monotonic() + RETURN_SECONDS
            question = _ask(lambda: _compare(self._before, until, alone=alone))
        except OSError:
            then(self._found(Verdict(None)))
        else:
            self._await(question, then)

    def _await(self, question: _Question, then: Callable[[GpuMemory], None]) -> None:
        if question.is_open():
            self._loop.call_later(_POLL_SECONDS, lambda: self._await(question, then))
        else:
            answer = question.answer()
            then(self._found(Verdict(*answer) if answer else Verdict(None)))

    def _found(self, verdict: Verdict) -> GpuMemory:
        self.free = verdict.returned
        memory = GpuMemory(
            devices=len(self._before),
            before_bytes=sum(self._before),
            after_bytes=verdict.after_bytes,
            leaked_bytes=verdict.leaked_bytes,
            returned=verdict.returned,
        )
        if verdict.uncertain:
            memory["uncertain"] = True
        return memory


def own_gpus(loop: Loop, environ: Mapping[str, str]) -> Gpus | None:
    """Those that nobody else uses. None without any, and where NVIDIA's driver does not answer or tells of others."""
    if not environ.get(GPUS_ENV) or environ.get(_MPS_ENV):
        return None
    try:
        question = _ask(lambda: [use.used_bytes for use in _Driver().read()])
    except OSError:
        return None
    while question.is_open():
        time.sleep(_POLL_SECONDS)
    before = question.answer()
    return Gpus(loop, before) if before and len(before) == int(environ[GPUS_ENV]) else None


def judge(before: Sequence[int], after: Sequence[Use], last_pid: int | None) -> Verdict:
    """Compare each device by itself: what one gives back is not the other's.

    ``last_pid``: the highest number that a process of this sandbox can have had, if all of them have ended. A driver
    that lists another tells the machine's numbers: its memory may be a neighbour's, where pods share the device though
    its resource's name does not say so. None: what is held may well be ours.
    """
    if len(before) != len(after):
        return Verdict(None)  # one has fallen off the bus
    grown = [use.used_bytes - then for then, use in zip(before, after, strict=True)]
    missing = [(size, use) for size, use in zip(grown, after, strict=True) if size > _NOISE_BYTES]
    total = sum(use.used_bytes for use in after)
    if not missing:
        return Verdict(total, returned=True)
    if last_pid is not None and any(pid > last_pid for _, use in missing for pid in use.holders):
        return Verdict(total, uncertain=True)
    return Verdict(total, sum(size for size, _ in missing))


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

    def answer(self) -> list[Any] | None:
        """What it wrote; None if that is nothing. To be called once, when it is no longer open."""
        if time.monotonic() > self.until:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        os.set_blocking(self.answer_fd, False)
        try:
            found: list[Any] = json.loads(os.read(self.answer_fd, _MOST_BYTES))
        except (BlockingIOError, ValueError):
            return None
        finally:
            os.close(self.answer_fd)
        return found


def _ask(ask: Callable[[], Sequence[object]]) -> _Question:
    """Have a process ask and answer. Raises ``OSError``."""
    answer_fd, theirs = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(answer_fd)
        raise
    else:
        if pid == 0:
            _answer(theirs, ask)
        return _Question(pid, answer_fd, time.monotonic() + _PATIENCE_SECONDS)
    finally:
        os.close(theirs)


def _answer(descriptor: int, ask: Callable[[], Sequence[object]]) -> NoReturn:
    try:
        arrange_descriptors(descriptor, _STDERR, _STDERR)
        linux.unblock_signals()
        os.write(_ANSWER_FD, json.dumps(ask()).encode())
    finally:
        os._exit(0)  # without an answer if there is no driver, or it refuses


def _compare(before: Sequence[int], until: float, *, alone: bool) -> Verdict:
    """Look until memory is back, or overdue."""
    last_pid = _last_pid() if alone else None
    driver = _Driver()
    while True:
        verdict = judge(before, driver.read(), last_pid)
        if verdict.returned or time.monotonic() > until:
            return verdict
        time.sleep(_AGAIN_SECONDS)


def _last_pid() -> int | None:
    """Of this PID namespace; of every number up to here some process of the sandbox may have had it."""
    try:
        with open("/proc/loadavg", "rb") as file:
            return int(file.read().split()[4])
    except (OSError, ValueError, IndexError):
        return None


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Process(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class _Driver:
    """NVIDIA's, opened. Raises ``OSError`` where there is none, or it refuses."""

    def __init__(self) -> None:
        self._nvml = ctypes.CDLL("libnvidia-ml.so.1")
        _check(self._nvml.nvmlInit_v2())

    def read(self) -> list[Use]:
        """All devices; of one that is divided (MIG), the parts that are ours. Raises ``OSError``."""
        return [Use(self._used_bytes(handle), self._holders(handle)) for handle in self._handles()]

    def _used_bytes(self, handle: ctypes.c_void_p) -> int:
        memory = _Memory()
        _check(self._nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)))
        return int(memory.used)

    def _holders(self, handle: ctypes.c_void_p) -> list[int]:
        """None where the driver does not tell: it is older, or does not allow it."""
        count, found = ctypes.c_uint(_MOST_HOLDERS), (_Process * _MOST_HOLDERS)()
        with contextlib.suppress(AttributeError):
            ask = self._nvml.nvmlDeviceGetComputeRunningProcesses_v3
            if ask(handle, ctypes.byref(count), found) == 0:
                return [process.pid for process in found[: count.value]]
        return []

    def _handles(self) -> Iterator[ctypes.c_void_p]:
        count = ctypes.c_uint()
        _check(self._nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)))
        for index in range(count.value):
            whole = ctypes.c_void_p()
            _check(self._nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(whole)))
            yield from self._parts(whole) or [whole]

    def _parts(self, whole: ctypes.c_void_p) -> list[ctypes.c_void_p]:
        most, found = ctypes.c_uint(), []
        try:
            self._nvml.nvmlDeviceGetMaxMigDeviceCount(whole, ctypes.byref(most))
        except AttributeError:
            return []  # a driver from before there were parts
        for index in range(most.value):
            part = ctypes.c_void_p()
            if self._nvml.nvmlDeviceGetMigDeviceHandleByIndex(whole, index, ctypes.byref(part)) == 0:
                found.append(part)
        return found


def _check(code: int) -> None:
    if code != 0:
        raise OSError(f"NVML: {code}")
