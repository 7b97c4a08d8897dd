"""The routes: read the request, ask the service, render. One resource under two prefixes."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from executor_api.domain.caller import Origin, Scope
from executor_api.domain.execution import Execution
from executor_api.domain.outcome import Status
from executor_api.domain.template import Template
from executor_api.domain.trace_context import trace_context
from executor_api.errors import RateLimitedError
from executor_api.http import headers, problems, render, sse
from executor_api.http.audit import address_of
from executor_api.http.auth.access import caller_of
from executor_api.http.auth.ways import Way
from executor_api.http.body import BodyRoom, read_json_body
from executor_api.http.query import list_query
from executor_api.http.validation import parse_request
from executor_api.http.waiting import Waiting
from executor_api.service.execution_service import ExecutionService, Submission
from executor_api.settings import Settings

_JSON = "application/json"
_SMALL_BODY = 64 * 1024
_BODIES = 8
"""So many bodies of the largest size may be on their way at once."""


@dataclass(frozen=True, slots=True)
class Api:
    """The handlers, with what they work on. ``ways`` tell who calls; without any, nobody is asked."""

    service: ExecutionService
    settings: Settings
    ways: Sequence[Way] = ()
    waiting: Waiting = field(default_factory=Waiting)
    room: BodyRoom = field(default_factory=BodyRoom)

    async def execute(self, request: Request) -> Response:
        """Run one call: code in a language, or a command."""
        self._arrive(request)
        preference = self._preference(request)
        try:
            submission = await self._submission(request)
        except ClientDisconnect:
            return _unread()
        execution = await self.service.submit(submission)
        location = _location(request, execution)
        if headers.wants_events(request.headers.get("accept", "")):
            return _event_stream(sse.stream(self.service, submission.tenant, execution.id), location)
        if not await self._wait(request, execution, preference):
            return _unread()
        return await self._answer(execution.id, preference, location)

    async def get(self, request: Request) -> Response:
        """One execution, with what it has printed so far."""
        execution = await self.service.get(caller_of(request).tenant, request.path_params["execution_id"])
        preference = headers.preference(request.headers.getlist("prefer"), self.settings.sync_wait_seconds)
        if preference.applied and not await self._wait(request, execution, preference):
            return _unread()
        return await self._answer(execution.id, preference)

    async def list(self, request: Request) -> Response:
        """Executions, newest first, a page at a time."""
        query = list_query(request.query_params)
        page = await self.service.page(caller_of(request).tenant, query.where, query.limit, query.cursor)
        answer = Response(render.page(page), media_type=_JSON)
        if page.next_cursor is not None:
            following = request.url.include_query_params(cursor=page.next_cursor)
            answer.headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
        return answer

    async def events(self, request: Request) -> Response:
        """The events of one execution as they come: status, output, artifacts, the end."""
        after = headers.last_event(request.headers.get("last-event-id"), request.query_params.get("after"))
        tenant = caller_of(request).tenant
        execution = await self.service.get(tenant, request.path_params["execution_id"])
        chunks = sse.stream(self.service, tenant, execution.id, after)
        if execution.status.finished:
            first = await anext(chunks, None)
            if first is None:
                return Response(status_code=204)  # tells an EventSource that has all of it not to come back
            chunks = _with_first(first, chunks)
        return _event_stream(chunks)

    async def cancel(self, request: Request) -> Response:
        """End one execution. Asking again, or too late, does no harm."""
        caller = caller_of(request)
        execution = await self.service.cancel(caller.tenant, request.path_params["execution_id"], _origin(request))
        status_code = 200 if execution.status.finished else 202
        if Scope.READ in caller.scopes:
            answer = await self._render(execution, status_code)
        else:
            answer = Response(render.ending(execution), status_code, media_type=_JSON)
        if not execution.status.finished:
            answer.headers["Location"] = request.url.path
        return answer

    async def explain(self, request: Request) -> Response:
        """Where one execution is, or how it ended and why, in sentences."""
        execution_id = request.path_params["execution_id"]
        explanation = await self.service.explain(caller_of(request).tenant, execution_id)
        return Response(render.explanation(execution_id, explanation), media_type=_JSON)

    async def pool(self, request: Request) -> Response:
        """The warm pools: what waits, what should, and what is wrong, in numbers and sentences."""
        now = self.service.now()
        shown = [render.pool(pool, now) for pool in self.service.pools(caller_of(request).tenant)]
        return Response(orjson.dumps({"pools": shown}), media_type=_JSON)

    async def templates(self, request: Request) -> Response:
        """What requests can choose as `template`, and how much of it they may ask for."""
        shown = [_template(template) for template in self.service.templates(caller_of(request).tenant).values()]
        return Response(orjson.dumps({"templates": shown}), media_type=_JSON)

    async def alive(self, _request: Request) -> Response:
        """The process serves."""
        return Response(b'{"status":"alive"}', media_type=_JSON)

    async def ready(self, _request: Request) -> Response:
        """Whether calls can run now, and if not, what to do about it."""
        health = self.service.health()
        notes = [note for way in self.ways for note in await way.notes()]
        health = replace(health, notes=(*health.notes, *notes))
        return Response(orjson.dumps(health), 200 if health.ready else 503, media_type=_JSON)

    def _arrive(self, request: Request) -> None:
        """Count the call before its body is read. Raises `RateLimitedError`, `ProblemError` if the body is large."""
        try:
            self.service.arrive(caller_of(request).tenant)
        except RateLimitedError as error:
            if _is_small(request):
                raise  # what comes of the body can be dropped, and the connection used again
            problem = problems.of_error(error)
            problem.unread = True
            raise problem from None

    async def _submission(self, request: Request) -> Submission:
        """Read what is submitted. Raises `ProblemError` and ``ClientDisconnect``."""
        caller, settings = caller_of(request), self.settings
        key = headers.idempotency_key(request.headers.get("idempotency-key"))
        with self.room.of(caller.tenant, _BODIES * settings.max_body_bytes) as take:
            body = await read_json_body(request, settings.max_body_bytes, settings.body_timeout_seconds, take)
            parsed = parse_request(body)
        return Submission(
            request=parsed,
            tenant=caller.tenant,
            origin=_origin(request),
            idempotency_key=key,
            trace=trace_context(request.headers.getlist("traceparent"), request.headers.getlist("tracestate")),
        )

    def _preference(self, request: Request) -> headers.Preference:
        return headers.preference(request.headers.getlist("prefer"), self.settings.sync_wait_seconds)

    async def _wait(self, request: Request, execution: Execution, preference: headers.Preference) -> bool:
        """Wait for the end as long as the client wants and stays; False if it left. The call goes on either way."""
        if preference.wait <= 0 or execution.status.finished:
            return True
        end = functools.partial(self.service.wait, execution.id, preference.wait)
        return await self.waiting.wait(request, end)

    async def _answer(self, execution_id: str, preference: headers.Preference, location: str = "") -> Response:
        execution = await self.service.wait(execution_id, 0)
        answer = await self._render(execution, 202 if location and not execution.status.finished else 200)
        if answer.status_code == 202:  # noqa: PLR2004  Accepted
            answer.headers["Location"] = location
        if preference.applied:
            answer.headers["Preference-Applied"] = preference.applied
        return answer

    async def _render(self, execution: Execution, status_code: int) -> Response:
        if execution.status is Status.QUEUED:
            return Response(render.answer(execution), status_code, media_type=_JSON)
        answer = render.answer(execution, await self.service.output(execution.id))
        response = Response(answer, status_code, media_type=_JSON)
        if execution.status.finished:
            overhead = self.service.overhead(execution.id)
            response.headers["Server-Timing"] = render.server_timing(execution.timings, overhead)
        return response


async def _with_first(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def _event_stream(chunks: AsyncIterator[bytes], location: str = "") -> Response:
    more = {"Location": location} if location else {}
    return StreamingResponse(chunks, headers={**sse.HEADERS, **more}, media_type="text/event-stream")


def _origin(request: Request) -> Origin:
    caller = caller_of(request)
    return Origin(caller.name, caller.way, address_of(request.scope))


def _is_small(request: Request) -> bool:
    length = request.headers.get("content-length", "")
    return length.isdecimal() and int(length) <= _SMALL_BODY


def _unread() -> Response:
    """For a client that is gone: ASGI wants an answer, nobody gets it."""
    return Response(status_code=400)


def _location(request: Request, execution: Execution) -> str:
    prefix = "/v1" if request.url.path.startswith("/v1/") else ""
    return f"{prefix}/executions/{execution.id}"


def _template(template: Template) -> dict[str, object]:
    fields = {"name", "resources", "max_resources", "gpu", "timeout_seconds", "max_timeout_seconds", "isolation"}
    shown: dict[str, object] = template.model_dump(mode="json", include=fields)
    return shown | {"digest": template.digest(), "languages": ["python", *sorted(template.languages)]}
