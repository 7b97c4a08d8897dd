"""A PostgreSQL server of the tests' own, from the machine's package: fast, in a folder that goes away."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

_NOBODY = 65534  # the server refuses root


@dataclass
class PostgresServer:
    """A running server; each test takes a database of its own."""

    programs: Path
    folder: Path
    port: int
    address: str
    """Where it listens."""
    numbers: Any = field(default_factory=itertools.count)

    def database(self) -> str:
        """The URL of a new, empty database, over the server's socket in the file system."""
        name = f"test{next(self.numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def url(self, database: str) -> str:
        """The URL of a database."""
        return f"postgresql://executor@/{database}?host={self.folder}&port={self.port}"

    def by_tcp(self, url: str, port: int) -> str:
        """The same database, through something that listens on a port of this machine."""
        return f"postgresql://executor@127.0.0.1:{port}{url.partition('@')[2].partition('?')[0]}"

    def remote_url(self) -> str:
        """The URL of a new, empty database for those who reach its address."""
        return f"postgresql://executor@{self.address}:{self.port}{self.database().partition('@')[2].partition('?')[0]}"

    def control(self, action: str, *options: str) -> None:
        """Start, stop or restart it, and wait for that."""
        arguments = f"-F -k {self.folder} -p {self.port} -h {self.address} -c max_connections=300"
        log = ["-l", str(self.folder / "log"), "-o", arguments] if action != "stop" else []
        _as_nobody(self.programs / "pg_ctl", "-D", self.folder / "data", "-w", *log, *options, action)


@contextlib.contextmanager
def postgres_server(address: str = "127.0.0.1") -> Iterator[PostgresServer]:
    """Run a server for the block, which asks nobody for a password. Skips the test where there is none to run."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="executor-postgres-"))
    with socket.create_server((address, 0)) as free:
        port = free.getsockname()[1]
    server = PostgresServer(programs, folder, port, address)
    try:
        if os.geteuid() == 0:
            os.chown(folder, _NOBODY, _NOBODY)
        _as_nobody(
            programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "executor", "-N", "--locale=C.UTF-8"
        )
        with (folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all trust\n")
        server.control("start")
        try:
            yield server
        finally:
            server.control("stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder)


def _programs() -> Path | None:
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return places[-1].parent if places else None


def _as_nobody(*command: str | Path) -> None:
    drop = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
    subprocess.run([*drop, *map(str, command)], check=True, cwd="/", stdout=subprocess.DEVNULL)
