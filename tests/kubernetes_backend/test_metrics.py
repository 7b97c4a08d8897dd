"""What Prometheus gets to see of the way to the cluster."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from executor_api.backends.kubernetes.metrics import described
from executor_api.backends.kubernetes.settings import DispatchMode
from kubernetes_backend.fake_apiserver import PODS, status
from kubernetes_backend.world import World, read, ready, until


def _samples(world: World) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(generate_latest(world.registry).decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def _value(world: World, name: str, **labels: str) -> float:
    return _samples(world).get((f"executor_{name}", frozenset(labels.items())), 0)


def _restarts(world: World, reason: str) -> float:
    return _value(world, "watch_restarts_total", resource="pods", reason=reason)


@pytest.mark.parametrize(
    ("method", "path", "params", "expected"),
    [
        ("GET", "/api/v1/namespaces/n/pods", None, ("list", "pods")),
        ("GET", "/api/v1/namespaces/n/pods", {"watch": "true"}, ("watch", "pods")),
        ("GET", "/api/v1/namespaces/n/pods/x-1/log", {}, ("get", "pods/log")),
        ("POST", "/api/v1/namespaces/n/pods/x-1:8090/proxy/v1/call", None, ("create", "pods/proxy")),
        ("GET", "/apis/batch/v1/namespaces/n/jobs/x-1", None, ("get", "jobs")),
        ("DELETE", "/apis/batch/v1/namespaces/n/jobs/x-1", None, ("delete", "jobs")),
        ("POST", "/apis/a.k8s.io/v1/selfsubjectaccessreviews", None, ("create", "selfsubjectaccessreviews")),
    ],
)
def test_requests_are_named_as_in_rbac(
    method: str, path: str, params: dict[str, str] | None, expected: tuple[str, str]
) -> None:
    """Verb and resource, and never the name of an object."""
    assert described(method, path, params) == expected


async def test_requests_are_counted_by_their_answers(world: World) -> None:
    """Each attempt counts with its code and its duration; requests to runners count by the way they took."""
    backend = await world.started(DispatchMode.PROXY)
    before = _value(world, "kube_api_requests_total", verb="create", resource="pods/proxy", code="200")
    world.api.fail("POST", "/jobs", lambda: status(503, "ServiceUnavailable", "not yet"))
    sandbox = await ready(backend)
    reading = asyncio.create_task(read(sandbox.dispatch(b"{}")))
    await world.runners["x-1"].claimed.wait()
    await world.runners["x-1"].finish()
    await reading
    assert _value(world, "kube_api_requests_total", verb="create", resource="jobs", code="503") == 1
    assert _value(world, "kube_api_requests_total", verb="create", resource="jobs", code="201") >= 2
    assert _value(world, "kube_api_requests_total", verb="create", resource="pods/proxy", code="200") > before
    assert _value(world, "kube_api_request_duration_seconds_count", verb="create", resource="pods/proxy") >= 1
    assert _value(world, "runner_requests_total", way="API server's proxy") >= 1
    assert _value(world, "runner_requests_total", way="pod IP") == 0


async def test_api_server_that_is_away_is_counted(world: World) -> None:
    """A request that nobody answers has no code, but counts."""
    await world.started()
    await world.api.stop()
    await until(lambda: _value(world, "kube_api_requests_total", verb="watch", resource="pods", code="unreachable"))


async def test_restarts_of_the_watch_are_counted_by_reason(world: World) -> None:
    """A cut watch, a version that is gone and a listing that fails are told apart."""
    await world.started()
    world.api.cut_watches()
    await until(lambda: _restarts(world, "cut"))
    await world.api.stop()
    world.api.objects.version += 1
    world.api.objects.compact()
    world.api.fail("GET", PODS + "?labelSelector", lambda: web.Response(status=500))
    await world.api.start()
    await until(lambda: _restarts(world, "gone") and _restarts(world, "error"))


async def test_informer_tells_its_age_and_its_size(world: World) -> None:
    """The age is that of the last word of the watch, bookmarks included; the size is that of what is there."""
    backend = await world.started()
    sandboxes = [await ready(backend, name) for name in ("x-1", "x-2")]
    await until(lambda: _value(world, "informer_objects", resource="pods") == 2)
    await sandboxes[0].release()
    await until(lambda: _value(world, "informer_objects", resource="pods") == 1)
    await until(lambda: _value(world, "informer_last_event_age_seconds", resource="pods") < 5)
