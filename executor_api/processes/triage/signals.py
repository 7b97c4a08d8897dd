"""What triage does to processes, and what really changed after it. A pidfd keeps each signal from a recycled pid."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from executor_api.errors import ExecutorError
from executor_api.processes.process_table import PROC, ZOMBIE, Process, read_process, read_table

_PAUSE = 0.02
_NUDGE_PATIENCE, _NUDGE_SECONDS = 0.3, 5.0
"""A nudge that changed nothing for so long is the last; so long all nudges of one parent may take."""


class RefusedError(ExecutorError):
    """That process is not ended, or can't be; the text says why and the way out."""


@dataclass(frozen=True, slots=True)
class Nudged:
    """How many zombies a parent had before and after."""

    pid: int
    before: int
    after: int
    problem: str = ""


class Target:
    """One process that signals can be sent to, for as long as it is the same. Raises ``RefusedError``."""

    def __init__(self, pid: int) -> None:
        try:
            self._descriptor = os.pidfd_open(pid)
        except OSError as error:
            raise RefusedError(f"process {pid} can't be reached: {error.strerror}") from error
        process = read_process(pid)  # read after it was held: its number can't be another's
        if process is None:
            os.close(self._descriptor)
            raise RefusedError(f"process {pid} has just ended")
        self.process: Process = process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None) -> None:
        os.close(self._descriptor)

    def send(self, number: signal.Signals) -> None:
        """Raises ``RefusedError``; to one that has ended meanwhile nothing is sent."""
        try:
            signal.pidfd_send_signal(self._descriptor, number)
        except ProcessLookupError:
            return
        except OSError as error:
            raise RefusedError(f"process {self.process.pid} can't be sent {number.name}: {error.strerror}") from error

    def ended_within(self, seconds: float) -> bool:
        """Wait for its end, whether or not its parent collects it then."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))


def nudge(parent: int, zombies: Sequence[Process]) -> Nudged:
    """Send SIGCHLD as long as that makes zombies go: many a handler collects one child a signal."""
    before = _left(zombies)
    try:
        with Target(parent) as target:
            return Nudged(parent, before, _nudge(target, zombies, before))
    except RefusedError as error:
        return Nudged(parent, before, _left(zombies), str(error))


def check_may_end(process: Process, ancestors: Iterable[int]) -> None:
    """Raise ``RefusedError`` for what triage must not end, or what no signal can end."""
    pid = process.pid
    if pid == 1:
        raise RefusedError("process 1 is the init of this machine or container: restart that instead")
    if pid in set(ancestors):
        raise RefusedError(f"process {pid} ({process.name}) runs this command: it would end before it could tell")
    if process.state == ZOMBIE:
        if process.threads > 1:
            return  # only its first thread has ended, and a signal ends the others
        raise RefusedError(
            f"process {pid} ({process.name}) is dead already; its parent {process.parent} has to collect it: "
            f"executor-api triage --nudge, or --restart-parent {process.parent}"
        )
    if _is_of_kernel(pid):
        raise RefusedError(f"process {pid} ({process.name}) is a thread of the kernel: no signal ends it")


def own_line() -> list[int]:
    """This process and those above it."""
    found = [os.getpid()]
    while process := read_process(found[-1]):
        if process.parent == 0:
            break
        found.append(process.parent)
    return found


def find_successors(is_one: Callable[[int], bool], known: Iterable[int], seconds: float) -> list[int]:
    """Wait for such processes, besides those that were ``known`` before."""
    deadline = time.monotonic() + seconds
    while True:
        found = sorted(pid for pid in set(read_table().pids) - set(known) if is_one(pid))
        if found or time.monotonic() >= deadline:
            return found
        time.sleep(_PAUSE * 10)


def count_left(zombies: Sequence[Process], seconds: float) -> int:
    """How many of these are still zombies, once none is or the time is over."""
    deadline = time.monotonic() + seconds
    while (left := _left(zombies)) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    return left


def _is_of_kernel(pid: int) -> bool:
    """Only its threads have no program."""
    try:
        os.readlink(f"{PROC}/{pid}/exe")  # noqa: PTH115 - only whether it can be read
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _nudge(target: Target, zombies: Sequence[Process], left: int) -> int:
    deadline = time.monotonic() + _NUDGE_SECONDS
    before = left + 1
    while 0 < left < before and time.monotonic() < deadline:
        before = left
        target.send(signal.SIGCHLD)
        left = _after_a_while(zombies, before)
    return left


def _after_a_while(zombies: Sequence[Process], before: int) -> int:
    """How many are left, as soon as it is fewer."""
    deadline = time.monotonic() + _NUDGE_PATIENCE
    while (left := _left(zombies)) == before and time.monotonic() < deadline:
        time.sleep(_PAUSE / 10)
    return left


def _left(zombies: Sequence[Process]) -> int:
    return sum(_is_same(zombie, read_process(zombie.pid)) for zombie in zombies)


def _is_same(zombie: Process, now: Process | None) -> bool:
    return now is not None and (now.started, now.state) == (zombie.started, ZOMBIE)
