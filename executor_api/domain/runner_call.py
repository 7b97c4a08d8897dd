"""The call as the runner gets it: a plan in the protocol's words. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

from executor_api.domain.plan import Plan
from executor_api.domain.request import Isolation
from executor_api.domain.trace_context import TRACEPARENT
from executor_runner.protocol.shapes import Call, Limits, PythonCode, Reuse, ScriptCode

DEFAULT_ENV = {"LANG": "C.UTF-8"}
"""What every child gets unless template or request say otherwise. PATH, HOME and TMPDIR are the runner's to set."""

_BYTE_ORDER_MARK = "\ufeff"
"""Python skips it at the start of a file, but not of a text."""


def runner_call(
    plan: Plan, execution_id: str, tenant: str, follows: str = "", trace: Mapping[str, str] | None = None
) -> Call:
    """Put the plan into the protocol's shape.

    ``follows``: the call that its sandbox had before, if it is for reuse. ``trace``: variables that let what the child
    traces join a trace.
    """
    request, template = plan.request, plan.template
    own = {**template.env, **request.env}
    traced = {} if TRACEPARENT in own else trace or {}  # theirs is of another trace, and so is its state
    return Call(
        execution_id=execution_id,
        argv=_argv(request.command),
        python=_python(plan),
        script=_script(plan),
        stdin=_base64(request.stdin.encode()),
        env={**DEFAULT_ENV, **traced, **own},
        files={path: _base64(content) for path, content in request.files.items()},
        artifacts=list(request.artifacts),
        timeout_seconds=plan.timeout_seconds,
        grace_seconds=template.grace_seconds,
        limits=_limits(plan),
        reuse=_reuse(plan, tenant, follows),
    )


def _argv(command: str | list[str] | None) -> list[str] | None:
    return ["/bin/sh", "-c", command] if isinstance(command, str) else command


def _python(plan: Plan) -> PythonCode | None:
    request = plan.request
    if request.code is None or (request.language or "python") != "python":
        return None
    code = request.code.removeprefix(_BYTE_ORDER_MARK)
    return PythonCode(code=code, function=request.function, args=request.args, kwargs=request.kwargs)


def _script(plan: Plan) -> ScriptCode | None:
    request = plan.request
    if request.code is None or request.language is None or request.language == "python":
        return None
    language = plan.template.languages[request.language]
    return ScriptCode(code=request.code, suffix=language.suffix, argv=list(language.argv))


def _limits(plan: Plan) -> Limits:
    template = plan.template
    return Limits(
        memory_bytes=plan.resources.memory_bytes,
        storage_bytes=plan.resources.storage_bytes,
        processes=template.max_processes,
        open_files=template.open_files,
        output_bytes=template.output.keep_bytes,
        output_kill_bytes=template.output.kill_bytes,
        artifact_bytes=template.artifact_bytes,
        value_bytes=template.value_bytes,
    )


def _reuse(plan: Plan, tenant: str, follows: str) -> Reuse | None:
    if plan.request.isolation is not Isolation.REUSE:
        return None
    owner = hashlib.sha256(tenant.encode()).hexdigest()
    return Reuse(tenant=owner, follows=follows, idle_seconds=plan.template.reuse.max_idle_seconds)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
