"""A real sandbox of each kind, tried by `executor-api doctor`: does it start, which ways lead to its runner."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from executor_api.backends.base import ConnectionLostError, SandboxFailedError
from executor_api.backends.kubernetes import names, rehearsal
from executor_api.backends.kubernetes.asking import runner_answers
from executor_api.backends.kubernetes.cache import JobCache, PodCache
from executor_api.backends.kubernetes.client import ApiClient
from executor_api.backends.kubernetes.cluster import Cluster
from executor_api.backends.kubernetes.dialer import Dialer, Way
from executor_api.backends.kubernetes.enforcement import finding
from executor_api.backends.kubernetes.images import ImageHealth
from executor_api.backends.kubernetes.job_factory import JobFactory
from executor_api.backends.kubernetes.metrics import NoMetrics
from executor_api.backends.kubernetes.network_probe import Places, examine, probe_claim
from executor_api.backends.kubernetes.sandbox import Identity, KubernetesSandbox
from executor_api.backends.kubernetes.settings import DispatchMode, KubernetesSettings
from executor_api.backends.kubernetes.watch import Collection, watch_forever
from executor_api.domain.finding import Finding, fail, ok
from executor_api.domain.outcome import Reason
from executor_api.domain.template import Template

START_SECONDS = 60.0
"""What has not started by then is told as it stands, whatever the template allows."""
_FIXES = {
    Reason.QUOTA: "raise the quota, or lower the template's resources",
    Reason.UNSCHEDULABLE: "make room on the nodes, or correct the template's resources, node selector or tolerations",
    Reason.REJECTED_TEMPLATE: "change the cluster's policy, or the template",
}
_MODES = {Way.POD_IP: DispatchMode.POD_IP, Way.PROXY: DispatchMode.PROXY}
_FORCED = {mode: way for way, mode in _MODES.items()}

Ways = Mapping[Way, str]
"""Why each way does not lead to a runner; empty text: it does."""


@dataclass(frozen=True, slots=True)
class _Tried:
    """One image: how long its sandbox took to start, and what was found out then. ``network``: if it was tried."""

    seconds: float
    ways: Ways
    network: Finding | None


async def try_images(
    client: ApiClient, settings: KubernetesSettings, factory: JobFactory, templates: Iterable[Template]
) -> tuple[list[Finding], Way | None]:
    """One sandbox of each kind that templates ask for, one after the other, each removed again.

    The first that starts shows, too, whether network policies hold it.

    Returns the way to runners that is used, too, if one was found. Raises `UnavailableError`.
    """
    first: dict[str, Template] = {}
    for template in templates:
        first.setdefault(_kind(factory, template), template)
    found, used = [], None
    async with _connected(client, settings) as cluster:
        for kind, template in first.items():
            tried = await _try(cluster, factory, template, settings if used is None else None)
            found.append(_image(factory.image(template), kind, tried))
            if isinstance(tried, _Tried) and used is None:
                used = _used(tried.ways, settings.dispatch)
                found += [_reach(tried.ways, used), *([tried.network] if tried.network else [])]
    return found, used


def _kind(factory: JobFactory, template: Template) -> str:
    """What decides whether a sandbox starts, beside its size: image, runtime and user namespace."""
    runtime = f" with runtime class {template.runtime_class}" if template.runtime_class else ""
    return factory.image(template) + runtime + (" in a user namespace" if template.host_users is False else "")


@asynccontextmanager
async def _connected(client: ApiClient, settings: KubernetesSettings) -> AsyncIterator[Cluster]:
    clock, namespace = time.monotonic, settings.namespace
    pods, jobs = PodCache(clock, lambda _count: None), JobCache(clock, lambda _count: None)
    path, selector = names.pods_path(namespace), names.selector(settings.service_id)
    watch = watch_forever(Collection(client, path, selector, random.random, lambda _why: None))
    async with Dialer(client, namespace, settings.dispatch, NoMetrics()) as dialer:
        following = asyncio.create_task(pods.follow(watch))
        try:
            yield Cluster(client, pods, jobs, dialer, namespace, clock)
        finally:
            following.cancel()
            await asyncio.wait({following})


async def _try(
    cluster: Cluster, factory: JobFactory, template: Template, settings: KubernetesSettings | None
) -> _Tried | SandboxFailedError:
    """``settings``: given where the network is to be tried, too."""
    name = f"doctor-{secrets.token_hex(4)}"
    began = cluster.clock()
    try:
        await cluster.create_job(factory.for_call(name, probe_claim(template)))
        sandbox = KubernetesSandbox(cluster, _identity(name, factory, template, began), ImageHealth())
        await sandbox.ready()
        seconds, ways = cluster.clock() - began, await _ways(cluster, name)
        network = (
            None
            if settings is None or all(ways.values())
            else await _network(cluster.client, sandbox, template, settings)
        )
        return _Tried(seconds, ways, network)
    except SandboxFailedError as error:
        return error
    finally:
        await cluster.delete_job(name)


def _identity(name: str, factory: JobFactory, template: Template, began: float) -> Identity:
    return Identity(
        job=name,
        execution_id=rehearsal.EXECUTION,
        token=factory.token(name),
        image=factory.image(template),
        created=began,
        deadline=began + min(template.start_seconds, START_SECONDS),
        keep_finished=False,
    )


async def _network(
    client: ApiClient, sandbox: KubernetesSandbox, template: Template, settings: KubernetesSettings
) -> Finding:
    places = Places(settings.namespace, settings.port, client.host if client.in_cluster else "")
    return finding(await examine(sandbox, template, places), required=settings.require_network_policy)


async def _ways(cluster: Cluster, job: str) -> Ways:
    found = {}
    for way, mode in _MODES.items():
        async with Dialer(cluster.client, cluster.namespace, mode, NoMetrics()) as dialer:
            try:
                await runner_answers(replace(cluster, dialer=dialer), job)
                found[way] = ""
            except ConnectionLostError as error:
                found[way] = str(error)
    return found


def _image(image: str, kind: str, tried: _Tried | SandboxFailedError) -> Finding:
    check = "image"
    if isinstance(tried, SandboxFailedError):
        return fail(check, _failure(image, kind, tried))
    if all(tried.ways.values()):
        return fail(
            check, f"no runner answers in a sandbox of {kind}; see `reachability`, or use an image that has the runner"
        )
    return ok(check, f"a sandbox of {kind} started in {tried.seconds:.1f} s and its runner answers")


def _failure(image: str, kind: str, error: SandboxFailedError) -> str:
    if error.evidence.reason is Reason.IMAGE_PULL:
        images = ImageHealth()
        images.failed(image, error.evidence.message)
        return images.problem(image) or ""
    fix = _FIXES.get(error.evidence.reason, "see the events of its namespace")
    return f"a sandbox of {kind} did not start ({error}); {fix}"


def _used(ways: Ways, mode: DispatchMode) -> Way:
    return _FORCED.get(mode) or (Way.PROXY if ways[Way.POD_IP] else Way.POD_IP)


def _reach(ways: Ways, used: Way) -> Finding:
    """Whether the way that is used leads to runners, and whether the other would."""
    check = "reachability"
    other = Way.PROXY if used is Way.POD_IP else Way.POD_IP
    if not ways[used]:
        rest = f"does not ({ways[other]})" if ways[other] else "works too"
        return ok(check, f"the {used} leads to runners and is used; the {other} {rest}")
    if not ways[other]:
        return fail(
            check, f"the {used} does not lead to runners ({ways[used]}) but the {other} does; use --dispatch auto"
        )
    return fail(
        check,
        f"neither the {used} ({ways[used]}) nor the {other} ({ways[other]}) leads to runners; allow this service "
        "to their port 8090, or give it the rights on pods/proxy",
    )
