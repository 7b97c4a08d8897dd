"""An execution as the answer's JSON. Plain dicts: this is the hot path, `schemas` describes the same for readers."""

from __future__ import annotations

import base64
import codecs
import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, NoReturn

import orjson

from executor_api.domain.execution import Execution, Output, SandboxDetails, Timings
from executor_api.domain.explain import Explanation, pool_sentences
from executor_api.domain.outcome import Outcome, Status
from executor_api.domain.pool import PoolStatus
from executor_api.http.problems import printable
from executor_api.service.store import Page
from executor_api.service.timeline import Overhead
from executor_runner.protocol.shapes import ExceptionInfo

_NOTHING = Output(b"", b"", None, None, {})


def answer(execution: Execution, output: Output = _NOTHING) -> bytes:
    """The whole execution with what it printed and made."""
    outcome = execution.outcome or _unsettled(output)
    return orjson.dumps(
        summary(execution, outcome)
        | _stream("stdout", output.stdout, output.stdout_gap)
        | _stream("stderr", output.stderr, output.stderr_gap)
        | {
            "value": _value(outcome.value_json),
            "exception": _exception(outcome.exception),
            "artifacts": {printable(path): _content(data) for path, data in output.artifacts.items()},
            "artifacts_skipped": [printable(text) for text in outcome.artifacts_skipped],
        }
    )


def ending(execution: Execution) -> bytes:
    """Whether it has ended, and why, for those who may not look at what came of it."""
    outcome = execution.outcome
    return answer(
        execution if outcome is None else replace(execution, outcome=Outcome(outcome.status, outcome.reason, ""))
    )


def page(found: Page) -> bytes:
    """A page of the list."""
    summaries = [summary(execution, execution.outcome or _unsettled(_NOTHING)) for execution in found.executions]
    return orjson.dumps({"executions": summaries, "next_cursor": found.next_cursor})


def summary(execution: Execution, outcome: Outcome) -> dict[str, Any]:
    """The execution without its output, as lists show it."""
    request = execution.request
    return {
        "id": execution.id,
        "status": execution.status,
        "reason": outcome.reason,
        "message": printable(outcome.message),
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "stdout_bytes": outcome.stdout_bytes,
        "stderr_bytes": outcome.stderr_bytes,
        "stdout_dropped_bytes": outcome.stdout_dropped_bytes,
        "stderr_dropped_bytes": outcome.stderr_dropped_bytes,
        "truncated": bool(outcome.stdout_dropped_bytes or outcome.stderr_dropped_bytes),
        "start": execution.start,
        "cold_reason": execution.cold_reason,
        "timings_ms": _timings(execution.timings),
        "usage": outcome.usage,
        "processes": outcome.processes,
        "gpu": outcome.gpu,
        "sandbox": _sandbox(execution.sandbox),
        "template": request.template,
        "isolation": request.isolation,
        "labels": request.labels,
        "timeout_seconds": execution.timeout_seconds,
        "cancel_requested": execution.cancel_requested,
        "created_at": instant(execution.created_at),
        "started_at": instant(execution.started_at),
        "finished_at": instant(execution.finished_at),
    }


def explanation(execution_id: str, found: Explanation) -> bytes:
    """An execution in sentences."""
    sentences = [printable(sentence) for sentence in found.sentences]
    return orjson.dumps({"id": execution_id, "summary": printable(found.summary), "sentences": sentences})


def pool(status: PoolStatus, now: float) -> dict[str, Any]:
    """A pool in numbers and sentences."""
    changed_at, sentences = instant(status.changed_at), pool_sentences(status, now)
    return asdict(status) | {"changed_at": changed_at, "sentences": sentences}


