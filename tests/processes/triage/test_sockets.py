"""Sockets whose peers have closed them."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from support.sick import CLOSED_BY_PEER, running

from executor_api.processes.triage.sockets import ClosedByPeers, count_kinds, read_links, socket_numbers


@pytest.mark.parametrize(("version", "address"), [("4", "127.0.0.1"), ("6", "[::1]")])
def test_sockets_in_close_wait_are_counted_by_peer(version: str, address: str) -> None:
    """Of a real process, each socket the other end has closed is counted for that end, and no other socket is."""
    with running(CLOSED_BY_PEER, 30, version) as process:
        folder = f"/proc/{process.pid}"
        links = list(read_links(folder))
        ends = psutil.Process(process.pid).net_connections("tcp")
        (port,) = (end.laddr.port for end in ends if end.status == psutil.CONN_LISTEN)
        assert ClosedByPeers().count(folder, socket_numbers(links)) == {f"{address}:{port}": 30}
        assert count_kinds(links)["sockets"] == 31
        assert ClosedByPeers().count(folder, set()) == {}


def process_in(namespace: str, folder: Path, table: str) -> str:
    """A made-up process with the sockets that the kernel lists for its network namespace."""
    (folder / "ns").mkdir(parents=True)
    (folder / "ns/net").symlink_to(namespace)
    (folder / "net").mkdir()
    (folder / "net/tcp").write_text(table)
    return str(folder)


def test_the_sockets_of_a_network_namespace_are_read_once(tmp_path: Path) -> None:
    """Two processes of one namespace share what was read of the first; one of another namespace has its own."""
    row = "0: 0100007F:0001 0100007F:{:04X} 08 0:0 0:0 0 0 0 {} 1 0\n"
    first = process_in("net:[1]", tmp_path / "1", row.format(80, 11) + row.format(81, 12))
    second = process_in("net:[1]", tmp_path / "2", "")
    other = process_in("net:[2]", tmp_path / "3", row.format(82, 11))
    closed = ClosedByPeers()
    assert closed.count(first, {11}) == {"127.0.0.1:80": 1}
    assert closed.count(second, {12}) == {"127.0.0.1:81": 1}
    assert closed.count(other, {11}) == {"127.0.0.1:82": 1}
    assert not closed.is_cut


def test_reading_sockets_ends_when_its_time_is_over(tmp_path: Path) -> None:
    """With no time left nothing is counted, and that is told."""
    folder = process_in("net:[1]", tmp_path / "1", "0: 0100007F:0001 0100007F:0050 08 0:0 0:0 0 0 0 11 1 0\n")
    closed = ClosedByPeers(seconds=0)
    assert closed.count(folder, {11}) == {}
    assert closed.is_cut


def test_descriptors_by_kind() -> None:
    """Sockets, pipes, files, deleted files and what the kernel makes itself are told apart, the most frequent first."""
    links = ["socket:[1]", "socket:[2]", "pipe:[3]", "/a", "/b (deleted)", "/dev/null", "anon_inode:[eventpoll]"]
    counted = count_kinds(links)
    assert next(iter(counted)) == "sockets"
    assert counted == {"sockets": 2, "pipes": 1, "files": 1, "deleted files": 1, "devices": 1, "eventpoll": 1}
