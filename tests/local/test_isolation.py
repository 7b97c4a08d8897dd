"""What a call is kept from, as far as the backend says that it is."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.machine import Marked, eventually, run_as_nobody

from executor_api import Executor
from executor_api.backends.local.backend import LocalBackend
from executor_api.domain.outcome import Reason

LOOPBACK = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server:
    client = socket.create_connection(server.getsockname())
    server.accept()[0].sendall(b"looped")
    print(client.recv(6).decode())
"""

CONNECT = """
import socket, sys
try:
    print(socket.create_connection(("127.0.0.1", int(sys.stdin.read())), timeout=5).recv(5).decode())
except OSError:
    print("no way")
"""


def isolation(executor: Executor) -> str:
    """What the backend says."""
    return str(executor.health().notes)


def test_the_backend_says_which_isolation_there_is(executor: Executor) -> None:
    """One sentence, ready or not, so that nobody has to guess."""
    assert executor.health().ready
    assert "sandboxes get " in isolation(executor)


def test_without_namespaces_it_says_so() -> None:
    """Where the kernel permits nothing, the backend claims nothing."""
    with Executor(LocalBackend(os.environ, namespaces=False), {}) as executor:
        executor.start()
        assert executor.health().notes == ("sandboxes get process groups and a subreaper",)


@pytest.mark.parametrize("template", ["default", "open"])
def test_loopback_always_works(executor: Executor, template: str) -> None:
    """A call may talk to itself."""
    assert executor.run(code=LOOPBACK, template=template).stdout == "looped\n"


def test_a_template_without_network_has_none(executor: Executor) -> None:
    """Not even this machine's own services can be reached, if the backend says that it takes the network away."""
    if "network" not in isolation(executor):
        return
    with socket.create_server(("127.0.0.1", 0)) as server:
        result = executor.run(code=CONNECT, stdin=str(server.getsockname()[1]), timeout=20)
    assert result.stdout == "no way\n"


def test_a_template_with_network_reaches_this_machine(executor: Executor) -> None:
    """Network "open" is this machine's network."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        with ThreadPoolExecutor() as pool:
            port = str(server.getsockname()[1])
            call = pool.submit(executor.run, code=CONNECT, stdin=port, template="open", timeout=20)
            with server.accept()[0] as peer:
                peer.sendall(b"hello")
            assert call.result().stdout == "hello\n"


def test_a_call_does_not_see_its_neighbours(executor: Executor) -> None:
    """In a PID namespace only the call's own processes exist."""
    if "PID" not in isolation(executor):
        return
    command = "ls /proc | grep -c '^[0-9]'; id -u"
    count, uid = executor.run(command).stdout.split()
    assert int(count) <= 6
    assert int(uid) == os.geteuid()


def test_a_timeout_takes_grandchildren_that_left_the_session(executor: Executor, marked: Marked) -> None:
    """Own sessions and ignored signals save nobody."""
    command = (
        f"setsid setsid {marked.sleeper()} & (trap '' TERM; nohup setsid {marked.sleeper()} >/dev/null &); sleep 60"
    )
    result = executor.run(command, timeout=0.5, template="few")
    assert result.reason is Reason.TIMEOUT
    assert marked.pids() == []


def test_a_fork_bomb_ends_as_process_limit(executor: Executor, marked: Marked) -> None:
    """The bomb ends, all of it, and the next call runs as if nothing had been."""
    # It doubles eleven times only: a limit that failed must not take the machine with it.
    command = (
        f"bomb() {{ [ $1 -eq 0 ] || {{ bomb $(($1-1)) & bomb $(($1-1)) & }}; sleep 20; : {marked.word}; }}; bomb 11"
    )
    result = executor.run(["bash", "-c", command], template="few", timeout=30)
    assert result.reason is Reason.PROCESS_LIMIT
    eventually(lambda: not marked.pids())
    assert executor.run("echo well").stdout == "well\n"


def test_eight_fork_bombs_at_once_leave_room_for_others(executor: Executor, marked: Marked) -> None:
    """Where the kernel keeps a limit for each PID namespace, bombs stop growing even before the guard is scheduled."""
    kernel = tuple(int(number) for number in os.uname().release.split(".")[:2])
    if "PID" not in isolation(executor) or kernel < (6, 14):
        return
    bomb = f"bash -c ': {marked.word}; f() {{ f | f & }}; f; sleep 30'"
    with ThreadPoolExecutor(8) as pool:
        results = pool.map(lambda _: executor.run(bomb, timeout=60, resources={"memory": "2Gi"}), range(8))
        reasons = {result.reason for result in results}
    assert reasons == {Reason.PROCESS_LIMIT}
    limit = int(executor.run("cat /proc/sys/kernel/pid_max").stdout)
    assert 1024 < limit < 1500
    assert int(Path("/proc/sys/kernel/pid_max").read_text()) != limit


def test_a_plain_user_gets_what_the_kernel_permits(marked: Marked) -> None:
    """Without privileges, with and without namespaces: calls run, time out and leave nothing."""
    script = f"""
import os
from executor_api import Executor
from executor_api.backends.local.backend import LocalBackend
from executor_api.domain.template import Template
assert os.geteuid() != 0
for namespaces in (True, False):
    with Executor(LocalBackend(os.environ, namespaces=namespaces), {{"default": Template(name="default")}}) as executor:
        executor.start()
        print(executor.run(code="import os; print(os.geteuid() != 0)").stdout, end="")
        print(executor.run("setsid sh -c 'sleep 600; : {marked.word}' & wait", timeout=0.5).reason.value)
"""
    assert run_as_nobody(script) == "True\ntimeout\n" * 2
    eventually(lambda: not marked.pids())


def test_a_machine_without_processes_to_give_serves_again_once_it_has_some() -> None:
    """A fork that the kernel refused does not keep later ones from working."""
    script = """
import os, resource
from executor_runner.isolation import enter, fork_isolated, strongest

isolation = strongest(network=False, namespaces=True)
if os.fork() == 0:
    enter(isolation)
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
    try:
        fork_isolated(isolation)
    except OSError as error:
        print("refused", error.errno, flush=True)
    resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
    if (pid := fork_isolated(isolation)) == 0:
        os._exit(0)
    print("ended", os.waitpid(pid, 0)[1], flush=True)
    os._exit(0)
os.wait()
"""
    assert run_as_nobody(script) == "refused 11\nended 0\n"