def instant(seconds: float | None) -> str | None:
    """RFC 3339 in UTC, to the millisecond."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def server_timing(timings: Timings, overhead: Overhead | None) -> str:
    """The phases as a ``Server-Timing`` header, in milliseconds; ``accept`` and ``settle`` are the service's own."""
    phases = dict(_timings(timings))
    if overhead is not None:
        phases |= {"accept": overhead.before, "settle": overhead.after}
    return ", ".join(f"{name};dur={value}" for name, value in phases.items() if value is not None)


def text_of(data: bytes, gap: tuple[int, int] | None) -> tuple[str, bool]:
    """Output as text, with one line at the place of the gap, and whether the text says all that the bytes do.

    A character that the gap cut in two does not make the output binary: only its halves are replaced.
    """
    if gap is None:
        return data.decode("utf-8", "replace"), _is_text(data)
    place, dropped = gap
    head, tail = data[:place], data[place:]
    marker = f"\n[... {dropped} bytes dropped ...]\n"
    text = head.decode("utf-8", "replace") + marker + tail.decode("utf-8", "replace")
    return text, _is_text(head, cut=True) and _is_text(_whole_tail(tail))


def _unsettled(output: Output) -> Outcome:
    """What can be said before the end: how much was printed so far."""
    stdout_dropped, stderr_dropped = (gap[1] if gap else 0 for gap in (output.stdout_gap, output.stderr_gap))
    return Outcome(
        Status.RUNNING,
        None,
        "",
        stdout_bytes=len(output.stdout) + stdout_dropped,
        stderr_bytes=len(output.stderr) + stderr_dropped,
        stdout_dropped_bytes=stdout_dropped,
        stderr_dropped_bytes=stderr_dropped,
    )


def _stream(name: str, data: bytes, gap: tuple[int, int] | None) -> dict[str, str]:
    text, exact = text_of(data, gap)
    return {name: text} if exact else {name: text, f"{name}_base64": base64.b64encode(data).decode()}


def _is_text(data: bytes, *, cut: bool = False) -> bool:
    """Whether it is UTF-8; with ``cut`` a character may be incomplete at the end."""
    try:
        codecs.utf_8_decode(data, "strict", not cut)
    except UnicodeDecodeError:
        return False
    return True


def _whole_tail(data: bytes) -> bytes:
    """Without the rest of a character, at most three bytes, at its beginning."""
    start = 0
    while start < min(3, len(data)) and data[start] & 0xC0 == 0x80:  # noqa: PLR2004  UTF-8: a byte that goes on
        start += 1
    return data[start:]


def _content(data: bytes) -> str | dict[str, str]:
    return data.decode() if _is_text(data) else {"base64": base64.b64encode(data).decode()}


def _value(text: str | None) -> orjson.Fragment | None:
    """The value as the child wrote it, numbers to the last digit; None if that is no JSON."""
    if text is None:
        return None
    try:
        value = json.loads(text, parse_constant=_no_constant)
        if "\\ud" in text.lower():  # perhaps half a surrogate pair, which strict parsers refuse
            text = printable(json.dumps(value, ensure_ascii=False, allow_nan=False))
    except (ValueError, RecursionError):
        return None
    return orjson.Fragment(text)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _exception(info: ExceptionInfo | None) -> dict[str, str] | None:
    if info is None:
        return None
    return {
        "type": printable(info["type"]),
        "message": printable(info["message"]),
        "traceback": printable(info["traceback"]),
    }


def _timings(timings: Timings) -> dict[str, float | None]:
    return {
        name: value if value is None else round(value, 3)
        for name, value in (
            ("queue", timings.queue),
            ("claim", timings.claim),
            ("create", timings.create),
            ("schedule", timings.schedule),
            ("start", timings.start),
            ("run", timings.run),
            ("collect", timings.collect),
            ("total", timings.total),
        )
    }


def _sandbox(details: SandboxDetails | None) -> dict[str, str | None] | None:
    if details is None:
        return None
    return {
        "name": details.name,
        "backend": details.backend,
        "job": details.job,
        "pod": details.pod,
        "pod_uid": details.pod_uid,
        "node": details.node,
        "image": details.image,
    }
