"""What a process in D state waits for: the kernel's function in words, and the file with its mount."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

_BY_DESCRIPTOR = {
    "x86_64": frozenset({0, 1, 3, 5, 8, 16, 17, 18, 19, 20, 73, 74, 75, 77, 78, 217, 295, 296}),
    "aarch64": frozenset({29, 32, 46, 57, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 80, 82, 83}),
}
"""Numbers of system calls whose first argument is a descriptor that they may wait for: read, write, fsync, ioctl."""

_MEANINGS = (
    (
        r"(kernel_clone|_do_fork|wait_for_vfork)",
        "vfork",
        "a child that it started by vfork and that has not got to its exec",
    ),
    (r"(request_wait_answer|fuse_|__fuse)", "mount", "a FUSE file system whose program does not answer"),
    (r"(nfs|rpc_|__rpc)", "mount", "an NFS server that does not answer"),
    (r"(cifs|smb)", "mount", "an SMB server that does not answer"),
    (r"(ceph|rbd_)", "mount", "a Ceph cluster that does not answer"),
    (r"(nv_|_nv|nvidia|uvm_|os_acquire)", "gpu", "the NVIDIA driver"),
    (r"(__refrigerator|.*freez|cgroup_enter_frozen)", "frozen", "its cgroup to be thawed"),
    (r"mem_cgroup", "memory", "memory of its cgroup, which has none left"),
    (r"(rwsem_|__mutex_|mutex_|down_|__down|percpu_rwsem)", "lock", "a lock in the kernel that another process holds"),
    (r"(do_exit|exit_|zap_|coredump)", "exit", "its own threads to end"),
    (
        r"(io_schedule|folio_|wait_on_page|wait_on_buffer|__wait_on_buffer|blk_|bio_|submit_bio|jbd2|ext4|xfs|btrfs|do_get_request|bit_wait)",
        "disk",
        "a disk that does not answer",
    ),
)


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of ``mountinfo``."""

    point: str
    type: str
    source: str


def meaning(function: str | None) -> tuple[str, str]:
    """A kernel function as a kind of wait and what is waited for, in words."""
    for pattern, kind, words in _MEANINGS:
        if function and re.match(pattern, function):
            return kind, words
    return "unknown", "something in the kernel"


def descriptor_waited_for(syscall: str | None, machine: str | None = None) -> int | None:
    """The descriptor that the system call in a ``syscall`` file concerns; None if it concerns none."""
    words = (syscall or "").split()
    if len(words) > 1 and words[0].isdigit():
        known = _BY_DESCRIPTOR.get(machine or os.uname().machine, frozenset())
        return int(words[1], 16) if int(words[0]) in known else None
    return None


def read_mounts(mountinfo: str | None) -> list[Mount]:
    """What is mounted where."""
    found = []
    for line in (mountinfo or "").splitlines():
        place, _, kind = line.partition(" - ")
        words, described = place.split(" "), kind.split(" ")
        if len(words) > 4 and len(described) > 1:  # noqa: PLR2004 - the fields before the point, and type and source
            found.append(Mount(_plain(words[4]), described[0], _plain(described[1])))
    return found


def mount_of(path: str, mounts: Sequence[Mount]) -> Mount | None:
    """Where the file system of a path is mounted; the last of several at one point is the one in sight."""
    above = [mount for mount in mounts if path == mount.point or path.startswith(mount.point.rstrip("/") + "/")]
    return max(reversed(above), key=lambda mount: len(mount.point), default=None)


def _plain(text: str) -> str:
    """Blanks and the like are written as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
