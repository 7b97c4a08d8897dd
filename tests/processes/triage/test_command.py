"""`executor-api triage` as a person runs it: a real process on a real, sick machine."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.machine import run_as_nobody
from support.proc_tree import ProcTree
from support.sick import CLOSED_BY_PEER, DEAF, ONE_A_SIGNAL, UNMOVED_BY_TERM, running

SECONDS = 60


def triage(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "executor_api", "triage", *map(str, arguments)]
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def on_a_terminal(answer: bytes, *arguments: object) -> tuple[int, str]:
    """Run it with a terminal for its input, and answer what it asks."""
    person, terminal = pty.openpty()
    command = [sys.executable, "-m", "executor_api", "triage", *map(str, arguments)]
    try:
        with subprocess.Popen(command, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            os.write(person, answer)
            told, _ = process.communicate(timeout=SECONDS)
    finally:
        os.close(person)
        os.close(terminal)
    return process.returncode, told.decode()


def paragraph(text: str, pid: int) -> list[str]:
    """The three lines of the finding whose maker is this process."""
    lines = text.splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("     who") and f"pid {pid}," in line)
    return lines[place - 1 : place + 2]


SICK = """
import subprocess, sys
from pathlib import Path
from support.naive_agent import naive_agent
subprocess.run(["true"])  # takes pid 2, which is the kernel's elsewhere
with naive_agent(Path(sys.argv[1]), "naive", zombies=120, stuck=3) as agent:
    command = [sys.executable, "-m", "executor_api", "triage"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
print(agent, done.returncode)
print(done.stdout, end="")
"""


def on_a_machine_of_its_own(script: str, *arguments: object) -> str:
    """Run a script where no other process is, so that nothing else is wrong; what it has printed."""
    user = ["--user", "--map-root-user"] if os.geteuid() != 0 else []
    alone = ["unshare", *user, "--pid", "--fork", "--kill-child", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], check=False).returncode != 0:
        pytest.skip("no PID namespaces here: others' processes would be in sight")
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [*alone, sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, timeout=SECONDS, check=True).stdout


def test_a_naive_agent_is_named_first(tmp_path: Path) -> None:
    """120 zombies and three processes in D state: the first finding is its zombies, and it is the one behind it all."""
    head, _, screen = on_a_machine_of_its_own(SICK, tmp_path).partition("\n")
    agent, code = head.split()
    assert code == "1"
    lines = screen.splitlines()
    assert lines[1].startswith("more than one thing leads to ")
    assert f"(pid {agent}," in lines[1]
    what, who, do = lines[2:5]
    assert what.startswith("CRITICAL  120 zombies (")
    assert f"(pid {agent}," in who
    assert do.startswith(f"      do  executor-api triage --restart-parent {agent}  #")
    assert "kernel_clone" in screen or os.geteuid() != 0
    assert "\x1b" not in screen


def test_all_of_it_as_json() -> None:
    """The same for programs, and the facts behind each finding."""
    with running(DEAF, 60) as parent:
        result = triage("--json")
    told = json.loads(result.stdout)
    (finding,) = (
        item for item in told["findings"] if item["kind"] == "zombies" and item["culprit"]["pid"] == parent.pid
    )
    assert finding["severity"] == "warning"
    (family,) = (item for item in told["situation"]["bereaved"] if item["parent"]["pid"] == parent.pid)
    assert (family["zombies"], family["heed"]) == (60, "default")
    assert told["actions"] == []


def test_a_nudge_clears_what_it_can_and_says_what_it_cannot() -> None:
    """Parents are shown first; the one with a handler collects all, the deaf one keeps its own, and why is told."""
    with running(ONE_A_SIGNAL, 30) as slow, running(DEAF, 5) as deaf:
        result = triage("--nudge")
        assert psutil.Process(slow.pid).children() == []
        assert len(psutil.Process(deaf.pid).children()) == 5
    assert result.returncode == 1
    said = result.stdout
    assert f"pid {slow.pid}: 30 of 30 zombies collected" in said
    assert f"pid {deaf.pid}: 0 of 5 zombies collected; 5 stay until it ends (SIGCHLD does nothing to it): " in said
    assert said.index("SIGCHLD goes to") < said.index(f"pid {slow.pid}: 30 of 30")


@pytest.mark.parametrize("option", ["--restart-parent", "--kill"])
def test_nothing_is_ended_without_consent(option: str) -> None:
    """Without a terminal it is refused with the way out; a no on a terminal leaves the process alone."""
    with running(DEAF, 1) as parent:
        refused = triage(option, parent.pid)
        assert refused.returncode == 2
        assert refused.stderr == (
            "executor-api: there is no terminal to ask on whether the process may be ended: say --yes\n"
        )
        code, told = on_a_terminal(b"n\n", option, parent.pid)
        assert code == 1
        assert told.endswith("[y/N]: nothing was done\n")
        assert parent.poll() is None


def test_with_json_the_target_is_shown_before_the_question() -> None:
    """Whoever is asked sees whom it is about; a refusal is in the JSON, which is printed all the same."""
    with running(DEAF, 1) as parent:
        code, told = on_a_terminal(b"n\n", "--json", "--kill", parent.pid)
        assert code == 1
        assert f"(pid {parent.pid}," in told[: told.index(f"Send SIGKILL to process {parent.pid}?")]
        refused = triage("--json", "--kill", parent.pid)
        assert refused.returncode == 2
        assert "say --yes" in json.loads(refused.stdout)["actions"][-1]
        assert parent.poll() is None


def test_a_parent_that_ends_takes_its_zombies_along() -> None:
    """A yes on a terminal ends it by SIGTERM; its zombies are gone, and that nothing starts it again is told."""
    with running(DEAF, 9) as parent:
        zombies = psutil.Process(parent.pid).children()
        code, told = on_a_terminal(b"y\n", "--restart-parent", parent.pid)
        assert code == 0
        assert parent.wait(SECONDS) == -15
        assert not any(zombie.is_running() for zombie in zombies)
    assert "parent of 9 zombies" in told
    assert "of its 9 zombies, 0 are left" in told
    assert "that command has not started again" in told


def test_a_parent_that_is_started_again_is_told() -> None:
    """What looks after a process is recognised by what it does: the successor's number is told."""
    keeper = """
import subprocess, sys, time
while True:
    child = subprocess.Popen(["sleep", "600.04711"])
    print("ready", flush=True)
    child.wait()
"""
    with running(keeper) as process:
        (child,) = psutil.Process(process.pid).children()
        result = triage("--restart-parent", child.pid, "--yes")
        assert result.returncode == 0
        (successor,) = psutil.Process(process.pid).children()
        assert successor.pid != child.pid
    assert f"started again: pid {successor.pid}" in result.stdout


def test_a_process_that_ignores_sigterm_is_killed_by_kill() -> None:
    """--kill needs no cooperation; that a dead one stays a zombie until its parent collects it is told."""
    with running(UNMOVED_BY_TERM) as process:
        result = triage("--kill", process.pid, "--yes")
        assert result.returncode == 0
        assert (
            f"process {process.pid} is dead, and a zombie until its parent {os.getpid()} collects it" in result.stdout
        )
        assert process.wait(SECONDS) == -9


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--proc", "/nowhere"], "--proc /nowhere can't be read: No such file"),
        (["--proc", "/tmp", "--nudge"], "act on this machine: leave --proc out"),  # noqa: S108 - refused
        (["--kill", "5", "--restart-parent", "6"], "give one of --restart-parent and --kill"),
        (["--kill", "1", "--yes"], "process 1 is the init of this machine or container"),
        (["--kill", "4194303", "--yes"], "process 4194303 can't be reached: No such process"),
        (["--kill", "0"], "--kill"),
    ],
)
def test_wrong_usage(arguments: list[str], words: str) -> None:
    """Exit code 2, and the reason with the way out."""
    result = triage(*arguments)
    assert result.returncode == 2
    assert words in result.stderr


