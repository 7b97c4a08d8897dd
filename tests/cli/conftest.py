"""A stand-in for the service, over real HTTP, and the command line as a real process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

ID = "01JD0000000000000000000001"
SECONDS = 30


@dataclass(frozen=True)
class Answer:
    """One scripted answer. ``body`` is sent piece by piece; a gate in it is waited for; ``cut`` ends it half-way."""

    body: list[bytes | threading.Event]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    cut: bool = False


@dataclass(frozen=True)
class Seen:
    """One request the stand-in got."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class StandIn(ThreadingHTTPServer):
    """Gives its scripted answers in order and remembers what it was asked."""

    daemon_threads = True
    id = ID

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Answer] = []
        self.seen: list[Seen] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def will_stream(self, *pieces: bytes | threading.Event, cut: bool = False) -> None:
        """Answer with an event stream, and the Location of a call that was accepted."""
        headers = {"Content-Type": "text/event-stream", "Location": f"/v1/executions/{ID}"}
        self.answers.append(Answer(list(pieces), headers=headers, cut=cut))

    def will_refuse(self, status: int, detail: str, *errors: Mapping[str, object], **headers: str) -> None:
        """Answer with a problem+json."""
        body = json.dumps({"type": "/problems/x", "status": status, "detail": detail, "errors": errors}).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.append(Answer([body], status, {"Content-Type": "application/problem+json", **named}))

    def will_answer(self, value: object) -> None:
        """Answer with JSON."""
        self.answers.append(Answer([json.dumps(value).encode()]))

    def will_say(self, text: str, status: int) -> None:
        """Answer as something else than our service would."""
        self.answers.append(Answer([text.encode()], status, {"Content-Type": "text/html"}))

    @staticmethod
    def event(name: str, data: object, number: int | None = None) -> bytes:
        """One server-sent event as the service writes it: JSON that is not escaped to ASCII."""
        identity = f"id: {number}\n" if number is not None else ""
        return f"{identity}event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()

    @staticmethod
    def execution(**changes: object) -> dict[str, object]:
        """An execution as the service answers."""
        succeeded = {
            "id": ID,
            "status": "succeeded",
            "reason": None,
            "message": "",
            "exit_code": 0,
            "signal": None,
            "template": "default",
            "start": "cold",
            "value": None,
            "stdout": "",
            "stderr": "",
            "cancel_requested": False,
            "created_at": "2026-01-31T12:00:00.000Z",
            "finished_at": "2026-01-31T12:00:01.250Z",
        }
        return succeeded | changes


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def _answer(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append(
            Seen(self.command, self.path, dict(self.headers), json.loads(content) if content else None)
        )
        answer = self.server.answers.pop(0)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in answer.body:
            if isinstance(piece, threading.Event):
                piece.wait(SECONDS)
            else:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if answer.cut:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - http.server's names

    def handle(self) -> None:
        """A client that leaves in the middle is part of the tests."""
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def service() -> Iterator[StandIn]:
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class Shell:
    """Starts the command line with a clean environment."""

    def __init__(self, **environment: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EXECUTOR_")}
        self._environment = kept | environment

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start without waiting."""
        return subprocess.Popen(
            [sys.executable, "-m", "executor_api", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment | variables,
        )

    def run(self, *arguments: str, stdin: bytes = b"", **variables: str) -> subprocess.CompletedProcess[bytes]:
        """Run to the end."""
        with self.start(*arguments, **variables) as process:
            stdout, stderr = process.communicate(stdin, SECONDS)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


@pytest.fixture
def shell() -> Shell:
    return Shell()
