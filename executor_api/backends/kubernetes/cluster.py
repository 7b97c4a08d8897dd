"""The connected parts that every sandbox shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from executor_api.backends.base import SandboxFailedError
from executor_api.backends.kubernetes import names
from executor_api.backends.kubernetes.cache import JobCache, PodCache
from executor_api.backends.kubernetes.classify import Absent, refused
from executor_api.backends.kubernetes.client import PATIENCE_SECONDS, ApiClient
from executor_api.backends.kubernetes.dialer import Dialer
from executor_api.backends.kubernetes.errors import ConflictError, KubernetesError, MissingError
from executor_api.backends.kubernetes.snapshot import EventSnapshot, JobSnapshot, parse_events, parse_job
from executor_api.domain.outcome import Evidence, Reason
from executor_api.errors import ConfigurationError, UnavailableError

DELETE_PATIENCE_SECONDS = 30.0
"""Nobody waits for a deletion, and whatever it misses has to be collected as garbage."""
_PATIENCE_SECONDS = 2.0
"""Evidence is worth a short wait only: the call it belongs to has ended."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One namespace of one cluster. ``clock`` gives monotonic seconds."""

    client: ApiClient
    pods: PodCache
    jobs: JobCache
    dialer: Dialer
    namespace: str
    clock: Callable[[], float]

    async def job(self, name: str) -> JobSnapshot | Absent:
        """The Job as it is now. Never raises."""
        path = f"{names.jobs_path(self.namespace)}/{name}"
        try:
            return parse_job(await self.client.get(path, patience=_PATIENCE_SECONDS))
        except MissingError:
            return Absent.DELETED
        except (KubernetesError, ConfigurationError):
            return Absent.UNKNOWN

    async def events(self, kind: str, name: str) -> list[EventSnapshot]:
        """Events of one object, newest first; none if they can't be read. Asked for only when something is slow."""
        selector = f"involvedObject.kind={kind},involvedObject.name={name}"
        path = names.events_path(self.namespace)
        try:
            return parse_events(await self.client.get(path, {"fieldSelector": selector}, patience=0))
        except (KubernetesError, ConfigurationError):
            return []

    async def create_job(self, job: Mapping[str, Any], patience: float = PATIENCE_SECONDS) -> None:
        """Create a Job. Raises `SandboxFailedError` if it is refused, `UnavailableError` if nobody can be asked."""
        try:
            await self.client.create(names.jobs_path(self.namespace), job, patience=patience)
        except ConflictError:
            pass  # made before, by an attempt whose answer was lost
        except ConfigurationError as error:
            raise SandboxFailedError(Evidence(Reason.REJECTED_TEMPLATE, str(error))) from error
        except KubernetesError as error:
            evidence = refused(error)
            if evidence is not None:
                raise SandboxFailedError(evidence) from error
            raise UnavailableError(f"the Job can't be created now: {error}") from error

    async def patch_job(
        self, name: str, operations: Sequence[Mapping[str, Any]], patience: float = PATIENCE_SECONDS
    ) -> bool:
        """Apply a JSON patch; False if a test in it fails, the Job is gone or the API server can't be told in time."""
        try:
            await self.client.patch(f"{names.jobs_path(self.namespace)}/{name}", operations, patience)
        except (KubernetesError, ConfigurationError):
            return False
        return True

    async def delete_job(self, name: str) -> bool:
        """Delete a Job and its pod; False if the API server could not be told."""
        try:
            path = f"{names.jobs_path(self.namespace)}/{name}"
            await self.client.delete(path, DELETE_PATIENCE_SECONDS)
        except MissingError:
            return True
        except (KubernetesError, ConfigurationError):
            return False
        return True
