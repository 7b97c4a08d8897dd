"""From the last thing that could be learned of a call to its settled outcome."""

from __future__ import annotations

from dataclasses import dataclass, replace

from executor_api.backends.base import LastWords, NotTakenError, Sandbox
from executor_api.domain.execution import EventKind, Start
from executor_api.domain.outcome import Evidence, Outcome, Reason, settle, settle_without_report
from executor_api.domain.output import encode_gap, missing_from
from executor_api.domain.report import BadReportError, read_report
from executor_api.service.live import Live
from executor_runner.protocol.frames import Stream, encode_json
from executor_runner.protocol.shapes import Cause, Report

_CANCELLED_BLIND = Evidence(Reason.CANCELLED, "cancelled; its runner could not be asked, so its sandbox was removed")
_NOT_FETCHED = "artifacts: lost, the connection to the sandbox ended before they arrived"


@dataclass(frozen=True, slots=True)
class Ending:
    """An outcome, where it came from, and the report if there was one."""

    outcome: Outcome
    source: str  # "http", "status", "log" or "evidence"
    report: Report | None = None


def without_report(live: Live, evidence: Evidence) -> Ending:
    """What evidence alone allows to say, with the output stored so far."""
    tally = live.tally
    outcome = settle_without_report(evidence, tally.stdout + tally.stdout_dropped, tally.stderr + tally.stderr_dropped)
    outcome = replace(outcome, stdout_dropped_bytes=tally.stdout_dropped, stderr_dropped_bytes=tally.stderr_dropped)
    return Ending(outcome, "evidence")


async def from_journal(sandbox: Sandbox, report: Report) -> Ending:
    """Settle the report that came through the journal; the backend is asked only if an outsider ended the call."""
    evidence = await sandbox.evidence() if report["cause"] == Cause.TERMINATED else None
    return Ending(settle(report, evidence), "http", report)


async def from_last_words(live: Live, sandbox: Sandbox) -> Ending:
    """Settle what is left of a sandbox that no longer answers; output that only its log has is added.

    Raises `NotTakenError` if it had another call where ours was to be the first: no sandbox takes two that don't follow
    each other.
    """
    words = await sandbox.last_words()
    if words.holder and not live.tally.journal_offset and live.record.start is not Start.REUSED:
        raise NotTakenError(f"sandbox {sandbox.details.name}: had the call of {words.holder}")
    have = await live.output()
    # Nothing awaits from here to the final transaction, so what the log adds is stored with the outcome or not at all.
    for kind, data in missing_from(have, words.log) if words.log else ():
        live.emit(kind, data)
    report = _report_of(live, words)
    if report is None:
        return without_report(live, _blamed(live, words.evidence))
    outcome = _account(live, settle(report, words.evidence), report)
    return Ending(outcome, words.source, report)


def _report_of(live: Live, words: LastWords) -> Report | None:
    if words.report is None:
        return None
    try:
        return read_report(encode_json(words.report), live.record.id)
    except BadReportError:
        return None


def _blamed(live: Live, evidence: Evidence) -> Evidence:
    """Where nothing better is known, a cancel that was asked for is why the sandbox is gone."""
    if live.record.cancel_requested and evidence.reason is Reason.SANDBOX_LOST:
        return _CANCELLED_BLIND
    return evidence


def _account(live: Live, outcome: Outcome, report: Report) -> Outcome:
    """Count output that the report knows of, and no copy has, as dropped: at the end of its stream."""
    stdout = _shortage(report["stdout_bytes"], report["stdout_dropped_bytes"], live.tally.stdout)
    stderr = _shortage(report["stderr_bytes"], report["stderr_dropped_bytes"], live.tally.stderr)
    for stream, missing in ((Stream.STDOUT, stdout), (Stream.STDERR, stderr)):
        if missing:
            live.emit(EventKind.GAP, encode_gap(stream, missing))
    lost = [_NOT_FETCHED] if live.record.request.artifacts else []
    return replace(
        outcome,
        stdout_dropped_bytes=outcome.stdout_dropped_bytes + stdout,
        stderr_dropped_bytes=outcome.stderr_dropped_bytes + stderr,
        artifacts_skipped=[*outcome.artifacts_skipped, *lost],
    )


def _shortage(printed: int, dropped: int, have: int) -> int:
    return max(0, printed - dropped - have)
