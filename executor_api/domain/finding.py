"""What `executor-api doctor` finds, whatever the backend."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"  # calls run, and something is less good than it could be, or could not be checked
    FAIL = "fail"  # calls, or some of them, will not run


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. The text says what is there or, unless all is well, in one sentence what is wrong and the fix."""

    check: str
    verdict: Verdict
    text: str


def ok(check: str, text: str) -> Finding:
    """All is well."""
    return Finding(check, Verdict.OK, text)


def warn(check: str, text: str) -> Finding:
    """Something to know."""
    return Finding(check, Verdict.WARN, text)


def fail(check: str, text: str) -> Finding:
    """Something to mend."""
    return Finding(check, Verdict.FAIL, text)
