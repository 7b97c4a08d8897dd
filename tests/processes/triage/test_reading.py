"""Files that never answer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.machine import eventually, run_as_nobody

from executor_api.processes.triage.reading import PatientReader, UnreadableError


def test_a_read_that_hangs_is_given_up(tmp_path: Path) -> None:
    """A file that never answers costs its deadline, and the others are read all the same."""
    os.mkfifo(tmp_path / "cmdline")
    (tmp_path / "status").write_text("fine")
    reader = PatientReader()
    with pytest.raises(UnreadableError, match="did not answer in time"):
        reader.read(str(tmp_path), "cmdline")
    assert reader.read(str(tmp_path), "status") == b"fine"
    assert reader.hanging == 1


def test_so_many_reads_hang_and_no_more(tmp_path: Path) -> None:
    """After its number of reads that hang a reader starts no further thread."""
    os.mkfifo(tmp_path / "cmdline")
    reader = PatientReader(seconds=0.01, most_hanging=3)
    reasons = []
    for _ in range(5):
        with pytest.raises(UnreadableError) as refusal:
            reader.read(str(tmp_path), "cmdline")
        reasons.append(str(refusal.value))
    assert reasons == ["it did not answer in time"] * 3 + ["too many reads hang already"] * 2
    assert reader.hanging == 3


def test_a_late_answer_is_no_hanging_read(tmp_path: Path) -> None:
    """On a slow machine an answer may come after its deadline: that read hangs no more."""
    os.mkfifo(tmp_path / "cmdline")
    reader = PatientReader(seconds=0.05, most_hanging=1)
    with pytest.raises(UnreadableError, match="in time"):
        reader.read(str(tmp_path), "cmdline")
    assert reader.hanging == 1
    (tmp_path / "cmdline").write_text("late")
    eventually(lambda: reader.hanging == 0)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    """The kernel's own reason is told."""
    with pytest.raises(UnreadableError, match="No such file"):
        PatientReader().read(str(tmp_path), "cmdline")
    with pytest.raises(UnreadableError, match="No such file"):
        PatientReader().link(str(tmp_path), "cwd")


WITHOUT_THREADS = """
import os, resource, sys
from pathlib import Path
from executor_api.processes.triage.reading import PatientReader, UnreadableError
import tempfile
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
reader = PatientReader()
assert b"python" in reader.read("/proc/self", "cmdline")
stuck = Path(tempfile.mkdtemp())
(stuck / "task" / "7").mkdir(parents=True)
(stuck / "task" / "7" / "stat").write_text("7 (x) D 1 7 7")
(stuck / "cmdline").write_text("x")
(stuck / "wchan").write_text("kernel_clone")
assert reader.read(str(stuck), "wchan") == b"kernel_clone"
try:
    reader.read(str(stuck), "cmdline")
except UnreadableError as error:
    print(error)
"""


def test_without_threads_only_what_cannot_hang_is_read() -> None:
    """Where no task can be started any more, files are read on the spot, but none that a stuck process may lock."""
    assert run_as_nobody(WITHOUT_THREADS) == "it might hang, and no thread can be started to wait for it\n"
