"""The service's side of a nursery: the process that makes local sandboxes by fork."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from executor_api.errors import UnavailableError
from executor_runner.protocol.local import MAKE

_READ = 64 * 1024
_DESCRIPTORS = 64
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SSL_CERT_FILE")
_ENDED = "the process that makes sandboxes has ended"
STOP_SECONDS = 10.0
REMOVE_SECONDS = 3.0
REFILL_SECONDS = 0.01
"""How long a replacement is put off while others wait, so that making it does not slow down the call just served."""
RETRY_SECONDS = 1.0
"""Pause after the machine could not make a sandbox."""


@dataclass(frozen=True, slots=True)
class NurseryKind:
    """What all sandboxes of one nursery share."""

    preload: tuple[str, ...]
    network: str  # "none" or "open"
    namespaces: bool = True  # use them where the kernel permits it


class Nursery:
    """Keeps a few sandboxes waiting, so that a call finds one; replaces each that is taken."""

    def __init__(self, kind: NurseryKind, stock: int) -> None:
        self.kind = kind
        self.isolation = ""
        self.trouble = ""
        """Why the last sandbox could not be made; empty once one can."""
        self._stock = stock
        self._waiting: deque[socket.socket] = deque()
        self._wanted: deque[asyncio.Future[socket.socket]] = deque()
        self._asked = 0
        self._refill_timer: asyncio.TimerHandle | None = None
        self._greeted: asyncio.Future[None] | None = None
        self._control: socket.socket | None = None
        self._received = bytearray()
        self._descriptors: deque[int] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._root = ""
        self._clearing: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether it can make sandboxes."""
        return self._control is not None

    async def start(self, environ: Mapping[str, str]) -> None:
        """Start the process and wait until it has found out which isolation it gets. Raises `UnavailableError`."""
        self._root = tempfile.mkdtemp(prefix="executor-")
        loop = asyncio.get_running_loop()
        self._greeted = loop.create_future()
        try:
            self._control = self._spawn(environ)
            loop.add_reader(self._control.fileno(), self._on_message)
            await self._greeted
        except OSError as error:
            await self.stop()
            raise UnavailableError(f"the process that makes sandboxes can't be started: {error}") from error
        except BaseException:
            await self.stop()
            raise
        self._refill()

    async def take(self) -> tuple[socket.socket, bool]:
        """A sandbox's socket, and whether it was waiting. Raises `UnavailableError` if the nursery is gone."""
        while self._waiting:
            sock = self._waiting.popleft()
            if not is_closed(sock):
                self._refill_soon()
                return sock, True
            sock.close()
        future: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        self._wanted.append(future)
        self._refill()
        try:
            return await future, False
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._waiting.append(future.result())  # it came, and nobody wants it any more
            raise

    async def stop(self) -> None:
        """End it; the process kills every sandbox first. Safe to call twice."""
        await asyncio.shield(self._end())

    def _end(self) -> asyncio.Task[None]:
        """Make no more; wait for the process and remove its folder, once, whoever finds out first that it is over."""
        self._forget()
        self._refuse(_ENDED)
        if self._clearing is None:
            self._clearing = asyncio.get_running_loop().create_task(self._clear())
        return self._clearing

    async def _clear(self) -> None:
        if self._process is not None:
            try:
                await asyncio.to_thread(self._process.wait, STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                await asyncio.to_thread(self._process.wait)
        await asyncio.to_thread(_remove, Path(self._root))

    def _spawn(self, environ: Mapping[str, str]) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own module and arguments
                    [sys.executable, "-P", "-m", "executor_runner.nursery", str(theirs.fileno()), self._settings()],
                    pass_fds=[theirs.fileno()],
                    env={name: value for name, value in environ.items() if name in _KEPT_VARIABLES},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,  # modules may print as they are imported; ours is the user's
                    start_new_session=True,  # a terminal's Ctrl-C is the service's business
                )
            except OSError:
                ours.close()
                raise
        ours.settimeout(0)
        return ours

    def _settings(self) -> str:
        return json.dumps({"root": self._root, **asdict(self.kind)})

    def _refill_soon(self) -> None:
        """At once when stock runs low, else a little later."""
        if 2 * (len(self._waiting) + self._asked) < self._stock:
            self._refill()
        elif self._refill_timer is None:
            self._refill_timer = asyncio.get_running_loop().call_later(REFILL_SECONDS, self._refill)

    def _refill(self) -> None:
        self._stop_timer()
        if self._control is None:
            self._refuse(_ENDED)
            return
        missing = self._stock + len(self._wanted) - len(self._waiting) - self._asked
        if missing > 0:
            try:
                self._asked += self._control.send(MAKE * missing)
            except BlockingIOError:
                pass  # its queue is full: asked again when it answers
            except OSError:
                self._end()

    def _on_message(self) -> None:
        if self._control is None:
            return
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, _READ, _DESCRIPTORS)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        if not data:
            self._end()
            return
        self._received += data
        self._descriptors += descriptors
        *lines, rest = self._received.split(b"\n")
        self._received = rest
        for line in lines:
            self._take_message(json.loads(line))

    def _take_message(self, message: dict[str, str]) -> None:
        if "isolation" in message:
            self.isolation = message["isolation"]
            if self._greeted is not None and not self._greeted.done():
                self._greeted.set_result(None)
            return
        self._asked -= 1
        if "error" not in message and not self._descriptors:
            message = {"error": "the service has no descriptor left for it"}
        if "error" in message:
            self.trouble = f"this machine can't make another sandbox: {message['error']}"
            self._refuse(self.trouble)
            self._stop_timer()
            self._refill_timer = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._refill)
        else:
            self.trouble = ""
            self._deliver(socket.socket(fileno=self._descriptors.popleft()))

    def _deliver(self, sock: socket.socket) -> None:
        sock.settimeout(0)
        sock.set_inheritable(False)  # a copy in some other process would hide that we are gone
        while self._wanted:
            future = self._wanted.popleft()
            if not future.done():
                future.set_result(sock)
                return
        self._waiting.append(sock)

    def _refuse(self, why: str) -> None:
        if self._greeted is not None and not self._greeted.done():
            self._greeted.set_exception(UnavailableError(why))
        while self._wanted:
            future = self._wanted.popleft()
            if not future.done():
                future.set_exception(UnavailableError(why))

    def _stop_timer(self) -> None:
        if self._refill_timer is not None:
            self._refill_timer.cancel()
            self._refill_timer = None

    def _forget(self) -> None:
        control, self._control = self._control, None
        self._stop_timer()
        if control is not None:
            asyncio.get_running_loop().remove_reader(control.fileno())
            end(control)
        while self._waiting:
            end(self._waiting.popleft())
        while self._descriptors:
            os.close(self._descriptors.popleft())
        self._received.clear()
        self._asked = 0


def _remove(root: Path) -> None:
    """Delete what a nursery that was killed could not. Its runners may need a moment to end, and write until then."""
    deadline = time.monotonic() + REMOVE_SECONDS
    while root.exists() and time.monotonic() < deadline:
        with contextlib.suppress(RecursionError):  # before Python 3.13, of what a call nested too deep
            shutil.rmtree(root, ignore_errors=True)
        if root.exists():
            time.sleep(0.05)


def end(sock: socket.socket) -> None:
    """Close it for the other side too, whoever else has a copy: a process that was forked from ours. Safe twice."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


def is_closed(sock: socket.socket) -> bool:
    """Whether the sandbox died while it waited; one that says something without being asked is about to."""
    try:
        sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
