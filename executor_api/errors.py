"""Failures that are ours or the caller's; a failing *call* is never one of these, it is data (`domain.outcome`).

The tree is by what the receiver can do: correct the request, come back later, or ask the operator.
"""

from __future__ import annotations

from dataclasses import dataclass


class ExecutorError(Exception):
    """Base of every error this package raises on purpose."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One wrong field of a request or a file: where, and what is allowed there."""

    field: str  # dotted path as the sender wrote it, "" for the whole
    message: str
    allowed: tuple[str, ...] = ()  # the values or names that would do, if they are few


class InvalidRequestError(ExecutorError):
    """The request can't be run as it is; each problem names a field and the way out."""

    def __init__(self, *problems: FieldProblem) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{p.field}: {p.message}" if p.field else p.message for p in problems))


class NotFoundError(ExecutorError):
    """No such execution for this tenant."""


class IdempotencyConflictError(ExecutorError):
    """The key was used before with another body."""


class UnavailableError(ExecutorError):
    """The service can't take work now; ``retry_after`` seconds is an honest guess of when it can."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class SaturatedError(UnavailableError):
    """As many calls run and wait as this service allows: come back after ``retry_after`` seconds."""


class RateLimitedError(UnavailableError):
    """The tenant calls faster than it may: come back after ``retry_after`` seconds."""


class ConfigurationError(ExecutorError):
    """What the operator wrote can't be used; the message says what and how to fix it."""
