"""`executor-api doctor` for a cluster: everything a call will need, looked at before there is one."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson

from executor_api.backends.base import Claim
from executor_api.backends.kubernetes import names, network_policy, quota, rehearsal
from executor_api.backends.kubernetes.checks import (
    ALWAYS,
    POOL,
    PROXY,
    Right,
    connection_problem,
    missing_rights,
    no_namespace,
)
from executor_api.backends.kubernetes.classify import by_rbac
from executor_api.backends.kubernetes.client import ApiClient
from executor_api.backends.kubernetes.credentials import Credentials, load
from executor_api.backends.kubernetes.dialer import Way
from executor_api.backends.kubernetes.errors import (
    ApiError,
    ForbiddenError,
    KubernetesError,
    MissingError,
    UnreachableError,
)
from executor_api.backends.kubernetes.job_factory import JobFactory, single_use
from executor_api.backends.kubernetes.job_template import Tree
from executor_api.backends.kubernetes.metrics import NoMetrics
from executor_api.backends.kubernetes.owner import Owner
from executor_api.backends.kubernetes.settings import DispatchMode, KubernetesSettings
from executor_api.backends.kubernetes.trial import try_images
from executor_api.domain.finding import Finding, Verdict, fail, ok, warn
from executor_api.domain.template import Template
from executor_api.errors import ConfigurationError, UnavailableError

SKEW_WARN_SECONDS, SKEW_FAIL_SECONDS = 2.0, 30.0
_TIMEOUT = aiohttp.ClientTimeout(total=10.0)
_PATIENCE_SECONDS = 2.0
_SERVER, _NAMESPACE, _SANDBOX = "API server", "namespace", "sandbox"
_TRIAL = {right for right in ALWAYS if right.resource in ("jobs", "pods") and right.verb != "patch"}
"""Without these a sandbox can't be tried, or would be left behind."""
_NAMED = {
    "runtimeClassName": ("runtime class", "/apis/node.k8s.io/v1/runtimeclasses"),
    "priorityClassName": ("priority class", "/apis/scheduling.k8s.io/v1/priorityclasses"),
    "serviceAccountName": ("service account", "/api/v1/namespaces/{namespace}/serviceaccounts"),
}
"""Objects that a pod names and that only the pod's own admission looks for."""

Tell = Callable[[Finding], None]


async def examine(
    settings: KubernetesSettings, environ: Mapping[str, str], templates: Iterable[Template], tell: Tell
) -> None:
    """Look at everything in turn, as far as what fails lets us; ``tell`` gets each finding at once.

    Sandboxes that are tried belong to no service: these settings get a name of their own.
    """
    own = replace(settings, owner=f"doctor {secrets.token_hex(8)}")
    try:
        credentials = await load(own.kubeconfig, own.context, environ)
    except ConfigurationError as error:
        tell(fail("credentials", str(error)))
        return
    tell(ok("credentials", f"from {credentials.source}"))
    async with ApiClient(credentials, NoMetrics()) as client:
        await _Examination(client, credentials, own, tuple(templates), tell).run()


