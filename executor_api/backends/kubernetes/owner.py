"""The Lease that owns what this service makes in its namespace: once it is deleted, the cluster deletes all of it.

That holds without anybody's help, for a service that is gone, and for what one still makes while it stops. A Lease,
because the service may read Leases anyway.
"""

from __future__ import annotations

from executor_api.backends.kubernetes.checks import connection_problem
from executor_api.backends.kubernetes.client import ApiClient
from executor_api.backends.kubernetes.errors import ForbiddenError, KubernetesError, MissingError
from executor_api.backends.kubernetes.job_template import Tree
from executor_api.backends.kubernetes.leader import leases_path
from executor_api.errors import ConfigurationError

_PATIENCE_SECONDS = 2.0


class Owner:
    """Marks things as owned by the Lease of this name; with an empty name, by nothing."""

    def __init__(self, namespace: str, name: str) -> None:
        self._namespace = namespace
        self._name = name
        self._uid = ""

    async def find(self, client: ApiClient, source: str) -> None:
        """Look who the Lease is now: another one of its name owns nothing of what the first did.

        ``source`` says whose the credentials are. Raises `ConfigurationError`.
        """
        if not self._name:
            return
        try:
            lease = await client.get(f"{leases_path(self._namespace)}/{self._name}", patience=_PATIENCE_SECONDS)
        except MissingError:
            raise ConfigurationError(
                f"there is no Lease {self._name} in namespace {self._namespace} to own the sandboxes; "
                "create it, or leave --owner-lease out"
            ) from None
        except ForbiddenError as error:
            raise ConfigurationError(
                f"RBAC does not allow the service to get leases.coordination.k8s.io in namespace {self._namespace} "
                f"({error.message}); add that to its Role there"
            ) from None
        except KubernetesError as error:
            raise ConfigurationError(connection_problem(client.host, source, error)) from None
        self._uid = lease["metadata"]["uid"]

    def mark(self, thing: Tree) -> Tree:
        """Make it the owner of a thing that is to be created."""
        if self._uid:
            reference = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "name": self._name,
                "uid": self._uid,
            }
            thing["metadata"]["ownerReferences"] = [reference]
        return thing
