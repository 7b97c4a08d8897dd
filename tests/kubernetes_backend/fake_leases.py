"""Leases of the fake API server: a change is accepted to the version that is there, and to no other."""

from __future__ import annotations

import asyncio

from aiohttp import web

from kubernetes_backend.fake_objects import Object, Objects


class FakeLeases:
    """The Leases of one namespace; ``denied`` verbs get 403, changes by ``mute`` holders no answer at all."""

    def __init__(self, objects: Objects, namespace: str) -> None:
        self.denied: set[str] = set()
        self.mute: set[str] = set()
        self._objects = objects
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"

    def routes(self) -> list[web.RouteDef]:
        """For the fake's router."""
        return [
            web.post(self._path, self._create),
            web.get(self._path + "/{name}", self._get),
            web.put(self._path + "/{name}", self._replace),
        ]

    async def _create(self, request: web.Request) -> web.Response:
        lease = await request.json()
        name = lease["metadata"]["name"]
        if "create" in self.denied:
            return _forbidden("create")
        if self._objects.get("leases", name):
            return _status(409, "AlreadyExists", f'leases "{name}" already exists')
        return web.json_response(await self._objects.put("leases", lease), status=201)

    async def _get(self, request: web.Request) -> web.Response:
        if "get" in self.denied:
            return _forbidden("get")
        lease = self._objects.get("leases", request.match_info["name"])
        return web.json_response(lease) if lease else _status(404, "NotFound", "not found")

    async def _replace(self, request: web.Request) -> web.Response:
        lease: Object = await request.json()
        if lease["spec"]["holderIdentity"] in self.mute:
            await asyncio.Event().wait()
        if "update" in self.denied:
            return _forbidden("update")
        stored = self._objects.get("leases", request.match_info["name"])
        if stored is None:
            return _status(404, "NotFound", "not found")
        if stored["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"]:
            return _status(409, "Conflict", "the object has been modified")
        return web.json_response(await self._objects.put("leases", lease))


def _forbidden(verb: str) -> web.Response:
    return _status(403, "Forbidden", f'User "u" cannot {verb} resource "leases"')


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return web.json_response(body, status=code)
