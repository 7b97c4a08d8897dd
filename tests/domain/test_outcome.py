"""Outcomes: every report and every piece of evidence settles into one truthful ending."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from support.reports import report

from executor_api.domain.outcome import NEXT, Evidence, Reason, Status, settle, settle_without_report, signal_name
from executor_runner.protocol.shapes import Cause

EXCEPTION = {"type": "ValueError", "message": "bad", "traceback": "..."}
EVICTED = Evidence(Reason.EVICTED, "disk pressure")


@pytest.mark.parametrize(
    ("fields", "status", "reason", "message"),
    [
        ({}, Status.SUCCEEDED, None, ""),
        ({"exit_code": 7}, Status.FAILED, Reason.EXIT_CODE, "exit code 7"),
        ({"exit_code": 137}, Status.FAILED, Reason.EXIT_CODE, "exit code 137"),
        ({"exit_code": None, "signal": 9}, Status.FAILED, Reason.SIGNAL, "ended by SIGKILL"),
        ({"exit_code": None, "signal": 11}, Status.FAILED, Reason.SIGNAL, "ended by SIGSEGV"),
        ({"exit_code": 1, "exception": EXCEPTION}, Status.FAILED, Reason.EXCEPTION, "ValueError: bad"),
        ({"exit_code": 0, "exception": EXCEPTION}, Status.SUCCEEDED, None, ""),
        ({"exit_code": 3, "exception": EXCEPTION}, Status.FAILED, Reason.EXIT_CODE, "exit code 3"),
        ({"exit_code": None}, Status.FAILED, Reason.EXIT_CODE, "exit code None"),
        ({"cause": Cause.TIMEOUT, "message": "m", "signal": 9}, Status.FAILED, Reason.TIMEOUT, "m"),
        ({"cause": Cause.CANCELLED, "message": "m"}, Status.CANCELLED, Reason.CANCELLED, "m"),
        ({"cause": Cause.OUT_OF_MEMORY, "message": "m"}, Status.FAILED, Reason.OUT_OF_MEMORY, "m"),
        ({"cause": Cause.PROCESS_LIMIT, "message": "m"}, Status.FAILED, Reason.PROCESS_LIMIT, "m"),
        ({"cause": Cause.OUTPUT_LIMIT, "message": "m"}, Status.FAILED, Reason.OUTPUT_LIMIT, "m"),
        ({"cause": Cause.STORAGE_LIMIT, "message": "m"}, Status.FAILED, Reason.STORAGE_LIMIT, "m"),
        ({"cause": Cause.SETUP_FAILED, "message": "m"}, Status.FAILED, Reason.SETUP_FAILED, "m"),
        ({"cause": Cause.TERMINATED, "exit_code": 0}, Status.FAILED, Reason.EVICTED, "disk pressure"),
    ],
)
def test_a_report_settles(fields: dict[str, Any], status: Status, reason: Reason | None, message: str) -> None:
    """The runner's cause comes first, then the signal, then the exit code; evidence only if an outsider ended it."""
    outcome = settle(report("id", **fields), EVICTED)
    assert (outcome.status, outcome.reason, outcome.message) == (status, reason, message)


def test_a_runner_told_to_leave_without_evidence_was_lost() -> None:
    """Nobody can say who told it: not a success, whatever the exit code."""
    outcome = settle(report("id", cause=Cause.TERMINATED, exit_code=0))
    assert (outcome.status, outcome.reason) == (Status.FAILED, Reason.SANDBOX_LOST)


def test_measurements_are_carried_over() -> None:
    """Bytes, usage, census, value and skipped artifacts of the report are the outcome's."""
    outcome = settle(
        report("id", stdout_bytes=5, stderr_dropped_bytes=2, value_json="[1]", artifacts_skipped=["a: big"])
    )
    assert (outcome.stdout_bytes, outcome.stderr_dropped_bytes, outcome.value_json) == (5, 2, "[1]")
    assert (outcome.artifacts_skipped, outcome.processes["zombies"]) == (["a: big"], 0)


@pytest.mark.parametrize("reason", list(Reason))
def test_without_a_report_nothing_succeeds(reason: Reason) -> None:
    """Whatever the evidence, there is no success without a report; only a cancel is no failure."""
    outcome = settle_without_report(Evidence(reason, "why"), 3, 4)
    assert outcome.status is (Status.CANCELLED if reason is Reason.CANCELLED else Status.FAILED)
    assert (outcome.reason, outcome.stdout_bytes, outcome.stderr_bytes) == (reason, 3, 4)


def test_every_status_leads_to_an_end_and_no_end_leads_on() -> None:
    """The table has each status, and from each an ending can be reached."""
    assert set(NEXT) == set(Status)
    ends = {status for status in Status if status.finished}
    assert ends == {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED}
    assert all(NEXT[status] & ends for status in set(Status) - ends)


@pytest.mark.parametrize(("number", "name"), [(None, None), (15, "SIGTERM"), (signal.SIGRTMIN + 1, "signal 35")])
def test_signals_have_names(number: int | None, name: str | None) -> None:
    """Real-time signals have only numbers."""
    assert signal_name(number) == name
