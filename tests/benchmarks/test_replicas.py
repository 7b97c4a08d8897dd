"""What the benchmark of several replicas makes of their answers and of their leaders' ends."""

from __future__ import annotations

import math
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support.impostor import Lie, honest

from benchmarks.succession import Succession, complaints, marks

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "replicas.py"


def send(results: Path, *urls: str) -> subprocess.CompletedProcess[str]:
    """Six calls, one after the other."""
    flags = [*urls, "--calls", "6", "--at-once", "1", "--results", str(results)]
    return subprocess.run(
        [sys.executable, str(SCRIPT), *flags], check=False, capture_output=True, text=True, timeout=100
    )


def test_a_call_whose_replica_is_gone_goes_on_to_the_next(impostor: Callable[[Lie], str], tmp_path: Path) -> None:
    """Every call is answered by the replica that lives, and each move is counted."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        gone = f"http://127.0.0.1:{free.getsockname()[1]}"
    done = send(tmp_path, impostor(honest), gone)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "moved to another replica 3 times, 0 of them after" in done.stdout


def test_a_sandbox_that_two_replicas_used_fails_the_run(impostor: Callable[[Lie], str], tmp_path: Path) -> None:
    """Each replica's answers are right for themselves; together they are not."""
    done = send(tmp_path, impostor(honest), impostor(honest))
    assert done.returncode == 1
    assert "3 sandboxes used twice" in done.stdout


def test_calls_that_were_not_sent_in_time_fail_the_run(impostor: Callable[[Lie], str], tmp_path: Path) -> None:
    """A run that was cut short shows nothing of the calls it should have sent."""
    url = impostor(honest)
    done = send(tmp_path, url, "--seconds", "0")
    assert done.returncode == 1
    assert "0 calls were sent" in done.stdout


def test_leaders_die_at_even_distances() -> None:
    """Neither at the first call nor at the last."""
    assert sorted(marks(2000, 2)) == [666, 1333]
    assert marks(2000, 0) == set()


def test_a_succession_must_be_seen_in_time_and_during_the_calls() -> None:
    """One that was too slow, one that never came, one after the calls, and one that is missing: each is told of."""
    good = Succession(ended=5, dead="a", heir="b", seconds=12.0)
    assert complaints([good], wanted=1, calls=10) == []
    assert complaints([good], wanted=2, calls=10) == ["1 leaders were killed, not 2"]
    for bad in (
        Succession(ended=5, dead="a", heir="b", seconds=15.1),
        Succession(ended=5, dead="a", heir="", seconds=math.inf),
        Succession(ended=10, dead="a", heir="b", seconds=12.0),
    ):
        assert len(complaints([bad], wanted=1, calls=10)) == 1
