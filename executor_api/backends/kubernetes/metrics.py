"""What the backend tells whoever counts. `http.metrics` turns it into Prometheus metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

UNREACHABLE = "unreachable"
"""Stands for the status code of a request that got no answer."""
_VERBS = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}


class KubernetesMetrics(Protocol):
    """Receives what happens, as it happens. Called on the event loop: must not block, must not raise."""

    def api_request(self, verb: str, resource: str, code: str, seconds: float) -> None:
        """One attempt of a request was answered, or not; ``seconds`` until the answer began."""

    def watch_restarted(self, resource: str, reason: str) -> None:
        """A watch ended and is opened again: ``closed`` by the server, ``cut``, ``gone`` or ``error``."""

    def informer_event(self, resource: str, objects: int) -> None:
        """The watch said something, if only that it lives; so many objects are known."""

    def runner_answered(self, way: str) -> None:
        """A request to a runner was answered, by this way."""


class NoMetrics:
    """Counts nothing."""

    def api_request(self, verb: str, resource: str, code: str, seconds: float) -> None:
        """Ignore it."""

    def watch_restarted(self, resource: str, reason: str) -> None:
        """Ignore it."""

    def informer_event(self, resource: str, objects: int) -> None:
        """Ignore it."""

    def runner_answered(self, way: str) -> None:
        """Ignore it."""


def described(method: str, path: str, params: Mapping[str, str] | None) -> tuple[str, str]:
    """Verb and resource of a request as RBAC names them, without the names of objects."""
    parts = path.strip("/").split("/")
    parts = parts[2 if parts[0] == "api" else 3 :] or parts  # what is no object, like /version, is called by its path
    if parts[0] == "namespaces":
        parts = parts[2:] or parts
    resource, *below = parts
    if len(below) > 1:
        resource = f"{resource}/{below[1]}"
    if method != "GET":
        return _VERBS[method], resource
    if params and params.get("watch") == "true":
        return "watch", resource
    return ("get" if below else "list"), resource
