"""What an attacker would run in a sandbox, and what runs beside it as the control. Standard library only.

Sent as the code of a call, and run in a pod that is no sandbox.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

REACHED = "reached"
_QUESTION = b"\x0a\x77\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + b"".join(
    bytes([len(part)]) + part for part in (b"kubernetes", b"default", b"svc", b"cluster", b"local", b"")
)
"""A DNS query for the API server's name: one that no server asks anybody else for."""
_QUERY = _QUESTION + struct.pack(">HH", 1, 1)
_PING = struct.pack(">BBHHH", 8, 0, 0, 0, 1) + b"ping"
_CLONE_NEWUSER = 0x10000000
_PTRACE_ATTACH = 16


def knock(targets: dict[str, tuple[str, str, int]], pause: float = 0.0, seconds: float = 3.0) -> dict[str, str]:
    """Try to get an answer from each target (how, address, port) at once; how it went, by its name.

    ``pause``: seconds before that, in which the network learns of a pod that has just started.
    """
    time.sleep(pause)
    with ThreadPoolExecutor(len(targets)) as pool:
        outcomes = pool.map(lambda target: _tried(*target, seconds), targets.values())
        return dict(zip(targets, outcomes, strict=True))


def _tried(how: str, address: str, port: int, seconds: float) -> str:
    try:
        _WAYS[how](address, port, seconds)
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    return REACHED


def _tcp(address: str, port: int, seconds: float) -> None:
    socket.create_connection((address, port), seconds).close()


def _dns_over_tcp(address: str, port: int, seconds: float) -> None:
    with socket.create_connection((address, port), seconds) as line:
        line.sendall(struct.pack(">H", len(_QUERY)) + _QUERY)
        _expect(line.recv(512))


def _dns_over_udp(address: str, port: int, seconds: float) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.settimeout(seconds)
        line.connect((address, port))
        line.send(_QUERY)
        _expect(line.recv(512))


def _ping(address: str, _port: int, seconds: float) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as line:
        line.settimeout(seconds)
        line.connect((address, 0))
        line.send(_PING)
        _expect(line.recv(512))


def _expect(answer: bytes) -> None:
    if not answer:
        raise ConnectionError("no answer")


_WAYS: dict[str, Callable[[str, int, float], None]] = {
    "tcp": _tcp,
    "dns/tcp": _dns_over_tcp,
    "dns/udp": _dns_over_udp,
    "ping": _ping,
}


def steal(url: str, tokens: list[str], pause: float = 0.0) -> list[str]:
    """Ask a runner for its call, to take one and to end it, with each of these tokens: its answers."""
    time.sleep(pause)
    return [_asked(method, url, token) for token in tokens for method in ("GET", "POST", "DELETE")]


def _asked(method: str, url: str, token: str) -> str:
    request = urllib.request.Request(url, b"{}" if method == "POST" else None, {"Executor-Token": token}, method=method)  # noqa: S310 - a runner's
    try:
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310 - the same
            return f"{response.status}"
    except urllib.error.HTTPError as error:
        return f"{error.code}"
    except OSError as error:
        return f"{error}"


def look_around() -> dict[str, Any]:
    """What can be seen and done from inside."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    os.kill(1, signal.SIGKILL)  # of which PID 1 must hear nothing
    return {
        "environ": dict(os.environ),
        "token_files": [str(path) for path in Path("/var/run/secrets").rglob("*")],
        "oom_score_adj": int(Path("/proc/self/oom_score_adj").read_text()),
        "status": {
            name: status[name].split() for name in status if name.startswith(("Cap", "NoNewPrivs", "Seccomp", "Uid"))
        },
        "processes": _processes(),
        "runner": {
            what: _can(lambda path=what: Path("/proc/1", path).read_bytes()) for what in ("environ", "maps", "mem")
        },
        "descriptors": _can(lambda: list(Path("/proc/1/fd").iterdir())),
        "writable": _writable(),
        "powers": {name: _can(action) for name, action in _POWERS.items()},
    }


def _can(action: Callable[[], object]) -> str:
    """What comes of it: the error that forbids it, or nothing."""
    try:
        action()
    except (OSError, ValueError) as error:
        return type(error).__name__
    return "done"


def _processes() -> dict[str, str]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found[entry.name] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def _writable() -> list[str]:
    """Folders, and files elsewhere, that can be written; processes and devices left out."""
    found = []
    for folder, folders, files in os.walk("/"):
        if folder == "/":
            folders[:] = [name for name in folders if name not in ("proc", "sandbox")]
        if os.access(folder, os.W_OK):
            found.append(folder)
            continue
        paths = (Path(folder, name) for name in files)
        found += [str(path) for path in paths if not path.is_symlink() and path.is_file() and os.access(path, os.W_OK)]
    return sorted(found)


def _system(name: str, *arguments: Any) -> None:
    """A call of the C library that says -1 where it fails."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)


_POWERS: dict[str, Callable[[], object]] = {
    "become root": lambda: os.setuid(0),
    "make a user namespace": lambda: _system("unshare", _CLONE_NEWUSER),
    "mount": lambda: _system("mount", b"none", b"/sandbox", b"tmpfs", 0, None),
    "trace the runner": lambda: _system("ptrace", _PTRACE_ATTACH, 1, None, None),
    "open a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close(),
    "listen to packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "change the kernel": lambda: Path("/proc/sys/kernel/hostname").write_text("mine"),
    "change a control group": lambda: Path("/sys/fs/cgroup/mine").mkdir(),
    "make a device": lambda: os.mknod("/sandbox/mine", 0o20666, os.makedev(1, 1)),
    "give a file to root": lambda: os.chown("/sandbox", 0, 0),
}
