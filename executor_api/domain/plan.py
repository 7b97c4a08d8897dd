"""A request fitted into its template: what the call gets, or every field that does not fit. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from executor_api.domain.quantity import parse_bytes, parse_quantity
from executor_api.domain.request import ExecutionRequest, Resources
from executor_api.domain.template import Template
from executor_api.errors import FieldProblem, InvalidRequestError


@dataclass(frozen=True, slots=True)
class SandboxResources:
    """What one sandbox gets: quantities for Kubernetes, as the request or the template has them; `*_bytes` for us."""

    cpu: str
    memory: str
    ephemeral_storage: str
    gpu_count: int
    gpu_resource: str

    @property
    def memory_bytes(self) -> int:
        """The memory limit in bytes."""
        return parse_bytes(self.memory)

    @property
    def storage_bytes(self) -> int:
        """The disk limit in bytes."""
        return parse_bytes(self.ephemeral_storage)


@dataclass(frozen=True, slots=True)
class Plan:
    """A request that its template accepts, with every default filled in."""

    request: ExecutionRequest
    template: Template
    resources: SandboxResources
    timeout_seconds: float

    @property
    def deadline_seconds(self) -> int:
        """Whole seconds in which the runner must have ended by itself, start included: the outer rings begin here."""
        return ceil(self.template.start_seconds + self.timeout_seconds + self.template.grace_seconds)


def plan(request: ExecutionRequest, templates: Mapping[str, Template]) -> Plan:
    """Fit a request into its template. Raises `InvalidRequestError` naming every field that does not fit."""
    template = templates.get(request.template)
    if template is None:
        names = tuple(sorted(templates))
        message = f"{request.template!r} is no template that you can use; there are: {', '.join(names)}"
        raise InvalidRequestError(FieldProblem("template", message, names))
    problems = [
        *_language_problems(request, template),
        *_resource_problems(request, template),
        *_other_problems(request, template),
    ]
    if problems:
        raise InvalidRequestError(*problems)
    return Plan(
        request, template, _resources(request.resources, template), request.timeout_seconds or template.timeout_seconds
    )


def _language_problems(request: ExecutionRequest, template: Template) -> list[FieldProblem]:
    languages = ["python", *sorted(template.languages)]
    if request.language is None or request.language in languages:
        return []
    return [
        FieldProblem(
            "language",
            f"{request.language!r} is not offered by template {template.name!r}; it has: {', '.join(languages)}",
            tuple(languages),
        )
    ]


def _resource_problems(request: ExecutionRequest, template: Template) -> list[FieldProblem]:
    problems = []
    for name in ("cpu", "memory", "ephemeral_storage"):
        asked, most = getattr(request.resources, name), getattr(template.max_resources, name)
        if asked is None:
            continue
        if parse_quantity(asked) > parse_quantity(most):
            problems.append(
                FieldProblem(
                    f"resources.{name}", f"{asked} is more than template {template.name!r} allows: at most {most}"
                )
            )
        elif parse_quantity(asked) == 0:
            problems.append(FieldProblem(f"resources.{name}", f"must be more than 0 and at most {most}"))
    gpu = request.resources.gpu
    if gpu is not None and gpu.count > template.gpu.max_count:
        problems.append(FieldProblem("resources.gpu.count", _gpu_message(template)))
    if gpu is not None and gpu.resource is not None and gpu.resource not in template.gpu.resources:
        problems.append(
            FieldProblem(
                "resources.gpu.resource",
                f"template {template.name!r} has: {', '.join(template.gpu.resources)}",
                template.gpu.resources,
            )
        )
    return problems


def _gpu_message(template: Template) -> str:
    if template.gpu.max_count == 0:
        return f"template {template.name!r} allows no GPU; choose a template with gpu.max_count above 0"
    return f"template {template.name!r} allows at most {template.gpu.max_count}"


def _other_problems(request: ExecutionRequest, template: Template) -> list[FieldProblem]:
    problems = []
    if request.timeout_seconds is not None and request.timeout_seconds > template.max_timeout_seconds:
        problems.append(
            FieldProblem(
                "timeout_seconds", f"template {template.name!r} allows at most {template.max_timeout_seconds:g}"
            )
        )
    if request.isolation not in template.isolation:
        problems.append(
            FieldProblem(
                "isolation", f"template {template.name!r} allows: {', '.join(template.isolation)}", template.isolation
            )
        )
    return problems


def default_resources(template: Template) -> SandboxResources:
    """What a call has that asks for nothing else."""
    return _resources(Resources(), template)


def _resources(asked: Resources, template: Template) -> SandboxResources:
    default = template.resources
    return SandboxResources(
        cpu=_amount(asked.cpu, default.cpu),
        memory=_amount(asked.memory, default.memory),
        ephemeral_storage=_amount(asked.ephemeral_storage, default.ephemeral_storage),
        gpu_count=template.gpu.count if asked.gpu is None else asked.gpu.count,
        gpu_resource=(asked.gpu and asked.gpu.resource) or template.gpu.resources[0],
    )


def _amount(asked: str | None, default: str) -> str:
    """As the template writes it where it is the same: ``1000m`` for ``1`` wants no other sandbox than waits."""
    return default if asked is None or parse_quantity(asked) == parse_quantity(default) else asked
