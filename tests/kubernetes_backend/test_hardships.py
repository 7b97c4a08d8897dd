"""API servers and kubelets that answer badly for a while, and credentials that must not be asked for too often."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web
from support.reports import report

from executor_api.backends.base import ConnectionLostError, SandboxFailedError
from executor_api.backends.kubernetes.client import ApiClient
from executor_api.backends.kubernetes.credentials import load
from executor_api.backends.kubernetes.errors import BusyError, KubernetesError
from executor_api.backends.kubernetes.metrics import NoMetrics
from executor_api.backends.kubernetes.remains import LOG_SECONDS
from executor_api.backends.kubernetes.settings import DispatchMode
from executor_api.errors import ConfigurationError
from executor_runner.protocol import podlog
from executor_runner.protocol.frames import FrameKind
from executor_runner.protocol.tokens import sandbox_token
from kubernetes_backend.fake_apiserver import JOBS, PODS, REVIEWS, status
from kubernetes_backend.world import MASTER_KEY, World, claim_of, ready, until

FORBIDDEN = 'jobs.batch is forbidden: User "u" cannot create resource "jobs"'


async def _client(world: World) -> ApiClient:
    return ApiClient(await load(str(world.kubeconfig()), "", {}), NoMetrics())


async def test_long_retry_after_does_not_outlast_patience(world: World) -> None:
    """A server that asks for a minute gets no minute from who can spare a third of it."""
    world.api.fail("GET", JOBS, lambda: status(429, "TooManyRequests", "slow down", Retry_After="60"), times=9)
    async with await _client(world) as client:
        began = time.monotonic()
        with pytest.raises(BusyError):
            await client.get(JOBS, patience=20)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "answer",
    [lambda: web.Response(text="<html>log in</html>"), lambda: web.Response(status=302, headers={"Location": "/"})],
    ids=["page", "redirect"],
)
async def test_something_else_than_an_api_server(world: World, answer: Callable[[], web.Response]) -> None:
    """A login page or a redirect in the API server's place is an error as any other, named in `health`."""
    backend = await world.started()
    for method in ("POST", "GET"):
        world.api.fail(method, "/", answer, times=10**6)
    await until(lambda: not backend.health().ready)
    assert not any("stumbled" in problem for problem in backend.health().problems)
    async with await _client(world) as client:
        with pytest.raises(KubernetesError):
            await client.get(JOBS, patience=0)


async def test_rights_that_nobody_may_ask_for_are_tried(world: World) -> None:
    """Where even asking for rights is forbidden, what counts is whether Jobs can be made."""
    world.api.fail("POST", REVIEWS, lambda: status(403, "Forbidden", "no reviews here"), times=10**6)
    await world.started()
    world.api.fail("POST", JOBS, lambda: status(403, "Forbidden", FORBIDDEN), times=10**6)
    refused = world.backend()
    await refused.start()
    await until(lambda: any("RBAC" in problem for problem in refused.health().problems))
    assert FORBIDDEN in refused.health().problems[0]


async def test_log_is_waited_for_while_the_kubelet_is_away(world: World) -> None:
    """A log that can't be had for some seconds is a copy of the result still."""
    sandbox = await ready(await world.started())
    token = sandbox_token(MASTER_KEY, "x-1")
    world.api.logs["x-1-abcde"] = b"out| before\n" + podlog.render_end(token, report("e-x-1", stdout_bytes=7))
    world.api.fail("GET", "/log", lambda: status(500, "InternalError", "dial tcp 10.0.0.1:10250: refused"), times=6)
    await world.end_pod("x-1")
    words = await sandbox.last_words()
    assert (words.source, words.report) == ("log", report("e-x-1", stdout_bytes=7))
    assert words.log is not None
    assert words.log.frames == [(FrameKind.STDOUT, b"before\n")]


