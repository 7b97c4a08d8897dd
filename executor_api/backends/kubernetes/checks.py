"""What an operator has to mend: each problem of the way to the cluster as one sentence that says the fix."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from executor_api.backends.kubernetes import names
from executor_api.backends.kubernetes.classify import by_rbac
from executor_api.backends.kubernetes.client import ApiClient
from executor_api.backends.kubernetes.errors import (
    ForbiddenError,
    KubernetesError,
    MissingError,
    UnauthorizedError,
    UnreachableError,
)
from executor_api.backends.kubernetes.job_template import Tree

_PATIENCE_SECONDS = 2.0
"""A check is repeated anyway, and what is wrong should show soon; a busy API server asks for a second, though."""
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one resource."""

    group: str
    resource: str
    verb: str
    subresource: str = ""

    def __str__(self) -> str:
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {resource}{'/' if self.subresource else ''}{self.subresource}"


ALWAYS = (
    *(Right("batch", "jobs", verb) for verb in ("create", "get", "list", "watch", "patch", "delete")),
    *(Right("", "pods", verb) for verb in ("list", "watch")),
    Right("", "pods", "get", "log"),
    Right("", "events", "list"),
)
POOL = tuple(Right("coordination.k8s.io", "leases", verb) for verb in ("get", "create", "update"))
"""Of a service with replicas: without them each keeps the pools as if it were alone."""
PROXY = tuple(Right("", "pods", verb, "proxy") for verb in ("create", "get", "delete"))


async def problems(client: ApiClient, namespace: str, source: str, rights: Sequence[Right], sample: Tree) -> list[str]:
    """Look for everything that would make calls fail. ``sample`` is a Job that is tried, not made."""
    try:
        missing = await missing_rights(client, namespace, rights)
        if ALWAYS[0] in missing:
            return _rights_problem(missing, namespace)
        return [*_rights_problem(missing, namespace), *await _creation_problem(client, namespace, sample)]
    except KubernetesError as error:
        return [connection_problem(client.host, source, error)]


def connection_problem(host: str, source: str, error: KubernetesError) -> str:
    """One sentence for an API server that can't be asked."""
    if isinstance(error, UnauthorizedError):
        return f"the API server at {host} does not accept the credentials of {source} (401); renew them"
    if isinstance(error.__cause__, aiohttp.ClientSSLError):
        return f"the TLS connection to {host} fails ({error}); correct the certificate authority in {source}"
    if isinstance(error, UnreachableError):
        return f"the API server can't be reached ({error}); start it, or correct the address in {source}"
    return f"the API server at {host} does not serve ({error}); see its log"


def no_namespace(namespace: str) -> str:
    """One sentence for a namespace that is not there."""
    return f"namespace {namespace} does not exist; create it, or name another with --namespace"


async def missing_rights(client: ApiClient, namespace: str, rights: Sequence[Right]) -> list[Right]:
    """Those that RBAC does not give us. Raises `KubernetesError`."""
    allowed = await asyncio.gather(*(_is_allowed(client, namespace, right) for right in rights))
    return [right for right, yes in zip(rights, allowed, strict=True) if not yes]


async def _is_allowed(client: ApiClient, namespace: str, right: Right) -> bool:
    attributes = {
        "namespace": namespace,
        "group": right.group,
        "resource": right.resource,
        "subresource": right.subresource,
        "verb": right.verb,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    try:
        answer = await client.create(_REVIEWS, review, patience=_PATIENCE_SECONDS)
    except ForbiddenError:
        return True  # who may not even ask may still be allowed; trying tells
    return bool(answer["status"]["allowed"])


def _rights_problem(missing: Sequence[Right], namespace: str) -> list[str]:
    if not missing:
        return []
    what = ", ".join(str(right) for right in missing)
    return [f"RBAC does not allow the service to {what} in namespace {namespace}; add that to its Role there"]


async def _creation_problem(client: ApiClient, namespace: str, sample: Tree) -> list[str]:
    """Only trying to create something there tells whether a namespace exists without rights on namespaces."""
    try:
        await client.create(names.jobs_path(namespace), sample, {"dryRun": "All"}, _PATIENCE_SECONDS)
    except MissingError:
        return [no_namespace(namespace)]
    except ForbiddenError as error:
        if "being terminated" in error.message:
            return [f"namespace {namespace} is being deleted; name another with --namespace"]
        if by_rbac(error):
            return [f"RBAC does not allow the service to create Jobs ({error.message}); add that to its Role"]
    except UnreachableError:
        raise
    except KubernetesError:
        return []  # about this one Job, which a call will tell better
    return []
