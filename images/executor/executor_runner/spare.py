"""The spare: a child forked before its call is known, so that the call costs a write instead of a start.

It waits on a pipe; what it gets decides what it becomes: a program by exec, or Python code in this very interpreter.
The first is forked before any secret reaches the runner, so there is none in its memory. With `Reuse` the next ones
know what the runner has heard: its token, and earlier calls of the same tenant.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
from pathlib import Path
from typing import NamedTuple, NoReturn, TypedDict

from executor_runner import linux
from executor_runner.protocol.frames import encode_json
from executor_runner.protocol.shapes import PythonCode
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


class Job(TypedDict):
    """What the spare becomes. Exactly one of ``argv`` and ``python`` is not None."""

    argv: list[str] | None
    python: PythonCode | None
    source: str  # path of the Python source, for tracebacks
    env: dict[str, str]
    cwd: str
    open_files: int
    value_bytes: int


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
        _write_at_start(self.job_fd, encode_json(job))
        _write_at_start(self.stdin_fd, stdin)
        os.write(self.release_fd, RELEASE)
        for descriptor in (self.release_fd, self.job_fd, self.stdin_fd):
            os.close(descriptor)


def fork_spare() -> Spare:
    """Fork a spare that waits. It closes all of the runner's descriptors. Raises ``OSError``."""
    release, stdout, stderr, result = os.pipe(), _wide_pipe(), _wide_pipe(), os.pipe()
    job, stdin = _memory_file(), _memory_file()
    pid = os.fork()
    if pid == 0:
        try:
            _arrange_descriptors(stdin, stdout[1], stderr[1], result[1], release[0], job)
            _wait_and_become()
        finally:
            os._exit(_EXIT_NOT_EXECUTABLE)
    for descriptor in (release[0], stdout[1], stderr[1], result[1]):
        os.close(descriptor)
    for descriptor in (stdout[0], stderr[0], result[0]):
        os.set_blocking(descriptor, False)
    return Spare(pid, release[1], job, stdin, stdout[0], stderr[0], result[0])


def _wait_and_become() -> NoReturn:
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if not linux.ON_LINUX:
        reset_signals()
    _rehearse()
    _restrain()
    if os.read(_RELEASE_FD, 1) != RELEASE:
        os._exit(0)  # the runner is gone
    job: Job = json.loads(os.pread(_JOB_FD, os.fstat(_JOB_FD).st_size, 0))
    os.close(_RELEASE_FD)
    os.close(_JOB_FD)
    _set_limit(resource.RLIMIT_NOFILE, job["open_files"])
    os.chdir(job["cwd"])
    os.write(_RESULT_FD, PICKED_UP)
    if job["python"] is None:
        _exec(job["argv"] or [], job["env"])
    from executor_runner.python_child import run_python  # noqa: PLC0415 - not needed by a child that execs

    run_python(job["python"], Path(job["source"]), job["env"], _RESULT_FD, job["value_bytes"])


def _exec(argv: list[str], env: dict[str, str]) -> NoReturn:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and nobody else expects to be
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(argv[0], argv, env)  # noqa: S606 - the caller asked for this program, or for sh
    except FileNotFoundError:
        _say_and_exit(f"{argv[0]}: not found", _EXIT_NOT_FOUND)
    except (OSError, ValueError) as error:  # ValueError: not text that the kernel takes
        _say_and_exit(f"{argv[0]}: {getattr(error, 'strerror', error)}", _EXIT_NOT_EXECUTABLE)


def _say_and_exit(text: str, code: int) -> NoReturn:
    os.write(2, f"{text}\n".encode(errors="replace"))
    os._exit(code)


def _arrange_descriptors(*wanted: int) -> None:
    """Put the streams at 0, 1, 2, what else is wanted behind them, and close all others: they are the runner's."""
    for number, descriptor in enumerate(wanted):
        os.dup2(descriptor, _ASIDE + number)
    for number in range(len(wanted)):
        os.dup2(_ASIDE + number, number, inheritable=number not in (_RESULT_FD, _RELEASE_FD, _JOB_FD))
    os.closerange(len(wanted), 65536)


def _rehearse() -> None:
    """Use what the call will use: what a fork touches first costs it a copied page, better now than then."""
    json.loads(encode_json({"env": dict(os.environ), "python": None}))
    exec(compile("print", "", "exec", dont_inherit=True), {})  # noqa: S102 - our own word


def _restrain() -> None:
    _set_limit(resource.RLIMIT_CORE, 0)
    os.nice(NICE)
    _be_first_out_of_memory()
    linux.give_way(giving=False)
    linux.drop_privileges()
    linux.set_dumpable(dumpable=True)  # inherited as off from the runner; the child's own /proc files must work


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
