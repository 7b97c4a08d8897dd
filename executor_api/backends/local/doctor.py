"""`executor-api doctor` for this machine: what isolation sandboxes get, what limits them, and whether a call runs."""

from __future__ import annotations

import json
import os
import resource
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from executor_api.backends.base import Claim, ConnectionLostError
from executor_api.backends.local.backend import LocalBackend
from executor_api.domain.finding import Finding, fail, ok, warn
from executor_api.domain.plan import plan
from executor_api.domain.quantity import parse_bytes
from executor_api.domain.request import ExecutionRequest
from executor_api.domain.runner_call import runner_call
from executor_api.domain.template import Template
from executor_api.errors import UnavailableError
from executor_runner.protocol.frames import FrameDecoder, FrameKind, encode_json

LEAST_BYTES = 64 * 1024 * 1024
"""Below that much free space hardly a call can write its files."""
_FULL = "network namespaces"
_MEBI = 1024 * 1024

Tell = Callable[[Finding], None]


@dataclass(frozen=True, slots=True)
class _Switch:
    """A kernel setting that keeps a user without privileges from making namespaces."""

    path: str
    forbids: str
    fix: str


_SWITCHES = (
    _Switch("user/max_user_namespaces", "0", "set user.max_user_namespaces above 0"),
    _Switch("kernel/unprivileged_userns_clone", "0", "set kernel.unprivileged_userns_clone=1"),
    _Switch("kernel/apparmor_restrict_unprivileged_userns", "1", "set kernel.apparmor_restrict_unprivileged_userns=0"),
)


async def examine(
    environ: Mapping[str, str], templates: Mapping[str, Template], tell: Tell, settings: Path = Path("/proc/sys")
) -> None:
    """Tell each finding at once. ``settings`` is where the kernel shows its own."""
    template = templates["default"]
    tell(_space(Path(tempfile.gettempdir()), parse_bytes(template.resources.ephemeral_storage)))
    tell(_limit("open files", resource.RLIMIT_NOFILE, template.open_files, "ulimit -n"))
    tell(_limit("processes", resource.RLIMIT_NPROC, template.max_processes, "ulimit -u"))
    backend = LocalBackend(environ, stock=1)
    try:
        await backend.start()
        health = backend.health()
        if not health.ready:
            tell(fail("sandbox", f"{'; '.join(health.problems)}; free memory and processes on this machine"))
            return
        tell(isolation(", ".join(health.notes), settings, root=os.geteuid() == 0))
        tell(await _call(backend, template))
    finally:
        await backend.stop()


def isolation(got: str, settings: Path, *, root: bool) -> Finding:
    """What the kernel let us put around sandboxes, and how to get more; its switches do not bind root."""
    if _FULL in got:
        return ok("isolation", got)
    switches = () if root else _SWITCHES
    fixes = [item.fix for item in switches if _read(settings / item.path) == item.forbids]
    fix = " and ".join(fixes) or "let this process make namespaces (root, or a container with user namespaces)"
    return warn("isolation", f"{got}, and no network of their own; {fix}, or use the Kubernetes backend")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""  # this kernel has no such setting


def _space(folder: Path, wanted: int) -> Finding:
    free = shutil.disk_usage(folder).free
    text = f"{free // _MEBI}Mi free in {folder}"
    if free >= wanted:
        return ok("disk", text)
    verdict = warn if free >= LEAST_BYTES else fail
    return verdict(
        "disk", f"{text}, and one call may write {wanted // _MEBI}Mi; make room, or set TMPDIR to another disk"
    )


def _limit(check: str, kind: int, wanted: int, command: str) -> Finding:
    """A limit of this process that its children inherit."""
    soft = resource.getrlimit(kind)[0]
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return ok(check, f"{'no limit' if soft == resource.RLIM_INFINITY else soft}; a call may have {wanted}")
    return warn(check, f"{soft} for this whole service, and one call may have {wanted}; raise it ({command})")


async def _call(backend: LocalBackend, template: Template) -> Finding:
    request = ExecutionRequest(command="true", template=template.name, isolation=template.isolation[0])
    claim = Claim("doctor", "", plan(request, {template.name: template}))
    try:
        sandbox = await backend.create("doctor", claim)
        try:
            report = await _report(sandbox.dispatch(encode_json(runner_call(claim.plan, "doctor", ""))))
        finally:
            await sandbox.release()
    except (UnavailableError, ConnectionLostError) as error:
        return fail("call", f"`true` did not run: {error}; see above")
    return fail("call", "its sandbox ended before `true` did; see above") if report is None else _judge(report)


async def _report(journal: AsyncIterator[bytes]) -> Mapping[str, object] | None:
    decoder = FrameDecoder()
    async for data in journal:
        for frame in decoder.feed(data):
            if frame.kind is FrameKind.REPORT:
                found: Mapping[str, object] = json.loads(frame.payload)
                return found
    return None


def _judge(report: Mapping[str, object]) -> Finding:
    if report["exit_code"] == 0:
        return ok("call", "`true` ran in a sandbox")
    return fail("call", f"`true` failed: {report['message'] or report['exit_code']}; see that /bin/sh works here")