class _Examination:
    """One round of checks over one connection."""

    def __init__(
        self,
        client: ApiClient,
        credentials: Credentials,
        settings: KubernetesSettings,
        templates: Sequence[Template],
        tell: Tell,
    ) -> None:
        self._client = client
        self._source = credentials.source
        self._settings = settings
        self._space = settings.namespace
        self._templates = templates
        self._tell = tell
        self._factory = JobFactory(settings)
        self._jobs: dict[str, Tree] = {}  # by template, of those that the cluster accepts
        self._missing: Sequence[Right] = ()

    async def run(self) -> None:
        """Check everything."""
        if not await self._take(_SERVER, self._server()) or not await self._take(_NAMESPACE, self._namespace()):
            return
        await self._take("RBAC", self._rights())
        if self._settings.owner_lease:
            await self._take("owner", self._owner())
        for template in self._templates:
            await self._take(f"template {template.name}", self._template(template))
        await self._take("quota", self._quota())
        await self._take("network", self._network())
        await self._take(_SANDBOX, self._sandboxes())

    async def _take(self, check: str, looking: Awaitable[Sequence[Finding]]) -> bool:
        """Tell what a check finds; whether nothing fails."""
        try:
            found = await looking
        except ForbiddenError as error:
            found = [warn(check, f"could not be checked ({error.message}); let somebody look who may")]
        except KubernetesError as error:
            found = [fail(check, connection_problem(self._client.host, self._source, error))]
        except (ConfigurationError, UnavailableError) as error:
            found = [fail(check, str(error))]
        for finding in found:
            self._tell(finding)
        return all(finding.verdict is not Verdict.FAIL for finding in found)

    async def _server(self) -> list[Finding]:
        began = time.time()
        async with self._client.open(
            "GET", "/version", headers={"Accept": "application/json"}, timeout=_TIMEOUT
        ) as response:
            ended = time.time()
            date, body = response.headers.get("Date"), await response.read()
        return [ok(_SERVER, f"{_version(body)} at {self._client.host}"), _clock(date, began, ended)]

    async def _namespace(self) -> list[Finding]:
        try:
            space = await self._client.get(f"/api/v1/namespaces/{self._space}", patience=_PATIENCE_SECONDS)
        except MissingError:
            return [fail(_NAMESPACE, no_namespace(self._space))]
        except ForbiddenError:
            return await self._namespace_by_trying()
        if (space.get("status") or {}).get("phase") == "Terminating":
            return [fail(_NAMESPACE, f"namespace {self._space} is being deleted; name another with --namespace")]
        return [ok(_NAMESPACE, f"{self._space} exists")]

    async def _namespace_by_trying(self) -> list[Finding]:
        """Without rights on namespaces, creating something in it tells."""
        try:
            await self._dry_run(self._job(Template(name="default")))
        except MissingError:
            return [fail(_NAMESPACE, no_namespace(self._space))]
        except ApiError:
            pass  # what else is wrong is found by the checks that follow
        return [ok(_NAMESPACE, f"{self._space} is there, as far as this service may see")]

    async def _rights(self) -> list[Finding]:
        proxied = PROXY if self._settings.dispatch is DispatchMode.PROXY else ()
        wanted = (*ALWAYS, *POOL, *proxied)
        self._missing = missing = await missing_rights(self._client, self._space, wanted)
        if not missing:
            return [ok("RBAC", f"allows the service all {len(wanted)} verbs it needs in namespace {self._space}")]
        return [_lacks(right, self._space) for right in missing]

    async def _owner(self) -> list[Finding]:
        """Without it the service makes nothing."""
        name = self._settings.owner_lease
        await Owner(self._space, name).find(self._client, self._source)
        return [ok("owner", f"Lease {name} owns what the service makes")]

    async def _template(self, template: Template) -> list[Finding]:
        check = f"template {template.name}"
        job = self._job(template)
        try:
            await self._dry_run(job)
        except ForbiddenError as error:
            if by_rbac(error):
                return []  # told among the rights
            return [
                fail(check, f"the API server refuses its Job ({error.message}); change that policy, or the template")
            ]
        except UnreachableError:
            raise
        except ApiError as error:
            return [fail(check, f"the API server refuses its Job ({error.message}); correct the template")]
        pod = job["spec"]["template"]["spec"]
        missing = [text for field in _NAMED if (name := pod.get(field)) for text in await self._absent(field, name)]
        if missing:
            return [fail(check, text) for text in missing]
        self._jobs[template.name] = job
        return [ok(check, "the API server accepts its Job")]

    async def _absent(self, field: str, name: str) -> list[str]:
        what, path = _NAMED[field]
        try:
            await self._client.get(f"{path.format(namespace=self._space)}/{name}", patience=_PATIENCE_SECONDS)
        except MissingError:
            return [f"there is no {what} {name}; create it, or correct the template"]
        except ForbiddenError:
            self._tell(
                warn(f"{what} {name}", f"could not be checked; see `kubectl get {what.replace(' ', '')} {name}`")
            )
        return []

    async def _quota(self) -> list[Finding]:
        wanted = [
            quota.Wanted(item.name, quota.demand(job["spec"]["template"]["spec"]), item.pool.largest)
            for item in self._templates
            if (job := self._jobs.get(item.name))
        ]
        return quota.judge(await self._list("/api/v1", "resourcequotas"), wanted) if wanted else []

    async def _network(self) -> list[Finding]:
        labels = [job["spec"]["template"]["metadata"]["labels"] for job in self._jobs.values()]
        policies = await self._list("/apis/networking.k8s.io/v1", "networkpolicies")
        return network_policy.judge(policies, labels, self._space) if labels else []

    async def _sandboxes(self) -> list[Finding]:
        if _TRIAL & set(self._missing):
            return [warn(_SANDBOX, "not tried: that takes the missing rights; add them first")]
        usable = [item for item in self._templates if item.name in self._jobs]
        found, way = await try_images(self._client, self._settings, self._factory, usable)
        if way is not Way.PROXY or self._settings.dispatch is DispatchMode.PROXY:
            return found
        missing = await missing_rights(self._client, self._space, PROXY)  # needed, as it turns out
        return [*found, *(_lacks(right, self._space) for right in missing)]

    async def _list(self, group: str, resource: str) -> list[Mapping[str, Any]]:
        path = f"{group}/namespaces/{self._space}/{resource}"
        found: list[Mapping[str, Any]] = (await self._client.get(path, patience=_PATIENCE_SECONDS))["items"]
        return found

    def _job(self, template: Template) -> Tree:
        """Raise `ConfigurationError` if its Job template can't be used."""
        name = f"doctor-{secrets.token_hex(4)}"
        return self._factory.for_call(name, Claim(rehearsal.EXECUTION, "", single_use(template)))

    async def _dry_run(self, job: Tree) -> None:
        await self._client.create(names.jobs_path(self._space), job, {"dryRun": "All"}, _PATIENCE_SECONDS)


def _version(body: bytes) -> str:
    try:
        return f"Kubernetes {orjson.loads(body)['gitVersion']}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise UnreachableError("what answers is no API server") from None


def _lacks(right: Right, namespace: str) -> Finding:
    text = f"the service may not {right} in namespace {namespace}"
    if right in POOL:
        return warn("RBAC", f"{text}, so that replicas can't share the work on pools; add it to its Role there")
    return fail("RBAC", f"{text}; add it to its Role there")


def _clock(date: str | None, began: float, ended: float) -> Finding:
    check = "clock"
    if date is None:
        return warn(check, "could not be compared: the API server's answer has no date; see that both use NTP")
    ahead = skew(parsedate_to_datetime(date).timestamp(), began, ended)
    if abs(ahead) <= SKEW_WARN_SECONDS:
        return ok(check, "agrees with the API server's")
    text = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the API server's; synchronise both by NTP"
    return (fail if abs(ahead) > SKEW_FAIL_SECONDS else warn)(check, text)


def skew(stamp: float, began: float, ended: float) -> float:
    """Seconds that our clock is ahead for certain: the stamp is cut to the second, and given between the other two."""
    if began > stamp + 1:
        return began - stamp - 1
    return min(0.0, ended - stamp)
