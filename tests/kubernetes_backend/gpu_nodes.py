"""A fake cluster of nodes with one GPU each, whose pods are real runners that ask a stand-in for NVIDIA's driver."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from support.nvml import Gpus

from executor_runner.protocol import POD_ENV, PORT
from kubernetes_backend.fake_apiserver import FakeApiServer
from kubernetes_backend.fake_objects import Object
from kubernetes_backend.world import World, pod_of


class GpuNodes(World):
    """Pods with a GPU go to a node that has none yet; the others are as in any world. ``nodes``: how many."""

    def __init__(self, tmp_path: Path, addresses: Callable[[], str], nodes: int) -> None:
        super().__init__(tmp_path, addresses)
        self._addresses, self._folder = addresses, tmp_path
        self.gpus = {f"gpu-{number}": Gpus(_made(tmp_path / f"gpu-{number}")) for number in range(nodes)}
        """By node, what its driver says."""
        self.pods: dict[str, RealPod] = {}
        """By Job."""
        self._pending: list[str] = []
        self._endings: set[asyncio.Task[None]] = set()

    async def play(self, api: FakeApiServer, job: Object) -> None:
        """Make the Job's pod; with a GPU it waits for a node."""
        if not _has_gpu(job["spec"]["template"]["spec"]):
            await super().play(api, job)
            return
        await api.objects.put("pods", pod_of(job))
        self._pending.append(job["metadata"]["name"])
        await self._schedule()

    async def close(self) -> None:
        """End everything, what waits for the end of runners first."""
        for task in self._endings:
            task.cancel()
        await asyncio.gather(*self._endings, return_exceptions=True)
        for pod in self.pods.values():
            await pod.close()
        await super().close()

    async def _schedule(self) -> None:
        for job in list(self._pending):
            stored = self.api.objects.get("pods", f"{job}-abcde")
            node = self._place(stored) if stored is not None else None
            if stored is None or node is not None:
                self._pending.remove(job)
            if stored is not None and node is not None:
                await self._run(job, stored, node)

    def _place(self, pod: Object) -> str | None:
        """The first node that is free and that the pod does not keep off; any free one, if it only prefers to."""
        taken = {pod.node for pod in self.pods.values() if pod.runs}
        free = [node for node in self.gpus if node not in taken]
        required, preferred = _kept_off(pod)
        allowed = [node for node in free if node not in required]
        return next((node for node in allowed if node not in preferred), next(iter(allowed), None))

    async def _run(self, job: str, pod: Object, node: str) -> None:
        env = {
            item["name"]: item.get("value") or pod["metadata"]["uid"] for item in pod["spec"]["containers"][0]["env"]
        }
        assert env[POD_ENV] == pod["metadata"]["uid"]
        real = self.pods[job] = RealPod(node, self._addresses(), _made(self._folder / "pods" / job))
        await real.start({**env, **self.gpus[node].environ})
        pod["fakeAddress"] = real.ip
        pod["spec"]["nodeName"] = node
        pod["status"].update(phase="Running", podIP=real.ip, podIPs=[{"ip": real.ip}], hostIP=self.node_ip)
        pod["status"]["containerStatuses"] = [{"name": "runner", "image": "i", "state": {"running": {}}}]
        await self.api.objects.put("pods", pod)
        self._endings.add(asyncio.create_task(self._end(job, real)))

    async def _end(self, job: str, real: RealPod) -> None:
        """As its kubelet tells of it, if it was not deleted before."""
        code = await real.ended()
        if self.api.objects.get("pods", f"{job}-abcde") is not None:
            ended = {"exitCode": code, "reason": "Completed", "message": real.last_words()}
            state = [{"name": "runner", "image": "i", "state": {"terminated": ended}}]
            await self.change_pod(job, phase="Failed" if code else "Succeeded", containerStatuses=state)
        await self._schedule()


class RealPod:
    """A runner's process, on an address of its own; its folder stands for its file system."""

    def __init__(self, node: str, ip: str, folder: Path) -> None:
        self.node, self.ip = node, ip
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._server: asyncio.Server | None = None
        self._port = 0

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process is None or self._process.returncode is None

    async def start(self, environ: dict[str, str]) -> None:
        """Let it run; it answers when it has looked at its GPU."""
        self._server = await asyncio.start_server(self._forward, self.ip, PORT)
        with contextlib.closing(await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)) as probe:
            self._port = probe.sockets[0].getsockname()[1]
        settings = {
            "EXECUTOR_PORT": str(self._port),
            "EXECUTOR_ROOT": str(self._folder / "root"),
            "EXECUTOR_TERMINATION_LOG": str(self._folder / "termination-log"),
        }
        with (self._folder / "log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "executor_runner"), env={**os.environ, **environ, **settings}, stdout=log
            )

    async def ended(self) -> int:
        """Its exit status, once it has one."""
        assert self._process is not None
        code = await self._process.wait()
        if self._server is not None:
            self._server.close()
        return code

    def last_words(self) -> str:
        """Its termination message."""
        path = self._folder / "termination-log"
        return path.read_text() if path.exists() else ""

    async def close(self) -> None:
        """Leave nothing."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        if self._server is not None:
            self._server.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()  # it does not listen yet, or any more
            return
        copies = [asyncio.create_task(_copy(*ends)) for ends in ((reader, there[1]), (there[0], writer))]
        await asyncio.wait(copies)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def _has_gpu(pod: Object) -> bool:
    return "nvidia.com/gpu" in pod["containers"][0]["resources"]["limits"]


def _kept_off(pod: Object) -> tuple[set[str], set[str]]:
    """Nodes where the pod must not run, and those where it had better not."""
    rules = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    required = rules.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", [])
    preferred = rules.get("preferredDuringSchedulingIgnoredDuringExecution", [])
    return _named(required), _named([rule["preference"] for rule in preferred])


def _named(terms: list[Object]) -> set[str]:
    fields = [field for term in terms for field in term.get("matchFields", ())]
    assert all((field["key"], field["operator"]) == ("metadata.name", "NotIn") for field in fields)
    return {node for field in fields for node in field["values"]}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
