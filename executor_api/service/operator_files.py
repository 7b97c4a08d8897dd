"""The files in which operators say what calls may have, read at start and again when told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from executor_api.domain.finding import Finding, fail, ok
from executor_api.domain.template import Template
from executor_api.domain.tenant import Tenants
from executor_api.errors import ConfigurationError
from executor_api.service.execution_service import ExecutionService
from executor_api.service.template_file import TemplateFile
from executor_api.service.tenant_file import TenantFile

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OperatorFiles:
    """Templates, and limits of tenants, which name templates."""

    templates: TemplateFile
    tenants: TenantFile

    def read(self) -> tuple[dict[str, Template], Tenants]:
        """Both. Raises `ConfigurationError`."""
        templates = self.templates.reload()
        return templates, self.tenants.reload(templates)

    def examine(self, tell: Callable[[Finding], None]) -> dict[str, Template]:
        """Tell whether each is right; the templates to go on with, the built-in ones if those of the file are not."""
        templates = TemplateFile("", self.templates.default_pool).reload()
        try:
            templates = self.templates.reload()
            tell(ok("templates", ", ".join(templates)))
        except ConfigurationError as error:
            tell(fail("templates", str(error)))
        try:
            named = ", ".join(self.tenants.reload(templates).tenants)
            tell(ok("tenants", named or "no limits of their own"))
        except ConfigurationError as error:
            tell(fail("tenants", str(error)))
        return templates

    def reload(self, service: ExecutionService) -> None:
        """Put what they say now in force. A mistake in one is logged, and what it said before stays."""
        try:
            templates = self.templates.reload()
            service.replace_templates(templates)
            _log.info("templates reloaded", templates=sorted(templates))
        except ConfigurationError as error:
            _log.error("templates not reloaded, those in use stay", problem=str(error))
        try:
            tenants = self.tenants.reload(service.templates())
            service.limit(tenants)
            _log.info("tenants reloaded", tenants=sorted(tenants.tenants))
        except ConfigurationError as error:
            _log.error("tenants not reloaded, the limits in use stay", problem=str(error))
