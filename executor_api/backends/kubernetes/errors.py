"""What the API server, or the way to it, answers instead of an object.

One class for each status that somebody here catches; the rest are `ApiError`. Messages come from outside, so they
are cut to a length that can't flood a log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from executor_api.errors import ExecutorError

MAX_MESSAGE = 256


class KubernetesError(ExecutorError):
    """Base of all of them."""


class UnreachableError(KubernetesError):
    """No answer: not connected, cut, or too late. Whether a request arrived is unknown."""


class ApiError(KubernetesError):
    """The API server refused a request."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        self.status = status
        self.reason = reason  # the Status object's, for example AlreadyExists
        self.message = message
        self.retry_after = retry_after
        super().__init__(f"{status} {reason}: {message}" if reason else f"{status}: {message}")


class UnauthorizedError(ApiError):
    """401: the credentials are not accepted."""


class ForbiddenError(ApiError):
    """403: by RBAC, by a quota or by an admission rule."""


class MissingError(ApiError):
    """404: no such object or namespace."""


class ConflictError(ApiError):
    """409: it exists already, or has changed meanwhile."""


class GoneError(ApiError):
    """410: the resource version is too old; list again."""


class InvalidObjectError(ApiError):
    """422 or 400: the object is no valid one."""


class BusyError(ApiError):
    """429 or 5xx: the same request may work later."""


_CLASSES: Mapping[int, type[ApiError]] = {
    400: InvalidObjectError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: MissingError,
    409: ConflictError,
    410: GoneError,
    422: InvalidObjectError,
    429: BusyError,
}
_SERVER_ERRORS = 500

_MOST_RETRY_AFTER = 60.0
"""Longer waits are not worth keeping a request for."""


def api_error(status: int, body: bytes, retry_after: str | None = None) -> ApiError:
    """Build the error of an answer: its body is a Status object, or text of something between us and the server."""
    reason, message = _describe(body)
    kind = _CLASSES.get(status, BusyError if status >= _SERVER_ERRORS else ApiError)
    return kind(status, reason, message, _seconds(retry_after))


def status_error(status: Mapping[str, Any]) -> ApiError:
    """Build the error of a Status object that came inside a watch."""
    return api_error(int(status.get("code") or _SERVER_ERRORS), orjson.dumps(status))


def trimmed(text: str) -> str:
    """One line of at most `MAX_MESSAGE` characters."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 1] + "…"


def _describe(body: bytes) -> tuple[str, str]:
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "", trimmed(body.decode(errors="replace"))
    if not isinstance(status, dict):
        return "", trimmed(str(status))
    return trimmed(str(status.get("reason") or "")), trimmed(str(status.get("message") or ""))


def _seconds(header: str | None) -> float | None:
    if header is None or not header.strip().isdecimal():
        return None
    return min(float(header), _MOST_RETRY_AFTER)
