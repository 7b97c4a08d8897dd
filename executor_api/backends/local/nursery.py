"""The service's side of a nursery: the process that makes local sandboxes by fork."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count

from executor_api.errors import UnavailableError

_MESSAGE = 64 * 1024
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SSL_CERT_FILE")
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class NurseryKind:
    """What all sandboxes of one nursery share."""

    preload: tuple[str, ...]
    network: str  # "none" or "open"


class Nursery:
    """Keeps a few sandboxes waiting, so that a call finds one; replaces each as it is taken."""

    def __init__(self, kind: NurseryKind, stock: int) -> None:
        self.kind = kind
        self.isolation = ""
        self._stock = stock
        self._names = count()
        self._waiting: deque[socket.socket] = deque()
        self._wanted: deque[asyncio.Future[socket.socket]] = deque()
        self._asked = 0
        self._greeted: asyncio.Future[None] | None = None
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._root = ""

    @property
    def alive(self) -> bool:
        """Whether it can make sandboxes."""
        return self._control is not None

    async def start(self, environ: Mapping[str, str]) -> None:
        """Start the process and wait until it has found out which isolation it gets. Raises `UnavailableError`."""
        self._root = tempfile.mkdtemp(prefix="executor-")
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = [str(theirs.fileno()), self._root, self.kind.network, *self.kind.preload]
        with theirs:
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - a few ms, once; our own module and arguments
                [sys.executable, "-P", "-m", "executor_runner.nursery", *arguments],
                pass_fds=[theirs.fileno()],
                env={name: value for name, value in environ.items() if name in _KEPT_VARIABLES},
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a terminal's Ctrl-C is the service's business
            )
        self._control.settimeout(0)
        loop = asyncio.get_running_loop()
        self._greeted = loop.create_future()
        loop.add_reader(self._control.fileno(), self._on_message)
        await self._greeted
        self._refill()

    async def take(self) -> tuple[socket.socket, bool]:
        """A sandbox's socket, and whether it was waiting. Raises `UnavailableError` if the nursery is gone."""
        while self._waiting:
            sock = self._waiting.popleft()
            if not _is_closed(sock):
                self._refill()
                return sock, True
            sock.close()
        future: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        self._wanted.append(future)
        self._refill()
        return await future, False

    async def stop(self) -> None:
        """End it; the process kills every sandbox first. Safe to call twice."""
        process, self._process = self._process, None
        self._forget()
        if process is not None:
            try:
                await asyncio.to_thread(process.wait, STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)
            await asyncio.to_thread(shutil.rmtree, self._root, ignore_errors=True)

    def _refill(self) -> None:
        missing = self._stock + len(self._wanted) - len(self._waiting) - self._asked
        for _ in range(missing):
            if self._control is None:
                break
            try:
                self._control.send(json.dumps({"make": f"{next(self._names)}"}).encode())
            except BlockingIOError:
                break  # its queue is full: asked again when it answers
            except OSError:
                self._forget()
                break
            self._asked += 1
        if self._control is None:
            self._refuse("the process that makes sandboxes has ended")

    def _on_message(self) -> None:
        if self._control is None:
            return
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE, 1)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        if not data:
            self._forget()
            self._refuse("the process that makes sandboxes has ended")
            return
        message = json.loads(data)
        if "isolation" in message:
            self._greet(message)
        else:
            self._asked -= 1
            self._deliver(message, descriptors)
            self._refill()

    def _greet(self, message: dict[str, str]) -> None:
        self.isolation = message["isolation"] + (" in a user namespace" if message["user_namespace"] else "")
        if self._greeted is not None and not self._greeted.done():
            self._greeted.set_result(None)

    def _deliver(self, message: dict[str, str], descriptors: list[int]) -> None:
        if not descriptors:
            self._refuse(f"this machine can't make another sandbox: {message.get('error')}")
            return
        sock = socket.socket(fileno=descriptors[0])
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

    def _forget(self) -> None:
        control, self._control = self._control, None
        if control is not None:
            asyncio.get_running_loop().remove_reader(control.fileno())
            control.close()
        while self._waiting:
            self._waiting.popleft().close()
        self._asked = 0


def _is_closed(sock: socket.socket) -> bool:
    """Whether the sandbox died while it waited."""
    try:
        return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