def test_it_ends_though_reads_of_its_own_still_hang(tmp_path: Path) -> None:
    """Threads that wait for a file which never answers don't keep the command from ending, and the screen says so."""
    tree = ProcTree(tmp_path)
    os.mkfifo(tree.stick(7, "rpc_wait_bit_killable") / "cmdline")
    result = triage("--proc", tree)
    assert result.returncode == 1
    assert "its command line could not be read: it did not answer in time" in result.stdout
    assert result.stdout.splitlines()[-1] == f"not seen: 1 reads of {tree} did not answer"


WATCHED = """
import sys
seen = []
sys.addaudithook(lambda event, _: seen.append(event))
from executor_api.cli import main
try:
    main(["triage", "--nudge", "--json"])
except SystemExit:
    pass
bad = ("os.fork", "os.posix_spawn", "os.exec", "os.system", "os.forkpty", "subprocess.", "socket.")
print([event for event in seen if event.startswith(bad)], file=sys.stderr)
print(sorted({"asyncio", "socket", "subprocess", "httpx", "logging"} & set(sys.modules)), file=sys.stderr)
"""


def test_it_starts_no_process_opens_no_socket_and_loads_little() -> None:
    """The interpreter's own audit sees neither, and of the heavy modules none is loaded."""
    with running(CLOSED_BY_PEER, 120, "4"), running(DEAF, 3):
        result = subprocess.run(
            [sys.executable, "-c", WATCHED], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    assert result.stderr.splitlines()[-2:] == ["[]", "[]"]
    assert json.loads(result.stdout)["situation"]["bereaved"]


WITHOUT_PROCESSES = """
import os, resource
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
try:
    os.fork()
except BlockingIOError:
    from executor_api.cli import main
    try:
        main(["triage"])
    except SystemExit:
        pass
"""


def test_it_works_where_nothing_can_be_started() -> None:
    """As a user who may start no process or thread, the zombies of others are told with their parent."""
    with running(DEAF, 60) as parent:
        said = run_as_nobody(WITHOUT_PROCESSES)
    what, who, do = paragraph(said, parent.pid)
    assert what.startswith("WARNING   60 zombies (")
    assert "import os" in who
    assert f"--restart-parent {parent.pid}" in do
