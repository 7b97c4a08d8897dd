"""Linux calls the standard library lacks, by ctypes. Elsewhere, or where refused, each says so by its result."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import signal
import struct
import sys
from _thread import get_native_id
from collections.abc import Iterable, Iterator

ON_LINUX = sys.platform.startswith("linux")

CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID_NODEV_NOEXEC = 0x2 | 0x4 | 0x8
MS_REC_PRIVATE = 0x4000 | 0x40000

_CLONE_PARENT = 0x00008000
_CLONE_CHILD_CLEARTID = 0x00200000
_CLONE_CHILD_SETTID = 0x01000000
_SYS_CLONE = {"x86_64": 56, "aarch64": 220}

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_GET_TID_ADDRESS = 40
_LAST_CAPABILITY = 63
_CAPABILITY_VERSION_3 = 0x20080522
_SIGINFO_SIZE = 128
_SI_TKILL = -6
"""The only code below 0 that the kernel does not let a process make up."""

_RELEASE = re.compile(r"(\d+)\.(\d+)")  # once, for it takes longer than a short call
_libc = ctypes.CDLL(None, use_errno=True)
_syscall = ctypes.PyDLL(None, use_errno=True).syscall  # keeps the interpreter's lock, as a fork must
_syscall.restype = ctypes.c_long
# What a fork uses is looked up before: each child would do it anew, and copy tens of pages for it.
_sigprocmask = _libc.sigprocmask
_before_fork = ctypes.pythonapi.PyOS_BeforeFork
_after_fork_parent = ctypes.pythonapi.PyOS_AfterFork_Parent
_after_fork_child = ctypes.pythonapi.PyOS_AfterFork_Child
_CAPABILITIES_OF_SELF = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), 8)
_NO_SIGNALS = ctypes.create_string_buffer(128)
_NO_CAPABILITIES = ctypes.create_string_buffer(24)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(option: int, value: int) -> bool:
    return ON_LINUX and _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0


def set_dumpable(*, dumpable: bool) -> bool:
    """Decide whether processes of the same user may read this one's memory and descriptors. Lasts until an exec."""
    return _prctl(_PR_SET_DUMPABLE, int(dumpable))


def become_subreaper() -> bool:
    """Adopt the orphans among our descendants, as PID 1 does."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(number: int = signal.SIGKILL) -> bool:
    """Ask for a signal when the parent ends."""
    return _prctl(_PR_SET_PDEATHSIG, number)


def forbid_privileges() -> None:
    """See to it that no program gains a capability or another user by exec, neither here nor in what we fork.

    Capabilities that are held stay held: see `drop_privileges`. What is refused could not be gained.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    for capability in range(_LAST_CAPABILITY + 1):
        _prctl(_PR_CAPBSET_DROP, capability)


def drop_privileges() -> None:
    """Give up every capability, for good after `forbid_privileges`."""
    if ON_LINUX:
        _libc.capset(_CAPABILITIES_OF_SELF, _NO_CAPABILITIES)


def give_way(*, giving: bool) -> None:
    """Decide whether this process, woken, waits for the running one's time slice to end. What it forks inherits it."""
    if ON_LINUX:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH if giving else os.SCHED_OTHER, os.sched_param(0))


def can_fork_siblings() -> bool:
    """Whether `fork_sibling` works here."""
    is_64_bit = sys.maxsize > 1 << 32
    return ON_LINUX and is_64_bit and os.uname().machine in _SYS_CLONE and _thread_id_address() is not None


def fork_sibling() -> int:
    """Fork a process whose parent is our own parent, which must reap it. Returns 0 in it. Raises ``OSError``.

    Only for a process with a single thread: the C library does not hear of the fork, and so frees no locks of others.
    What it keeps of a thread is its number, and the kernel writes that one for it.
    """
    machine, address = os.uname().machine, _thread_id_address()
    if address is None or machine not in _SYS_CLONE:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    pointers = (address, 0) if machine == "x86_64" else (0, address)  # child's thread id, thread-local storage
    flags = _CLONE_PARENT | _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID | signal.SIGCHLD
    arguments = [*map(ctypes.c_ulong, (_SYS_CLONE[machine], flags, 0, 0, *pointers))]
    _before_fork()  # from here to the fork the interpreter holds locks: nothing else is done
    pid: int = _syscall(*arguments)
    if pid == 0:
        _after_fork_child()
        return 0
    number = ctypes.get_errno()
    _after_fork_parent()
    if pid < 0:
        raise OSError(number, f"clone: {os.strerror(number)}")
    return pid


def _thread_id_address() -> int | None:
    """Where the C library keeps our thread's number, if it has told the kernel; musl has told it something else."""
    address = ctypes.c_void_p()
    if _libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) != 0 or not address.value:
        return None
    return address.value if ctypes.c_int.from_address(address.value).value == get_native_id() else None


def unshare(flags: int) -> None:
    """Leave namespaces. Raises ``OSError``."""
    _check(_libc.unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """Enter the namespace behind a descriptor. Raises ``OSError``."""
    _check(_libc.setns(descriptor, kind), "setns")


def mount(source: bytes, target: bytes, kind: bytes | None, flags: int) -> None:
    """Mount. Raises ``OSError``."""
    _check(_libc.mount(source, target, kind, ctypes.c_ulong(flags), None), f"mount {target.decode()}")


def open_signalfd(signals: Iterable[int]) -> int:
    """Block the signals and return a non-blocking descriptor that reads them. Raises ``OSError``."""
    numbers = set(signals)
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    mask = sum(1 << (number - 1) for number in numbers)
    buffer = ctypes.create_string_buffer(mask.to_bytes(128, "little"), 128)
    descriptor: int = _libc.signalfd(-1, buffer, os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        _check(-1, "signalfd")
    return descriptor


def unblock_signals() -> None:
    """Let every signal through. `signal.pthread_sigmask` does that too, but names what was blocked, one by one."""
    _sigprocmask(signal.SIG_SETMASK, _NO_SIGNALS, None)


def read_signalfd(descriptor: int) -> Iterator[tuple[int, int]]:
    """Yield (signal, sender's pid) of what is pending; the pid is 0 for a sender outside our PID namespace.

    What names its sender itself, and so could lie, is left out.
    """
    with contextlib.suppress(BlockingIOError):
        while True:
            data = os.read(descriptor, _SIGINFO_SIZE * 16)
            for start in range(0, len(data), _SIGINFO_SIZE):
                number, _, code, pid = struct.unpack_from("=IiiI", data, start)
                if code >= 0 or code == _SI_TKILL:
                    yield number, pid


def pid_limit_is_per_namespace(release: str) -> bool:
    """Whether this kernel keeps ``pid_max`` apart for each PID namespace: Linux does since 6.14."""
    numbers = _RELEASE.match(release)
    return ON_LINUX and numbers is not None and (int(numbers[1]), int(numbers[2])) >= (6, 14)
