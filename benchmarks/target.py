"""The service that a benchmark loads."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apiserver


@dataclass(frozen=True, slots=True)
class Target:
    """The service under load. Pid 0, no cluster: not ours to look at."""

    url: str
    pid: int = 0
    core: Any = None
    namespace: str = ""


@contextlib.contextmanager
def target(arguments: argparse.Namespace) -> Iterator[Target]:
    """The service that the flags name, or one of our own."""
    if arguments.url:
        core = apiserver.core_api() if arguments.backend == "kubernetes" else None
        yield Target(arguments.url, arguments.pid, core, arguments.namespace)
        return
    from support.service import Service

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        flags, space = list(arguments.serve_flag), None
        if arguments.backend == "kubernetes":
            from support.cluster import namespace

            space = stack.enter_context(namespace())
            flags += ["--backend", "kubernetes", "--namespace", space.name, "--image", arguments.image]
            flags += ["--pool", str(arguments.pool)]
        service = stack.enter_context(Service(Path(folder), *flags))
        core, name = (space.core, space.name) if space is not None else (None, "")
        yield Target(service.url, service.process.pid, core, name)
