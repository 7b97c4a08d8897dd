"""The Jobs of one namespace as they come and go, and how many of them nobody needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Self

TRIALS = ("rehearsal-", "probe-")
"""Begin the names of Jobs with which the service only tries the cluster and its network: no call's, not the pool's."""
_DIGEST = "executor-api/template-digest"
_STREAM_SECONDS = 60
_AGAIN_SECONDS = 0.1


class JobWatch:
    """Every Job that was ever seen. Its own thread listens, and goes on by itself after an outage of the API server.

    A context manager. One that comes and goes while nobody listens is missed; none of a pool lives so short.
    """

    def __init__(self, batch: Any, namespace: str) -> None:
        self._batch = batch
        self._namespace = namespace
        self._digests: dict[str, str] = {}
        self._present: set[str] = set()
        self._stopped = False
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True  # its last request may hang on an API server that is gone: nobody waits for it

    def seen(self) -> set[str]:
        """The names of all there ever were."""
        return set(self._digests)

    def present(self) -> set[str]:
        """The names of those that are there."""
        return set(self._present)

    def made_from(self, digest: str) -> set[str]:
        """All there ever were of a template's digest."""
        return {name for name, its in dict(self._digests).items() if its == digest}

    def _follow(self) -> None:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        while not self._stopped:
            try:
                self._listen()
            except (ApiException, HTTPError):
                time.sleep(_AGAIN_SECONDS)

    def _listen(self) -> None:
        """List, then watch until that ends. Raises what the API server, or its absence, does to either."""
        from kubernetes import watch

        listing = self._batch.list_namespaced_job(self._namespace)
        for job in listing.items:
            self._note(job.metadata)
        self._present.intersection_update(job.metadata.name for job in listing.items)
        stream = watch.Watch().stream(
            self._batch.list_namespaced_job,
            self._namespace,
            resource_version=listing.metadata.resource_version,
            timeout_seconds=_STREAM_SECONDS,
        )
        for event in stream:
            self._note(event["object"].metadata)
            if event["type"] == "DELETED":
                self._present.discard(event["object"].metadata.name)

    def _note(self, metadata: Any) -> None:
        if not metadata.name.startswith(TRIALS):
            self._digests.setdefault(metadata.name, (metadata.labels or {}).get(_DIGEST, ""))
            self._present.add(metadata.name)


@dataclass(frozen=True, slots=True)
class Account:
    """Jobs that were created, and those that had to be."""

    created: int
    needed: int

    @property
    def over(self) -> int:
        """How many were created for nothing."""
        return self.created - self.needed


def account(
    before: AbstractSet[str], after: AbstractSet[str], used: AbstractSet[str], spoilt: AbstractSet[str]
) -> Account:
    """Count from one moment at which the pool is whole to another; all sets are names of Jobs.

    ``before``, ``after``: all that were ever seen by then. What a call used up, and what a fault spoilt, needs a Job in
    its place; a Job made for a call is both created and used up.
    """
    return Account(len(after - before), len((used | spoilt) & after))
