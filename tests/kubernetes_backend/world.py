"""A backend against a fake API server whose pods are fake runners on loopback addresses of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from prometheus_client import CollectorRegistry

from executor_api.backends.base import Claim, Sandbox
from executor_api.backends.kubernetes import names
from executor_api.backends.kubernetes.backend import KubernetesBackend
from executor_api.backends.kubernetes.settings import DispatchMode, KubernetesSettings
from executor_api.domain.plan import Plan, plan
from executor_api.domain.request import ExecutionRequest
from executor_api.domain.template import Template
from executor_api.http.cluster_metrics import ClusterMetrics
from executor_runner.protocol import PORT, TOKEN_HASH_ENV
from kubernetes_backend.fake_apiserver import NAMESPACE, FakeApiServer
from kubernetes_backend.fake_objects import Object
from kubernetes_backend.fake_runner import FakeRunner

MASTER_KEY = b"k" * 32
READY_SECONDS = 60


class World:
    """A fake cluster: makes pods for Jobs and runners for pods, and lets a test disturb both."""

    def __init__(self, tmp_path: Path, addresses: Callable[[], str]) -> None:
        self.api = FakeApiServer(self.play)
        self.runners: dict[str, FakeRunner] = {}
        self.registry = CollectorRegistry()
        """What backends count."""
        self._metrics = ClusterMetrics(self.registry)
        self.running = True
        """Whether new pods get to run."""
        self.pool_running = True
        """Whether those of the pool do."""
        self.walled = True
        """Whether the network keeps pods from connecting to anything."""
        self.entered = False
        """Whether the network lets pods be connected to at any port."""
        self.node = "node-1"
        """Where new pods run."""
        self.node_ip = "192.0.2.1"
        """The address of the pods' node."""
        self.tells = True
        """Whether what was tried of the network is told."""
        self.answer = ""
        """What pods say of the network whatever they found."""
        self.pod_ip: str | None = None
        """The address that pods claim to have; None: the one where their runner listens."""
        self.boot_seconds = 0.0
        """How long a runner needs to listen after its container runs."""
        self._booting: list[asyncio.Task[None]] = []
        self._addresses = addresses
        self._tmp_path = tmp_path
        self._backends: list[KubernetesBackend] = []
        self.strangers_requests: list[tuple[str, dict[str, str]]] = []
        self._strangers: list[web.ServerRunner] = []

    async def play(self, api: FakeApiServer, job: Object) -> None:
        """Make the Job's pod and let it run."""
        pod = pod_of(job)
        await api.objects.put("pods", pod)
        pooled = job["metadata"]["labels"][names.STATE] == "waiting"
        if self.pool_running if pooled else self.running:
            await self.run_pod(job["metadata"]["name"])

    async def play_missing_image(self, api: FakeApiServer, job: Object) -> None:
        """Make the Job's pod, whose image can't be pulled."""
        pod = pod_of(job)
        waiting = {"reason": "ErrImagePull", "message": "manifest unknown"}
        pod["status"]["containerStatuses"] = [{"name": "runner", "state": {"waiting": waiting}}]
        await api.objects.put("pods", pod)

    async def run_pod(self, job: str) -> FakeRunner:
        """Start a runner and let the pod show it."""
        pod = await self.pod(job)
        env = {item["name"]: item.get("value") for item in pod["spec"]["containers"][0]["env"]}
        runner = FakeRunner(self._addresses(), env[TOKEN_HASH_ENV], pod["metadata"]["uid"])
        runner.walled, runner.elsewhere, runner.tells = self.walled, self.pod_ip is not None, self.tells
        runner.answer, runner.entered = self.answer, self.entered
        if self.boot_seconds:
            self._booting.append(asyncio.create_task(self._boot(runner)))
        else:
            await runner.start()
        self.runners[job] = runner
        pod["fakeAddress"] = runner.ip
        pod["spec"]["nodeName"] = self.node
        ip = self.pod_ip or runner.ip
        pod["status"].update(phase="Running", podIP=ip, podIPs=[{"ip": ip}], hostIP=self.node_ip)
        pod["status"]["containerStatuses"] = [{"name": "runner", "image": "i", "state": {"running": {}}}]
        await self.api.objects.put("pods", pod)
        return runner

    async def _boot(self, runner: FakeRunner) -> None:
        await asyncio.sleep(self.boot_seconds)
        await runner.start()

    async def stranger(self) -> str:
        """Another web server on the runners' port; returns its address."""

        async def answer(request: web.BaseRequest) -> web.Response:
            self.strangers_requests.append((request.method, dict(request.headers)))
            return web.Response(status=404)

        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        address = self._addresses()
        await web.TCPSite(runner, address, PORT).start()
        self._strangers.append(runner)
        return address

    async def pod(self, job: str) -> Object:
        """The Job's pod as it is stored; it is made a moment after the Job."""
        stored = self.api.objects
        await until(lambda: stored.get("pods", f"{job}-abcde") is not None)
        found = stored.get("pods", f"{job}-abcde")
        assert found is not None
        return found

    async def change_pod(self, job: str, **fields: Any) -> None:
        """Set fields of its status; ``metadata`` goes to the metadata."""
        pod = await self.pod(job)
        pod["metadata"].update(fields.pop("metadata", {}))
        pod["status"].update(fields)
        await self.api.objects.put("pods", pod)

    async def end_pod(self, job: str, message: str = "", reason: str = "Completed", code: int = 0) -> None:
        """Stop its runner and show the container as terminated."""
        await self.runners[job].stop()
        ended = {"exitCode": code, "reason": reason, "message": message}
        state = [{"name": "runner", "image": "i", "state": {"terminated": ended}}]
        await self.change_pod(job, phase="Failed" if code else "Succeeded", containerStatuses=state)

    def kubeconfig(self, user: Mapping[str, Any] | None = None) -> Path:
        """A kubeconfig that leads here."""
        path = self._tmp_path / "kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
            "clusters": [{"name": "fake", "cluster": {"server": self.api.url}}],
            "users": [{"name": "fake", "user": dict(user) if user else {"token": self.api.token}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def backend(
        self,
        mode: DispatchMode = DispatchMode.AUTO,
        user: Mapping[str, Any] | None = None,
        owner: str = "",
        max_cold_starts: int = 16,
        *,
        require_network_policy: bool = False,
    ) -> KubernetesBackend:
        """A backend for this cluster, not started."""
        settings = KubernetesSettings(
            master_key=MASTER_KEY,
            owner=owner,
            namespace=NAMESPACE,
            image="sandbox:1",
            kubeconfig=str(self.kubeconfig(user)),
            dispatch=mode,
            max_cold_starts=max_cold_starts,
            require_network_policy=require_network_policy,
        )
        backend = KubernetesBackend(settings, {}, check_seconds=0.5, metrics=self._metrics)
        self._backends.append(backend)
        return backend

    async def pooled(self, *templates: Template, owner: str = "", max_cold_starts: int = 16) -> KubernetesBackend:
        """A backend whose pools are full, unless pods don't get to run."""
        backend = self.backend(owner=owner, max_cold_starts=max_cold_starts)
        backend.use_templates({item.name: item for item in (Template(name="default"), *templates)})
        await self.serving(backend)
        if self.pool_running:
            await until(lambda: all(pool.ready >= pool.desired for pool in backend.pools()))
        return backend

    def waiting(self, state: str = "waiting") -> list[str]:
        """Names of the Jobs in the pool, or of those in another state."""
        jobs = self.api.objects.all("jobs")
        return [job["metadata"]["name"] for job in jobs if job["metadata"]["labels"][names.STATE] == state]

    async def started(self, mode: DispatchMode = DispatchMode.AUTO, owner: str = "") -> KubernetesBackend:
        """A backend that says it is ready."""
        backend = self.backend(mode, owner=owner)
        await self.serving(backend)
        return backend

    async def serving(self, backend: KubernetesBackend) -> None:
        """Start it; once it is ready, and has tried the network, nothing but calls make sandboxes."""
        await backend.start()
        await until(lambda: backend.health().ready)
        if self.running:
            await until(lambda: any("network policies" in note for note in backend.health().notes))
            await until(lambda: not any(job.startswith("probe-") for job in self.jobs()))

    def jobs(self) -> list[str]:
        """Names of all Jobs."""
        return [job["metadata"]["name"] for job in self.api.objects.all("jobs")]

    async def close(self) -> None:
        """End everything."""
        for backend in self._backends:
            await backend.stop()
        await asyncio.gather(*self._booting)
        for runner in self.runners.values():
            await runner.stop()
        for stranger in self._strangers:
            await stranger.cleanup()
        await self.api.end()


def pod_of(job: Object) -> Object:
    """The pod the Job controller makes."""
    name = job["metadata"]["name"]
    labels = {**job["spec"]["template"]["metadata"]["labels"], "batch.kubernetes.io/job-name": name}
    spec = dict(job["spec"]["template"]["spec"])
    return {"metadata": {"name": f"{name}-abcde", "labels": labels}, "spec": spec, "status": {"phase": "Pending"}}


def plan_of(**template: Any) -> Plan:
    """A plan for a small call."""
    request = ExecutionRequest(code="print(1)")
    return plan(request, {"default": Template(name="default", **template)})


def claim_of(**template: Any) -> Claim:
    """The claim of a small call."""
    return Claim("e-1", "t", plan_of(**template))


async def until(condition: Callable[[], object], seconds: float = READY_SECONDS) -> None:
    """Wait for something that no event tells."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition is about the outside, nobody could set an event
            await asyncio.sleep(0.01)


async def arrived() -> None:
    """Let the loop take turns, so that what is on its way between two ends in this process has come."""
    for _ in range(20):
        await asyncio.sleep(0)


async def ready(backend: KubernetesBackend, name: str = "x-1", **template: Any) -> Sandbox:
    """A sandbox that can be dialled."""
    sandbox = await backend.create(name, Claim(f"e-{name}", "t", plan_of(**template)))
    await sandbox.ready()
    return sandbox


async def read(source: AsyncIterator[bytes]) -> bytes:
    """All that a connection brings."""
    return b"".join([data async for data in source])
