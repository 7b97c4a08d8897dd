"""What is done to a service's pool and to the cluster under it: by an operator, by a node, by an outage."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs import JobWatch
    from pool import Pool
    from workloads import Steady

_STATE = "executor-api/state=waiting"
_JOB_NAME = "batch.kubernetes.io/job-name"
_QUIET_SECONDS = 2.0
"""Without new calls, after which a waiting Job is one that nobody has: a call that runs has marked its own by then."""
_NOTICE_SECONDS = 0.5
"""How long what was asked for before a change may take to show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What faults are made with. ``seconds``: how long those last that have an end."""

    space: Any
    pool: Pool
    jobs: JobWatch
    load: Steady
    size: int
    seconds: float
    service_pid: int
    templates: Path
    commands: Mapping[str, str]

    async def operate(self, what: str) -> None:
        """Run the command given for it. Raises ``RuntimeError`` if it fails."""
        process = await asyncio.create_subprocess_shell(self.commands[what])
        if code := await process.wait():
            raise RuntimeError(f"{self.commands[what]!r} ends with {code}")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. ``make`` returns when it is over, with the names of the Jobs whose sandboxes it spoilt.

    ``endings``: reasons for which a call may truthfully fail because of it, if it never ran. ``commands``: those that
    must have been given.
    """

    make: Callable[[Site], Awaitable[set[str]]]
    endings: frozenset[str] = frozenset()
    commands: tuple[str, ...] = ()


async def _nothing(site: Site) -> set[str]:
    await asyncio.sleep(site.seconds)
    return set()


async def _delete_idle_pods(site: Site) -> set[str]:
    """Half of the pool, as a person would. Calls go on as soon as the pods are told to end."""
    with site.load.held():
        await asyncio.sleep(_QUIET_SECONDS)
        return await asyncio.to_thread(_delete_pods, site.space, site.size // 2)


def _delete_pods(space: Any, count: int) -> set[str]:
    waiting = {job.metadata.name for job in space.batch.list_namespaced_job(space.name, label_selector=_STATE).items}
    pods = {pod.metadata.labels[_JOB_NAME]: pod for pod in space.pods() if pod.status.phase == "Running"}
    idle = sorted(waiting & pods.keys())[:count]
    if len(idle) < count:
        raise RuntimeError(f"only {len(idle)} idle pods to delete")
    for job in idle:
        space.delete_pod(pods[job].metadata.name)
    return set(idle)


def write_templates(path: Path, size: int, preload: list[str]) -> None:
    """A templates file whose ``default`` has a pool of that size."""
    path.write_text(json.dumps({"templates": [{"name": "default", "preload": preload, "pool": {"size": size}}]}))


async def _change_template(site: Site) -> set[str]:
    """As a rollout does: a file that differs, and SIGHUP. Every sandbox that waits is of no use any more."""
    before = (await site.pool.look())["digest"]
    gone = site.jobs.seen() - site.jobs.present()
    changed = "decimal" not in site.templates.read_text()
    write_templates(site.templates, site.size, ["decimal"] if changed else [])
    os.kill(site.service_pid, signal.SIGHUP)
    async with asyncio.timeout(site.seconds):
        while (await site.pool.look())["digest"] == before:  # noqa: ASYNC110 - nobody would set an event
            await asyncio.sleep(0.05)
    await asyncio.sleep(_NOTICE_SECONDS)
    return site.jobs.made_from(before) - gone


async def _cordon(site: Site) -> set[str]:
    """Every node that sandboxes are on."""
    nodes = {pod.spec.node_name for pod in site.space.pods() if pod.spec.node_name}
    async with _meanwhile(*(site.space.cordoned(node) for node in nodes)):
        await asyncio.sleep(site.seconds)
    return set()


async def _lower_quota(site: Site) -> set[str]:
    """To half as many pods as should wait."""
    async with _meanwhile(site.space.quota(pods=str(site.size // 2))):
        await asyncio.sleep(site.seconds)
    return set()


@contextlib.asynccontextmanager
async def _meanwhile(*states: contextlib.AbstractContextManager[None]) -> AsyncIterator[None]:
    """Enter and leave them in threads: they wait for the API server, and calls must not wait for them."""
    with contextlib.ExitStack() as stack:
        for state in states:
            await asyncio.to_thread(stack.enter_context, state)
        try:
            yield
        finally:
            await asyncio.to_thread(stack.close)


def _outage(begin: str, end: str, endings: frozenset[str]) -> Fault:
    """Something that one command takes away and another gives back."""

    async def make(site: Site) -> set[str]:
        await site.operate(begin)
        try:
            await asyncio.sleep(site.seconds)
        finally:
            await site.operate(end)
        return set()

    return Fault(make, endings, (begin, end))


_LATE = frozenset({"unschedulable", "start_timeout"})
FAULTS = {
    "none": Fault(_nothing),
    "idle-pods": Fault(_delete_idle_pods),
    "template": Fault(_change_template),
    "image": _outage("remove-image", "restore-image", _LATE | {"image_pull"}),
    "cordon": Fault(_cordon, _LATE),
    "quota": Fault(_lower_quota, _LATE | {"quota"}),
    "apiserver": _outage("stop-apiserver", "start-apiserver", _LATE),
    "kubelet": _outage("stop-kubelet", "start-kubelet", _LATE),
}
"""By name, in the order in which they are made; ``none`` shows what the load does by itself."""
COMMANDS = tuple(command for fault in FAULTS.values() for command in fault.commands)


def never_ran(answer: Mapping[str, Any], endings: frozenset[str]) -> bool:
    """Whether an answer truthfully says that its call could not run, for one of those reasons, and did not."""
    failed = answer.get("status") == "failed" and answer.get("reason") in endings
    untouched = answer.get("started_at") is None and not answer.get("stdout_bytes") and not answer.get("stderr_bytes")
    return failed and untouched
