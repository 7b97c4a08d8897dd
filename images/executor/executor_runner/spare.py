"""The spare: a child forked before its call is known, so that the call costs a write instead of a start.

It waits on a pipe; what it gets decides what it becomes: a program by exec, or Python code in this very interpreter.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import resource
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from executor_runner import linux, python_child
from executor_runner.job import Job
from executor_runner.signals import reset_signals

PIPE_BYTES = 1024 * 1024
NICE = 5
"""The child yields to the runner, which must keep up with a fork bomb."""
RELEASE = b"!"
PICKED_UP = b"S"
_RESULT_FD, _RELEASE_FD, _JOB_FD = 3, 4, 5
"""Where a spare has them, behind its standard streams."""
_ASIDE = 100
_EXIT_NOT_FOUND = 127
_EXIT_NOT_EXECUTABLE = 126


class Spare(NamedTuple):
    """The runner's side of a waiting child. Descriptors are the runner's ends, non-blocking."""

    pid: int
    release_fd: int
    job_fd: int
    stdin_fd: int
    stdout_fd: int
    stderr_fd: int
    result_fd: int

    def release(self, job: Job, stdin: bytes) -> None:
        """Let it become the child. Raises ``OSError`` if it is gone."""
        _write_at_start(self.job_fd, marshal.dumps(job))  # type: ignore[arg-type] # a TypedDict is a dict
        _write_at_start(self.stdin_fd, stdin)
        os.write(self.release_fd, RELEASE)
        for descriptor in (self.release_fd, self.job_fd, self.stdin_fd):
            os.close(descriptor)


class Channels(NamedTuple):
    """What connects a spare with the runner: descriptors in the order of `Spare`, and in the order the spare has them.

    The two memory files are in both.
    """

    ours: tuple[int, ...]
    theirs: tuple[int, ...]


def open_channels() -> Channels:
    """Make those of one spare; the runner's ends are non-blocking. Raises ``OSError``."""
    opened: list[int] = []
    try:
        for make in (os.pipe, _wide_pipe, _wide_pipe, os.pipe):
            opened += make()
        release, stdout, stderr, result = zip(opened[::2], opened[1::2], strict=True)
        for make_file in (_memory_file, _memory_file):
            opened.append(make_file())
    except OSError:
        close_all(opened)
        raise
    job, stdin = opened[-2:]
    for ends in (stdout, stderr, result):
        os.set_blocking(ends[0], False)
    ours = (release[1], job, stdin, stdout[0], stderr[0], result[0])
    return Channels(ours, (stdin, stdout[1], stderr[1], result[1], release[0], job))


def close_all(descriptors: Iterable[int]) -> None:
    """Close each."""
    for descriptor in descriptors:
        os.close(descriptor)


def make_spare(fork: Callable[[tuple[int, ...]], int]) -> Spare:
    """Have a spare forked, which gets these descriptors; the fork returns its pid. Raises ``OSError``, as that does."""
    channels = open_channels()
    try:
        pid = fork(channels.theirs)
    except OSError:
        close_all(channels.ours)
        raise
    finally:
        close_all(set(channels.theirs) - set(channels.ours))
    return Spare(pid, *channels.ours)


def fork_spare(env: Mapping[str, str], descriptors: tuple[int, ...]) -> int:
    """Fork a spare that waits and has none of our descriptors but these; ``env``: what every call has.

    Raises ``OSError``.
    """
    pid = os.fork()
    if pid == 0:
        be_spare(descriptors, lambda: prepare(env))
    return pid


def be_spare(descriptors: Sequence[int], begin: Callable[[], object] = lambda: None) -> NoReturn:
    """Go on as the spare, in a process just forked; ``begin``: what is to be done first, with the streams in place."""
    try:
        arrange_descriptors(*descriptors)
        begin()
        os.setsid()
        linux.unblock_signals()
        os.nice(NICE)
        rehearse()
        linux.set_dumpable(dumpable=True)  # inherited as off from the runner; the child's own /proc files must work
        _be_first_out_of_memory()  # not sooner: until now the file is not this user's
        _wait_and_become()
    finally:
        os._exit(_EXIT_NOT_EXECUTABLE)


def prepare(env: Mapping[str, str]) -> None:
    """Give up what no call may have, and take on what every call has and its forks inherit."""
    if not linux.ON_LINUX:
        reset_signals()
    linux.give_way(giving=False)
    linux.drop_privileges()
    python_child.prepare(env)


def rehearse() -> None:
    """Use what the call will use: what a fork touches first costs it a copied page, better now than then."""
    marshal.loads(marshal.dumps({"env": {}, "python": None}))  # noqa: S302 - our own
    python_child.rehearse()


def _wait_and_become() -> NoReturn:
    if os.read(_RELEASE_FD, 1) != RELEASE:
        os._exit(0)  # the runner is gone
    job: Job = marshal.loads(os.pread(_JOB_FD, os.fstat(_JOB_FD).st_size, 0))  # noqa: S302 - the runner wrote it
    os.close(_RELEASE_FD)
    os.close(_JOB_FD)
    _set_limit(resource.RLIMIT_NOFILE, job["open_files"])
    os.chdir(job["cwd"])
    os.write(_RESULT_FD, PICKED_UP)
    if job["python"] is None:
        _exec(job["argv"] or [], job["env"])
    python_child.run_python(job, job["python"], _RESULT_FD)


def _exec(argv: list[str], env: dict[str, str]) -> NoReturn:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and nobody else expects to be
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(argv[0], argv, {**os.environ, **env})  # noqa: S606 - the caller asked for this program, or for sh
    except FileNotFoundError:
        _say_and_exit(f"{argv[0]}: not found", _EXIT_NOT_FOUND)
    except (OSError, ValueError) as error:  # ValueError: not text that the kernel takes
        _say_and_exit(f"{argv[0]}: {getattr(error, 'strerror', error)}", _EXIT_NOT_EXECUTABLE)


def _say_and_exit(text: str, code: int) -> NoReturn:
    os.write(2, f"{text}\n".encode(errors="replace"))
    os._exit(code)


def arrange_descriptors(*wanted: int) -> None:
    """Put the streams at 0, 1, 2, what else is wanted behind them, and close all others: they are the runner's."""
    for number, descriptor in enumerate(wanted):
        os.dup2(descriptor, _ASIDE + number)
    for number in range(len(wanted)):
        os.dup2(_ASIDE + number, number, inheritable=number not in (_RESULT_FD, _RELEASE_FD, _JOB_FD))
    os.closerange(len(wanted), 65536)


def _be_first_out_of_memory() -> None:
    try:
        descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    except OSError:
        return
    with contextlib.suppress(OSError):
        os.write(descriptor, b"1000")
    os.close(descriptor)


def _set_limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (most, most))


def _wide_pipe() -> tuple[int, int]:
    ends = os.pipe()
    if linux.ON_LINUX:
        with contextlib.suppress(OSError):
            import fcntl  # noqa: PLC0415 - Unix only, and only here

            fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return ends


def _memory_file() -> int:
    if linux.ON_LINUX:
        return os.memfd_create("executor", os.MFD_CLOEXEC)
    import tempfile  # noqa: PLC0415 - dear to import, and only for systems without memory files

    descriptor, path = tempfile.mkstemp()
    Path(path).unlink()
    return descriptor


def _write_at_start(descriptor: int, data: bytes) -> None:
    offset = 0
    while offset < len(data):
        offset += os.pwrite(descriptor, data[offset:], offset)
