"""Sockets whose peers have closed them."""

from __future__ import annotations

import psutil
import pytest
from support.sick import CLOSED_BY_PEER, running

from executor_api.processes.triage.sockets import close_wait_by_peer, count_kinds, read_links, socket_numbers


@pytest.mark.parametrize(("version", "address"), [("4", "127.0.0.1"), ("6", "[::1]")])
def test_sockets_in_close_wait_are_counted_by_peer(version: str, address: str) -> None:
    """Of a real process, each socket the other end has closed is counted for that end, and no other socket is."""
    with running(CLOSED_BY_PEER, 30, version) as process:
        folder = f"/proc/{process.pid}"
        links = list(read_links(folder))
        ends = psutil.Process(process.pid).net_connections("tcp")
        (port,) = (end.laddr.port for end in ends if end.status == psutil.CONN_LISTEN)
        assert close_wait_by_peer(folder, socket_numbers(links)) == {f"{address}:{port}": 30}
        assert count_kinds(links)["sockets"] == 31
        assert close_wait_by_peer(folder, set()) == {}


def test_descriptors_by_kind() -> None:
    """Sockets, pipes, files, deleted files and what the kernel makes itself are told apart, the most frequent first."""
    links = ["socket:[1]", "socket:[2]", "pipe:[3]", "/a", "/b (deleted)", "/dev/null", "anon_inode:[eventpoll]"]
    counted = count_kinds(links)
    assert next(iter(counted)) == "sockets"
    assert counted == {"sockets": 2, "pipes": 1, "files": 1, "deleted files": 1, "devices": 1, "eventpoll": 1}
