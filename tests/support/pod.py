"""The runner of a pod as a real process, and a client that speaks to it as the service does."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import psutil

from executor_runner.protocol import CALL_PATH, DONE_PATH, TOKEN_HASH_ENV, TOKEN_HEADER
from executor_runner.protocol.frames import Frame, FrameDecoder, FrameKind
from executor_runner.protocol.shapes import Report
from executor_runner.protocol.tokens import token_hash
from support.machine import eventually

TOKEN = "the token of this sandbox"  # noqa: S105 - of a test
SECONDS = 60.0
AS_FIRST_PROCESS = (
    *("unshare", "--user", "--map-root-user", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"),
    *("sh", "-c", 'mount -t tmpfs none /dev/shm && exec setpriv --bounding-set=-all "$@"', "sh"),
)
"""Makes a program PID 1 without capabilities, as in a container. It may wipe /dev/shm, which therefore is its own."""
OURS = f"{CALL_PATH}?execution=e1"
"""The call that `a_call` makes."""
DONE = f"{DONE_PATH}?execution=e1"


def a_call(**changes: Any) -> dict[str, Any]:
    """A call that does nothing, but for the changes; ``limits`` are changed one by one."""
    limits = {
        "memory_bytes": None,
        "storage_bytes": None,
        "processes": 500,
        "open_files": 1024,
        "output_bytes": 64 * 1024,
        "output_kill_bytes": None,
        "artifact_bytes": 1 << 20,
        "value_bytes": 1 << 16,
    }
    call = {
        "execution_id": "e1",
        "argv": None,
        "python": None,
        "script": None,
        "stdin": "",
        "env": {},
        "files": {},
        "artifacts": [],
        "timeout_seconds": 15.0,
        "grace_seconds": 0.5,
        "reuse": None,
    }
    return {**call, **changes, "limits": {**limits, **changes.get("limits", {})}}


def shell(command: str, **changes: Any) -> dict[str, Any]:
    """A call of ``sh -c``."""
    return a_call(argv=["sh", "-c", command], **changes)


def python(code: str, function: str | None = None, **changes: Any) -> dict[str, Any]:
    """A call of Python code."""
    return a_call(python={"code": code, "function": function, "args": [], "kwargs": {}}, **changes)


def reused(follows: str = "", name: str = "e1", **changes: Any) -> dict[str, Any]:
    """What makes a call one of a sandbox that is used again: the call before it, and its own name."""
    reuse = {"tenant": "t1", "follows": follows, "idle_seconds": 600.0, **changes}
    return {"execution_id": name, "reuse": reuse}


def encoded(text: bytes) -> str:
    """What stdin and files are in a call."""
    return base64.b64encode(text).decode()


class Journal:
    """The journal of a call, decoded."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.frames: list[Frame] = list(FrameDecoder().feed(data))

    def text(self, kind: FrameKind) -> bytes:
        """All payloads of one kind."""
        return b"".join(frame.payload for frame in self.frames if frame.kind is kind)

    @property
    def stdout(self) -> bytes:
        """What it wrote to stdout and was kept."""
        return self.text(FrameKind.STDOUT)

    @property
    def stderr(self) -> bytes:
        """What it wrote to stderr and was kept."""
        return self.text(FrameKind.STDERR)

    @property
    def kinds(self) -> list[FrameKind]:
        """The kinds of the frames, in order."""
        return [frame.kind for frame in self.frames]

    @property
    def report(self) -> Report:
        """The report, which must be the last frame."""
        assert self.kinds[-1] is FrameKind.REPORT, self.kinds
        return cast("Report", json.loads(self.frames[-1].payload))


class Pod:
    """One runner."""

    def __init__(
        self, folder: Path, *, stdout: int | None = None, prefix: tuple[str, ...] = (), **environ: str
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.root, self.log, self.termination_log = folder / "root", folder / "log", folder / "termination-log"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        settings = {
            "EXECUTOR_PORT": str(self.port),
            "EXECUTOR_ROOT": str(self.root),
            "EXECUTOR_TERMINATION_LOG": str(self.termination_log),
            TOKEN_HASH_ENV: token_hash(TOKEN),
        }
        with self.log.open("wb") as log, (folder / "errors").open("wb") as errors:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-P", "-m", "executor_runner"],
                env={**os.environ, **settings, **environ},
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=errors,
            )
        self._errors = folder / "errors"
        self._calls = 0
        self._await_answer()

    @property
    def errors(self) -> str:
        """What the runner itself had to complain of."""
        return self._errors.read_text()

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    def open(
        self, method: str, path: str = OURS, body: bytes | None = None, token: str = TOKEN
    ) -> http.client.HTTPResponse:
        """Send a request and return its answer, of which only the head was read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        connection.request(method, path, body, {TOKEN_HEADER: token})
        return connection.getresponse()

    def ask(self, method: str, path: str = OURS, body: bytes | None = None, token: str = TOKEN) -> tuple[int, bytes]:
        """Status and body of the answer."""
        with self.open(method, path, body, token) as response:
            return response.status, response.read()

    def start(self, call: dict[str, Any]) -> http.client.HTTPResponse:
        """Claim the runner; the answer is the stream of the journal."""
        response = self.open("POST", body=json.dumps(call).encode())
        assert response.status == 200, response.read()
        self._calls += 1
        return response

    def run(self, call: dict[str, Any]) -> Journal:
        """Run a call to its report."""
        with self.start(call) as response:
            return Journal(response.read())

    def resume(self, offset: int = 0) -> Journal:
        """The journal from an offset to its report."""
        status, body = self.ask("GET", f"{OURS}&offset={offset}")
        assert status == 200
        return Journal(body)

    def copies(self) -> tuple[bytes, bytes]:
        """Termination message and log of calls that have ended. They are written behind the stream, the log later."""
        eventually(lambda: sum(line.startswith(b"end| ") for line in self.log.read_bytes().splitlines()) == self._calls)
        return self.termination_log.read_bytes(), self.log.read_bytes()

    def leave(self) -> int:
        """Say that the report is stored; returns the runner's exit status."""
        assert self.ask("POST", DONE)[0] == 204
        return self.process.wait(SECONDS)

    def below(self) -> list[psutil.Process]:
        """Every process the runner has."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def close(self) -> None:
        """Leave nothing, whatever state it is in."""
        with contextlib.suppress(psutil.NoSuchProcess):
            processes = [psutil.Process(self.process.pid), *self.below()]
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait(SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _await_answer(self) -> None:
        """Until it answers: it listens before it has its spare."""
        until = time.monotonic() + SECONDS
        while True:
            try:
                assert self.ask("GET")[0] == 404
            except ConnectionRefusedError:
                assert self.process.poll() is None, self.errors
                assert time.monotonic() < until
                time.sleep(0.005)
            else:
                return


def read_until(response: http.client.HTTPResponse, text: bytes) -> bytes:
    """Read a stream until the text is in what was read."""
    data = b""
    while text not in data:
        piece = response.read1(65536)
        assert piece, data
        data += piece
    return data


@contextlib.contextmanager
def pod(folder: Path, *, prefix: tuple[str, ...] = (), **environ: str) -> Iterator[Pod]:
    """A runner for one test; ``prefix``: the command that starts it."""
    found = Pod(folder, prefix=prefix, **environ)
    try:
        yield found
    finally:
        found.close()