async def test_log_that_is_not_there_is_not_waited_for(world: World) -> None:
    """Where the container is gone with its log, that is an answer, and the evidence is all there is."""
    sandbox = await ready(await world.started())
    world.api.fail("GET", "/log", lambda: status(400, "BadRequest", "container not found"), times=99)
    await world.end_pod("x-1", code=1)
    began = time.monotonic()
    assert (await sandbox.last_words()).source == "evidence"
    assert time.monotonic() - began < LOG_SECONDS


async def test_versions_that_are_gone_again_and_again(world: World) -> None:
    """An API server whose every watch is Gone at once is listed at a decent pace, not in a tight loop."""
    await world.started()
    await world.api.stop()
    world.api.objects.oldest = 10**9
    await world.api.start()
    await asyncio.sleep(3)  # the pace is what is looked at
    before = len(world.api.requests)
    await asyncio.sleep(3)
    listings = [path for _, path in world.api.requests[before:] if "/pods?" in path and "watch" not in path]
    assert len(listings) <= 6


async def test_api_servers_own_refusal_is_no_runner(world: World) -> None:
    """A 401 of the API server in front of a runner does not pass for the runner's answer."""
    sandbox = await ready(await world.started(DispatchMode.PROXY))
    world.api.fail("GET", PODS + "/x-1-abcde:8090/proxy", lambda: status(401, "Unauthorized", "Unauthorized"))
    with pytest.raises(ConnectionLostError):
        await sandbox.answers()  # type: ignore[attr-defined]


async def test_refused_credentials_are_read_again_once_for_all(world: World, tmp_path: Path) -> None:
    """Many requests that are refused at a time ask an exec plugin once, not one after the other."""
    plugin, asked, all_refused = tmp_path / "plugin", tmp_path / "asked", tmp_path / "all-refused"
    kind = "client.authentication.k8s.io/v1"
    answer = {"apiVersion": kind, "kind": "ExecCredential", "status": {"token": world.api.token}}
    wait = f"while [ $(wc -l < {asked}) -gt 1 ] && [ ! -e {all_refused} ]; do sleep 0.05; done"
    plugin.write_text(f"#!/bin/sh\necho asked >> {asked}\n{wait}\necho '{json.dumps(answer)}'\n")
    plugin.chmod(0o700)
    path = world.kubeconfig(user={"exec": {"apiVersion": kind, "command": str(plugin)}})
    async with ApiClient(await load(str(path), "", {}), NoMetrics()) as client:

        def refuse() -> web.Response:
            if world.api.faults[0].times == 0:
                all_refused.touch()
            return status(401, "Unauthorized", "Unauthorized")

        world.api.fail("GET", JOBS, refuse, times=20)
        await asyncio.gather(*(client.get(JOBS) for _ in range(20)))
    assert len(asked.read_text().splitlines()) <= 3


async def test_proxy_of_another_kind_is_named(world: World) -> None:
    """A SOCKS proxy in the kubeconfig is refused in a sentence that tells no password of it."""
    path = world.kubeconfig()
    path.write_text(path.read_text().replace("server:", "proxy-url: socks5://me:secret@proxy:1\n    server:"))
    with pytest.raises(ConfigurationError, match="http://") as raised:
        await load(str(path), "", {})
    assert "secret" not in str(raised.value)


async def test_policy_that_refuses_jobs_shows_at_start(world: World) -> None:
    """Admission that refuses the Job itself, a dry run aside, keeps the service from saying that it is ready."""
    denied = lambda: status(403, "Forbidden", "admission webhook denied the request")  # noqa: E731
    world.api.fail("POST", JOBS, denied, times=10**6)
    backend = world.backend()
    await backend.start()
    await until(lambda: any("refuses" in problem for problem in backend.health().problems))


async def test_quota_on_jobs_while_serving(world: World) -> None:
    """A quota that appears later ends calls as such, and the service stays ready."""
    backend = await world.started()
    full = lambda: status(403, "Forbidden", "jobs.batch is forbidden: exceeded quota: q")  # noqa: E731
    world.api.fail("POST", JOBS, full, times=10**6)
    with pytest.raises(SandboxFailedError) as raised:
        await backend.create("x-1", claim_of())
    assert raised.value.evidence.reason == "quota"
    assert backend.health().ready
