"""What processes in D state wait for."""

from __future__ import annotations

import pytest

from executor_api.processes.triage.waits import Mount, descriptor_waited_for, meaning, mount_of, read_mounts

MOUNTS = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 27 0:50 / /mnt/my\040data rw shared:5 master:1 - nfs4 server:/export rw
41 27 0:51 / /mnt/my\040data/b rw - tmpfs tmpfs rw
42 27 0:52 / /mnt/my\040data/b rw - fuse.sshfs me@host: rw
"""


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        ("nfs_wait_bit_killable", "mount"),
        ("rpc_wait_bit_killable", "mount"),
        ("request_wait_answer", "mount"),
        ("kernel_clone", "vfork"),
        ("folio_wait_bit_common", "disk"),
        ("jbd2_log_wait_commit", "disk"),
        ("rwsem_down_read_slowpath", "lock"),
        ("_nv043703rm", "gpu"),
        ("__refrigerator", "frozen"),
        ("mem_cgroup_out_of_memory", "memory"),
        ("something_new", "unknown"),
        (None, "unknown"),
    ],
)
def test_kernel_functions_are_told_apart(function: str | None, kind: str) -> None:
    """A function that people meet at night has a meaning; one that nobody knows says so."""
    assert meaning(function)[0] == kind


def test_the_descriptor_of_a_system_call() -> None:
    """Of a read or an fsync it is the first argument; a call that concerns none, or runs in user space, has none."""
    assert descriptor_waited_for("0 0x7 0x55 0x1000 0x0 0x0 0x0 0x7ff 0x7f0\n", "x86_64") == 7
    assert descriptor_waited_for("82 0x11 0x0 0x0 0x0 0x0 0x0 0x7ff 0x7f0\n", "aarch64") == 17
    assert descriptor_waited_for("435 0x7 0x55 0x0 0x0 0x0 0x0 0x7ff 0x7f0\n", "x86_64") is None
    for text in ("running\n", "-1 0x0 0x0\n", "", None):
        assert descriptor_waited_for(text, "x86_64") is None


def test_the_mount_of_a_path() -> None:
    """It is the deepest above the path, of two at one point the upper one; blanks are read, names end at a slash."""
    mounts = read_mounts(MOUNTS)
    assert mount_of("/mnt/my data/a/c", mounts) == Mount("/mnt/my data", "nfs4", "server:/export")
    assert mount_of("/mnt/my data/b/c", mounts) == Mount("/mnt/my data/b", "fuse.sshfs", "me@host:")
    assert mount_of("/mnt/my database", mounts) == Mount("/", "ext4", "/dev/vda")
    assert mount_of("socket:[17]", mounts) is None
