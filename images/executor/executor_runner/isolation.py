"""What this kernel lets us put around a local sandbox, found out by trying.

The nursery becomes PID 1 of a PID namespace of its own, so that the kernel kills every sandbox with it, and each
sandbox gets one below that. Without root this takes a user namespace around it all.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path

from executor_runner import linux

_SIOCSIFFLAGS = 0x8914
_IFF_UP_RUNNING = 0x41
_LOOPBACK_UP = struct.pack("16sH14s", b"lo", _IFF_UP_RUNNING, b"")


class Isolation(StrEnum):
    """From strongest to weakest; the value is what the service says at start."""

    NETWORK = "PID, mount, IPC and network namespaces"
    PID = "PID, mount and IPC namespaces"
    SUBREAPER = "process groups and a subreaper"
    GROUP = "process groups"

    @property
    def in_namespaces(self) -> bool:
        """Whether the kernel ends everything in a sandbox with its first process."""
        return self in _FLAGS


_FLAGS = {
    Isolation.NETWORK: linux.CLONE_NEWNS | linux.CLONE_NEWIPC | linux.CLONE_NEWNET,
    Isolation.PID: linux.CLONE_NEWNS | linux.CLONE_NEWIPC,
}


def strongest(*, network: bool, namespaces: bool) -> Isolation:
    """The strongest isolation that works here, by making one of each.

    ``network``: take the network away as well. ``namespaces``: do try them.
    """
    if not linux.ON_LINUX:
        return Isolation.GROUP
    wanted = (Isolation.NETWORK, Isolation.PID) if network else (Isolation.PID,)
    for isolation in wanted if namespaces else ():
        if _succeeds(partial(_try, isolation)):
            return isolation
    return Isolation.SUBREAPER


def enter(isolation: Isolation) -> None:
    """Return in a process that can use `fork_isolated`; where that is a new one, the caller waits and ends with it.

    Raises ``OSError``.
    """
    if not isolation.in_namespaces:
        return
    _enter_user_namespace()
    linux.unshare(linux.CLONE_NEWPID)
    pid = os.fork()
    if pid != 0:
        os.closerange(3, 1024)  # the control socket above all: its end must be seen
        _, status = os.waitpid(pid, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    linux.die_with_parent()


def fork_isolated(isolation: Isolation) -> int:
    """Fork; 0 in the child, which is PID 1 of a new namespace if the isolation has one. Raises ``OSError``.

    The child must still call `settle_in`.
    """
    if not isolation.in_namespaces:
        return os.fork()
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.unshare(linux.CLONE_NEWPID)
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid != 0:  # forked or refused: or our next child would be born in there too, or none ever again
                linux.setns(own, linux.CLONE_NEWPID)
        return pid
    finally:
        os.close(own)


def settle_in(isolation: Isolation) -> None:
    """In the child of `fork_isolated`: leave the other namespaces, see our own processes only. Raises ``OSError``."""
    flags = _FLAGS.get(isolation)
    if flags is None:
        return
    linux.unshare(flags)
    linux.mount(b"none", b"/", None, linux.MS_REC_PRIVATE)
    linux.mount(b"proc", b"/proc", b"proc", linux.MS_NOSUID_NODEV_NOEXEC)
    if flags & linux.CLONE_NEWNET:
        _raise_loopback()


def _enter_user_namespace() -> None:
    """Get the right to make the other namespaces without being root."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        return
    linux.unshare(linux.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _try(isolation: Isolation) -> None:
    enter(isolation)
    pid = fork_isolated(isolation)
    if pid == 0:
        _exit_after(lambda: settle_in(isolation))
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise OSError("no such sandbox here")


def _succeeds(action: Callable[[], None]) -> bool:
    """Whether the action works in a process of its own."""
    pid = os.fork()
    if pid == 0:
        _exit_after(action)
    _, status = os.waitpid(pid, 0)
    return status == 0


def _exit_after(action: Callable[[], None]) -> None:
    try:
        action()
        os._exit(0)
    finally:
        os._exit(1)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, _LOOPBACK_UP)
