"""What the fake API server shows of the cluster around sandboxes: its version and clock, quotas, policies, classes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate

from aiohttp import web

from kubernetes_backend.fake_objects import Object, Objects

_ONE = {
    "namespaces": "/api/v1/namespaces/{name}",
    "serviceaccounts": "/api/v1/namespaces/{namespace}/serviceaccounts/{name}",
    "runtimeclasses": "/apis/node.k8s.io/v1/runtimeclasses/{name}",
    "priorityclasses": "/apis/scheduling.k8s.io/v1/priorityclasses/{name}",
}
_ALL = {
    "resourcequotas": "/api/v1/namespaces/{namespace}/resourcequotas",
    "networkpolicies": "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
}

Answer = Callable[[web.Request], Awaitable[web.Response]]


class FakeSurroundings:
    """Read only; ``denied`` resources get 403. ``seconds_ahead`` is how far its clock is ahead of ours."""

    def __init__(self, objects: Objects) -> None:
        self.denied: set[str] = set()
        self.seconds_ahead = 0.0
        self._objects = objects

    def routes(self) -> list[web.RouteDef]:
        """For the fake's router."""
        one = [web.get(path, self._one(resource)) for resource, path in _ONE.items()]
        return [web.get("/version", self._version), *one, *(web.get(p, self._all(r)) for r, p in _ALL.items())]

    async def put(self, resource: str, name: str, **fields: Object) -> None:
        """Add an object."""
        await self._objects.put(resource, {"metadata": {"name": name}, **fields})

    async def _version(self, _request: web.Request) -> web.Response:
        date = formatdate(time.time() + self.seconds_ahead, usegmt=True)
        return web.json_response({"gitVersion": "v1.2.3"}, headers={"Date": date})

    def _one(self, resource: str) -> Answer:
        async def answer(request: web.Request) -> web.Response:
            found = self._objects.get(resource, request.match_info["name"])
            if resource in self.denied:
                return _status(403, "Forbidden", f'User "u" cannot get resource "{resource}"')
            return web.json_response(found) if found else _status(404, "NotFound", f"{resource} not found")

        return answer

    def _all(self, resource: str) -> Answer:
        async def answer(_request: web.Request) -> web.Response:
            if resource in self.denied:
                return _status(403, "Forbidden", f'User "u" cannot list resource "{resource}"')
            return web.json_response({"items": self._objects.all(resource)})

        return answer


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return web.json_response(body, status=code)
