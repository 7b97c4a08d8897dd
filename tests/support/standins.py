"""Stand-ins for a cloud's metadata service and for the internet, in a network namespace of this machine.

Their addresses lead there from this machine alone, so what is sent to them never leaves it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

METADATA, INTERNET = "169.254.169.254", "203.0.113.10"
_HERE, _THERE = "198.18.77.1", "198.18.77.2"
"""The ends of the link: of a range that is for tests of networks."""
_SERVE = """
import selectors, socket, sys
chosen = selectors.DefaultSelector()
for port in (80, 443, 53):
    chosen.register(socket.create_server(("", port)), selectors.EVENT_READ, "tcp")
for address in sys.argv[1:]:  # each its own, or answers would come from another one
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((address, 53))
    chosen.register(udp, selectors.EVENT_READ, "udp")
print("serving", flush=True)
while True:
    for key, _ in chosen.select():
        if key.data == "tcp":
            line, _ = key.fileobj.accept()
            with line:
                line.settimeout(1)
                try:
                    line.sendall(line.recv(512))
                except OSError:
                    pass
        else:
            data, sender = key.fileobj.recvfrom(512)
            key.fileobj.sendto(data, sender)
"""


def why_not(core: Any) -> str:
    """What is missing for them; "" if nothing is."""
    if os.geteuid() != 0:
        return "needs root, to make a network namespace"
    addresses = [
        item.address for node in core.list_node().items for item in node.status.addresses if item.type == "InternalIP"
    ]
    if not all(map(_is_ours, addresses)):
        return "needs a cluster whose nodes are this machine: nothing may be sent to such addresses elsewhere"
    return ""


@contextlib.contextmanager
def standins() -> Iterator[None]:
    """Serve TCP 80, 443 and 53, UDP 53 and pings at both addresses."""
    place = f"executor-outside-{secrets.token_hex(2)}"
    link = f"x{secrets.token_hex(4)}"
    _ip("netns", "add", place)
    try:
        _ip("link", "add", link, "type", "veth", "peer", "name", "outside", "netns", place)
        _ip("addr", "add", f"{_HERE}/30", "dev", link)
        _ip("link", "set", link, "up")
        for name in ("lo", "outside"):
            _ip("-n", place, "link", "set", name, "up")
        _ip("-n", place, "addr", "add", f"{_THERE}/30", "dev", "outside")
        _ip("-n", place, "route", "add", "default", "via", _HERE)
        for address in (METADATA, INTERNET):
            _ip("-n", place, "addr", "add", f"{address}/32", "dev", "lo")
            _ip("route", "add", f"{address}/32", "via", _THERE, "dev", link)  # fails where it leads elsewhere already
        with _served(place):
            yield
    finally:
        subprocess.run(["ip", "link", "del", link], check=False, stderr=subprocess.DEVNULL)
        _ip("netns", "del", place)


@contextlib.contextmanager
def _served(place: str) -> Iterator[None]:
    command = ["ip", "netns", "exec", place, sys.executable, "-c", _SERVE, METADATA, INTERNET]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "serving\n"
            yield
        finally:
            server.kill()


def _is_ours(address: str) -> bool:
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, stdout=subprocess.DEVNULL)
