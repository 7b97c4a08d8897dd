"""Talks to the service for the other commands, and turns what goes wrong into sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn
from urllib.parse import quote

import httpx
import httpx_sse

from executor_api.cli.failures import CommandFailure, Refused, Unavailable

_READ_SECONDS = 60.0  # event streams have a heartbeat every 15
_TIMEOUT = httpx.Timeout(10.0, read=_READ_SECONDS)
_EXECUTIONS = "/v1/executions"
_BUSY = {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}

Parameters = Sequence[tuple[str, str]]


class Client:
    """One service. Every method raises `CommandFailure` for what the service refuses or can't do."""

    def __init__(self, url: str, api_key: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise Refused(f"{url!r} is no URL of a service; write for example http://127.0.0.1:8000")
        self._url = url
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        try:
            self._http = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=_TIMEOUT)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise Refused(f"{url!r} is no URL of a service, or the API key is no ASCII: {error}") from error

    def close(self) -> None:
        """Close connections."""
        self._http.close()

    def get(self, execution_id: str) -> dict[str, Any]:
        """One execution."""
        return self._ask("GET", _path(execution_id))

    def list(self, parameters: Parameters) -> dict[str, Any]:
        """A page of executions."""
        return self._ask("GET", _EXECUTIONS, parameters)

    def cancel(self, execution_id: str) -> dict[str, Any]:
        """Ask to end one."""
        return self._ask("DELETE", _path(execution_id))

    def explain(self, execution_id: str) -> dict[str, Any]:
        """One in sentences."""
        return self._ask("GET", f"{_path(execution_id)}/explain")

    def pool(self) -> dict[str, Any]:
        """The warm pools."""
        return self._ask("GET", "/v1/pool")

    @contextmanager
    def start(self, request: Mapping[str, Any], key: str) -> Iterator[tuple[str, Iterator[httpx_sse.ServerSentEvent]]]:
        """Start a call: its id, and its events as they come. ``key`` makes starting it again the same call."""
        with self._events("POST", _EXECUTIONS, json=request, headers={"Idempotency-Key": key}) as source:
            yield source.response.headers["Location"].rpartition("/")[2], source.iter_sse()

    @contextmanager
    def follow(self, execution_id: str, after: str) -> Iterator[Iterator[httpx_sse.ServerSentEvent]]:
        """The events of a call behind the one numbered ``after``."""
        headers = {"Last-Event-ID": after} if after else {}
        with self._events("GET", f"{_path(execution_id)}/events", headers=headers) as source:
            yield source.iter_sse()

    def unreachable(self, error: Exception) -> CommandFailure:
        """What to tell of a connection that fails."""
        return Unavailable(
            f"the service at {self._url} can't be reached ({error}); start it with `executor-api serve`, "
            "or name another with --url or EXECUTOR_URL"
        )

    @contextmanager
    def _events(self, method: str, path: str, **options: Any) -> Iterator[httpx_sse.EventSource]:
        with httpx_sse.connect_sse(self._http, method, path, **options) as source:
            if not source.response.is_success:
                source.response.read()
                raise_refusal(source.response)
            if not source.response.headers.get("Content-Type", "").startswith("text/event-stream"):
                raise _stranger(source.response)
            yield source

    def _ask(self, method: str, path: str, parameters: Parameters = ()) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, params=list(parameters))
        except httpx.TransportError as error:
            raise self.unreachable(error) from error
        if not response.is_success:
            raise_refusal(response)
        try:
            answer: dict[str, Any] = response.json()
        except ValueError:
            raise _stranger(response) from None
        return answer


def _path(execution_id: str) -> str:
    return f"{_EXECUTIONS}/{quote(execution_id, safe='')}"


def _stranger(response: httpx.Response) -> Refused:
    return Refused(f"{response.url} answered {response.status_code} {response.reason_phrase}; is it an executor-api?")


def raise_refusal(response: httpx.Response) -> NoReturn:
    """Raise what an answer that is no success says: a sentence for each wrong field."""
    status = response.status_code
    if status == httpx.codes.UNAUTHORIZED:
        why = (_problem(response) or {}).get("detail", "the service wants an API key")
        raise Refused(f"{why}; give it with --api-key or EXECUTOR_API_KEY")
    kind = Unavailable if status in _BUSY or response.is_server_error else Refused
    raise kind("\n".join(_sentences(response)))


def _sentences(response: httpx.Response) -> list[str]:
    problem = _problem(response)
    if problem is None:
        return [str(_stranger(response))]
    errors = problem.get("errors") or []
    sentences = [" ".join([error["field"] + ":", error["message"], _allowed(error)]).strip() for error in errors]
    return [sentence.removeprefix(": ") for sentence in sentences] or [
        problem.get("detail", response.reason_phrase) + _retry(response)
    ]


def _problem(response: httpx.Response) -> dict[str, Any] | None:
    if not response.headers.get("Content-Type", "").startswith("application/problem+json"):
        return None
    problem: dict[str, Any] = response.json()
    return problem


def _allowed(error: Mapping[str, Any]) -> str:
    return f"(allowed: {', '.join(error['allowed'])})" if error.get("allowed") else ""


def _retry(response: httpx.Response) -> str:
    seconds = response.headers.get("Retry-After")
    return f"; try again in {seconds} s" if seconds else ""
