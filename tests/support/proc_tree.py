"""A made-up proc file system: the files that a monitor reads, with the figures that a test wants."""

from __future__ import annotations

import os
from pathlib import Path


class ProcTree:
    """Starts with an init and the machine's own figures; add processes to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.set_machine()
        self.add(1, name="init", parent=0)

    def __str__(self) -> str:
        return str(self.folder)

    def set_machine(self, *, threads: int = 100, pid_max: int = 32768, opened: int = 500) -> None:
        """What it says of itself."""
        (self.folder / "sys/kernel").mkdir(parents=True, exist_ok=True)
        (self.folder / "sys/fs").mkdir(exist_ok=True)
        self.write("loadavg", f"0.1 0.2 0.3 2/{threads} 999\n")
        self.write("sys/kernel/pid_max", f"{pid_max}\n")
        self.write("sys/kernel/threads-max", "60000\n")
        self.write("sys/fs/file-nr", f"{opened}\t0\t10000\n")

    def add(self, pid: int, name: str = "sleep", state: str = "S", parent: int = 1, **fields: int) -> Path:
        """A process; ``session``, ``threads`` and ``started`` may be given."""
        session, threads, started = fields.get("session", pid), fields.get("threads", 1), fields.get("started", 9)
        place = self.folder / str(pid)
        place.mkdir(exist_ok=True)
        before = f"{pid} ({name}) {state} {parent} {pid} {session} 0 -1 0 0 0 0 0 1 2 0 0 20 0"
        (place / "stat").write_text(f"{before} {threads} 0 {started} 8192 100 18446744073709551615\n")
        return place

    def stick(self, pid: int, function: str = "io_schedule", ran: int = 1, **others: int) -> Path:
        """A process in D state, in this function of the kernel."""
        place = self.add(pid, state="D", **others)
        (place / "wchan").write_text(function)
        (place / "schedstat").write_text(f"{ran} 2 3\n")
        return place

    def open_descriptors(self, pid: int, number: int, limit: int | str = 1024) -> None:
        """So many of them, of at most so many."""
        folder = self.folder / str(pid) / "fd"
        folder.mkdir(exist_ok=True)
        for descriptor in range(number):
            (folder / str(descriptor)).touch()
        header = "Limit                     Soft Limit           Hard Limit           Units\n"
        self.write(
            f"{pid}/limits", f"{header}Max open files            {limit}                 4096                 files\n"
        )

    def remove(self, pid: int) -> None:
        """It ends."""
        for below, _, names in os.walk(self.folder / str(pid), topdown=False):
            for name in names:
                Path(below, name).unlink()
            Path(below).rmdir()

    def write(self, name: str, text: str) -> None:
        """Any file."""
        (self.folder / name).write_text(text)
