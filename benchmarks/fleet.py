"""Replicas of the service on the cluster of KUBECONFIG, in a namespace and on a PostgreSQL server of their own."""

from __future__ import annotations

import argparse
import contextlib
import re
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs import JobWatch
from support.cluster import Namespace, namespace
from support.postgres import postgres_server
from support.service import Service

_JOB_TEMPLATE = Path(__file__).parents[1] / "manifests" / "sandbox-job.yaml.j2"
_TEMPLATES = """templates:
  - name: default
    job_template: job.yaml.j2
    resources: {cpu: "1", memory: MEMORY, ephemeral_storage: 64Mi}
"""


class Fleet:
    """``services`` by place: a fresh replica takes the place of a killed one."""

    def __init__(
        self, stack: contextlib.ExitStack, space: Namespace, flags: list[str], environ: dict[str, str]
    ) -> None:
        from kubernetes import client

        self._stack = stack
        self._space = space
        self._flags = flags
        self._environ = environ
        self._leases: Any = client.CoordinationV1Api()
        self._started: list[Service] = []
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.services: list[Service] = []
        self.jobs = stack.enter_context(JobWatch(space.batch, space.name))

    def start(self) -> Service:
        """Start one more replica, and wait until it is ready."""
        folder = self._folder / f"replica-{len(self._started)}"
        service = self._stack.enter_context(Service(folder, *self._flags, environ=self._environ))
        self._started.append(service)
        return service

    def keep_logs(self, folder: Path) -> None:
        """Write what each replica has logged so far, the killed ones included, to files in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, service in enumerate(self._started):
            (folder / f"replica-{number}.log").write_text("".join(service.log))

    def holder(self) -> str:
        """The name in the Lease; empty if nobody leads."""
        leases = self._leases.list_namespaced_lease(self._space.name).items
        return next((lease.spec.holder_identity or "" for lease in leases), "")

    def place_of(self, holder: str) -> int | None:
        """Which replica has this name: one that leads says it in its log."""
        said = ('"event":"leading"', f'"holder":"{holder}"')
        for place, service in enumerate(self.services):
            if any(all(part in line.replace(" ", "") for part in said) for line in service.log):
                return place
        return None

    def standing(self) -> dict[str, int]:
        """Jobs and pods by what they are for, as the API server lists them; what is being deleted is left out."""
        jobs = [item.metadata for item in self._space.jobs() if item.metadata.deletion_timestamp is None]
        pods = [item for item in self._space.pods() if item.metadata.deletion_timestamp is None]
        waiting = {job.name for job in jobs if job.labels["executor-api/state"] == "waiting"}
        ready = [
            pod
            for pod in pods
            if pod.status.phase == "Running" and pod.metadata.labels["batch.kubernetes.io/job-name"] in waiting
        ]
        return _counted(len(waiting), len(ready), len(jobs) - len(waiting), len(pods) - len(ready))

    def full(self, size: int) -> dict[str, int]:
        """What `standing` says of a pool at its size, and nothing else."""
        return _counted(size, size, 0, 0)


def _counted(*counts: int) -> dict[str, int]:
    return dict(zip(("Jobs that wait", "their pods that run", "other Jobs", "other pods"), counts, strict=True))


@contextlib.contextmanager
def fleet(arguments: argparse.Namespace) -> Iterator[Fleet]:
    """Start as many replicas as the flags say; all they share goes away after them."""
    with contextlib.ExitStack() as stack:
        space = stack.enter_context(namespace())
        database = stack.enter_context(postgres_server()).database()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        flags = ["--backend", "kubernetes", "--namespace", space.name, "--image", arguments.image]
        flags += ["--templates", str(_templates(folder, arguments)), "--pool", str(arguments.pool)]
        flags += ["--log-format", "json"]
        environ = {"EXECUTOR_STORE_URL": database, "EXECUTOR_MASTER_KEY": secrets.token_hex(32)}
        started = Fleet(stack, space, flags, environ)
        for _ in range(arguments.start):
            started.services.append(started.start())
        yield started


def _templates(folder: Path, arguments: argparse.Namespace) -> Path:
    """A template file whose sandboxes reserve so little that all fit on a small node; their limits stay."""
    text, count = re.subn(
        r"^( +cpu: ).*$", rf"\g<1>{arguments.cpu_request}", _JOB_TEMPLATE.read_text(), flags=re.MULTILINE
    )
    if count != 1:
        raise SystemExit(f"{_JOB_TEMPLATE} does not say once what a sandbox reserves of the CPU")
    (folder / "job.yaml.j2").write_text(text)
    path = folder / "templates.yaml"
    path.write_text(_TEMPLATES.replace("MEMORY", arguments.memory))
    return path
