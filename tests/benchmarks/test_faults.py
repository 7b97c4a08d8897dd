"""What the benchmark of faults counts as made for nothing, and as an honest failure."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.breakage import never_ran
from benchmarks.jobs import account

QUOTA = frozenset({"quota"})
REFUSED: dict[str, Any] = {"status": "failed", "reason": "quota", "started_at": None, "stdout_bytes": 0}


def test_a_sandbox_that_no_call_had_was_made_for_nothing() -> None:
    """A pool of two: one used and replaced, one spoilt and replaced, a cold call; what is made beyond it is over."""
    before, made = {"p-1", "p-2"}, {"p-3", "p-4", "x-cold"}
    used, spoilt = {"p-1", "x-cold"}, {"p-2"}
    assert account(before, before | made, used, spoilt).over == 0
    assert account(before, before | made | {"p-5"}, used, spoilt).over == 1


def test_a_sandbox_that_was_never_made_needs_none_in_its_place() -> None:
    """A call that failed before there was a Job names one all the same."""
    assert account({"p-1"}, {"p-1"}, {"x-never"}, set()).needed == 0


def test_a_call_that_says_that_it_could_not_run_is_believed() -> None:
    """For a reason that the fault explains, and without a trace of having run."""
    assert never_ran(REFUSED, QUOTA)


@pytest.mark.parametrize(
    "lie",
    [
        {"reason": "sandbox_lost"},
        {"reason": "image_pull"},
        {"status": "succeeded"},
        {"started_at": "2026-01-01T00:00:00.000Z"},
        {"stdout_bytes": 7},
    ],
    ids="-".join,
)
def test_a_failure_that_the_fault_does_not_explain_is_no_excuse(lie: dict[str, Any]) -> None:
    """Another reason, or signs that it ran."""
    assert not never_ran(REFUSED | lie, QUOTA)
