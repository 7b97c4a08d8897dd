"""Problem details (RFC 9457): one table of kinds, and how our errors map to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

import orjson
from starlette.requests import Request
from starlette.responses import Response

from executor_api.errors import (
    ExecutorError,
    IdempotencyConflictError,
    InvalidRequestError,
    NotFoundError,
    RateLimitedError,
    SaturatedError,
    UnavailableError,
)

MEDIA_TYPE = "application/problem+json"
ANSWERED = "executor.problem"
"""Where `respond` leaves the kind of the problem in the ASGI scope, for those who look after it is sent."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem. ``slug`` ends its ``type``, a stable contract; ``hint`` is for the documentation."""

    slug: str
    status: int
    title: str
    hint: str

    @property
    def type(self) -> str:
        """The ``type`` member: a relative URI."""
        return f"/problems/{self.slug}"


MALFORMED = Kind("malformed", 400, "This is no HTTP request", "Check the client or the proxy before this service.")
UNAUTHORIZED = Kind("unauthorized", 401, "A valid API key or token is needed", "Send `Authorization: Bearer KEY`.")
FORBIDDEN = Kind("forbidden", 403, "This caller may not do that here", "`detail` says what it would take.")
NOT_FOUND = Kind("not-found", 404, "There is no such thing here", "Check the id and the path; old executions go.")
METHOD_NOT_ALLOWED = Kind("method-not-allowed", 405, "This path has no such method", "See the `Allow` header.")
IDEMPOTENCY_CONFLICT = Kind(
    "idempotency-conflict", 409, "The idempotency key belongs to another request", "Use a new key for a new request."
)
BODY_TOO_LARGE = Kind("body-too-large", 413, "The request body is too large", "`detail` has the limit.")
HEAD_TOO_LARGE = Kind("head-too-large", 431, "The request's head is too large", "Send a shorter URL or fewer headers.")
INVALID_REQUEST = Kind(
    "invalid-request", 422, "The request can't be run as it is", "`errors` names each wrong field and the way out."
)
INVALID_JSON = Kind("invalid-json", 422, "The request body is not valid JSON", "`detail` has line and column.")
INVALID_HEADER = Kind("invalid-header", 422, "A request header can't be used", "`errors` names the header.")
INVALID_PARAMETER = Kind("invalid-parameter", 422, "A query parameter can't be used", "`errors` names the parameter.")
BODY_TIMEOUT = Kind("body-timeout", 422, "The request body did not arrive in time", "Send the body without pauses.")
SATURATED = Kind("saturated", 429, "There is no room for another call now", "Wait for `Retry-After`.")
RATE_LIMITED = Kind("rate-limited", 429, "This tenant calls too often", "Wait for `Retry-After`, and send fewer calls.")
UNAVAILABLE = Kind("unavailable", 503, "The service can't take work now", "Wait for `Retry-After`; see `/readyz`.")
INTERNAL = Kind("internal", 500, "The service failed", "This is a bug of the service; its log has the traceback.")

KINDS = (
    MALFORMED,
    UNAUTHORIZED,
    FORBIDDEN,
    NOT_FOUND,
    METHOD_NOT_ALLOWED,
    IDEMPOTENCY_CONFLICT,
    BODY_TOO_LARGE,
    HEAD_TOO_LARGE,
    INVALID_REQUEST,
    INVALID_JSON,
    INVALID_HEADER,
    INVALID_PARAMETER,
    BODY_TIMEOUT,
    SATURATED,
    RATE_LIMITED,
    UNAVAILABLE,
    INTERNAL,
)

_ERROR_KINDS: dict[type[ExecutorError], Kind] = {
    InvalidRequestError: INVALID_REQUEST,
    NotFoundError: NOT_FOUND,
    IdempotencyConflictError: IDEMPOTENCY_CONFLICT,
    SaturatedError: SATURATED,
    RateLimitedError: RATE_LIMITED,
    UnavailableError: UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field, header or parameter; ``allowed`` lists the values or names that would do, if they are few."""

    field: str
    message: str
    allowed: tuple[str, ...] = ()

    def render(self) -> dict[str, object]:
        """As a member of ``errors``."""
        error: dict[str, object] = {"field": printable(self.field), "message": printable(self.message)}
        return error | {"allowed": self.allowed} if self.allowed else error


@dataclass(slots=True)
class ProblemError(Exception):
    """Ends a request with a problem. ``unread`` says that the rest of the request's body is still on its way."""

    kind: Kind
    detail: str
    errors: tuple[FieldError, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    unread: bool = False


def of_error(error: ExecutorError) -> ProblemError:
    """The problem that tells of one of our errors. Raises it again if it is none that a client can act on."""
    kind = next((_ERROR_KINDS[base] for base in type(error).__mro__ if base in _ERROR_KINDS), None)
    if kind is None:
        raise error
    errors = error.problems if isinstance(error, InvalidRequestError) else ()
    return ProblemError(
        kind,
        str(error) or kind.title,
        tuple(FieldError(problem.field, problem.message, problem.allowed) for problem in errors),
        {"Retry-After": str(max(1, ceil(error.retry_after)))} if isinstance(error, UnavailableError) else {},
    )


def invalid(kind: Kind, name: str, message: str, *allowed: str) -> ProblemError:
    """A problem with one field, header or parameter."""
    return ProblemError(kind, f"{name}: {message}", (FieldError(name, message, allowed),))


def body(problem: ProblemError, instance: str) -> bytes:
    """The problem as JSON; ``instance`` is the path that was asked for."""
    members: dict[str, object] = {
        "type": problem.kind.type,
        "title": problem.kind.title,
        "status": problem.kind.status,
        "detail": printable(problem.detail),
        "instance": printable(instance),
    }
    if problem.errors:
        members["errors"] = [error.render() for error in problem.errors]
    return orjson.dumps(members)


def respond(request: Request, problem: ProblemError, response: type[Response] = Response) -> Response:
    """The problem as the response to this request."""
    request.scope[ANSWERED] = problem.kind
    return response(body(problem, request.url.path), problem.kind.status, problem.headers, media_type=MEDIA_TYPE)


def printable(text: str) -> str:
    """The text with lone surrogates, which JSON in UTF-8 can't carry, replaced."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
