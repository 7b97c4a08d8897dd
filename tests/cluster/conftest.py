"""A namespace of its own, and backends in it."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from support.cluster import IMAGE, Namespace, namespace

from cluster.calls import until_ready
from executor_api.backends.kubernetes.backend import KubernetesBackend
from executor_api.backends.kubernetes.settings import DispatchMode, KubernetesSettings

Backends = Callable[..., KubernetesBackend]


@pytest.fixture(scope="session")
def own_namespace() -> Iterator[Namespace]:
    with namespace() as found:
        yield found


@pytest.fixture
async def backends(own_namespace: Namespace) -> AsyncIterator[Backends]:
    """Makes backends that share one master key, as replicas and restarted services do."""
    made: list[KubernetesBackend] = []
    key = secrets.token_bytes(32)

    def make(dispatch: DispatchMode = DispatchMode.AUTO, image: str = IMAGE) -> KubernetesBackend:
        settings = KubernetesSettings(master_key=key, namespace=own_namespace.name, image=image, dispatch=dispatch)
        made.append(KubernetesBackend(settings, os.environ))
        return made[-1]

    yield make
    for backend in made:
        await backend.stop()


@pytest.fixture
async def backend(backends: Backends) -> KubernetesBackend:
    found = backends()
    await found.start()
    await until_ready(found)
    return found
