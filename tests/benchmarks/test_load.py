"""What the benchmarks make of a service's answers, seen in their exit code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.impostor import Lie, honest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
WARMUP = 5
LIES: dict[str, Lie] = {
    "1 sandboxes used twice ['pod-5']": lambda word, number: (word, word, f"pod-{min(number, WARMUP)}"),
    "found what another left": lambda word, number: (word, word if number < WARMUP else "another", f"pod-{number}"),
    "answers another, not": lambda word, number: (word if number < WARMUP else "another", word, f"pod-{number}"),
}


def load(url: str, results: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """W1 with three calls."""
    flags = ["W1", "--url", url, "--calls", "3", "--results", str(results), *more]
    command = [sys.executable, str(BENCHMARKS / "load.py"), *flags]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)


def test_right_answers_pass_and_are_kept(impostor: Callable[[Lie], str], tmp_path: Path) -> None:
    """Exit code 0, and one line of raw figures for each call but the first ones, which warm up."""
    done = load(impostor(honest), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = next(tmp_path.glob("*.csv")).read_text().splitlines()
    assert len(lines) == 4


def test_batches_run_as_many_calls(impostor: Callable[[Lie], str], tmp_path: Path) -> None:
    """A batch of two and one of the one that is left; the header says how calls follow each other."""
    done = load(impostor(lambda word, number: (word, word, f"pod-{number}")), tmp_path, "--batch", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(next(tmp_path.glob("*.csv")).read_text().splitlines()) == 4
    assert "W1 serial, 2 back to back on a quiet machine, then the pool fills" in done.stdout


@pytest.mark.parametrize("complaint", LIES)
def test_a_wrong_answer_fails_the_run(impostor: Callable[[Lie], str], tmp_path: Path, complaint: str) -> None:
    """A sandbox used twice, told by its pod or by what an earlier call left in it, and another call's answer."""
    done = load(impostor(LIES[complaint]), tmp_path)
    assert done.returncode == 1
    assert complaint in done.stdout
