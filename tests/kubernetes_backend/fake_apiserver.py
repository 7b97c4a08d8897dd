"""A fake API server over real HTTP: Jobs, pods, events, logs, the pod proxy, watches, and faults on demand.

It keeps the semantics that bite: a Job deleted without a propagation policy orphans its pod, a watch from a version
that is compacted is Gone, a quota refuses the pod and not the Job. What happens to a Job's pod is the script's matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Coroutine
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from kubernetes_backend.fake_leases import FakeLeases
from kubernetes_backend.fake_objects import Object, Objects, matches
from kubernetes_backend.fake_surroundings import FakeSurroundings
from kubernetes_backend.fake_token_reviews import FakeTokenReviews

NAMESPACE = "sandboxes"
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
EVENTS = f"/api/v1/namespaces/{NAMESPACE}/events"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

_LATE_SECONDS = 3.0

Script = Callable[["FakeApiServer", Object], Coroutine[Any, Any, None]]


def status(code: int, reason: str, message: str, **headers: str) -> web.Response:
    """A refusal as the API server words it."""
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return web.json_response(
        body, status=code, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )


@dataclass
class Fault:
    """Answers that take the place of the next ones to a request."""

    method: str
    path_part: str
    answer: Callable[[], web.Response]
    times: int = 1


@dataclass
class FakeApiServer:
    """One namespace. ``script`` plays Job controller, scheduler and kubelet for each Job created."""

    script: Script
    objects: Objects = field(default_factory=Objects)
    logs: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)  # "verb resource[/subresource]"
    token: str = "secret"  # noqa: S105 - of this fake
    namespace_exists: bool = True
    late_for: str = "-"
    """A Job whose name begins so is made, and its maker gets to know late."""
    bookmark_seconds: float = 0.05
    url: str = ""

    def __post_init__(self) -> None:
        self.leases = FakeLeases(self.objects, NAMESPACE)
        self.surroundings = FakeSurroundings(self.objects)
        self.token_reviews = FakeTokenReviews()
        self._port = 0
        self._watches: set[asyncio.Transport] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        app = web.Application(middlewares=[self._gate])
        app.router.add_route("*", PODS + "/{target}/proxy{tail:/.*}", self._proxy)
        app.router.add_get(PODS + "/{name}/log", self._log)
        app.router.add_get(PODS, self._list_pods)
        app.router.add_get(JOBS, self._list_jobs)
        app.router.add_post(JOBS, self._create_job)
        app.router.add_get(JOBS + "/{name}", self._get_job)
        app.router.add_delete(JOBS + "/{name}", self._delete_job)
        app.router.add_patch(JOBS + "/{name}", self._patch_job)
        app.router.add_get(EVENTS, self._list_events)
        app.router.add_post(REVIEWS, self._review)
        app.router.add_routes([*self.leases.routes(), *self.surroundings.routes(), *self.token_reviews.routes()])
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))

    async def stop(self) -> None:
        """Close listener and connections; objects stay."""
        self.cut_watches()
        if self._session is not None:
            await self._session.close()
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner = None

    async def end(self) -> None:
        """Stop for good."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.stop()

    def fail(self, method: str, path_part: str, answer: Callable[[], web.Response], times: int = 1) -> None:
        """Answer the next requests of this kind so."""
        self.faults.append(Fault(method, path_part, answer, times))

    def cut_watches(self) -> None:
        """Cut every watch in the middle of a line."""
        for transport in self._watches:
            if not transport.is_closing():
                transport.write(b'10\r\n{"type":"MODIF')
                transport.close()
        self._watches.clear()

    async def event(self, kind: str, name: str, reason: str, message: str) -> None:
        """Record an event about an object."""
        metadata = {"name": f"{name}.{len(self.objects.log)}"}
        involved = {"kind": kind, "name": name}
        await self.objects.put(
            "events", {"metadata": metadata, "involvedObject": involved, "reason": reason, "message": message}
        )

    @web.middleware
    async def _gate(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return status(401, "Unauthorized", "Unauthorized")
        for fault in self.faults:
            if fault.times and fault.method == request.method and fault.path_part in request.path_qs:
                fault.times -= 1
                return fault.answer()
        return await handler(request)

    async def _create_job(self, request: web.Request) -> web.StreamResponse:
        job = await request.json()
        name = job["metadata"]["name"]
        if not self.namespace_exists:
            return status(404, "NotFound", f'namespaces "{NAMESPACE}" not found')
        if self.objects.get("jobs", name):
            return status(409, "AlreadyExists", f'jobs.batch "{name}" already exists')
        if "dryRun" not in request.query:
            await self.objects.put("jobs", job)
            task = asyncio.create_task(self.script(self, job))
            self._tasks.add(task)
            if name.startswith(self.late_for):
                await asyncio.sleep(_LATE_SECONDS)
        return web.json_response(job, status=201)

    async def _get_job(self, request: web.Request) -> web.StreamResponse:
        job = self.objects.get("jobs", request.match_info["name"])
        return web.json_response(job) if job else status(404, "NotFound", "not found")

    async def _delete_job(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        body = json.loads(await request.read() or b"{}")
        if not self.objects.get("jobs", name):
            return status(404, "NotFound", "not found")
        await self.objects.remove("jobs", name)
        if body.get("propagationPolicy") in ("Background", "Foreground"):
            for pod in self.objects.all("pods"):
                if pod["metadata"]["labels"]["batch.kubernetes.io/job-name"] == name:
                    await self.objects.remove("pods", pod["metadata"]["name"])
        return web.json_response({"kind": "Status", "status": "Success"})

    async def _list_jobs(self, request: web.Request) -> web.StreamResponse:
        watching = request.query.get("watch") == "true"
        return await self._watch("jobs", request) if watching else self._listing("jobs", request)

    async def _patch_job(self, request: web.Request) -> web.StreamResponse:
        """A JSON patch of tests and replacements."""
        job = self.objects.get("jobs", request.match_info["name"])
        if job is None:
            return status(404, "NotFound", "not found")
        changed = deepcopy(job)
        for operation in await request.json():
            *path, last = (part.replace("~1", "/") for part in operation["path"].strip("/").split("/"))
            place = changed
            for part in path:
                place = place[part]
            if operation["op"] == "test" and place.get(last) != operation["value"]:
                return status(422, "Invalid", "the server rejected our request: testing path failed")
            place[last] = operation["value"]
        return web.json_response(await self.objects.put("jobs", changed))

    async def _list_pods(self, request: web.Request) -> web.StreamResponse:
        watching = request.query.get("watch") == "true"
        return await self._watch("pods", request) if watching else self._listing("pods", request)

    async def _list_events(self, request: web.Request) -> web.StreamResponse:
        wanted = dict(part.split("=") for part in request.query["fieldSelector"].split(","))
        events = [
            item
            for item in self.objects.all("events")
            if all(item["involvedObject"][name.split(".")[1]] == value for name, value in wanted.items())
        ]
        return web.json_response({"items": events, "metadata": {"resourceVersion": str(self.objects.version)}})

    def _listing(self, resource: str, request: web.Request) -> web.Response:
        items = [item for item in self.objects.all(resource) if matches(item, request.query.get("labelSelector", ""))]
        return web.json_response({"items": items, "metadata": {"resourceVersion": str(self.objects.version)}})

    async def _watch(self, watched: str, request: web.Request) -> web.StreamResponse:
        version = int(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        assert request.transport is not None
        transport = request.transport
        self._watches.add(transport)
        with contextlib.suppress(ConnectionError):
            if version < self.objects.oldest:
                gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
                await _send(response, "ERROR", gone)
                return response
            while not transport.is_closing():
                for number, kind, resource, item in list(self.objects.log):
                    if number > version and resource == watched and matches(item, request.query["labelSelector"]):
                        await _send(response, kind, item)
                version = self.objects.version
                await _send(response, "BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": str(version)}})
                await self._wait_for_change(version)
        self._watches.discard(transport)
        return response

    async def _wait_for_change(self, version: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.bookmark_seconds), self.objects.changed:
                await self.objects.changed.wait_for(lambda: self.objects.version > version)

    async def _log(self, request: web.Request) -> web.StreamResponse:
        text = self.logs.get(request.match_info["name"])
        return status(404, "NotFound", "no such pod") if text is None else web.Response(body=text)

    async def _review(self, request: web.Request) -> web.StreamResponse:
        review = await request.json()
        asked = review["spec"]["resourceAttributes"]
        sub = f"/{asked['subresource']}" if asked["subresource"] else ""
        review["status"] = {"allowed": f"{asked['verb']} {asked['resource']}{sub}" not in self.denied}
        return web.json_response(review, status=201)

    async def _proxy(self, request: web.Request) -> web.StreamResponse:
        name, _, port = request.match_info["target"].partition(":")
        pod = self.objects.get("pods", name)
        if pod is None or self._session is None:
            return status(404, "NotFound", f'pods "{name}" not found')
        url = f"http://{pod['fakeAddress']}:{port}{request.match_info['tail']}"
        headers = {key: value for key, value in request.headers.items() if key not in ("Host", "Authorization")}
        try:
            async with self._session.request(
                request.method, url, params=request.query, headers=headers, data=await request.read() or None
            ) as answer:
                response = web.StreamResponse(status=answer.status)
                await response.prepare(request)
                async for data in answer.content.iter_any():
                    await response.write(data)
                return response
        except aiohttp.ClientConnectorError as error:
            return status(
                503, "ServiceUnavailable", f"error trying to reach service: {error.os_error.strerror}".lower()
            )


async def _send(response: web.StreamResponse, kind: str, item: dict[str, Any]) -> None:
    await response.write(json.dumps({"type": kind, "object": deepcopy(item)}).encode() + b"\n")
